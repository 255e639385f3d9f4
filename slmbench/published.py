"""Numbers that others gave for what a recipe makes: held to the metrics that they name, and to each other."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from attrs import evolve, field, frozen

from slmbench.catalog import Catalog
from slmbench.errors import DeclarationError, Problem, did_you_mean
from slmbench.headers import own_headers
from slmbench.makings import Maker, Making, making_of
from slmbench.metrics import metric_names, own_scorer
from slmbench.schema import LATENCY, OTHER, UNITS, Figure, PublishedSpec, TaskSpec, UnderSpec, parse
from slmbench.values import JsonObject
from slmbench.yamlfile import Document, Location, read_yaml

if TYPE_CHECKING:
    from slmbench.metrics import Scorer

Bounds = tuple[float, float] | None

# Of the same texts, each of these is at most the one behind it.
_AT_MOST = (("rouge2", "rouge1"), ("rougeL", "rouge1"), ("squad_em", "squad_f1"))
# Names so like another one that they are hardly of something else, if all their digits are the same.
_NEARLY = 0.85
# Of those whose intervals need no bounds, what no mean can be outside of.
_BOUNDS: dict[str, Bounds] = {
    "bertscore": (-math.inf, 1.0),
    "bits_per_byte": (0.0, math.inf),
    "distinct_1": (0.0, 1.0),
    "distinct_2": (0.0, 1.0),
    "repeated_4grams": (0.0, 1.0),
}
_PASS_AT = re.compile(r"pass@([1-9][0-9]*)")
# Numbers of fewer digits meet by chance.
_TELLING_DIGITS = 3


@frozen
class PublishedNumber:
    """One published number, with what is wrong with it.

    low, high: in the metric's own scale (a share, or seconds of a latency), equal but for a range; written: as people
    read it. metric: `latency` and `other` included; called: the publication's own word for it. model, adapter: whose it
    is. under: how it was made, as far as that is said. stderr, n: the standard error that is given with it, in that
    scale, and the items that it is of. found, found_source: what the publisher's files say instead, as
    people read it; '' if nothing is known. fault: why it can't be what it says, as somebody declared it. remarks: what
    shows in the numbers themselves, as that the same digits stand for something else. making: how the recipe makes what
    it is of; None of a model alone.
    """

    low: float
    high: float
    written: str
    task: str
    metric: str
    called: str
    model: str
    adapter: str | None
    under: UnderSpec
    source: str
    counted: str
    stderr: float | None = None
    n: int | None = None
    found: str = ""
    found_source: str = ""
    fault: str = ""
    remarks: tuple[str, ...] = ()
    making: Making | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """`human_eval/pass@1`, or what the publication calls it if slmbench doesn't measure that."""
        return f"{self.task}/{self.called if self.metric == OTHER else self.metric}"

    @property
    def whose(self) -> str:
        """`llama + python (rank 128)`."""
        named = self.model if self.adapter is None else f"{self.model} + {self.adapter}"
        told = ", ".join(f"{key} {shown_setting(value)}" for key, value in self.conditions.items())
        return f"{named} ({told})" if told else named

    @property
    def conditions(self) -> dict[str, object]:
        """What it was made under, as far as that is said."""
        return self.under.model_dump(exclude_none=True)

    @property
    def marks(self) -> tuple[str, ...]:
        """The fault, if one is declared, and the remarks."""
        return (self.fault, *self.remarks) if self.fault else self.remarks

    def as_json(self) -> JsonObject:
        return {
            "task": self.task,
            "metric": self.metric,
            "called": self.called,
            "model": self.model,
            "adapter": self.adapter,
            "under": self.conditions,
            "low": self.low,
            "high": self.high,
            "written": self.written,
            "source": self.source,
            "counted": self.counted,
            "stderr": self.stderr,
            "n": self.n,
            "in_files": {"written": self.found, "source": self.found_source} if self.found else None,
            "fault": self.fault or None,
            "remarks": list(self.remarks),
        }


