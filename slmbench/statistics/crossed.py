"""Several seeds that all answered the same items: means and differences whose precision counts seeds and items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve, frozen

from slmbench.statistics.estimate import estimate, interval_within, spread_of_mean, t_quantile
from slmbench.values import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

OVER_BOTH = ("t-seeds-items", "wilson-seeds-items")
"""Methods of intervals over seeds and items."""
OFF_ITEMS = 0.75
"""The share of what seeds and items leave unexplained that comes off the items' part; the rest comes off the seeds'."""
SMALLEST_P = 1e-30


@frozen
class SeedSpread:
    """What k seeds add to the variance of a mean over them and n items.

    between: that is due to the seeds. left: the part of the items' variance of the mean over seeds that it counts
    again. freedom: k - 1.
    """

    between: float
    left: float
    freedom: float


def seed_spread(scores: Floats) -> SeedSpread:
    """The seeds' part of the variance of scores.mean(), by analysis of variance of seeds crossed with items.

    scores: (k, n), finite, one row a seed. With the mean squares S of seeds, I of items and R of what is left,
    (S + I - R) / (k n) estimates the variance of the mean without bias. S has k - 1 degrees of freedom, so what comes
    off it matters: with all of R off S, intervals of two seeds cover .90 to .96 of the time, with none .96 to .99. A
    quarter comes off S, and the rest off I: .94 to .97. One seed says nothing of others: its part is 0.
    Source: Searle, Casella and McCulloch 1992, "Variance Components", chapter 4.
    """
    import numpy as np

    k, n = scores.shape
    if (scores == scores[0]).all():
        return SeedSpread(0.0, 0.0, max(1.0, k - 1.0))
    whole, by_seed, by_item = scores.mean(), scores.mean(1), scores.mean(0)
    seeds = n * float(np.sum((by_seed - whole) ** 2)) / (k - 1)
    rest = float(np.sum((scores - by_seed[:, None] - by_item + whole) ** 2)) / max(1, (k - 1) * (n - 1))
    between = max(0.0, seeds - (1 - OFF_ITEMS) * rest) / (k * n)
    return SeedSpread(between, OFF_ITEMS * rest / (k * n), k - 1.0)


def estimate_over_both(
    scores: Floats, clusters: Sequence[str | None] | None, bounds: tuple[float, float] | None
) -> Estimate:
    """Mean over seeds and items with a 95% interval that counts both. scores: (k, n), finite. n of it counts items.

    Half the interval is sqrt(t(k - 1)^2 V_seeds + t(items)^2 V_items): each part has its own Student's t, as the
    variance of a few seeds is known far worse than that of the items. In a range it is bent by Wilson's formula so as
    not to leave it. V_items is that of the items' means over seeds, as `estimate` has it. Where neither varies, or by
    chance less than what is left of both, it is the `estimate` of those means.
    Source: Banerjee 1960, "Approximate confidence interval for linear functions of means of k populations when the
    population variances are not equal"; docs/statistics.md for what was measured.
    """
    means = scores.mean(0)
    single = estimate(means.tolist(), clusters, bounds)
    seeds = seed_spread(scores)
    if len(means) == 1 or (seeds.between == 0 and seeds.left == 0):
        return single
    variance, freedom = spread_of_mean(means.tolist(), clusters, bounds)
    if freedom == 0:  # One cluster.
        return single
    mean, variance = single.value, max(0.0, variance - seeds.left)
    if seeds.between == 0 and variance == 0:
        return single
    half_squared = t_quantile(0.975, seeds.freedom) ** 2 * seeds.between + t_quantile(0.975, freedom) ** 2 * variance
    stderr = (seeds.between + variance) ** 0.5
    if bounds is None:
        half = half_squared**0.5
        return Estimate(mean, stderr, mean - half, mean + half, len(means), "t-seeds-items")
    if not bounds[0] < mean < bounds[1]:
        return evolve(single, stderr=stderr)
    low, high = interval_within(mean, half_squared, bounds)
    return Estimate(mean, stderr, low, high, len(means), "wilson-seeds-items")


def parts_p(leads: Floats, variances: Floats, freedoms: Floats) -> Floats:
    """(pairs,): two-sided p of differences whose variance is a sum of parts, each with degrees of freedom of its own.

    leads: (pairs,). variances, freedoms: (parts, pairs). p is where sqrt(sum of t(1 - p / 2)^2 V) over the parts
    reaches the lead: the interval of that confidence ends at 0. It is read from a grid to a thousandth of itself, is
    not below SMALLEST_P, and 1 if no part varies. Degrees of freedom are rounded down, to quarters below 50.
    """
    import numpy as np
    from scipy.special import stdtrit

    grid = np.concatenate([np.linspace(1.0, 0.1, 400)[:-1], np.logspace(-1, np.log10(SMALLEST_P), 1600)])
    rounded = np.where(freedoms < 50, np.floor(4 * freedoms) / 4, np.floor(np.minimum(freedoms, 1000)))
    each, where = np.unique(np.maximum(0.5, rounded), return_inverse=True)
    squares = stdtrit(each[:, None], grid / 2) ** 2  # (freedoms, grid)
    where = where.reshape(freedoms.shape)

    def reach(place: NDArray[np.intp]) -> Floats:
        return np.sqrt(np.sum(squares[where, place] * variances, axis=0))

    wanted = np.abs(leads)
    low = np.zeros(len(leads), dtype=np.intp)
    high = np.full(len(leads), len(grid) - 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        reached = reach(middle) <= wanted
        low, high = np.where(reached, middle, low), np.where(reached, high, middle)
    below, above = reach(low), reach(high)
    share = np.clip((wanted - below) / np.where(above > below, above - below, 1.0), 0.0, 1.0)
    p = np.exp(np.log(grid[low]) + share * (np.log(grid[high]) - np.log(grid[low])))
    return np.where(variances.sum(0) > 0, p, 1.0)
