"""One number from several: a mean over tasks, and a mean over seeds, each with the interval that its parts leave it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmbench.statistics.crossed import estimate_over_both, parts_p
from slmbench.statistics.pairs import PairComparison
from slmbench.statistics.significance import POWER
from slmbench.values import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALPHA = 0.05


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


def aggregate_pair(parts: Sequence[PairComparison], scales: Sequence[tuple[float, float]]) -> PairComparison:
    """b beside a in the mean over tasks of chance-normalised scores, from their comparisons within each task.

    parts: one a task. scales: (chance, best) of each, as in `chance_normalised`; wins are items on which b is better in
    its task. Tasks are independent samples of items: squared distances to the intervals' ends add up as in
    `aggregate_estimate`, variances do for p (`parts_p`, with the Student's t that `detectable` of each was made of).
    p is 1 if a part has a difference of unknown spread, as of too few clusters.
    Interval and p rest on approximations, which disagree now and then where a task is at its floor: the more careful
    one holds then, so that p is below .05 if and only if 0 is outside of the interval. The method is `tasks`.
    Raises ValueError without parts, or with another number of scales.
    """
    import numpy as np

    if not parts or len(parts) != len(scales):
        raise ValueError(f"{len(parts)} comparisons and {len(scales)} scales: one or more, and as many")
    widths = np.array([best - chance for chance, best in scales]) * len(parts)
    if not widths.all():
        raise ValueError("chance and the best score of a task are equal: nothing lies between them")
    ends = []
    for part, width in zip(parts, widths, strict=True):
        below, above = part.difference - part.ci_low, part.ci_high - part.difference
        ends.append((below / width, above / width) if width > 0 else (above / -width, below / -width))
    stderrs = np.array([part.stderr for part in parts]) / np.abs(widths)
    difference = float(np.sum(np.array([part.difference for part in parts]) / widths))
    low, high = (float(reach) for reach in np.sqrt(np.sum(np.square(ends), axis=0)))
    freedoms = np.array([_freedom(part) for part in parts])
    unknown = any(part.detectable is None and (part.stderr > 0 or part.difference != 0) for part in parts)
    p = 1.0 if unknown else float(parts_p(np.array([difference]), stderrs[:, None] ** 2, freedoms[:, None])[0])
    if difference > 0:
        low, p = _agreeing(difference, low, p)
    elif difference < 0:
        high, p = _agreeing(-difference, high, p)
    reaches = [part.detectable / abs(width) for part, width in zip(parts, widths, strict=True) if part.detectable]
    return PairComparison(
        difference=difference,
        stderr=float(np.sqrt(np.sum(stderrs**2))),
        ci_low=difference - low,
        ci_high=difference + high,
        p=p,
        method="tasks",
        n=sum(part.n for part in parts),
        wins=sum(part.wins for part in parts),
        losses=sum(part.losses for part in parts),
        ties=sum(part.ties for part in parts),
        detectable=math.sqrt(math.fsum(reach**2 for reach in reaches)) if reaches else None,
    )


def _agreeing(distance: float, reach: float, p: float) -> tuple[float, float]:
    """(how far the interval reaches towards 0, p), as they are if both say the same of 0; else the more careful's.

    distance: from 0, above 0. One is turned into the other as for a normal difference.
    """
    if (p < ALPHA) == (reach < distance):
        return reach, p
    from scipy.special import ndtr, ndtri

    end = -float(ndtri(ALPHA / 2))
    by_interval = 2 * float(ndtr(-end * distance / reach)) if reach > 0 else 0.0
    quantile = -float(ndtri(p / 2)) if p > 0 else math.inf
    by_p = distance * end / quantile if quantile > 0 else max(reach, distance)
    return max(reach, by_p), max(p, by_interval)


def _freedom(part: PairComparison) -> float:
    """Items - 1; with clusters or seeds those of the t quantiles that the detectable difference holds."""
    import numpy as np
    from scipy.special import stdtrit

    if part.method not in ("sign-flip", "seeds-items") or part.detectable is None or part.stderr == 0:
        return max(1.0, part.n - 1.0)
    each = np.geomspace(0.5, 1e4, 400)
    reaches = stdtrit(each, 0.975) + stdtrit(each, POWER)  # The more degrees of freedom, the less.
    return float(np.interp(-part.detectable / part.stderr, -reaches, each))


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
