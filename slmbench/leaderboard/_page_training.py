"""How an adapter of the table was trained: a small figure of every task's losses, and what its rows were."""

from __future__ import annotations

import contextlib
import glob
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from slmbench.console import say
from slmbench.errors import FileError, SlmbenchError
from slmbench.foreign import read_bytes
from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard.texts import count, duration, number
from slmbench.models import read_adapter
from slmbench.runs import TRAINING, TrainedTask, TrainingRecord
from slmbench.values import JsonObject

POINTS_SHOWN = 160
MOST_BYTES = 200_000_000
"""Of a training.json: curves of a million steps."""
_WIDTH, _HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 8, 24

# Step, loss, and how many tokens it is the mean of.
_Point = tuple[float, float, float]


@frozen
class _Curve:
    """One task's losses. validation: on rows kept aside; empty if there were none."""

    task: str
    train: list[_Point]
    validation: list[_Point]


def training(runs: Iterable[ScoredRun]) -> JsonObject | None:
    """What the page draws of how a row's adapter was trained; None if its own training.json isn't beside the runs.

    runs: of the row. An adapter is looked for in `adapters/` beside `runs/`, and among a matrix's trainings there, and
    shown only if its digest is the one that was evaluated.
    """
    seen = set()
    for run in runs:
        adapter = run.record.get("adapter") or {}
        if (which := (run.folder.parent, adapter.get("name"), adapter.get("sha256"))) in seen:
            continue
        seen.add(which)
        if (made := _training_of(run)) is not None and (curves := _curves(made)):
            return _shown(made, curves)
    return None


def _training_of(run: ScoredRun) -> TrainingRecord | None:
    """The training.json of the adapter that a run was made with; None if it is elsewhere, or another one by now."""
    adapter = run.record.get("adapter")
    name, digest = (adapter.get("name"), adapter.get("sha256")) if isinstance(adapter, Mapping) else (None, None)
    # A name from a record leads nowhere else.
    if not isinstance(name, str) or name in ("", ".", "..") or name != os.path.basename(name) or "\0" in name:
        return None
    out = run.folder.resolve().parent.parent
    for folder in (*_places(out / "adapters", name), *_places_of_a_matrix(out, name, digest)):
        try:
            if not (folder / TRAINING).is_file():
                continue
            found = read_adapter(str(folder))
        except (SlmbenchError, OSError) as error:
            say(f"note: the page has no figure of how {name!r} was trained: {error}")
            continue
        if found.sha256 == digest:
            return found.training
    return None


def _places(adapters: Path, name: str) -> list[Path]:
    """Where an adapter of that name is; one that another training has taken the place of is set aside beside it."""
    return [adapters / name, *sorted(adapters.glob(f"{glob.escape(name)}-{'[0-9a-f]' * 12}"))]


def _places_of_a_matrix(out: Path, name: str, digest: object) -> Iterator[Path]:
    """Those among a matrix's trainings whose record names the digest: each of many has an adapter of that name."""
    if not isinstance(digest, str) or len(digest) != 64:
        return
    for adapters in sorted(out.glob("trained/*/seed-*/adapters")):
        for folder in _places(adapters, name):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, FileError):
                # Not parsed, nor its weights read: rows times trainings are looked at.
                if digest.encode() in read_bytes(folder / TRAINING, MOST_BYTES):
                    yield folder


def _shown(training: TrainingRecord, curves: Sequence[_Curve]) -> JsonObject:
    points = [point for curve in curves for point in (*curve.train, *curve.validation)]
    last_step = max(step for step, _, _ in points)
    ticks = _ticks([loss for _, loss, _ in points])
    return {
        "in_short": _in_short(training),
        "charts": [_chart(curve, last_step, ticks) for curve in curves],
        "unit": "tokens" if training.mixture.unit == "tokens" else "rows",
        "rows": [(curve.task, _cells(training, curve)) for curve in curves],
    }


