"""Paired differences of all pairs of M entries from products of matrices, without going through the pairs' items."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from slmbench.statistics.significance import NOTHING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Bools: TypeAlias = NDArray[np.bool_]

CHUNK = 2**24
"""So many numbers of a matrix are widened at once, 128 MiB of float64."""
CANCELLED = 1e-7
"""Below this share of the two entries' own squares a spread from products is rounding; the pair's items are read."""


@frozen(eq=False)
class PairSums:
    """One element a pair (i, j), i < j, in the order of numpy.triu_indices(M, 1).

    n: items that both have. lead: mean of i minus mean of j on them. squares: the sum of the differences' squares about
    their mean, 0 where they don't differ but for rounding. wins, losses: items on which i is right and j wrong, and the
    reverse; right is 1 and wrong 0. binary: whether all scores of both on common items are 0 or 1.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    n: Floats
    lead: Floats
    squares: Floats
    wins: Floats
    losses: Floats
    binary: Bools


def pair_sums(scores: NDArray[np.floating]) -> PairSums:
    """scores: (M, n), NaN where an entry has no score of an item."""
    import numpy as np

    m, items = scores.shape
    upper = np.triu_indices(m, 1)
    has = np.isfinite(scores)
    whole = bool(has.all())
    odd = has & (scores != 0) & (scores != 1)
    wins, common, unlike = _counts(scores, has, odd, whole)
    n = np.full(len(upper[0]), float(items)) if whole else common[upper]
    up, down = wins[upper], wins.T[upper]
    binary = unlike[upper] == 0
    divisor = np.maximum(n, 1)
    lead = (up - down) / divisor
    squares = np.maximum(0.0, up + down - (up - down) ** 2 / divisor)
    if not binary.all():
        real, cross = _moments(scores, has, whole), ~binary
        lead[cross] = (real[0] - real[0].T)[upper][cross] / divisor[cross]
        own = (real[1] + real[1].T)[upper][cross]
        squares[cross] = own - 2 * real[2][upper][cross] - n[cross] * lead[cross] ** 2
        _read_again(scores, upper, np.flatnonzero(cross)[squares[cross] <= CANCELLED * own], n, lead, squares)
    return PairSums(upper[0], upper[1], n, lead, squares, up, down, binary)


def _counts(scores: NDArray[np.floating], has: Bools, odd: Bools, whole: bool) -> tuple[Floats, Floats, Floats]:
    """(M, M) each: items that the row has right and the column wrong; that both have; with a score other than 0 or 1.

    The second is empty if every entry has every item.
    """
    import numpy as np

    m, items = scores.shape
    plain = whole and not odd.any()
    wins = np.zeros((m, m))
    common = np.zeros((0, 0) if whole else (m, m))
    unlike = np.zeros((m, m))
    if whole and not plain:
        entries = odd.any(1)
        unlike += entries[:, None] | entries
    for part in _parts(m, items):
        # Counts of up to 2^24 items a chunk are exact in float32.
        right = (scores[:, part] == 1).astype(np.float32)
        if plain:
            together = right @ right.T
            wins += np.diag(together)[:, None] - together
            continue
        wins += right @ (scores[:, part] == 0).astype(np.float32).T
        if not whole:
            present, strange = has[:, part].astype(np.float32), odd[:, part].astype(np.float32)
            common += present @ present.T
            once = strange @ present.T
            unlike += once + once.T
    return wins, common, unlike


def _moments(scores: NDArray[np.floating], has: Bools, whole: bool) -> tuple[Floats, Floats, Floats]:
    """(M, M) each, over items that both have: the row's sum, its sum of squares, the sum of both entries' products.

    Of scores about their item's mean: what all entries have in common would only be rounded away from differences.
    """
    import numpy as np

    m, items = scores.shape
    sums, squares, products = (np.zeros((m, m)) for _ in range(3))
    for part in _parts(m, items):
        values = scores[:, part].astype(np.float64)
        present = has[:, part]
        values[~present] = 0.0
        values -= values.sum(0) / np.maximum(1, present.sum(0))
        values[~present] = 0.0
        products += values @ values.T
        if whole:
            sums += values.sum(1)[:, None]
            squares += (values**2).sum(1)[:, None]
        else:
            held = present.astype(np.float64).T
            sums += values @ held
            squares += values**2 @ held
    return sums, squares, products


def _read_again(
    scores: NDArray[np.floating],
    upper: tuple[NDArray[np.intp], NDArray[np.intp]],
    pairs: NDArray[np.intp],
    n: Floats,
    lead: Floats,
    squares: Floats,
) -> None:
    """Fills in lead and squares of these pairs from their own differences."""
    import numpy as np

    known: dict[bytes, int] = {}
    alike = np.array([known.setdefault(scores[i].tobytes(), i) for i in range(len(scores))])
    same = alike[upper[0][pairs]] == alike[upper[1][pairs]]
    lead[pairs[same]] = squares[pairs[same]] = 0.0
    pairs = pairs[~same]
    step = max(1, CHUNK // scores.shape[1])
    for start in range(0, len(pairs), step):
        chosen = pairs[start : start + step]
        differences = scores[upper[0][chosen]].astype(np.float64) - scores[upper[1][chosen]]
        both = np.isfinite(differences)
        differences[~both] = 0.0
        mean = differences.sum(1) / np.maximum(1, n[chosen])
        centred = np.where(both, differences - mean[:, None], 0.0)
        lead[chosen], found = mean, (centred**2).sum(1)
        # A lead that is the same on every item has no spread, but the rounding of its subtractions.
        stderr = np.sqrt(found / np.maximum(1, n[chosen] * (n[chosen] - 1)))
        squares[chosen] = np.where(stderr <= NOTHING * np.abs(mean), 0.0, found)


def _parts(m: int, items: int) -> list[slice]:
    step = max(1, min(2**24, CHUNK // max(1, m)))
    return [slice(start, start + step) for start in range(0, items, step)]
