"""What an evaluation would show: the items and seconds that a difference needs, and what all items can show."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, field, frozen

from slmbench.catalog import Catalog
from slmbench.console import phase
from slmbench.errors import Problem, UsageError, did_you_mean
from slmbench.leaderboard import LoadedRuns, ScoredRun, read_runs, rows_of
from slmbench.runs import aligned
from slmbench.statistics.planning import (
    CORRELATION,
    PairSpread,
    assumed_spread,
    detectable_at,
    items_to_detect,
    power_at,
    spread_of_pair,
    typical,
)
from slmbench.values import JsonObject
from slmbench.visible import visible
from slmbench.workflow.defaults import DETECT
from slmbench.workflow.sides import ComparedSide, alone, chosen_metrics, only_row, row_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = 1
_MOST_PAIRS = 200
"""Of past runs, looked at."""
_NEAR = 0.1
"""A share of a metric's range: models further apart say little of two that are close."""


@frozen(kw_only=True)
class DecisionPlan:
    """What is asked for. against: a run's folder, an output folder with one model's runs, or a row of `folder`.

    detect: the difference to find, in the metric's own units. power: how often, if it is there.
    """

    tasks: tuple[str, ...]
    against: str
    folder: str | None = None
    metrics: tuple[str, ...] | None = None
    detect: float = DETECT
    power: float = 0.8


@frozen
class PastSpread:
    """How much differences vary, and how that is known. pairs: of past runs that it is the median of; 0 if assumed.

    low, high: the least and the most of these pairs: of items that differ, or the standard deviation.
    """

    spread: PairSpread
    pairs: int = 0
    low: float | None = None
    high: float | None = None


@frozen(eq=False)
class PlannedTask:
    """One metric of one task. score: of the run that is compared with. items: that this run was scored on.

    whole: whether these are all items of the task. needed: items that find the difference. of_set: items of this set
    that say which one is better on all of it, with no claim beyond. power: that the difference is found with all items.
    shows: the smallest difference that all items find, None if they find none. seconds_per_item, tokens_per_item,
    tokens_per_s: of that run, None if it doesn't say.
    """

    run: ScoredRun = field(repr=False)
    metric: str
    score: float
    items: int
    whole: bool
    past: PastSpread
    needed: int
    of_set: int
    power: float
    shows: float | None
    seconds_per_item: float | None
    tokens_per_item: float | None
    tokens_per_s: float | None

    @property
    def task(self) -> str:
        return self.run.task

    @property
    def enough(self) -> bool:
        return self.needed <= self.items

    def seconds(self, items: int) -> float | None:
        """That so many items take on that run's machine."""
        return None if self.seconds_per_item is None else items * self.seconds_per_item


@frozen(eq=False)
class Planned:
    """All that was planned. seconds: for what is needed of every task, at most its items; None if a run doesn't say."""

    plan: DecisionPlan
    against: ComparedSide
    tasks: tuple[PlannedTask, ...]
    notices: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def seconds(self) -> float | None:
        parts = [task.seconds(min(task.needed, task.items)) for task in self.tasks]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


def plan_decision(plan: DecisionPlan, catalog: Catalog) -> Planned:
    """Raises UsageError if what is compared with isn't there, or has no run of a task."""
    with phase("reading runs"):
        side, store = _against(plan, catalog)
    have = list(dict.fromkeys(run.task for run in side.runs))
    for task in plan.tasks:
        if task not in have:
            raise UsageError(
                f"{task!r}: {visible(side.name)} has no run of it{did_you_mean(task, have)}; "
                f"`slmbench eval {visible(side.who.model)} --tasks {visible(task)}` makes one"
            )
    pairs = [alone(side, task) for task in plan.tasks]
    chosen = chosen_metrics(pairs, plan.metrics, catalog)
    tasks = []
    for pair, names in zip(pairs, chosen, strict=True):
        for name in (name for name, primary in names if primary):
            tasks.append(_planned(pair.a[0], name, store.runs, plan))
    return Planned(plan, side, tuple(tasks), store.notices, store.problems)


def _against(plan: DecisionPlan, catalog: Catalog) -> tuple[ComparedSide, LoadedRuns]:
    """What is compared with, and all runs beside it."""
    if plan.folder is not None:
        store = read_runs([Path(plan.folder)], catalog)
        return row_of(plan.against, plan.folder, store), store
    path = Path(plan.against)
    if not path.exists():
        raise UsageError(
            f"--against {plan.against!r}: no such folder; give a run's folder, or an output folder with one model's "
            "runs; a row of one with several is named with --in DIR"
        )
    side = only_row(plan.against, read_runs([path], catalog))
    run = path.parent if path.is_file() else path
    if not (run / "run.json").is_file():
        return side, read_runs([path], catalog)
    return side, read_runs([Path(os.path.abspath(run)).parent], catalog)


