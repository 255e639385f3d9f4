"""Two texts beside each other, the words that one alone has marked: by colour on a terminal, by signs elsewhere."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from attrs import frozen

from slmbench.console import paint
from slmbench.console.columns import display_width
from slmbench.visible import visible

GAP = "  |  "
MIN_COLUMN = 28
"""Cells that a text needs to stand beside another."""
_WORD = re.compile(r"(\s*)(\S+)")
_BLANK = re.compile(r"\s+")
_KEPT = 80


@frozen
class Word:
    """A word. before: the white space in front of it. own: whether the other text lacks it here."""

    before: str
    text: str
    own: bool


@frozen
class Mark:
    """How own words are shown. color: of the console's names, or None for the signs around a run of them."""

    color: str | None
    opened: str
    closed: str


REMOVED, ADDED = Mark(None, "[-", "-]"), Mark(None, "{+", "+}")
"""As git marks words."""
OF_A, OF_B = Mark("yellow", "", ""), Mark("cyan", "", "")


def word_diff(first: str, second: str) -> tuple[list[Word], list[Word]]:
    """The words of both; those that the other lacks are their own. White space counts for nothing."""
    one, other = _words(first), _words(second)
    matcher = difflib.SequenceMatcher(None, [word for _, word in one], [word for _, word in other], autojunk=False)
    shared_one: set[int] = set()
    shared_other: set[int] = set()
    for at, in_other, size in matcher.get_matching_blocks():
        shared_one.update(range(at, at + size))
        shared_other.update(range(in_other, in_other + size))
    return (
        [Word(before, word, i not in shared_one) for i, (before, word) in enumerate(one)],
        [Word(before, word, i not in shared_other) for i, (before, word) in enumerate(other)],
    )


def excerpts(first: str, second: str, most: int) -> tuple[str, str]:
    """At most so many characters of both, from the same place, at which the first difference is still in sight."""
    start = 0
    if max(len(first), len(second)) > most:
        same = _shared_start(first, second)
        if same > most - _KEPT:
            start = same - _KEPT
            blank = _BLANK.search(first, start, same)
            start = blank.end() if blank else start
    return _excerpt(first, start, most), _excerpt(second, start, most)


def marked(words: Sequence[Word], mark: Mark, width: int) -> list[str]:
    """Painted lines of at most width cells, each as long as that: a column of its own."""
    lines: list[list[tuple[str, bool]]] = [[]]
    room = width
    for i, word in enumerate(words):
        opens = word.own and not (i and words[i - 1].own)
        closes = word.own and not (i + 1 < len(words) and words[i + 1].own)
        text = visible((mark.opened if opens else "") + word.text + (mark.closed if closes else ""))
        for _ in range(min(2, word.before.count("\n")) if i else 0):
            lines.append([])
            room = width
        indent = word.before.rpartition("\n")[2].expandtabs(4)
        before = " " * min(len(indent), width // 3 if room == width else 1)
        if len(before) + display_width(text) > room and room < width:
            lines.append([])
            room, before = width, ""
        while display_width(before + text) > room:  # One word wider than a line: nothing of it is lost.
            head = text
            while display_width(before + head) > room:
                head = head[:-1]
            if not head:
                break
            lines[-1].append((before + head, word.own))
            lines.append([])
            room, before, text = width, "", text[len(head) :]
        lines[-1] += [(before, False), (text, word.own)]
        room -= display_width(before + text)
    return [_line(line, mark, width) for line in lines]


def beside(first: str, second: str, width: int, *, colored: bool) -> list[str]:
    """Painted lines of both texts, their own words marked: beside each other if there is room, else the first above."""
    one, other = word_diff(first, second)
    marks = (OF_A, OF_B) if colored else (REMOVED, ADDED)
    column = (width - len(GAP)) // 2
    if column < MIN_COLUMN:
        return [*marked(one, marks[0], width), paint("-" * min(width, 8), "dim"), *marked(other, marks[1], width)]
    left, right = marked(one, marks[0], column), marked(other, marks[1], column)
    blank = " " * column
    rows = max(len(left), len(right))
    left, right = [*left, *[blank] * (rows - len(left))], [*right, *[""] * (rows - len(right))]
    return [f"{a}{GAP}{b}".rstrip() for a, b in zip(left, right, strict=True)]


def _shared_start(first: str, second: str) -> int:
    """How many first characters are the same: halved down to, since a loop over 10 MB is slow."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[low:middle] == second[low:middle] else (low, middle - 1)
    return low


def _words(text: str) -> list[tuple[str, str]]:
    return [(found.group(1), found.group(2)) for found in _WORD.finditer(text)]


def _excerpt(text: str, start: int, most: int) -> str:
    head = "\u2026 " if start else ""
    left = len(text) - start - most
    return head + text[start : start + most] + (f" \u2026 ({left} more characters)" if left > 0 else "")


def _line(parts: Sequence[tuple[str, bool]], mark: Mark, width: int) -> str:
    """A line of words and the blanks before them; a run of own words is one stroke of colour."""
    painted, run = "", ""
    for i, (text, own) in enumerate(parts):
        joins = own or (bool(run) and not text.strip() and i + 1 < len(parts) and parts[i + 1][1])
        if mark.color and joins:
            run += text
            continue
        painted += (paint(run, mark.color) if run and mark.color else "") + visible(text)
        run = ""
    painted += paint(run, mark.color) if run and mark.color else ""
    return painted + " " * (width - sum(display_width(text) for text, _ in parts))
