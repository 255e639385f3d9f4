"""A run's number with a standard error and a 95% interval that a reader can trust: of a mean, or of a pooled metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from slmbench.statistics.clusters import clustered_spread, members
from slmbench.values import Array, Estimate

# The 97.5% point of the standard normal distribution.
Z_95 = 1.959963984540054


def estimate(
    values: Sequence[float] | Array,
    clusters: Sequence[str | None] | None = None,
    range: tuple[float, float] | None = None,
    alpha: float = 0.05,
) -> Estimate:
    """Mean of item scores and its 1 - alpha interval.

    values: one finite number an item. clusters: one label an item (None: the item stands alone); items with the same
    label aren't independent. range: the lowest and highest score that an item can have, None if there is none; no
    interval leaves it. Which interval is made, and what `method` says:

    - `wilson`: no cluster is named and every value is an end of the range (0 or 1 if there is none). Wilson's score
      interval; stderr is sqrt(p (1 - p) / n) times the range's width.
    - `wilson-t`: no cluster is named, other values in a range. Wilson's interval of as many right-or-wrong items as
      have the mean's variance, with Student's t (n - 1) in place of the normal. Where a few items make up the variance
      (many scores at an end of the range), it is that of the values and one more at either end of weight
      2 (kurtosis - 3) / n, at most 1: what was seen once in a hundred may have been missed. stderr is that of `t`.
    - `wilson-cr2`: some cluster is named, values in a range. The same interval from the CR2 standard error and
      Satterthwaite's degrees of freedom (`clustered_spread`).
    - `t`, `cr2-t`: the same without a range: mean +- t * stderr.
    - `wilson-clusters`: clusters are named and all of them have the same mean: nothing varies between them. Wilson's
      interval, with Kish's effective number of clusters for the number of items.
    - `none`: one real value, one cluster, or no spread and no range: nothing can be said. stderr is 0 and both ends of
      the interval are the value itself; a reader has to take this method as "no interval", not as certainty.

    Raises ValueError if values is empty, holds NaN, an infinity or a value outside the range, or if clusters has
    another length.
    Sources: Wilson 1927; Miller 2024, "Adding Error Bars to Evals", section 2; Korn and Graubard 1998 for effective
    sizes; docs/statistics.md for what was measured of each.
    """
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        raise ValueError("no values: a mean over no items doesn't exist")
    sound = np.isfinite(numbers)
    inside = sound if range is None else sound & (numbers >= range[0]) & (numbers <= range[1])
    if not inside.all():
        position = int(np.argmin(inside))
        said = f"value {position} of {len(numbers)} is {float(numbers[position])}"
        if range is None or not sound[position]:
            raise ValueError(f"{said}; every item's score has to be finite")
        raise ValueError(f"{said}, outside {range[0]} to {range[1]}")
    if clusters is not None and len(clusters) != len(numbers):
        raise ValueError(f"{len(clusters)} clusters for {len(numbers)} values; give one for each")

    n = len(numbers)
    mean = math.fsum(numbers.tolist()) / n
    ends = range or (0.0, 1.0)
    binary = bool(((numbers == ends[0]) | (numbers == ends[1])).all())
    bounds = ends if binary else range
    if clusters is not None and any(label is not None for label in clusters):
        return _clustered(numbers, clusters, mean, bounds, alpha)
    if binary:
        share = int((numbers == ends[1]).sum()) / n
        low, high = _scaled(ends, *wilson_interval(share, n, _z(alpha)))
        stderr = (ends[1] - ends[0]) * math.sqrt(share * (1 - share) / n)
        return Estimate(mean, stderr, min(low, mean), max(high, mean), n, "wilson")
    if n == 1:
        return Estimate(mean, 0.0, mean, mean, n, "none")
    stderr = math.sqrt(float(np.sum((numbers - mean) ** 2)) / (n - 1) / n)
    if bounds is None:
        return _t_estimate(mean, stderr, n, n - 1, "t", alpha)
    # With the weight of `most`, n scores that are all alike cover by 1 - alpha; at 5% it would be 1.17.
    most = 1.0 if alpha == 0.05 else (math.log(alpha) / _z(alpha)) ** 2 / 2
    half_squared = t_quantile(1 - alpha / 2, n - 1) ** 2 * _guarded(numbers, mean, bounds, most)
    low, high = interval_within(mean, half_squared, bounds)
    return Estimate(mean, stderr, low, high, n, "wilson-t")


def spread_of_mean(
    values: Sequence[float] | Array, clusters: Sequence[str | None] | None, bounds: tuple[float, float] | None
) -> tuple[float, float]:
    """(variance of the mean, degrees of freedom) as `estimate` uses them where it makes no interval of right or wrong.

    The variance is 0 where nothing varies. values, clusters, bounds: as in `estimate`; at least two values.
    """
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    if clusters is not None and any(label is not None for label in clusters):
        spread = clustered_spread(numbers, clusters)
        return spread.stderr**2, spread.freedom
    n = len(numbers)
    mean = math.fsum(numbers.tolist()) / n
    plain = float(np.sum((numbers - mean) ** 2)) / (n - 1) / n
    inside = bounds is not None and bounds[0] < mean < bounds[1]
    return (_guarded(numbers, mean, bounds) if bounds is not None and inside else plain), n - 1.0


def interval_within(mean: float, half_squared: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Wilson's interval of a mean in `bounds`, half as wide, but for what the bounds bend, as sqrt(half_squared)."""
    low, high = bounds
    # Of so many right-or-wrong items with z = 1.
    items = (mean - low) * (high - mean) / half_squared if half_squared > 0 else math.inf
    if not 0 < items < math.inf:
        return mean, mean
    return _scaled(bounds, *wilson_interval((mean - low) / (high - low), items, 1.0))


