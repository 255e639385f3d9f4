"""How many items are needed, against a table, a sum over all outcomes, and clusters drawn at random."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from slmbench.statistics.planning import (
    PairSpread,
    assumed_spread,
    detectable_at,
    items_to_detect,
    power_at,
    spread_of_pair,
    typical,
)


@pytest.mark.parametrize(
    ("difference", "discordance", "needed"),
    [(0.02, 0.20, 3923), (0.03, 0.25, 2178), (0.05, 0.25, 783), (0.07, 0.29, 463), (0.10, 0.30, 234), (0.20, 0.35, 67)],
)
def test_items_for_right_or_wrong_scores_are_those_of_the_formula(
    difference: float, discordance: float, needed: int
) -> None:
    spread = PairSpread(math.sqrt(discordance - difference**2), discordance)
    n = items_to_detect(difference, spread)
    assert n == pytest.approx(needed, abs=1)
    smallest, larger = detectable_at(n, spread), detectable_at(n - 1, spread)
    assert smallest is not None and larger is not None
    assert smallest <= difference < larger


@pytest.mark.parametrize(("difference", "sd", "power"), [(0.01, 0.12, 0.9), (0.1, 0.1, 0.8), (0.08, 0.2, 0.95)])
def test_items_for_other_scores_are_those_of_a_paired_t_test(difference: float, sd: float, power: float) -> None:
    exact = TTestPower().solve_power(difference / sd, power=power, alpha=0.05)
    assert items_to_detect(difference, PairSpread(sd), power=power) == pytest.approx(exact, abs=1.5)
    smallest = detectable_at(math.ceil(exact), PairSpread(sd), power=power)
    assert smallest == pytest.approx(difference, rel=0.05)


def exact_power(n: int, difference: float, discordance: float) -> float:
    """Of mid-p McNemar, summed over every number of wins and losses."""
    shares = ((discordance + difference) / 2, (discordance - difference) / 2)
    found = 0.0
    for wins, losses in itertools.product(range(n + 1), repeat=2):
        if wins + losses <= n:
            low, both = min(wins, losses), wins + losses
            p = 2 * stats.binom.cdf(low, both, 0.5) - stats.binom.pmf(low, both, 0.5)
            if p <= 0.05:
                found += stats.multinomial.pmf([wins, losses, n - both], n, [*shares, 1 - discordance])
    return found


def test_power_is_near_that_of_every_possible_outcome_summed() -> None:
    n, difference, discordance = 40, 0.25, 0.35
    spread = PairSpread(math.sqrt(discordance - difference**2), discordance)
    assert power_at(n, difference, spread) == pytest.approx(exact_power(n, difference, discordance), abs=0.03)
    assert power_at(items_to_detect(difference, spread), difference, spread) == pytest.approx(0.8, abs=0.01)


def test_a_difference_needs_as_many_items_to_differ() -> None:
    """Past runs that agreed on all items don't make a difference of 0.2 free."""
    assert items_to_detect(0.2, PairSpread(0.0, 0.0)) == items_to_detect(0.2, PairSpread(0.4, 0.2))


def test_too_few_items_can_show_nothing() -> None:
    assert detectable_at(3, PairSpread(0.5, 0.3)) is None
    assert detectable_at(2000, PairSpread(0.5, 0.3)) == pytest.approx(0.0343, abs=1e-4)


def test_a_set_that_is_all_there_is_needs_fewer_items() -> None:
    spread = PairSpread(0.5, 0.25)
    alone = items_to_detect(0.03, spread)
    assert items_to_detect(0.03, spread, of=1319) == math.ceil(alone / (1 + alone / 1319))
    assert items_to_detect(0.001, spread, of=1319) <= 1319


def test_a_spread_assumed_of_two_scores_is_that_of_correlated_items() -> None:
    first, second, r = 0.6, 0.5, 0.5
    both = first * second + r * math.sqrt(first * (1 - first) * second * (1 - second))
    assert assumed_spread(first, second).discordance == pytest.approx(first + second - 2 * both)
    # Of nearly all right and nearly none, no correlation of a half is possible: the gap itself is the least.
    assert assumed_spread(0.99, 0.01).discordance == pytest.approx(0.98, abs=0.0201)
    with pytest.raises(ValueError, match="not a share"):
        assumed_spread(1.2, 0.5)


def test_the_spread_of_two_runs_leaves_unscored_items_out() -> None:
    first, second = np.array([1, 0, 1, 1, np.nan]), np.array([1, 1, 0, 1, 1.0])
    found = spread_of_pair(first, second)
    assert found.discordance == 0.5
    assert found.sd == pytest.approx(np.std([0, 1, -1, 0], ddof=1))
    assert spread_of_pair(first / 2, second / 2).discordance is None
    with pytest.raises(ValueError, match="needs two"):
        spread_of_pair(first[:1], second[:1])


def test_the_design_effect_is_what_clusters_add_to_the_variance_of_a_mean() -> None:
    rng = np.random.default_rng(5)
    sizes = rng.integers(2, 9, 400)
    clusters = np.repeat(np.arange(400) * 7919 - 10**12, sizes)
    shared = np.repeat(rng.normal(size=400), sizes)
    differences = 0.6 * shared + 0.8 * rng.normal(size=len(shared))  # An intraclass correlation of 0.36.
    found = spread_of_pair(np.zeros(len(shared)), differences, clusters)
    expected = 1 + (np.sum(sizes**2) / sizes.sum() - 1) * 0.36
    assert found.design == pytest.approx(expected, rel=0.1)
    assert spread_of_pair(np.zeros(len(shared)), differences, np.full(len(shared), -1)).design == 1.0
    assert items_to_detect(0.1, found) == pytest.approx(
        found.design * items_to_detect(0.1, PairSpread(found.sd)), abs=5
    )


def test_the_typical_spread_is_the_median_of_several() -> None:
    found = typical([PairSpread(0.4, 0.2), PairSpread(0.5, 0.3, 2.0), PairSpread(0.9, 0.8)])
    assert found == PairSpread(0.5, 0.3, 1.0)
    assert typical([PairSpread(0.4, 0.2), PairSpread(0.2)]).discordance is None
    with pytest.raises(ValueError, match="no spread"):
        typical([])
