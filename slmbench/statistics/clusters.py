"""What items that move together leave of a mean's precision: standard error, degrees of freedom, a test of signs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from itertools import product

from attrs import frozen

from slmbench.values import Array

# Up to so many clusters all patterns of signs are counted, by halves of 2^14; beyond, a saddlepoint is as good.
ENUMERATED = 28
# So many numbers of them are held at once.
AT_ONCE = 2**22
# Beyond, so many of the largest still have their signs gone through.
LARGE = 8
MIN_CLUSTERS = 6
"""With fewer, no pattern of signs is rare enough for 5%."""
MIN_EFFECTIVE_CLUSTERS = 3.0
"""Below so many (Kish's number) two models are never told apart: a cluster or two decide the mean."""


@frozen
class ClusteredSpread:
    """How precise the mean of clustered values is.

    stderr: of the mean. freedom: degrees of freedom of a t with it, 0.0 if one cluster leaves none. clusters: how
    many there are. effective: Kish's number of equal clusters that uneven ones are worth, n^2 / sum of sizes^2.
    """

    stderr: float
    freedom: float
    clusters: int
    effective: float


def members(clusters: Sequence[str | None]) -> list[list[int]]:
    """Positions by cluster, in order of appearance; an item whose cluster is None is one of its own."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for position, label in enumerate(clusters):
        found[(position,) if label is None else label].append(position)
    return list(found.values())


def effective_clusters(groups: Sequence[Sequence[int]]) -> float:
    """Kish's number of equal clusters that uneven ones are worth: n^2 / sum of sizes^2."""
    return sum(map(len, groups)) ** 2 / sum(len(group) ** 2 for group in groups)


def clustered_spread(values: Sequence[float] | Array, clusters: Sequence[str | None]) -> ClusteredSpread:
    """The CR2 standard error of the mean and Satterthwaite's degrees of freedom; one cluster label a value.

    A cluster's sum of residuals is divided by sqrt(1 - size / n), since the mean was fitted to it. The degrees of
    freedom, and what bias the standard error keeps, are those under one correlation within clusters, estimated by
    one-way analysis of variance and held in [0, 1]: with few uneven clusters they are far fewer than clusters - 1.
    Sources: Bell and McCaffrey 2002, "Bias reduction in standard errors for linear regression with multi-stage
    samples"; Imbens and Kolesar 2016, "Robust standard errors in small samples", section 4.
    """
    import numpy as np

    numbers = np.asarray(values, dtype=float)
    codes: dict[Hashable, int] = {}
    named = [(i,) if label is None else label for i, label in enumerate(clusters)]
    places = np.array([codes.setdefault(label, len(codes)) for label in named])
    sizes = np.bincount(places).astype(float)  # (clusters,)
    effective = len(numbers) ** 2 / float(np.sum(sizes**2))
    if len(sizes) == 1:
        return ClusteredSpread(0.0, 0.0, 1, effective)
    centred = numbers - numbers.mean()
    sums = np.bincount(places, centred)[None]  # (1, clusters)
    stderr, freedom = spreads_of_sums(sums, np.array([np.sum(centred**2)]), sizes)
    return ClusteredSpread(float(stderr[0]), float(freedom[0]), len(sizes), effective)


def spreads_of_sums(sums: Array, squares: Array, sizes: Array) -> tuple[Array, Array]:
    """`clustered_spread` of many means over the same clusters, two or more: (standard errors, degrees of freedom).

    sums: (means, clusters), of values about their mean. squares: (means,), sums of the values' squares about their
    mean. sizes: (clusters,).
    """
    import numpy as np

    n, shares = sizes.sum(), sizes / sizes.sum()
    correlation = _correlations(squares, sums, sizes)[:, None]
    errors = sizes * (1 - correlation) + correlation * sizes**2  # A cluster's variance, the sum of its items' errors.
    bias, freedom = _bell_mccaffrey(shares, errors)
    variance = np.sum(sums**2 / (1 - shares), axis=1) / n**2 / np.minimum(bias, 1.0)
    return np.sqrt(variance), freedom


def correlation_within(centred: Array, sums: Array, sizes: Array) -> float:
    """The intraclass correlation by one-way analysis of variance, in [0, 1]; 0 if every cluster is one item.

    centred: (n,), values about their mean. sums: (clusters,), of these. sizes: (clusters,).
    """
    import numpy as np

    return float(_correlations(np.array([np.sum(centred**2)]), sums[None], sizes)[0])


def _correlations(squares: Array, sums: Array, sizes: Array) -> Array:
    """(means,): `correlation_within` of each; squares: (means,), sums: (means, clusters), as in `spreads_of_sums`."""
    import numpy as np

    n, groups = sizes.sum(), len(sizes)
    if n == groups:
        return np.zeros(len(sums))
    between = np.sum(sums**2 / sizes, axis=1)
    within = np.maximum(0.0, squares - between) / (n - groups)
    size = (n - float(np.sum(sizes**2)) / n) / (groups - 1)
    shared = np.maximum(0.0, (between / (groups - 1) - within) / size)
    total = shared + within
    return np.divide(shared, total, out=np.zeros_like(total), where=total > 0)


def _bell_mccaffrey(shares: Array, errors: Array) -> tuple[Array, Array]:
    """(expected CR2 variance / true variance, degrees of freedom), each (means,), of means.

    shares: (clusters,), of all items. errors: (means, clusters), the variance of each cluster's sum. CR2's variance is
    a quadratic form in the errors, whose matrix C is diagonal but for three outer products, so trace(C) and trace(C C)
    are sums over clusters.
    """
    import numpy as np

    weights = 1 / (1 - shares)
    total = np.sum(errors, axis=1)
    diagonal = -2 * shares * errors + total[:, None] * shares**2  # Of the part that isn't diagonal.
    trace = np.sum(weights * (errors + diagonal), axis=1)
    qq = float(np.sum(weights * shares**2))
    ww, qw = np.sum(weights * errors**2, axis=1), np.sum(weights * shares * errors, axis=1)
    outer = 2 * qq * ww + 2 * qw**2 + total**2 * qq**2 - 4 * total * qq * qw
    squared = outer + np.sum(weights**2 * (2 * errors * diagonal + errors**2), axis=1)
    return trace / total, trace**2 / squared


def sign_flip_p(sums: Sequence[float]) -> float:
    """Two-sided p of "each cluster's sum of differences could as well have had the other sign". sums: one a cluster.

    Two models that are equally good can exchange their names within any cluster, which flips the sign of its sum. p is
    the share of all patterns of signs under which the total is at least as large. It is exact for such models, however
    few and uneven the clusters are; if only their means are equal it is approximate. It is never below 2 /
    2^(clusters whose sum isn't 0), so that fewer than six can't reach 5%. This is the wild cluster bootstrap with the
    null imposed and Rademacher's signs, over all of them. Up to ENUMERATED clusters the patterns are counted; beyond,
    Lugannani and Rice's saddlepoint stands for them, with the signs of the largest gone through.

    Sources: Cameron, Gelbach and Miller 2008, "Bootstrap-based improvements for inference with clustered errors";
    Robinson 1982, "Saddlepoint approximations for permutation tests and confidence intervals".
    """
    import numpy as np

    return float(sign_flip_ps(np.asarray(sums, dtype=float)[None])[0])


def sign_flip_ps(sums: Array) -> Array:
    """`sign_flip_p` of each row of sums: (pairs, clusters) -> (pairs,)."""
    import numpy as np

    scale = np.sqrt(np.sum(sums**2, axis=1))
    p = np.ones(len(sums))
    some = np.flatnonzero(scale > 0)
    parts = np.sort(np.abs(sums[some]) / scale[some, None], axis=1)[:, ::-1]
    totals = np.abs(sums[some].sum(1)) / scale[some]
    filled = np.sum(parts > 0, axis=1)
    least = np.minimum(1.0, 2.0 ** (1.0 - filled))
    all_alike = totals >= parts.sum(1) - 1e-12
    p[some[all_alike]] = least[all_alike]
    # Where a few clusters make up much of the total it has several peaks, which a saddlepoint doesn't see.
    large = np.sum(parts[:, :LARGE] ** 2 > 1 / 30, axis=1)
    counted = (filled <= ENUMERATED) & ~all_alike
    for k in np.flatnonzero(counted):
        row = parts[k, : filled[k]]
        p[some[k]] = min(1.0, 2 * _share_reaching(_totals(row[::2]), _totals(row[1::2]), totals[k]))
    for size in np.unique(large):
        rows = np.flatnonzero((large == size) & ~counted & ~all_alike)
        signs = np.array(list(product((1.0, -1.0), repeat=int(size)))).reshape(2**size, size)
        step = max(1, AT_ONCE // (len(signs) * parts.shape[1]))
        for chosen in (rows[start : start + step] for start in range(0, len(rows), step)):
            left = totals[chosen, None] - parts[chosen, :size] @ signs.T  # (rows, patterns)
            rest = np.repeat(parts[chosen, size:], len(signs), axis=0)
            share = _saddlepoint_tails(rest, left.ravel()).reshape(left.shape).mean(1)
            p[some[chosen]] = np.minimum(1.0, np.maximum(least[chosen], 2 * share))
    return p


def _totals(parts: Array) -> Array:
    """(2^parts,): the sums of all patterns of signs."""
    import numpy as np

    totals = np.zeros(1)
    for part in parts:
        totals = np.concatenate([totals + part, totals - part])
    return totals


def _share_reaching(first: Array, second: Array, total: float) -> float:
    """The share of all pairs of the two whose sum is at least total, up to rounding; half of it where total is 0."""
    import numpy as np

    ordered = np.sort(second)
    reached = len(ordered) - np.searchsorted(ordered, total - 1e-9 - first)
    return float(np.sum(reached)) / (len(first) * len(second))


def _saddlepoint_tails(parts: Array, totals: Array) -> Array:
    """(sums,): P(sum of +-parts >= total) for independent fair signs. parts: (sums, n), at least 0. totals: (sums,)."""
    import numpy as np
    from scipy.special import log_ndtr

    most, variance = parts.sum(1), np.sum(parts**2, axis=1)
    wanted = np.abs(totals)
    # One pattern reaches the most, that of signs all alike; none reaches beyond.
    found = np.where(wanted > most * (1 + 1e-12), 0.0, 2.0 ** -np.sum(parts > 0, axis=1))
    inside = wanted < most * (1 - 1e-12)
    solved = inside & (wanted > 1e-6 * np.sqrt(variance))
    found[inside & ~solved] = 0.5
    parts, x = parts[solved], wanted[solved]
    # Sum of parts * tanh(t * parts) = x, which bends down: Newton's steps from below stay below, and close in.
    t = x / variance[solved]
    moving = np.arange(len(t))
    for _ in range(200):
        if not len(moving):
            break
        those = parts[moving]
        reached = np.tanh(t[moving, None] * those)
        short = x[moving] - np.sum(those * reached, axis=1)
        step = short / np.maximum(1e-300, np.sum(those**2 * (1 - reached**2), axis=1))
        t[moving] += np.maximum(0.0, step)
        moving = moving[step > 1e-10 * t[moving]]
    scaled = t[:, None] * parts  # (totals, n)
    generating = np.sum(np.logaddexp(scaled, -scaled) - math.log(2), axis=1)
    curvature = np.sum((parts / np.cosh(np.minimum(scaled, 300.0))) ** 2, axis=1)
    w = np.sqrt(np.maximum(2 * (t * x - generating), 1e-300))
    u = np.maximum(t * np.sqrt(curvature), 1e-300)
    found[solved] = np.where(w < 1e-4, 0.5, np.exp(log_ndtr(-(w + np.log(u / w) / w))))
    return np.where(totals < 0, 1 - found, found)
