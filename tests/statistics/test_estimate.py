from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.statistics.estimate import estimate, jackknife, wilson_interval
from slmbench.statistics.pooling import LabelF1, count_labels


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (1, 30), (84, 100), (820, 1319)])
def test_binary_values_get_the_wilson_interval_of_scipy(right: int, n: int) -> None:
    from scipy.stats import binomtest

    made = estimate([1.0] * right + [0.0] * (n - right))
    interval = binomtest(right, n).proportion_ci(method="wilson")
    assert made.method == "wilson"
    assert made.n == n
    assert made.value == pytest.approx(right / n)
    assert made.ci_low == pytest.approx(interval.low, abs=1e-12)
    assert made.ci_high == pytest.approx(interval.high, abs=1e-12)


def test_an_interval_of_another_level_is_that_of_scipy_and_holds_the_narrower_one() -> None:
    from scipy.stats import binomtest, ttest_1samp

    values = [float(i % 3 == 0) for i in range(50)]
    made = estimate(values, alpha=0.01)
    interval = binomtest(17, 50).proportion_ci(0.99, method="wilson")
    assert (made.ci_low, made.ci_high) == pytest.approx((interval.low, interval.high))
    rng = random.Random(4)
    real = [rng.random() for _ in range(40)]
    interval = ttest_1samp(real, 0).confidence_interval(0.99)
    assert (estimate(real, alpha=0.01).ci_low, estimate(real, alpha=0.01).ci_high) == pytest.approx(tuple(interval))
    for clusters in (None, [str(i // 4) for i in range(40)]):
        wide, narrow = (estimate(real, clusters, (0.0, 1.0), alpha) for alpha in (0.01, 0.05))
        assert wide.ci_low < narrow.ci_low < narrow.ci_high < wide.ci_high
    # So many ties come by chance alone in 1% of cases if the mean is at an end of the interval.
    tied = estimate([0.0] * 240, None, (-1.0, 1.0), 0.01)
    assert (1 - tied.ci_high) ** 240 == pytest.approx(0.01, rel=0.2)


def test_real_values_get_the_t_interval_of_scipy() -> None:
    from scipy import stats

    rng = random.Random(3)
    values = [rng.random() for _ in range(40)]
    made = estimate(values)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert made.method == "t"
    assert made.stderr == pytest.approx(stats.sem(values))
    assert (made.ci_low, made.ci_high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.3], [1.0, 1.0, 0.9], [0.0] * 40 + [0.01], [0.4, 0.5]])
def test_no_interval_leaves_the_range_and_only_without_one_t_may(values: list[float]) -> None:
    made = estimate(values, range=(0.0, 1.0))
    assert made.method == "wilson-t"
    assert 0.0 <= made.ci_low < made.value < made.ci_high <= 1.0
    plain = estimate(values)
    assert plain.method == "t"
    assert plain.ci_high - plain.value == pytest.approx(plain.value - plain.ci_low)


def test_equal_scores_in_a_range_are_no_certainty() -> None:
    made = estimate([0.4, 0.4], range=(0.0, 1.0))
    assert made.ci_low < 0.3 and made.ci_high > 0.5


def test_a_range_scales_everything() -> None:
    values = [0.1, 0.7, 0.2, 0.9, 1.0]
    small, large = estimate(values, range=(0.0, 1.0)), estimate([100 * value for value in values], range=(0.0, 100.0))
    assert attrs.astuple(large)[:4] == pytest.approx([100 * part for part in attrs.astuple(small)[:4]])
    ends = estimate([100.0, 0.0, 100.0], range=(0.0, 100.0))
    assert ends.method == "wilson"
    assert ends.ci_low == pytest.approx(100 * estimate([1, 0, 1]).ci_low)


def test_a_value_outside_the_range_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"value 1 of 2 is 1\.5, outside 0\.0 to 1\.0"):
        estimate([0.5, 1.5], range=(0.0, 1.0))


