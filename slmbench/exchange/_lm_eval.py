"""What lm-eval leaves of an evaluation: `results_<date>.json`, and `samples_<task>_<date>.jsonl` of each task.

Layout of lm-eval 0.4.13 (loggers/evaluation_tracker.py): numbers of answers are texts there, a line an item and filter.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any

from attrs import field, frozen
from pydantic import Field

from slmbench.errors import FileError, Problem
from slmbench.foreign import (
    AnyText,
    Count,
    Foreign,
    Limits,
    Number,
    decode_json,
    faults,
    parse,
    plain_lines,
    read_bytes,
)
from slmbench.paths import shown
from slmbench.values import JsonObject

# A chat's template and all tasks' declarations are in the first, shots and choices in a line of the second.
_RESULTS, _SAMPLE = Limits(bytes=64_000_000), Limits(bytes=64_000_000, surrogates=True)
_FAULTS_SHOWN = 10
_NAME = re.compile(r"results_(.+)\.json")
_KINDS = {"multiple_choice": "choice", "generate_until": "generate"}
NO_FILTER = "none"
Whole = Annotated[int, Field(gt=-(2**63), lt=2**63)]


class _Counts(Foreign):
    original: Count
    effective: Count


class _Model(Foreign):
    """How the model was called. model_args: a text `key=value,...` in files of earlier versions."""

    model: AnyText | None = None
    model_args: dict[AnyText, Any] | AnyText | None = None
    model_num_parameters: Whole | None = None
    model_dtype: AnyText | None = None
    model_sha: AnyText | None = None
    batch_size: Whole | AnyText | None = None
    limit: float | None = None
    random_seed: Whole | None = None

    @property
    def arguments(self) -> JsonObject:
        """model_args by name."""
        if isinstance(self.model_args, dict):
            return dict(self.model_args)
        pairs = (part.partition("=") for part in (self.model_args or "").split(","))
        return {key.strip(): value for key, found, value in pairs if found}


class _Ours(Foreign):
    """What our own export says of a task beside lm-eval's layout, which has no place for it."""

    model: Annotated[AnyText, Field(min_length=1)] | None = None
    quantization: AnyText | None = None
    format: AnyText | None = None
    limit: Count | None = None


class LmEvalResults(Foreign):
    """The keys of a results file that a run is made of."""

    results: dict[AnyText, dict[AnyText, Any]]
    configs: dict[AnyText, dict[AnyText, Any]]
    versions: dict[AnyText, Whole | Number | AnyText | None] = Field(default_factory=dict)
    n_shot: dict[AnyText, Whole | None] = Field(default_factory=dict, alias="n-shot")
    n_samples: dict[AnyText, _Counts] = Field(default_factory=dict, alias="n-samples")
    higher_is_better: dict[AnyText, dict[AnyText, bool | None]] = Field(default_factory=dict)
    config: _Model
    date: Number | None = None
    lm_eval_version: AnyText | None = None
    transformers_version: AnyText | None = None
    model_name: AnyText | None = None
    system_instruction_sha: AnyText | None = None
    fewshot_as_multiturn: bool | None = None
    chat_template: AnyText | dict[AnyText, Any] | None = None
    chat_template_sha: AnyText | None = None
    task_hashes: dict[AnyText, AnyText] = Field(default_factory=dict)
    group_subtasks: dict[AnyText, list[AnyText]] = Field(default_factory=dict)
    slmbench: dict[AnyText, _Ours] = Field(default_factory=dict)


class _Line(Foreign):
    """Earlier versions have arguments in lists, the target as it is, and neither filter nor metrics."""

    doc_id: Count
    target: AnyText | int | float | list[Any] | None
    arguments: dict[AnyText, dict[AnyText, Any]] | list[list[Any]]
    resps: list[list[Any]] = Field(min_length=1)
    filter: AnyText = NO_FILTER
    metrics: list[AnyText] | None = None
    doc_hash: AnyText | None = None
    target_hash: AnyText | None = None

    @property
    def requests(self) -> list[list[Any]]:
        """(context, what follows it) of each request."""
        if isinstance(self.arguments, list):
            return [[*one, None, None][:2] for one in self.arguments]
        return [[one.get("arg_0"), one.get("arg_1")] for one in self.arguments.values()]


