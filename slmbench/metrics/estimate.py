"""The mean of a run's item scores, with a standard error and a 95% interval that a reader can trust."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

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