def test_clustered_stderr_is_near_the_true_spread_where_the_naive_one_is_far_too_small() -> None:
    # The setting of the facts page: 250 clusters of 4 that mostly move together.
    means, naive, clustered = [], [], []
    for seed in range(60):
        rng = random.Random(seed)
        values, labels = [], []
        for cluster in range(250):
            share = rng.betavariate(0.5, 0.5)
            values += [float(rng.random() < share) for _ in range(4)]
            labels += [str(cluster)] * 4
        means.append(sum(values) / len(values))
        naive.append(estimate(values).stderr)
        clustered.append(estimate(values, labels).stderr)
    true = math.sqrt(sum((mean - 0.5) ** 2 for mean in means) / len(means))
    assert sum(clustered) / 60 == pytest.approx(true, rel=0.2)
    assert sum(naive) / 60 < 0.75 * sum(clustered) / 60


def test_items_without_a_cluster_stand_alone() -> None:
    values = [1.0, 0.0, 0.5, 0.25]
    assert estimate(values, ["a", None, None, "a"]) == estimate(values, ["a", "b", "c", "a"])


def test_clusters_that_are_all_none_are_no_clusters() -> None:
    assert estimate([1, 0, 1], [None, None, None]) == estimate([1, 0, 1])


def test_all_right_in_clusters_is_not_certainty() -> None:
    from scipy.stats import binomtest

    made = estimate([1.0] * 40, [str(position // 4) for position in range(40)])
    assert made.method == "wilson-clusters"
    assert made.ci_low == pytest.approx(binomtest(10, 10).proportion_ci(method="wilson").low)
    assert made.ci_high == 1.0


@pytest.mark.parametrize(("values", "clusters"), [([0.4], None), ([0.4, 0.6], ["a", "a"])])
def test_where_no_interval_can_be_made_the_method_says_so(values: list[float], clusters: list[str] | None) -> None:
    made = estimate(values, clusters)
    assert made.method == "none"
    assert (made.ci_low, made.ci_high, made.stderr) == (made.value, made.value, 0.0)


@pytest.mark.parametrize(
    ("values", "clusters"),
    [([0.7] * 7, "aaabbbc"), ([0.1] * 7, "aaabbbc"), ([0.1, 0.3, 0.2, 0.2], "aabb"), ([0.0, 1.0, 0.0, 1.0], "aabb")],
)
def test_clusters_that_agree_get_an_interval_of_as_many_items(values: list[float], clusters: str) -> None:
    made = estimate(values, list(clusters), (0.0, 1.0))
    assert made.method == "wilson-clusters"
    assert made.ci_low < made.value - 0.05 and made.value + 0.05 < made.ci_high


@pytest.mark.parametrize("clusters", [None, list("aabbc")])
def test_scores_without_range_and_spread_have_no_interval(clusters: list[str] | None) -> None:
    assert estimate([-0.7] * 5, clusters).method == "none"


def test_no_values_are_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_an_error_that_names_it(bad: float) -> None:
    with pytest.raises(ValueError, match="value 1 of 3"):
        estimate([0.5, bad, 0.5])


def test_clusters_of_another_length_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 clusters for 2 values"):
        estimate([0, 1], ["a"])


def test_wilson_covers_near_95_percent_where_the_normal_interval_does_not() -> None:
    # Facts page: 30 items at .95; exact coverage by summing over all outcomes.
    from scipy.stats import binom

    def coverage(half_width_of: object) -> float:
        total = 0.0
        for right in range(31):
            low, high = half_width_of(right)  # type: ignore[operator]
            total += float(binom.pmf(right, 30, 0.95)) * (low <= 0.95 <= high)
        return total

    def wilson(right: int) -> tuple[float, float]:
        made = estimate([1.0] * right + [0.0] * (30 - right))
        return made.ci_low, made.ci_high

    def normal(right: int) -> tuple[float, float]:
        half = 1.96 * math.sqrt(right / 30 * (1 - right / 30) / 30)
        return right / 30 - half, right / 30 + half

    assert coverage(wilson) == pytest.approx(0.94, abs=0.01)
    assert coverage(normal) == pytest.approx(0.78, abs=0.01)


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from([None, "a", "b", "c"])), min_size=1, max_size=30),
    st.booleans(),
)
def test_every_estimate_is_valid_json_and_holds_its_value(pairs: list[tuple[float, str | None]], binary: bool) -> None:
    values = [float(value > 0) if binary else value for value, _ in pairs]
    made = estimate(values, [label for _, label in pairs])
    assert made.ci_low <= made.value <= made.ci_high
    json.dumps(attrs.asdict(made), allow_nan=False)