def jackknife(
    pool: Callable[[Sequence[object]], dict[str, float]],
    parts: Sequence[object],
    clusters: Sequence[str | None] | None = None,
) -> tuple[dict[str, Estimate], dict[str, list[float]]]:
    """Estimates of a pooled metric's values, each in [0, 1], and one pseudo-value an item for paired tests.

    pool, parts: as of a pooled `Scorer`; parts: one an item. clusters: as in `estimate`. The estimate is pool(parts)
    itself, not the mean of the pseudo-values. Its standard error comes from leaving out one item, or one cluster, at a
    time: sqrt((g - 1) / g * sum of (theta_(-i) - their mean)^2) over g items or clusters. The interval, `jackknife`, is
    Wilson's as wide as t with g - 1 degrees of freedom (Satterthwaite's of the pseudo-values where clusters are named);
    where few items make up the variance it counts those that may have been missed, as `wilson-t` of `estimate` does. At
    0 or 1 it is Wilson's of n right-or-wrong items, or of as many effective clusters. The method is `none`, as in
    `estimate`, where g is 1. The pseudo-value of item i is n * theta - (n - 1) * theta_(-i), of single items even if
    clusters are named; of one item it is theta.

    A pool with a method leave_out(parts, groups), groups being lists of positions, is asked for all theta_(-i) at once;
    another one is called once for each. Raises ValueError if parts is empty, if clusters has another length, or if the
    pool gives a NaN or an infinity. Source: Efron and Tibshirani 1993, chapter 11.
    """
    n = len(parts)
    if not n:
        raise ValueError("no parts: a pooled value over no items doesn't exist")
    if clusters is not None and len(clusters) != n:
        raise ValueError(f"{len(clusters)} clusters for {n} items; give one for each")
    whole = pool(parts)
    single = [[position] for position in range(n)]
    groups = members(clusters) if clusters is not None else single
    without_item = _left_out(pool, parts, single)
    without_group = without_item if len(groups) == n else _left_out(pool, parts, groups)
    estimates, pseudo_values = {}, {}
    for name, value in whole.items():
        left = [values[name] for values in without_group]
        if not all(map(math.isfinite, (value, *left))):
            raise ValueError(f"{name} is not finite over all items, or without one of them")
        pseudo = [n * value - (n - 1) * values[name] for values in without_item] or [value]
        estimates[name] = _jackknifed(value, left, pseudo, clusters)
        pseudo_values[name] = pseudo
    return estimates, pseudo_values


def _left_out(
    pool: Callable[..., dict[str, float]], parts: Sequence[object], groups: list[list[int]]
) -> list[dict[str, float]]:
    """The pool's values without each group; empty if there is one group, as nothing would be left."""
    if len(groups) == 1:
        return []
    leave_out = getattr(pool, "leave_out", None)
    if leave_out is not None:
        left: list[dict[str, float]] = leave_out(parts, groups)
        return left
    dropped = map(set, groups)
    return [pool([part for position, part in enumerate(parts) if position not in gone]) for gone in dropped]


