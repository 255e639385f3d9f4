"""Exact match: of a whole text, and of the final number of a worked solution in three readings.

strict and flexible give lm-eval's numbers under lm-eval's names, so that they can stand beside published ones.
decimal is this project's own: it forgives how a number is written, never which number it is. open is lm-eval's nq_open.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from decimal import Decimal

from slmbench.metrics._numbers import final_number
from slmbench.metrics._scorer import required
from slmbench.registry import metric

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_FINAL_STOP = re.compile(r"\.$")
_NO_MATCH = "[invalid]"

_GSM8K = "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems, arXiv:2110.14168"
_NQ_OPEN = "Lee et al. 2019, Latent Retrieval for Weakly Supervised Open Domain Question Answering, arXiv:1906.00300"

# nq_open's own, its twice named "The " included.
_ARTICLE = re.compile(r"\b(?:The |the |An |A |The |a |an )")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@metric("exact_match", summary="The whole text equals a reference, spacing aside.", version="1", binary=True)
def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 where the prediction is one of the references, else 0.0; case and punctuation count.

    Outer white space is dropped and every inner run of it, in Unicode's sense, is one space. Raises ValueError without
    references.
    """
    return _any_equal(lambda text: " ".join(text.split()), prediction, references)


@metric(
    "exact_match/strict",
    summary="The number after the first '#### ' equals the reference's (lm-eval's strict-match).",
    version="1",
    binary=True,
    citation=_GSM8K,
    reads_whole=True,
)
def exact_match_strict(prediction: str, references: Sequence[str]) -> float:
    """1.0 where the text after the first `#### ` is a reference's number, else 0.0.

    A reference may be the number or a solution that ends in `#### number`. Commas, dollar signs, a final full stop and
    case are ignored; 5.0 is not 5. Raises ValueError without references. Source: gsm8k of lm-eval 0.4.13, strict-match.
    """
    return _equal_after(extract_strict(prediction), references)


@metric(
    "exact_match/flexible",
    summary="The last number-like text equals the reference's (lm-eval's flexible-extract).",
    version="1",
    binary=True,
    citation=_GSM8K,
    reads_whole=True,
)
def exact_match_flexible(prediction: str, references: Sequence[str]) -> float:
    """1.0 where the last number-like text is a reference's number, else 0.0.

    As strict in all else. Source: gsm8k of lm-eval 0.4.13, flexible-extract.
    """
    return _equal_after(extract_flexible(prediction), references)


@metric(
    "exact_match/decimal",
    summary="The final number equals the reference's, compared as decimals (5.0 = 5 = 05).",
    version="2",
    binary=True,
    citation=_GSM8K,
    reads_whole=True,
)
def exact_match_decimal(prediction: str, references: Sequence[str]) -> float:
    """1.0 where the final number equals a reference's as a decimal, else 0.0: 5.0, 05 and $5 are 5.

    `final_number` says which number counts. Raises ValueError without references, and for a reference without a number.
    """
    got = final_number(prediction)
    golds = [_reference_number(reference) for reference in required(references)]
    return float(got is not None and got in golds)


@metric(
    "exact_match/open",
    summary="The text equals a reference; case, punctuation, articles aside (lm-eval's nq_open).",
    version="1",
    binary=True,
    citation=_NQ_OPEN,
)
def exact_match_open(prediction: str, references: Sequence[str]) -> float:
    """1.0 where the text is a reference once articles, case and ASCII punctuation are gone, else 0.0.

    An article is one of The, the, An, an, A, a at the start of a word, with the space after it. Outer white space of
    the prediction is dropped first, that of references isn't. Raises ValueError without references. Source: nq_open of
    lm-eval 0.4.13, whose arrays also cut a text that grows when put in lower case (Turkish capital dotted I).
    """
    return _any_equal(_open_answer, prediction.strip(), references)


def _open_answer(text: str) -> str:
    return _ARTICLE.sub("", text).lower().translate(_PUNCTUATION)


def extract_strict(text: str) -> str:
    """What strict-match takes for the answer: the first `#### number`, `[invalid]` where there is none."""
    found = _STRICT.search(text)
    return found[1] if found else _NO_MATCH


def extract_flexible(text: str) -> str:
    """What flexible-extract takes for the answer: the last number-like text, `[invalid]` where there is none."""
    found = _NO_MATCH
    for match in _FLEXIBLE.finditer(text):
        found = match[0]
    return found


def _reference_number(reference: str) -> Decimal:
    number = final_number(reference)
    if number is None:
        raise ValueError(
            f"no number in the reference {reference[:80]!r}: exact_match/decimal is for numeric answers; "
            "use exact_match for text"
        )
    return number


def _without_ignored(text: str) -> str:
    # In lm-eval's order. It drops the anchor by `(?s).*#### `, which takes quadratic time where there is none.
    _, _, tail = text.replace(",", "").replace("$", "").rpartition("#### ")
    return _FINAL_STOP.sub("", tail).lower()


def _equal_after(extracted: str, references: Sequence[str]) -> float:
    return _any_equal(_without_ignored, extracted, references)


def _any_equal(normalised: Callable[[str], str], prediction: str, references: Sequence[str]) -> float:
    got = normalised(prediction)
    return float(any(got == normalised(reference) for reference in required(references)))
