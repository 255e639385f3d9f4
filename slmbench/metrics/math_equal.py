"""The final answer of a mathematics problem: found in a worked solution, and held against the gold one.

math_equal is this project's own: it forgives how an answer is written, never which answer it is. math_equal/strict
holds both to lm-eval's spelling of hendrycks_math, as published numbers do.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence

from slmbench.metrics._math_answers import same_answer
from slmbench.metrics._scorer import required
from slmbench.registry import metric

_MATH = "Hendrycks et al. 2021, Measuring Mathematical Problem Solving With the MATH Dataset, arXiv:2103.03874"
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_SAID = re.compile(r"\b(?:final\s+answer\s*(?:is\b|:)|answer\s+is\b)\s*:?\s*", re.IGNORECASE)
_END_OF_SAID = re.compile(r"\.?\s*I hope it is correct|\.\s*\n|\n|\.\s+(?=[A-Z])|\.\s*$")
_DOLLARS = re.compile(r"\$([^$]*)\$")
_SPACE = r"(?:[\s$]|\\[;,! ]|\\q?quad)*"
_JOINT = re.compile(_SPACE + r"(?:,|and|or|\\text\s*\{\s*,?\s*(?:and|or)\s*\})" + _SPACE + r"(?:and\b[\s$]*)?")
_IS = re.compile(r"\b(?:is|are|equals)\b:?")
_MOST_ALONE = 200
_MOST_BOXES = 20
_MOST_BOXED = 4000


@metric(
    "math_equal",
    summary="The final answer says what the gold one says: fractions, units, tuples, text, however written.",
    version="1",
    binary=True,
    citation=_MATH,
)
def math_equal(prediction: str, references: Sequence[str]) -> float:
    r"""1.0 where the final answer says what a reference's says, else 0.0.

    The final answer is what the last `\boxed{}` holds, or what follows a later `final answer is`; of a text with
    neither that is one short line, the line. A reference is a solution or a bare answer. Numbers are equal as
    fractions, other formulas if they are worth the same, to nine digits, at five points; a decimal that was rounded is
    not. Order counts in tuples and not in lists and sets; units count if both have one. Raises ValueError without
    references, or for one without an answer.
    """
    golds = [_gold(reference) for reference in required(references)]
    got = final_answer(prediction)
    return float(got is not None and any(same_answer(gold, got) for gold in golds))


@metric(
    "math_equal/strict",
    summary="The final answer is the gold one once both are spelled as lm-eval's hendrycks_math spells them.",
    version="1",
    binary=True,
    citation=_MATH,
)
def math_equal_strict(prediction: str, references: Sequence[str]) -> float:
    r"""1.0 where the final answer is a reference's, letter by letter in lm-eval's spelling, else 0.0.

    The answer is found as math_equal finds it; lm-eval's task takes what stands between the first and the last dollar
    of a text, which is right for a bare answer alone. Spelling: `is_equiv` of hendrycks_math in lm-eval 0.4.13, one
    form of fractions and roots, without spaces, degrees, percent signs and a unit in `\text{ `. Raises ValueError
    without references, or for one without an answer.
    """
    golds = [_gold(reference) for reference in required(references)]
    got = final_answer(prediction)
    return float(got is not None and any(same_spelling(got, gold) for gold in golds))


def final_answer(text: str) -> str | None:
    """The final answer of a solution; None where it marks none and is more than a short line."""
    box, said = _last(_BOX, text), _last(_SAID, text)
    if said is not None and (box is None or said.end() > box.end()):
        return _of_said(text[said.end() :])
    if box is not None:
        return _of_boxes(text)
    line = text.strip()
    return line if line and "\n" not in line and len(line) <= _MOST_ALONE else None


def same_spelling(one: str, other: str) -> bool:
    """Whether two answers are one text once lm-eval's hendrycks_math has written them in its way."""
    try:
        return _spelled(one) == _spelled(other)
    except (ValueError, IndexError):  # It gives up on such a text, and compares both as they are.
        return one == other