def published_problems(
    document: Document,
    entries: Sequence[PublishedSpec],
    catalog: Catalog,
    *,
    adapters: Collection[str],
    own: Collection[str],
) -> list[Problem]:
    """What is wrong with the entries of a recipe's file, each at its line.

    own: the models that the recipe has, variants included, whose adapters have to be among `adapters`; of any other
    model an adapter may have any name.
    """
    known = catalog.files("tasks")
    formats = {header.name for header in (*own_headers("format"), *catalog.headers("format"))} if entries else set()
    values: dict[str, dict[str, Bounds] | None] = {}
    problems = []
    for number, entry in enumerate(entries):
        at: Location = ("published", number)
        if entry.model is not None and (meant := _misspelt(entry.model, own)) is not None:
            said = f"no model {entry.model!r} here; did you mean {meant!r}? Another one is named in full, as owner/name"
            problems.append(document.problem((*at, "model"), said))
        if entry.under.format is not None and entry.under.format not in formats:
            said = f"unknown format {entry.under.format!r}{did_you_mean(entry.under.format, formats)}"
            problems.append(document.problem((*at, "under", "format"), said))
        ours = entry.model is None or entry.model in own
        if entry.adapter is not None and ours and entry.adapter not in adapters:
            said = f"no adapter {entry.adapter!r}{did_you_mean(entry.adapter, adapters)}"
            problems.append(document.problem((*at, "adapter"), said))
        if entry.task not in known:
            said = f"unknown task {entry.task!r}{did_you_mean(entry.task, known)}"
            problems.append(document.problem((*at, "task"), said))
            continue
        if entry.metric in (OTHER, LATENCY):
            continue
        if entry.task not in values:
            values[entry.task] = _values_of(known[entry.task])
        there = values[entry.task]
        if there is None:  # The task's own file is at fault, and says so where it is asked for.
            continue
        if entry.metric not in there:
            hint = did_you_mean(entry.metric, there)
            said = f"task {entry.task!r} has no metric {entry.metric!r}{hint}"
            if "did you mean" not in hint:
                said += "; what slmbench doesn't measure is `metric: other`, with `called`"
            problems.append(document.problem((*at, "metric"), said))
            continue
        figures = [(("value",), entry.value)] + (
            [(("in_files", "value"), entry.in_files.value)] if entry.in_files is not None else []
        )
        for place, figure in figures:
            if (outside := _out_of(there[entry.metric], figure, entry)) is not None:
                problems.append(document.problem((*at, *place), outside))
    return problems


def published_numbers(
    entries: Iterable[PublishedSpec],
    model: str,
    makers: Sequence[Maker] = (),
    merged: Mapping[str, tuple[str, tuple[str, ...]]] | None = None,
) -> tuple[PublishedNumber, ...]:
    """The entries as values, with what shows in the numbers themselves. model: of those that name none.

    makers: what trains their adapters, each variant included. merged: name of a merge's result -> (method, inputs).
    """
    made = []
    known: dict[tuple[str, str, UnderSpec], Making] = {}
    for entry in entries:
        making = None
        if entry.adapter is not None and merged is not None and entry.adapter in merged:
            making = Making(merged=frozenset({merged[entry.adapter]}))
        elif entry.adapter is not None:
            asked = (entry.adapter, entry.model or model, entry.under)
            if asked not in known:
                known[asked] = making_of(makers, *asked)
            making = known[asked]
        low, high = _own_scale(entry.value, entry.unit)
        found = entry.in_files
        counted = f"{entry.counted}; in the files: {found.counted}" if found and found.counted else entry.counted
        made.append(
            PublishedNumber(
                low=low,
                high=high,
                written=_written(entry.value, entry.unit),
                task=entry.task,
                metric=entry.metric,
                called=entry.called,
                model=entry.model or model,
                adapter=entry.adapter,
                under=entry.under,
                source=entry.source,
                counted=counted,
                stderr=None if entry.stderr is None else _own_scale(entry.stderr, entry.unit)[0],
                n=entry.n,
                found="" if found is None else _written(found.value, entry.unit),
                found_source="" if found is None else found.source,
                fault=entry.fault,
                making=making,
            )
        )
    return tuple(evolve(one, remarks=tuple(_remarks(one, made))) for one in made)


def shown_setting(value: object) -> str:
    """A setting as a training's record writes it: 16 of 16.0, 0.0002 of 2e-4."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def same_model(published: str, measured: str) -> bool:
    """Whether a published number's model is that of a row: by name, or a folder by its own."""
    return published == measured or os.path.basename(os.path.normpath(published)) == measured


def _misspelt(model: str, own: Collection[str]) -> str | None:
    """The model of a recipe that is written almost so; None without one. Another size is another model."""
    if model in own:
        return None
    ratios = {
        one: SequenceMatcher(None, model.casefold(), one.casefold()).ratio()
        for one in own
        if re.findall(r"\d", one) == re.findall(r"\d", model)
    }
    nearest = max(ratios, key=lambda one: ratios[one], default=None)
    return nearest if nearest is not None and ratios[nearest] >= _NEARLY else None


def _values_of(path: str) -> dict[str, Bounds] | None:
    """A task's metric values and their bounds, as its file declares them; None if it isn't sound.

    Metrics of plugins are not run for it: of one, the name stands for its value, without bounds.
    """
    try:
        spec = parse(TaskSpec, read_yaml(path))
    except (DeclarationError, OSError):
        return None
    found: dict[str, Bounds] = {}
    for name in spec.metrics:
        scorer = own_scorer(name)
        values = (name,) if scorer is None else scorer.values
        range_there = None if scorer is None else scorer.range
        found.update({value: range_there or _BOUNDS.get(re.split(r"[/ @(]", value)[0]) for value in values})
    if spec.primary is not None:
        found.setdefault(spec.primary, None)
    return found


