"""How far a matrix is, in words and as the table that moves on a terminal while its jobs run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmbench.console import duration, paint, say
from slmbench.console.columns import GAP, Cell, fit, shortened

if TYPE_CHECKING:
    from slmbench.scheduling import JobBook, JobsProgress, JobState

COLORS = {"done": "green", "failed": "red", "blocked": "red", "running": "yellow"}
LOOKED_UP_EVERY_S = 1.0
_HEADS = ("running", "of", "results", "for")


def progress_words(far: JobsProgress) -> str:
    """How many jobs stand where, and how long what is left takes."""
    counts = [f"{count} {name}" for name, count in far.counts.items() if count]
    return "; ".join([", ".join(counts) or "no jobs", *left_words(far)])


def left_words(far: JobsProgress) -> list[str]:
    """How long what is left takes, in words; empty if nothing is left. Jobs that nothing tells of aren't counted."""
    if not (far.counts["planned"] or far.counts["running"]):
        return []
    seconds, unknown = far.seconds_left, far.unknown
    if seconds is None:
        return ["time left: ?"]
    return [f"about {duration(seconds)} left" + (f", {_jobs(unknown)} not counted" if unknown else "")]


def _jobs(count: int) -> str:
    return f"{count} job{'s' if count > 1 else ''}"


def running_cells(state: JobState, now: float) -> tuple[str, str, str, str]:
    """A job that runs: kind, name, results made and to make, since when."""
    since = "" if state.since is None else duration(max(0.0, now - state.since))
    again = f" (start {state.starts})" if state.starts > 1 else ""
    return state.job.kind, state.job.name + again, f"{state.made}/{len(state.job.makes)}", since


class MatrixTable:
    """What is shown of jobs while they run. planned: before any began; `tell` is told where they stand since.

    moves: whether it is seen as a table that moves, and so needs no line for each job that begins.
    """

    def __init__(self, book: JobBook, planned: Sequence[JobState], workers: int, *, moves: bool) -> None:
        self._book, self._workers, self._moves = book, workers, moves
        self._states = planned
        self._told: dict[str, str] = {}
        self._progress: JobsProgress | None = None
        self._looked = 0.0

    def tell(self, states: Sequence[JobState]) -> None:
        """Says a line as each job ends, and, if it is no table that moves, as each begins."""
        changed = False
        for state in states:
            key, now = state.job.key, state.state
            before = self._told.get(key)
            self._told[key] = now
            if now == before:
                continue
            changed = True
            again = state.starts > 1
            if now == "running" and (again or not self._moves):
                say(f"{state.job.kind} {state.job.name}: begun" + (" again" if again else ""))
            elif before is not None and now not in ("planned", "running"):
                took = f" in {duration(state.outcome.seconds)}" if state.outcome is not None else ""
                say(f"{state.job.kind} {state.job.name}: {now}{took}")
        self._states = states
        if changed:
            self._progress = None

    def words(self) -> str:
        """How far all is, in one line."""
        return progress_words(self._now())

    def lines(self, width: int, height: int) -> list[str]:
        """How far all is, as painted lines: the counts, what is left, and the jobs that run."""
        progress, now = self._now(), time.time()
        lines = _count_lines(progress, width)
        room = height - 1 - len(lines) - 1
        rows = [running_cells(state, now) for state in progress.running]
        if not rows or room < 1 or width < 24:
            return lines[: max(1, height - 1)]
        shown = rows[: room if len(rows) <= room else room - 1]
        lines += _running_lines(shown, width)
        if len(shown) < len(rows):
            lines.append(paint(shortened(f"and {len(rows) - len(shown)} more", width), "dim"))
        return lines

    def _now(self) -> JobsProgress:
        from slmbench.scheduling import looked_up, progress_of

        now = time.monotonic()
        if self._progress is None or now - self._looked >= LOOKED_UP_EVERY_S:
            self._progress = progress_of(looked_up(self._states, self._book), self._workers)
            self._looked = now
        return self._progress


def _count_lines(far: JobsProgress, width: int) -> list[str]:
    """The counts, coloured, with what is left behind them or, where that is too wide, below."""
    parts = [(f"{count} {name}", COLORS.get(name)) for name, count in far.counts.items() if count]
    left = " ".join(left_words(far))
    lines, used = [""], 0
    for text, color in [*parts, (left, None)]:
        if not text:
            continue
        gap = GAP if used else ""
        if used and used + len(gap) + len(text) > width:
            lines, used, gap = [*lines, ""], 0, ""
        text = shortened(text, width)
        lines[-1] += gap + (paint(text, color) if color else text)
        used += len(gap) + len(text)
    return lines


def _running_lines(rows: Sequence[tuple[str, str, str, str]], width: int) -> list[str]:
    """A table of what runs; names are cut where there is no room for them."""
    table = [_HEADS, *rows]
    widths = [max(len(Cell(row[i]).text) for row in table) for i in range(4)]
    widths[1] = max(2, min(widths[1], width - widths[0] - widths[2] - widths[3] - 3 * len(GAP)))
    lines = []
    for number, row in enumerate(table):
        cells = [fit(Cell(text).text, widths[i], right=i >= 2) for i, text in enumerate(row)]
        line = shortened(GAP.join(cells).rstrip(), width)
        lines.append(paint(line, "dim") if number == 0 else line)
    return lines
