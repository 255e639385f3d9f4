"""Two results beside each other: what the same items say of them, what they cost, and whether B may replace A."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import asdict, evolve, field, frozen

from slmbench.catalog import Catalog, default_catalog
from slmbench.console import phase
from slmbench.errors import Problem, UsageError
from slmbench.leaderboard import LoadedRuns, ScoredRun
from slmbench.leaderboard.texts import json_ready
from slmbench.runs import ItemScores, Run, aligned
from slmbench.statistics.aggregate import aggregate_pair
from slmbench.statistics.pairs import PairComparison, compare_pair
from slmbench.statistics.planning import PairSpread, items_to_detect
from slmbench.statistics.significance import holm
from slmbench.values import JsonObject
from slmbench.visible import visible
from slmbench.workflow.compared import ComparedCost, Difference, costs_of, differences_of
from slmbench.workflow.flipped import DifferingItems, differing_items, same_targets
from slmbench.workflow.sides import ComparedSide, ComparePlan, TaskPair, chosen_metrics, pairs_of, sides_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Column: TypeAlias = NDArray[np.floating]

SCHEMA = 1
ALPHA = 0.05
NO_TEST = "none"
"""The method of a difference on items that end where the scores said so: no test of a fixed number of items holds."""
Verdict: TypeAlias = Literal["better", "worse", "not told apart"]
GateVerdict: TypeAlias = Literal["not worse", "worse", "inconclusive"]
EXIT_CODES: dict[GateVerdict, int] = {"not worse": 0, "worse": 1, "inconclusive": 2}


@frozen
class ComparedMetric:
    """One metric of one task, on the items that both have. a, b: the means there, or the pooled values.

    primary: whether it stands for its task in the summary and the gate. adjusted_p: p, corrected after Holm over all
    primary metrics of the comparison. gate: what this metric says of "b isn't worse".
    """

    name: str
    higher_is_better: bool
    primary: bool
    a: float
    b: float
    pair: PairComparison
    adjusted_p: float | None = None
    gate: GateVerdict | None = None

    @property
    def gain(self) -> float:
        """By how much b is better, negative if it is worse."""
        return self.pair.difference if self.higher_is_better else -self.pair.difference

    @property
    def gain_ends(self) -> tuple[float, float]:
        """The 95% interval of the gain."""
        low, high = self.pair.ci_low, self.pair.ci_high
        return (low, high) if self.higher_is_better else (-high, -low)

    @property
    def tested(self) -> bool:
        """Whether there is a p, and an interval."""
        return self.pair.method != NO_TEST

    @property
    def verdict(self) -> Verdict:
        """What this pair of results says of this metric alone, at 5%."""
        if self.pair.p > ALPHA or self.gain == 0:
            return "not told apart"
        return "better" if self.gain > 0 else "worse"


@frozen(eq=False)
class ComparedTask:
    """One task under one condition of each side.

    items: of the first primary metric, in the newest runs. differs: the conditions that do. notes: what a reader has to
    know of these numbers.
    """

    pair: TaskPair = field(repr=False)
    metrics: tuple[ComparedMetric, ...]
    items: DifferingItems
    differs: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.pair.task} ({self.pair.label})" if self.pair.label else self.pair.task

    @property
    def badges(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.pair.a[0].badges, *self.pair.b[0].badges)))


@frozen(eq=False)
class Comparison:
    """b against a.

    gate: over all primary metrics. notices: what a reader has to know beside the tasks' notes. problems: of other runs
    of the folder, which were left out. mean: b minus a in the mean over tasks of chance-normalised primary metrics,
    above 0 if b is better; None if fewer than two tasks have one with a range. mean_tasks: those tasks.
    """

    a: ComparedSide
    b: ComparedSide
    tasks: tuple[ComparedTask, ...]
    costs: tuple[ComparedCost, ...]
    margin: float
    gate: GateVerdict
    notices: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    mean: PairComparison | None = None
    mean_tasks: tuple[str, ...] = ()


def compare(
    a: str | Run,
    b: str | Run,
    *,
    folders: str | Sequence[str] = (),
    tasks: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    margin: float = 0.0,
    items: int = 0,
    no_texts: bool = False,
    catalog: Catalog | None = None,
) -> Comparison:
    """Is b better than a, on the items that both have? As `slmbench compare`.

    a, b: a Run, a run's folder, an output folder with one model's runs, or, with `folders`, a row of its leaderboard by
    its name: one folder for both, or one for each. tasks, metrics: only these; metrics may be task/metric. margin: a
    loss that doesn't count for the result's `gate`. items: how many are had with their texts of each task. no_texts:
    none of them, nor any id. catalog: where tasks are looked up.
    Raises UsageError if a side isn't there, is several, or shares no task with the other; RunProblems for runs that
    don't hold what they claim.
    """
    first, second = (one.folder if isinstance(one, Run) else one for one in (a, b))
    plan = ComparePlan(
        a=first,
        b=second,
        folders=(folders,) if isinstance(folders, str) else tuple(folders),
        tasks=None if tasks is None else tuple(tasks),
        metrics=None if metrics is None else tuple(metrics),
        margin=margin,
        items=items,
        no_texts=no_texts,
    )
    return compare_plan(plan, default_catalog() if catalog is None else catalog)


def compare_plan(plan: ComparePlan, catalog: Catalog) -> Comparison:
    """Compares two results. Raises UsageError if a side isn't there, is several, or shares no task with the other."""
    with phase("reading runs"):
        (a, b), loaded = sides_of(plan, catalog)
    return compare_sides(a, b, plan, catalog, loaded)


