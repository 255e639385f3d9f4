"""What a reader of a leaderboard has to know, by kind: a sentence for all cases, and the cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from slmbench.leaderboard._conditions import TaskCondition
from slmbench.leaderboard._mean_gaps import gaps_of, told_of_gaps
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard._rows import Who, adapter_of
from slmbench.leaderboard.table import Condition, Leaderboard, LeaderboardRow, Notice
from slmbench.runs import AT_LIMIT
from slmbench.visible import visible

LOADING = "loading"
MISSING = "missing"
MEAN = "mean"
CONDITIONS = "conditions"
UNRANKED = "not ranked"
OLDER = "not shown"
CUT = "cut answers"
FORCED = "forced base"
ALL = "all runs"
# How many cases are told one by one before they are folded into one sentence.
FEW = 3


class Notices:
    """Collects what is said while a leaderboard is built."""

    def __init__(self, first: Iterable[str | Notice]) -> None:
        self._said: dict[str, dict[str, None]] = defaultdict(dict)
        self._given: list[Notice] = []
        self._mean: Notice | None = None
        self._passed: list[str] = []
        for notice in first:
            if isinstance(notice, Notice):
                self._given.append(notice)
            else:
                self._said[LOADING][notice] = None

    def left_out(self, names: Iterable[str]) -> None:
        """Which rows somebody left out."""
        self._said[LOADING][f"left out, as asked for: {', '.join(visible(name) for name in names)}"] = None

    def tasks(self, known: Sequence[str], order: Sequence[str]) -> None:
        """Which tasks have runs and aren't in the table, and which are in it without a run."""
        others = [task for task in known if task not in order]
        if others:
            self._said[MISSING][f"not in this table: runs of {', '.join(visible(task) for task in others)}"] = None
        for task in order:
            if task not in known:
                self._said[MISSING][f"{visible(task)}: no finished run"] = None

    def conditions(self, task: str, asked: Sequence[TaskCondition]) -> None:
        """In which ways a task was asked, if there are several."""
        if len(asked) > 1:
            ways = "; ".join(visible(one.condition.label or "as most") for one in asked)
            told = f"{visible(task)}: asked in {len(asked)} ways, each in columns of its own: {ways}"
            self._said[CONDITIONS][told] = None

    def passed_over(self, who: Who, condition: Condition, first: ScoredRun, rest: Sequence[ScoredRun]) -> None:
        """Which runs of a cell are not shown, and why."""
        if not rest:
            return
        where = visible(f"{who.name} on {condition.task}" + (f" ({condition.label})" if condition.label else ""))
        newest = all(first.created >= run.created for run in rest)
        reason = "the newest" if newest else "the newest that has no badge"
        passed = ", ".join(f"{visible(run.run_id)}{_differences(first, run)}" for run in rest)
        self._passed.extend(run.run_id for run in rest)
        told = f"{where}: {len(rest) + 1} finished runs; {visible(first.run_id)} is shown ({reason}), not {passed}"
        self._said[OLDER][told] = None

    def of_runs(self, runs: Sequence[ScoredRun]) -> None:
        """What the shown runs themselves say: badges, cut answers, forced bases."""
        for told in _unranked(runs):
            self._said[UNRANKED][told] = None
        for run in runs:
            if cut := run.record.get("remarks", {}).get(AT_LIMIT, 0):
                told = f"{visible(run.name)} on {visible(run.task)}: {cut} of {run.n_samples} answers were {AT_LIMIT}"
                self._said[CUT][told] = None
            if run.forced_base:
                base = visible(run.forced_base)
                told = f"{visible(run.name)}: its adapter {base}, and was put on this base, as requested"
                self._said[FORCED][told] = None

    def mean(self, board: Leaderboard, counted: Sequence[LeaderboardRow], declared: Sequence[str] | None) -> None:
        """What the mean leaves out. counted: the rows that decide it. declared: the suite's tasks for it."""
        whole = board.aggregate
        inside = {column.task for column in board.columns if whole is not None and column.key in whole.columns}
        gaps = gaps_of(
            board.columns,
            board.rows if declared else counted,
            declared or [task for task in board.averageable if task not in inside],
        )
        told = told_of_gaps(board, gaps, [row.name for row in counted], bool(declared))
        self._mean = None if told is None else Notice(MEAN, *told)
        unranged = {one.task: one for one in board.columns if one.primary and one.task not in board.averageable}
        if board.averages and not declared:
            for task, column in unranged.items():
                told_of = f"{visible(task)}: not in the mean, as {visible(column.metric)} has no best score"
                self._said[MEAN][told_of] = None
        if whole is not None and board.averages and all(row.mean_rank_low is None for row in board.rows):
            apart = [all(row.cells[key].rank_low for key in whole.columns) for row in board.rows if row.aggregate]
            if sum(apart) > 1:
                self._said[MEAN]["the mean has no ranks: there are too many scores to hold them all at once"] = None

    def all(self) -> tuple[Notice, ...]:
        """By kind; a few cases stand for themselves, more are folded."""
        made = list(self._given)
        for kind in (LOADING, MISSING, MEAN, CONDITIONS, UNRANKED, OLDER, CUT, FORCED):
            if kind == MEAN and self._mean is not None:
                made.append(self._mean)
            details = tuple(self._said.get(kind, ()))
            if len(details) <= FEW or kind in (MISSING, UNRANKED):
                made.extend(Notice(kind, one) for one in details)
            else:
                made.append(Notice(kind, self._summary(kind, len(details)), details))
        return tuple(made)

    def _summary(self, kind: str, count: int) -> str:
        return {
            LOADING: f"{count} folders and runs were left out",
            MEAN: f"{count} tasks aren't in the mean, as their metrics have no best score",
            CONDITIONS: f"{count} tasks were asked in several ways, each in columns of its own",
            OLDER: f"{len(self._passed)} finished runs aren't shown: newer ones of the same model and task are",
            CUT: f"{count} runs have answers that were {AT_LIMIT}",
            FORCED: f"{count} adapters were put on another base than theirs, as requested",
        }[kind]