def _curves(training: TrainingRecord) -> list[_Curve]:
    """The curves that training.json holds, whatever in it is not a number left out."""
    found: dict[str, dict[str, list[_Point]]] = {}
    for kind, points in (("train", training.curves.train), ("validation", training.curves.validation)):
        for point in points:
            step = _number(point.step)
            for task, part in point.tasks.items():
                loss, tokens = _number(part.loss), _number(part.tokens)
                if step is not None and loss is not None:
                    of_task = found.setdefault(task, {"train": [], "validation": []})
                    of_task[kind].append((step, loss, tokens or 1.0))
    return [_Curve(task, of_task["train"], of_task["validation"]) for task, of_task in found.items()]


def _in_short(training: TrainingRecord) -> str:
    steps, seconds = _number(training.steps), _number(training.train_s)
    parameters = _number(training.trainable_parameters)
    parts = [
        training.method,
        None if parameters is None else f"{count(parameters)} trained parameters",
        None if steps is None else f"{steps:.0f} steps",
        None if seconds is None else duration(seconds),
    ]
    return ", ".join(part for part in parts if part is not None)


def _chart(curve: _Curve, last_step: float, ticks: Sequence[float]) -> JsonObject:
    """Where lines and dots stand, at one scale; only numbers made here go into it."""
    low, high = ticks[0], ticks[-1]

    def x(step: float) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, step / max(last_step, 1.0))):.1f}"

    def y(loss: float) -> str:
        return f"{_TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - loss) / (high - low):.1f}"

    def places(points: Sequence[_Point]) -> list[tuple[str, str]]:
        return [(x(step), y(loss)) for step, loss, _ in _thinned(points)]

    return {
        "task": curve.task,
        "ticks": [(y(tick), f"{tick:g}") for tick in ticks],
        "steps": [
            (x(0.0), "start", "0"),
            (x(last_step), *(("end", f"step {last_step:.0f}") if last_step else ("start", "0"))),
        ],
        "train": places(curve.train),
        "held": places(curve.validation),
    }


def _thinned(points: Sequence[_Point]) -> list[_Point]:
    """At most POINTS_SHOWN points, each the mean of neighbours, weighed by their tokens."""
    size = math.ceil(len(points) / POINTS_SHOWN)
    if size <= 1:
        return list(points)
    thin = []
    for start in range(0, len(points), size):
        some = points[start : start + size]
        tokens = sum(weight for _, _, weight in some)
        thin.append((some[-1][0], sum(loss * weight for _, loss, weight in some) / tokens, tokens))
    return thin


def _ticks(losses: Sequence[float]) -> list[float]:
    """Round numbers, evenly apart, from below the lowest loss (or 0 if that is near) to above the highest."""
    low, high = min(losses), max(losses)
    if 0 <= low < high / 2:
        low = 0.0
    span = (high - low) or max(abs(high), 1.0)
    rough = span / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    apart = next(unit * times for times in (1, 2, 2.5, 5, 10) if unit * times >= rough * (1 - 1e-9))
    first = math.floor(low / apart + 1e-9)
    last = max(math.ceil(high / apart - 1e-9), first + 1)
    return [round(i * apart, 10) for i in range(first, last + 1)]


def _cells(training: TrainingRecord, curve: _Curve) -> list[tuple[str, str | None]]:
    """What was there to train on of a task, each (text, what stands below it)."""
    part = training.tasks.get(curve.task, TrainedTask())
    tasks = training.mixture.tasks
    share = _number(tasks[curve.task].share) if curve.task in tasks else None
    cut = f"{_amount(part.truncated_answers)} without their end" if part.truncated_answers else None
    reasons = ", ".join(f"{_amount(n)} {why}" for why, n in part.dropped.items() if n)
    return [
        (_amount(part.rows), None),
        (_amount(part.tokens), None),
        ("\u2014" if share is None else f"{share:.1%}", None),
        (_amount(part.truncated_rows), cut),
        (_amount(part.dropped_rows), reasons or None),
        *((number(points[-1][1]) if points else "\u2014", None) for points in (curve.train, curve.validation)),
    ]


def _amount(value: float | None) -> str:
    found = _number(value)
    return "\u2014" if found is None else f"{found:,.0f}"


def _number(value: float | None) -> float | None:
    """A number that can be drawn."""
    return None if value is None or abs(value) >= 1e15 else float(value)
