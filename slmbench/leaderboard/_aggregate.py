"""The one number that rows are ordered by, and the order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from slmbench.leaderboard._arrays import stacked
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.table import (
    BEST,
    NOT_TOLD_APART,
    Aggregate,
    LeaderboardCell,
    LeaderboardColumn,
    LeaderboardRow,
)
from slmbench.leaderboard.texts import natural
from slmbench.statistics.aggregate import aggregate_estimate, normalised_estimate
from slmbench.statistics.columns import ScoredTask, compare_aggregate
from slmbench.values import Estimate

MOST_SCORES = 50_000_000
"""Scores of 8 bytes that are held at once to compare rows in a mean of tasks."""
Cells = Mapping[str, LeaderboardCell]


def decides(columns: Sequence[LeaderboardColumn], cells: Cells) -> bool:
    """Whether a row counts for which tasks all rows have: one that has no task under its most common condition (a
    `--limit` beside whole runs) doesn't. A score of a run that was stopped early is no mean to go by."""
    usual = (column.key for column in columns if column.primary and not column.condition.slug)
    return any(key in cells and not cells[key].stopped for key in usual)


def shared_columns(columns: Sequence[LeaderboardColumn], rows: Sequence[Cells]) -> list[LeaderboardColumn]:
    """The primary columns that all rows that decide (`decides`) have, one a task: that of the first of the task's
    conditions that all have."""
    counted = [cells for cells in rows if decides(columns, cells)]
    found: dict[str, LeaderboardColumn] = {}
    for column in columns:
        key = column.key
        if column.primary and counted and all(key in cells and not cells[key].stopped for cells in counted):
            found.setdefault(column.task, column)
    return list(found.values())


def aggregated(
    columns: Sequence[LeaderboardColumn],
    rows: Sequence[LeaderboardRow],
    shared: Sequence[LeaderboardColumn],
    tasks: Sequence[str] | None,
) -> tuple[Aggregate | None, tuple[LeaderboardRow, ...]]:
    """(what the rows are ordered by, the rows in that order).

    tasks: the declared ones that count; rows that lack one of them have no aggregate then. None: those of `shared`.
    """
    counted = [column for column in shared if column.best is not None]
    if tasks is not None:
        first = {column.task: column for column in reversed(columns) if column.primary and not column.condition.slug}
        counted = [first[task] for task in tasks if task in first and first[task].best is not None]
    made = [evolve(row, aggregate=_mean(row, counted)) for row in rows] if counted else list(rows)
    some = any(row.aggregate is not None for row in made)
    aggregate = Aggregate(tuple(column.key for column in counted), tuple(tasks or ())) if some else None
    primary = {column.key: column for column in columns if column.primary}
    have = {row.name: frozenset(row.cells.keys() & primary.keys()) for row in made}
    alike = Counter(have.values())

    def order(row: LeaderboardRow) -> tuple[object, ...]:
        """By the aggregate; rows without one below, those of the same columns together, by their mean over these."""
        if row.aggregate is not None:
            return (0, -row.aggregate.value, natural(row.name))
        own = have[row.name]
        mean = _mean(row, [primary[key] for key in own])
        return 1, -alike[own], sorted(own), mean is None, 0.0 if mean is None else -mean.value, natural(row.name)

    return aggregate, tuple(sorted(made, key=order))


def with_claims(
    aggregate: Aggregate,
    columns: Mapping[str, LeaderboardColumn],
    rows: Sequence[LeaderboardRow],
    runs: Mapping[str, ScoredRun],
) -> tuple[LeaderboardRow, ...]:
    """The rows, those that are ranked in all columns of the aggregate with their ranks and claims in it.

    columns: by key. runs: by id. Of more scores than fit into memory together nothing is claimed.
    """
    ranked = [
        row
        for row in rows
        if row.aggregate is not None and all(row.cells[key].rank_low is not None for key in aggregate.columns)
    ]
    if len(aggregate.columns) == 1:
        return tuple(evolve(row, **_of_cell(row.cells[aggregate.columns[0]])) if row in ranked else row for row in rows)
    scored = sum(row.cells[key].estimate.n for row in ranked for key in aggregate.columns)
    if len(ranked) < 2 or scored > MOST_SCORES:
        return tuple(rows)
    tests = compare_aggregate([_scored_task(columns[key], ranked, runs) for key in aggregate.columns])
    made = {}
    for place, row in enumerate(ranked):
        assert row.aggregate is not None
        claim = None
        if tests.best[place] and row.aggregate.ci_low > 0:
            claim = BEST if tests.alone else NOT_TOLD_APART
        ranks = tests.ranks[place]
        made[row.name] = evolve(row, mean_rank_low=ranks.low, mean_rank_high=ranks.high, mean_claim=claim)
    return tuple(made.get(row.name, row) for row in rows)


def _of_cell(cell: LeaderboardCell) -> dict[str, Any]:
    return {"mean_rank_low": cell.rank_low, "mean_rank_high": cell.rank_high, "mean_claim": cell.claim}


def _scored_task(
    column: LeaderboardColumn, rows: Sequence[LeaderboardRow], runs: Mapping[str, ScoredRun]
) -> ScoredTask:
    import numpy as np

    assert column.worst is not None and column.best is not None
    shown = [[runs[run_id] for run_id in row.cells[column.key].run_ids] for row in rows]
    every, clusters = stacked([run for of_row in shown for run in of_row], column.metric)
    ends = np.cumsum([len(of_row) for of_row in shown])
    seeds = np.split(every, ends[:-1])
    means = np.array([one.mean(axis=0) for one in seeds])
    several = len(every) > len(rows)
    return ScoredTask(means, column.worst, column.best, clusters, seeds if several else None)


def _mean(row: LeaderboardRow, columns: Sequence[LeaderboardColumn]) -> Estimate | None:
    parts = []
    for column in columns:
        cell = row.cells.get(column.key)
        if cell is None or cell.stopped or column.worst is None or column.best is None:
            return None
        parts.append(normalised_estimate(cell.estimate, column.worst, column.best))
    return aggregate_estimate(parts) if parts else None
