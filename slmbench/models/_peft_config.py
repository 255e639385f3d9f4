"""An adapter's settings before peft acts on them: of peft's own types, of a size that its weights have, and in time."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import typing
from typing import TYPE_CHECKING

from slmbench.console import say
from slmbench.errors import UsageError, did_you_mean
from slmbench.foreign import faults, short
from slmbench.models._adapter_files import AGAIN, CONFIG
from slmbench.models._adapters import AdapterInfo
from slmbench.paths import shown
from slmbench.values import JsonObject, Model

if TYPE_CHECKING:
    from peft import PeftConfig

Fault = tuple[str, object, str]  # As `faults` takes them: the field, what was got, what has to be there.

PATTERN_SECONDS = 3.0
_SMALL = 4096
# Settings that say how much is made, whatever the kind; each is a side of some tensor of the file.
_SIZES = (
    "r init_r target_r num_virtual_tokens token_dim num_layers num_attention_heads encoder_hidden_size "
    "encoder_num_layers adapter_len adapter_layers num_transformer_submodules n_frequency oft_block_size "
    "boft_block_size boft_block_num num_vectors vector_length topk num_basis num_tasks n_skills n_splits"
).split()
_RANKED = ("LORA", "LOHA")
# Run apart: a match that explodes can't be stopped from within.
_MATCHING = """
import json, re, sys
asked, names = json.load(sys.stdin)
for field, patterns in asked.items():
    for pattern in patterns:
        forms = {
            "target_modules": [pattern],
            "exclude_modules": [pattern],
            "modules_to_save": [rf"(^|.*\\.){pattern}($|\\..*)"],
            "layers_pattern": [rf"(?:^|.*?\\.){pattern}\\.(?P<idx>\\d+)\\."],
        }.get(field, [rf"(.*\\.)?({pattern})$"])
        print(json.dumps([field, pattern]), flush=True)
        try:
            for form in forms:
                made = re.compile(form)
                for name in names:
                    made.fullmatch(name), made.match(name)
        except (re.error, RecursionError, OverflowError) as error:
            print(json.dumps(["", str(error)]), flush=True)
            sys.exit(3)
"""


def check_config(info: AdapterInfo, model: Model) -> None:
    """Holds an adapter's settings against peft's own types and the file's tensors; says which of them peft ignores.

    Raises UsageError for a kind that peft doesn't know or that asks for more than tokens, FileError with every field
    that is of another type or size than it can be, or whose pattern takes too long.
    """
    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    where = f"adapter {shown(info.folder)}"
    if info.kind not in list(PeftType):
        raise UsageError(
            f"{where}: its adapter_config.json names peft_type {info.kind!r}, which the installed peft "
            f"doesn't know{did_you_mean(info.kind, [kind.value for kind in PeftType])}"
        )
    if info.kind in ("XLORA", "POLY", "MULTITASK_PROMPT_TUNING", "ARROW"):
        raise UsageError(
            f"{where}: {info.kind} asks for more than tokens (other adapters, or the number of a task), which an "
            "evaluation doesn't give; merge what it is for one task where it was made, and give that"
        )
    if info.config.layer_replication:
        raise UsageError(
            f"{where}: its layer_replication makes the base another model, of more layers; write that model to a "
            "folder where it was made, and put the adapter on it"
        )
    given = info.config.model_dump(exclude_unset=True)
    found = _of_other_types(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(info.kind)], given, where)
    found += _too_large(info, given)
    if found:
        raise faults(f"{info.folder}/{CONFIG}", found, todo=AGAIN)
    check_patterns(info, [name for name, _ in model.named_modules()])


def check_patterns(info: AdapterInfo, names: list[str]) -> None:
    """Tries the regular expressions of an adapter's settings on names of modules.

    Raises FileError for one that is none, or that takes too long: afterwards they can be matched in this process.
    """
    if patterns := info.config.patterns:
        _try_patterns(info, patterns, names)


def _of_other_types(kind: type[PeftConfig], given: JsonObject, where: str) -> list[Fault]:
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    hints = typing.get_type_hints(kind)
    found: list[Fault] = []
    known = {field.name: field for field in dataclasses.fields(kind)}
    ignored = {key: value for key, value in given.items() if key not in known and value not in (None, False, {}, [])}
    if ignored:
        told = ", ".join(f"{key} = {short(value)}" for key, value in sorted(ignored.items())[:5])
        say(f"note: {where}: the installed peft doesn't know these settings and leaves them out: {told}")
    for name, value in given.items():
        if name not in known or name in ("peft_type", "task_type", "runtime_config"):
            continue
        hint = hints.get(name)
        if hint is int and isinstance(value, float):
            hint = float  # As peft's own examples have alpha.
        if value is None or hint is None or value == known[name].default:
            # Settings of older versions are null where newer ones have another default.
            continue
        try:
            TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            found.append((name, value, f"as peft has it ({first['msg'][:1].lower() + first['msg'][1:]})"))
        except (PydanticUserError, NameError, TypeError):  # A type of its own, which peft makes something of or not.
            continue
    return found


def _too_large(info: AdapterInfo, given: JsonObject) -> list[Fault]:
    """Sizes that none of the file's tensors has: memory would be taken for them before anything is compared."""
    shapes = [shape for shape in info.shapes.values() if shape]
    side = max((max(shape) for shape in shapes), default=0)
    rank = max((min(shape) for shape in shapes), default=0) if info.kind in _RANKED else max(side, _SMALL)
    found: list[Fault] = []
    for name in _SIZES:
        value, most = given.get(name), rank if name in ("r", "init_r", "target_r") else max(side, _SMALL)
        if isinstance(value, int) and value > most and not (name == "r" and info.config.rank_pattern):
            found.append((name, value, f"{most} or less, which is what the weights beside it have"))
    ranks = {"r": info.config.r if info.config.rank_pattern else None, **(info.config.rank_pattern or {})}
    for name, value in ranks.items():
        if isinstance(value, int) and value > max(rank, _SMALL):
            found.append((f"rank_pattern.{name}" if name != "r" else "r", value, f"{max(rank, _SMALL)} or less"))
    return found


def _try_patterns(info: AdapterInfo, patterns: dict[str, list[str]], names: list[str]) -> None:
    """Matches them in a process of its own. Raises FileError for one that takes too long or is none."""
    plain = all(word.replace("_", "").replace(".", "").isalnum() for words in patterns.values() for word in words)
    if plain:
        return
    asked, why = json.dumps([patterns, names]), ""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCHING],
            input=asked,
            capture_output=True,
            text=True,
            timeout=PATTERN_SECONDS,
            check=False,
        )
        lines = done.stdout.splitlines()
        if done.returncode == 0:
            return
        if done.returncode == 3:
            why = f"a regular expression ({json.loads(lines.pop())[1]})"
    except subprocess.TimeoutExpired as error:
        lines = (error.stdout or b"").decode().splitlines()
    field, pattern = json.loads(lines[-1]) if lines else (next(iter(patterns)), "")
    wanted = why or f"a pattern that is matched with this model's modules within {PATTERN_SECONDS:g} s"
    raise faults(f"{info.folder}/{CONFIG}", [(field, pattern, wanted)], todo=AGAIN)
