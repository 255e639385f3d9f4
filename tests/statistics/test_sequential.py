"""E-values and confidence sequences, beside numerical integrals, enumeration and scipy's distributions."""

import math
import random

import numpy as np
import pytest
from scipy import integrate, stats

from slmbench.statistics.sequential import (
    PRIORS,
    BettingTest,
    betting_interval,
    final_share,
    log_e_values,
)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (9, 0), (3, 5), (40, 21)])
def test_an_e_value_is_the_likelihood_ratio_integrated_over_the_priors(wins, losses):
    def ratio(share, a):
        return 2 ** (wins + losses) * share**wins * (1 - share) ** losses * stats.beta(a, a).pdf(share)

    expected = np.mean([integrate.quad(ratio, 0, 1, args=(a,), epsabs=0, limit=200)[0] for a in PRIORS])
    assert math.exp(log_e_values(wins, losses)) == pytest.approx(expected, rel=1e-6)


def test_an_e_value_stays_what_it_is_in_the_mean_over_the_next_item():
    wins, losses = np.meshgrid(np.arange(60), np.arange(60))
    now, up, down = (np.exp(log_e_values(*more)) for more in ((wins, losses), (wins + 1, losses), (wins, losses + 1)))
    assert (up + down) / 2 == pytest.approx(now, rel=1e-10)


def test_equal_models_ever_reach_the_threshold_with_at_most_its_probability():
    # Every path of 400 decisive items, counted: the paths that reached 25 are taken out as they do.
    alive, crossed = np.array([1.0]), 0.0
    for n in range(1, 401):
        alive = (np.append(alive, 0.0) + np.append(0.0, alive)) / 2
        wins = np.arange(n + 1)
        over = log_e_values(wins, n - wins) >= math.log(25)
        crossed += alive[over].sum()
        alive[over] = 0.0
    assert 0.01 < crossed <= 0.04


def test_the_e_value_of_any_differences_is_that_of_signs_where_they_are_signs():
    draw, test = random.Random(0), BettingTest()
    wins = losses = 0
    for _ in range(500):
        difference = draw.choice([-1, 0, 0, 1, 1])
        wins, losses = wins + (difference > 0), losses + (difference < 0)
        assert test.add(difference) == pytest.approx(float(log_e_values(wins, losses)), abs=1e-9)


def test_the_e_value_of_any_differences_is_an_integral_over_bets():
    values, test = [0.3, -0.1, 0.75, 0.0, 0.25, -1.0, 0.5], BettingTest()
    for value in values:
        test.add(value)

    def capital(share, a):
        return math.prod(1 + (2 * share - 1) * value for value in values) * stats.beta(a, a).pdf(share)

    expected = np.mean([integrate.quad(capital, 0, 1, args=(a,), limit=200)[0] for a in PRIORS])
    assert math.exp(test.log_e) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="from -1 to 1"):
        test.add(1.5)


def test_wins_needed_is_the_first_that_reaches_it():
    test = BettingTest()
    assert test.needed(1.0, math.log(25)) == 9
    assert log_e_values(9, 0) >= math.log(25) > log_e_values(8, 0)
    for value in [1.0] * 20 + [-1.0] * 2:
        test.add(value)
    assert test.needed(1.0, math.log(25)) == 0


def test_final_share_is_a_sum_of_scipys_distributions():
    right, n, total = 13, 30, 70
    kept = [
        k
        for k in range(right, total - (n - right) + 1)
        if stats.betabinom(total, 1, 1).pmf(k)
        < 20 * stats.betabinom(total - n, 1 + right, 1 + n - right).pmf(k - right)
    ]
    assert final_share(right, n, total) == (kept[0] / total, kept[-1] / total)
    assert final_share(5, 10, 10) == (0.5, 0.5)
    with pytest.raises(ValueError, match="can't be"):
        final_share(5, 4, 10)


def test_an_interval_is_the_means_that_the_test_leaves():
    values = np.random.default_rng(0).choice([-1.0, 0.0, 0.5, 1.0], size=200).tolist()
    low, high = betting_interval(values)

    def log_e(mean):
        test = BettingTest(mean)
        for value in values:
            test.add(value)
        return test.log_e

    assert low < np.mean(values) < high
    assert all(log_e(mean) < math.log(20) for mean in (low + 1e-3, np.mean(values), high - 1e-3))
    assert all(log_e(mean) > math.log(20) for mean in (low - 1e-3, high + 1e-3, -0.9, 0.9))
    assert betting_interval([]) == (-1.0, 1.0)


def test_intervals_leave_the_mean_rarely_at_any_item():
    missed = 0
    for seed in range(60):
        values = np.random.default_rng(seed).choice([-1, 0, 1], p=[0.1, 0.7, 0.2], size=400)
        test = BettingTest(0.1)
        missed += max(test.add(float(value)) for value in values) >= math.log(20)
    assert missed <= 3
    assert betting_interval(values.tolist())[1] - betting_interval(values.tolist())[0] < 0.25