def _jackknifed(
    value: float, left: list[float], pseudo: list[float], clusters: Sequence[str | None] | None
) -> Estimate:
    """pseudo: of items. left: of items, or of clusters where they are named."""
    import numpy as np

    n, g = len(pseudo), len(left)
    if g < 2:
        return Estimate(value, 0.0, value, value, n, "none")
    mean = math.fsum(left) / g
    stderr = math.sqrt((g - 1) / g * math.fsum((each - mean) ** 2 for each in left))
    freedom, effective = n - 1.0, float(n)
    if clusters is not None:
        spread = clustered_spread(pseudo, clusters)
        freedom, effective = spread.freedom, spread.effective
    # Also where all are equal, rounding aside: that every item counts alike doesn't make the number certain.
    varies = max(left) - min(left) >= 1e-12
    if not 0.0 < value < 1.0 or (clusters is not None and not varies):
        low, high = wilson_interval(min(1.0, max(0.0, value)), effective)
        return Estimate(value, stderr if varies else 0.0, min(low, value), max(high, value), n, "jackknife")
    variance = stderr**2 if varies else 0.0
    if clusters is None:
        variance = max(variance, _guarded(np.asarray(pseudo), value, (0.0, 1.0)))
    low, high = interval_within(value, t_quantile(0.975, freedom) ** 2 * variance, (0.0, 1.0))
    return Estimate(value, stderr if varies else 0.0, low, high, n, "jackknife")


def wilson_interval(share: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval (low, high) of a share in [0, 1] of n items, 95% unless z says otherwise.

    n: need not be whole, as effective numbers of items aren't. Source: Wilson 1927.
    """
    shrink = 1 + z**2 / n
    middle = (share + z**2 / (2 * n)) / shrink
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n * n)) / shrink
    # At a share of 0 or 1 that end is exact; rounding may not carry it past the value, nor out of the range.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _clustered(
    numbers: Array, clusters: Sequence[str | None], mean: float, bounds: tuple[float, float] | None, alpha: float
) -> Estimate:
    n, z = len(numbers), _z(alpha)
    spread = clustered_spread(numbers, clusters)
    if bounds is not None and mean in bounds:
        low, high = _scaled(bounds, *wilson_interval(float(mean == bounds[1]), spread.effective, z))
        return Estimate(mean, 0.0, low, high, n, "wilson-clusters")
    if spread.clusters == 1:
        return Estimate(mean, 0.0, mean, mean, n, "none")
    if bounds is None:
        return _t_estimate(mean, spread.stderr, n, spread.freedom, "cr2-t", alpha)
    if _nothing(spread.stderr, bounds[1] - bounds[0]):  # Clusters that agree say nothing of how they differ.
        share = (mean - bounds[0]) / (bounds[1] - bounds[0])
        low, high = _scaled(bounds, *wilson_interval(share, spread.effective, z))
        return Estimate(mean, 0.0, min(low, mean), max(high, mean), n, "wilson-clusters")
    low, high = interval_within(mean, (t_quantile(1 - alpha / 2, spread.freedom) * spread.stderr) ** 2, bounds)
    return Estimate(mean, spread.stderr, low, high, n, "wilson-cr2")


def _guarded(numbers: Array, mean: float, bounds: tuple[float, float], most: float = 1.0) -> float:
    """The variance of the mean of scores strictly within bounds, not smaller where it hangs on few items.

    Of the values, and of one at either bound with the weight 2 (kurtosis - 3) / n, at least 0 and at most 1, times
    `most`: the kurtosis over n is one over the number of items that the variance hangs on.
    """
    import numpy as np

    n = len(numbers)
    squares = (numbers - mean) ** 2
    second = float(np.sum(squares))
    if numbers.max() > numbers.min():
        share = float(np.sum(squares * squares)) / (second * second)
        weight = most * min(1.0, max(0.0, 2 * (share - 3 / n)))
    else:  # Scores that don't differ at all say nothing of their spread.
        weight = most
    low, high = bounds
    total = n + 2 * weight
    middle = (n * mean + weight * (low + high)) / total
    # About the added values' mean, by the shift from the scores' own.
    spread = second + n * (mean - middle) ** 2
    spread += weight * ((low - middle) ** 2 + (high - middle) ** 2)
    # As much of the most that a mean can vary as the added values leave it.
    return spread / (total - 1) / n * ((mean - low) * (high - mean)) / ((middle - low) * (high - middle))


def _scaled(bounds: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    width = bounds[1] - bounds[0]
    return bounds[0] + width * low, bounds[0] + width * high


def t_quantile(share: float, freedom: float) -> float:
    """The quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def _nothing(stderr: float, scale: float) -> bool:
    """Whether a standard error is 0 but for rounding."""
    return stderr <= 1e-12 * scale


def _z(alpha: float) -> float:
    from scipy.special import ndtri

    return Z_95 if alpha == 0.05 else float(ndtri(1 - alpha / 2))


def _t_estimate(mean: float, stderr: float, n: int, freedom: float, method: str, alpha: float) -> Estimate:
    if _nothing(stderr, abs(mean)):
        return Estimate(mean, 0.0, mean, mean, n, "none")
    half = t_quantile(1 - alpha / 2, freedom) * stderr
    return Estimate(mean, stderr, mean - half, mean + half, n, method)