def _out_of(bounds: Bounds, figure: Figure, entry: PublishedSpec) -> str | None:
    """What is wrong with a figure outside its metric's bounds; None if it isn't, or if it is told to be a fault."""
    low, high = _own_scale(figure, entry.unit)
    if bounds is None or entry.fault or bounds[0] <= low <= high <= bounds[1]:
        return None
    reach = f"from {bounds[0]:g} to {bounds[1]:g}"
    if math.inf in bounds or -math.inf in bounds:
        reach = f"at least {bounds[0]:g}" if bounds[1] == math.inf else f"at most {bounds[1]:g}"
    said = f"{entry.metric} is {reach}, got {_written(figure, entry.unit)}"
    if entry.unit is None and bounds[1] == 1 and 1 < high <= 100 and low >= 0:
        return f"{said}; if that is percent, say `unit: percent`"
    return f"{said}; if it was published so, say why it can't be in `fault`"


def _own_scale(figure: Figure, unit: str | None) -> tuple[float, float]:
    ends = figure if isinstance(figure, list) else [figure, figure]
    factor = Decimal("1") if unit is None else Decimal(str(UNITS[unit]))
    # By decimals: 64.56 percent are .6456, which another place may say as that.
    low, high = (float(Decimal(str(end)) * factor) for end in ends)
    return low, high


def _written(figure: Figure, unit: str | None) -> str:
    sign = {"percent": "%", "seconds": " s", "milliseconds": " ms"}.get(unit or "", "")
    return ("\u2013".join(map(str, figure)) if isinstance(figure, list) else str(figure)) + sign


def _remarks(one: PublishedNumber, every: Sequence[PublishedNumber]) -> Iterator[str]:
    """What shows in the numbers alone: the same digits elsewhere, and an order that can't be."""
    if (said := _of_stderr(one)) is not None:
        yield said
    told = set()
    for other in every:
        mine, its = (one.model, one.adapter, one.conditions), (other.model, other.adapter, other.conditions)
        if other is one or one.metric == OTHER or other.metric == OTHER:
            continue
        if other.fault and not one.fault:  # Which of the two is wrong has been said.
            continue
        # Two readings of one score may well agree, as may two places that tell of one score.
        family = one.task == other.task and one.metric.partition("/")[0] == other.metric.partition("/")[0]
        if (mine != its or not family) and one.low == one.high == other.low == other.high and _telling(one.low):
            said = f"the same digits as {other.key} of {other.whose}"
            if said not in told:
                yield said
            told.add(said)
        alike = mine == its and (one.task, one.source) == (other.task, other.source)
        if alike and _at_most(one.metric, other.metric) and one.low > other.high:
            yield f"above {other.key} of the same row ({other.written}), which no outputs can give"


def _of_stderr(one: PublishedNumber) -> str | None:
    """What is wrong with a standard error: that of right or wrong items follows from their mean, and none is larger."""
    scorer = _scorer_of(one.metric)
    if one.stderr is None or one.n is None or scorer is None or scorer.range != (0.0, 1.0) or one.low != one.high:
        return None
    if not 0 < one.low < 1:
        return None
    largest = math.sqrt(one.low * (1 - one.low) / (one.n - 1))
    # Half of the last digit that is given, and what rounding of the mean does to the other one.
    decimals = -int(Decimal(str(one.stderr)).normalize().as_tuple().exponent)
    near = 0.51 * 10.0**-decimals + largest * 0.001
    given, of = f"its standard error, {one.stderr:g}, is", f"of this mean, {largest:.4f}"
    if one.stderr > largest + near:
        return f"{given} above the largest of {one.n} items {of}"
    if scorer.binary and one.stderr < largest - near:
        return f"{given} not that of {one.n} items, right or wrong, {of}"
    return None


def _scorer_of(value: str) -> Scorer | None:
    """slmbench's own metric that gives a value, as `rouge` gives rouge1; None without one."""
    for name in sorted((name for name in metric_names() if value.startswith(name)), key=len, reverse=True):
        scorer = own_scorer(name)
        if scorer is not None and value in scorer.values:
            return scorer
    return own_scorer(value)


def _telling(value: float) -> bool:
    """Whether a number has digits enough to be known again."""
    digits = Decimal(str(value)).normalize().as_tuple().digits
    return len(digits) >= _TELLING_DIGITS


def _at_most(one: str, other: str) -> bool:
    """Whether a value of one metric is never above the other's of the same outputs."""
    few, many = _PASS_AT.fullmatch(one), _PASS_AT.fullmatch(other)
    if few and many:
        return int(few[1]) < int(many[1])
    (one, _, kind), (other, _, its) = one.partition("/"), other.partition("/")
    return kind == its and (one, other) in _AT_MOST


def with_owners(document: Document) -> Document:
    """A recipe's document, its published numbers that name no model told to be of the file's own.

    A variant has another.
    """
    told = document.data.get("published") if isinstance(document.data, dict) else None
    if not isinstance(told, list) or not isinstance(document.data.get("model"), str):
        return document
    named = [
        {**one, "model": document.data["model"]} if isinstance(one, dict) and one.get("model") is None else one
        for one in told
    ]
    return Document(document.path, {**document.data, "published": named}, document.marks)


def owners(spec_model: str, variants: Mapping[str, Mapping[str, object]]) -> set[str]:
    """The models that a recipe has, its variants' included."""
    return {spec_model, *(str(changes["model"]) for changes in variants.values() if "model" in changes)}