def compare_sides(
    a: ComparedSide, b: ComparedSide, plan: ComparePlan, catalog: Catalog, loaded: LoadedRuns
) -> Comparison:
    """Compares two results that were read already. loaded: what else was. Raises UsageError if they share no task."""
    notices = list(loaded.notices)
    pairs = pairs_of(a, b, plan, notices)
    chosen = chosen_metrics(pairs, plan.metrics, catalog)
    with phase("comparing"):
        tasks = [_compared_task(pair, wanted, plan) for pair, wanted in zip(pairs, chosen, strict=True)]
    left = [f"{visible(task.name)}: not compared; {'; '.join(task.notes)}" for task in tasks if not task.metrics]
    notices.extend(left)
    tasks = [task for task in tasks if task.metrics]
    if not tasks:
        raise UsageError("\n".join(["there is nothing to compare", *left]))
    tasks = _gated(tasks, plan.margin)
    verdicts = {metric.gate for task in tasks for metric in task.metrics if metric.primary}
    open_ = not verdicts or "inconclusive" in verdicts  # Of metrics that describe, none says what is worse.
    gate: GateVerdict = "worse" if "worse" in verdicts else "inconclusive" if open_ else "not worse"
    costs = costs_of([(task.pair.a[0], task.pair.b[0]) for task in tasks])
    mean, averaged = _mean_over_tasks(tasks)
    return Comparison(a, b, tuple(tasks), costs, plan.margin, gate, tuple(notices), loaded.problems, mean, averaged)


def _mean_over_tasks(tasks: Sequence[ComparedTask]) -> tuple[PairComparison | None, tuple[str, ...]]:
    """The comparison in the mean, and its tasks: each once, with its first primary metric, if that has a range."""
    parts: dict[str, tuple[PairComparison, tuple[float, float]]] = {}
    for task in tasks:
        primary = next((metric for metric in task.metrics if metric.primary), None)
        if primary is None or not primary.tested or primary.pair.method == "e-value":
            continue
        told = next(metric for metric in task.pair.a[0].metrics if metric.name == primary.name)
        if told.bounds is not None:
            low, high = told.bounds
            worst, best = (low, high) if told.higher_is_better else (high, low)
            worst = worst if told.chance is None else told.chance
            if worst != best:
                parts.setdefault(task.pair.task, (primary.pair, (worst, best)))
    if len(parts) < 2:
        return None, ()
    return aggregate_pair([pair for pair, _ in parts.values()], [scale for _, scale in parts.values()]), tuple(parts)


