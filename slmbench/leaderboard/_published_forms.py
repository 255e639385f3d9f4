"""Published numbers beside measured ones, as text for a terminal and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from slmbench.console.columns import GAP, display_width, fit, wrapped
from slmbench.leaderboard.table import INSIDE, BesideLine
from slmbench.schema import OTHER
from slmbench.values import JsonObject
from slmbench.visible import visible

TITLE = "published beside measured"
HEADS = ("published", "in their files", "measured here")
NO_NUMBER = "\u2013"
ABOUT = (
    "Measured here: the score, its 95% interval and the number of items. The interval is ours alone: nothing is known "
    "of the published one's. Scores under other conditions, and numbers that can't be what they say, aren't compared."
)
# Below so many cells each number has a line of its own.
_NARROW = 72
_SHORTEST_KEY = 20

Painted = Callable[[str, str | None], str]


def beside_text(lines: Sequence[BesideLine], width: int, painted: Painted, *, whole: bool) -> list[str]:
    """Lines of at most `width` cells (but for a long number), without anything if there is nothing to show.

    whole: how each was counted, too, and where it was published; otherwise those alone that are compared with a score,
    or stand beside one and can't be what they say, and how many there are of the others.
    painted(text, colour): the text in a colour of the console's, or as it is.
    """
    told = [line for line in lines if whole or line.verdict or (line.measured is not None and line.number.fault)]
    if not lines:
        return []
    numbers = [_numbers(line) for line in told]
    widths = [max(map(display_width, column)) for column in zip(HEADS, *numbers, strict=True)]
    room = width - sum(widths) - 3 * len(GAP)
    made = ["", painted(TITLE, "bold")]
    table = width >= _NARROW and room >= _SHORTEST_KEY
    keys = min(room, max((display_width(visible(line.number.key)) for line in told), default=0))
    if told and table:
        made.append(painted(_row(" " * keys, HEADS, widths), "bold"))
    for place, (line, texts) in enumerate(zip(told, numbers, strict=True)):
        if whole and place:
            made.append("")
        if table:
            made.append(_row(fit(visible(line.number.key), keys), texts, widths))
        else:
            made += wrapped(visible(line.number.key), width)
            made += [f"  {head}: {text}" for head, text in zip(HEADS, texts, strict=True)]
        for text, colour in _below(line, whole):
            made += [painted(f"  {part}", colour) for part in wrapped(visible(text), width - 2)]
    for said in _others([line for line in lines if line not in told], bool(told)):
        made += [painted(part, "dim") for part in wrapped(visible(said), width)]
    return made


def _others(lines: Sequence[BesideLine], more: bool) -> Iterator[str]:
    """How many published numbers are not shown, a sentence a reason. more: beside some that are."""
    reasons = Counter("" if line.measured is None else line.why_not for line in lines)
    for reason, count in reasons.items():
        noun = f"{count} {'more ' if more else ''}published number{'' if count == 1 else 's'}"
        if reason:
            yield f"{noun} not compared ({reason}): on the page"
        else:
            yield f"{noun} with nothing measured beside: on the page"


def _row(key: str, texts: Sequence[str], widths: Sequence[int]) -> str:
    *before, last = texts
    cells = [fit(text, cells, right=True) for text, cells in zip(before, widths, strict=False)]
    return GAP.join([key, *cells, last]).rstrip()


def _numbers(line: BesideLine) -> tuple[str, str, str]:
    return visible(line.number.written), visible(line.number.found or NO_NUMBER), visible(line.written)


def _below(line: BesideLine, whole: bool) -> Iterator[tuple[str, str | None]]:
    one = line.number
    yield (f"{_whose(line)}: {line.told}" if line.told else _whose(line)), "dim"
    for mark in one.marks:
        yield f"! {mark}", "yellow"
    if whole:
        called = f"{one.called}; " if one.called and one.metric != OTHER else ""
        yield f"counted: {called}{one.counted}", "dim"
        yield f"source: {one.source}", "dim"
        if one.found:
            yield f"in their files: {one.found_source}", "dim"


def _whose(line: BesideLine) -> str:
    """Of whom a number is, and the row that stands beside it if that is called otherwise."""
    here = f"{line.row} ({line.condition})" if line.condition else line.row
    return f"{line.number.whose}; here {here}" if here and here != line.number.whose else line.number.whose


def beside_views(lines: Sequence[BesideLine]) -> list[JsonObject]:
    """What published.html.j2 draws, of each line."""
    made = []
    for line in lines:
        one = line.number
        called = f"{one.called}: " if one.called and one.metric != OTHER else ""
        made.append(
            {
                "key": one.key,
                "whose": _whose(line),
                "published": one.written,
                "source": one.source,
                "found": one.found or NO_NUMBER,
                "found_source": one.found_source,
                "measured": line.written,
                "told": line.told,
                "stands": "out" if line.verdict and line.verdict != INSIDE else "",
                "marks": one.marks,
                "counted": called + one.counted,
            }
        )
    return made


def beside_markdown(lines: Sequence[BesideLine], text: Callable[[str], str]) -> list[str]:
    """The section's lines; none if there is nothing. text: makes a text plain in Markdown."""
    if not lines:
        return []
    heads = ["of", "whose", *HEADS, "compared", "counted", "source", "marks"]
    made = [f"## {TITLE.capitalize()}", "", ABOUT, ""]
    made += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for one in beside_views(lines):
        source = f"{one['source']}; files: {one['found_source']}" if one["found_source"] else one["source"]
        keys = ("key", "whose", "published", "found", "measured", "told", "counted")
        told = [*(text(one[key]) for key in keys), text(source)]
        made.append(f"| {' | '.join([*told, '; '.join(f'**{text(mark)}**' for mark in one['marks'])])} |")
    return [*made, ""]
