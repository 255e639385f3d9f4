"""A run's number with a standard error and a 95% interval that a reader can trust: of a mean, or of a pooled metric."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from slmbench.values import Estimate

# The 97.5% point of the standard normal distribution.
Z_95 = 1.959963984540054


def estimate(values: Sequence[float], clusters: Sequence[str | None] | None = None) -> Estimate:
    """Mean of item scores and its 95% interval.

    values: one finite number an item. clusters: one label an item (None: the item stands alone); items with the same
    label aren't independent. Which interval is made, and what `method` says:

    - `wilson`: no cluster is named and every value is 0 or 1. Wilson's score interval; stderr is sqrt(p (1 - p) / n).
    - `t`: no cluster is named. mean +- t(n - 1) * sd / sqrt(n), sd with ddof = 1.
    - `clustered-t`: some cluster is named. CR0 standard error (sums of residuals by cluster), t with clusters - 1
      degrees of freedom.
    - `wilson-clusters`: clusters are named and every value is 0, or every value is 1. The residuals then say nothing,
      so this is Wilson's interval with each cluster counted as one item.
    - `none`: one real value, or one cluster: nothing can be said about the spread. stderr is 0 and both ends of the
      interval are the value itself; a reader has to take this method as "no interval", not as certainty.

    No end is clipped: a t interval may leave the metric's range, and a score below chance stays there.
    Raises ValueError if values is empty or holds NaN or an infinity, or if clusters has another length.
    Sources: Wilson 1927; Miller 2024, "Adding Error Bars to Evals", sections 2 and 3.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise ValueError("no values: a mean over no items doesn't exist")
    for position, number in enumerate(numbers):
        if not math.isfinite(number):
            raise ValueError(f"value {position} of {len(numbers)} is {number}; every item's score has to be finite")
    if clusters is not None and len(clusters) != len(numbers):
        raise ValueError(f"{len(clusters)} clusters for {len(numbers)} values; give one for each")

    n = len(numbers)
    mean = math.fsum(numbers) / n
    binary = all(number in (0.0, 1.0) for number in numbers)
    if clusters is not None and any(label is not None for label in clusters):
        return _clustered(numbers, clusters, mean, binary)
    if binary:
        low, high = wilson_interval(mean, n)
        return Estimate(mean, math.sqrt(mean * (1 - mean) / n), low, high, n, "wilson")
    if n == 1:
        return Estimate(mean, 0.0, mean, mean, n, "none")
    variance = math.fsum((number - mean) ** 2 for number in numbers) / (n - 1)
    return _t_estimate(mean, math.sqrt(variance / n), n, n - 1, "t")


def jackknife(
    pool: Callable[[Sequence[Any]], dict[str, float]],
    parts: Sequence[Any],
    clusters: Sequence[str | None] | None = None,
) -> tuple[dict[str, Estimate], dict[str, list[float]]]:
    """Estimates of a pooled metric's values, each in [0, 1], and one pseudo-value an item for paired tests.

    pool, parts: as of a pooled `Scorer`; parts: one an item. clusters: as in `estimate`. The estimate is pool(parts)
    itself, not the mean of the pseudo-values. Its standard error comes from leaving out one item, or one cluster, at a
    time: sqrt((g - 1) / g * sum of (theta_(-i) - their mean)^2) over g items or clusters; the interval is t with g - 1
    degrees of freedom, clipped to [0, 1], its method `jackknife`. The method is `none`, as in `estimate`, where g is 1
    or no item's absence changes the value. The pseudo-value of item i is n * theta - (n - 1) * theta_(-i), of single
    items even where clusters are named; of one item it is theta.

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
    groups = _groups(clusters) if clusters is not None else single
    without_item = _left_out(pool, parts, single)
    without_group = without_item if len(groups) == n else _left_out(pool, parts, groups)
    estimates, pseudo_values = {}, {}
    for name, value in whole.items():
        left = [values[name] for values in without_group]
        if not all(map(math.isfinite, (value, *left))):
            raise ValueError(f"{name} is not finite over all items, or without one of them")
        estimates[name] = _jackknifed(value, left, n)
        pseudo_values[name] = [n * value - (n - 1) * values[name] for values in without_item] or [value]
    return estimates, pseudo_values


def _groups(clusters: Sequence[str | None]) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for position, label in enumerate(clusters):
        groups[(position,) if label is None else label].append(position)
    return list(groups.values())


def _left_out(pool: Callable[..., dict[str, float]], parts: Sequence[Any], groups: list[list[int]]) -> list[dict]:
    """The pool's values without each group; empty where there is one group, as nothing would be left."""
    if len(groups) == 1:
        return []
    leave_out = getattr(pool, "leave_out", None)
    if leave_out is not None:
        return leave_out(parts, groups)
    dropped = map(set, groups)
    return [pool([part for position, part in enumerate(parts) if position not in gone]) for gone in dropped]


def _jackknifed(value: float, left: list[float], n: int) -> Estimate:
    g = len(left)
    # Also where all are equal, rounding aside: that every item counts alike doesn't make the number certain.
    if g < 2 or max(left) - min(left) < 1e-12:
        return Estimate(value, 0.0, value, value, n, "none")
    mean = math.fsum(left) / g
    stderr = math.sqrt((g - 1) / g * math.fsum((each - mean) ** 2 for each in left))
    made = _t_estimate(value, stderr, n, g - 1, "jackknife")
    return Estimate(value, stderr, max(0.0, made.ci_low), min(1.0, made.ci_high), n, "jackknife")


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval (low, high) of a share in [0, 1] of n items. Source: Wilson 1927."""
    shrink = 1 + Z_95**2 / n
    middle = (share + Z_95**2 / (2 * n)) / shrink
    half = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n)) / shrink
    # At a share of 0 or 1 that end is exact; rounding may not carry it past the value.
    return min(share, middle - half), max(share, middle + half)


def clustered_stderr(values: Sequence[float], clusters: Sequence[str | None]) -> tuple[float, int]:
    """CR0 standard error of the mean, and the number of clusters; an item whose cluster is None is one of its own.

    Source: Miller 2024, section 2.2: sqrt(sum over clusters of (sum of residuals)^2) / n.
    """
    n = len(values)
    mean = math.fsum(values) / n
    residuals: dict[Hashable, list[float]] = defaultdict(list)
    for position, (value, label) in enumerate(zip(values, clusters, strict=True)):
        residuals[(position,) if label is None else label].append(value - mean)
    return math.sqrt(math.fsum(math.fsum(part) ** 2 for part in residuals.values())) / n, len(residuals)


def _clustered(numbers: list[float], clusters: Sequence[str | None], mean: float, binary: bool) -> Estimate:
    n = len(numbers)
    stderr, count = clustered_stderr(numbers, clusters)
    if binary and mean in (0.0, 1.0):
        low, high = wilson_interval(mean, count)
        return Estimate(mean, 0.0, low, high, n, "wilson-clusters")
    if count == 1:
        return Estimate(mean, 0.0, mean, mean, n, "none")
    return _t_estimate(mean, stderr, n, count - 1, "clustered-t")


def _t_estimate(mean: float, stderr: float, n: int, freedom: int, method: str) -> Estimate:
    from scipy.stats import t

    half = float(t.ppf(0.975, freedom)) * stderr
    return Estimate(mean, stderr, mean - half, mean + half, n, method)
