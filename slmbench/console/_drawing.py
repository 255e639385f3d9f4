"""Lines that stand at the end of a terminal's stderr and are drawn over: what is under way."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from slmbench.console._cells import display_width

WIDTH, HEIGHT = 100, 24
"""Of a terminal that doesn't say."""


class Drawing:
    """What is drawn now, so that it can be taken away or drawn over, also after the terminal has got narrower."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def draw(self, lines: Sequence[tuple[str, str]]) -> None:
        """Draws lines in place of those that stand there. lines: each as it is shown, and with its colours."""
        if not lines:
            self.clear()
            return
        widths = [display_width(text) for text, _ in lines]
        if len(widths) == 1 and self._rows() <= 1:  # What any terminal can do.
            room = " " * max(0, sum(self._widths) - widths[0])
            _write("\r" + lines[0][1] + room + "\r" + lines[0][1] if room else "\r" + lines[0][1])
        else:
            # One write, and each line is cleared behind what is new on it: a table doesn't flicker.
            _write(self._to_start() + "\r\n".join(f"{painted}\x1b[K" for _, painted in lines) + "\x1b[J")
        self._widths = widths

    def clear(self) -> None:
        """Takes away what stands there; what is written next begins where it began."""
        if not self._widths:
            return
        if self._rows() > 1:
            _write(self._to_start() + "\x1b[J")
        else:
            _write("\r" + " " * sum(self._widths) + "\r")
        self._widths = []

    def _rows(self) -> int:
        """Rows of the terminal that it takes: a narrower one has wrapped lines since they were drawn."""
        columns = terminal_size()[0] + 1
        return sum(max(1, -(-width // columns)) for width in self._widths)

    def _to_start(self) -> str:
        rows = self._rows()
        return "\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "")


def terminal_size() -> tuple[int, int]:
    """(columns, rows) that may be filled: the last column stays free, as some terminals wrap behind it."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return WIDTH, HEIGHT
    return (max(1, columns - 1) if columns else WIDTH), (rows or HEIGHT)


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
