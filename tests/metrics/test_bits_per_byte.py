"""Bits per byte of the right option, with lm-eval's own function and a hand's sum as judges."""

from __future__ import annotations

import math

import pytest

from slmbench.metrics import load_scorer
from slmbench.metrics.bits_per_byte import bits_per_byte
from slmbench.values import Example, Output


def test_bits_are_those_of_the_gold_option_per_utf8_byte() -> None:
    # A probability of 1/16 is 4 bits; "abcd" has four bytes, and so has "éé".
    assert bits_per_byte([math.log(1 / 16), -9.0], ["abcd", "x"], 0) == pytest.approx(1.0, abs=1e-15)
    assert bits_per_byte([-9.0, math.log(1 / 16)], ["x", "éé"], 1) == pytest.approx(1.0, abs=1e-15)
    assert bits_per_byte([0.0, -1.0], ["a", "b"], 0) == 0.0


@pytest.mark.parametrize("text", ["a", "an answer", "éè", "日本語", "a\nb"])
def test_one_text_costs_what_lm_eval_says(text: str) -> None:
    from lm_eval.api.metrics import bits_per_byte as theirs

    assert bits_per_byte([-7.25, -1.0], [text, "z"], 0) == pytest.approx(
        theirs([(-7.25, len(text.encode("utf-8")))]), rel=1e-14
    )


def test_what_was_scored_counts_and_not_what_stands_in_the_row() -> None:
    scorer = load_scorer("bits_per_byte")
    example = Example("0", {}, "a, b", choices=("a, b", "c"), gold=0)
    quoted = Output(loglikelihoods=(math.log(1 / 64), -9.0), written=('"a, b"', "c"))
    assert scorer.score(example, quoted)["bits_per_byte"] == pytest.approx(1.0, abs=1e-15)
    bare = Output(loglikelihoods=(math.log(1 / 16), -9.0))
    assert scorer.score(example, bare)["bits_per_byte"] == pytest.approx(1.0, abs=1e-15)


def test_a_guess_has_no_bits_and_lower_is_better() -> None:
    scorer = load_scorer("bits_per_byte")
    assert scorer.chance(Example("0", {}, "a", choices=("a", "b"), gold=0)) is None
    assert (scorer.kind, scorer.higher_is_better, scorer.range) == ("choice", False, None)


def test_what_has_no_bits_is_an_error() -> None:
    with pytest.raises(ValueError, match="option 0, the right one, is empty"):
        bits_per_byte([-1.0, -2.0], ["", "b"], 0)
    with pytest.raises(ValueError, match="option 1, the right one, is infinite"):
        bits_per_byte([-1.0, -math.inf], ["a", "b"], 1)
    with pytest.raises(ValueError, match="option 1 is NaN"):
        bits_per_byte([-1.0, math.nan], ["a", "b"], 0)
    with pytest.raises(ValueError, match="gold is 2, but there are 2 options"):
        bits_per_byte([-1.0, -2.0], ["a", "b"], 2)
