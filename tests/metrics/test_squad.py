"""SQuAD's two scores, with lm-eval's copy of the official script as the judge."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from slmbench.metrics.squad import normalise, squad


def _official(prediction: str, references: list[str]) -> dict[str, float]:
    """What the script of SQuAD 1.1 gives, for texts that have words: without, only that of 2.0 says something."""
    from lm_eval.tasks.qasper.metrics import f1_abstractive, normalize_answer

    return {
        "squad_em": float(max(normalize_answer(prediction) == normalize_answer(gold) for gold in references)),
        "squad_f1": float(max(f1_abstractive([prediction], [gold]) for gold in references)),
    }


def test_scores_equal_the_official_script_on_generated_texts() -> None:
    rng = random.Random(2)
    words = [
        "a",
        "an",
        "The",
        "cat",
        "cats",
        "İx",
        "x-y",
        "É",
        "!",
        "...",
        "cat's",
        "\n",
        "18",
        "the-end",
        "“the”",
        "_a",
    ]
    exact = n = 0
    while n < 4000:
        texts = [" ".join(rng.choices(words, k=rng.randint(1, 5))) for _ in range(rng.choice((2, 3)))]
        if not all(map(normalise, texts)):
            continue
        n += 1
        theirs = _official(texts[0], texts[1:])
        assert squad(texts[0], texts[1:]) == pytest.approx(theirs, abs=1e-12), texts
        exact += theirs["squad_em"]
    assert 50 < exact < 3000


@pytest.mark.realdata
def test_scores_equal_the_official_script_on_real_answers() -> None:
    lines = (Path(os.environ["SLMBENCH_DATA"]) / "squad" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        row = json.loads(line)
        golds = row["answers"]["text"]
        for prediction in (
            golds[0],
            f"The {golds[0].upper()}.",
            row["context"][:80],
            row["question"],
            golds[0][:-2] + "s",
        ):
            assert squad(prediction, golds) == pytest.approx(_official(prediction, golds), abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "references", "em", "f1"),
    [
        ("the Cat!", ["cat"], 1, 1),
        ("a cat sat", ["the cat ran"], 0, 1 / 2),
        ("cat cat", ["cat"], 0, 2 / 3),
        # As in the script of SQuAD 2.0: nothing is right only where nothing is the answer.
        ("", [""], 1, 1),
        ("The", ["an"], 1, 1),
        ("", ["cat"], 0, 0),
        ("cat", [""], 0, 0),
        ("", ["the", "cat"], 0, 0),
        ("cat", ["dog", "a black cat"], 0, 2 / 3),
    ],
)
def test_known_scores(prediction: str, references: list[str], em: float, f1: float) -> None:
    assert squad(prediction, references) == pytest.approx({"squad_em": em, "squad_f1": f1})


def test_each_value_takes_its_own_best_reference() -> None:
    assert squad("new york", ["york", "New York City"]) == pytest.approx({"squad_em": 0, "squad_f1": 4 / 5})


def test_no_references_is_an_error() -> None:
    with pytest.raises(ValueError, match="no references"):
        squad("a", [])
    with pytest.raises(ValueError, match="must be a list of texts"):
        squad("a", "a")
