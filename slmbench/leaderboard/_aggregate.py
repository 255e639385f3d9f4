"""The one number that rows are ordered by, and the order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from attrs import evolve

from slmbench.leaderboard.table import Aggregate, LeaderboardCell, LeaderboardColumn, LeaderboardRow
from slmbench.leaderboard.texts import natural
from slmbench.statistics.aggregate import aggregate_estimate, normalised_estimate
from slmbench.values import Estimate

Cells = Mapping[str, LeaderboardCell]


def shared_columns(columns: Sequence[LeaderboardColumn], rows: Sequence[Cells]) -> list[LeaderboardColumn]:
    """The primary columns that all rows have, one a task: that of the first of the task's conditions that all have.

    Rows that have no task under its most common condition (a `--limit` beside whole runs) don't count, unless no row
    has. A score of a run that was stopped early is no mean to go by.
    """
    rows = [{key: cell for key, cell in cells.items() if not cell.stopped} for cells in rows]
    usual = {column.key for column in columns if column.primary and not column.condition.slug}
    counted = [cells for cells in rows if cells.keys() & usual]
    found: dict[str, LeaderboardColumn] = {}
    for column in columns:
        if column.primary and counted and all(column.key in cells for cells in counted):
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
    aggregate = Aggregate(tuple(column.key for column in counted)) if some else None
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


def _mean(row: LeaderboardRow, columns: Sequence[LeaderboardColumn]) -> Estimate | None:
    parts = []
    for column in columns:
        cell = row.cells.get(column.key)
        if cell is None or cell.stopped or column.worst is None or column.best is None:
            return None
        parts.append(normalised_estimate(cell.estimate, column.worst, column.best))
    return aggregate_estimate(parts) if parts else None
