"""How the adapters of the table were trained: a small figure of every task's losses, and what its rows were."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Mapping, Sequence

from attrs import frozen

from slmbench.console import say
from slmbench.errors import SlmbenchError
from slmbench.leaderboard._html import Html, breakable, tag
from slmbench.leaderboard._records import Run
from slmbench.leaderboard._text import count, duration, number
from slmbench.leaderboard.table import Leaderboard
from slmbench.models import read_adapter
from slmbench.runs import TRAINING, TrainedTask, TrainingRecord

POINTS_SHOWN = 160
_WIDTH, _HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 8, 24

# Step, loss, and how many tokens it is the mean of.
_Point = tuple[float, float, float]


@frozen
class _Curve:
    """One task's losses. validation: on rows kept aside; empty where there were none."""

    task: str
    train: list[_Point]
    validation: list[_Point]


def training_section(leaderboard: Leaderboard, runs: Mapping[str, Run]) -> Html | None:
    """One part a row whose adapter's own training.json lies beside the runs; None where there is none.

    An adapter is looked for in `adapters/` beside `runs/`, and shown only if its digest is the one that was evaluated.
    """
    parts = []
    for row in leaderboard.rows:
        of_row = [runs[cell.run_id] for cell in row.cells.values() if cell.run_id in runs]
        training = next((found for run in of_row if (found := _training_of(run)) is not None), None)
        if training is not None and (part := _part(row.name, training)) is not None:
            parts.append(part)
    if not parts:
        return None
    about = tag(
        "p",
        "Mean loss of a token of the answers, by task, at one scale an adapter. ",
        tag("span", "line: rows trained on", class_="key train"),
        " ",
        tag("span", "dots: rows kept aside", class_="key held"),
        class_="lede",
    )
    return tag("section", tag("h2", "Training"), about, *parts, id="training")


def _training_of(run: Run) -> TrainingRecord | None:
    """The training.json of the adapter that a run was made with; None where it is elsewhere, or another one by now."""
    adapter = run.record.get("adapter")
    name = adapter.get("name") if isinstance(adapter, Mapping) else None
    # A name from a record leads nowhere else.
    if not isinstance(name, str) or name in ("", ".", "..") or name != os.path.basename(name) or "\0" in name:
        return None
    place = run.folder.resolve().parent.parent / "adapters"
    # One that another training has taken the place of is set aside beside it.
    for folder in (place / name, *sorted(place.glob(f"{glob.escape(name)}-{'[0-9a-f]' * 12}"))):
        try:
            if not (folder / TRAINING).is_file():
                continue
            found = read_adapter(str(folder))
        except (SlmbenchError, OSError) as error:
            say(f"note: the page has no figure of how {name!r} was trained: {error}")
            continue
        if found.sha256 == adapter.get("sha256"):
            return found.training
    return None


def _part(name: str, training: TrainingRecord) -> Html | None:
    curves = _curves(training)
    if not curves:
        return None
    points = [point for curve in curves for point in (*curve.train, *curve.validation)]
    last_step = max(step for step, _, _ in points)
    ticks = _ticks([loss for _, loss, _ in points])
    figures = [
        tag("figure", tag("figcaption", breakable(curve.task)), _chart(curve, last_step, ticks)) for curve in curves
    ]
    return tag(
        "section",
        tag("h3", name),
        tag("p", _in_short(training), class_="lede"),
        tag("div", *figures, class_="curves"),
        _table(training, curves),
        class_="row",
    )


def _curves(training: TrainingRecord) -> list[_Curve]:
    """The curves that training.json holds, whatever in it is no number left out."""
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


def _chart(curve: _Curve, last_step: float, ticks: Sequence[float]) -> Html:
    """Lines and dots at one scale; only numbers made here go into it."""
    low, high = ticks[0], ticks[-1]

    def x(step: float) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, step / max(last_step, 1.0))):.1f}"

    def y(loss: float) -> str:
        return f"{_TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - loss) / (high - low):.1f}"

    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for tick in ticks:
        parts.append(tag("line", x1=_LEFT, x2=right, y1=y(tick), y2=y(tick), class_="grid"))
        parts.append(tag("text", f"{tick:g}", x=_LEFT - 6, y=y(tick), class_="tick loss"))
    for step in (0.0, last_step):
        anchor = "start" if step == 0 else "end"
        shown = f"{step:.0f}" if step == 0 else f"step {step:.0f}"
        parts.append(tag("text", shown, x=x(step), y=floor + 16, text_anchor=anchor, class_="tick"))
    thin = _thinned(curve.train)
    if len(thin) > 1:
        places = " ".join(f"{x(step)},{y(loss)}" for step, loss, _ in thin)
        parts.append(tag("polyline", points=places, class_="train"))
    parts += [tag("circle", cx=x(step), cy=y(loss), r=2.5, class_="train") for step, loss, _ in thin[-1:]]
    held = _thinned(curve.validation)
    if len(held) > 1:
        places = " ".join(f"{x(step)},{y(loss)}" for step, loss, _ in held)
        parts.append(tag("polyline", points=places, class_="held"))
    parts += [tag("circle", cx=x(step), cy=y(loss), r=3, class_="held") for step, loss, _ in held]
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="chart", aria_hidden="true")


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
    """Round numbers, evenly apart, from below the lowest loss (or 0 where that is near) to above the highest."""
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


def _table(training: TrainingRecord, curves: Sequence[_Curve]) -> Html:
    heads = ("Task", "Rows", "Tokens", "Share of the training", "Truncated", "Left out", "Last loss", "Validation loss")
    mixture = training.mixture
    rows = []
    for curve in curves:
        part = training.tasks.get(curve.task, TrainedTask())
        share = _number(mixture.tasks[curve.task].share) if curve.task in mixture.tasks else None
        cells: list[Html | str] = [_amount(part.rows), _amount(part.tokens)]
        cells.append("\u2014" if share is None else f"{share:.1%}")
        cells.append(_truncated(part))
        cells.append(_left_out(part))
        cells += [number(points[-1][1]) if points else "\u2014" for points in (curve.train, curve.validation)]
        rows.append(tag("tr", tag("th", curve.task, scope="row"), *(tag("td", cell) for cell in cells)))
    unit = "tokens" if mixture.unit == "tokens" else "rows"
    caption = tag(
        "caption",
        f"What was there to train on; its share is of the {unit} that the steps saw. The last losses are those of the "
        "last point of the curves.",
    )
    table = tag(
        "table",
        caption,
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *rows),
        class_="plain costs",
    )
    return tag("div", table, class_="scroll", role="region", aria_label="Rows trained on", tabindex=0)


def _truncated(part: TrainedTask) -> Html | str:
    if not part.truncated_answers:
        return _amount(part.truncated_rows)
    answers = f"{_amount(part.truncated_answers)} without their end"
    return Html(tag("span", _amount(part.truncated_rows)) + tag("span", answers, class_="line"))


def _left_out(part: TrainedTask) -> Html | str:
    reasons = {why: n for why, n in part.dropped.items() if n}
    shown = _amount(part.dropped_rows)
    if not reasons:
        return shown
    told = ", ".join(f"{_amount(n)} {why}" for why, n in reasons.items())
    return Html(tag("span", shown) + tag("span", told, class_="line"))


def _amount(value: float | None) -> str:
    found = _number(value)
    return "\u2014" if found is None else f"{found:,.0f}"


def _number(value: float | None) -> float | None:
    """A number that can be drawn."""
    return None if value is None or abs(value) >= 1e15 else float(value)
