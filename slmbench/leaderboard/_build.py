"""Checked runs into a leaderboard: which run a cell shows, what it is ranked with, and what a reader has to be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import evolve, frozen

from slmbench.errors import Problem, UsageError, did_you_mean
from slmbench.leaderboard._aggregate import aggregated, decides, shared_columns, with_claims
from slmbench.leaderboard._arrays import stacked
from slmbench.leaderboard._conditions import TaskCondition, conditions_of
from slmbench.leaderboard._notices import Notices
from slmbench.leaderboard._records import RunProblems, ScoredRun
from slmbench.leaderboard._rows import Who, adapter_of, costs_of, number_of, rows_of
from slmbench.leaderboard.table import (
    BEST,
    FORCED_BASE,
    IMPORTED,
    MIXED_WEIGHTS,
    NOT_TOLD_APART,
    SERVED,
    Leaderboard,
    LeaderboardCell,
    LeaderboardColumn,
    LeaderboardRow,
    Notice,
    ShownRun,
)
from slmbench.leaderboard.texts import natural
from slmbench.runs import AT_LIMIT, AT_STOP, RECORD, MetricPart
from slmbench.statistics.aggregate import seeds_estimate
from slmbench.statistics.columns import compare_column
from slmbench.statistics.estimate import estimate
from slmbench.values import Estimate
from slmbench.visible import visible

Shown = Mapping[int, tuple[ScoredRun, ...]]
"""A row's number -> the runs of its cell, the newest first."""


@frozen
class Metric:
    """One metric of a task under one condition. runs: of the rows that have it.

    version: of the metric, if runs of this condition have it in several; usual: whether it is the most common one.
    """

    name: str
    part: MetricPart
    version: str
    usual: bool
    runs: Shown


def build_leaderboard(
    runs: Sequence[ScoredRun],
    suite: str | None = None,
    tasks: Sequence[str] | None = None,
    notices: Iterable[str | Notice] = (),
    *,
    primary: Mapping[str, str] | None = None,
    aggregate: Sequence[str] | None = None,
    without: Collection[str] = (),
) -> Leaderboard:
    """The table of checked runs (`load_runs`).

    suite: its name, shown as the title. tasks: only these, in this order (default: all, by name). notices: what loading
    had to say; kept in front of what building has to say. primary: task -> its primary metric; a task's first one if
    it isn't there. aggregate: the tasks that rows are ordered by; all if None. without: names of rows to leave out.

    A column is a metric of a task under one condition (`Condition`), a row a model with its adapter (`rows_of`). A cell
    shows the newest run of its row under its condition, one without a badge before one with, or all seeds of it; a
    notice names the rest. Rows are ranked among all others of the column, those with one limit among themselves too;
    runs on sample rows, of twins, or stopped early are not. Scores and intervals are computed from the samples, never
    copied from the record. Raises RunProblems if comparable runs disagree about what a metric is, UsageError if no row
    has a name of `without`.
    """
    said = Notices(notices)
    if without:
        runs = _without(runs, without, tasks)
        said.left_out(without)
    known = sorted({run.task for run in runs}, key=natural)
    order = known if tasks is None else list(dict.fromkeys(tasks))
    said.tasks(known, order)
    rows = rows_of([run for run in runs if run.task in set(order)])
    names = {run.run_id: number for number, row in enumerate(rows) for run in row.runs}
    columns: list[LeaderboardColumn] = []
    cells: dict[int, dict[str, LeaderboardCell]] = defaultdict(dict)
    shown: dict[int, dict[str, ScoredRun]] = defaultdict(dict)
    by_task: dict[str, list[ScoredRun]] = defaultdict(list)
    for run in runs:
        by_task[run.task].append(run)
    for task in order:
        conditions = conditions_of(by_task[task]) if task in by_task else []
        said.conditions(task, conditions)
        for asked in conditions:
            for metric in _metrics(asked, rows, names, said):
                column, by_row = _column(asked, metric)
                columns.append(column)
                for number, cell in by_row.items():
                    cells[number][column.key] = cell
                    shown[number].update((run.run_id, run) for run in metric.runs[number])
    columns = _with_primaries(columns, primary or {})
    every = [run for picked in shown.values() for run in picked.values()]
    said.of_runs(every)
    shared = shared_columns(columns, list(cells.values()))
    tasks_of = {column.task: column.condition.key for column in shared}
    made = [_row(rows[number], cells[number], list(shown[number].values()), tasks_of) for number in cells]
    whole, ordered = aggregated(columns, made, shared, aggregate)
    if whole is not None:
        by_id = {run.run_id: run for run in every}
        ordered = with_claims(whole, {column.key: column for column in columns}, ordered, by_id)
    board = Leaderboard(
        suite,
        tuple(columns),
        ordered,
        (),
        {run.run_id: _shown_run(run) for run in every},
        whole,
        tuple(tasks_of),
    )
    said.mean(board, [row for row in ordered if decides(columns, row.cells)], aggregate)
    return evolve(board, notices=said.all())


