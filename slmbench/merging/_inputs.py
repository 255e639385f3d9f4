"""What goes into a merge, opened and held against each other: all that is wrong is told before anything is computed."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.errors import DataError, FileError, SlmbenchError
from slmbench.foreign import Limits, read_json
from slmbench.merging._checkpoints import (
    Mapped,
    StoredModel,
    open_checkpoint,
    problem_lines,
    same_numbers,
    together_problems,
    weights_digest,
)
from slmbench.merging._plan import MergePlan
from slmbench.merging._tensors import load_method
from slmbench.merging.lora import LoraUpdate, check_fit, check_together, read_lora
from slmbench.models import check_source, model_folder, resolve_model
from slmbench.paths import shown
from slmbench.values import JsonObject

ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER_FILES = (
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json merges.txt vocab.txt "
    "spiece.model tokenizer.model chat_template.jinja chat_template.json"
).split()
_VOCABULARY = "tokenizer.json"
_LIMITS = Limits(bytes=100_000_000, surrogates=True)


@frozen(eq=False)
class MergeSources:
    """What is merged. every: in the plan's order. tokenizer: the folder whose tokenizer goes with the result.

    notices: what a person should know.
    """

    base: StoredModel | None
    every: Sequence[StoredModel | LoraUpdate]
    tokenizer: str
    notices: Sequence[str] = ()

    @property
    def models(self) -> list[StoredModel]:
        return [one for one in self.every if isinstance(one, StoredModel)]

    @property
    def adapters(self) -> list[LoraUpdate]:
        return [one for one in self.every if isinstance(one, LoraUpdate)]

    @property
    def layout(self) -> StoredModel:
        """Whose names, shapes and config a whole model gets: those of the base, or of the first input."""
        return self.base or self.models[0]

    @property
    def files(self) -> list[str]:
        """Paths of all files of weights of whole models."""
        stored = [*self.models, *([self.base] if self.base else [])]
        return list(dict.fromkeys(path for one in stored for path in one.files))


def open_sources(plan: MergePlan, catalog: Catalog, mapped: Mapped) -> MergeSources:
    """The base and the inputs of a plan. Raises DataError with every fault of all of them."""
    problems: list[str] = []
    notices: list[str] = []
    base, every = None, []
    if plan.base is not None:
        try:
            base = open_checkpoint("the base", model_folder(plan.base), mapped)
        except SlmbenchError as error:
            problems += problem_lines(error)
    for one in plan.inputs:
        try:
            every.append(_opened(one.name, one.path, catalog, mapped))
        except SlmbenchError as error:
            problems += [
                said if said.startswith(f"{one.name} (") else f"{one.name}: {said}" for said in problem_lines(error)
            ]
    models = [one for one in every if isinstance(one, StoredModel)]
    updates = [one for one in every if isinstance(one, LoraUpdate)]
    if updates and plan.base is None and plan.result == "model":
        problems.append(f"{updates[0].name} is an adapter: name the base that it is put on (model), or ask for a LoRA")
    if models and plan.result == "lora":
        problems.append(f"{models[0].name} is a whole model, and a LoRA is made of adapters: ask for result model")
    elif models and load_method(plan.method, catalog).facts.get("space") == "adapters":
        problems.append(f"{models[0].name} is a whole model, and {plan.method} merges adapters alone")
    if base is not None:
        digest = functools.cache(lambda dtype: weights_digest(base, dtype, mapped))
        for update in updates:
            try:
                if remark := check_source(update.info, plan.base, digest):  # type: ignore[arg-type]
                    notices.append(remark)
                fitting = check_fit(update, _shapes(base))
                every[every.index(update)] = fitting
                problems += _tied_faults(fitting, base, mapped) if plan.result == "model" else []
            except SlmbenchError as error:
                problems += problem_lines(error)
    try:
        check_together(updates)
    except SlmbenchError as error:
        problems += problem_lines(error)
    if stored := [*([base] if base else []), *models]:
        problems += together_problems(stored)
    own = [one for one in every if os.path.isfile(os.path.join(one.folder, _VOCABULARY))]
    reference = base or (models[0] if models else every[0] if every else None)
    tokenizer = ""
    if reference is not None and not problems:
        tokenizer, told, odd = _tokenizer(reference, own)
        notices += told
        problems += odd
    if problems:
        raise DataError("\n".join(f"merge {plan.name}: {said}" for said in dict.fromkeys(problems)))
    return MergeSources(base, every, tokenizer, notices)


def _opened(name: str, path: str, catalog: Catalog, mapped: Mapped) -> StoredModel | LoraUpdate:
    if os.path.isfile(os.path.join(path, ADAPTER_CONFIG)):
        return read_lora(path, name)
    source = resolve_model(path, catalog)
    return open_checkpoint(name, model_folder(source), mapped)


def _shapes(base: StoredModel) -> dict[str, tuple[int, ...]]:
    shapes = {key: place.shape for key, place in base.places.items()}
    return shapes | {key: shapes[first] for key, first in base.tied.items() if first in shapes}


def _tied_faults(update: LoraUpdate, base: StoredModel, mapped: Mapped) -> Iterator[str]:
    """Changes of one of two names of one tensor, which would change the other as well."""
    together = {*base.tied, *base.tied.values()}
    for key in sorted(together & {*update.modules, *update.whole}):
        place = base.places[base.tied.get(key, key)]
        if key in update.whole and same_numbers(update.whole[key], mapped.tensor(place)):
            continue  # As peft saves embeddings with an adapter that it resized nothing for.
        yield (
            f"{update.name} ({shown(update.folder)}) changes {key}, which in the base is one with "
            f"{base.tied.get(key) or next(other for other, first in base.tied.items() if first == key)}: merged, it "
            "would change both; make a LoRA of it (result lora), or untie the base where it was made"
        )


def _tokenizer(
    reference: StoredModel | LoraUpdate, own: Sequence[StoredModel | LoraUpdate]
) -> tuple[str, list[str], list[str]]:
    """(the folder whose tokenizer is taken, notices, problems).

    The base's or first input's, unless all inputs agree on another one that goes with these embeddings: more tokens in
    rows that were free, or a chat template.
    """
    problems = [
        f"{one.name} and {reference.name} have different vocabularies: {said}"
        for one in own
        if one is not reference and (said := _other_vocabulary(one.folder, reference.folder))
    ]
    theirs = {_laid_out(one.folder) for one in own}
    if problems or not own or theirs == {_laid_out(reference.folder)}:
        return reference.folder, [], problems
    if len(theirs) > 1:
        names = ", ".join(one.name for one in own)
        return reference.folder, [f"{names} have different tokenizers; that of {reference.name} is taken"], []
    return own[0].folder, [f"the tokenizer is that of {own[0].name}, on which all inputs agree"], []


def _laid_out(folder: str) -> tuple[int, str]:
    return len(_vocabulary(os.path.join(folder, _VOCABULARY))), _template(folder)


def _template(folder: str) -> str:
    path = Path(folder, "chat_template.jinja")
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    try:
        said = read_json(os.path.join(folder, "tokenizer_config.json"), _LIMITS)
    except (OSError, FileError):
        return ""
    return str(said.get("chat_template") or "") if isinstance(said, dict) else ""


def _other_vocabulary(folder: str, reference: str) -> str:
    """How two folders' vocabularies contradict each other; '' if they don't, or if one has none to look at."""
    paths = [os.path.join(one, _VOCABULARY) for one in (folder, reference)]
    if not all(map(os.path.isfile, paths)) or _same_bytes(*paths):
        return ""
    ours, theirs = map(_vocabulary, paths)
    ids = {number: token for token, number in theirs.items()}
    for token, number in ours.items():
        if theirs.get(token, number) != number:
            return f"{token!r} is token {number} and {theirs[token]}"
        if ids.get(number, token) != token:
            return f"token {number} is {token!r} and {ids[number]!r}"
    return ""


def _same_bytes(one: str, other: str) -> bool:
    return os.path.getsize(one) == os.path.getsize(other) and Path(one).read_bytes() == Path(other).read_bytes()


def _vocabulary(path: str) -> dict[str, int]:
    """token -> id, of a tokenizer.json; {} if it can't be read."""
    if not os.path.isfile(path):
        return {}
    said = read_json(path, _LIMITS)
    parts: JsonObject = said if isinstance(said, dict) else {}
    listed = _part(parts.get("model"), "vocab")
    found: dict[str, int] = {}
    if isinstance(listed, Mapping):
        found = dict(listed)
    elif isinstance(listed, list):  # Unigram: [token, score] in the ids' order.
        found = {str(pair[0]): number for number, pair in enumerate(listed) if isinstance(pair, list) and pair}
    added = parts.get("added_tokens")
    for one in added if isinstance(added, list) else ():
        token, number = _part(one, "content"), _part(one, "id")
        if isinstance(token, str) and isinstance(number, int):
            found[token] = number
    return found


def _part(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, Mapping) else None