def _compared_task(pair: TaskPair, chosen: Sequence[tuple[str, bool]], plan: ComparePlan) -> ComparedTask:
    first, second = pair.a[0], pair.b[0]
    notes: dict[str, list[str]] = {}  # What is said -> of which metrics; of none, it is said of all.
    both = first.items
    for run in (*pair.a, *pair.b):
        both, _ = aligned(both, run.items)
    if not len(both) == len(first.items) == len(second.items):
        notes.setdefault(f"{len(both)} items are in both, of {len(first.items)} of A and {len(second.items)} of B", [])
    if first.condition_key != second.condition_key and len(both):
        kept = same_targets(first, second, both.items)
        if other := len(both) - len(kept):
            notes.setdefault(f"{other} items have another target in B: left out", [])
            both = both.taken(kept)
    for which, runs in (("A", pair.a), ("B", pair.b)):
        told = runs[0].stopped
        if told is not None and _is_stopped(runs[0]):
            notes.setdefault(
                f"{which} was {told.badge}, by {told.metric}, whose p holds wherever it stops; others have none",
                [],
            )
        if len(runs) > 1:
            notes.setdefault(f"{which} is the mean of {len(runs)} seeds; intervals and p count their spread", [])
    metrics, items = [], DifferingItems()
    describing = {metric.name for metric in first.metrics if metric.describes}
    for name, stands in chosen:
        primary = stands and name not in describing
        columns = [[aligned(both, run.items)[1].scores[name] for run in runs] for runs in (pair.a, pair.b)]
        found = _compared_metric(name, primary, pair, columns, both, notes)
        if found is None:
            continue
        metrics.append(found)
        if primary and not any(metric.primary for metric in metrics[:-1]):
            items = differing_items(
                first,
                second,
                both.items,
                (columns[0][0], columns[1][0]),
                name,
                higher_is_better=found.higher_is_better,
                most=plan.items,
                withheld=plan.no_texts or first.no_texts or second.no_texts,
            )
    return ComparedTask(pair, tuple(metrics), items, differences_of(first, second), _folded(notes))


