"""One metric over several seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import variance

from attrs import evolve

from slmbench.statistics.estimate import estimate
from slmbench.statistics.pairs import PairComparison
from slmbench.statistics.significance import t_quantile
from slmbench.values import Estimate

OVER_SEEDS = {"t": "t-seeds", "wilson": "wilson-seeds", "wilson-t": "wilson-seeds"}
"""The method of an interval over seeds, by that of `estimate`."""


def mean_over_seeds(values: Sequence[float], range: tuple[float, float] | None = None) -> Estimate:
    """Mean and 95% interval of one metric over seeds, one value a seed; at least two of them. n counts seeds.

    range: the lowest and highest value of the metric, which the interval doesn't leave (`estimate`). The method is
    `none`, and both ends are the mean, where all seeds gave the same: that is not certainty.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval over seeds needs at least two, got {n}")
    if max(values) == min(values):
        return Estimate(values[0], 0.0, values[0], values[0], n, "none")
    made = estimate(values, range=range)
    return evolve(made, method=OVER_SEEDS[made.method])


def spread_of(found: Estimate) -> str | None:
    """What an estimate's interval is over, `seeds` or `items`; None without one."""
    return None if found.method == "none" else "seeds" if found.method in OVER_SEEDS.values() else "items"


def over_seeds(pair: PairComparison, a: Sequence[float], b: Sequence[float]) -> PairComparison:
    """A pair of means over seeds, with an interval and a p that count the spread between seeds as well as items.

    pair: of the items' means over the seeds. a, b: the mean over items of each seed. To the variance over items that
    over seeds is added, s^2 / k of each side with several (one seed says nothing of it), with Satterthwaite's degrees
    of freedom. Neither the interval nor p gets better than over items alone.
    """
    from scipy.special import stdtr

    parts = [(pair.stderr**2, max(1, pair.n - 1))]
    parts += [(variance(means) / len(means), len(means) - 1) for means in (a, b) if len(means) > 1]
    total = math.fsum(part for part, _ in parts)
    if total <= pair.stderr**2:
        return pair
    freedom = total**2 / math.fsum(part**2 / degrees for part, degrees in parts)
    stderr = math.sqrt(total)
    half = t_quantile(0.975, freedom) * stderr
    p = 2 * float(stdtr(freedom, -abs(pair.difference) / stderr))
    detectable = None if pair.detectable is None else (t_quantile(0.975, freedom) + t_quantile(0.8, freedom)) * stderr
    return evolve(
        pair,
        stderr=stderr,
        ci_low=min(pair.ci_low, pair.difference - half),
        ci_high=max(pair.ci_high, pair.difference + half),
        p=max(pair.p, min(1.0, p)),
        method=f"{pair.method}+seeds",
        detectable=detectable,
    )
