"""One number from several: a mean over tasks, and a mean over seeds, each with the interval that its parts leave it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmbench.statistics.crossed import estimate_over_both
from slmbench.values import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def chance_normalised(value: float, chance: float, best: float = 1.0) -> float:
    """(value - chance) / (best - chance): 0 at chance, 1 at best, below 0 for what is worse than guessing.

    Not clipped: a mean of clipped values of models at chance would lie above it. Where lower is better, best is below
    chance. Raises ValueError if they are equal.
    """
    if best == chance:
        raise ValueError(f"chance and the best score are both {best}: nothing lies between them")
    return (value - chance) / (best - chance)


def normalised_estimate(found: Estimate, chance: float, best: float = 1.0) -> Estimate:
    """An estimate with its interval and standard error on the scale of `chance_normalised`."""
    low, high = sorted(chance_normalised(end, chance, best) for end in (found.ci_low, found.ci_high))
    value = chance_normalised(found.value, chance, best)
    return Estimate(value, found.stderr / abs(best - chance), low, high, found.n, found.method)


def aggregate_estimate(parts: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of tasks' estimates (already on one scale) and its 95% interval; n counts items.

    Tasks are independent samples of items, so squared distances from each value to its interval's end add up (`mover`),
    and the interval is as skewed as theirs. It never leaves the mean of the ranges that they keep to. The method is
    `none` if one of the parts has no interval. Raises ValueError without parts.
    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures".
    """
    if not parts:
        raise ValueError("no parts: a mean over no tasks doesn't exist")
    count, n = len(parts), sum(part.n for part in parts)
    value = math.fsum(part.value for part in parts) / count
    stderr = math.sqrt(math.fsum(part.stderr**2 for part in parts)) / count
    if any(part.method == "none" for part in parts):
        return Estimate(value, stderr, value, value, n, "none")
    below = math.sqrt(math.fsum((part.value - part.ci_low) ** 2 for part in parts)) / count
    above = math.sqrt(math.fsum((part.ci_high - part.value) ** 2 for part in parts)) / count
    return Estimate(value, stderr, value - below, value + above, n, "mover")


def seeds_estimate(
    scores: NDArray[np.floating],
    clusters: NDArray[np.int64] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Mean over k seeds and n items with a 95% interval that counts both (`estimate_over_both`). n of it counts items.

    scores: (k, n), one row a seed; NaN where an item has no score: only items that all seeds have count. clusters:
    (n,), -1 if an item stands alone. bounds: the lowest and highest score of an item, which the interval doesn't leave.
    This is the closed form of a bootstrap that draws seeds, then items; of two or three seeds that one covers
    72 to 95%. Raises ValueError if the shapes don't fit or no item is left.
    """
    import numpy as np

    if scores.ndim != 2 or (clusters is not None and clusters.shape != scores.shape[1:]):
        raise ValueError(f"scores of shape {scores.shape}: they have to be (seeds, items), and clusters (items,)")
    there = np.isfinite(scores).all(0)
    if not there.any():
        raise ValueError("no item has a score of every seed: a mean over none doesn't exist")
    labels = None if clusters is None else [None if label < 0 else str(label) for label in clusters[there].tolist()]
    return estimate_over_both(scores[:, there].astype(np.float64), labels, bounds)
