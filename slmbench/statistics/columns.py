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
    Places: TypeAlias = NDArray[np.intp]


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
        return _alone(m)
    spreads = _seed_spreads(seeds)
    if clusters is not None and (clusters >= 0).any() and not np.isfinite(scores).all():
        if spreads is None:
            return _scalar(scores, higher_is_better, clusters, alpha)
        scores, clusters, seeds = _of_all(scores, clusters, seeds)
        spreads = _seed_spreads(seeds)
    found = pair_sums(scores)
    pairs = _clustered(scores, clusters, found, alpha) if clusters is not None else _unclustered(found)
    p, reach = pairs.p, _reach(pairs.freedom) * pairs.stderr
    if spreads is not None and pairs.tellable:
        p, reach = _with_seeds(found, pairs, spreads)
    known = reach[reach > 0]
    detectable = float(np.median(known)) if pairs.tellable and len(known) else None
    return _claims(found.first, found.second, found.lead, p, m, higher_is_better, alpha, detectable)


@frozen(eq=False)
class ScoredTask:
    """A task's part of an aggregate: scores, clusters and seeds as `compare_column` takes them, of the same M entries.

    chance and best: what `chance_normalised` makes 0 and 1; best is the lower one where lower is better.
    """

    scores: NDArray[np.floating]
    chance: float
    best: float = 1.0
    clusters: Labels | None = None
    seeds: Sequence[NDArray[np.floating]] | None = None


def compare_aggregate(tasks: Sequence[ScoredTask], *, alpha: float = 0.05) -> ColumnTests:
    """`compare_column` of the mean over tasks of chance-normalised scores; detectable is on its scale.

    Entries are compared within each task, on the same items; tasks are independent samples of items, so the variances
    of a pair's differences add up, divided by the square of the number of tasks. Each has its own Student's t
    (`parts_p`), also of right or wrong items. A pair without two common items in some task isn't told apart, and none
    is where a task's clusters are too few. Raises ValueError without tasks, or if they have other numbers of entries.
    """
    import numpy as np

    if not tasks or len({len(task.scores) for task in tasks}) != 1:
        raise ValueError(f"tasks with {[len(task.scores) for task in tasks]} entries: one or more, all with the same")
    m, count = len(tasks[0].scores), len(tasks)
    if m < 2:
        return _alone(m)
    leads, variances, freedoms, tellable = [], [], [], []
    for task in tasks:
        scores, clusters, seeds = task.scores, task.clusters, task.seeds
        if clusters is not None and (clusters >= 0).any():
            scores, clusters, seeds = _of_all(scores, clusters, seeds)
        found = pair_sums(scores)
        pairs = _clustered(scores, clusters, found, alpha) if clusters is not None else _unclustered(found)
        parts, degrees = _parts(found, pairs, _seed_spreads(seeds))
        width = (task.best - task.chance) * count
        leads.append(found.lead / width)
        variances += [part / width**2 for part in parts]
        freedoms += list(degrees)
        tellable.append((found.n > 1) & pairs.tellable)
    lead, each, degrees_of = np.sum(leads, axis=0), np.stack(variances), np.stack(freedoms)
    told = np.all(tellable, axis=0)
    p = np.where(told, parts_p(lead, each, degrees_of), 1.0)
    reach = np.sqrt(np.sum(_reach(degrees_of) ** 2 * each, axis=0))[told]
    detectable = float(np.median(reach[reach > 0])) if (reach > 0).any() else None
    return _claims(found.first, found.second, lead, p, m, True, alpha, detectable)


@frozen(eq=False)
class _PairTests:
    """Of each pair: p, the standard error of its difference (0 if nothing varies), and degrees of freedom.

    tellable: whether any result at all could tell two entries apart.
    """

    p: Floats
    stderr: Floats
    freedom: Floats
    tellable: bool = True


def _alone(m: int) -> ColumnTests:
    return ColumnTests((RankRange(1, 1),) * m, (True,) * m, m == 1, None)


def _of_all(
    scores: NDArray[np.floating], clusters: Labels, seeds: Sequence[NDArray[np.floating]] | None
) -> tuple[NDArray[np.floating], Labels, list[NDArray[np.floating]] | None]:
    """The items that all entries have, under every seed: clusters' sums are over the same items."""
    import numpy as np

    there = np.isfinite(scores).all(0)
    for one in seeds or ():
        there &= np.isfinite(one).all(0)
    return scores[:, there], clusters[there], None if seeds is None else [one[:, there] for one in seeds]


