"""From a function that is registered as a metric to its scorer: inputs by name, results checked."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, SupportsFloat

from slmbench.errors import HookError, UsageError, did_you_mean
from slmbench.metrics._scorer import Scorer, gold_of, references_of, target_of
from slmbench.registry import Registered
from slmbench.values import Example, Output

Item = tuple[Example, Output]

INPUTS: Mapping[str, Callable[[Example, Output], object]] = {
    "output": lambda example, output: output.text,
    "prediction": lambda example, output: output.text,
    "references": lambda example, output: references_of(example),
    "answer": lambda example, output: example.answer,
    "fields": lambda example, output: example.fields,
    "example": lambda example, output: example,
    "loglikelihoods": lambda example, output: output.loglikelihoods,
    "choices": lambda example, output: example.choices,
    "written": lambda example, output: output.written or example.choices,
    "gold": lambda example, output: gold_of(example),
    "verdicts": lambda example, output: output.verdicts,
    "target_loglikelihood": lambda example, output: target_of(example, output)[0],
    "target_bytes": lambda example, output: target_of(example, output)[1],
}
"""What a metric's parameters may be called, and what each is of an item."""

_TARGET = {"target_loglikelihood", "target_bytes"}
_KIND_BY_INPUT: Mapping[str, set[str]] = {
    "choice": {"loglikelihoods", "gold"},
    "code": {"verdicts"},
    "target": _TARGET,
}
_WHOLE = "the whole run"


def scorer_of(entry: Registered, task: str = "") -> Scorer:
    """The scorer of a registered metric. task: named where its function fails.

    Raises UsageError if its parameters are none that a metric has.
    """
    facts = entry.facts
    if facts.get("factory") and not entry.plugin:
        made: Scorer = entry.function()
        return made
    names = _inputs_of(entry)
    kind = next((kind for kind, of_it in _KIND_BY_INPUT.items() if of_it & set(names)), "text")
    values = tuple(facts.get("values", (entry.name,)))
    measure = _Measure(entry, names, values, task)
    pool = facts.get("pool")
    pooled = pool if pool is None or not entry.plugin else _Pool(measure, pool)
    at_once = facts.get("at_once") and pool is None
    return Scorer(
        name=entry.name,
        version=entry.version,
        kind=kind,  # type: ignore[arg-type]
        values=values,
        score=partial(_alone, measure.part, pooled) if pooled is not None else measure.score,
        description=entry.summary,
        binary=facts.get("binary", False),
        citation=facts.get("citation", ""),
        higher_is_better=facts.get("higher_is_better", True),
        range=_range_of(entry),
        reads_choices=facts.get("reads_choices", entry.plugin and "choices" in names),
        reads_whole=facts.get("reads_whole", False),
        reads_target=bool(_TARGET & set(names)),
        samples=facts.get("samples", 1),
        describes=facts.get("describes", False),
        parts=measure.part if pooled is not None else None,
        pool=pooled,
        score_all=measure.scores if at_once else None,
        remarks=measure.remarks if entry.plugin and facts.get("remarks") is not None else facts.get("remarks"),
    )


def _alone(part: Callable[..., object], pool: Callable[..., dict[str, float]], *item: object) -> dict[str, float]:
    return pool([part(*item)])


def _inputs_of(entry: Registered) -> list[str]:
    names = []
    for name, parameter in inspect.signature(entry.function).parameters.items():
        if name in INPUTS:
            names.append(name)
        elif parameter.default is parameter.empty:
            raise UsageError(
                f"{entry.where}: metric {entry.name!r} asks for {name!r}{did_you_mean(name, INPUTS)} (a metric's "
                f"parameters are {', '.join(INPUTS)})"
            )
    if not names:
        raise UsageError(f"{entry.where}: metric {entry.name!r} asks for nothing of an item, such as its output")
    return names


def _range_of(entry: Registered) -> tuple[float, float] | None:
    ends = entry.facts.get("range", (0.0, 1.0))
    return None if ends is None else (float(ends[0]), float(ends[1]))


