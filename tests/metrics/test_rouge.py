"""ROUGE is rouge_score's, quiet and offline."""

from __future__ import annotations

import subprocess
import sys

import pytest

from slmbench.metrics.rouge import ROUGE_TYPES, rouge

PREDICTION = "The patient was admitted with chest pain.\nHe improved on aspirin and went home."
REFERENCES = [
    "Admitted with chest pain, treated with aspirin.\nDischarged home improved.",
    "He went home.\nThe patient improved on aspirin.",
    "Nothing in common whatsoever",
]


def test_values_are_the_librarys_f_measures() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(list(ROUGE_TYPES), use_stemmer=False).score(REFERENCES[0], PREDICTION)
    assert rouge(PREDICTION, REFERENCES[:1]) == {name: theirs[name].fmeasure for name in ROUGE_TYPES}


def test_each_value_takes_its_own_best_reference() -> None:
    single = [rouge(PREDICTION, [reference]) for reference in REFERENCES]
    assert rouge(PREDICTION, REFERENCES) == {name: max(scores[name] for scores in single) for name in ROUGE_TYPES}


def test_a_hand_counted_pair() -> None:
    # the cat sat / the cat ran: 2 of 3 words, 1 of 2 pairs, a common subsequence of 2.
    scores = rouge("the cat sat", ["the cat ran"])
    assert scores == pytest.approx({"rouge1": 2 / 3, "rouge2": 1 / 2, "rougeL": 2 / 3, "rougeLsum": 2 / 3})


def test_words_are_not_stemmed() -> None:
    assert rouge("walking", ["walked"])["rouge1"] == 0.0


def test_lsum_takes_lines_for_sentences() -> None:
    scores = rouge("b c\na d", ["a d\nb c"])
    assert scores["rougeLsum"] == 1.0
    assert scores["rougeL"] == 0.5


@pytest.mark.parametrize("prediction", ["", "\n\n", "患者は退院した"])
def test_a_prediction_without_ascii_words_scores_zero(prediction: str) -> None:
    assert rouge(prediction, ["the patient went home"]) == dict.fromkeys(ROUGE_TYPES, 0.0)


def test_no_references_is_an_error() -> None:
    with pytest.raises(ValueError, match="no references"):
        rouge("a", [])
    with pytest.raises(ValueError, match="must be a list of texts"):
        rouge("a", "a")


def test_it_prints_nothing_and_opens_no_connection() -> None:
    code = """
import logging, socket
logging.basicConfig(level=logging.INFO)
def refuse(*_, **__):
    raise AssertionError("a connection was attempted")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from slmbench.metrics.rouge import rouge
assert rouge("a b", ["a b"])["rouge2"] == 1.0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
