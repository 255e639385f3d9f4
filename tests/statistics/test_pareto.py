"""The Pareto front against its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.statistics.pareto import pareto_front

NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, allow_nan=False))


def by_definition(rows, maximise):
    """Every row against every other one, with no sorting and no shortcuts."""

    def better(a, b, more):
        return a > b if more else a < b

    front = []
    for one in rows:
        beaten = False
        for other in rows:
            worse_somewhere = any(better(a, b, more) for a, b, more in zip(one, other, maximise, strict=True))
            better_somewhere = any(better(b, a, more) for a, b, more in zip(one, other, maximise, strict=True))
            beaten = beaten or (better_somewhere and not worse_somewhere)
        front.append(not beaten)
    return front


@given(st.data())
def test_the_front_is_what_no_other_row_beats(data):
    maximise = data.draw(st.lists(st.booleans(), min_size=1, max_size=4))
    row = st.tuples(*[NUMBERS] * len(maximise))
    rows = data.draw(st.lists(row, max_size=25))
    assert pareto_front(rows, maximise) == by_definition(rows, maximise)


def test_equal_rows_are_on_the_front_together():
    assert pareto_front([(0.5, 10), (0.5, 10), (0.4, 10)], [True, False]) == [True, True, False]


def test_the_same_score_for_more_is_beaten():
    assert pareto_front([(0.5, 10), (0.5, 20)], [True, False]) == [True, False]


def test_less_is_better_where_it_is_said_to_be():
    losses = [(2.0, 10), (1.0, 20), (1.5, 30)]
    assert pareto_front(losses, [False, False]) == [True, True, False]
    assert pareto_front(losses, [True, False]) == [True, False, False]


def test_nothing_has_no_front():
    assert pareto_front([], [True]) == []


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="row 1 has an objective that is NaN"):
        pareto_front([(1.0,), (float("nan"),)], [True])


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="row 0 has 2 objectives instead of 1"):
        pareto_front([(1.0, 2.0)], [True])
