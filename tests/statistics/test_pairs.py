"""Two models on the same items: against scipy, the scalar tests, and what may not be lost."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slmbench.statistics.columns import compare_column
from slmbench.statistics.pairs import compare_pair
from slmbench.statistics.significance import mcnemar_p

NAN = float("nan")


def test_right_or_wrong_items_are_compared_by_mcnemar() -> None:
    a, b = np.array([1, 1, 0, 0, 0, 0, 0, 0, 1, NAN]), np.array([1, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    made = compare_pair(a, b, higher_is_better=True, bounds=(0.0, 1.0))
    assert (made.wins, made.losses, made.ties, made.n) == (6, 1, 2, 9)
    assert made.difference == pytest.approx(5 / 9)
    assert (made.p, made.method) == (mcnemar_p(6, 1), "mcnemar-midp")
    assert made.ci_low <= made.difference <= made.ci_high <= 1.0


def test_real_scores_are_compared_as_scipy_does() -> None:
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    a = rng.random(60)
    b = a + rng.normal(0.05, 0.1, 60)
    made, theirs = compare_pair(a, b, higher_is_better=True), ttest_rel(b, a)
    assert (made.p, made.method) == (pytest.approx(theirs.pvalue), "paired-t")
    assert (made.ci_low, made.ci_high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_lower_is_better_turns_wins_round_and_nothing_else() -> None:
    a, b = np.array([0.5, 0.2, 0.9]), np.array([0.4, 0.3, 0.1])
    up, down = (compare_pair(a, b, higher_is_better=way) for way in (True, False))
    assert (up.wins, up.losses) == (down.losses, down.wins) == (1, 2)
    assert (up.difference, up.p) == (down.difference, down.p)


def test_clusters_count_and_too_few_promise_nothing() -> None:
    a, b = np.zeros(12), np.array([1.0] * 11 + [0.0])
    six = compare_pair(a, b, higher_is_better=True, clusters=np.repeat(np.arange(6), 2))
    assert (six.method, six.p) == ("sign-flip", 2 / 2**6)
    two = compare_pair(a, b, higher_is_better=True, clusters=np.repeat([0, 1], 6))
    assert (two.p, two.detectable) == (1.0, None)
    alone = compare_pair(a, b, higher_is_better=True, clusters=np.full(12, -1))
    assert alone == compare_pair(a, b, higher_is_better=True)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [(np.zeros(3), np.zeros(4), "same items"), (np.array([NAN, 1.0]), np.array([1.0, NAN]), "nothing to compare")],
)
def test_what_can_not_be_compared_is_an_error(a: np.ndarray, b: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        compare_pair(a, b, higher_is_better=True)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 8)).flatmap(
        lambda sizes: st.tuples(
            *(
                arrays.arrays(np.float64, (k, sizes[2]), elements=st.sampled_from([0.0, 0.3, 1.0, NAN]))
                for k in sizes[:2]
            ),
            arrays.arrays(np.int64, sizes[2], elements=st.integers(-1, 3)),
        )
    )
)
@settings(max_examples=150, deadline=None)
def test_no_interval_leaves_what_is_possible_and_all_numbers_are_finite(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    a, b, clusters = drawn
    if not np.isfinite(np.concatenate([a, b])).all(0).any():
        return
    for labels in (None, clusters):
        made = compare_pair(a, b, higher_is_better=True, clusters=labels, bounds=(0.0, 1.0))
        assert -1.0 <= made.ci_low <= made.difference <= made.ci_high <= 1.0
        assert 0.0 < made.p <= 1.0 and made.wins + made.losses + made.ties == made.n
        assert all(math.isfinite(value) for value in attrs.astuple(made) if isinstance(value, float))


def test_seeds_that_are_all_the_same_add_nothing() -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.random((2, 80)) < [[0.4], [0.6]]).astype(float)
    one = compare_pair(a, b, higher_is_better=True, bounds=(0.0, 1.0))
    assert compare_pair(np.stack([a] * 3), b, higher_is_better=True, bounds=(0.0, 1.0)) == one
    column = compare_column(np.stack([a, b]), higher_is_better=True, seeds=[np.stack([a] * 3), b[None]])
    assert column == compare_column(np.stack([a, b]), higher_is_better=True)


def test_a_pair_of_a_column_with_seeds_is_the_pair_by_itself() -> None:
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.1, 0.2, 0.35):
        easy = rng.normal(size=200)
        sides = [
            (easy + rng.normal(0, 0.5, (3, 200)) + rng.normal(0, 0.1, (3, 1)) + lead > 0).astype(float)
            for lead in (0.0, shift)
        ]
        pair = compare_pair(*sides, higher_is_better=True)
        column = compare_column(np.stack([side.mean(0) for side in sides]), higher_is_better=True, seeds=sides)
        assert pair.method == "seeds-items"
        assert column.alone == (pair.p < 0.05)
        assert column.detectable == pytest.approx(pair.detectable)
        assert (pair.p < 0.05) == (not pair.ci_low <= 0 <= pair.ci_high)
        if not column.alone:
            assert column.ranks[0] == column.ranks[1]


def test_equal_recipes_of_three_seeds_are_rarely_told_apart_and_mostly_are_if_seeds_do_not_count() -> None:
    rng = np.random.default_rng(4)
    tables, with_seeds, without = 200, 0, 0
    for _ in range(tables):
        easy = rng.normal(size=400)
        sides = [easy + rng.normal(0, 0.5, (3, 400)) + rng.normal(0, 0.2, (3, 1)) for _ in range(2)]
        with_seeds += compare_pair(*sides, higher_is_better=True).p < 0.05
        without += compare_pair(sides[0].mean(0), sides[1].mean(0), higher_is_better=True).p < 0.05
    assert with_seeds / tables <= 0.07
    assert without / tables >= 0.5


def test_seeds_and_clusters_and_missing_items_go_together() -> None:
    rng = np.random.default_rng(5)
    sides = [rng.random((3, 60)) + lead for lead in (0.0, 0.5)]
    sides[0][1, 7] = NAN
    clusters = np.repeat(np.arange(20), 3)
    pair = compare_pair(*sides, higher_is_better=True, clusters=clusters)
    found = compare_column(
        np.stack([side.mean(0) for side in sides]), higher_is_better=True, clusters=clusters, seeds=sides
    )
    assert pair.n == 59 and pair.p < 0.01
    assert found.best == (False, True)


def test_what_right_or_wrong_items_can_show_is_never_less_than_a_test_of_so_many_needs() -> None:
    """One that is right on nearly all and one that is right on none: their differences hardly vary."""
    a, b = np.zeros(200), np.array([1.0] * 199 + [0.0])
    found = compare_pair(a, b, higher_is_better=True)
    # A test that knows how many items differ, and not in which direction: (1.96 + .84) sqrt(.995 / 200).
    assert found.detectable == pytest.approx(0.198, abs=0.005)
