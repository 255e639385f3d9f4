"""A recipe's published numbers beside what given runs measured; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slmbench.catalog import Catalog
from slmbench.console import say
from slmbench.leaderboard import BesideLine, Leaderboard, RunProblems, build_leaderboard, read_runs, set_beside
from slmbench.published import PublishedNumber
from slmbench.visible import visible


def published_beside(
    numbers: Sequence[PublishedNumber], runs: Sequence[str], catalog: Catalog
) -> tuple[BesideLine, ...]:
    """The numbers, each with the scores that are its row's. runs: folders, or folders of runs; without any, none.

    Raises RunProblems if no run is what it claims; if some are, the others are left out, which is said.
    """
    if not runs:
        return set_beside(Leaderboard(None, (), ()), {}, numbers)
    found = read_runs([Path(run) for run in runs], catalog)
    if found.problems and not found.runs:
        raise RunProblems(list(found.problems))
    for folder in found.left_out:
        say(f"{visible(folder.name)}: left out, as it is not what it claims")
    tasks = list(dict.fromkeys(number.task for number in numbers))
    of_these = [run for run in found.runs if run.task in tasks]
    board = build_leaderboard(of_these, tasks=tasks)
    return set_beside(board, {run.run_id: run for run in of_these}, numbers)
