"""The leaderboard as text for a terminal, in as many blocks of columns as its width needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slmbench.leaderboard._text import INTERVALS, display_width, fit, number, short_interval
from slmbench.leaderboard.table import Cell, Column, Leaderboard, Row
from slmbench.visible import visible

GAP = 2
MIN_NAME = 8
MAX_NAME = 28
# One score, as most are: "0.975 [.943, .989] *".
MIN_CELL = 20
MAX_CELL = 22

_BOLD, _DIM, _GREEN, _YELLOW, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[0m"


def render_text(leaderboard: Leaderboard, width: int, color: bool) -> str:
    """The table as lines of at most width cells (at least 24 are used), ending in a newline.

    A score is its mean and its 95% interval. `*` (and green, with color): no other ranked row is significantly
    better. Columns that don't fit beside each other go below, in blocks that repeat the names. color: ANSI colours of
    our own; escapes in names are shown as signs, never sent.
    """
    width = max(width, 24)
    paint = _paint if color else _plain
    title = "leaderboard" if leaderboard.suite is None else f"leaderboard: {visible(leaderboard.suite)}"
    lines = [paint(_cut(title, width), _BOLD)]
    if not leaderboard.rows:
        lines.append("no finished runs")
    else:
        labels = [_label(row) for row in leaderboard.rows]
        name_width = max(MIN_NAME, min(MAX_NAME, width // 3, max(display_width(label) for label in labels)))
        for block in _blocks(leaderboard.columns, leaderboard.rows, width - name_width):
            lines.append("")
            lines.extend(_block_lines(leaderboard.rows, labels, block, name_width, width - name_width, paint))
        lines.append("")
        lines.extend(paint(line, _DIM) for line in _wrap(_legend(leaderboard), width))
        for badges, names in _badged(leaderboard.rows).items():
            lines.extend(paint(line, _YELLOW) for line in _wrap(f"! {', '.join(names)}: {badges}", width))
    for notice in leaderboard.notices:
        lines.extend(paint(line, _YELLOW) for line in _wrap(f"! {visible(notice)}", width))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _paint(text: str, code: str) -> str:
    return f"{code}{text}{_RESET}" if text else text


def _plain(text: str, code: str) -> str:
    return text


def _label(row: Row) -> str:
    return visible(row.name) + (" !" if row.badges else "")


def _badged(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Badges -> the names of the rows that have just these."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if row.badges:
            named.setdefault(", ".join(visible(badge) for badge in row.badges), []).append(visible(row.name))
    return named


def _name(label: str, width: int) -> str:
    """A row's label in exactly width cells, cut in its middle: rows of one model differ at their ends."""
    if display_width(label) <= width:
        return fit(label, width)
    tail = ""
    for character in reversed(label):
        if display_width(character + tail) > width // 2:
            break
        tail = character + tail
    room = width - display_width(tail)
    # `fit` ends what it cuts with the ellipsis; the blank that may follow it belongs to a wide character.
    return fit(label[: len(label) - len(tail)], room) + tail


def _metric_lines(metric: str, width: int) -> tuple[str, str]:
    """A metric's name over two lines, the first of them empty where the name fits into one."""
    kind, slash, rest = metric.partition("/")
    return (kind + slash, rest) if rest and display_width(metric) > width else ("", metric)


def _cell_width(column: Column, rows: Sequence[Row], room: int) -> int:
    names = max(display_width(visible(column.task)), display_width(visible(column.metric)))
    scores = max(display_width(_whole_score(row, column)) for row in rows)
    return min(max(MIN_CELL, scores, min(MAX_CELL, names)), room - GAP)


def _blocks(columns: Sequence[Column], rows: Sequence[Row], room: int) -> list[list[Column]]:
    """columns in order, cut into as few groups as fit into `room` cells; at least one a group."""
    blocks: list[list[Column]] = []
    used = 0
    for column in columns:
        needed = GAP + _cell_width(column, rows, room)
        if not blocks or used + needed > room:
            blocks.append([])
            used = 0
        blocks[-1].append(column)
        used += needed
    return blocks


def _block_lines(
    rows: Sequence[Row],
    labels: Sequence[str],
    columns: Sequence[Column],
    name_width: int,
    room: int,
    paint: Callable[[str, str], str],
) -> list[str]:
    gap = " " * GAP
    widths = [_cell_width(column, rows, room) for column in columns]
    tasks: list[str] = []
    for position, (column, cells) in enumerate(zip(columns, widths, strict=True)):
        repeated = position > 0 and columns[position - 1].task == column.task
        tasks.append(fit("" if repeated else visible(column.task), cells, right=True))
    metrics = [_metric_lines(visible(column.metric), cells) for column, cells in zip(columns, widths, strict=True)]
    lines = [paint(" " * name_width + gap + gap.join(tasks), _BOLD)]
    for texts in zip(*metrics, strict=True):
        if any(texts):
            cells_of_line = (fit(text, cells, right=True) for text, cells in zip(texts, widths, strict=True))
            lines.append(" " * name_width + gap + gap.join(cells_of_line))
    lines.append(paint("-" * (name_width + sum(widths) + GAP * len(widths)), _DIM))
    for row, label in zip(rows, labels, strict=True):
        parts = [_name(label, name_width)]
        for column, cells in zip(columns, widths, strict=True):
            cell = row.cells.get(column.key)
            text = fit(_score(row, column, cells), cells, right=True)
            parts.append(paint(text, _GREEN) if cell is not None and cell.leads else text)
        lines.append(gap.join(parts))
    return lines


def _score(row: Row, column: Column, width: int) -> str:
    """Mean, interval and mark; the mean and the mark alone where a cell of this width has no room for the interval."""
    whole = _whole_score(row, column)
    cell = row.cells.get(column.key)
    if cell is None or display_width(whole) <= width:
        return whole
    return number(cell.estimate.value) + _mark(cell)


def _whole_score(row: Row, column: Column) -> str:
    cell = row.cells.get(column.key)
    if cell is None:
        return "-  "
    made = cell.estimate
    return number(made.value) + short_interval(made.ci_low, made.ci_high, made.method) + _mark(cell)


def _mark(cell: Cell) -> str:
    return " *" if cell.leads else "  "


def _legend(leaderboard: Leaderboard) -> str:
    parts = [INTERVALS]
    if any(cell.leads for row in leaderboard.rows for cell in row.cells.values()):
        parts.append("* no other row is significantly better on the same items (paired test, Holm, 5%)")
    if any(row.badges for row in leaderboard.rows):
        parts.append("! see below")
    lower = [column.key for column in leaderboard.columns if not column.higher_is_better]
    if lower:
        parts.append(f"lower is better: {', '.join(visible(key) for key in lower)}")
    return "; ".join(parts)


def _cut(text: str, width: int) -> str:
    return fit(text, width) if display_width(text) > width else text


def _wrap(text: str, width: int) -> list[str]:
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
