"""ROUGE is rouge_score's to the digit, quiet and offline."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from slmbench.metrics import load_scorer
from slmbench.metrics.rouge import ROUGE_TYPES, rouge, rouge_l
from slmbench.values import Example, Output

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


@pytest.fixture(scope="module", params=[False, True], ids=["words", "stems"])
def pair_of_scores(request: pytest.FixtureRequest) -> Callable[[str, list[str]], tuple[dict, dict]]:
    """(ours, rouge_score's) of a prediction and its references, with stemming and without."""
    from rouge_score.rouge_scorer import RougeScorer

    library = RougeScorer(list(ROUGE_TYPES), use_stemmer=request.param)

    def both(prediction: str, references: list[str]) -> tuple[dict, dict]:
        theirs = library.score_multi(references, prediction)
        ours = rouge(prediction, references, stemming=request.param)
        return ours, {name: theirs[name].fmeasure for name in ROUGE_TYPES}

    return both


def test_random_texts_score_as_in_rouge_score(pair_of_scores) -> None:
    rng = random.Random(5)
    # Few words, so that many alignments are equally long and the one that is chosen matters; marks and scripts between.
    pieces = [
        "a",
        "b",
        "c",
        "the",
        "cat",
        "cats",
        "running",
        "runs",
        "İx",
        "ß",
        "K",
        "é",
        "١٢",
        "12",
        "x-y",
        "\n",
        "\n",
    ]
    pieces += ["\r\n", "\u2028", "", "..."]
    differ = 0
    for _ in range(5000):
        texts = [" ".join(rng.choices(pieces, k=rng.randint(0, 16))) for _ in range(rng.choice((2, 2, 3)))]
        ours, theirs = pair_of_scores(texts[0], texts[1:])
        assert ours == pytest.approx(theirs, abs=1e-12), texts
        differ += theirs["rougeL"] != theirs["rougeLsum"]
    # Or else Lsum would not have been put to the test.
    assert differ > 500


@pytest.mark.realdata
def test_real_texts_score_as_in_rouge_score(pair_of_scores) -> None:
    n = 0
    for prediction, reference in real_pairs(500):
        ours, theirs = pair_of_scores(prediction, [reference])
        assert ours == pytest.approx(theirs, abs=1e-12)
        n += 1
    assert n == 1000


def real_pairs(max_characters: int):
    """1,000 pairs of texts of one kind: summaries and sources, notes and dialogues, answers and other answers."""

    def rows(path: str) -> list[dict]:
        lines = (Path(os.environ["SLMBENCH_DATA"]) / path).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def begin(text: str) -> str:
        return text[:max_characters]

    for row in rows("mts_dialog/train.jsonl")[:400]:
        yield begin(row["section_text"]), begin(row["dialogue"])
    for row in rows("billsum/train.jsonl")[:40]:
        yield begin(row["summary"]), begin(row["text"])
    for row in rows("sumpubmed/train.jsonl")[:40]:
        yield begin(row["shorter_abstract"]), begin(row["abstract"])
    for path, column, count in (("medquad/train.jsonl", "Answer", 260), ("gsm8k/train.jsonl", "answer", 260)):
        texts = [row[column] for row in rows(path)[: count + 1]]
        for one, other in pairwise(texts):
            yield begin(one), begin(other)


def test_a_long_pair_takes_far_less_time_than_rouge_score() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    rng = random.Random(0)
    one, other = (" ".join(f"w{rng.randint(0, 200)}" for _ in range(500)) for _ in range(2))
    library = RougeScorer(["rougeL"], use_stemmer=False)

    def seconds(measure: Callable[[], object], times: int) -> float:
        measure()
        took = []
        for _ in range(times):
            start = time.perf_counter()
            measure()
            took.append(time.perf_counter() - start)
        return min(took)

    ours = seconds(lambda: rouge_l(one, other), 20)
    theirs = seconds(lambda: library.score(other, one), 3)
    assert theirs > 20 * ours
    assert rouge_l(one, other) == library.score(other, one)["rougeL"].fmeasure


def test_very_long_texts_are_no_trouble() -> None:
    rng = random.Random(0)
    one, other = (" ".join(f"w{rng.randint(0, 2000)}" for _ in range(8000)) for _ in range(2))
    started = time.perf_counter()
    scores = rouge(one, [other])
    assert time.perf_counter() - started < 5
    # On one line Lsum is L.
    assert scores["rougeLsum"] == scores["rougeL"] == rouge_l(one, other) > 0


def test_each_value_takes_its_own_best_reference() -> None:
    single = [rouge(PREDICTION, [reference]) for reference in REFERENCES]
    assert rouge(PREDICTION, REFERENCES) == {name: max(scores[name] for scores in single) for name in ROUGE_TYPES}


def test_a_hand_counted_pair() -> None:
    # the cat sat / the cat ran: 2 of 3 words, 1 of 2 pairs, a common subsequence of 2.
    scores = rouge("the cat sat", ["the cat ran"])
    assert scores == pytest.approx({"rouge1": 2 / 3, "rouge2": 1 / 2, "rougeL": 2 / 3, "rougeLsum": 2 / 3})


def test_words_are_not_stemmed() -> None:
    assert rouge("walking", ["walked"])["rouge1"] == 0.0


def test_stemmed_scores_have_their_own_names() -> None:
    scores = load_scorer("rouge/stemmed").score(Example("0", {}, "walked"), Output(text="walking"))
    assert scores["rouge1/stemmed"] == 1.0
    assert list(scores) == ["rouge1/stemmed", "rouge2/stemmed", "rougeL/stemmed", "rougeLsum/stemmed"]


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
