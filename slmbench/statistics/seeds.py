"""One metric over several seeds."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from slmbench.statistics.crossed import OVER_BOTH
from slmbench.statistics.estimate import estimate
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
    """What an estimate's interval is over, `seeds`, `items` or `seeds and items`; None without one."""
    if found.method == "none":
        return None
    return (
        "seeds and items" if found.method in OVER_BOTH else "seeds" if found.method in OVER_SEEDS.values() else "items"
    )
