"""From outcomes to a table: means over seeds with intervals, costs beside them, and which rows no other one beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from slmbench.errors import UsageError
from slmbench.runs import Run
from slmbench.schema import targets_label
from slmbench.statistics.pareto import pareto_front
from slmbench.statistics.seeds import mean_over_seeds, spread_of
from slmbench.sweeps._grid import TARGETS, Axis
from slmbench.sweeps._run import Outcome
from slmbench.values import Estimate, JsonObject

OF_ITEMS = "†"
"""Marks intervals over items in a table where others are over seeds."""

COSTS = {
    "parameters": "trainable parameters",
    "bytes": "adapter file",
    "train_s": "training time",
    "memory_bytes": "peak memory",
}
"""What quality is set against; less is better in each."""


@frozen
class SweepColumn:
    """One metric of one task. range: the lowest and highest value of it, None if there is none."""

    task: str
    metric: str
    higher_is_better: bool
    chance: float | None
    range: tuple[float, float] | None = None

    @property
    def key(self) -> str:
        return f"{self.task}/{self.metric}"


@frozen
class SweepRow:
    """One adapter under one setting, over its seeds. costs: means, by the keys of COSTS.

    fronts: column key -> the costs against which no other row, and no base, is better on that column. targets: what
    people call the layers that the adapter is on, if rows differ in it; '' otherwise.
    """

    setting: str
    adapter: str
    model: str
    changed: Mapping[str, Any]
    seeds: tuple[int, ...]
    scores: Mapping[str, Estimate]
    costs: Mapping[str, float]
    folders: tuple[str, ...]
    fronts: Mapping[str, tuple[str, ...]]
    targets: str = ""

    @property
    def label(self) -> str:
        """The values that the sweep varied, in short."""
        values = (self.targets or value if key == TARGETS else value for key, value in self.changed.items())
        return ", ".join(str(value) for value in values) or self.setting


@frozen
class Sweep:
    """The whole result. bases: model -> column key -> the untrained model's score; failures: point -> reason.

    notices: why these numbers are not to be taken for more than they are. base_fronts: model -> column key -> the costs
    against which no row and no other base is better: a base costs nothing of what training an adapter costs.
    """

    recipe: str
    axes: tuple[Axis, ...]
    columns: tuple[SweepColumn, ...]
    bases: Mapping[str, Mapping[str, Estimate]]
    rows: tuple[SweepRow, ...]
    failures: Mapping[str, str]
    notices: tuple[str, ...] = ()
    base_fronts: Mapping[str, Mapping[str, tuple[str, ...]]] = field(factory=dict)

    @property
    def spreads(self) -> set[str]:
        """What the intervals that are shown are over: `seeds`, `items`, or some and some."""
        shown = [*self.bases.values(), *(row.scores for row in self.rows)]
        return {spread for scores in shown for score in scores.values() if (spread := spread_of(score)) is not None}

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.adapter for row in self.rows))

    @property
    def targets(self) -> tuple[str, ...]:
        """What the rows' layers are called, in the rows' order; () if they don't differ."""
        return tuple(dict.fromkeys(row.targets for row in self.rows if row.targets))


def summarise(recipe: str, axes: Sequence[Axis], outcomes: Sequence[Outcome], metrics: Sequence[str] = ()) -> Sweep:
    """The table of a sweep.

    metrics: names, or `task/name`; without any, each task's first one. Raises UsageError if no run has one of them.
    """
    columns = _columns(outcomes, metrics)
    bases: dict[str, dict[str, Estimate]] = {}
    groups: dict[tuple[str, str], list[tuple[Outcome, Any]]] = {}
    for outcome in outcomes:
        for run in outcome.base:
            bases.setdefault(str(run.record["model"]["name"]), {}).update(_scores([[run]], columns))
        for part in outcome.trained:
            groups.setdefault((outcome.point.setting, part.adapter), []).append((outcome, part))
    rows = []
    for (setting, adapter), members in groups.items():
        first = members[0][0]
        costs = {}
        for cost in COSTS:
            amounts = [amount for _, part in members if (amount := getattr(part, cost)) is not None]
            if amounts:
                costs[cost] = math.fsum(amounts) / len(amounts)
        rows.append(
            SweepRow(
                setting,
                adapter,
                str(first.base[0].record["model"]["name"]),
                {key: value for key, value in first.point.changed.items() if key != "seed"},
                tuple(outcome.point.recipe.spec.seed for outcome, _ in members),
                _scores([part.runs for _, part in members], columns),
                costs,
                tuple(part.folder for _, part in members),
                {},
                _targets(first, adapter),
            )
        )
    if len({row.targets for row in rows}) < 2:
        rows = [evolve(row, targets="") for row in rows]
    failures = {outcome.point.name: outcome.reason for outcome in outcomes if outcome.reason is not None}
    led, base_fronts = _with_fronts(rows, columns, bases)
    return Sweep(recipe, tuple(axes), tuple(columns), bases, led, failures, _notices(outcomes), base_fronts)


