"""Where a router sent the items of its runs, and what that cost against the adapter that was made for each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from slmbench.errors import FileError
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard._samples import read_samples
from slmbench.statistics.estimate import estimate
from slmbench.values import Estimate, JsonObject

BY_CHANCE, BY_TASK = "random", "oracle"
"""What is called a choice, but is no router: the baseline, and what a router is held against."""
BASE = "the base"


@frozen
class RoutedTask:
    """A task's items. own: the adapter that is for it, BASE if none is; None if the run doesn't say it.

    counts: adapter, or BASE -> items that went there. metric: the task's first. regret: the oracle's score less the
    router's, paired by item, positive where the router lost; None without the oracle's run.
    """

    task: str
    n: int
    own: str | None
    counts: Mapping[str, int]
    metric: str
    regret: Estimate | None = None


@frozen
class Routing:
    """A router's runs. name: of its row. columns: the adapters and the base. remark: what the router says of itself.

    accuracy: share of the items of tasks with an adapter that went to it. false_routes: share of the items of tasks
    without one that went to an adapter. regret: over all items of tasks with an adapter, if their metrics have one
    range. None where there is no such item, and regret without an oracle's run. ms: the median milliseconds of routing
    an item, the mean over items of their tasks' medians; None of runs that don't say it.
    """

    name: str
    columns: tuple[str, ...]
    tasks: tuple[RoutedTask, ...]
    remark: str = ""
    accuracy: Estimate | None = None
    false_routes: Estimate | None = None
    regret: Estimate | None = None
    ms: float | None = None

    def as_json(self) -> JsonObject:
        return {
            "name": self.name,
            "remark": self.remark,
            "accuracy": _json(self.accuracy),
            "false_routes": _json(self.false_routes),
            "regret": _json(self.regret),
            "ms": self.ms,
            "tasks": {
                one.task: {
                    "n": one.n,
                    "own": one.own,
                    "counts": dict(one.counts),
                    "metric": one.metric,
                    "regret": _json(one.regret),
                }
                for one in self.tasks
            },
        }


def routings(runs: Iterable[ScoredRun]) -> list[Routing]:
    """One for each router with runs among these, in their order; a run whose samples have gone is left out."""
    routers: dict[tuple[str, str, str], dict[str, ScoredRun]] = {}
    oracles: dict[tuple[str, str, str, str], ScoredRun] = {}
    for run in runs:
        adapter = run.record.get("adapter") or {}
        if adapter.get("choices") is None or adapter["name"] == BY_CHANCE:
            continue
        among = repr(sorted(adapter["choices"].items()))
        if adapter["name"] == BY_TASK:
            oracles[run.model, among, run.task, run.comparability_key] = run
        else:
            routers.setdefault((run.name, among, str(adapter.get("sha256"))), {})[run.task] = run
    return [
        _routing(
            list(its.values()),
            {run.task: oracles.get((run.model, among, run.task, run.comparability_key)) for run in its.values()},
        )
        for (_, among, _), its in routers.items()
    ]


def _routing(runs: Sequence[ScoredRun], oracles: Mapping[str, ScoredRun | None]) -> Routing:
    columns = (*runs[0].record["adapter"]["choices"], BASE)
    tasks: list[RoutedTask] = []
    right: list[float] = []
    stray: list[float] = []
    lost: list[float] = []
    clusters: list[str | None] = []
    ranges = set()
    for run in runs:
        went, oracle = _went(run), oracles[run.task]
        own = _own(run, oracle)
        regret = None
        if oracle is not None:
            differences, labels = _lost(run, oracle)
            reach = _reach(run)
            if differences:
                regret = estimate(differences, labels, reach)
            if own != BASE:
                lost += differences
                # A cluster's name is known within its task alone.
                clusters += [None if label is None else f"{run.task} {label}" for label in labels]
                ranges.add(reach)
        if own == BASE:
            stray += [float(name != BASE) for name in went.values()]
        elif own is not None:
            right += [float(name == own) for name in went.values()]
        counts = {name: sum(each == name for each in went.values()) for name in columns}
        tasks.append(RoutedTask(run.task, len(went), own, counts, run.metrics[0].name, regret))
    remarks = [text for text in runs[0].record.get("remarks") or {} if text.startswith("routed by ")]
    return Routing(
        runs[0].name,
        columns,
        tuple(tasks),
        remarks[0] if remarks else "",
        estimate(right, range=(0.0, 1.0)) if right else None,
        estimate(stray, range=(0.0, 1.0)) if stray else None,
        estimate(lost, clusters, next(iter(ranges))) if lost and len(ranges) == 1 else None,
        _ms(runs),
    )


def _own(run: ScoredRun, oracle: ScoredRun | None) -> str | None:
    """The adapter that is for a run's task, BASE if there is none; None if neither its record nor an oracle says it."""
    owners = run.record["adapter"].get("owners")
    if owners is not None:
        return str(owners.get(run.task, BASE))
    return None if oracle is None else Counter(_went(oracle).values()).most_common(1)[0][0]


def _ms(runs: Sequence[ScoredRun]) -> float | None:
    told = [((run.record.get("cost") or {}).get("choice_ms"), run.record["dataset"].get("n")) for run in runs]
    known = [(ms, n) for ms, n in told if ms is not None and n]
    total = sum(n for _, n in known)
    return sum(ms * n for ms, n in known) / total if total else None


def _went(run: ScoredRun) -> dict[str, str]:
    """Item -> the adapter that answered it, or BASE."""
    try:
        return {str(one["item_id"]): one.get("adapter") or BASE for one in read_samples(run) if not one.get("epoch")}
    except (OSError, FileError):
        return {}


def _lost(run: ScoredRun, oracle: ScoredRun) -> tuple[list[float], list[str | None]]:
    """(what the oracle's score of each item is above the router's, each item's cluster)."""
    metric = run.metrics[0]
    ours, theirs = run.scores[metric.name], oracle.scores.get(metric.name, {})
    items = [item for item in ours if item in theirs]
    sign = 1 if metric.higher_is_better else -1
    return [sign * (theirs[item] - ours[item]) for item in items], [run.clusters.get(item) for item in items]


def _reach(run: ScoredRun) -> tuple[float, float] | None:
    """The lowest and highest difference of two scores; None where a score has no bounds, or is a pseudo-value."""
    metric = run.metrics[0]
    if metric.range is None or metric.pooled:
        return None
    width = metric.range[1] - metric.range[0]
    return -width, width


def _json(value: Estimate | None) -> JsonObject | None:
    if value is None:
        return None
    return {
        "value": value.value,
        "ci_low": value.ci_low,
        "ci_high": value.ci_high,
        "n": value.n,
        "method": value.method,
    }
