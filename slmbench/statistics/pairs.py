"""Two models on the same items: the difference of their means, its interval, and a test of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from slmbench.statistics.clusters import clustered_spread
from slmbench.statistics.estimate import estimate
from slmbench.statistics.significance import POWER, paired_p, t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@frozen
class PairComparison:
    """b beside a, on the items that both have.

    difference: mean of b minus mean of a. stderr: of the difference. ci_low, ci_high: its 95% interval. p: two-sided,
    of "equally good". method: the test's, `mcnemar-midp`, `paired-t`, `sign` or `sign-flip`. n: items. wins: of which b
    is better, losses: a is. detectable: the difference that a test at 5% on such items finds with 80% power, None if
    they say nothing of their spread.
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
    """b minus a. a, b: (n,), a score an item, NaN where there is none. clusters: (n,), -1: alone. bounds: of a score.

    Raises ValueError if the lengths differ or no item has both scores.
    """
    import numpy as np

    if a.shape != b.shape or a.ndim != 1 or (clusters is not None and clusters.shape != a.shape):
        raise ValueError(f"scores of shape {a.shape} and {b.shape}: both have to be (n,), and so have clusters")
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        raise ValueError("no item has a score of both: there is nothing to compare")
    first, second = a[both].astype(np.float64), b[both].astype(np.float64)
    labels = None if clusters is None else [None if label < 0 else str(label) for label in clusters[both].tolist()]
    clustered = labels is not None and any(label is not None for label in labels)
    differences = (second - first).tolist()
    width = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    made = estimate(differences, labels, width)
    one, other = ({str(i): score for i, score in enumerate(scores.tolist())} for scores in (first, second))
    p = paired_p(one, other, {str(i): label for i, label in enumerate(labels)} if labels else None)
    binary = bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all())
    spread = clustered_spread(differences, labels or [None] * len(differences))
    detectable = None
    if spread.freedom > 0 and spread.stderr > 0:
        detectable = (t_quantile(0.975, spread.freedom) + t_quantile(POWER, spread.freedom)) * spread.stderr
    better = second > first if higher_is_better else second < first
    wins, ties = int(better.sum()), int((second == first).sum())
    return PairComparison(
        made.value,
        made.stderr,
        made.ci_low,
        made.ci_high,
        p,
        "sign-flip" if clustered else "mcnemar-midp" if binary else "paired-t" if spread.stderr > 0 else "sign",
        len(differences),
        wins,
        len(differences) - wins - ties,
        ties,
        detectable,
    )
