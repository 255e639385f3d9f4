"""How many items tell two models apart, and what a set of items can show at all: paired, never two samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attrs import evolve, frozen

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

POWER = 0.8
"""That is planned for unless another is asked for."""
CORRELATION = 0.5
"""Between the scores of two models on an item, if no pair of runs says it."""


@frozen
class PairSpread:
    """How much the difference of two models varies from item to item.

    sd: of the difference. discordance: the share of items that one alone got right, None of other scores. design: what
    clusters make of the variance of a mean, 1.0 without any.
    """

    sd: float
    discordance: float | None = None
    design: float = 1.0

    def variances(self, difference: float) -> tuple[float, float]:
        """(variance of an item's difference if its mean is 0, and if it is `difference`).

        Two models that differ by D do so on a share D of the items at least: a smaller discordance is taken for that.
        """
        if self.discordance is None:
            return self.sd**2, self.sd**2
        discordance = max(self.discordance, abs(difference))
        return discordance, discordance - difference**2


def spread_of_pair(a: NDArray[float64], b: NDArray[float64], clusters: NDArray[int64] | None = None) -> PairSpread:
    """What two runs say of the spread. a, b: (n,), scores of the same items; items with a NaN are left out.

    clusters: (n,), a number a cluster, -1 for an item on its own. The design effect is 1 + (m - 1) times the
    differences' correlation within clusters, m being the mean size of an item's cluster. Raises ValueError with fewer
    than two items.
    """
    import numpy as np

    there = ~(np.isnan(a) | np.isnan(b))
    a, b = np.asarray(a, dtype=float)[there], np.asarray(b, dtype=float)[there]
    if len(a) < 2:
        raise ValueError(f"{len(a)} items that both have: a spread needs two")
    differences = b - a
    binary = bool(np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all())
    discordance = float(np.mean(differences != 0)) if binary else None
    design = 1.0 if clusters is None else _design_effect(differences, np.asarray(clusters)[there])
    return PairSpread(float(differences.std(ddof=1)), discordance, design)


def assumed_spread(first: float, second: float, correlation: float = CORRELATION) -> PairSpread:
    """Of two models that get these shares of the items right, if no run tells the discordance.

    p (1 - p) + q (1 - q) + (p - q)^2 - 2 r sqrt(p (1 - p) q (1 - q)). Raises ValueError if a share is not in [0, 1].
    """
    for share in (first, second):
        if not 0 <= share <= 1:
            raise ValueError(f"{share} is not a share of items: 0 to 1")
    own, other, gap = first * (1 - first), second * (1 - second), first - second
    variance = own + other - 2 * correlation * math.sqrt(own * other)
    # One alone is right on |p - q| of the items at least, and on no more than either's share allows.
    most = min(first, 1 - second) + min(second, 1 - first)
    discordance = min(max(variance + gap**2, abs(gap)), most)
    return PairSpread(math.sqrt(max(0.0, discordance - gap**2)), discordance)


def items_to_detect(
    difference: float, spread: PairSpread, *, power: float = POWER, alpha: float = 0.05, of: int | None = None
) -> int:
    """The items on which a paired two-sided test at alpha finds a difference of means with so much power.

    ((z_{1-a/2} sd_0 + z_power sd_1) / D)^2, sd_0 and sd_1 without and with the difference, times the design effect; of
    other than right-or-wrong scores Student's t in place of z.
    of: the size of a set that is all there is: then how many of its items say how the whole of it comes out,
    n / (1 + n / N). Raises ValueError if the difference is 0, or not below 1 of right-or-wrong scores.
    Source: Connor 1987, "Sample size for testing differences in proportions for the paired-sample design".
    """
    if not (difference and math.isfinite(difference)) or (spread.discordance is not None and abs(difference) > 1):
        raise ValueError(f"a difference of {difference} can't be planned for")
    n = _items(abs(difference), spread, power, alpha)
    return max(2, math.ceil((n if of is None else n / (1 + n / of)) - 1e-9))


def detectable_at(n: int, spread: PairSpread, *, power: float = POWER, alpha: float = 0.05) -> float | None:
    """The smallest difference that n items show with so much power; None if right-or-wrong scores show none at all."""
    if spread.discordance is None:
        return sum(_quantiles(power, alpha, n / spread.design)) * spread.sd * math.sqrt(spread.design / n)
    low, high = 0.0, 1.0
    if _items(high, spread, power, alpha) > n:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _items(middle, spread, power, alpha) <= n else (middle, high)
    return high


def power_at(n: int, difference: float, spread: PairSpread, *, alpha: float = 0.05) -> float:
    """The chance that a paired two-sided test of n items finds a difference of means."""
    from scipy.special import ndtr, ndtri

    none, some = (math.sqrt(variance) for variance in spread.variances(difference))
    reach = abs(difference) * math.sqrt(n / spread.design) - float(ndtri(1 - alpha / 2)) * none
    return float(ndtr(reach / some)) if some > 0 else float(reach >= 0)


def typical(spreads: list[PairSpread]) -> PairSpread:
    """The spread in the middle of several: the median of each part. Raises ValueError without any."""
    from statistics import median

    if not spreads:
        raise ValueError("no spread to take the middle of")
    shares = [spread.discordance for spread in spreads if spread.discordance is not None]
    made = PairSpread(median(spread.sd for spread in spreads), None, median(spread.design for spread in spreads))
    return evolve(made, discordance=median(shares)) if len(shares) == len(spreads) else made


def _items(difference: float, spread: PairSpread, power: float, alpha: float) -> float:
    none, some = (math.sqrt(max(0.0, variance)) for variance in spread.variances(difference))
    n = math.inf
    for _ in range(20):
        first, second = _quantiles(power, alpha, n if spread.discordance is None else math.inf)
        n, before = ((first * none + second * some) / difference) ** 2, n
        if abs(n - before) < 0.01:
            break
    return spread.design * n


def _quantiles(power: float, alpha: float, n: float) -> tuple[float, float]:
    """Of a test's end and of its power: of Student's t on n items, of the normal distribution if n is infinite."""
    from scipy.special import ndtri, stdtrit

    if math.isinf(n):
        return float(ndtri(1 - alpha / 2)), float(ndtri(power))
    freedom = max(1.0, n - 1)
    return float(stdtrit(freedom, 1 - alpha / 2)), float(stdtrit(freedom, power))


def _design_effect(differences: NDArray[float64], clusters: NDArray[int64]) -> float:
    import numpy as np

    from slmbench.statistics.clusters import correlation_within

    labels = np.unique(clusters, return_inverse=True)[1]
    labels = np.where(clusters == -1, len(labels) + np.arange(len(labels)), labels)
    _, members, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2 or len(sizes) == len(labels):
        return 1.0
    centred = differences - differences.mean()
    sums = np.bincount(members, weights=centred)
    correlation = correlation_within(centred, sums, sizes.astype(float))
    return 1 + (float(np.sum(sizes**2)) / len(labels) - 1) * correlation
