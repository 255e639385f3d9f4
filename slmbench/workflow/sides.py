"""Which runs are compared: A and B found by folder or by row, their tasks paired, their metrics chosen."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import field, frozen

from slmbench.catalog import Catalog
from slmbench.errors import UsageError, did_you_mean
from slmbench.leaderboard import LoadedRuns, RunProblems, ScoredRun, Who, conditions_of, read_runs, rows_of
from slmbench.leaderboard.texts import natural
from slmbench.visible import visible
from slmbench.workflow.defaults import SHOWN_ITEMS
from slmbench.workflow.rank import primaries


@frozen(kw_only=True)
class ComparePlan:
    """What is asked for. a, b: run folders, output folders with one model's runs, or rows of a folder by their names:
    of the one of `folders`, or a of the first and b of the second.

    tasks, metrics: only these; metrics may be task/metric. margin: a loss that doesn't count, in a metric's own units.
    items: how many are shown of a task. no_texts: nothing of what was asked or answered is shown.
    """

    a: str
    b: str
    folders: tuple[str, ...] = ()
    tasks: tuple[str, ...] | None = None
    metrics: tuple[str, ...] | None = None
    margin: float = 0.0
    items: int = SHOWN_ITEMS
    no_texts: bool = False


@frozen(eq=False)
class ComparedSide:
    """A or B. who: a leaderboard's row. place: the folder that was given."""

    who: Who = field(repr=False)
    place: str

    @property
    def name(self) -> str:
        return self.who.name

    @property
    def runs(self) -> tuple[ScoredRun, ...]:
        return self.who.runs

    def seeds(self, task: str, key: str | None) -> tuple[ScoredRun, ...]:
        """The runs of a task under a condition, the newest first, one a seed; without a key the newest run alone."""
        runs = [run for run in self.runs if run.task == task and key in (None, run.condition_key)]
        runs.sort(key=lambda run: (not run.badges, run.created, run.run_id), reverse=True)
        by_seed: dict[tuple[int, int], ScoredRun] = {}
        for run in runs if key is not None else runs[:1]:
            by_seed.setdefault(self.who.seeds_of(run), run)
        return tuple(run for run in by_seed.values() if run.badges == runs[0].badges)


@frozen(eq=False)
class TaskPair:
    """What is compared of one task: the runs of both, one a seed. label: of the condition, '' if it is the only one."""

    a: tuple[ScoredRun, ...]
    b: tuple[ScoredRun, ...]
    label: str = ""

    @property
    def task(self) -> str:
        return self.a[0].task


def sides_of(plan: ComparePlan, catalog: Catalog) -> tuple[tuple[ComparedSide, ComparedSide], LoadedRuns]:
    """(A and B, all runs that were read). Raises UsageError, RunProblems."""
    if len(plan.folders) > 2:
        raise UsageError(f"--in is given {len(plan.folders)} times; A and B are in one folder, or in two")
    if plan.folders:
        loaded = [read_runs([Path(folder)], catalog) for folder in plan.folders]
        a = row_of(plan.a, plan.folders[0], loaded[0])
        b = row_of(plan.b, plan.folders[-1], loaded[-1])
        return _apart(a, b), together(loaded)
    missing = [name for name in (plan.a, plan.b) if not os.path.exists(name)]
    if missing:
        raise UsageError(
            f"{missing[0]}: no such folder; give a run's folder, or an output folder with one model's runs "
            "(as --out of eval); rows of one output folder are named with --in DIR"
        )
    first, second = (read_runs([Path(name)], catalog) for name in (plan.a, plan.b))
    return _apart(only_row(plan.a, first), only_row(plan.b, second)), together([first, second])


def _apart(a: ComparedSide, b: ComparedSide) -> tuple[ComparedSide, ComparedSide]:
    if {run.folder.resolve() for run in a.runs} == {run.folder.resolve() for run in b.runs}:
        raise UsageError(
            f"A and B are the same runs, of {visible(a.name)}; two conditions of one model are compared by the ids of "
            "their runs (`slmbench runs list`)"
        )
    return a, b


def together(loaded: Sequence[LoadedRuns]) -> LoadedRuns:
    """All of several readings as one."""
    return LoadedRuns(
        tuple(run for one in loaded for run in one.runs),
        tuple(dict.fromkeys(notice for one in loaded for notice in one.notices)),
        tuple(problem for one in loaded for problem in one.problems),
    )