def _seed_spreads(seeds: Sequence[NDArray[np.floating]] | None) -> list[SeedSpread] | None:
    """Of each entry, on the items that all its seeds have; None if no entry's seeds differ."""
    import numpy as np

    found = [seed_spread(one[:, np.isfinite(one).all(0)].astype(np.float64)) for one in seeds or ()]
    return found if any(one.between + one.left > 0 for one in found) else None


def _reach(freedom: Floats) -> Floats:
    """How many standard errors a test at 5% finds with 80% power."""
    import numpy as np
    from scipy.special import stdtrit

    each, where = np.unique(freedom, return_inverse=True)
    return (stdtrit(each, 0.975) + stdtrit(each, POWER))[where].reshape(freedom.shape)


def _parts(found: PairSums, pairs: _PairTests, spreads: Sequence[SeedSpread] | None) -> tuple[Floats, Floats]:
    """(parts, pairs) each: variances that add up to that of a pair's difference, and their degrees of freedom."""
    import numpy as np

    freedom = np.maximum(0.5, pairs.freedom)
    if spreads is None:
        return pairs.stderr[None] ** 2, freedom[None]
    between, left, degrees = np.array([(one.between, one.left, one.freedom) for one in spreads]).T
    i, j = found.first, found.second
    items = np.maximum(0.0, pairs.stderr**2 - left[i] - left[j])
    return np.stack([items, between[i], between[j]]), np.stack([freedom, degrees[i], degrees[j]])


def _with_seeds(found: PairSums, pairs: _PairTests, spreads: Sequence[SeedSpread]) -> tuple[Floats, Floats]:
    """(p of each pair, the difference that a test finds): those without where neither entry has several seeds."""
    import numpy as np

    several = np.array([one.between + one.left > 0 for one in spreads])
    which = np.flatnonzero((several[found.first] | several[found.second]) & (found.n > 1))
    variances, freedoms = (part[:, which] for part in _parts(found, pairs, spreads))
    p, reach = pairs.p.copy(), _reach(pairs.freedom) * pairs.stderr
    p[which] = parts_p(found.lead[which], variances, freedoms)
    reach[which] = np.sqrt(np.sum(_reach(freedoms) ** 2 * variances, axis=0))
    return p, reach


def _claims(
    first: Places,
    second: Places,
    lead: Floats,
    p: Floats,
    m: int,
    higher_is_better: bool,
    alpha: float,
    detectable: float | None,
) -> ColumnTests:
    """first, second: the entries of each pair. lead: of the first one."""
    import numpy as np

    first_wins = (lead > 0) == higher_is_better
    winner, loser = np.where(first_wins, [first, second], [second, first])
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


def _unclustered(found: PairSums) -> _PairTests:
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
    return _PairTests(p, np.where(found.n > 1, stderr, 0.0), freedom)


def _clustered(scores: NDArray[np.floating], clusters: Labels, found: PairSums, alpha: float) -> _PairTests:
    """By signs of clusters, with CR2 standard errors; every entry has every item.

    A p that is above alpha, or below any corrected alpha, for sure is only bounded: no claim turns on it.
    """
    import numpy as np

    if (clusters < 0).all():
        return _unclustered(found)
    labels = np.where(clusters < 0, -1 - np.arange(len(clusters)), clusters)
    _, where, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    pairs = len(found.n)
    p = np.ones(pairs)
    effective = len(labels) ** 2 / float(np.sum(sizes.astype(float) ** 2))
    if len(sizes) < 2 or effective < MIN_EFFECTIVE_CLUSTERS:
        return _PairTests(p, np.zeros(pairs), np.ones(pairs), tellable=False)
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
    stderr = np.where(found.squares > 0, stderr, 0.0)
    return _PairTests(p, stderr, freedom, tellable=len(sizes) >= MIN_CLUSTERS)


def _scalar(scores: NDArray[np.floating], higher_is_better: bool, clusters: Labels, alpha: float) -> ColumnTests:
    """The same pair by pair, for clusters of which some entries lack items."""
    rows = [{str(j): float(score) for j, score in enumerate(row) if math.isfinite(score)} for row in scores]
    labels = {str(j): None if label < 0 else str(label) for j, label in enumerate(clusters.tolist())}
    ranks = rank_ranges(rows, higher_is_better, labels, alpha)
    best = best_entries(rows, higher_is_better, labels, alpha)
    return ColumnTests(tuple(ranks), tuple(best), sum(best) == 1, detectable_difference(rows, labels))