def _label_parts(n: int, n_labels: int, seed: int) -> list[dict[str, list[int]]]:
    rng = random.Random(seed)
    labels = [f"l{i}" for i in range(n_labels)]
    return [count_labels(rng.choices(labels, k=3), rng.choices(labels, k=3)) for _ in range(n)]


def _no_shortcut(pool: LabelF1) -> Callable[..., dict[str, float]]:
    return lambda parts: pool(parts)


@pytest.mark.parametrize("seed", range(5))
def test_jackknife_of_a_pool_equals_leaving_out_one_item_at_a_time(seed: int) -> None:
    pool, parts = LabelF1(micro="micro", macro="macro"), _label_parts(40, 12, seed)
    made, pseudo = jackknife(pool, parts)
    plain, plain_pseudo = jackknife(_no_shortcut(pool), parts)
    for name in ("micro", "macro"):
        assert attrs.astuple(made[name])[:5] == pytest.approx(attrs.astuple(plain[name])[:5], abs=1e-10)
        assert pseudo[name] == pytest.approx(plain_pseudo[name], abs=1e-9)
        # Written out.
        left = [pool(parts[:i] + parts[i + 1 :])[name] for i in range(40)]
        stderr = math.sqrt(39 / 40 * sum((each - sum(left) / 40) ** 2 for each in left))
        assert (made[name].value, made[name].stderr) == pytest.approx((pool(parts)[name], stderr))
        assert pseudo[name] == pytest.approx([40 * made[name].value - 39 * each for each in left])


def test_jackknife_of_a_mean_is_the_interval_of_its_values() -> None:
    values = [random.Random(i).random() for i in range(30)]
    made, pseudo = jackknife(lambda parts: {"mean": sum(parts) / len(parts)}, values)
    plain = estimate(values, range=(0.0, 1.0))
    assert made["mean"].method == "jackknife"
    assert attrs.astuple(made["mean"])[:5] == pytest.approx(attrs.astuple(plain)[:5])
    assert pseudo["mean"] == pytest.approx(values)


def test_jackknife_of_a_correlation_equals_scipy() -> None:
    import numpy as np
    from scipy.stats import pearsonr

    rng = np.random.default_rng(0)
    pairs = [(x, x + rng.normal()) for x in rng.normal(size=25)]

    def squared(parts) -> dict[str, float]:
        return {"r2": pearsonr(*zip(*parts, strict=True)).statistic ** 2}

    made, pseudo = jackknife(squared, pairs)
    left = np.array([squared(pairs[:i] + pairs[i + 1 :])["r2"] for i in range(25)])
    assert made["r2"].stderr == pytest.approx(np.sqrt(24 * left.var()))
    assert np.mean(pseudo["r2"]) == pytest.approx(25 * made["r2"].value - 24 * left.mean())


