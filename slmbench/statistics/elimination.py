"""Which of several candidates is the best: all are asked few items, and those that are worse for sure no more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from attrs import frozen

from slmbench.statistics.estimate import estimate
from slmbench.statistics.sequential import BettingTest, betting_interval

ScoreItems = Callable[[int, range], Sequence[float]]
"""(a candidate's number, places of items) -> a value for each item; higher is better."""


@frozen
class Standing:
    """A candidate at the end of a round. left: why it goes no further; '' if it does.

    behind: by how much the leader is better on these items, with the interval that tells whether it leaves, which it
    does if 0 lies below it; None of the leader itself, and an interval of None where none can be made.
    """

    candidate: int
    mean: float
    behind: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None
    left: str = ""


@frozen
class Round:
    """items: that all means are over, those of the rounds before included. standings: the best first."""

    items: int
    standings: tuple[Standing, ...]

    @property
    def leader(self) -> int:
        return self.standings[0].candidate

    @property
    def kept(self) -> list[int]:
        """The candidates that go on, in their own order."""
        return sorted(one.candidate for one in self.standings if not one.left)


def eliminate(
    candidates: int,
    score: ScoreItems,
    items: int,
    first: int,
    *,
    clusters: Sequence[str | None] | None = None,
    range_of: tuple[float, float] | None = None,
    alpha: float | None = None,
    draw: int = 1,
) -> Iterator[Round]:
    """Rounds of candidates 0, 1, ... over `first` items, then twice as many, until one is left or all were asked.

    A candidate leaves where the paired 95% interval of the leader's advantage on the same items lies above zero, or
    where one of its values is NaN or infinite. Of equal means the first candidate leads. An item is asked of a
    candidate once. clusters: one label an item, as `estimate` takes them. range_of: lowest and highest value of an
    item. The rounds are a race: an interval is looked at once a round and candidate, and is no claim about the winner.
    alpha: the interval is that of level 1 - alpha / (candidates - 1) which holds at all rounds at once
    (`betting_interval`), so that the best one ever leaves with probability alpha at most; for draws of so many items
    each, as one of each task, in a random order.
    Raises ValueError without candidates or items; with alpha also without a range, or for items in clusters. Source:
    Maron and Moore 1994, Hoeffding races; Even-Dar, Mannor and Mansour 2006, section 3, for the doubling.
    """
    if candidates < 1 or items < 1 or first < 1:
        raise ValueError(f"{candidates} candidates on {items} items, {first} first: each has to be 1 or more")
    if alpha is not None and (range_of is None or any(label is not None for label in clusters or ())):
        raise ValueError("a race by e-values needs values in a range, of items that are on their own")
    wanted = None if alpha is None else max(1, candidates - 1) / alpha
    values: list[list[float]] = [[] for _ in range(candidates)]
    kept, asked = list(range(candidates)), 0
    while asked < items and (len(kept) > 1 or not asked):
        end = min(items, max(first, 2 * asked))
        for number in kept:
            values[number] += map(float, score(number, range(asked, end)))
        asked = end
        found = Round(asked, _standings(kept, values, clusters and clusters[:asked], range_of, wanted, draw))
        kept = found.kept
        yield found


def _standings(
    kept: Sequence[int],
    values: Sequence[Sequence[float]],
    clusters: Sequence[str | None] | None,
    range_of: tuple[float, float] | None,
    wanted: float | None,
    draw: int,
) -> tuple[Standing, ...]:
    sound = [number for number in kept if all(map(math.isfinite, values[number]))]
    means = {number: math.fsum(values[number]) / len(values[number]) for number in sound}
    order = sorted(sound, key=lambda number: (-means[number], number))
    width = None if range_of is None else (range_of[0] - range_of[1], range_of[1] - range_of[0])
    found = []
    for number in order:
        if number == order[0]:
            found.append(Standing(number, means[number]))
            continue
        ahead = [a - b for a, b in zip(values[order[0]], values[number], strict=True)]
        made = estimate(ahead, clusters, width)
        low, high = (None, None) if made.method == "none" else (made.ci_low, made.ci_high)
        if wanted is not None and width is not None:
            low, high = _race_interval(ahead, draw, width[1], wanted)
        left = f"worse than the leader by {low:.4g} or more" if low is not None and low > 0 else ""
        found.append(Standing(number, means[number], made.value, low, high, left))
    odd = [Standing(number, math.nan, left="a value that is not finite") for number in kept if number not in means]
    return (*found, *odd)


def _race_interval(ahead: Sequence[float], draw: int, width: float, wanted: float) -> tuple[float, float]:
    """The means that e-values under `wanted` leave, of advantages in [-width, width] in draws of so many."""
    test, units = BettingTest(), []
    for at in range(0, len(ahead), draw):
        some = ahead[at : at + draw]
        units.append(max(-1.0, min(1.0, math.fsum(some) / len(some) / width)))
        test.add(units[-1])
    low, high = betting_interval(units, 1 / wanted, [test])
    return low * width, high * width
