"""All pairs of a column at once: which ranks the data leaves open, and which entries may be the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from slmbench.statistics._gram import CHUNK, PairSums, pair_sums
from slmbench.statistics.clusters import MIN_CLUSTERS, MIN_EFFECTIVE_CLUSTERS, sign_flip_ps, spreads_of_sums
from slmbench.statistics.crossed import SeedSpread, parts_p, seed_spread
from slmbench.statistics.significance import (
    POWER,
    RankRange,
    best_entries,
    detectable_difference,
    mcnemar_ps,
    rank_ranges,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Labels: TypeAlias = NDArray[np.int64]


@frozen
class ColumnTests:
    """What paired tests say of the M entries of a column.

    ranks: of each entry, Holm-corrected over all pairs (`rank_ranges`). best: whether no other entry is found to be
    better than it (`best_entries`); the truly best entry is among them at least 95 times in 100. alone: whether exactly
    one is best. detectable: the difference of two means that one uncorrected test finds with 80% power, None if no pair
    says (`detectable_difference`).
    """

    ranks: tuple[RankRange, ...]
    best: tuple[bool, ...]
    alone: bool
    detectable: float | None


def compare_column(
    scores: NDArray[np.floating],
    *,
    higher_is_better: bool,
    clusters: Labels | None = None,
    seeds: Sequence[NDArray[np.floating]] | None = None,
    alpha: float = 0.05,
) -> ColumnTests:
    """Tests every pair of a column's entries on the items that both have.

    scores: (M, n), one row an entry, one column an item; NaN where an entry has no score. clusters: (n,), the cluster
    of each item, -1 if it stands alone; None if all do. seeds: for each entry (k_i, n), its scores by seed, whose
    means over seeds are its row of `scores`; an entry with k_i = 1 counts as it is. A pair with several seeds is tested
    by `parts_p`, the variance between its seeds counted. alpha: the error of each claim, below .1.

    The tests are those of `paired_p`, and the claims those of `rank_ranges` and `best_entries`, which go through every
    pair's items; here all pairs come from products of matrices. Raises ValueError if the shapes don't fit. Where there
    are clusters, several seeds and NaN at once only items that all entries have count.
    """
    import numpy as np

    m, items = scores.shape
    if clusters is not None and clusters.shape != (items,):
        raise ValueError(f"clusters of shape {clusters.shape} for {items} items: one for each")
    if seeds is not None and [one.shape[1:] for one in seeds] != [(items,)] * m:
        raise ValueError(f"seeds of shapes {[one.shape for one in seeds]} for {m} entries of {items} items")
    if m < 2:
        return ColumnTests((RankRange(1, 1),) * m, (True,) * m, m == 1, None)
    found = pair_sums(scores)
    spreads = [seed_spread(_scored(one)) for one in seeds or ()]
    several = any(one.between + one.left > 0 for one in spreads)
    if clusters is None or (clusters < 0).all():
        p, stderr, freedom = _unclustered(found)
    elif np.isfinite(scores).all():
        p, stderr, freedom = _clustered(scores, clusters, found, alpha)
    elif not several:
        return _scalar(scores, higher_is_better, clusters, alpha)
    else:  # Clusters' sums are of the items that all have.
        there = np.isfinite(scores).all(0) & np.stack([np.isfinite(one).all(0) for one in seeds or ()]).all(0)
        left = [one[:, there] for one in seeds or ()]
        return compare_column(
            scores[:, there], higher_is_better=higher_is_better, clusters=clusters[there], seeds=left, alpha=alpha
        )
    reach = _reach(freedom) * stderr
    if several:
        p, reach = _with_seeds(found, p, stderr, freedom, spreads)
    known = (stderr > 0) & (reach > 0)
    return _claims(found, p, m, higher_is_better, alpha, float(np.median(reach[known])) if known.any() else None)


def _scored(scores: NDArray[np.floating]) -> Floats:
    """(k, n): the items that all seeds have."""
    import numpy as np

    return scores[:, np.isfinite(scores).all(0)].astype(np.float64)


def _reach(freedom: Floats) -> Floats:
    """How many standard errors a test at 5% finds with 80% power."""
    import numpy as np
    from scipy.special import stdtrit

    each, where = np.unique(freedom, return_inverse=True)
    return (stdtrit(each, 0.975) + stdtrit(each, POWER))[where]


def _with_seeds(
    found: PairSums, p: Floats, stderr: Floats, freedom: Floats, spreads: Sequence[SeedSpread]
) -> tuple[Floats, Floats]:
    """(p of each pair, the difference that a test finds): those given where neither entry has several seeds."""
    import numpy as np

    between, left, degrees = np.array([(one.between, one.left, one.freedom) for one in spreads]).T
    which = np.flatnonzero((between + left > 0)[found.first] | (between + left > 0)[found.second])
    i, j = found.first[which], found.second[which]
    variances = np.stack([np.maximum(0.0, stderr[which] ** 2 - left[i] - left[j]), between[i], between[j]])
    freedoms = np.stack([np.maximum(0.5, freedom[which]), degrees[i], degrees[j]])
    p, reach = p.copy(), _reach(freedom) * stderr
    p[which] = parts_p(found.lead[which], variances, freedoms)
    reach[which] = np.sqrt(np.sum(_reach(freedoms.ravel()).reshape(freedoms.shape) ** 2 * variances, axis=0))
    return p, reach


def _claims(
    found: PairSums, p: Floats, m: int, higher_is_better: bool, alpha: float, detectable: float | None
) -> ColumnTests:
    import numpy as np

    first_wins = (found.lead > 0) == higher_is_better
    winner, loser = np.where(first_wins, [found.first, found.second], [found.second, found.first])
    told = _rejected(p, alpha)
    better = np.bincount(loser[told], minlength=m)
    worse = np.bincount(winner[told], minlength=m)
    best = better == 0
    best[loser[p < alpha / (m - 1)]] = False
    ranks = tuple(RankRange(1 + int(low), m - int(high)) for low, high in zip(better, worse, strict=True))
    return ColumnTests(ranks, tuple(best.tolist()), int(best.sum()) == 1, detectable)


def _rejected(p: Floats, alpha: float) -> NDArray[np.bool_]:
    """Which hypotheses Holm's step-down method rejects."""
    import numpy as np

    order = np.argsort(p, kind="stable")
    short = p[order] * np.arange(len(p), 0, -1) < alpha
    told = np.zeros(len(p), dtype=bool)
    told[order[: len(p) if short.all() else int(np.argmin(short))]] = True
    return told


