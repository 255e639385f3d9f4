"""Which tasks the mean leaves out, which rows lack them, and how to get them back."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Sequence

from attrs import frozen

from slmbench.leaderboard.table import Leaderboard, LeaderboardColumn, LeaderboardRow
from slmbench.visible import visible

FEW = 3
"""Rows that are told by name in one sentence."""


@frozen
class Gap:
    """A row that lacks a task of the mean. why: what it has in place of it; '' if it has no run of it."""

    task: str
    row: str
    why: str = ""


def gaps_of(
    columns: Sequence[LeaderboardColumn], rows: Sequence[LeaderboardRow], tasks: Sequence[str]
) -> tuple[Gap, ...]:
    """Of each of the tasks, the rows that don't have it under the condition that most of them have."""
    found = []
    for task in tasks:
        ways = [column for column in columns if column.task == task and column.primary and column.best is not None]
        if ways:
            usual = max(ways, key=lambda column: sum(_has(row, column) for row in rows))
            found += [Gap(task, row.name, _instead(row, ways)) for row in rows if not _has(row, usual)]
    return tuple(found)


def told_of_gaps(
    board: Leaderboard, gaps: Sequence[Gap], counted: Collection[str], declared: bool
) -> tuple[str, tuple[str, ...]] | None:
    """(a sentence, the cases that it stands for) of what the mean leaves out; None if that is nothing.

    counted: names of the rows that decide which tasks all rows have. declared: whether the suite says which tasks
    count: a row that lacks one has no mean then, and the others keep theirs.
    """
    by_row: dict[str, list[Gap]] = defaultdict(list)
    for gap in gaps:
        by_row[gap.row].append(gap)
    if not by_row or len(board.averageable) < 2:
        return None
    cases = tuple(f"{visible(row)} lacks {_tasks(of)}" for row, of in by_row.items())
    if declared:
        head = "a row that lacks a task that the suite's mean counts has no mean"
    elif board.aggregate is None:
        head = "there is no mean, as no task is one that all rows have"
    else:
        head = f"the mean is over {board.averaged}, those that all rows have"
    few = len(cases) <= FEW
    told = f"{head}: " + ("; ".join(cases) if few else f"{len(cases)} rows lack others")
    told += ". Run what is missing with `slmbench eval`"
    if not declared and (names := _worth_leaving_out(by_row, counted)):
        left = {gap.task for row, of in by_row.items() if row not in names for gap in of}
        rest = len(board.averageable) - len(left)
        flags = " ".join(f"--without {shlex.quote(visible(name))}" for name in names)
        told += f", or rank without {'it' if len(cases) == 1 else 'some'} (`slmbench leaderboard ... {flags}`): "
        told += f"the mean is over {rest} of {len(board.averageable)} tasks then"
    return told, () if few else cases


def _worth_leaving_out(by_row: dict[str, list[Gap]], counted: Collection[str]) -> list[str]:
    """All rows that lack a task, if they are few and others are left; the one that costs most tasks otherwise."""
    if len(by_row) <= FEW and len(counted) - len(by_row) >= 2:
        return list(by_row)
    lacking: dict[str, set[str]] = defaultdict(set)
    for row, of in by_row.items():
        for gap in of:
            lacking[gap.task].add(row)
    alone = {row: sum(len(lacking[gap.task]) == 1 for gap in of) for row, of in by_row.items()}
    worst = max(alone, key=lambda row: alone[row])
    return [worst] if alone[worst] and len(counted) > 2 else []


def _tasks(gaps: Sequence[Gap]) -> str:
    named = [visible(gap.task) + (f" ({visible(gap.why)})" if gap.why else "") for gap in gaps]
    more = len(named) - 2 * FEW
    return ", ".join(named[: 2 * FEW]) + (f" and {more} more" if more > 0 else "")


def _has(row: LeaderboardRow, column: LeaderboardColumn) -> bool:
    cell = row.cells.get(column.key)
    return cell is not None and not cell.stopped


def _instead(row: LeaderboardRow, ways: Sequence[LeaderboardColumn]) -> str:
    for column in ways:
        cell = row.cells.get(column.key)
        if cell is not None:
            return "stopped early" if cell.stopped else f"only as {column.condition.label or 'most are asked'}"
    return ""