def _without(runs: Sequence[ScoredRun], names: Collection[str], tasks: Sequence[str] | None) -> list[ScoredRun]:
    """The runs but those of the rows of these names, as the whole table has them."""
    rows = {row.name: row for row in rows_of([run for run in runs if tasks is None or run.task in set(tasks)])}
    if unknown := [name for name in names if name not in rows]:
        raise UsageError(
            "; ".join(f"--without: no row is {visible(name)!r}{did_you_mean(name, rows)}" for name in unknown)
        )
    gone = {run.run_id for name in names for run in rows[name].runs}
    return [run for run in runs if run.run_id not in gone]


def _metrics(asked: TaskCondition, rows: Sequence[Who], names: Mapping[str, int], said: Notices) -> list[Metric]:
    """Every metric of a condition, in the order of the newest runs' records; what no cell shows is said.

    A metric that runs scored in several versions is several metrics, the most common one first.
    """
    candidates: dict[int, list[ScoredRun]] = defaultdict(list)
    for run in sorted(asked.runs, key=lambda run: (not run.badges, run.created, run.run_id), reverse=True):
        candidates[names[run.run_id]].append(run)
    found: dict[str, dict[str, dict[int, list[ScoredRun]]]] = {}
    for number, runs in candidates.items():
        for run in runs:
            for part in run.metrics:
                keys = found.setdefault(part.name, {})
                keys.setdefault(run.metric_key(part.name), {}).setdefault(number, []).append(run)
    made = []
    for name, keys in found.items():
        by_number = sorted(keys.items(), key=lambda entry: -len(entry[1]))
        for key, having in by_number:
            chosen = {number: _newest_of_seeds(rows[number], runs) for number, runs in having.items()}
            _check_agreement(name, [run for runs in chosen.values() for run in runs])
            first = next(iter(chosen.values()))[0]
            version = "" if len(keys) == 1 else _version(first, name) or key[:6]
            made.append(Metric(name, _part(first, name), version, key == by_number[0][0], chosen))
    for number, runs in candidates.items():
        shown = {run.run_id for metric in made for run in metric.runs.get(number, ())}
        first, *_ = [run for run in runs if run.run_id in shown]
        said.passed_over(rows[number], asked.condition, first, [run for run in runs if run.run_id not in shown])
    return made


def _newest_of_seeds(who: Who, runs: Sequence[ScoredRun]) -> tuple[ScoredRun, ...]:
    """One run for each seed, the first of them; runs: sorted, those that are shown rather first."""
    by_seed: dict[tuple[int, int], ScoredRun] = {}
    for run in runs:
        by_seed.setdefault(who.seeds_of(run), run)
    return tuple(run for run in by_seed.values() if run.badges == runs[0].badges)


