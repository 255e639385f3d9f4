"""Tables for a terminal, by the cells that texts take there: a wide character takes two, a combining mark none."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from slmbench.console import paint, show
from slmbench.console._cells import display_width, shortened
from slmbench.visible import visible

__all__ = [
    "GAP",
    "Cell",
    "column_blocks",
    "display_width",
    "fit",
    "print_lines",
    "shortened",
    "table_lines",
    "widths_of",
    "wrapped",
]

GAP = "  "


def fit(text: str, width: int, right: bool = False) -> str:
    """text cut with an ellipsis, or padded, to exactly width terminal cells; right: aligned to the right."""
    text = shortened(text, width)
    padding = " " * (width - display_width(text))
    return padding + text if right else text + padding


@frozen
class Cell:
    """Text of one line, made safe to look at. color: of the console's names, or None."""

    text: str = field(converter=visible)
    color: str | None = None


def widths_of(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[int]:
    """The cells that each column takes."""
    return [max([display_width(name), *(display_width(row[i].text) for row in rows)]) for i, name in enumerate(header)]


def table_lines(header: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: Sequence[str] = ()) -> list[str]:
    """The lines of a table, its header first and bold. right: the columns that are aligned to the right."""
    widths = widths_of(header, rows)
    lines = []
    for number, row in enumerate([[Cell(name) for name in header], *rows]):
        parts = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            room = " " * (width - display_width(cell.text))
            text = paint(cell.text, cell.color) if cell.color else cell.text
            last = i == len(widths) - 1
            parts.append(room + text if header[i] in right else text if last else text + room)
        line = GAP.join(parts)
        lines.append(paint(line, "bold") if number == 0 else line)
    return lines


def column_blocks(widths: Sequence[int], room: int, *, kept: int = 0) -> list[list[int]]:
    """Numbers of the columns of each table that is at most `room` wide, where one column more than those kept fits.

    widths: of the columns. kept: so many first columns are in every table, a gap between all of them.
    """
    first = list(range(kept))
    blocks = [list(first)]
    for i in range(kept, len(widths)):
        there = [*blocks[-1], i]
        if len(blocks[-1]) > kept and sum(widths[j] for j in there) + len(GAP) * (len(there) - 1) > room:
            blocks.append(list(first))
        blocks[-1].append(i)
    return blocks


def print_lines(lines: Sequence[str]) -> None:
    """Painted lines on stdout; their colours go where that is no terminal, or NO_COLOR is set."""
    for line in lines:
        show(line, painted=True)


def wrapped(text: str, width: int) -> list[str]:
    """text in lines of at most width cells, broken at spaces where there are any; later lines are indented by two."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        while True:
            longer = f"{line} {word}" if line.strip() else line + word
            if display_width(longer) <= width:
                line = longer
                break
            if line.strip():
                lines.append(line)
                line = "  "
                continue
            # One word wider than a line: cut it; nothing is lost.
            head = longer
            while display_width(head) > width:
                head = head[:-1]
            lines.append(head)
            word, line = longer[len(head) :], "  "
    if line.strip():
        lines.append(line)
    return lines
