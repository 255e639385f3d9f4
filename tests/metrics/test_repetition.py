"""Repetition: numbers held to counts by hand, and to nltk's n-grams on a text that somebody called repetitive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk import ngrams

from slmbench.metrics import load_scorer
from slmbench.metrics.repetition import distinct, repetition
from slmbench.values import Example, Output

# What the README of a public project quotes of SmolLM2-360M, shortened, and calls repetitive.
LOOP = "A. AGI is a measure of the ability of a machine to perform a task. " * 4


@pytest.mark.parametrize(
    ("text", "one", "two", "repeated"),
    [
        ("", 1.0, 1.0, 0.0),
        ("word", 1.0, 1.0, 0.0),
        ("a b a b", 0.5, 2 / 3, 0.0),
        ("The the THE", 1 / 3, 0.5, 0.0),
        ("a b c d a b c d", 0.5, 4 / 7, 0.2),
        ("++++++++", 1 / 8, 1 / 7, 0.8),
        ("да да", 0.5, 1.0, 0.0),
    ],
)
def test_counts_by_hand(text: str, one: float, two: float, repeated: float) -> None:
    assert distinct(text) == pytest.approx({"distinct_1": one, "distinct_2": two})
    assert repetition(text)["repeated_4grams"] == pytest.approx(repeated)


@given(st.lists(st.sampled_from("abcde"), min_size=4, max_size=60))
def test_they_are_shares_of_nltks_n_grams(words: list[str]) -> None:
    text = " ".join(words)
    found = {n: list(ngrams(words, n)) for n in (1, 2, 4)}
    assert distinct(text)["distinct_1"] == pytest.approx(len(set(found[1])) / len(found[1]))
    assert distinct(text)["distinct_2"] == pytest.approx(len(set(found[2])) / len(found[2]))
    assert repetition(text)["repeated_4grams"] == pytest.approx(1 - len(set(found[4])) / len(found[4]))


def test_a_text_in_a_loop_is_told_from_one_that_is_not() -> None:
    said_once = "AGI would do any task that a person can do. AI of today does single ones, such as reading a photo."
    assert repetition(LOOP)["repeated_4grams"] > 0.7 > 0.0 == repetition(said_once)["repeated_4grams"]
    assert distinct(LOOP)["distinct_2"] < 0.3 < distinct(said_once)["distinct_2"]


def test_repetition_describes_and_other_metrics_judge() -> None:
    assert load_scorer("distinct").describes and load_scorer("repetition").describes
    assert not any(load_scorer(name).describes for name in ("rouge", "exact_match/strict", "accuracy", "bits_per_byte"))
    assert load_scorer("repetition").higher_is_better is False
    example = Example("x", {}, "", references=("",))
    assert load_scorer("distinct").score(example, Output(text="a a")) == {"distinct_1": 0.5, "distinct_2": 1.0}