def _version(run: ScoredRun, name: str) -> str:
    """`version 2`, of the metric that gives a value; '' if the record doesn't say."""
    part, told = _part(run, name), run.record.get("scorer") or {}
    versions = zip(str(told.get("id")).split("+"), str(told.get("version")).split("+"), strict=False)
    version = part.version or dict(versions).get(part.scorer or name)
    return f"version {version}" if version else ""


def _part(run: ScoredRun, name: str) -> MetricPart:
    return next(metric for metric in run.metrics if metric.name == name)


def _check_agreement(name: str, runs: Sequence[ScoredRun]) -> None:
    """Runs with one key have one scorer; if they don't agree which way is up, a record was edited."""
    told = {run.run_id: _part(run, name).higher_is_better for run in runs}
    if len(set(told.values())) > 1:
        raise RunProblems(
            [
                Problem(str(run.folder / RECORD), 0, 0, f"{name!r}: higher_is_better is {told[run.run_id]}")
                for run in runs
            ]
        )


def _column(asked: TaskCondition, metric: Metric) -> tuple[LeaderboardColumn, dict[int, LeaderboardCell]]:
    import numpy as np

    part, condition = metric.part, asked.condition
    where = f"{condition.task}@{condition.slug}" if condition.slug else condition.task
    key = f"{where}/{metric.name}" + ("" if metric.usual else f"@{metric.version.replace(' ', '-')}")
    up = part.higher_is_better
    worst = part.chance if part.chance is not None else None if part.bounds is None else part.bounds[0 if up else 1]
    best = None if part.bounds is None else part.bounds[1 if up else 0]
    if best is None or worst == best or part.describes:
        worst = best = None
    flat = [run for runs in metric.runs.values() for run in runs]
    every, clusters = stacked(flat, metric.name)
    start, by_row, ranked, rows, seeds = 0, {}, [], [], []
    for number, runs in metric.runs.items():
        scores = every[start : start + len(runs)]
        start += len(runs)
        made = _estimate(runs, metric.name, scores, clusters)
        badges = tuple(dict.fromkeys(badge for run in runs for badge in run.badges))
        cell = LeaderboardCell(made, tuple(run.run_id for run in runs), badges)
        if len(runs) > 1:
            values = [float(np.nanmean(one)) for one in scores]
            cell = evolve(cell, seeds=tuple(_seed(run, runs) for run in runs), values=tuple(values))
        by_row[number] = cell
        if all(badge.startswith("limit ") for badge in badges) and not part.describes:
            ranked.append(number)
            rows.append(scores.mean(axis=0))
            seeds.append(scores)
    column = LeaderboardColumn(
        key, condition.task, metric.name, up, condition, False, part.chance, worst, best, metric_version=metric.version
    )
    column = evolve(column, ranked=len(ranked), in_process=any(run.examined_in_process for run in flat))
    if not ranked:
        return column, by_row
    several = any(len(one) > 1 for one in seeds)
    tests = compare_column(np.array(rows), higher_is_better=up, clusters=clusters, seeds=seeds if several else None)
    floor = part.chance if part.chance is not None else None if part.bounds is None else part.bounds[0 if up else 1]
    for place, number in enumerate(ranked):
        cell, ranks = by_row[number], tests.ranks[place]
        claim = None
        if tests.best[place] and len(ranked) > 1 and _beats(cell.estimate, floor, up):
            claim = BEST if tests.alone else NOT_TOLD_APART
        by_row[number] = evolve(cell, rank_low=ranks.low, rank_high=ranks.high, claim=claim)
    return evolve(column, detectable=tests.detectable), by_row


def _beats(made: Estimate, floor: float | None, up: bool) -> bool:
    """Whether a score is better than chance, or than the worst possible one, beyond its interval."""
    if floor is None:
        return True
    end = made.value if made.method == "none" else made.ci_low if up else made.ci_high
    return end > floor if up else end < floor


