"""What the models wrote for the same items, next to each other: base beside adapters, as a reader judges prose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slmbench.errors import FileError
from slmbench.leaderboard._html import Html, preformatted, tag
from slmbench.leaderboard._records import Run
from slmbench.leaderboard._samples import read_samples
from slmbench.leaderboard._text import number
from slmbench.leaderboard.table import Leaderboard

ITEMS_SHOWN = 5
CHARS_SHOWN = 1200


def side_by_side(leaderboard: Leaderboard, runs: Mapping[str, Run]) -> Html | None:
    """One foldable part a task that two models or more wrote texts for, its first items in file order; else None.

    Runs that keep their texts to themselves aren't in it.
    """
    by_task: dict[str, dict[str, Run]] = {}
    for row in leaderboard.rows:
        for cell in row.cells.values():
            if (run := runs.get(cell.run_id)) is not None and not run.no_texts:
                by_task.setdefault(run.task, {})[row.name] = run
    parts = [part for task, named in by_task.items() if len(named) > 1 and (part := _task(task, named)) is not None]
    if not parts:
        return None
    about = f"The first {ITEMS_SHOWN} items of each task that models write text for, none of them picked."
    return tag("section", tag("h2", "Side by side"), tag("p", about, class_="lede"), *parts, id="side-by-side")


def _task(task: str, named: Mapping[str, Run]) -> Html | None:
    firsts = {name: _first_samples(run) for name, run in named.items()}
    shared = [item for item in next(iter(firsts.values())) if all(item in samples for samples in firsts.values())]
    if not shared:
        return None
    items = [_item({name: samples[item] for name, samples in firsts.items()}, named) for item in shared]
    summary = tag("summary", tag("span", task, class_="task"), f" {len(items)} items, {len(named)} models")
    return tag("details", summary, tag("div", *items, class_="body"), class_="run")


def _first_samples(run: Run) -> dict[str, dict[str, Any]]:
    """Item id -> its first sample; {} of a run that scored choices, or whose file has gone."""
    found: dict[str, dict[str, Any]] = {}
    try:
        for sample in read_samples(run):
            if sample.get("choices"):
                return {}
            found.setdefault(str(sample["item_id"]), sample)
            if len(found) > ITEMS_SHOWN:
                break
    except (OSError, FileError):
        return {}
    return dict(list(found.items())[:ITEMS_SHOWN])


def _item(samples: Mapping[str, dict[str, Any]], named: Mapping[str, Run]) -> Html:
    first = next(iter(samples.values()))
    asked = _cell("What was asked, its end", str(first.get("prompt") or ""), from_end=True)
    target = _cell("Target", str(first.get("target") or ""))
    cells = []
    for name, sample in samples.items():
        metric = named[name].metrics[0].name
        score = sample["scores"].get(metric)
        mark = "no score" if score is None else f"{metric} {number(score)}"
        cells.append(_cell(f"{name}: {mark}", str(sample.get("output") or "")))
    return tag(
        "section",
        tag("h4", str(first["item_id"])),
        tag("div", asked, target, class_="side"),
        tag("div", *cells, class_="side"),
    )


def _cell(title: str, content: str, from_end: bool = False) -> Html:
    shown: Sequence[Html]
    if not content:
        shown = [tag("p", "(empty)", class_="empty")]
    elif len(content) <= CHARS_SHOWN:
        shown = [preformatted(content)]
    elif from_end:
        shown = [preformatted("\u2026 " + content[-CHARS_SHOWN:])]
    else:
        shown = [preformatted(content[:CHARS_SHOWN] + f" \u2026 ({len(content) - CHARS_SHOWN} more characters)")]
    return tag("div", tag("h5", title), *shown)
