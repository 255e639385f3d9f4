"""One model against the results of another, item by item in random order: who is better, told as soon as it is sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from attrs import frozen

from slmbench.statistics.estimate import estimate
from slmbench.statistics.sequential import BettingTest, betting_interval, final_share

ALPHA = 0.05
SEQUENCE_SHARE = 0.8
"""What of alpha may be spent while it runs; the rest is for one look at all items at the end."""

Verdict: TypeAlias = Literal["better", "worse", "equal", "undecided"]


def threshold(alpha: float = ALPHA) -> float:
    """The e-value that decides: 25 at 5%."""
    return 1 / (SEQUENCE_SHARE * alpha)


@frozen
class RaceState:
    """Where a race stands after some items.

    n: items. wins, losses, ties: of these, by which model is better. log_e: log of the e-value of "equally good". p:
    of that, valid whenever one stops: 1 / (.8 times the largest e-value so far), or alpha if the look at all items
    decides; `better` and `worse` are the verdict if it is alpha at most. difference: ours minus theirs, in the metric's
    units: the mean over these items; of clusters, what they say of the whole set's, their mean sum over the clusters'
    mean size. verdict: undecided while it goes on. by: what decided: `sequence`, `margin`, or `all items`, the look at
    the end; '' for nothing.
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
    margin: a difference that doesn't matter, in the metric's units; None if each does. alpha: of a wrong verdict.

    What decides and what is shown is one interval of the difference (`interval`), which holds the true one after all
    items at once with probability 1 - alpha: what the e-values leave (`BettingTest`), at 4% if alpha is 5%, and once
    all items are there what is also left by the fixed interval of all of them (`estimate`), at 1%. `better` and
    `worse` say that 0 isn't in it, `equal` that it lies within the margin. So a verdict is wrong with probability alpha
    at most, whichever it is. Raises ValueError for bounds, a margin or an alpha that can't be.
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
        alpha: float = ALPHA,
    ) -> None:
        self.width = bounds[1] - bounds[0]
        if not 0 < self.width < math.inf:
            raise ValueError(f"bounds are {bounds}; a score has to have a lowest and a highest value")
        if margin is not None and not 0 < margin < self.width:
            raise ValueError(f"margin is {margin:g}; it has to be between 0 and {self.width:g}")
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha:g}; it has to be between 0 and 1")
        self.total, self.draws, self.largest, self.margin = total, draws or total, largest, margin
        self.bounds, self.alpha, self._higher = bounds, alpha, higher_is_better
        # The mean over items is so many times the mean over draws of what `add` makes of them.
        self._scale = self.draws * largest * self.width / total
        self._wanted = math.log(threshold(alpha))
        self._equal = BettingTest()
        self._margins = [] if margin is None else [BettingTest(end * margin / self._scale) for end in (-1, 1)]
        # What the look at all items leaves: everything until then.
        self._at_end = -math.inf, math.inf
        self._draws: list[float] = []
        self._differences: list[float] = []
        self._clusters: list[str] = []
        self._sum, self._right = 0.0, 0
        self.signs_only = largest == 1
        """Whether every draw so far is one item that is right or wrong."""
        self.state = RaceState(0, 0, 0, 0, 0.0, 1.0, 0.0, "undecided", "")

    def add(self, theirs: Sequence[float], ours: Sequence[float]) -> RaceState:
        """Takes one draw: the scores of its items. Raises ValueError once it is decided, or for what no draw can be."""
        before = self.state
        if before.decided or before.n + len(ours) > self.total or not 0 < len(ours) <= self.largest:
            raise ValueError(f"{len(ours)} items more don't fit a race of {self.total} with {before}")
        differences = [b - a for a, b in zip(theirs, ours, strict=True)]
        self.signs_only &= all(one in self.bounds for one in (*theirs, *ours))
        self._right += sum(one == self.bounds[1] for one in ours)
        # A score of 1 that was divided may be an ulp above it.
        unit = max(-1.0, min(1.0, math.fsum(differences) / (self.width * self.largest)))
        self._draws.append(unit)
        self._sum += unit
        self._clusters += [str(len(self._draws))] * len(ours)
        self._differences += differences
        for test in (self._equal, *self._margins):
            test.add(unit)
        n, log_e = len(self._differences), self._equal.log_e
        mean = max(-self.width, min(self.width, self._sum / len(self._draws) * self._scale))
        if n == self.total:
            self._at_end = self._left_by_all()
        up = sum(one > 0 for one in differences)
        down = sum(one < 0 for one in differences)
        wins, losses = (up, down) if self._higher else (down, up)
        verdict, by = self._verdict(mean)
        p = min(before.p, math.exp(-log_e) / SEQUENCE_SHARE)
        if verdict in ("better", "worse"):
            p = min(p, self.alpha)
        self.state = RaceState(
            n,
            before.wins + wins,
            before.losses + losses,
            before.ties + len(ours) - up - down,
            log_e,
            p,
            mean,
            verdict,
            by,
        )
        return self.state

    def _verdict(self, mean: float) -> tuple[Verdict, str]:
        low, high = self._at_end
        winner: Verdict = "better" if (mean > 0) == self._higher else "worse"
        if self._is_out(self._equal):
            return winner, "sequence"
        if not low <= 0 <= high:
            return winner, "all items"
        if self.margin is not None:
            out = [self._is_out(test) for test in self._margins]
            if all(out):
                return "equal", "margin"
            if (out[0] or low >= -self.margin) and (out[1] or high <= self.margin):
                return "equal", "all items"
        return "undecided", ""

    def _is_out(self, test: BettingTest) -> bool:
        return test.log_e >= self._wanted

    def _left_by_all(self) -> tuple[float, float]:
        clusters = self._clusters if self.largest > 1 else None
        found = estimate(self._differences, clusters, (-self.width, self.width), (1 - SEQUENCE_SHARE) * self.alpha)
        return (-math.inf, math.inf) if found.method == "none" else (found.ci_low, found.ci_high)

    def interval(self) -> tuple[float, float]:
        """The 1 - alpha interval of the difference, in the metric's units; it holds whenever one stops."""
        low, high = betting_interval(self._draws, SEQUENCE_SHARE * self.alpha, (self._equal, *self._margins))
        least, most = self._at_end
        return max(-self.width, least, low * self._scale), min(self.width, most, high * self._scale)

    def wins_needed(self) -> int:
        """How many draws in a row that the leader wins by as much as can be would decide; 1 at least."""
        return max(1, self._equal.needed(math.copysign(1.0, self._sum), self._wanted))

    def items_left(self) -> int | None:
        """About how many more items it takes if it goes on as so far; None if it is not going anywhere."""
        if self.state.log_e <= 0:
            return None
        wanted = math.ceil(self.state.n * (self._wanted / self.state.log_e - 1))
        return wanted if 0 <= wanted <= self.total - self.state.n else None

    def share_of_all(self) -> tuple[float, float] | None:
        """The 95% interval for what our model's score on all items will be; None unless items are right or wrong."""
        if not self.signs_only:
            return None
        low, high = final_share(self._right, self.state.n, self.total, ALPHA)
        return self.bounds[0] + low * self.width, self.bounds[0] + high * self.width