def _seed(run: ScoredRun, runs: Sequence[ScoredRun]) -> int:
    """What tells a run of a cell from the others: its training's seed, or its own."""
    trained = {adapter_of(one).get("train_seed") for one in runs}
    seed = adapter_of(run).get("train_seed") if len(trained) > 1 else run.record.get("seed")
    return int(seed or 0)


def _estimate(runs: Sequence[ScoredRun], name: str, scores: object, clusters: object) -> Estimate:
    """Of a cell. scores: (runs, items) of these runs, NaN where one has no score.

    A run that was stopped early has no interval: that of a fixed number of items doesn't hold if the scores themselves
    said when to stop.
    """
    made = _estimate_of_items(runs, name, scores, clusters)
    return made if runs[0].stopped is None else evolve(made, ci_low=made.value, ci_high=made.value, method="none")


def _estimate_of_items(runs: Sequence[ScoredRun], name: str, scores: object, clusters: object) -> Estimate:
    import numpy as np

    assert isinstance(scores, np.ndarray)
    first = runs[0]
    if len(runs) == 1 and name in first.pooled:
        return first.pooled[name]
    there = ~np.isnan(scores).any(axis=0)
    labels = clusters[there] if isinstance(clusters, np.ndarray) else None
    if len(runs) > 1:
        return seeds_estimate(scores[:, there], labels, _part(first, name).bounds)
    texts = None if labels is None else [None if label < 0 else str(label) for label in labels.tolist()]
    return estimate(scores[0, there].tolist(), texts, _part(first, name).bounds)


def _with_primaries(columns: Sequence[LeaderboardColumn], primary: Mapping[str, str]) -> list[LeaderboardColumn]:
    """The columns, one metric of each condition marked as primary: the declared one, the first one otherwise."""
    chosen: dict[str, str] = {}
    for column in columns:
        if column.metric == primary.get(column.task):
            chosen.setdefault(column.condition.key, column.key)
    for column in columns:
        chosen.setdefault(column.condition.key, column.key)
    return [evolve(column, primary=column.key == chosen[column.condition.key]) for column in columns]


def _row(
    who: Who, cells: Mapping[str, LeaderboardCell], runs: Sequence[ScoredRun], shared: Mapping[str, str]
) -> LeaderboardRow:
    badges = list(dict.fromkeys(badge for cell in cells.values() for badge in cell.badges))
    if len({run.weights for run in runs}) > 1:
        badges.append(MIXED_WEIGHTS)
    if any(run.record["model"].get("served") for run in runs):  # A server answered, and is taken on its word.
        badges.append(SERVED)
    if any(run.forced_base for run in runs):  # Ranked all the same: it is what this base and this adapter score.
        badges.append(FORCED_BASE)
    if any(run.imported for run in runs):  # Ranked with those that were asked the same, by digest.
        badges.append(IMPORTED)
    newest = max(runs, key=lambda run: run.created)
    adapter = adapter_of(newest)
    seeds = {seed for cell in cells.values() for seed in cell.seeds}
    return LeaderboardRow(
        who.name,
        who.model,
        who.adapter,
        tuple(badges),
        dict(cells),
        costs_of(who, runs, shared),
        who.quantization,
        newest.method,
        who.variant,
        adapter.get("rank"),
        adapter.get("recipe"),
        tuple(sorted(seeds)),
    )


def _shown_run(run: ScoredRun) -> ShownRun:
    remarks = run.record.get("remarks", {})
    return ShownRun(
        run.run_id,
        run.task,
        run.condition_key,
        str(run.record["created"]),
        run.record.get("seed"),
        adapter_of(run).get("train_seed"),
        {key: number_of(value) for key, value in run.record["cost"].items()},
        run.record.get("latency") is not None,
        remarks.get(AT_LIMIT, 0),
        remarks.get(AT_STOP, 0),
    )
