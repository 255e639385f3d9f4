"""Which models a column's data can tell apart: paired tests, Holm's correction, and the ranks that are left open."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from attrs import frozen

from slmbench.metrics.estimate import Z_95, clustered_stderr

# The 80% point of the standard normal distribution: the power that a smallest detectable difference is stated for.
Z_POWER_80 = 0.8416212335729143

Scores = Mapping[str, float]
Clusters = Mapping[str, "str | None"]


@frozen
class RankRange:
    """The ranks (1 is best) that one entry may have; low == high where every other entry is told apart from it."""

    low: int
    high: int


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test. only_first, only_second: items that only the one got right. p in (0, 1].

    The smaller count is binomial(discordant items, 1/2) if both are equally good. Source: McNemar 1947, exact form.
    """
    from scipy.special import bdtr

    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), discordant, 0.5)))


def paired_p(first: Scores, second: Scores, clusters: Clusters | None = None) -> float:
    """Two-sided p of "equally good on the same items"; first, second: score by item id.

    Only items that both have count; fewer than two of them, or no difference on any, give 1. 0/1 scores: exact McNemar.
    Other scores: paired t. Where some item has a cluster, neither holds (items of a cluster move together), so it is a
    t of the differences with the clustered standard error and clusters - 1 degrees of freedom, for any kind of score.
    Where all differences are the same, no spread can be estimated, and it is the exact sign test over items (or
    clusters).
    """
    items = sorted(first.keys() & second.keys())
    labels = [clusters.get(item) for item in items] if clusters else []
    clustered = any(label is not None for label in labels)
    if not clustered and all(scores[item] in (0.0, 1.0) for scores in (first, second) for item in items):
        only_first = sum(1 for item in items if first[item] > second[item])
        only_second = sum(1 for item in items if first[item] < second[item])
        return mcnemar_p(only_first, only_second)
    differences = [first[item] - second[item] for item in items]
    return _clustered_p(differences, labels) if clustered else _paired_t_p(differences)


def holm(p_values: Sequence[float]) -> list[float]:
    """p adjusted by Holm's step-down method, in the order given. Source: Holm 1979."""
    adjusted = [1.0] * len(p_values)
    worst = 0.0
    for step, position in enumerate(sorted(range(len(p_values)), key=lambda position: p_values[position])):
        worst = max(worst, min(1.0, (len(p_values) - step) * p_values[position]))
        adjusted[position] = worst
    return adjusted


def rank_ranges(
    scores: Sequence[Scores],
    higher_is_better: bool = True,
    clusters: Clusters | None = None,
    alpha: float = 0.05,
) -> list[RankRange]:
    """The range of ranks of every entry of one column. scores: for each of M entries, score by item id.

    All M (M - 1) / 2 pairs are tested (`paired_p`) and Holm-corrected together. low = 1 + entries that are
    significantly better; high = M - entries that are significantly worse. Entries that nothing tells apart share their
    range.
    """
    pairs = [(i, j) for i in range(len(scores)) for j in range(i + 1, len(scores))]
    adjusted = holm([paired_p(scores[i], scores[j], clusters) for i, j in pairs])
    better = [0] * len(scores)
    worse = [0] * len(scores)
    for (i, j), p in zip(pairs, adjusted, strict=True):
        if p >= alpha:
            continue
        lead = sum(scores[i][item] - scores[j][item] for item in scores[i].keys() & scores[j].keys())
        winner, loser = (i, j) if (lead > 0) == higher_is_better else (j, i)
        worse[winner] += 1
        better[loser] += 1
    return [RankRange(1 + better[i], len(scores) - worse[i]) for i in range(len(scores))]


def detectable_difference(scores: Sequence[Scores], clusters: Clusters | None = None) -> float | None:
    """The difference of two entries' means that one uncorrected paired test at 5% finds with 80% power; None under 2.

    (1.96 + 0.84) times the median standard error of the paired differences of all pairs. Pairs that agree on every item
    say nothing about the spread and are left out. Source: Miller 2024, section 5.
    """
    errors: list[float] = []
    for i in range(len(scores)):
        for j in range(i + 1, len(scores)):
            items = sorted(scores[i].keys() & scores[j].keys())
            differences = [scores[i][item] - scores[j][item] for item in items]
            if len(set(differences)) > 1:
                labels = [clusters.get(item) if clusters else None for item in items]
                errors.append(clustered_stderr(differences, labels)[0])
    if not errors:
        return None
    errors.sort()
    middle = (errors[(len(errors) - 1) // 2] + errors[len(errors) // 2]) / 2
    return (Z_95 + Z_POWER_80) * middle


def _paired_t_p(differences: list[float]) -> float:
    n = len(differences)
    if n < 2:
        return 1.0
    mean = math.fsum(differences) / n
    stderr = math.sqrt(math.fsum((value - mean) ** 2 for value in differences) / (n - 1) / n)
    return _t_p(mean, stderr, n - 1, differences)


def _clustered_p(differences: list[float], labels: list[str | None]) -> float:
    n = len(differences)
    stderr, count = clustered_stderr(differences, labels)
    if count < 2:
        return 1.0
    sums: dict[Hashable, float] = defaultdict(float)
    for position, (value, label) in enumerate(zip(differences, labels, strict=True)):
        sums[(position,) if label is None else label] += value
    return _t_p(math.fsum(differences) / n, stderr, count - 1, list(sums.values()))


def _t_p(mean: float, stderr: float, freedom: int, units: list[float]) -> float:
    """p of a t test; units: the independent differences, for the sign test that stands in where stderr is 0."""
    if stderr <= 1e-12 * abs(mean) or stderr == 0:
        return mcnemar_p(sum(1 for unit in units if unit > 0), sum(1 for unit in units if unit < 0))
    from scipy.special import stdtr

    return min(1.0, 2 * float(stdtr(freedom, -abs(mean / stderr))))
