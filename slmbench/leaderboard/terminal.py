"""The leaderboard as text for a terminal, in as many blocks of columns as its width needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slmbench.console import paint
from slmbench.console.columns import GAP, column_blocks, display_width, fit, shortened, wrapped
from slmbench.leaderboard.table import (
    BEST,
    NOT_TOLD_APART,
    Condition,
    Leaderboard,
    LeaderboardCell,
    LeaderboardColumn,
    LeaderboardRow,
)
from slmbench.leaderboard.texts import INTERVALS, number, short_interval
from slmbench.values import Estimate
from slmbench.visible import visible

MEAN = LeaderboardColumn("mean", "mean", "of tasks", True, Condition("", "mean"))
"""What the aggregate is shown as."""
_CLAIMS: dict[str | None, tuple[str, str]] = {BEST: ("*", "green"), NOT_TOLD_APART: ("=", "cyan")}
MIN_NAME = 8
MAX_NAME = 28
# One score, as most are: "0.975 [.943, .989] *".
MIN_CELL = 20
MAX_CELL = 22


def render_text(leaderboard: Leaderboard, width: int, color: bool) -> str:
    """The table as lines of at most width cells (at least 24 are used), ending in a newline.

    A score is its mean and its 95% interval. `*` (green, with color): the best row of the column; `=` (cyan): not told
    apart from the best. Columns that don't fit beside each other go below, in blocks that repeat the names; if there
    are several tasks and blocks, the primary metric of each alone is shown, and how many more there are. color: ANSI
    colours of our own; escapes in names are shown as signs, never sent.
    """
    width = max(width, 24)

    def painted(text: str, name: str) -> str:
        return paint(text, name) if color and text else text

    title = "leaderboard" if leaderboard.suite is None else f"leaderboard: {visible(leaderboard.suite)}"
    lines = [painted(shortened(title, width), "bold")]
    if not leaderboard.rows:
        lines.append("no finished runs")
    else:
        labels = [_label(row) for row in leaderboard.rows]
        name_width = max(MIN_NAME, min(MAX_NAME, width // 3, max(display_width(label) for label in labels)))
        room = width - name_width
        columns = list(leaderboard.columns)
        widths = [_cell_width(column, leaderboard.rows, room) for column in columns]
        if len(column_blocks(widths, room - len(GAP))) > 1 and len({column.task for column in columns}) > 1:
            columns = [column for column in columns if column.primary]
            widths = [_cell_width(column, leaderboard.rows, room) for column in columns]
        if leaderboard.averages:
            columns, widths = [MEAN, *columns], [_cell_width(MEAN, leaderboard.rows, room), *widths]
        for block in column_blocks(widths, room - len(GAP)):
            lines.append("")
            there = [(columns[i], widths[i]) for i in block]
            lines.extend(_block_lines(leaderboard, labels, there, name_width, painted))
        lines.append("")
        shown = sum(column is not MEAN for column in columns)
        if shown < len(leaderboard.columns):
            more = f"the primary metric of each task; {len(leaderboard.columns) - shown} more columns are on the page"
            lines.extend(painted(line, "dim") for line in wrapped(more, width))
        lines.extend(painted(line, "dim") for line in wrapped(_legend(leaderboard), width))
        for badges, names in _badged(leaderboard.rows).items():
            who = "all rows" if 2 < len(names) == len(leaderboard.rows) else ", ".join(names)
            lines.extend(painted(line, "yellow") for line in wrapped(f"! {who}: {badges}", width))
    for notice in leaderboard.notices:
        lines.extend(painted(line, "yellow") for line in wrapped(f"! {visible(notice.text)}", width))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _label(row: LeaderboardRow) -> str:
    return visible(row.name) + (" !" if row.badges else "")


def _badged(rows: Sequence[LeaderboardRow]) -> dict[str, list[str]]:
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
    model, _, adapter = label.rpartition(" + ")
    tail = f" + {adapter}" if model else ""
    if model and display_width(tail) + MIN_NAME <= width:
        return fit(model, width - display_width(tail)) + tail
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


def _cell_width(column: LeaderboardColumn, rows: Sequence[LeaderboardRow], room: int) -> int:
    names = max(display_width(visible(column.task_label)), display_width(visible(column.metric_label)))
    scores = max(display_width(_whole_score(row, column)) for row in rows)
    return min(max(MIN_CELL, scores, min(MAX_CELL, names)), room - len(GAP))


def _block_lines(
    leaderboard: Leaderboard,
    labels: Sequence[str],
    block: Sequence[tuple[LeaderboardColumn, int]],
    name_width: int,
    painted: Callable[[str, str], str],
) -> list[str]:
    columns, widths = [column for column, _ in block], [width for _, width in block]
    tasks: list[str] = []
    for position, (column, cells) in enumerate(zip(columns, widths, strict=True)):
        repeated = position > 0 and columns[position - 1].task_label == column.task_label
        tasks.append(fit("" if repeated else visible(column.task_label), cells, right=True))
    metrics = [
        _metric_lines(visible(column.metric_label), cells) for column, cells in zip(columns, widths, strict=True)
    ]
    lines = [painted(" " * name_width + GAP + GAP.join(tasks), "bold")]
    for texts in zip(*metrics, strict=True):
        if any(texts):
            cells_of_line = (fit(text, cells, right=True) for text, cells in zip(texts, widths, strict=True))
            lines.append(" " * name_width + GAP + GAP.join(cells_of_line))
    lines.append(painted("-" * (name_width + sum(widths) + len(GAP) * len(widths)), "dim"))
    for row, label in zip(leaderboard.rows, labels, strict=True):
        parts = [_name(label, name_width)]
        for column, cells in zip(columns, widths, strict=True):
            cell = row.cells.get(column.key)
            text = fit(_score(row, column, cells), cells, right=True)
            color = _CLAIMS[cell.claim][1] if cell is not None and cell.claim in _CLAIMS else None
            parts.append(painted(text, color) if color else text)
        lines.append(GAP.join(parts))
    return lines


def _score(row: LeaderboardRow, column: LeaderboardColumn, width: int) -> str:
    """Mean, interval and mark; the mean and the mark alone where a cell of this width has no room for the interval."""
    whole = _whole_score(row, column)
    made, mark = _made(row, column)
    return whole if made is None or display_width(whole) <= width else number(made.value) + mark


def _whole_score(row: LeaderboardRow, column: LeaderboardColumn) -> str:
    made, mark = _made(row, column)
    if made is None:
        return "-  "
    return number(made.value) + short_interval(made.ci_low, made.ci_high, made.method) + mark


def _made(row: LeaderboardRow, column: LeaderboardColumn) -> tuple[Estimate | None, str]:
    """(the score, its mark) of a column, or of the mean."""
    if column is MEAN:
        return row.aggregate, "  "
    cell = row.cells.get(column.key)
    return (None, "  ") if cell is None else (cell.estimate, _mark(cell))


def _mark(cell: LeaderboardCell) -> str:
    return f" {_CLAIMS[cell.claim][0]}" if cell.claim in _CLAIMS else "  "


def _legend(leaderboard: Leaderboard) -> str:
    parts = [INTERVALS]
    claims = {cell.claim for row in leaderboard.rows for cell in row.cells.values()}
    said = {BEST: "* the best", NOT_TOLD_APART: "= not told apart from the best"}
    if told := [words for claim, words in said.items() if claim in claims]:
        parts.append(f"{', '.join(told)} (paired tests on the same items, 5%)")
    if leaderboard.averages and leaderboard.aggregate is not None:
        tasks = len(leaderboard.aggregate.columns)
        parts.append(f"{visible(leaderboard.aggregate.name)}: over {tasks} tasks, 0 at chance and 1 at best")
    if any(row.badges for row in leaderboard.rows):
        parts.append("! see below")
    lower = [column.key for column in leaderboard.columns if not column.higher_is_better]
    if lower:
        parts.append(f"lower is better: {', '.join(visible(key) for key in lower)}")
    return "; ".join(parts)
