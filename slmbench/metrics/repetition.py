"""How much a text repeats itself, whatever it was to say: numbers for what people call repetitive."""

from __future__ import annotations

import re

from slmbench.registry import metric

_WORD = re.compile(r"\w+|[^\w\s]")


@metric(
    "distinct",
    summary="Different words, and pairs of words, of a text over all of them; no reference is read.",
    version="1",
    values=("distinct_1", "distinct_2"),
    describes=True,
    citation="Li et al. 2016, A Diversity-Promoting Objective Function for Neural Conversation Models, "
    "arXiv:1510.03055",
)
def distinct(prediction: str) -> dict[str, float]:
    """distinct_n in [0, 1]: different n-grams over all n-grams of one text; 1.0 of a text with none.

    Words are runs of letters, digits and _, in lower case, and every other sign alone. Li et al. divide by the words of
    all texts together; of one text alone it falls with its length, so only texts of a length can be told apart by it.
    Source: Li et al. 2016, section 5.
    """
    words = _words(prediction)
    return {f"distinct_{n}": _different(words, n) for n in (1, 2)}


@metric(
    "repetition",
    summary="The share of a text's runs of four words that it has said before; no reference is read.",
    version="1",
    values=("repeated_4grams",),
    describes=True,
    higher_is_better=False,
    citation="Welleck et al. 2020, Neural Text Generation With Unlikelihood Training, arXiv:1908.04319",
)
def repetition(prediction: str) -> dict[str, float]:
    """repeated_4grams: 1 - different 4-grams / 4-grams of one text, in [0, 1]; 0.0 of fewer than four words.

    Words as of `distinct`. Source: Welleck et al. 2020, section 6.1 (seq-rep-4, there of tokens).
    """
    return {"repeated_4grams": 1.0 - _different(_words(prediction), 4)}


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _different(words: list[str], n: int) -> float:
    grams = len(words) - n + 1
    return len({tuple(words[i : i + n]) for i in range(grams)}) / grams if grams > 0 else 1.0
