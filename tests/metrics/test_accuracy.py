"""Multiple-choice accuracy, with lm-eval's own task as the judge."""

from __future__ import annotations

import math
import random

import pytest

from slmbench.metrics.accuracy import accuracy, accuracy_bytes, accuracy_norm, likeliest, likeliest_norm


def test_accuracy_takes_the_highest_log_likelihood() -> None:
    assert accuracy([-3.0, -1.0, -2.0], ["a", "b", "c"], 1) == 1.0
    assert accuracy([-3.0, -1.0, -2.0], ["a", "b", "c"], 0) == 0.0


def test_the_first_of_equal_options_is_chosen() -> None:
    assert likeliest([-2.0, -1.0, -1.0]) == 1
    assert likeliest([-math.inf, -math.inf]) == 0
    assert likeliest_norm([-1.0, -2.0], ["a", "bb"]) == 0


def test_accuracy_norm_counts_characters_not_bytes() -> None:
    # Per character -1.0 and -1.1; per byte -0.5 and -1.1; in sum -2.0 and -1.1.
    assert accuracy([-2.0, -1.1], ["éé", "e"], 1) == 1.0
    assert accuracy_norm([-2.0, -1.1], ["éé", "e"], 0) == 1.0
    # By bytes the first would win, -1.5 / 2 against -1.0; by characters it loses, -1.5 against -1.0.
    assert accuracy_norm([-1.5, -1.0], ["é", "e"], 1) == 1.0


def test_accuracy_bytes_counts_bytes() -> None:
    assert accuracy_bytes([-1.5, -1.0], ["é", "e"], 0) == 1.0
    assert accuracy_bytes([-2.5, -1.0], ["é", "e"], 1) == 1.0


def test_an_empty_option_is_named() -> None:
    with pytest.raises(ValueError, match="option 0 of 2 is empty: accuracy_bytes divides"):
        accuracy_bytes([-1.0, -2.0], ["", "b"], 1)
    with pytest.raises(ValueError, match="option 1 of 3 is empty"):
        accuracy_norm([-1.0, -2.0, -3.0], ["a", "", "c"], 0)
    assert accuracy([-1.0, -2.0, -3.0], ["a", "", "c"], 0) == 1.0


def test_what_can_not_be_ranked_is_an_error() -> None:
    with pytest.raises(ValueError, match="option 1 is NaN"):
        accuracy([-1.0, math.nan], ["a", "b"], 0)
    with pytest.raises(ValueError, match="got 2 log-likelihoods for 3 options"):
        accuracy([-1.0, -2.0], ["a", "b", "c"], 0)
    with pytest.raises(ValueError, match="got 2 log-likelihoods for 3 options"):
        accuracy_norm([-1.0, -2.0], ["a", "b", "c"], 0)
    with pytest.raises(ValueError, match="no log-likelihoods"):
        likeliest([])
    for gold in (-1, 2):
        with pytest.raises(ValueError, match=f"gold is {gold}, but there are 2 options"):
            accuracy([-1.0, -2.0], ["a", "b"], gold)


@pytest.fixture(scope="module")
def lm_eval_task():
    """A multiple-choice task of lm-eval over rows handed to it."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    rows = [{"question": "?", "options": ["a", "b"], "label": 0}]
    return ConfigurableTask(
        config={
            "task": "slmbench_oracle",
            "custom_dataset": lambda **_: {"test": Dataset.from_list(rows)},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "options",
            "doc_to_target": "label",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "acc_bytes"}],
        }
    )


def test_all_three_equal_lm_eval_on_generated_items(lm_eval_task) -> None:
    rng = random.Random(4)
    norm_differs = bytes_differ = 0
    for _ in range(400):
        options = [rng.choice("xé") * rng.randint(1, 6) + "y" * rng.randint(0, 3) for _ in range(rng.randint(2, 5))]
        # Quarters, so that ties occur.
        loglikelihoods = [-rng.randint(1, 40) / 4 for _ in options]
        gold = rng.randrange(len(options))
        document = {"question": "?", "options": options, "label": gold}
        theirs = lm_eval_task.process_results(document, [(value, False) for value in loglikelihoods])
        assert accuracy(loglikelihoods, options, gold) == theirs["acc"]
        assert accuracy_norm(loglikelihoods, options, gold) == theirs["acc_norm"]
        assert accuracy_bytes(loglikelihoods, options, gold) == theirs["acc_bytes"]
        norm_differs += theirs["acc"] != theirs["acc_norm"]
        bytes_differ += theirs["acc_norm"] != theirs["acc_bytes"]
    assert norm_differs > 20
    assert bytes_differ > 20
