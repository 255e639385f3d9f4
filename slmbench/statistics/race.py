"""One model against the results of another, item by item in random order: who is better, told as soon as it is sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from attrs import frozen

from slmbench.statistics.pairs import compare_pair
from slmbench.statistics.sequential import (
    BettingTest,
    betting_interval,
    final_share,
    log_set_e_value,
    wins_needed,
)

ALPHA = 0.05
SEQUENCE_ALPHA, END_ALPHA = 0.04, 0.01
"""What of it may be spent while it runs, and on one test of all items at the end."""
EQUAL_ALPHA = 0.015
"""What each end of the margin may be ruled out wrongly by; with a wrong winner, that is 5% at most (`PairedRace`)."""
ENOUGH_DIFFER = 30
"""So many draws that differ say how much differences spread."""

Verdict: TypeAlias = Literal["better", "worse", "equal", "undecided"]


@frozen
class RaceState:
    """Where a race stands after some items.

    n: items. wins, losses, ties: of these, by which model is better. log_e: log of the e-value of "equally good". p:
    of that, valid whenever one stops: 1 / the largest e-value so far. difference: mean over these items, ours minus
    theirs, in the metric's units. verdict: undecided while it goes on. by: what decided: `sequence`, `margin`, or
    `all items`, the test at the end; '' for nothing.
    """

    n: int
    wins: int
    losses: int
    ties: int
    log_e: float
    p: float
    difference: float
    verdict: Verdict
    by: str

    @property
    def decided(self) -> bool:
        return self.verdict != "undecided"


class PairedRace:
    """Takes scores of both models, draw by draw. A draw is an item, or a whole cluster of items.

    total: items of the whole set. draws: that it consists of. largest: items of the largest. bounds: of a score.
    margin: a difference that doesn't matter, in the metric's units; None if each does.
    The winner is wrong with probability 5% at most: 4% for the e-value while it runs, 1% for the test of all items at
    the end (`compare_pair`: mid-p McNemar for right-or-wrong items). With a margin, the verdict is wrong with no more:
    if the models differ by the margin, `equal` is wrong by 1.5% while it runs and .5% at the end, and the wrong winner
    by 2.1% and .5%, as its e-value has to be 49 on one side.
    Raises ValueError for bounds or a margin that can't be.
    """

    def __init__(
        self,
        total: int,
        *,
        higher_is_better: bool = True,
        bounds: tuple[float, float] = (0.0, 1.0),
        draws: int | None = None,
        largest: int = 1,
        margin: float | None = None,
    ) -> None:
        self.width = bounds[1] - bounds[0]
        if not 0 < self.width < math.inf:
            raise ValueError(f"bounds are {bounds}; a score has to have a lowest and a highest value")
        if margin is not None and not 0 < margin < self.width:
            raise ValueError(f"margin is {margin:g}; it has to be between 0 and {self.width:g}")
        self.total, self.draws, self.largest, self.margin = total, draws or total, largest, margin
        self.bounds, self._higher = bounds, higher_is_better
        # The mean over items is so many times the mean over draws of what `_draw` makes of them.
        self._scale = self.draws * largest * self.width / total
        self._test = BettingTest()
        edge = 0.0 if margin is None else margin / self._scale
        self._edges = () if margin is None else (BettingTest(-edge, 1), BettingTest(edge, -1))
        self._units_seen: list[float] = []
        self._theirs: list[float] = []
        self._ours: list[float] = []
        self._clusters: list[int] = []
        self._most = self._sum = 0.0
        self.state = RaceState(0, 0, 0, 0, 0.0, 1.0, 0.0, "undecided", "")

    @property
    def signs_only(self) -> bool:
        """Whether every draw so far is one item that is right or wrong."""
        return self.largest == 1 and all(one in self.bounds for one in (*self._theirs, *self._ours))

    def add(self, theirs: Sequence[float], ours: Sequence[float]) -> RaceState:
        """Takes one draw: the scores of its items. Raises ValueError once it is decided, or for what no draw can be."""
        if self.state.decided or self.state.n + len(ours) > self.total or not 0 < len(ours) <= self.largest:
            raise ValueError(f"{len(ours)} items more don't fit a race of {self.total} with {self.state}")
        before = self.state
        differences = [b - a for a, b in zip(theirs, ours, strict=True)]
        # A score of 1 that was divided may be an ulp above it.
        unit = max(-1.0, min(1.0, math.fsum(differences) / (self.width * self.largest)))
        log_e = self._test.add(unit)
        self._most = max(self._most, log_e)
        self._units_seen.append(unit)
        self._theirs += theirs
        self._ours += ours
        self._clusters += [len(self._units_seen) if self.largest > 1 else -1] * len(ours)
        up = sum(one > 0 for one in differences)
        down = sum(one < 0 for one in differences)
        wins, losses = (up, down) if self._higher else (down, up)
        self._sum += math.fsum(differences)
        mean = self._sum / len(self._ours)
        self.state = RaceState(
            before.n + len(ours),
            before.wins + wins,
            before.losses + losses,
            before.ties + len(ours) - up - down,
            log_e,
            min(1.0, math.exp(-self._most)),
            mean,
            *self._verdict(log_e, mean, unit),
        )
        return self.state

    def _verdict(self, log_e: float, mean: float, unit: float) -> tuple[Verdict, str]:
        winner: Verdict = "better" if (mean > 0) == self._higher else "worse"
        if log_e >= -math.log(SEQUENCE_ALPHA):
            return winner, "sequence"
        # Both take it, whatever the first one says.
        if self._edges and min([edge.add(unit) for edge in self._edges]) >= -math.log(EQUAL_ALPHA):
            return "equal", "margin"
        if len(self._ours) < self.total:
            return "undecided", ""
        import numpy as np

        clusters = np.array(self._clusters) if self.largest > 1 else None
        theirs, ours = np.array(self._theirs), np.array(self._ours)
        found = compare_pair(theirs, ours, higher_is_better=self._higher, clusters=clusters, bounds=self.bounds)
        if found.p <= END_ALPHA:
            return winner, "all items"
        near = self.margin is not None and abs(found.difference) + _quantile(found.n) * found.stderr < self.margin
        if near and self._differing_are_rare():
            return "equal", "all items"
        return "undecided", ""

    def _differing_are_rare(self) -> bool:
        """Whether draws that differ can't make up the margin; they tell it themselves if they are many.

        The mean over draws is at most the share of those that differ in one direction; that share's exact upper bound
        (Clopper and Pearson 1934) has to be within the margin, as a spread can't be told from a few draws.
        """
        from scipy.stats import beta

        n, ways = len(self._units_seen), [sum(way * one > 0 for one in self._units_seen) for way in (1, -1)]
        if sum(ways) >= ENOUGH_DIFFER:
            return True
        assert self.margin is not None
        most = max(ways)
        bound = 1.0 if most == n else float(beta.ppf(1 - END_ALPHA / 2, most + 1, n - most))
        return bound * self._scale < self.margin

    def interval(self) -> tuple[float, float]:
        """The 95% interval of the difference, in the metric's units; it holds whenever one stops."""
        low, high = betting_interval(self._units_seen, ALPHA)
        return max(-self.width, low * self._scale), min(self.width, high * self._scale)

    def wins_needed(self) -> int:
        """How many draws in a row that the leader wins would decide; of other scores than right or wrong, at least."""
        if self.signs_only:
            behind, ahead = sorted((self.state.wins, self.state.losses))
            return wins_needed(ahead, behind, SEQUENCE_ALPHA)
        # No draw takes the e-value further than by twice.
        return max(1, math.ceil((-math.log(SEQUENCE_ALPHA) - self.state.log_e) / math.log(2)))

    def items_left(self) -> int | None:
        """About how many more items it takes if it goes on as so far; None if it is not going anywhere."""
        if self.state.log_e <= 0:
            return None
        wanted = math.ceil(self.state.n * (-math.log(SEQUENCE_ALPHA) / self.state.log_e - 1))
        return wanted if 0 <= wanted <= self.total - self.state.n else None

    def share_of_all(self) -> tuple[float, float] | None:
        """The 95% interval for what our model's score on all items will be; None unless items are right or wrong."""
        if not self.signs_only:
            return None
        right = sum(one == self.bounds[1] for one in self._ours)
        low, high = final_share(right, self.state.n, self.total, ALPHA)
        return self.bounds[0] + low * self.width, self.bounds[0] + high * self.width

    def set_p(self) -> float | None:
        """p, valid at any item, of "whoever leads now doesn't lead on all items"; None unless items are right or wrong.

        Of the set alone, whatever it was drawn from.
        """
        if not self.signs_only:
            return None
        state = self.state
        return min(1.0, math.exp(-log_set_e_value(state.wins, state.losses, state.ties, self.total)))


def _quantile(n: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(max(1, n - 1), 1 - END_ALPHA / 2))
