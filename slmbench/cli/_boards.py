"""A leaderboard on the terminal, or as JSON."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from typing import TYPE_CHECKING

from slmbench.console import say, show, show_json
from slmbench.errors import SlmbenchError, UsageError

if TYPE_CHECKING:
    from slmbench.leaderboard import Leaderboard


def show_leaderboard(
    board: Leaderboard,
    page: str,
    faulty: SlmbenchError | None = None,
    *,
    as_json: bool,
    own: Collection[str] = (),
) -> None:
    """Prints a leaderboard, and says where its page is. own: ids of runs whose rows are shown however many there are.

    faulty: what failed, raised when all is shown: tasks, or runs that were left out for their faults.
    """
    from slmbench.leaderboard import render_text

    if as_json:
        show_json(board.as_json())
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        for line in render_text(board, width=width, color=True, own=own).split("\n"):
            show(line, painted=True)
    say(f"page: {page}")
    if faulty is not None:
        raise faulty


def listed(flag: str, names: str) -> list[str]:
    """Names separated by commas, at least one. Raises UsageError."""
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if not listed:
        raise UsageError(f"{flag} {names!r} names nothing; give names separated by commas")
    return listed