def test_jackknife_leaves_out_whole_clusters_and_gives_pseudo_values_of_items() -> None:
    pool, parts = LabelF1(macro="macro"), _label_parts(30, 6, 1)
    clusters = [None if i < 3 else str(i // 4) for i in range(30)]
    made, pseudo = jackknife(pool, parts, clusters)
    groups = [[i] for i in range(3)] + [[i for i in range(3, 30) if i // 4 == g] for g in range(8)]
    left = [pool([parts[i] for i in range(30) if i not in group])["macro"] for group in groups]
    g = len(groups)
    stderr = math.sqrt((g - 1) / g * sum((each - sum(left) / g) ** 2 for each in left))
    assert made["macro"].stderr == pytest.approx(stderr)
    assert made["macro"].n == 30
    assert pseudo == jackknife(pool, parts)[1]
    assert jackknife(_no_shortcut(pool), parts, clusters)[0]["macro"].stderr == pytest.approx(stderr)


def test_jackknife_interval_covers_near_95_percent() -> None:
    # Classes of .5, .3 and .2, a model that is right in 70% and else guesses: the true macro F1 by a large sample.
    def draw(n: int, seed: int) -> list[dict[str, list[int]]]:
        rng = random.Random(seed)
        gold = rng.choices("abc", weights=(5, 3, 2), k=n)
        return [count_labels([each if rng.random() < 0.7 else rng.choice("abc")], [each]) for each in gold]

    pool = LabelF1(macro="macro")
    true = pool(draw(200_000, 0))["macro"]
    covered = 0
    for seed in range(1, 301):
        made = jackknife(pool, draw(80, seed))[0]["macro"]
        covered += made.ci_low <= true <= made.ci_high
    assert covered / 300 == pytest.approx(0.95, abs=0.03)


def test_jackknife_interval_stays_in_the_range_and_the_estimate_is_not_moved() -> None:
    parts = [count_labels(["a"], ["a"])] * 5 + [count_labels(["a"], ["b"])]
    made = jackknife(LabelF1(micro="micro"), parts)[0]["micro"]
    assert made.value == pytest.approx(5 / 6)
    assert 0.0 <= made.ci_low < made.value < made.ci_high <= 1.0


@pytest.mark.parametrize(("right", "n"), [(0.95, 30), (0.98, 100)])
def test_jackknife_intervals_of_a_model_that_is_rarely_wrong_cover(right: float, n: int) -> None:
    # Half of the runs or more have no mistake at all; t of the pseudo-values covers .56 to .62 of these.
    def draw(n: int, seed: int) -> list[dict[str, list[int]]]:
        rng = random.Random(seed)
        gold = rng.choices("abc", weights=(5, 3, 2), k=n)
        return [count_labels([each if rng.random() < right else rng.choice("abc")], [each]) for each in gold]

    pool = LabelF1(macro="macro")
    true, covered = pool(draw(50_000, 0))["macro"], 0
    for seed in range(1, 151):
        made = jackknife(pool, draw(n, seed))[0]["macro"]
        assert 0.0 <= made.ci_low <= made.value <= made.ci_high <= 1.0
        covered += made.ci_low <= true <= made.ci_high
    assert covered / 150 >= 0.90


@pytest.mark.parametrize("right", [True, False])
def test_nothing_wrong_or_nothing_right_has_the_interval_of_as_many_items(right: bool) -> None:
    parts = [count_labels(["a"], ["a" if right else "b"])] * 9
    made = jackknife(LabelF1(micro="micro"), parts)[0]["micro"]
    assert (made.ci_low, made.ci_high) == pytest.approx(wilson_interval(float(right), 9))
    three = jackknife(LabelF1(micro="micro"), parts, list("aaabbbccc"))[0]["micro"]
    assert (three.ci_low, three.ci_high) == pytest.approx(wilson_interval(float(right), 3))


@pytest.mark.parametrize(
    ("parts", "clusters"),
    [
        ([count_labels(["a"], ["b"])], None),
        (_label_parts(8, 3, 0), ["one"] * 8),
    ],
)
def test_where_leaving_out_says_nothing_the_method_says_so(parts: list, clusters: list | None) -> None:
    estimates, pseudo = jackknife(LabelF1(micro="micro"), parts, clusters)
    made = estimates["micro"]
    assert made.method == "none"
    assert (made.ci_low, made.ci_high, made.stderr) == (made.value, made.value, 0.0)
    assert len(pseudo["micro"]) == len(parts)


def test_jackknife_is_quick_on_a_large_run() -> None:
    parts = _label_parts(10_000, 200, 0)
    started = time.perf_counter()
    jackknife(LabelF1(micro="micro", macro="macro"), parts, [str(i // 3) for i in range(10_000)])
    assert time.perf_counter() - started < 3


def test_what_can_not_be_jackknifed_is_an_error() -> None:
    pool = LabelF1(micro="micro")
    with pytest.raises(ValueError, match="no parts"):
        jackknife(pool, [])
    with pytest.raises(ValueError, match="1 clusters for 2 items"):
        jackknife(pool, _label_parts(2, 2, 0), ["a"])
    with pytest.raises(ValueError, match="x is not finite"):
        jackknife(lambda parts: {"x": math.nan}, [1, 2])
