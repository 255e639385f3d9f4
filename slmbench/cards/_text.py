"""Texts of a card: what records and declarations say, as Markdown that stays in its place, and names no folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from slmbench.leaderboard.writers import markdown_text
from slmbench.visible import visible

_PLACE = re.compile(r"(?<![\w:/.~<-])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\,;()'\"`]+){2,}")
_LONGEST_CELL = 200


def without_places(text: str) -> str:
    """A text with the last name alone of every absolute path: nobody else has these folders, and some name people."""
    return _PLACE.sub(lambda match: re.split(r"[/\\]", match.group())[-1], text)


def plain(text: object) -> str:
    """A text of a record inside a line or a cell: no markup, no end of a cell, no folder of this machine."""
    told = without_places(str(text))
    return markdown_text(told if len(told) <= _LONGEST_CELL else f"{told[:_LONGEST_CELL]}...").replace("_", "\\_")


def code(text: object) -> str:
    """A short text in code style. Nothing in it ends that, nor a cell of a table."""
    told = visible(without_places(str(text))).replace("`", "'").replace("|", "\u00a6")
    return f"`{told}`" if told.strip() else "(empty)"


def fenced(text: str, language: str = "") -> list[str]:
    """Lines of a block of code around a text, by a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *visible(text.rstrip("\n"), keep="\n\t").split("\n"), fence]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table. left: so many of its first columns hold words, the others numbers."""
    rule = ["---" if place < left else "---:" for place in range(len(heads))]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]