def _unranked(runs: Sequence[ScoredRun]) -> list[str]:
    """Which runs have badges: each run once. Long lists are cut; every row and cell has its badge."""
    tasks_of: dict[tuple[str, ...], dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        if run.badges:
            tasks_of[run.badges][visible(run.name)][visible(run.task)] = None
    said = []
    for badges, by_name in sorted(tasks_of.items()):
        names_of: dict[str, list[str]] = defaultdict(list)
        for name, tasks in list(by_name.items())[:FEW]:
            names_of[_some(list(tasks))].append(name)
        parts = "; ".join(f"{', '.join(names)} on {tasks}" for tasks, names in names_of.items())
        if len(by_name) > 1 and all(run.badges == badges for run in runs):
            parts = ALL
        more = f"; and {len(by_name) - FEW} more models" if len(by_name) > FEW and parts != ALL else ""
        if all(badge.startswith("limit ") for badge in badges):
            said.append(f"the first items alone, ranked among themselves ({', '.join(badges)}): {parts}{more}")
        else:
            said.append(f"not ranked ({', '.join(badges)}): {parts}{more}")
    return said


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _differences(first: ScoredRun, other: ScoredRun) -> str:
    """` (seed 1)`: how another run of the same cell differs in what a person would have set; empty if it doesn't."""
    parts = [badge for badge in other.badges if badge not in first.badges]
    for label, mine, theirs in (
        ("seed", first.record.get("seed"), other.record.get("seed")),
        ("training seed", adapter_of(first).get("train_seed"), adapter_of(other).get("train_seed")),
        ("dtype", first.record["model"].get("dtype"), other.record["model"].get("dtype")),
        ("revision", first.record["model"].get("revision"), other.record["model"].get("revision")),
        ("engine", first.record.get("engine"), other.record.get("engine")),
    ):
        if mine != theirs:
            parts.append(f"{label} {visible(str(theirs))}")
    if _weights(first) != _weights(other):
        parts.append("other weights")
    return f" ({', '.join(parts)})" if parts else ""


def _weights(run: ScoredRun) -> tuple[object, object]:
    return run.weights, adapter_of(run).get("sha256")
