"""What the page's main table needs beside the leaderboard: a scale for every column, and what an adapter weighs."""

from __future__ import annotations

from attrs import frozen

from slmbench.leaderboard.table import Leaderboard, LeaderboardColumn, LeaderboardRow
from slmbench.leaderboard.texts import number

# From this share of the model's parameters on, an adapter is not a small addition, and the page says so aloud.
LARGE_ADAPTER = 0.05


@frozen
class ColumnView:
    """How one column is drawn. n: what all its rows have in common (None: they differ). low, high: the ends of its
    bars. first: it is the first of its task, and a line is drawn before it."""

    of: LeaderboardColumn
    n: int | None
    low: float
    high: float
    first: bool

    @property
    def label(self) -> str:
        """What a narrow screen shows before each of the column's scores."""
        n = "" if self.n is None else f", n = {self.n}"
        chance = "" if self.of.chance is None else f", chance {number(self.of.chance)}"
        return f"{self.of.task_label}: {self.of.metric_label}{n}{chance}"

    @property
    def shows_chance(self) -> bool:
        return self.of.chance is not None and self.low <= self.of.chance <= self.high

    def at(self, value: float) -> str:
        """Where a value stands in a bar."""
        return f"{4 + 92 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low))):.1f}%"


def column_views(leaderboard: Leaderboard) -> list[ColumnView]:
    """The columns in their order."""
    before = [None, *(column.task_label for column in leaderboard.columns)]
    return [
        _view(leaderboard, column, column.task_label != task)
        for task, column in zip(before, leaderboard.columns, strict=False)
    ]


def _view(leaderboard: Leaderboard, column: LeaderboardColumn, first: bool) -> ColumnView:
    made = [row.cells[column.key].estimate for row in leaderboard.rows if column.key in row.cells]
    counts = {part.n for part in made}
    n = counts.pop() if len(counts) == 1 else None
    low = min(part.ci_low for part in made)
    high = max(part.ci_high for part in made)
    # Nearly every metric lives in [0, 1]: one scale for all of those, so that bars can be compared across columns.
    if low >= -0.1 and high <= 1.1:
        return ColumnView(column, n, min(0.0, low), max(1.0, high), first)
    if column.chance is not None:
        low, high = min(low, column.chance), max(high, column.chance)
    margin = (high - low) * 0.05 or 1.0
    return ColumnView(column, n, low - margin, high + margin, first)


def adapter_share(row: LeaderboardRow) -> float | None:
    """Parameters of the row's adapter for each one of its model; None without an adapter."""
    own, base = row.cost["adapter_parameters"], row.cost["parameters"]
    return own / base if own is not None and base else None


def is_large(share: float | None) -> bool:
    """Whether an adapter is not a small addition any more."""
    return share is not None and share >= LARGE_ADAPTER
