"""Tables for a terminal: aligned columns, numbers to the right, colour where somebody looks."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import field, frozen

from slmbench.console import paint, show
from slmbench.visible import visible

GAP = "  "


@frozen
class Cell:
    """Text of one line, made safe to look at. color: of the console's names, or None."""

    text: str = field(converter=visible)
    color: str | None = None


def table_lines(header: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: Sequence[str] = ()) -> list[str]:
    """The lines of a table, its header first and dim. right: the columns that are aligned to the right."""
    widths = [max([len(name), *(len(row[i].text) for row in rows)]) for i, name in enumerate(header)]
    lines = []
    for number, row in enumerate([[Cell(name) for name in header], *rows]):
        parts = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            room = " " * (width - len(cell.text))
            text = paint(cell.text, cell.color) if cell.color else cell.text
            last = i == len(widths) - 1
            parts.append(room + text if header[i] in right else text if last else text + room)
        line = GAP.join(parts)
        lines.append(paint(line, "bold") if number == 0 else line)
    return lines


def column_blocks(header: Sequence[str], rows: Sequence[Sequence[Cell]], width: int, *, kept: int) -> list[list[int]]:
    """Numbers of the columns of each table that is at most `width` wide, where one column more than those kept fits.

    kept: so many first columns are in every table.
    """
    widths = [len(GAP) + max([len(name), *(len(row[i].text) for row in rows)]) for i, name in enumerate(header)]
    first = list(range(kept))
    blocks = [list(first)]
    for i in range(kept, len(header)):
        if len(blocks[-1]) > kept and sum(widths[j] for j in [*blocks[-1], i]) - len(GAP) > width:
            blocks.append(list(first))
        blocks[-1].append(i)
    return blocks


def print_lines(lines: Sequence[str]) -> None:
    """Painted lines on stdout; their colours go where that is no terminal, or NO_COLOR is set."""
    for line in lines:
        show(line, painted=True)


def shortened(text: str, width: int) -> str:
    """The text, cut with an ellipsis where it is wider."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "\u2026"
