"""Bits per byte of what a model was to write, with lm-eval's own function and a hand's sum as judges."""

from __future__ import annotations

import math

import pytest

from slmbench.metrics import load_metric, load_scorer
from slmbench.metrics.target_bits_per_byte import target_bits_per_byte
from slmbench.values import Example, Output


def test_bits_are_those_of_the_target_per_utf8_byte() -> None:
    assert target_bits_per_byte(math.log(1 / 16), 4) == pytest.approx(1.0, abs=1e-15)
    assert target_bits_per_byte(0.0, 3) == 0.0


@pytest.mark.parametrize("text", ["a", "an answer", "éè", "日本語", "a\nb"])
def test_one_text_costs_what_lm_eval_says(text: str) -> None:
    from lm_eval.api.metrics import bits_per_byte as theirs

    n_bytes = len(text.encode("utf-8"))
    assert target_bits_per_byte(-7.25, n_bytes) == pytest.approx(theirs([(-7.25, n_bytes)]), rel=1e-14)


def test_as_an_evaluate_metric_it_takes_log_likelihoods_and_texts() -> None:
    found = load_metric("target_bits_per_byte").compute(
        predictions=[math.log(1 / 16), math.log(1 / 4)], references=["abcd", "éé"]
    )
    assert found == {"target_bits_per_byte": pytest.approx(0.75, abs=1e-15)}


def test_what_has_no_bits_is_an_error() -> None:
    with pytest.raises(ValueError, match="the target is empty"):
        target_bits_per_byte(-1.0, 0)
    with pytest.raises(ValueError, match="the target is nan"):
        target_bits_per_byte(math.nan, 1)
    with pytest.raises(ValueError, match="example '7': the log-likelihood of its target wasn't asked for"):
        load_scorer("target_bits_per_byte").score(Example("7", {}, "a"), Output(text="a"))
    with pytest.raises(ValueError, match="example '7': the target is empty"):
        load_scorer("target_bits_per_byte").score(Example("7", {}, ""), Output(target_loglikelihood=-1.0))
