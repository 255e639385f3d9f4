from __future__ import annotations

import math

import numpy as np
import pytest

from slmbench.statistics.aggregate import (
    aggregate_estimate,
    aggregate_pair,
    chance_normalised,
    normalised_estimate,
    seeds_estimate,
)
from slmbench.statistics.columns import ScoredTask, compare_aggregate, compare_column
from slmbench.statistics.estimate import estimate
from slmbench.statistics.pairs import compare_pair
from slmbench.statistics.seeds import spread_of
from slmbench.values import Estimate

UNIT = (0.0, 1.0)


def test_chance_is_0_the_best_is_1_and_worse_than_chance_is_below_0() -> None:
    assert [chance_normalised(value, 0.25) for value in (0.25, 1.0, 0.625, 0.0)] == [0.0, 1.0, 0.5, -1 / 3]
    assert chance_normalised(1.5, 2.0, best=0.0) == 0.25  # Lower is better.
    with pytest.raises(ValueError, match="are both"):
        chance_normalised(0.5, 1.0)


def test_an_estimate_where_lower_is_better_keeps_its_ends_in_order() -> None:
    made = normalised_estimate(Estimate(1.5, 0.1, 1.4, 1.8, 50, "t"), 2.0, 0.0)
    assert (made.ci_low, made.value, made.ci_high) == pytest.approx((0.1, 0.25, 0.3))
    assert made.stderr == pytest.approx(0.05)


def test_one_part_is_itself_and_equal_parts_narrow_with_the_root_of_their_number() -> None:
    part = estimate([1.0] * 20 + [0.0] * 60, range=UNIT)
    one, four = aggregate_estimate([part]), aggregate_estimate([part] * 4)
    assert (one.value, one.ci_low, one.ci_high) == pytest.approx((part.value, part.ci_low, part.ci_high))
    assert (four.value - four.ci_low, four.ci_high - four.value, four.stderr) == pytest.approx(
        ((part.value - part.ci_low) / 2, (part.ci_high - part.value) / 2, part.stderr / 2)
    )
    assert (four.n, four.method) == (320, "mover")


def test_an_aggregate_of_models_at_chance_lies_at_0_in_the_mean() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        parts = []
        for chance, n in ((0.25, 60), (0.5, 40), (0.25, 90)):
            made = estimate((rng.random(n) < chance).astype(float).tolist(), range=UNIT)
            parts.append(normalised_estimate(made, chance))
        found.append(aggregate_estimate(parts))
    assert abs(float(np.mean([one.value for one in found]))) < 0.01
    assert 0.92 <= float(np.mean([one.ci_low <= 0 <= one.ci_high for one in found])) <= 0.98


def test_no_aggregate_leaves_the_range_and_a_part_without_interval_leaves_none() -> None:
    perfect = estimate([1.0] * 5, range=UNIT)
    assert aggregate_estimate([perfect, perfect]).ci_high == 1.0
    assert aggregate_estimate([perfect, Estimate(0.5, 0.0, 0.5, 0.5, 1, "none")]).method == "none"
    with pytest.raises(ValueError, match="no parts"):
        aggregate_estimate([])


def test_one_seed_is_the_estimate_of_its_items() -> None:
    scores = np.random.default_rng(1).random((1, 40))
    assert seeds_estimate(scores, None, UNIT) == estimate(scores[0].tolist(), range=UNIT)


def test_seeds_that_score_on_other_items_leave_no_interval_of_one_point() -> None:
    scores = np.zeros((2, 20))
    scores[0, [0, 2, 8]] = scores[1, [1, 5, 12]] = 0.2
    made = seeds_estimate(scores, None, UNIT)
    assert made == estimate(scores.mean(0).tolist(), range=UNIT)
    assert made.ci_low < made.value < made.ci_high


def test_seeds_that_agree_are_one_seed_and_seeds_that_do_not_widen() -> None:
    rng = np.random.default_rng(2)
    row = (rng.random(100) < 0.6).astype(float)
    same = seeds_estimate(np.stack([row] * 3), None, UNIT)
    assert same == estimate(row.tolist(), range=UNIT)
    apart = seeds_estimate(np.stack([row, row, np.maximum(0, row - (rng.random(100) < 0.5))]), None, UNIT)
    assert apart.ci_high - apart.ci_low > 1.5 * (same.ci_high - same.ci_low)
    assert (apart.method, spread_of(apart)) == ("wilson-seeds-items", "seeds and items")
    assert 0.0 <= apart.ci_low < apart.value < apart.ci_high <= 1.0


@pytest.mark.parametrize("clustered", [False, True])
def test_two_seeds_far_apart_never_leave_the_range(clustered: bool) -> None:
    scores = np.stack([np.full(30, 0.95), np.full(30, 0.15)])
    scores[0, 3] = math.nan
    clusters = np.repeat(np.arange(10), 3) if clustered else None
    made = seeds_estimate(scores, clusters, UNIT)
    assert made.n == 29
    assert 0.0 <= made.ci_low < 0.1 and 0.9 < made.ci_high <= 1.0
    assert seeds_estimate(scores, clusters).ci_high > 1.0


def test_what_is_no_matrix_of_seeds_is_an_error() -> None:
    with pytest.raises(ValueError, match="seeds, items"):
        seeds_estimate(np.zeros(4))
    with pytest.raises(ValueError, match="no item"):
        seeds_estimate(np.full((2, 3), math.nan))


