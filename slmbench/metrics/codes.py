"""F1 of lists of ICD codes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from slmbench.registry import metric
from slmbench.statistics.pooling import LabelF1, count_labels
from slmbench.values import Example, Output

_SEPARATORS = re.compile(r"[,;\s]+")
# ICD-9 and ICD-10, diagnoses and procedures: 3 to 7 letters and digits once the dot is gone, always with a digit.
_CODE = re.compile(r"(?=[A-Z]*[0-9])[A-Z0-9]{3,7}")
_BRACKETS = "()[]{}<>\"'`*:-"


def read_codes(text: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """The ICD codes of a text, and its words that are none.

    Commas, semicolons and white space separate. A code is written without its dot, in capitals: `e11.9` is E119. It has
    3 to 7 letters and digits, a digit among them; brackets, quotes and the like around it go.
    """
    codes, others = set(), []
    for word in _SEPARATORS.split(text):
        code = word.replace(".", "").strip(_BRACKETS).upper()
        if _CODE.fullmatch(code):
            codes.add(code)
        elif code:
            others.append(word)
    return frozenset(codes), tuple(others)


def codes_remarks(example: Example, output: Output) -> dict[str, int]:
    """How many words of the output were passed over, because they are not codes."""
    others = read_codes(output.text)[1]
    return {"words that are no ICD codes": len(others)} if others else {}


@metric(
    "codes_f1",
    summary="Micro and macro F1 of lists of ICD codes, pooled over items.",
    version="1",
    values=("codes_f1/micro", "codes_f1/macro"),
    pool=LabelF1(micro="codes_f1/micro", macro="codes_f1/macro"),
    remarks=codes_remarks,
    citation="Mullenbach et al. 2018, Explainable Prediction of Medical Codes from Clinical Text, arXiv:1802.05695",
)
def codes_counts(prediction: str, references: Sequence[str]) -> dict[str, list[int]]:
    """code -> [true positive, false positive, false negative] of one item.

    Gold are all codes of all its references. Words of the output that are not codes count as nothing; a reference with
    such a word is a ValueError.
    """
    gold: set[str] = set()
    for reference in references:
        codes, others = read_codes(reference)
        if others:
            raise ValueError(
                f"{others[0]!r} in the reference {reference[:80]!r} is not an ICD code; "
                "give codes alone, separated by commas, semicolons or white space"
            )
        gold |= codes
    return count_labels(read_codes(prediction)[0], gold)
