"""Runs into a leaderboard and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from slmbench.catalog import Catalog
from slmbench.console import phase
from slmbench.errors import SlmbenchError
from slmbench.leaderboard import Leaderboard, build_leaderboard, load_runs, write_leaderboard


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
    """
    with phase("leaderboard"):
        loaded, told = load_runs([Path(run) for run in runs], catalog)
        board = build_leaderboard(loaded, suite=suite, tasks=list(tasks) if tasks else None, notices=[*told, *notices])
        if not board.rows:
            raise SlmbenchError("no finished run to rank; see `slmbench eval`")
        write_leaderboard(board, loaded, Path(out), no_texts=no_texts)
    return board, str(Path(out) / "index.html")