def _unclustered(found: PairSums) -> tuple[Floats, Floats, Floats]:
    """(p, standard error, degrees of freedom) of each pair; the standard error is 0 where nothing is known of it."""
    import numpy as np
    from scipy.special import stdtr

    freedom = np.maximum(found.n - 1, 1)
    stderr = np.sqrt(found.squares / freedom / np.maximum(found.n, 1))
    p = np.ones(len(found.n))
    p[found.binary] = mcnemar_ps(found.wins[found.binary], found.losses[found.binary])
    tested = ~found.binary & (found.n > 1)
    spread = tested & (stderr > 0)
    p[spread] = np.minimum(1.0, 2 * stdtr(freedom[spread], -np.abs(found.lead[spread] / stderr[spread])))
    same = tested & (stderr == 0) & (found.lead != 0)  # One lead on every item: a sign an item.
    p[same] = mcnemar_ps(found.n[same], np.zeros(int(same.sum())))
    return p, np.where(found.n > 1, stderr, 0.0), freedom


def _clustered(
    scores: NDArray[np.floating], clusters: Labels, found: PairSums, alpha: float
) -> tuple[Floats, Floats, Floats]:
    """(p by signs of clusters, CR2 standard error, degrees of freedom) of each pair; every entry has every item.

    A p that is above alpha, or below any corrected alpha, for sure is only bounded: no claim turns on it.
    """
    import numpy as np

    labels = np.where(clusters < 0, -1 - np.arange(len(clusters)), clusters)
    _, where, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    pairs = len(found.n)
    p = np.ones(pairs)
    effective = len(labels) ** 2 / float(np.sum(sizes.astype(float) ** 2))
    if len(sizes) < 2 or effective < MIN_EFFECTIVE_CLUSTERS:
        return p, np.zeros(pairs), np.ones(pairs)
    sums = np.stack([np.bincount(where, row, len(sizes)) for row in scores.astype(np.float64)])  # (M, clusters)
    stderr, freedom = np.zeros(pairs), np.ones(pairs)
    surest = alpha / pairs
    step = max(1, CHUNK // (8 * len(sizes)))
    for start in range(0, pairs, step):
        part = slice(start, start + step)
        differences = sums[found.first[part]] - sums[found.second[part]]
        stderr[part], freedom[part] = spreads_of_sums(
            differences - found.lead[part, None] * sizes, found.squares[part], sizes.astype(float)
        )
        scale = np.sqrt(np.sum(differences**2, axis=1))
        reach = np.abs(differences.sum(1)) / np.where(scale > 0, scale, 1.0)
        # Hoeffding's bound of the tail of a sum of random signs.
        bound = 2 * np.exp(-(reach**2) / 2)
        p[part] = np.where(bound < surest, bound, 1.0)
        # Within one standard deviation lies less than .9 of such a sum, whatever its parts (Oleszkiewicz 1996).
        open_ = np.flatnonzero((reach > 1.0) & (bound >= surest))
        p[start + open_] = sign_flip_ps(differences[open_])
    tellable = len(sizes) >= MIN_CLUSTERS
    return p, np.where((found.squares > 0) & tellable, stderr, 0.0), freedom


def _scalar(scores: NDArray[np.floating], higher_is_better: bool, clusters: Labels, alpha: float) -> ColumnTests:
    """The same pair by pair, for clusters of which some entries lack items."""
    rows = [{str(j): float(score) for j, score in enumerate(row) if math.isfinite(score)} for row in scores]
    labels = {str(j): None if label < 0 else str(label) for j, label in enumerate(clusters.tolist())}
    ranks = rank_ranges(rows, higher_is_better, labels, alpha)
    best = best_entries(rows, higher_is_better, labels, alpha)
    return ColumnTests(tuple(ranks), tuple(best), sum(best) == 1, detectable_difference(rows, labels))