@frozen
class LmEvalItem:
    """One item. contexts, continuations: one a request. resps: of each request, one a repeat.

    scores: (metric, filter) -> score, of those that are numbers. settings: of a generation, as lm-eval was told.
    """

    doc_id: int
    target: str
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    settings: JsonObject
    resps: tuple[tuple[Any, ...], ...]
    identity: tuple[str, str]
    scores: dict[tuple[str, str], float]


@frozen
class LmEvalTask:
    """One task of an evaluation. path, samples_path: its files. sha256, samples_sha256: of these."""

    name: str
    path: Path
    samples_path: Path
    sha256: str
    samples_sha256: str
    results: LmEvalResults = field(repr=False)
    items: tuple[LmEvalItem, ...] = field(repr=False)

    @property
    def config(self) -> JsonObject:
        """The task as lm-eval had it."""
        return self.results.configs[self.name]

    @property
    def ours(self) -> _Ours:
        """What our export said of it; nothing of a file that lm-eval wrote."""
        return self.results.slmbench.get(self.name, _Ours())

    @property
    def kind(self) -> str | None:
        """generate or choice; None for what slmbench has no kind for, as perplexity of whole texts."""
        return _KINDS.get(str(self.config.get("output_type")))

    def value(self, metric: str, filter: str) -> float | None:
        """What the results say of a metric; None if it is no number."""
        found = self.results.results[self.name].get(f"{metric},{filter}")
        return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def read_lm_eval(folder: Path) -> tuple[list[LmEvalTask], list[str], list[Problem]]:
    """(every task of every results file under a folder, notices of what can't be imported, faults of files).

    A task without samples is left out with a notice: nobody could recompute its numbers.
    """
    tasks: list[LmEvalTask] = []
    notices: list[str] = []
    problems: list[Problem] = []
    for path in sorted(folder.rglob("results_*.json")) if folder.is_dir() else [folder]:
        try:
            data = read_bytes(path, _RESULTS.bytes)
            results = parse(LmEvalResults, decode_json(data, path, _RESULTS), path)
        except FileNotFoundError:
            problems.append(Problem(shown(path), 0, 0, "can't be read: no such file"))
            continue
        except FileError as error:
            problems += error.problems
            continue
        found = _NAME.fullmatch(path.name)
        date = found[1] if found else ""
        for name in results.results:
            if name not in results.configs:
                continue  # A group's mean over its tasks, which are there themselves.
            samples = _samples_of(path, name, date)
            if samples is None:
                notices.append(f"{shown(path)}: task {name!r} has no samples (lm-eval writes them with --log_samples)")
                continue
            try:
                items, digest = _items(samples, {key.partition(",")[0] for key in results.results[name] if "," in key})
            except FileError as error:
                problems += error.problems
                continue
            tasks.append(LmEvalTask(name, path, samples, hashlib.sha256(data).hexdigest(), digest, results, items))
    return tasks, notices, problems


def _samples_of(path: Path, task: str, date: str) -> Path | None:
    for name in (task, re.sub(r"\W", "_", task)):
        there = path.with_name(f"samples_{name}_{date}.jsonl")
        if "/" not in name and there.is_file():
            return there
    return None


