"""Which models a column's data can tell apart: paired tests, Holm's correction, and the ranks that are left open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations

from attrs import frozen

from slmbench.statistics.clusters import (
    MIN_CLUSTERS,
    MIN_EFFECTIVE_CLUSTERS,
    clustered_spread,
    effective_clusters,
    members,
    sign_flip_p,
)
from slmbench.statistics.estimate import t_quantile
from slmbench.values import Array

# The power that a smallest detectable difference is stated for.
POWER = 0.8
# A standard error of at most this share of the mean is the rounding of differences that are all the same.
NOTHING = 1e-12

Scores = Mapping[str, float]
Clusters = Mapping[str, "str | None"]


@frozen
class RankRange:
    """The ranks (1 is best) that one entry may have; low == high where every other entry is told apart from it."""

    low: int
    high: int


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided mid-p McNemar test. only_first, only_second: items that only the one got right. p in (0, 1].

    The smaller count k is binomial(discordant items, 1/2) if both are equally good; p = 2 P(X < k) + P(X = k). The
    exact test, 2 P(X <= k), rejects too seldom: 2.0% of equal pairs on 30 items, 4.5% on 1,319; this one 3.9% and 5.0%.
    Sources: McNemar 1947; Fagerland, Lydersen and Laake 2013, "The McNemar test for binary matched-pairs data".
    """
    return float(mcnemar_ps(only_first, only_second))


def mcnemar_ps(only_first: Array, only_second: Array) -> Array:
    """`mcnemar_p` of arrays of counts, of one shape."""
    import numpy as np
    from scipy.special import bdtr, gammaln

    fewer = np.minimum(only_first, only_second).astype(float)
    discordant = np.add(only_first, only_second).astype(float)
    point = gammaln(discordant + 1) - gammaln(fewer + 1) - gammaln(discordant - fewer + 1) - discordant * math.log(2)
    tail = 2 * bdtr(fewer, discordant.astype(np.int64), 0.5) - np.exp(point)
    # Equal counts: both tails share their one point.
    return np.where(2 * fewer == discordant, 1.0, np.clip(tail, 0.0, 1.0))


def paired_p(first: Scores, second: Scores, clusters: Clusters | None = None) -> float:
    """Two-sided p of "equally good on the same items"; first, second: score by item id.

    Only items that both have count; fewer than two of them, or no difference on any, give 1. 0/1 scores: mid-p McNemar.
    Other scores: paired t. Where some item has a cluster, neither holds (items of a cluster move together), so it is
    the test of signs over clusters (`sign_flip_p`), for any kind of score: exact for two models that are equally good,
    never below 5% with fewer than six clusters, and 1 with fewer than three effective ones. Where all differences of
    unclustered items are the same, no spread can be estimated, and it is the mid-p sign test.
    """
    items = sorted(first.keys() & second.keys())
    labels = [clusters.get(item) for item in items] if clusters else []
    import numpy as np

    one, other = (np.array([scores[item] for item in items], dtype=float) for scores in (first, second))
    return same_items_p(one, other, labels)


def same_items_p(first: Array, second: Array, labels: Sequence[str | None] = ()) -> float:
    """`paired_p` of scores of the same items, in one order; first, second: (n,). labels: (n,), or none at all."""
    import numpy as np

    differences = first - second
    if any(label is not None for label in labels):
        return _clustered_p(differences.tolist(), list(labels))
    if bool((((first == 0) | (first == 1)) & ((second == 0) | (second == 1))).all()):
        return mcnemar_p(int(np.sum(differences > 0)), int(np.sum(differences < 0)))
    return _paired_t_p(differences.tolist())


def holm(p_values: Sequence[float]) -> list[float]:
    """p adjusted by Holm's step-down method, in the order given. Source: Holm 1979."""
    adjusted = [1.0] * len(p_values)
    worst = 0.0
    for step, position in enumerate(sorted(range(len(p_values)), key=lambda position: p_values[position])):
        worst = max(worst, min(1.0, (len(p_values) - step) * p_values[position]))
        adjusted[position] = worst
    return adjusted


