"""SQuAD's exact match and F1 of short answers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from slmbench.metrics._scorer import required
from slmbench.registry import metric

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@metric(
    "squad",
    summary="Exact match and word F1 by SQuAD's rules, against the best reference.",
    version="1",
    values=("squad_em", "squad_f1"),
    citation="Rajpurkar et al. 2018, Know What You Don't Know: Unanswerable Questions for SQuAD, arXiv:1806.03822",
)
def squad(prediction: str, references: Sequence[str]) -> dict[str, float]:
    """squad_em and squad_f1 in [0, 1], each against the reference that is best for it.

    Both sides in lower case, without ASCII punctuation and the words a, an, the; runs of white space are one space.
    squad_em: 1.0 if nothing differs then. squad_f1: harmonic mean of the shares of words in common, each word as
    often as both have it; if a side has no words, 1.0 if the other has none either, else 0.0. References without
    words count only if no other has any. Not for the letters of choices: "A" becomes nothing. Raises ValueError
    without references. Source: Rajpurkar et al. 2016 and 2018, the evaluation script of SQuAD 2.0.
    """
    got = normalise(prediction)
    # As the script does: a gold answer that is only an article would make an empty output right.
    golds = [gold for gold in map(normalise, required(references)) if gold] or [""]
    return {"squad_em": float(got in golds), "squad_f1": max(_word_f1(got.split(), gold.split()) for gold in golds)}


def normalise(text: str) -> str:
    """Lower case, ASCII punctuation deleted, the words a, an, the deleted, single spaces, in this order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _word_f1(got: list[str], gold: list[str]) -> float:
    if not got or not gold:
        return float(got == gold)
    common = sum((Counter(got) & Counter(gold)).values())
    return 2 * common / (len(got) + len(gold))
