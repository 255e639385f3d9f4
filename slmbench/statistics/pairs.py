"""Two models on the same items: the difference of their means, its interval, and a test of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve, frozen

from slmbench.statistics.clusters import MIN_CLUSTERS, MIN_EFFECTIVE_CLUSTERS, clustered_spread
from slmbench.statistics.crossed import SeedSpread, parts_p, seed_spread
from slmbench.statistics.estimate import estimate, interval_within, spread_of_mean, t_quantile
from slmbench.statistics.planning import detectable_at, spread_of_pair
from slmbench.statistics.significance import NOTHING, POWER, same_items_p

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


@frozen
class PairComparison:
    """b beside a, on the items that both have.

    difference: mean of b minus mean of a. stderr: of the difference. ci_low, ci_high: its 95% interval. p: two-sided,
    of "equally good". method: the test's, `mcnemar-midp`, `paired-t`, `sign`, `sign-flip` or `seeds-items`. n: items.
    wins: of which b is better, losses: a is. detectable: the difference that a test at 5% on such items finds with 80%
    power, None if they say nothing of their spread.
    """

    difference: float
    stderr: float
    ci_low: float
    ci_high: float
    p: float
    method: str
    n: int
    wins: int
    losses: int
    ties: int
    detectable: float | None


def compare_pair(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    *,
    higher_is_better: bool,
    clusters: NDArray[np.int64] | None = None,
    bounds: tuple[float, float] | None = None,
) -> PairComparison:
    """b minus a, paired by item.

    a, b: (n,), a score an item, NaN where there is none; or (k, n), those of k seeds of one recipe. clusters: (n,), -1
    if an item stands alone. bounds: the lowest and highest score; the interval doesn't leave what they leave a
    difference. Only items that all have count. The test is that of `paired_p`; the interval that of `estimate` on the
    differences. With several seeds on a side both count the variance between them (`parts_p`, `estimate_over_both`),
    the items being compared by their means over seeds.

    Interval and p come from different tests where scores are right or wrong, or clustered: at the border of 5% one may
    exclude what the other doesn't. Raises ValueError if the lengths differ or no item has all scores.
    """
    import numpy as np

    sides = [np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (a, b)]
    if len({side.shape[1:] for side in sides} | ({clusters.shape} if clusters is not None else set())) != 1:
        raise ValueError(
            f"scores of shape {a.shape} and {b.shape}: both have to be of the same items, and so have clusters"
        )
    both = np.isfinite(np.concatenate(sides)).all(0)
    if not both.any():
        raise ValueError("no item has a score of both: there is nothing to compare")
    first, second = (side[:, both] for side in sides)
    labels = None if clusters is None else [None if label < 0 else str(label) for label in clusters[both].tolist()]
    if labels is not None and all(label is None for label in labels):
        labels = None
    width = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    made = _single(first.mean(0), second.mean(0), labels, width, higher_is_better)
    spreads = [seed_spread(side) for side in (first, second)]
    if not any(spread.between + spread.left > 0 for spread in spreads):
        return made
    return _over_seeds(made, second.mean(0) - first.mean(0), labels, width, spreads)


def _single(
    first: Floats, second: Floats, labels: list[str | None] | None, width: tuple[float, float] | None, up: bool
) -> PairComparison:

    differences = second - first
    made = estimate(differences, labels, width)
    p = same_items_p(first, second, labels or ())
    binary = bool((((first == 0) | (first == 1)) & ((second == 0) | (second == 1))).all())
    spread = clustered_spread(differences, labels or [None] * len(differences))
    varies = spread.stderr > NOTHING * abs(made.value)
    tellable = labels is None or (spread.clusters >= MIN_CLUSTERS and spread.effective >= MIN_EFFECTIVE_CLUSTERS)
    detectable = _reach(spread.freedom) * spread.stderr if varies and tellable and spread.freedom > 0 else None
    if binary and not labels and varies:  # Two models that differ by so much do so on as many items at least.
        detectable = detectable_at(len(differences), spread_of_pair(first, second))
    better = second > first if up else second < first
    wins, ties = int(better.sum()), int((second == first).sum())
    method = "sign-flip" if labels else "mcnemar-midp" if binary else "paired-t" if varies else "sign"
    n = len(differences)
    ends = made.ci_low, made.ci_high
    return PairComparison(made.value, made.stderr, *ends, p, method, n, wins, n - wins - ties, ties, detectable)


def _over_seeds(
    made: PairComparison,
    differences: Floats,
    labels: list[str | None] | None,
    width: tuple[float, float] | None,
    spreads: Sequence[SeedSpread],
) -> PairComparison:
    """The same with what the seeds of both sides add to the variance."""
    import numpy as np

    if made.n == 1:
        return made
    variance, freedom = spread_of_mean(differences, labels, width)
    parts = [(max(0.0, variance - sum(spread.left for spread in spreads)), max(0.5, freedom))]
    parts += [(spread.between, spread.freedom) for spread in spreads]
    variances, freedoms = np.array(parts).T[..., None]  # (parts, 1) each
    few = labels is not None and made.detectable is None and made.stderr > 0  # Clusters: nothing is told apart.
    p = 1.0 if few else float(parts_p(np.array([made.difference]), variances, freedoms)[0])
    stderr = math.sqrt(float(variances.sum()))
    half_squared = math.fsum(t_quantile(0.975, degrees) ** 2 * part for part, degrees in parts)
    reach = math.sqrt(math.fsum(_reach(degrees) ** 2 * part for part, degrees in parts))
    low, high = made.difference - math.sqrt(half_squared), made.difference + math.sqrt(half_squared)
    if width is not None and width[0] < made.difference < width[1]:
        low, high = interval_within(made.difference, half_squared, width)
    return evolve(
        made, stderr=stderr, ci_low=low, ci_high=high, p=p, method="seeds-items", detectable=None if few else reach
    )


def _reach(freedom: float) -> float:
    """How many standard errors a test at 5% finds with 80% power."""
    return t_quantile(0.975, freedom) + t_quantile(POWER, freedom)