def _gold(reference: str) -> str:
    box = _last(_BOX, reference)
    gold = reference.strip() if box is None else _of_boxes(reference)
    if not gold:
        raise ValueError(f"no answer in the reference {reference[-80:]!r}: it needs a \\boxed{{...}}, or is one itself")
    return gold


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def _of_box(text: str, box: re.Match[str]) -> str | None:
    r"""What a box holds: the group behind it, closed or not, or the rest up to a dollar, as in `\boxed 5$`."""
    at = box.end()
    if at >= len(text):
        return None
    if text[at] != "{":
        return re.split(r"[$\n]", text[at:], maxsplit=1)[0].strip() or None
    depth = 0
    for end in range(at, min(len(text), at + _MOST_BOXED)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[at + 1 : end].strip() or None
    return None  # It was cut within its answer, or is none.


def _of_boxes(text: str) -> str | None:
    """What the last box holds; of boxes that a comma, `and` or `or` joins, all that they hold."""
    answers: list[str] = []
    end = 0
    for box in deque(_BOX.finditer(text), maxlen=_MOST_BOXES):
        answer = _of_box(text, box)
        if answer is None:
            answers, end = [], box.end()
            continue
        answers = [*answers, answer] if answers and _JOINT.fullmatch(text[end : box.start()]) else [answer]
        end = text.index(answer, box.end()) + len(answer) + (text[box.end()] == "{")
    return ", ".join(answers) or None


def _of_said(text: str) -> str | None:
    head = text[: 10 * _MOST_ALONE].lstrip("* \n")
    if (box := _BOX.search(head)) is not None and "\n" not in head[: box.start()]:
        return _of_box(head, box)
    end = _END_OF_SAID.search(head)
    line = head[: end.start()] if end else head
    line = _IS.split(line)[-1]
    if dollars := _DOLLARS.findall(line):
        return dollars[-1].strip() or None
    line = re.sub(r"^\\[(\[]|\\[)\]]$", "", line.strip("* ").strip())
    return line.strip(" .*") or None


def _spelled(text: str) -> str:
    """Raises ValueError or IndexError where lm-eval gives up."""
    for old, new in _REPLACED:
        text = text.replace(old, new)
    if "\\text{ " in text:
        text, _ = text.split("\\text{ ")  # A second unit is too many.
    for old, new in _REPLACED_AFTER:
        text = text.replace(old, new)
    if not text:
        return text
    if text.startswith("."):
        text = f"0{text}"
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    text = "\\sqrt".join(_after_root(text.split("\\sqrt"))).replace(" ", "")
    text = _fractions(text)
    return _slashed("\\frac{1}{2}" if text == "0.5" else text)


_REPLACED = (
    *(("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", "")),
    *(("^{\\circ}", ""), ("^\\circ", ""), ("\\$", "")),
)
_REPLACED_AFTER = (("\\%", ""), (" .", " 0."), ("{.", "{0."))


def _after_root(parts: list[str]) -> Iterator[str]:
    yield parts[0]
    for part in parts[1:]:
        yield part if part[0] == "{" else f"{{{part[0]}}}{part[1:]}"


def _fractions(text: str) -> str:
    """Every fraction with both its parts in braces; as it is if one of them lacks a part."""
    first, *parts = text.split("\\frac")
    made = [first]
    for part in parts:
        if part[0] != "{":
            if len(part) < 2:
                return text
            under = part[1] if part[1] == "{" else f"{{{part[1]}}}"
            part = f"{{{part[0]}}}{under}{part[2:]}"
        made.append(part)
    return "\\frac".join(made)


def _slashed(text: str) -> str:
    parts = text.split("/")
    if len(parts) != 2:
        return text
    over, under = map(int, parts)
    return f"\\frac{{{over}}}{{{under}}}" if text == f"{over}/{under}" else text
