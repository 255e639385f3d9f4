"""The leaderboard as text for a terminal, in as many blocks of columns as its width needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from attrs import frozen

from slmbench.console import paint
from slmbench.console.columns import GAP, column_blocks, display_width, fit, shortened, wrapped
from slmbench.leaderboard._measures_forms import measure_lines
from slmbench.leaderboard._notices import ALL
from slmbench.leaderboard._published_forms import beside_text
from slmbench.leaderboard.table import (
    BEST,
    NOT_TOLD_APART,
    Leaderboard,
    LeaderboardCell,
    LeaderboardColumn,
    LeaderboardRow,
)
from slmbench.leaderboard.texts import interval_signs, number, short_interval
from slmbench.values import Estimate
from slmbench.visible import visible

MIN_NAME = 8
MAX_NAME = 48
# One score, as most are: "0.975 [.943, .989] *".
MIN_CELL = 20
MAX_CELL = 22
MOST_ROWS = 40
MOST_DETAILS = 3
MORE = " (which: on the page)"
NO_CELL = "-  "
COLORS = {BEST: "green", NOT_TOLD_APART: "cyan"}
MARKS = {BEST: " *", NOT_TOLD_APART: " ="}


@frozen
class TextColumn:
    """A column as texts. task, metric: its head. whole: a text for every row, short: the same without intervals.

    colors: of each row's text, None for the terminal's own.
    """

    task: str
    metric: str
    whole: tuple[str, ...]
    short: tuple[str, ...]
    colors: tuple[str | None, ...]

    def width(self, room: int) -> int:
        """How many cells it takes of the room that there is."""
        names = max(display_width(self.task), display_width(self.metric))
        scores = max(map(display_width, self.whole))
        return min(max(MIN_CELL, scores, min(MAX_CELL, names)), room - len(GAP))

    def shown(self, row: int, width: int) -> str:
        """Its text for a row, in exactly so many cells; without an interval if there is no room for one."""
        text = self.whole[row] if display_width(self.whole[row]) <= width else self.short[row]
        return fit(text, width, right=True)


def render_text(leaderboard: Leaderboard, width: int, color: bool, own: Collection[str] = ()) -> str:
    """The table as lines of at most width cells (at least 24 are used), ending in a newline.

    A score is its mean and its 95% interval. `*` (and green, with color): tests tell it apart from all others as the
    best of its column; `=` (and cyan): it is not told apart from the best. Columns that don't fit beside each other go
    below, in blocks that repeat the names. If several tasks don't fit, the primary metric of each alone is shown; of
    many rows the first ones, and those with one of the run ids in `own`. What was left out is said. color: ANSI colours
    of our own; escapes in names are shown as signs, never sent.
    """
    width = max(width, 24)

    def painted(text: str, name: str | None) -> str:
        return paint(text, name) if color and text and name else text

    title = "leaderboard" if leaderboard.suite is None else f"leaderboard: {visible(leaderboard.suite)}"
    lines = [painted(shortened(title, width), "bold")]
    if not leaderboard.rows:
        lines.append("no finished runs")
    else:
        rows = _rows(leaderboard, frozenset(own))
        columns = list(leaderboard.columns)
        labels = [_label(row) for row in rows]
        name_width = max(MIN_NAME, min(MAX_NAME, width // 3, max(display_width(label) for label in labels)))
        room = width - name_width
        texts = [_text_column(rows, column) for column in columns]
        several = len({column.task for column in columns}) > 1
        if several and len(column_blocks([one.width(room) for one in texts], room - len(GAP))) > 1:
            columns = [column for column in columns if column.primary]
            texts = [_text_column(rows, column) for column in columns]
        texts = [_mean(rows)] * leaderboard.averages + texts
        for block in column_blocks([one.width(room) for one in texts], room - len(GAP)):
            lines.append("")
            lines.extend(_block_lines([texts[i] for i in block], labels, name_width, room, painted))
        lines.append("")
        for left_out in _left_out(leaderboard, rows, columns):
            lines.extend(painted(line, "dim") for line in wrapped(left_out, width))
        for said in _legend(leaderboard, rows, columns):
            lines.extend(painted(line, "dim") for line in wrapped(said, width))
        for badges, names in _badged(rows).items():
            if any(notice.text.endswith(f"({badges}): {ALL}") for notice in leaderboard.notices):
                continue
            who = "all rows" if 2 < len(names) == len(leaderboard.rows) else _some(names)
            lines.extend(painted(line, "yellow") for line in wrapped(f"! {who}: {badges}", width))
    lines.extend(measure_lines(leaderboard.measures, width, painted))
    lines.extend(beside_text(leaderboard.published, width, painted, whole=False))
    for notice in leaderboard.notices:
        lines.extend(
            painted(line, "yellow") for line in wrapped(f"! {visible(notice.text)}{MORE * bool(notice.details)}", width)
        )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _rows(leaderboard: Leaderboard, own: frozenset[str]) -> list[LeaderboardRow]:
    """The first rows, and those with a run of this call."""
    if len(leaderboard.rows) <= MOST_ROWS:
        return list(leaderboard.rows)
    first = leaderboard.rows[:MOST_ROWS]
    others = leaderboard.rows[MOST_ROWS:]
    return [*first, *(row for row in others if any(own & set(cell.run_ids) for cell in row.cells.values()))]


def _left_out(
    leaderboard: Leaderboard, rows: Sequence[LeaderboardRow], columns: Sequence[LeaderboardColumn]
) -> list[str]:
    hidden, below = len(leaderboard.columns) - len(columns), len(leaderboard.rows) - len(rows)
    told = [f"the primary metric of each task; {hidden} more columns are on the page"] if hidden else []
    return [*told, f"the first {MOST_ROWS} rows; {below} more are on the page"] if below else told


def _label(row: LeaderboardRow) -> str:
    return visible(row.name) + (" !" if row.badges else "")


def _badged(rows: Sequence[LeaderboardRow]) -> dict[str, list[str]]:
    """Badges -> the names of the rows that have just these."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if row.badges:
            named.setdefault(", ".join(visible(badge) for badge in row.badges), []).append(visible(row.name))
    return named


