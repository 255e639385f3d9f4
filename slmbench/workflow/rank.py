"""Runs into a leaderboard and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slmbench.catalog import Catalog
from slmbench.console import phase
from slmbench.errors import SlmbenchError
from slmbench.leaderboard import Leaderboard, RunProblems, build_leaderboard, read_runs, write_leaderboard
from slmbench.visible import visible


def rank(
    runs: Sequence[str],
    out: str,
    catalog: Catalog,
    *,
    suite: str | None,
    tasks: Sequence[str] | None,
    no_texts: bool = False,
    notices: Sequence[str] = (),
) -> tuple[Leaderboard, str]:
    """(the leaderboard of runs, its page's path); its files are in `out`. runs: folders, or folders of runs.

    notices: what a reader has to know beside what the runs say.
    Raises RunProblems if any of them has a fault.
    """
    board, page, _ = rank_sound(
        runs, out, catalog, suite=suite, tasks=tasks, no_texts=no_texts, notices=notices, strict=True
    )
    return board, page


def rank_sound(
    runs: Sequence[str],
    out: str,
    catalog: Catalog,
    *,
    suite: str | None,
    tasks: Sequence[str] | None,
    no_texts: bool = False,
    notices: Sequence[str] = (),
    strict: bool = False,
) -> tuple[Leaderboard, str, RunProblems | None]:
    """As `rank`, of the runs that are what they claim; and the faults of those that were left out, to be raised after.

    strict: nothing is ranked if one has a fault. Raises RunProblems then, and if no other run is there.
    """
    with phase("leaderboard"):
        found = read_runs([Path(run) for run in runs], catalog)
        if found.problems and (strict or not found.runs):
            raise RunProblems(list(found.problems))
        faulty = RunProblems(list(found.problems), left_out=True) if found.problems else None
        told = [f"{visible(folder.name)}: left out, as it is not what it claims" for folder in found.left_out]
        board = build_leaderboard(
            list(found.runs),
            suite=suite,
            tasks=list(tasks) if tasks else None,
            notices=[*told, *found.notices, *notices],
        )
        if not board.rows:
            raise SlmbenchError("no finished run to rank; see `slmbench eval`")
        write_leaderboard(board, list(found.runs), Path(out), no_texts=no_texts)
    return board, str(Path(out) / "index.html"), faulty