@pytest.mark.parametrize("between", [0.0, 0.1, 0.3])
def test_intervals_over_three_seeds_cover(between: float) -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(6)
    true, covered, tables = norm.cdf(0.4 / math.sqrt(1 + 0.49 + between**2)), 0, 300
    for _ in range(tables):
        latent = rng.normal(0, between, (3, 1)) + rng.normal(size=200) + 0.7 * rng.normal(size=(3, 200))
        made = seeds_estimate((latent + 0.4 > 0).astype(float), None, UNIT)
        covered += made.ci_low <= true <= made.ci_high
    assert 0.92 <= covered / tables <= 0.995


def two_models(rng: np.random.Generator, n: int, lead: float) -> np.ndarray:
    easy = rng.normal(size=n)
    return (easy + rng.normal(size=(2, n)) + [[0.0], [lead]] > 0).astype(float)


def test_a_pair_on_one_task_is_its_comparison_and_normalising_stretches_it() -> None:
    a, b = np.random.default_rng(0).random((2, 60))
    single = compare_pair(a, b, higher_is_better=True)
    found = aggregate_pair([single], [(0.0, 1.0)])
    assert (found.difference, found.ci_low, found.ci_high, found.detectable) == pytest.approx(
        (single.difference, single.ci_low, single.ci_high, single.detectable)
    )
    assert found.p == pytest.approx(single.p, rel=0.01)
    half = aggregate_pair([single], [(0.5, 1.0)])
    assert (half.difference, half.ci_low) == pytest.approx((2 * single.difference, 2 * single.ci_low))
    lower = aggregate_pair([single], [(1.0, 0.0)])
    assert (lower.difference, lower.ci_low) == pytest.approx((-single.difference, -single.ci_high))


def test_tasks_that_agree_tell_apart_what_none_does_alone_and_equal_models_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(1)
    alone = together = columns = wrong = 0
    tables, scales = 100, [(0.0, 1.0), (0.25, 1.0), (0.5, 1.0), (0.0, 1.0)]
    for _ in range(tables):
        tasks = [two_models(rng, 80, 0.3) for _ in scales]
        parts = [compare_pair(*task, higher_is_better=True, bounds=UNIT) for task in tasks]
        alone += parts[0].p < 0.05
        together += aggregate_pair(parts, scales).p < 0.05
        scored = [ScoredTask(task, *scale) for task, scale in zip(tasks, scales, strict=True)]
        columns += compare_aggregate(scored).alone
        equal = [compare_pair(*two_models(rng, 80, 0.0), higher_is_better=True) for _ in scales]
        wrong += aggregate_pair(equal, scales).p < 0.05
    assert together > 1.6 * alone
    assert abs(columns - together) <= 1
    assert wrong / tables <= 0.10


def test_the_interval_of_a_mean_and_its_p_say_the_same_also_where_a_task_is_at_its_floor() -> None:
    rng, tables, apart = np.random.default_rng(1), 80, 0
    for _ in range(tables):
        floor = (rng.random((2, 100)) < 0.01).astype(float)
        real = np.clip(rng.beta(2, 8, 100) + rng.normal(0, 0.07, (2, 100)), 0, 1)
        found = aggregate_pair([compare_pair(*task, higher_is_better=True) for task in (floor, real)], [(0.0, 1.0)] * 2)
        inside = found.ci_low <= 0 <= found.ci_high
        assert (found.p < 0.05) != inside
        apart += not inside
    assert apart / tables < 0.10


def test_a_task_that_can_tell_nothing_leaves_the_aggregate_open() -> None:
    rng = np.random.default_rng(2)
    clear, few = two_models(rng, 200, 1.5), two_models(rng, 12, 1.0)
    clusters = np.repeat(np.arange(3), 4)
    parts = [
        compare_pair(*clear, higher_is_better=True),
        compare_pair(*few, higher_is_better=True, clusters=clusters),
    ]
    assert parts[0].p < 0.001 and aggregate_pair(parts, [(0.0, 1.0)] * 2).p == 1.0
    found = compare_aggregate([ScoredTask(clear, 0.0), ScoredTask(few, 0.0, clusters=clusters)])
    assert found.best == (True, True) and found.detectable is None


def test_one_task_of_real_scores_has_the_ranks_of_its_column() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=120) + rng.normal(size=(6, 120)) + np.linspace(0, 1, 6)[:, None]
    scores[2, 5] = math.nan
    seeds = [row[None] for row in scores]
    seeds[1] = np.stack([scores[1] - 0.2, scores[1] + 0.2])
    for up, task in ((True, ScoredTask(scores, 0.0)), (False, ScoredTask(scores, 1.0, 0.0))):
        assert compare_aggregate([task]).ranks == compare_column(scores, higher_is_better=up).ranks
    both = compare_aggregate([ScoredTask(scores, 0.0, seeds=seeds)])
    assert both == compare_column(scores, higher_is_better=True, seeds=seeds)


def test_an_aggregate_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 comparisons"):
        aggregate_pair([], [])
    with pytest.raises(ValueError, match="all with the same"):
        compare_aggregate([ScoredTask(np.zeros((2, 3)), 0.0), ScoredTask(np.zeros((3, 3)), 0.0)])