def _targets(outcome: Outcome, adapter: str) -> str:
    """What people call the layers that a point's adapter is on; '' of a whole model."""
    spec = outcome.point.recipe.spec
    own = spec.for_adapter(adapter) if adapter in spec.adapters else spec
    return "" if spec.method == "full" else targets_label(own.lora.targets)


def _columns(outcomes: Sequence[Outcome], metrics: Sequence[str]) -> list[SweepColumn]:
    found: dict[str, SweepColumn] = {}
    known: dict[str, None] = {}
    wanted: set[str] = set()
    for run in (run for outcome in outcomes for run in outcome.base):
        task = str(run.record["task"]["id"])
        for position, metric in enumerate(run.record["metrics"]):
            column = SweepColumn(task, metric["name"], metric["higher_is_better"], metric.get("chance"), _range(metric))
            known[column.key] = None
            names = {metric["name"], column.key} & set(metrics)
            wanted |= names
            if names or (not metrics and position == 0):
                found.setdefault(column.key, column)
    missing = [name for name in metrics if name not in wanted]
    if missing and known:
        raise UsageError(f"no task here has the metric {', '.join(missing)}; they have {', '.join(known)}")
    return list(found.values())


def _range(metric: JsonObject) -> tuple[float, float] | None:
    low, high = metric.get("range") or (None, None)
    return None if low is None or high is None else (low, high)


def _notices(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for run in (run for outcome in outcomes for run in outcome.base):
        model, task, limit = str(run.record["model"]["name"]), run.record["task"]["id"], run.record.get("limit")
        if run.record["model"].get("twin"):
            found[f"{model} is a tiny random model: these scores say that everything runs, and nothing else"] = None
        if limit is not None:
            found[f"{task}: only the first {limit} items were scored"] = None
        if (run.record.get("dataset") or {}).get("source") == "samples":
            found[f"{task}: scored on golden rows, a handful, in place of its test set"] = None
    return tuple(found)


def _scores(runs: Sequence[Sequence[Run]], columns: Sequence[SweepColumn]) -> dict[str, Estimate]:
    """runs: one list a seed."""
    found: dict[str, list[Estimate]] = {}
    for one in runs:
        for run in one:
            for metric in run.record["metrics"]:
                ends = metric["ci_lo"], metric["ci_hi"]
                score = Estimate(metric["value"], metric.get("se") or 0.0, *ends, metric["n"], metric["method"])
                found.setdefault(f"{run.record['task']['id']}/{metric['name']}", []).append(score)
    return {column.key: _over_seeds(scores, column) for column in columns if (scores := found.get(column.key))}


def _over_seeds(scores: Sequence[Estimate], column: SweepColumn) -> Estimate:
    made = mean_over_seeds([score.value for score in scores], column.range) if len(scores) > 1 else scores[0]
    # Seeds that agree say nothing of the spread; the items of each run still do.
    return scores[0] if made.method == "none" else made


def _with_fronts(
    rows: Sequence[SweepRow], columns: Sequence[SweepColumn], bases: Mapping[str, Mapping[str, Estimate]]
) -> tuple[tuple[SweepRow, ...], dict[str, dict[str, tuple[str, ...]]]]:
    """(rows with their fronts, the bases' fronts). A base is a point that costs nothing."""
    fronts: list[dict[str, tuple[str, ...]]] = [{} for _ in rows]
    of_bases: dict[str, dict[str, tuple[str, ...]]] = {model: {} for model in bases}
    for column in columns:
        for cost in COSTS:
            there = [i for i, row in enumerate(rows) if column.key in row.scores and cost in row.costs]
            free = [model for model, scores in bases.items() if column.key in scores] if there else []
            pairs = [(rows[i].scores[column.key].value, rows[i].costs[cost]) for i in there]
            pairs += [(bases[model][column.key].value, 0.0) for model in free]
            found = [*(fronts[i] for i in there), *(of_bases[model] for model in free)]
            for front, leads in zip(found, pareto_front(pairs, [column.higher_is_better, False]), strict=True):
                if leads:
                    front[column.key] = (*front.get(column.key, ()), cost)
    return tuple(evolve(row, fronts=front) for row, front in zip(rows, fronts, strict=True)), of_bases