def _items(path: Path, metrics: Collection[str]) -> tuple[tuple[LmEvalItem, ...], str]:
    """(the items of a samples file, by doc_id; its sha256). metrics: of lines that don't name theirs.

    Raises FileError with every fault of its lines.
    """
    digest = hashlib.sha256()
    items: dict[int, LmEvalItem] = {}
    seen: set[tuple[int, str]] = set()
    filters: dict[str, int] = {}
    problems: list[Problem] = []
    try:
        for number, line in enumerate(plain_lines(path, _SAMPLE.bytes), 1):
            digest.update(line)
            try:
                raw = decode_json(line.rstrip(b"\r\n"), path, _SAMPLE, line=number)
                one = parse(_Line, raw, path, line=number)
                assert isinstance(raw, dict)
                item = _item(one, raw, path, number, metrics)
            except FileError as error:
                problems += error.problems
                continue
            if (one.doc_id, one.filter) in seen:
                said = f"doc_id {one.doc_id} appears more than once under filter {one.filter!r}; an item counts once"
                problems.append(Problem(shown(path), number, 1, said))
                continue
            seen.add((one.doc_id, one.filter))
            filters[one.filter] = filters.get(one.filter, 0) + 1
            items.setdefault(one.doc_id, item).scores.update(item.scores)
    except OSError as error:
        problems.append(Problem(shown(path), 0, 0, f"can't be read: {error.strerror or error}"))
    if not items and not problems:
        problems.append(Problem(shown(path), 0, 0, "holds no item"))
    problems += [
        Problem(shown(path), 0, 0, f"filter {name!r} has {n} of {len(items)} items: the file was cut off")
        for name, n in filters.items()
        if n < len(items)
    ]
    if problems:
        more = len(problems) - _FAULTS_SHOWN
        told = [Problem(shown(path), 0, 0, f"and {more} more faults")] if more > 0 else []
        raise FileError(problems[:_FAULTS_SHOWN] + told)
    return tuple(items[number] for number in sorted(items)), digest.hexdigest()


def _item(one: _Line, raw: JsonObject, path: Path, number: int, metrics: Collection[str]) -> LmEvalItem:
    requests = one.requests
    if not requests or not all(isinstance(context, str) for context, _ in requests):
        raise FileError([Problem(shown(path), number, 1, "field arguments has a request whose context is not a text")])
    contexts = tuple(str(context) for context, _ in requests)
    texts = tuple(rest for _, rest in requests if isinstance(rest, str))
    settings = next((dict(rest) for _, rest in requests if isinstance(rest, dict)), {})
    scores = {
        (name, one.filter): float(raw[name])
        for name in (metrics if one.metrics is None else one.metrics)
        if isinstance(raw.get(name), (int, float)) and abs(raw[name]) < 1e300
    }
    resps = tuple(tuple(repeats) for repeats in one.resps)
    identity = (one.doc_hash or "", one.target_hash or "")
    return LmEvalItem(one.doc_id, str(one.target), contexts, texts, settings, resps, identity, scores)


def loglikelihoods(task: LmEvalTask, item: LmEvalItem) -> list[float]:
    """The log-likelihoods of an item's choices, in nats. Raises FileError for what is none."""
    found: list[float] = []
    # With acc_mutual_info lm-eval asks for each choice once more, without the question; of a tuple it writes two texts.
    for repeats in item.resps[: len(item.continuations)]:
        first = repeats[0] if repeats else None
        value = first[0] if isinstance(first, list) and first else first
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not -1e300 < number < 1e300:
            raise faults(task.samples_path, [(f"resps (doc_id {item.doc_id})", value, "a finite log-likelihood")])
        found.append(number)
    return found


def texts_of(task: LmEvalTask, item: LmEvalItem) -> Iterator[str]:
    """What was written for an item, one text a repeat. Raises FileError for what is no text."""
    if not item.resps[0] or len(item.resps[0]) != len(task.items[0].resps[0]):
        said = f"as many answers as the first item has, {len(task.items[0].resps[0]) or 'one or more'}"
        raise faults(task.samples_path, [(f"resps (doc_id {item.doc_id})", list(item.resps[0]), said)])
    for text in item.resps[0]:
        if not isinstance(text, str):
            raise faults(task.samples_path, [(f"resps (doc_id {item.doc_id})", text, "a text")])
        yield text
