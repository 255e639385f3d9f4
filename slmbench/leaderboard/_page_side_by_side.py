"""What the models wrote for the same items, next to each other: base beside adapters, as a reader judges prose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmbench.errors import FileError
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard._samples import read_samples
from slmbench.leaderboard.table import Leaderboard
from slmbench.leaderboard.texts import number
from slmbench.values import JsonObject

ITEMS_SHOWN = 5
CHARS_SHOWN = 1200

Text = tuple[str, str]


def side_by_side(leaderboard: Leaderboard, runs: Mapping[str, ScoredRun]) -> JsonObject | None:
    """One part a task that two models or more wrote texts for, its first items in file order; None without such.

    parts: (task, how many models, items), of an item (its id, what was asked and its target, what models wrote), of
    which each text is (title, text). Runs that keep their texts to themselves aren't in it.
    """
    by_task: dict[str, dict[str, ScoredRun]] = {}
    for row in leaderboard.rows:
        for cell in row.cells.values():
            if (run := runs.get(cell.run_id)) is not None and not run.no_texts:
                by_task.setdefault(run.task, {})[row.name] = run
    parts = []
    for task, named in by_task.items():
        firsts = {name: _first_samples(run) for name, run in named.items()} if len(named) > 1 else {}
        alone = next(iter(firsts.values()), {})
        shared = [item for item in alone if all(item in samples for samples in firsts.values())]
        items = [_item({name: samples[item] for name, samples in firsts.items()}, named) for item in shared]
        if items:
            parts.append((task, len(named), items))
    about = f"The first {ITEMS_SHOWN} items of each task that models write text for, not picked by hand."
    return {"about": about, "parts": parts} if parts else None


def _first_samples(run: ScoredRun) -> dict[str, JsonObject]:
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


def _item(samples: Mapping[str, JsonObject], named: Mapping[str, ScoredRun]) -> tuple[str, list[Text], list[Text]]:
    first = next(iter(samples.values()))
    asked, target = str(first.get("prompt") or ""), str(first.get("target") or "")
    if len(asked) > CHARS_SHOWN:
        asked = "\u2026 " + asked[-CHARS_SHOWN:]
    answers = []
    for name, sample in samples.items():
        metric = named[name].metrics[0].name
        score = sample["scores"].get(metric)
        mark = "no score" if score is None else f"{metric} {number(score)}"
        answers.append((f"{name}: {mark}", _start(str(sample.get("output") or ""))))
    return str(first["item_id"]), [("What was asked, its end", asked), ("Target", _start(target))], answers


def _start(content: str) -> str:
    if len(content) <= CHARS_SHOWN:
        return content
    return content[:CHARS_SHOWN] + f" \u2026 ({len(content) - CHARS_SHOWN} more characters)"
