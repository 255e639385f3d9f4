"""Terminal cells that texts take: a wide character takes two, a combining mark none."""

from __future__ import annotations


def display_width(text: str) -> int:
    """Terminal cells that text takes."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    # -1 is of text with control characters, which `visible` leaves none of.
    return max(0, wcswidth(text))


def shortened(text: str, width: int) -> str:
    """The text, cut with an ellipsis where it takes more than width cells."""
    if display_width(text) <= width:
        return text
    kept = text[: max(0, width - 1)]
    while display_width(kept) > width - 1 and kept:
        kept = kept[:-1]
    return kept + "\u2026"
