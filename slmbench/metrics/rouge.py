"""ROUGE of summaries: the numbers of the rouge_score library, without its time.

The library fills a table of every word against every word. Here a row of that table is the bits of one integer, so that
a whole row is made by a few operations (Hyyrö 2004, "Bit-parallel LCS-length computation revisited").
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from slmbench.metrics._scorer import required
from slmbench.registry import metric

if TYPE_CHECKING:
    from nltk.stem.porter import PorterStemmer

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")

Words = list[str]


_LIN = "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, https://aclanthology.org/W04-1013"


@metric(
    "rouge",
    summary="ROUGE-1, -2, -L and -Lsum F-measures against the best reference.",
    version="1",
    values=ROUGE_TYPES,
    citation=_LIN,
)
def rouge(prediction: str, references: Sequence[str], *, stemming: bool = False) -> dict[str, float]:
    """F-measures in [0, 1] by ROUGE type, each against the reference that is best for it.

    Equal to rouge_score 0.1.2; `evaluate`'s rouge has the same items, and reports a bootstrapped mean where slmbench
    reports the mean. stemming: words of more than three letters are cut to their Porter stems. rougeLsum takes every
    line for a sentence. The tokenizer keeps the letters a-z and digits only: texts in other scripts score 0. Raises
    ValueError without references. Source: Lin 2004.
    """
    got = _sentences(prediction, stemming)
    against = [_against(got, _sentences(reference, stemming)) for reference in required(references)]
    return {rouge_type: max(scores[i] for scores in against) for i, rouge_type in enumerate(ROUGE_TYPES)}


@metric(
    "rouge/stemmed",
    summary="The same on Porter stems of the words.",
    version="1",
    values=tuple(f"{name}/stemmed" for name in ROUGE_TYPES),
    citation=_LIN,
)
def rouge_stemmed(prediction: str, references: Sequence[str]) -> dict[str, float]:
    """`rouge` on stems, its values named so."""
    return {f"{name}/stemmed": value for name, value in rouge(prediction, references, stemming=True).items()}


def rouge_l(prediction: str, reference: str, *, stemming: bool = False) -> float:
    """The F-measure of ROUGE-L alone, in [0, 1]."""
    return _rouge_l(_words(_sentences(prediction, stemming)), _words(_sentences(reference, stemming)))


def _against(got: list[Words], gold: list[Words]) -> tuple[float, float, float, float]:
    """The F-measures of one pair, in the order of ROUGE_TYPES."""
    got_words, gold_words = _words(got), _words(gold)
    return (
        _n_gram_f(Counter(got_words), Counter(gold_words)),
        _n_gram_f(_pairs(got_words), _pairs(gold_words)),
        _rouge_l(got_words, gold_words),
        _rouge_lsum(got, gold),
    )


def _sentences(text: str, stemming: bool) -> list[Words]:
    from rouge_score.tokenize import tokenize

    stemmer = _Stems() if stemming else None
    # The library drops empty lines too; a line without words changes nothing.
    return [words for line in text.split("\n") if line and (words := tokenize(line, stemmer))]


class _Stems:
    """Stands in for the stemmer that rouge_score's tokenizer asks, and remembers what was asked before."""

    @staticmethod
    @lru_cache(maxsize=1 << 17)
    def stem(word: str) -> str:
        return str(_porter().stem(word))


@lru_cache(maxsize=1)
def _porter() -> PorterStemmer:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


def _words(sentences: list[Words]) -> Words:
    return [word for sentence in sentences for word in sentence]


def _pairs(words: Words) -> Counter[tuple[str, str]]:
    return Counter(pairwise(words))


Gram = TypeVar("Gram")


def _n_gram_f(got: Counter[Gram], gold: Counter[Gram]) -> float:
    few, many = sorted((got, gold), key=len)
    hits = sum(min(count, many[gram]) for gram, count in few.items() if gram in many)
    return _f(hits, got.total(), gold.total())


def _f(hits: int, n_got: int, n_gold: int) -> float:
    # In rouge_score's order of operations, for its very digits.
    precision, recall = hits / max(n_got, 1), hits / max(n_gold, 1)
    return 2 * precision * recall / (precision + recall) if hits else 0.0


def _rouge_l(got: Words, gold: Words) -> float:
    (row,) = deque(_lcs_rows(_places(gold), len(gold), got), maxlen=1)
    return _f(len(gold) - row.bit_count(), len(got), len(gold))


def _places(words: Words) -> dict[str, int]:
    """word -> the bits of the places where it stands."""
    places: dict[str, int] = {}
    for i, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << i
    return places


def _lcs_rows(places: dict[str, int], n: int, others: Words) -> Iterator[int]:
    """Row j, from 0, of the first j of the other words: bit i is 0 where the LCS with n words grows at word i + 1.

    The LCS of j of the others with the first i words is the number of zeros among the lowest i bits.
    """
    row = full = (1 << n) - 1
    yield row
    for word in others:
        here = row & places.get(word, 0)
        if here:
            row = (row + here | row - here) & full
        yield row


def _lcs_places(gold: Words, rows: list[int], got: Words) -> set[int]:
    """Places in gold of one LCS with got, that which rouge_score reads out of its table."""
    i, j = len(gold), len(got)
    found = set()
    while i and j:
        if gold[i - 1] == got[j - 1]:
            i -= 1
            j -= 1
            found.add(i)
        elif rows[j] >> (i - 1) & 1:
            # Without this word of gold the LCS is as long; the library goes this way in a tie too.
            i -= 1
        else:
            j -= 1
    return found


def _rouge_lsum(got: list[Words], gold: list[Words]) -> float:
    """Union LCS of every gold sentence with all sentences got; no word counts more often than both sides have it."""
    left_got, left_gold = Counter(_words(got)), Counter(_words(gold))
    n_got, n_gold = left_got.total(), left_gold.total()
    vocabularies = [set(sentence) for sentence in got]
    hits = 0
    for sentence in gold:
        places = _places(sentence)
        union: set[int] = set()
        for other, vocabulary in zip(got, vocabularies, strict=True):
            if not vocabulary.isdisjoint(places):
                rows = list(_lcs_rows(places, len(sentence), other))
                union |= _lcs_places(sentence, rows, other)
        for i in sorted(union):
            word = sentence[i]
            if left_got[word] > 0 and left_gold[word] > 0:
                hits += 1
                left_got[word] -= 1
                left_gold[word] -= 1
    return _f(hits, n_got, n_gold)