def _some(names: Sequence[str]) -> str:
    more = len(names) - 2 * MOST_DETAILS
    return ", ".join(names[: 2 * MOST_DETAILS]) + (f" and {more} more" if more > 0 else "")


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
    """A metric's name over two lines, the first of them empty if the name fits into one."""
    kind, slash, rest = metric.partition("/")
    return (kind + slash, rest) if rest and display_width(metric) > width else ("", metric)


def _text_column(rows: Sequence[LeaderboardRow], column: LeaderboardColumn) -> TextColumn:
    cells = [row.cells.get(column.key) for row in rows]
    return TextColumn(
        visible(column.task_label),
        visible(column.metric_label),
        tuple(NO_CELL if cell is None else _estimate(cell.estimate) + _mark(cell) for cell in cells),
        tuple(NO_CELL if cell is None else number(cell.estimate.value) + _mark(cell) for cell in cells),
        tuple(None if cell is None else COLORS.get(cell.claim or "") for cell in cells),
    )


def _mean(rows: Sequence[LeaderboardRow]) -> TextColumn:
    made = [row.aggregate for row in rows]
    marks = [MARKS.get(row.mean_claim or "", "  ") for row in rows]
    return TextColumn(
        "mean",
        "of tasks",
        tuple(NO_CELL if one is None else _estimate(one) + mark for one, mark in zip(made, marks, strict=True)),
        tuple(NO_CELL if one is None else number(one.value) + mark for one, mark in zip(made, marks, strict=True)),
        tuple(COLORS.get(row.mean_claim or "") for row in rows),
    )


def _estimate(made: Estimate) -> str:
    return number(made.value) + short_interval(made.ci_low, made.ci_high, made.method)


def _mark(cell: LeaderboardCell) -> str:
    return MARKS.get(cell.claim or "", "  ")


def _block_lines(
    block: Sequence[TextColumn],
    labels: Sequence[str],
    name_width: int,
    room: int,
    painted: Callable[[str, str | None], str],
) -> list[str]:
    widths = [column.width(room) for column in block]
    before = [None, *(column.task for column in block)]
    tasks = [
        fit("" if column.task == task else column.task, cells, right=True)
        for column, task, cells in zip(block, before, widths, strict=False)
    ]
    metrics = [_metric_lines(column.metric, cells) for column, cells in zip(block, widths, strict=True)]
    lines = [painted(" " * name_width + GAP + GAP.join(tasks), "bold")]
    for texts in zip(*metrics, strict=True):
        if any(texts):
            cells_of_line = (fit(text, cells, right=True) for text, cells in zip(texts, widths, strict=True))
            lines.append(" " * name_width + GAP + GAP.join(cells_of_line))
    lines.append(painted("-" * (name_width + sum(widths) + len(GAP) * len(widths)), "dim"))
    for position, label in enumerate(labels):
        if position == MOST_ROWS:
            lines.append("...")
        shown = (
            painted(column.shown(position, cells), column.colors[position])
            for column, cells in zip(block, widths, strict=True)
        )
        lines.append(GAP.join((_name(label, name_width), *shown)))
    return lines


def _legend(
    leaderboard: Leaderboard, rows: Sequence[LeaderboardRow], columns: Sequence[LeaderboardColumn]
) -> list[str]:
    """What the signs mean that are there, a sentence a line."""
    keys = {column.key for column in columns}
    cells = [cell for row in rows for key, cell in row.cells.items() if key in keys]
    means = [row.aggregate for row in rows if leaderboard.averages and row.aggregate is not None]
    claims = {cell.claim for cell in cells} | {row.mean_claim for row in rows if leaderboard.averages}
    parts = []
    if signs := interval_signs([*(cell.estimate.method for cell in cells), *(made.method for made in means)]):
        parts.append(f"{signs}: 95% interval")
    if claims - {None}:
        marks = [f"{MARKS[claim].strip()}: {text}" for claim, text in _CLAIMS.items() if claim in claims]
        parts.append(f"{', '.join(marks)} (by tests on the same items, 5%)")
    if any(row.badges for row in rows):
        parts.append("!: see below")
    made = ["; ".join(parts)] if parts else []
    if leaderboard.averages:
        made.append(f"mean: over {leaderboard.averaged}; 0 is guessing (or the worst score), 1 the best score")
    if any(cell.seeds for cell in cells):
        most = max(len(cell.seeds) for cell in cells)
        made.append(f"{', '.join(_seeded(rows))}: means of several seeds, up to {most}")
    lower = [column.key for column in columns if not column.higher_is_better]
    if lower:
        made.append(f"lower is better: {', '.join(visible(key) for key in lower)}")
    return made


_CLAIMS = {BEST: "best of its column", NOT_TOLD_APART: "not told apart from the best"}


def _seeded(rows: Sequence[LeaderboardRow]) -> list[str]:
    names = [visible(row.name) for row in rows if row.seeds]
    return names if len(names) <= MOST_DETAILS else [f"{len(names)} rows"]
