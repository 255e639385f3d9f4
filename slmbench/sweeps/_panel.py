"""One small figure: quality against a cost, as SVG. Only numbers made here go into its geometry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from attrs import frozen

from slmbench.leaderboard.texts import number

# What panel.html.j2 draws: a line, a text, a dot, or the front, by the keys that are there.
Part = dict[str, str]

WIDTH, HEIGHT = 340, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 16, 26
_CHARACTER = 6.8
_LOG_FROM = 4.0
SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),  # A circle.
    ((-4, -4), (4, -4), (4, 4), (-4, 4)),
    ((0, -5), (4.8, 3.6), (-4.8, 3.6)),
    ((0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)),
    ((0, 5), (4.8, -3.6), (-4.8, -3.6)),
)
"""Corners around a dot's place."""
_NONE = 36
"""The room of what costs nothing."""


@frozen
class Dot:
    """One row in a panel. interval: (low, high) of its value; told: what pointing at it says; hue: a class.

    shape: which of SHAPES it is drawn as. line: dots of one line are joined, '' joins nothing.
    """

    cost: float
    value: float
    interval: tuple[float, float] | None
    label: str
    told: str
    leads: bool
    hue: str
    shape: int = 0
    line: str = ""


def panel(
    dots: Sequence[Dot],
    bases: Sequence[float],
    form: Callable[[float], str],
) -> list[Part]:
    """Dots at (cost, value) with their intervals; those that lead are filled and joined. bases: values of dashed lines.

    form: how a cost is written. The cost's axis is logarithmic if costs differ by more than fourfold; a cost of 0 has a
    place of its own to the left of it.
    """
    at_x, x_ticks = _cost_scale([dot.cost for dot in dots])
    ends = [end for dot in dots for end in (dot.value, *(dot.interval or ()))] + list(bases)
    shares = all(0 <= value <= 1 for value in (*(dot.value for dot in dots), *bases))
    # A t interval may leave a share's range; drawing that would cost the dots their room.
    low, high = (max(0.0, min(ends)), min(1.0, max(ends))) if shares else (min(ends), max(ends))
    at_y, y_ticks = _value_scale(low, high)
    parts: list[Part] = []
    for value in y_ticks:
        parts.append(_line(_LEFT, at_y(value), WIDTH - _RIGHT, at_y(value), "grid"))
        parts.append(_text(_LEFT - 5, at_y(value) + 3.5, _tick(value, y_ticks), "end"))
    for cost in x_ticks:
        parts.append(_line(at_x(cost), HEIGHT - _BOTTOM, at_x(cost), HEIGHT - _BOTTOM + 4, "grid"))
        parts.append(_text(at_x(cost), HEIGHT - _BOTTOM + 16, form(cost) if cost else "0", "middle"))
    taken = []
    for value in bases:
        parts.append(_line(_LEFT, at_y(value), WIDTH - _RIGHT, at_y(value), "base"))
    front = sorted({(dot.cost, dot.value) for dot in dots if dot.leads})
    if len(front) > 1:
        points = " ".join(f"{at_x(cost):.1f},{at_y(value):.1f}" for cost, value in front)
        parts.append({"points": points, "kind": "front"})
    for name in dict.fromkeys(dot.line for dot in dots if dot.line):
        joined = sorted((dot for dot in dots if dot.line == name), key=lambda dot: (dot.cost, dot.value))
        if len(joined) > 1:
            points = " ".join(f"{at_x(dot.cost):.1f},{at_y(dot.value):.1f}" for dot in joined)
            parts.append({"points": points, "kind": f"line {joined[0].hue}"})
    for dot in dots:
        if dot.interval is not None:
            x, (start, end) = at_x(dot.cost), dot.interval
            bottom, top = (at_y(min(y_ticks[-1], max(y_ticks[0], value))) for value in (start, end))
            parts.append(_line(x, bottom, x, top, f"whisker {dot.hue}"))
    for dot in dots:
        x, y = at_x(dot.cost), at_y(dot.value)
        taken.append((x - 5, y - 5, x + 5, y + 5))
        kind = f"dot {dot.hue}{' on' if dot.leads else ''}"
        place = {"corners": corners(dot.shape, x, y)} if SHAPES[dot.shape] else {"x": f"{x:.1f}", "y": f"{y:.1f}"}
        parts.append({"told": dot.told, "kind": kind, **place})
    for dot in sorted(dots, key=lambda dot: not dot.leads):
        label = _placed(dot.label, at_x(dot.cost), at_y(dot.value), taken)
        parts += [label] if label is not None else []
    return parts


def corners(shape: int, x: float, y: float) -> str:
    """The points of a polygon around (x, y), as SVG takes them; '' of a circle."""
    return " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in SHAPES[shape])


def _cost_scale(costs: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    none, costs = min(costs) <= 0, [cost for cost in costs if cost > 0] or [1.0]
    left = _LEFT + (_NONE if none else 0)
    low, high = min(costs), max(costs)
    logarithmic = low > 0 and high / low > _LOG_FROM
    warp: Callable[[float], float] = math.log if logarithmic else float
    start, end = warp(low), warp(high)
    margin = (end - start) * 0.08 or abs(end) * 0.05 or 1.0
    start, end = start - margin, end + margin

    def at(cost: float) -> float:
        return left + (WIDTH - left - _RIGHT) * (warp(cost) - start) / (end - start) if cost > 0 else _LEFT + _NONE / 2

    # The amounts that are there: of a handful of settings, those are what a reader looks for.
    ticks: list[float] = [0.0] if none else []
    for cost in sorted(set(costs)):
        if not ticks or at(cost) - at(ticks[-1]) >= (52 if ticks[-1] else 34):
            ticks.append(cost)
    return at, ticks


def _value_scale(low: float, high: float) -> tuple[Callable[[float], float], list[float]]:
    if low == high:
        low, high = low - 0.1 * (abs(low) or 1.0), high + 0.1 * (abs(high) or 1.0)
    step: float = 10.0 ** math.floor(math.log10(high - low))
    step = next(step * share for share in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if (high - low) / (step * share) <= 5)
    start, end = math.floor(low / step) * step, math.ceil(high / step) * step
    ticks = [start + step * i for i in range(round((end - start) / step) + 1)]

    def at(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - start) / (end - start)

    return at, ticks


def _tick(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    decimals = max(0, min(6, -math.floor(math.log10(step) + 1e-9) + (1 if f"{step:e}".startswith("2.5") else 0)))
    return f"{value:.{decimals}f}" if decimals else number(value) if step < 1 else f"{value:.0f}"


def _placed(label: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> Part | None:
    """The label beside its dot where nothing else is, or None: the dot still says it when pointed at."""
    shown = label if len(label) <= 24 else label[:23] + "\u2026"
    width, height = len(shown) * _CHARACTER, 11.0
    for dx, dy, anchor in ((8, 3.5, "start"), (-8, 3.5, "end"), (0, -9, "middle"), (0, 17, "middle")):
        start = x + dx - {"middle": width / 2, "start": 0.0, "end": width}[anchor]
        box = (start, y + dy - height + 2, start + width, y + dy + 2)
        inside = box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - _BOTTOM
        if inside and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            return _text(x + dx, y + dy, shown, anchor, "label")
    return None


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Part:
    return {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}", "kind": kind}


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> Part:
    return {"words": words, "x": f"{x:.1f}", "y": f"{y:.1f}", "anchor": anchor, "kind": kind}
