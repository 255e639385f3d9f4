from __future__ import annotations

import random

import pytest

from slmbench.statistics.significance import (
    RankRange,
    detectable_difference,
    holm,
    mcnemar_p,
    paired_p,
    rank_ranges,
)


def scores(values: list[float]) -> dict[str, float]:
    return {f"item-{position}": float(value) for position, value in enumerate(values)}


@pytest.mark.parametrize(("b", "c"), [(0, 1), (1, 1), (5, 0), (3, 12), (40, 22), (200, 150), (0, 900)])
def test_mcnemar_is_the_two_sided_binomial_test_less_half_of_what_is_as_likely_as_the_data(b: int, c: int) -> None:
    from scipy.stats import binom, binomtest

    exact, point = binomtest(b, b + c, 0.5).pvalue, binom.pmf(b, b + c, 0.5)
    # Where both counts are the same the two tails share their one point.
    assert mcnemar_p(b, c) == pytest.approx(1.0 if b == c else exact - point, rel=1e-9)


def test_mcnemar_without_discordant_items_says_nothing() -> None:
    assert mcnemar_p(0, 0) == 1.0


def test_binary_scores_are_tested_on_discordant_items_only() -> None:
    first, second = [1, 1, 1, 1, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1, 0, 1]
    assert paired_p(scores(first), scores(second)) == mcnemar_p(6, 1)


def test_real_scores_get_the_paired_t_test_of_scipy() -> None:
    from scipy.stats import ttest_rel

    rng = random.Random(1)
    first = [rng.random() for _ in range(50)]
    second = [value + rng.gauss(0.05, 0.1) for value in first]
    assert paired_p(scores(first), scores(second)) == pytest.approx(ttest_rel(first, second).pvalue)


def test_only_items_that_both_have_are_compared() -> None:
    first = {"a": 1.0, "b": 1.0, "c": 1.0, "only first": 0.0}
    second = {"a": 0.0, "b": 0.0, "c": 0.0, "only second": 1.0}
    assert paired_p(first, second) == mcnemar_p(3, 0)


def test_runs_without_a_common_item_are_not_told_apart() -> None:
    assert paired_p({"a": 1.0}, {"b": 0.0}) == 1.0
    assert paired_p({"a": 0.3}, {"b": 0.1}) == 1.0


def test_a_constant_lead_on_real_scores_is_a_sign_test_and_not_certainty() -> None:
    first = [0.25, 0.5, 0.75]
    assert paired_p(scores(first), scores([value + 0.125 for value in first])) == mcnemar_p(0, 3)


def test_items_of_one_cluster_count_less() -> None:
    first, second = scores([1] * 12), scores([0] * 12)
    assert paired_p(first, second) < 0.001
    two = {item: "a" if position < 6 else "b" for position, item in enumerate(first)}
    assert paired_p(first, second, two) == 1.0
    six = {item: str(position // 2) for position, item in enumerate(first)}
    assert paired_p(first, second, six) == 2 / 2**6
    # A cluster of 50 beside five of one: not three clusters' worth, though six agree.
    uneven = scores([1] * 55), scores([0] * 55)
    assert paired_p(*uneven, {item: str(max(0, position - 49)) for position, item in enumerate(uneven[0])}) == 1.0


def test_false_alarms_of_clustered_items_stay_near_5_percent() -> None:
    alarms = naive = 0
    for seed in range(200):
        rng = random.Random(seed)
        first, second, clusters = {}, {}, {}
        for cluster in range(50):
            shift = rng.gauss(0, 0.3)
            for item in range(4):
                key = f"{cluster}-{item}"
                clusters[key] = str(cluster)
                first[key] = 0.5 + shift + rng.gauss(0, 0.1)
                second[key] = 0.5 + rng.gauss(0, 0.1)
        alarms += paired_p(first, second, clusters) < 0.05
        naive += paired_p(first, second) < 0.05
    assert alarms / 200 < 0.10
    assert naive / 200 > 0.20


def test_holm_steps_down_and_never_falls_below_an_earlier_p() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_rank_ranges_say_what_is_told_apart_and_what_is_not() -> None:
    good, alike, bad = [1] * 95 + [0] * 5, [1] * 93 + [0] * 7, [0] * 100
    found = rank_ranges([scores(bad), scores(good), scores(alike)])
    assert found == [RankRange(3, 3), RankRange(1, 2), RankRange(1, 2)]


def test_rank_ranges_turn_round_where_lower_is_better() -> None:
    found = rank_ranges([scores([0] * 50), scores([1] * 50)], higher_is_better=False)
    assert found == [RankRange(1, 1), RankRange(2, 2)]


def test_one_entry_has_rank_one_and_none_has_none() -> None:
    assert rank_ranges([scores([0, 1])]) == [RankRange(1, 1)]
    assert rank_ranges([]) == []


def test_twenty_equal_models_are_rarely_told_apart_with_holm_and_mostly_without() -> None:
    # Facts page: 88% of such tables have "a difference" uncorrected, 3.5% with Holm.
    tables, corrected, uncorrected = 40, 0, 0
    for seed in range(tables):
        rng = random.Random(seed)
        difficulty = [rng.random() for _ in range(100)]
        models = [scores([rng.random() < share for share in difficulty]) for _ in range(20)]
        ranges = rank_ranges(models)
        corrected += any((found.low, found.high) != (1, 20) for found in ranges)
        uncorrected += any(paired_p(models[i], models[j]) < 0.05 for i in range(20) for j in range(i))
    assert corrected / tables <= 0.10
    assert uncorrected / tables >= 0.60


def test_detectable_difference_is_2_8_standard_errors_of_the_paired_difference() -> None:
    from scipy.stats import sem, t

    rng = random.Random(5)
    first, second = [rng.random() for _ in range(80)], [rng.random() for _ in range(80)]
    stderr = sem([a - b for a, b in zip(first, second, strict=True)])
    found = detectable_difference([scores(first), scores(second)])
    assert found == pytest.approx((t.ppf(0.975, 79) + t.ppf(0.8, 79)) * stderr)
    assert found == pytest.approx(2.8 * stderr, rel=0.03)
    assert detectable_difference([scores(first)]) is None
    assert detectable_difference([scores(first), scores(first)]) is None


@pytest.mark.parametrize("sizes", [[20] * 4, [60, *[2] * 10]])
def test_no_difference_is_promised_where_the_test_can_tell_none_apart(sizes: list[int]) -> None:
    first, second = scores([1] * sum(sizes)), scores([0] * (sum(sizes) - 1) + [1])
    labels = [str(cluster) for cluster, size in enumerate(sizes) for _ in range(size)]
    clusters = dict(zip(first, labels, strict=True))
    assert paired_p(first, second, clusters) > 0.05
    assert detectable_difference([first, second], clusters) is None
    assert detectable_difference([first, second]) is not None
