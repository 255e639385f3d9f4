"""A leaderboard on the terminal, or as JSON."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from slmbench.console import paint, say, show, show_json
from slmbench.errors import SlmbenchError, UsageError

if TYPE_CHECKING:
    from slmbench.leaderboard import Leaderboard

_MOST_SHOWN = 600


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


def show_prompts(board: Leaderboard, out: str, *, no_texts: bool) -> None:
    """Prints what the rows of a leaderboard wrote to free prompts. out: the folder whose `runs` it is of."""
    from slmbench.leaderboard.side_by_side import answered_prompts

    ids = {one for row in board.rows for cell in row.cells.values() for one in cell.run_ids}
    folders = {run_id: Path(out, "runs", run_id) for run_id in ids}
    for one in answered_prompts(board, folders, ids if no_texts else ()):
        show(paint(one.prompt, "bold", keep="\n"), keep="\n", painted=True)
        for answer in one.answers:
            counted = ", ".join(f"{name} {value}" for name, value in answer.counted)
            show(f"  {paint(answer.row, 'cyan')}  {paint(counted, 'dim')}", painted=True)
            text = answer.text.strip()
            cut = text[:_MOST_SHOWN] + (" …" if len(text) > _MOST_SHOWN else "")
            for line in cut.split("\n"):
                show(f"    {line}")
        show()


def listed(flag: str, names: str) -> list[str]:
    """Names separated by commas, at least one. Raises UsageError."""
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if not listed:
        raise UsageError(f"{flag} {names!r} names nothing; give names separated by commas")
    return listed