def _planned(run: ScoredRun, metric: str, store: Sequence[ScoredRun], plan: DecisionPlan) -> PlannedTask:
    import numpy as np

    part = next(one for one in run.metrics if one.name == metric)
    column = run.items.scores[metric].astype(np.float64)
    items = int(np.isfinite(column).sum())
    span = 1.0 if part.bounds is None else part.bounds[1] - part.bounds[0]
    if plan.detect > span:
        raise UsageError(f"--detect {plan.detect:g}: {run.task}/{metric} has scores of a range of {span:g}")
    past = _past_spread(run, metric, column, store, max(2 * plan.detect, _NEAR * span), plan.detect)
    needed = items_to_detect(plan.detect, past.spread, power=plan.power)
    cost, answers = run.record["cost"], max(1, run.n_samples)
    seconds, tokens = cost.get("seconds"), [cost.get("tokens_in"), cost.get("tokens_out")]
    return PlannedTask(
        run,
        metric,
        part.value,
        items,
        run.record.get("limit") is None and run.stopped is None,
        past,
        needed,
        items_to_detect(plan.detect, past.spread, power=plan.power, of=items),
        power_at(items, plan.detect, past.spread),
        detectable_at(items, past.spread, power=plan.power),
        None if seconds is None else seconds / max(1, len(run.items)),
        None if None in tokens else sum(tokens) / answers,
        cost.get("tokens_per_s"),
    )


def _past_spread(
    run: ScoredRun, metric: str, column: NDArray[np.float64], store: Sequence[ScoredRun], near: float, detect: float
) -> PastSpread:
    """Of pairs of past runs that were asked the same and score alike: with this run, else any two, else assumed."""
    import numpy as np

    same = {other.run_id: other for other in store if _comparable(run, other, metric)}
    who = {one.run_id: number for number, row in enumerate(rows_of(list(same.values()))) for one in row.runs}
    means = {key: float(np.nanmean(other.items.scores[metric])) for key, other in same.items()}
    own = who.get(run.run_id)
    others = [key for key in same if who[key] != own]
    any_two = [pair for pair in itertools.combinations(same, 2) if who[pair[0]] != who[pair[1]]]
    for pairs in ([(run.run_id, key) for key in others] if own is not None else [], any_two):
        close = [pair for pair in pairs if abs(means[pair[0]] - means[pair[1]]) <= near]
        close.sort(key=lambda pair: abs(means[pair[0]] - means[pair[1]]))
        found = [_spread(same[first], same[second], metric) for first, second in close[:_MOST_PAIRS]]
        if found:
            sizes = [one.sd if one.discordance is None else one.discordance for one in found]
            return PastSpread(typical(found), len(found), min(sizes), max(sizes))
    there = column[np.isfinite(column)]
    if np.isin(there, (0, 1)).all():
        share = float(there.mean())
        other = share + detect if share + detect <= 1 else share - detect
        return PastSpread(assumed_spread(share, other))
    return PastSpread(PairSpread(float(there.std(ddof=1)) * (2 * (1 - CORRELATION)) ** 0.5))


def _comparable(run: ScoredRun, other: ScoredRun, metric: str) -> bool:
    if run.comparability_key != other.comparability_key or metric not in other.items.scores:
        return False
    return run.metric_key(metric) == other.metric_key(metric)


def _spread(first: ScoredRun, second: ScoredRun, metric: str) -> PairSpread:
    one, other = aligned(first.items, second.items)
    return spread_of_pair(one.scores[metric], other.scores[metric], one.clusters)


def planned_json(planned: Planned) -> JsonObject:
    """What `plan --json` prints."""
    return {
        "schema": SCHEMA,
        "against": {"name": planned.against.name, "place": planned.against.place},
        "detect": planned.plan.detect,
        "power": planned.plan.power,
        "tasks": [_task_json(task) for task in planned.tasks],
        "seconds": planned.seconds,
        "notices": list(planned.notices),
    }


def _task_json(task: PlannedTask) -> JsonObject:
    return {
        "task": task.task,
        "run_id": task.run.run_id,
        "metric": task.metric,
        "score": task.score,
        "items": task.items,
        "whole": task.whole,
        "spread": {**asdict(task.past.spread), "pairs": task.past.pairs, "low": task.past.low, "high": task.past.high},
        "needed": task.needed,
        "enough": task.enough,
        "seconds": task.seconds(task.needed),
        "needed_of_set": task.of_set,
        "seconds_of_set": task.seconds(task.of_set),
        "power_with_all": task.power,
        "detectable_with_all": task.shows,
        "seconds_per_item": task.seconds_per_item,
        "tokens_per_item": task.tokens_per_item,
        "tokens_per_s": task.tokens_per_s,
        "hardware": task.run.record.get("hardware"),
    }
