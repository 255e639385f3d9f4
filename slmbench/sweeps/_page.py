"""The sweep as one HTML file that needs nothing else: figures as inline SVG, a table, the data; no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from slmbench.leaderboard.pages import render
from slmbench.leaderboard.texts import number
from slmbench.statistics.seeds import spread_of
from slmbench.sweeps._panel import SHAPES, Dot, corners, panel
from slmbench.sweeps._summary import COSTS, OF_ITEMS, Sweep, SweepColumn, SweepRow
from slmbench.values import Estimate, JsonObject

# Distinct in light and dark, and to people who don't tell red from green (after Okabe and Ito 2008).
_NONE = "\u2014"
_HUES = 6  # So many has sweep.css.


def render_page(sweep: Sweep, forms: Mapping[str, Callable[[float], str]], data: object) -> str:
    """The whole page. forms: cost -> how an amount is written. data: what sweep.json holds; it is in `#data` too."""
    return render(
        "sweep.html.j2",
        title=f"slmbench sweep: {sweep.recipe}",
        styles=("sweep.css",),
        notices=sweep.notices,
        data=data,
        recipe=sweep.recipe,
        axes="; ".join(f"{axis.key}: {axis.shown}" for axis in sweep.axes),
        failures=sweep.failures,
        keys=_keys(sweep),
        layers=bool(sweep.targets),
        figures=[(column, _panels(sweep, column, forms)) for column in sweep.columns] if sweep.rows else [],
        heads=[
            "Setting",
            "Adapter",
            *(["Targets"] if sweep.targets else []),
            "Seeds",
            *(column.key for column in sweep.columns),
        ]
        + [label.capitalize() for label in COSTS.values()],
        rows=_rows(sweep, forms) if sweep.rows else [],
        spreads=sweep.spreads,
        mark=OF_ITEMS,
    )


def _keys(sweep: Sweep) -> list[tuple[str, str, str]]:
    """(what a dot is of, its hue, its corners) of each adapter, and of each set of layers if rows differ in it.

    Layers have shapes; a hue of their own, too, if there is one adapter alone.
    """
    several = len(sweep.adapters) > 1
    adapters = (
        [(adapter, _hue(i), "") for i, adapter in enumerate(sweep.adapters)] if several or not sweep.targets else []
    )
    layers = [
        (name, "any" if several else _hue(i), corners(_shape(i), 7.0, 7.0)) for i, name in enumerate(sweep.targets)
    ]
    return adapters + layers


def _shape(position: int) -> int:
    return position % len(SHAPES)


def _panels(sweep: Sweep, column: SweepColumn, forms: Mapping[str, Callable[[float], str]]) -> list[JsonObject]:
    rows = [row for row in sweep.rows if column.key in row.scores]
    lines = {model: scores[column.key].value for model, scores in sweep.bases.items() if column.key in scores}
    panels = []
    for cost, label in COSTS.items():
        there = [row for row in rows if cost in row.costs]
        if there:
            dots = [_dot(sweep, row, column, cost, forms[cost]) for row in there]
            dots += [_base_dot(sweep, model, column, cost) for model in lines]
            title = f"{column.key} against {label}"
            panels.append({"cost": label, "title": title, "parts": panel(dots, list(lines.values()), forms[cost])})
    return panels


def _dot(sweep: Sweep, row: SweepRow, column: SweepColumn, cost: str, form: Callable[[float], str]) -> Dot:
    score = row.scores[column.key]
    told = f"{row.setting}, {row.adapter}: {_written(score)}; {COSTS[cost]} {form(row.costs[cost])}"
    whisker = None if score.method == "none" else (score.ci_low, score.ci_high)
    leads = cost in row.fronts.get(column.key, ())
    adapter, layers = sweep.adapters.index(row.adapter), sweep.targets.index(row.targets) if row.targets else 0
    hue = _hue(adapter if len(sweep.adapters) > 1 or not row.targets else layers)
    # Of one adapter on one set of layers, the line is what its other settings buy.
    line = f"{row.adapter} {row.targets}" if row.targets else ""
    return Dot(row.costs[cost], score.value, whisker, row.label, told, leads, hue, _shape(layers), line)


def _base_dot(sweep: Sweep, model: str, column: SweepColumn, cost: str) -> Dot:
    score = sweep.bases[model][column.key]
    whisker = None if score.method == "none" else (score.ci_low, score.ci_high)
    leads = cost in sweep.base_fronts.get(model, {}).get(column.key, ())
    return Dot(0.0, score.value, whisker, model, f"{model}, no adapter: {_written(score)}", leads, "b")


def _hue(position: int) -> str:
    return f"s{position % _HUES}"


def _rows(
    sweep: Sweep, forms: Mapping[str, Callable[[float], str]]
) -> list[tuple[str, str, str, str, list[tuple[str, bool]], list[str]]]:
    """(setting, adapter, layers, seeds, scores and whether they lead, costs) of each line, the bases' first."""
    mixed = len(sweep.spreads) > 1

    def shown(scores: Mapping[str, Estimate], fronts: Mapping[str, Sequence[str]]) -> list[tuple[str, bool]]:
        made = ((key, scores.get(key)) for key in (column.key for column in sweep.columns))
        return [(_written(score, mixed), bool(fronts.get(key))) if score else (_NONE, False) for key, score in made]

    bases = [
        (model, "none", "none", _NONE, shown(scores, sweep.base_fronts.get(model, {})), ["0"] * len(COSTS))
        for model, scores in sweep.bases.items()
    ]
    return bases + [
        (
            row.setting,
            row.adapter,
            row.targets,
            str(len(row.seeds)),
            shown(row.scores, row.fronts),
            [forms[cost](row.costs[cost]) if cost in row.costs else _NONE for cost in COSTS],
        )
        for row in sweep.rows
    ]


def _written(score: Estimate, mixed: bool = False) -> str:
    if score.method == "none":
        return number(score.value)
    mark = OF_ITEMS if mixed and spread_of(score) == "items" else ""
    return f"{number(score.value)} [{number(score.ci_low)}, {number(score.ci_high)}]{mark}"