def _folded(notes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(f"{', '.join(map(visible, names))}: {said}" if names else said for said, names in notes.items())


def _compared_metric(
    name: str,
    primary: bool,
    pair: TaskPair,
    columns: Sequence[Sequence[Column]],
    both: ItemScores,
    notes: dict[str, list[str]],
) -> ComparedMetric | None:
    """None, and a note, if the runs' scores aren't of one kind. columns: of each side one a seed, over `both`."""
    import numpy as np

    runs = (*pair.a, *pair.b)
    told = next(metric for metric in pair.a[0].metrics if metric.name == name)
    if len({run.metric_key(name) for run in runs}) > 1:
        notes.setdefault("scored by another version of the metric; `slmbench score` scores both again", []).append(name)
        return None
    if told.pooled and any(len(run.items) != len(both) for run in runs):
        notes.setdefault("pooled over other items; left out", []).append(name)
        return None
    sides = [np.asarray(side, dtype=np.float64) for side in columns]  # (seeds, items) each
    a, b = (side.mean(axis=0) for side in sides)
    try:
        made = compare_pair(*sides, higher_is_better=told.higher_is_better, clusters=both.clusters, bounds=told.bounds)
    except ValueError as error:
        notes.setdefault(str(error), []).append(name)
        return None
    there = np.isfinite(a) & np.isfinite(b)
    if lacking := len(both) - int(there.sum()):
        notes.setdefault(f"{lacking} items lack a score in one of the runs: left out", []).append(name)
    if (ended := next((run for run in runs if _is_stopped(run)), None)) is not None:
        made = _of_stopped(made, name, ended, next(run for run in runs if run is not ended), turned=ended in pair.a)
    means = [
        side[0].pooled[name].value if len(side) == 1 and name in side[0].pooled else float(scores[there].mean())
        for side, scores in ((pair.a, a), (pair.b, b))
    ]
    return ComparedMetric(name, told.higher_is_better, primary, means[0], means[1], made)


def _is_stopped(run: ScoredRun) -> bool:
    return run.stopped is not None and run.stopped.n < run.stopped.total


def _of_stopped(pair: PairComparison, name: str, run: ScoredRun, other: ScoredRun, *, turned: bool) -> PairComparison:
    """With the interval and the p that hold wherever a run was stopped; without any where it wasn't stopped by these.

    turned: whether the stopped run is a.
    """
    told = run.stopped
    assert told is not None
    if (told.metric, told.against) != (name, other.run_id):
        return evolve(pair, p=1.0, ci_low=-math.inf, ci_high=math.inf, method=NO_TEST, detectable=None)
    low, high = (-told.ci_hi, -told.ci_lo) if turned else (told.ci_lo, told.ci_hi)
    # Of several comparisons in one call, each had its part of 5%: p is above that where 0 is in the interval.
    p = min(1.0, told.p * ALPHA / told.alpha)
    return evolve(pair, p=p, ci_low=low, ci_high=high, method="e-value", detectable=None)


def _gated(tasks: Sequence[ComparedTask], margin: float) -> list[ComparedTask]:
    """With what each primary metric says of "b is worse by no more than the margin"."""
    adjusted = iter(holm([metric.pair.p for task in tasks for metric in task.metrics if metric.primary]))

    def judged(metric: ComparedMetric) -> ComparedMetric:
        if not metric.primary:
            return metric
        p = next(adjusted)
        enough = metric.gain_ends[0] >= -margin
        worse = p <= ALPHA and metric.gain < 0
        return evolve(metric, adjusted_p=p, gate="not worse" if enough else "worse" if worse else "inconclusive")

    return [evolve(task, metrics=tuple(map(judged, task.metrics))) for task in tasks]


def items_for_margin(metric: ComparedMetric, margin: float) -> int | None:
    """On how many items a loss of the margin would most likely be ruled out, if both are as good; None if margin is 0.

    The interval's lower end has to be above -margin, with 80% power.
    """
    if margin <= 0:
        return None
    spread = PairSpread(metric.pair.stderr * math.sqrt(metric.pair.n))
    return items_to_detect(margin, spread) if spread.sd > 0 else None


def comparison_json(comparison: Comparison, *, gated: bool) -> JsonObject:
    """What `compare --json` prints. gated: with the gate's verdict."""
    content = {
        "schema": SCHEMA,
        "a": _side_json(comparison.a),
        "b": _side_json(comparison.b),
        "tasks": [_task_json(task) for task in comparison.tasks],
        "mean": comparison.mean and {"tasks": list(comparison.mean_tasks), **asdict(comparison.mean)},
        "costs": [
            {"key": cost.key, "label": cost.label, "a": cost.a, "b": cost.b, "ratio": cost.ratio, "apart": cost.apart}
            for cost in comparison.costs
        ],
        "notices": list(comparison.notices),
    }
    if gated:
        content["gate"] = {"fail_if": "worse", "margin": comparison.margin, "verdict": comparison.gate}
    made = json_ready(content)
    assert isinstance(made, dict)
    return made


def _side_json(side: ComparedSide) -> JsonObject:
    return {"name": side.name, "place": side.place, "run_ids": [run.run_id for run in side.runs]}


def _task_json(task: ComparedTask) -> JsonObject:
    return {
        "task": task.pair.task,
        "condition": task.pair.label,
        "runs_a": [run.run_id for run in task.pair.a],
        "runs_b": [run.run_id for run in task.pair.b],
        "badges": list(task.badges),
        "differs": [asdict(one) for one in task.differs],
        "notes": list(task.notes),
        "metrics": [
            {
                "metric": metric.name,
                "primary": metric.primary,
                "higher_is_better": metric.higher_is_better,
                "a": metric.a,
                "b": metric.b,
                **{key: value for key, value in asdict(metric.pair).items() if metric.tested or key != "p"},
                "verdict": metric.verdict,
                "adjusted_p": metric.adjusted_p,
                "gate": metric.gate,
            }
            for metric in task.metrics
        ],
        "items": {
            "both_right": task.items.both if task.items.binary else None,
            "neither_right": task.items.neither if task.items.binary else None,
            "only_a_right": list(task.items.a_only) if task.items.binary else None,
            "only_b_right": list(task.items.b_only) if task.items.binary else None,
            "shown": [asdict(item) for item in task.items.shown],
            "fault": task.items.fault,
        },
    }
