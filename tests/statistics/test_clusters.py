"""Clustered items: against the textbook's matrices, all sign patterns written out, and simulations of equal models."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from slmbench.statistics import clusters
from slmbench.statistics.clusters import clustered_spread, sign_flip_p
from slmbench.statistics.estimate import estimate


def uneven_sizes(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.maximum(1, np.round(np.exp(rng.normal(1.5, 1.2, count)))).astype(int)


def labels_of(sizes: Any) -> list[str]:
    return [str(cluster) for cluster, size in enumerate(sizes) for _ in range(size)]


def _inverse_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(1 / np.sqrt(values)) @ vectors.T


def test_cr2_and_satterthwaite_are_those_of_the_matrices_of_the_regression_on_a_constant() -> None:
    # No intraclass correlation is found in these values, so the working errors are independent: Bell and McCaffrey's.
    sizes = [1, 2, 3, 9]
    values = np.array([0.5, 0.1, 0.9, 0.0, 0.4, 1.0, 0.2, 0.8, 0.5, 0.45, 0.1, 0.9, 0.3, 0.7, 0.6])
    n = len(values)
    ones, hat = np.ones((n, 1)), np.full((n, n), 1 / n)
    residuals = (np.eye(n) - hat) @ values
    bounds = np.cumsum([0, *sizes])
    parts, columns = [], []
    for first, last in itertools.pairwise(bounds):
        index = slice(first, last)
        adjusted = _inverse_root((np.eye(n) - hat)[index, index])
        parts.append((ones[index].T @ adjusted @ residuals[index]).item() / n)
        columns.append((np.eye(n) - hat)[index].T @ adjusted @ ones[index] / n)
    matrix = np.hstack(columns).T @ np.hstack(columns)
    found = clustered_spread(values.tolist(), labels_of(sizes))
    assert found.stderr == pytest.approx(math.sqrt(sum(part**2 for part in parts)))
    assert found.freedom == pytest.approx(np.trace(matrix) ** 2 / np.sum(matrix**2))
    assert (found.clusters, found.effective) == (4, pytest.approx(15**2 / (1 + 4 + 9 + 81)))


def test_clusters_of_one_item_are_the_plain_mean() -> None:
    from scipy.stats import sem

    values = [0.2, 0.9, 0.4, 0.4, 0.7]
    found = clustered_spread(values, list("abcde"))
    assert (found.stderr, found.freedom) == (pytest.approx(sem(values)), pytest.approx(4))


def test_even_clusters_have_clusters_minus_one_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(10, 1)) + rng.normal(size=(10, 4))).ravel()
    found = clustered_spread(values.tolist(), labels_of([4] * 10))
    assert found.freedom == pytest.approx(9)
    means = values.reshape(10, 4).mean(1)
    assert found.stderr == pytest.approx(means.std(ddof=1) / math.sqrt(10))


def test_one_large_cluster_leaves_few_degrees_of_freedom() -> None:
    rng = np.random.default_rng(1)
    sizes = [60, *[3] * 19]
    values = np.repeat(rng.normal(size=20), sizes) + rng.normal(size=sum(sizes))
    assert clustered_spread(values.tolist(), labels_of(sizes)).freedom < 4


@pytest.mark.parametrize("n", [1, 3, 7, 12])
def test_signs_are_those_of_all_patterns_written_out(n: int) -> None:
    rng = np.random.default_rng(n)
    for sums in (rng.normal(size=n), rng.integers(-2, 3, size=n).astype(float)):
        total = abs(sums.sum())
        patterns = [abs(float(np.dot(signs, sums))) for signs in itertools.product((1, -1), repeat=n)]
        share = sum(one >= total - 1e-9 for one in patterns) / len(patterns)
        assert sign_flip_p(sums.tolist()) == pytest.approx(share)


@pytest.mark.parametrize("shift", [0.0, 0.4, 0.8, 1.2])
def test_the_saddlepoint_is_near_all_patterns_far_into_the_tail(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    for spread in (0.3, 1.5):  # Clusters nearly alike, and a few that outweigh all others.
        sums = (rng.normal(shift, 1, 28) * rng.lognormal(0, spread, 28)).tolist()
        counted = sign_flip_p(sums)
        with monkeypatch.context() as patch:
            patch.setattr(clusters, "ENUMERATED", 0)
            assert sign_flip_p(sums) == pytest.approx(counted, rel=0.04)


def test_whole_sums_of_many_clusters_have_the_tail_of_all_patterns_counted() -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        sums = np.round(rng.normal(0.4, 1.0, 40) * rng.lognormal(0, rng.choice([0.3, 1.2]), 40))
        counts = np.ones(1)  # By total, from the lowest: all patterns of signs, one sum after another.
        for part in np.abs(sums).astype(int):
            longer = np.zeros(len(counts) + 2 * part)
            longer[: len(counts)] += counts / 2
            longer[2 * part :] += counts / 2
            counts = longer
        reached = np.abs(np.arange(len(counts)) - (len(counts) - 1) / 2) >= abs(sums.sum()) - 0.25
        middle = np.abs(np.arange(len(counts)) - (len(counts) - 1) / 2) > abs(sums.sum()) + 0.25
        # A smooth tail lies between what is beyond the data and what is at least as far.
        assert counts[middle].sum() * 0.95 <= sign_flip_p(sums.tolist()) <= counts[reached].sum() * 1.05 + 1e-12


def test_fewer_than_six_clusters_never_reach_5_percent() -> None:
    assert sign_flip_p([5.0] * 5) == 2 / 32
    assert sign_flip_p([5.0] * 6) == 2 / 64
    assert sign_flip_p([]) == sign_flip_p([0.0, 0.0]) == 1.0


def test_large_even_clusters_give_the_normal_tail() -> None:
    from scipy.stats import norm

    sums = [1.0] * 1040 + [-1.0] * 960
    assert sign_flip_p(sums) == pytest.approx(2 * norm.sf(80 / math.sqrt(2000)), rel=0.01)


@pytest.mark.parametrize("count", [5, 10, 30])
def test_twenty_equal_models_on_few_uneven_clusters_are_rarely_told_apart(count: int) -> None:
    # With clusters - 1 degrees of freedom and CR0, 39 to 57% of such tables tell some pair apart.
    from scipy.stats import t

    rng = np.random.default_rng(count)
    tables, models, alarms, naive = 60, 20, 0, 0
    pairs = list(itertools.combinations(range(models), 2))
    for _ in range(tables):
        sizes = uneven_sizes(rng, count)
        n = sizes.sum()
        sums = sizes[:, None] * rng.normal(0, 0.7, (count, models))
        sums = sums + rng.normal(size=(count, models)) * np.sqrt(sizes)[:, None]
        differences = np.stack([sums[:, i] - sums[:, j] for i, j in pairs])  # (pairs, clusters)
        alarms += min(sign_flip_p(one.tolist()) for one in differences) * len(pairs) < 0.05
        means = differences.sum(1) / n
        errors = np.sqrt(((differences - np.outer(means, sizes)) ** 2).sum(1)) / n
        naive += 2 * t.sf(np.abs(means) / errors, count - 1).min() * len(pairs) < 0.05
    assert alarms / tables <= 0.10
    assert naive / tables >= 0.25


@pytest.mark.parametrize(("count", "p"), [(5, 0.5), (10, 0.85), (20, 0.5), (20, 0.85)])
def test_intervals_of_right_or_wrong_items_in_few_uneven_clusters_cover(count: int, p: float) -> None:
    # With CR0 and t(clusters - 1) they cover .77 to .87.
    rng = np.random.default_rng(count)
    covered, tables = 0, 300
    for _ in range(tables):
        sizes = uneven_sizes(rng, count)
        each = rng.beta(p * 3, (1 - p) * 3, count)
        values = (rng.random(sizes.sum()) < np.repeat(each, sizes)).astype(float)
        made = estimate(values.tolist(), labels_of(sizes), (0.0, 1.0))
        assert 0.0 <= made.ci_low <= made.value <= made.ci_high <= 1.0
        covered += made.ci_low <= p <= made.ci_high
    assert covered / tables >= 0.93


RARE = {
    "95% zeros, uniform": (lambda rng, n: (rng.random(n) < 0.05) * rng.random(n), 0.025),
    "95% zeros, small": (lambda rng, n: (rng.random(n) < 0.05) * rng.beta(2, 5, n), 0.05 * 2 / 7),
    "97% ones, uniform": (lambda rng, n: 1 - (rng.random(n) < 0.03) * rng.random(n), 1 - 0.015),
}


@pytest.mark.parametrize("n", [100, 164])
@pytest.mark.parametrize("kind", RARE)
def test_intervals_of_rare_events_cover(kind: str, n: int) -> None:
    # Student's t covers .83 to .92 of these.
    draw, true = RARE[kind]
    rng = np.random.default_rng(n)
    made = [estimate(draw(rng, n).tolist(), range=(0.0, 1.0)) for _ in range(400)]
    assert sum(one.ci_low <= true <= one.ci_high for one in made) / 400 >= 0.93
    assert all(0.0 <= one.ci_low <= one.value <= one.ci_high <= 1.0 for one in made)


def test_an_interval_that_hangs_on_many_items_is_that_of_student() -> None:
    rng = np.random.default_rng(0)
    values = rng.beta(2, 5, 500).tolist()
    bounded, plain = estimate(values, range=(0.0, 1.0)), estimate(values)
    assert (bounded.method, plain.method) == ("wilson-t", "t")
    assert bounded.stderr == plain.stderr
    assert bounded.ci_high - bounded.ci_low == pytest.approx(plain.ci_high - plain.ci_low, rel=0.02)
