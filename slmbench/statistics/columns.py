"""All pairs of a column at once: which ranks the data leaves open, and which entries may be the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from slmbench.statistics.significance import RankRange, detectable_difference, paired_p, rank_ranges

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@frozen
class ColumnTests:
    """What paired tests say of the M entries of a column.

    ranks: of each entry, Holm-corrected over all pairs. best: whether no other entry is found to be better than it by
    the tests of that one question; it holds the truly best entry at least 95 times in 100. alone: whether exactly one
    is best. detectable: the difference of two means that one uncorrected test finds with 80% power, None if no pair
    says.
    """

    ranks: tuple[RankRange, ...]
    best: tuple[bool, ...]
    alone: bool
    detectable: float | None


def compare_column(
    scores: NDArray[np.floating],
    *,
    higher_is_better: bool,
    clusters: NDArray[np.int64] | None = None,
    seeds: Sequence[NDArray[np.floating]] | None = None,
    alpha: float = 0.05,
) -> ColumnTests:
    """Tests every pair of a column's entries on the items that both have.

    scores: (M, n), one row an entry, one column an item; NaN where an entry has no score. clusters: (n,), the cluster
    of each item, -1 if it stands alone; None if all do. seeds: for each entry (k_i, n), its scores by seed, whose
    means over seeds are its row of `scores`; an entry with k_i = 1 counts as it is. alpha: the error of each claim.
    Raises ValueError if the shapes don't fit.
    """
    items = range(scores.shape[1])
    rows = [{str(j): float(row[j]) for j in items if row[j] == row[j]} for row in scores]
    labels = None if clusters is None else {str(j): None if clusters[j] < 0 else str(clusters[j]) for j in items}
    ranks = rank_ranges(rows, higher_is_better, labels, alpha)
    best = []
    for i, one in enumerate(rows):
        told = False
        for j, other in enumerate(rows):
            lead = sum(other[item] - one[item] for item in one.keys() & other.keys()) if i != j else 0.0
            if lead != 0 and (lead > 0) == higher_is_better:
                told |= paired_p(one, other, labels) <= 2 * alpha / (len(rows) - 1)
        best.append(not told and ranks[i].low == 1)
    return ColumnTests(tuple(ranks), tuple(best), sum(best) == 1, detectable_difference(rows, labels))
