from __future__ import annotations

import json
import math
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.metrics.estimate import clustered_stderr, estimate


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


def test_real_values_get_the_t_interval_of_scipy() -> None:
    from scipy import stats

    rng = random.Random(3)
    values = [rng.random() for _ in range(40)]
    made = estimate(values)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert made.method == "t"
    assert made.stderr == pytest.approx(stats.sem(values))
    assert (made.ci_low, made.ci_high) == pytest.approx((interval.low, interval.high))


def test_an_interval_below_zero_is_not_clipped() -> None:
    assert estimate([0.0, 0.0, 0.3]).ci_low < 0


def test_clustered_stderr_is_the_sum_of_squared_cluster_residuals() -> None:
    # Written out: mean 0.5; residual sums 0.5 + 0.5 = 1, -0.5 + 0.5 = 0, -0.5 - 0.5 = -1; sqrt(2) / 6.
    stderr, count = clustered_stderr([1, 1, 0, 1, 0, 0], ["a", "a", "b", "b", "c", "c"])
    assert stderr == pytest.approx(math.sqrt(2) / 6)
    assert count == 3


def test_clustered_interval_uses_clusters_minus_one_degrees_of_freedom() -> None:
    from scipy.stats import t

    made = estimate([1, 1, 0, 1, 0, 0], ["a", "a", "b", "b", "c", "c"])
    assert made.method == "clustered-t"
    assert made.ci_high - made.value == pytest.approx(t.ppf(0.975, 2) * math.sqrt(2) / 6)
    assert made.n == 6


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
    assert clustered_stderr(values, ["a", None, None, "a"]) == clustered_stderr(values, ["a", "b", "c", "a"])


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