class _Measure:
    """A metric's function behind a boundary that says whose fault it was: task, item, metric and line."""

    def __init__(self, entry: Registered, names: Sequence[str], values: tuple[str, ...], task: str) -> None:
        self.entry, self.names, self.values, self.task = entry, names, values, task
        self.at_once, self.ends = entry.facts.get("at_once"), _range_of(entry)

    def score(self, example: Example, output: Output) -> dict[str, float]:
        return (
            self.scores([(example, output)])[0]
            if self.at_once
            else self.checked(self._made(example, output), _of(example))
        )

    def part(self, example: Example, output: Output) -> object:
        """What one item adds to a pooled metric; of a plugin, as it will be read back."""
        made = self._made(example, output)
        if not self.entry.plugin:
            return made
        try:
            read: object = json.loads(json.dumps(made, allow_nan=False))
            return read
        except (TypeError, ValueError) as error:
            said = f"what an item adds is not a JSON value ({error}); return numbers, texts, lists and dicts of these"
            raise self.fault(said, _of(example)) from error

    def scores(self, items: Sequence[Item]) -> list[dict[str, float]]:
        made = self._all(items)
        return [self.checked(one, _of(example)) for one, (example, _) in zip(made, items, strict=True)]

    def remarks(self, example: Example, output: Output) -> dict[str, int]:
        """What the metric's own remarks say of an item, checked."""
        try:
            made: object = self.entry.facts["remarks"](example, output)
        except (Exception, SystemExit) as error:
            raise self.fault("remarks: ", _of(example), error) from error
        counts = made if isinstance(made, Mapping) else {None: made}
        if not all(isinstance(kind, str) and type(n) is int and n >= 0 for kind, n in counts.items()):
            raise self.fault(f"remarks: expected a dict of texts and counts, got {str(made)[:60]}", _of(example))
        return dict(counts)

    def _made(self, example: Example, output: Output) -> object:
        given = {name: INPUTS[name](example, output) for name in self.names}
        try:
            return self.entry.function(**given)
        except ValueError as error:
            if self.entry.plugin:
                raise self.fault("", _of(example), error) from error
            raise ValueError(f"example {example.id!r}: {error}") from error
        except (Exception, SystemExit) as error:
            if self.entry.plugin:
                raise self.fault("", _of(example), error) from error
            raise

    def _all(self, items: Sequence[Item]) -> list[object]:
        columns = {name: [INPUTS[name](*item) for item in items] for name in self.names}
        try:
            made = list(self.entry.function(**columns))
        except (Exception, SystemExit) as error:
            raise self.fault("", _items(items), error) from error
        if len(made) != len(items):
            raise self.fault(f"returned {len(made)} values for {len(items)} items", _items(items))
        return made

    def checked(self, made: object, of: str) -> dict[str, float]:
        """The values by name. of: what they are of, for a message."""
        values: Mapping[str, Any] = made if isinstance(made, Mapping) else {self.values[0]: made}
        if not self.entry.plugin:
            return dict(values)
        if set(values) != set(self.values):
            raise self.fault(f"expected the values {_listed(self.values)}, got {_listed(values)}", of)
        numbers = {name: _number(values[name]) for name in self.values}
        for name, number in numbers.items():
            if number is None:
                raise self.fault(f"{name} is a {type(values[name]).__name__}; a metric returns numbers", of)
            if not math.isfinite(number):
                raise self.fault(f"{name} is {'NaN' if number != number else 'infinite'}", of)
            ends = self.ends
            if ends is not None and not ends[0] <= number <= ends[1]:
                raise self.fault(f"{name} is {number:g}, outside of its range {ends[0]:g} to {ends[1]:g}", of)
            if self.entry.facts.get("binary") and ends is not None and number not in ends:
                raise self.fault(f"{name} is {number:g}; of a binary metric it is {ends[0]:g} or {ends[1]:g}", of)
        return {name: number for name, number in numbers.items() if number is not None}

    def fault(self, what: str, of: str, error: BaseException | None = None) -> HookError:
        return self.entry.fault(what, f"task {self.task!r}, {of}" if self.task else of, error)


class _Pool:
    """A plugin's pool, its results checked as those of its function are."""

    def __init__(self, measure: _Measure, pool: Callable[[Sequence[object]], object]) -> None:
        self.measure, self.pool = measure, pool

    def __call__(self, parts: Sequence[object]) -> dict[str, float]:
        try:
            made = self.pool(parts)
        except (Exception, SystemExit) as error:
            raise self.measure.fault("pool: ", _WHOLE, error) from error
        return self.measure.checked(made, _WHOLE)


def _number(value: SupportsFloat) -> float | None:
    """None for what is no number, as a text or an array of several."""
    try:
        return None if isinstance(value, str | bytes) else float(value)
    except Exception:  # A value's own way to a number may raise anything.
        return None


def _items(items: Sequence[Item]) -> str:
    if len(items) < 2:
        return _of(items[0][0]) if items else "no item"
    return f"items {items[0][0].id!r} to {items[-1][0].id!r}"


def _of(example: Example) -> str:
    return f"item {example.id!r}"


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"
