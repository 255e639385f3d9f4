"""What other pages share with the leaderboard's: safe markup, its style, and how numbers are written."""

from __future__ import annotations

from importlib.resources import files

from slmbench.leaderboard._html import Html, json_script, notice_box, page_head, tag
from slmbench.leaderboard._text import INTERVALS, count, duration, interval, number, size


def page_style() -> str:
    """The leaderboard page's style sheet: light and dark, by the reader's system."""
    content = files("slmbench.leaderboard").joinpath("page.css").read_text(encoding="utf-8")
    # A checkout may have turned line ends; the browser turns them back before it takes a hash.
    return content.replace("\r\n", "\n")


__all__ = [
    "INTERVALS",
    "Html",
    "count",
    "duration",
    "interval",
    "json_script",
    "notice_box",
    "number",
    "page_head",
    "page_style",
    "size",
    "tag",
]