def rank_ranges(
    scores: Sequence[Scores], higher_is_better: bool = True, clusters: Clusters | None = None, alpha: float = 0.05
) -> list[RankRange]:
    """The range of ranks of every entry of one column. scores: for each of M entries, score by item id.

    All M (M - 1) / 2 pairs are tested (`paired_p`) and Holm-corrected together. low = 1 + entries that are
    significantly better; high = M - entries that are significantly worse. Entries that nothing tells apart share their
    range.
    """
    pairs = list(combinations(range(len(scores)), 2))
    adjusted = holm([paired_p(scores[i], scores[j], clusters) for i, j in pairs])
    better = [0] * len(scores)
    worse = [0] * len(scores)
    for (i, j), p in zip(pairs, adjusted, strict=True):
        if p >= alpha:
            continue
        winner, loser = (i, j) if (_lead(scores[i], scores[j]) > 0) == higher_is_better else (j, i)
        worse[winner] += 1
        better[loser] += 1
    return [RankRange(1 + better[i], len(scores) - worse[i]) for i in range(len(scores))]


def best_entries(
    scores: Sequence[Scores], higher_is_better: bool = True, clusters: Clusters | None = None, alpha: float = 0.05
) -> list[bool]:
    """Which of M entries may be the best: those that no other one is found to be better than.

    Each entry has M - 1 tests, "that one is better", each at alpha / (M - 1) (`paired_p`, of two sides, so that two
    entries are told apart here as they are as a pair). If an entry is truly the best, none of the others is better, so
    these leave it out with probability alpha / 2 at most, whichever entry leads by luck: no leader is chosen. An entry
    that is worse than another in `rank_ranges` isn't the best either, so that the two claims never contradict each
    other; with that, alpha at most.
    Sources: Gupta 1965, "On some multiple decision (selection and ranking) rules"; Hsu 1981, "Simultaneous confidence
    intervals for all distances from the best".
    """
    best = [found.low == 1 for found in rank_ranges(scores, higher_is_better, clusters, alpha)]
    for i, j in permutations(range(len(scores)), 2):
        if best[i] and paired_p(scores[j], scores[i], clusters) < alpha / (len(scores) - 1):
            best[i] = (_lead(scores[j], scores[i]) > 0) != higher_is_better
    return best


def detectable_difference(scores: Sequence[Scores], clusters: Clusters | None = None) -> float | None:
    """The difference of two entries' means that one uncorrected paired test at 5% finds with 80% power; None under 2.

    t(97.5%) + t(80%) times the standard error of the paired differences, the median over all pairs; with clusters its
    CR2 form and degrees of freedom (`clustered_spread`). Pairs that agree on every item say nothing about the spread
    and are left out, and so are pairs on so few clusters that `paired_p` can't tell them apart whatever they score.
    Source: Miller 2024, section 5.
    """
    found: list[float] = []
    for i in range(len(scores)):
        for j in range(i + 1, len(scores)):
            items = sorted(scores[i].keys() & scores[j].keys())
            differences = [scores[i][item] - scores[j][item] for item in items]
            if items and len(set(differences)) > 1:
                labels = [clusters.get(item) if clusters else None for item in items]
                spread = clustered_spread(differences, labels)
                same = spread.stderr <= NOTHING * abs(math.fsum(differences)) / len(items)
                if spread.freedom > 0 and not same and not (clusters and _too_few(labels)):
                    found.append(
                        (t_quantile(0.975, spread.freedom) + t_quantile(POWER, spread.freedom)) * spread.stderr
                    )
    if not found:
        return None
    found.sort()
    return (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2


def _lead(first: Scores, second: Scores) -> float:
    return math.fsum(first[item] - second[item] for item in first.keys() & second.keys())


def _paired_t_p(differences: list[float]) -> float:
    n = len(differences)
    if n < 2:
        return 1.0
    mean = math.fsum(differences) / n
    stderr = math.sqrt(math.fsum((value - mean) ** 2 for value in differences) / (n - 1) / n)
    if stderr <= NOTHING * abs(mean):
        return mcnemar_p(sum(1 for value in differences if value > 0), sum(1 for value in differences if value < 0))
    from scipy.special import stdtr

    return min(1.0, 2 * float(stdtr(n - 1, -abs(mean / stderr))))


def _clustered_p(differences: list[float], labels: list[str | None]) -> float:
    groups = members(labels)
    if effective_clusters(groups) < MIN_EFFECTIVE_CLUSTERS:
        return 1.0
    return sign_flip_p([math.fsum(differences[position] for position in group) for group in groups])


def _too_few(labels: Sequence[str | None]) -> bool:
    """Whether no result at all on these clusters could tell two entries apart."""
    groups = members(labels)
    return len(groups) < MIN_CLUSTERS or effective_clusters(groups) < MIN_EFFECTIVE_CLUSTERS