def row_of(name: str, folder: str, loaded: LoadedRuns) -> ComparedSide:
    """A row of a folder's leaderboard, or one of its runs by its id or the digits at its end.

    Raises UsageError if there is none; RunProblems if it may be among runs that were left out.
    """
    rows = rows_of(loaded.runs)
    by_name = {who.name: who for who in rows}
    # A shell's word is easier to type without the blanks.
    close = [who for who in rows if who.name.replace(" ", "") == name.replace(" ", "")]
    found = by_name.get(name) or (close[0] if len(close) == 1 else None)
    of_id = [run for run in loaded.runs if name == run.run_id or run.run_id.endswith(f"__{name}")]
    if found is None and len(of_id) == 1:
        return ComparedSide(next(who for who in rows_of(of_id)), folder)
    if found is None:
        if loaded.problems:
            raise RunProblems(list(loaded.problems))
        there = ", ".join(visible(other) for other in by_name) or "no finished run"
        raise UsageError(f"{folder}: no row {name!r}{_did_you_mean(name, by_name)}; there are: {there}")
    return ComparedSide(found, folder)


def only_row(place: str, loaded: LoadedRuns) -> ComparedSide:
    """The one row of a folder's leaderboard. Raises UsageError if there are several, or none."""
    if loaded.problems:
        raise RunProblems(list(loaded.problems))
    rows = rows_of(loaded.runs)
    if not rows:
        raise UsageError(f"{place}: no finished run; {'; '.join(loaded.notices)}")
    if len(rows) > 1:
        there = ", ".join(visible(who.name) for who in rows)
        raise UsageError(
            f"{place} has results of {len(rows)} models: {there}; name a row in place of the folder, as "
            f"{visible(repr(rows[0].name))}, and add --in {place}"
        )
    return ComparedSide(rows[0], place)


def alone(side: ComparedSide, task: str) -> TaskPair:
    """The newest run of a task, beside itself."""
    return TaskPair(side.seeds(task, None), side.seeds(task, None))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def pairs_of(a: ComparedSide, b: ComparedSide, plan: ComparePlan, notices: list[str]) -> list[TaskPair]:
    """Each task that both have, under each condition that both have.

    Full runs go before limited ones. Where no condition is shared, the newest of each are taken.
    """
    shared = [task for task in dict.fromkeys(run.task for run in a.runs) if any(run.task == task for run in b.runs)]
    if unknown := [task for task in plan.tasks or () if task not in shared]:
        have = f"A has {_tasks(a)}; B has {_tasks(b)}"
        raise UsageError(f"--tasks {unknown[0]!r}: not a task of both{did_you_mean(unknown[0], shared)}; {have}")
    if not shared:
        raise UsageError(f"no task is there of both: A has {_tasks(a)}; B has {_tasks(b)}")
    found = []
    for task in plan.tasks or sorted(shared, key=natural):
        asked = [
            (one.condition, one.runs) for one in conditions_of([run for run in (*a.runs, *b.runs) if run.task == task])
        ]
        both = [entry for entry in asked if all(any(run in side.runs for run in entry[1]) for side in (a, b))]
        both = [entry for entry in both if not any(run.badges for run in entry[1])] or both
        if not both:
            found.append(TaskPair(a.seeds(task, None), b.seeds(task, None)))
        for condition, _ in both:
            label = condition.label if len(both) > 1 else ""
            found.append(TaskPair(a.seeds(task, condition.key), b.seeds(task, condition.key), label))
    for one, other, which in ((a, b, "A"), (b, a, "B")):
        alone = sorted({run.task for run in one.runs} - {run.task for run in other.runs})
        if alone and plan.tasks is None:
            notices.append(f"of {which} alone: {', '.join(visible(task) for task in alone)}")
    return found


def _tasks(side: ComparedSide) -> str:
    return ", ".join(sorted({visible(run.task) for run in side.runs}))


def chosen_metrics(
    pairs: Sequence[TaskPair], metrics: Sequence[str] | None, catalog: Catalog
) -> list[list[tuple[str, bool]]]:
    """Of each pair (name, whether it is primary): all that both have, or those that are asked for, which all count."""
    chosen: list[list[tuple[str, bool]]] = []
    known: dict[str, None] = {}
    used = set()
    declared = primaries([pair.task for pair in pairs], catalog)
    for pair in pairs:
        have = [{metric.name for metric in run.metrics} for run in (*pair.a, *pair.b)]
        both = [metric.name for metric in pair.a[0].metrics if all(metric.name in names for names in have)]
        known |= dict.fromkeys(f"{pair.task}/{name}" for name in both)
        if metrics is None:
            primary = declared.get(pair.task)
            primary = primary if primary in both else next(iter(both), None)
            chosen.append([(name, name == primary) for name in both])
            continue
        wanted = [name for name in both if {name, f"{pair.task}/{name}"} & set(metrics)]
        used |= {name for name in metrics for one in wanted if name in (one, f"{pair.task}/{one}")}
        chosen.append([(name, True) for name in wanted])
    if missing := [name for name in metrics or () if name not in used]:
        names = {*known, *(name.partition("/")[2] for name in known)}
        raise UsageError(
            f"--metrics {missing[0]!r}: not a metric of both{did_you_mean(missing[0], names)}; "
            f"there are: {', '.join(map(visible, known))}"
        )
    return chosen
