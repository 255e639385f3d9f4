"""The sweep as one HTML file that needs nothing else: figures as inline SVG, a table, the data; no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slmbench.leaderboard.markup import Html, json_script, notice_box, number, page_head, page_style, tag
from slmbench.statistics.seeds import spread_of
from slmbench.sweeps._panel import Dot, panel
from slmbench.sweeps._summary import COSTS, OF_ITEMS, Column, Row, Sweep
from slmbench.values import Estimate

# Distinct in light and dark, and to people who don't tell red from green (after Okabe and Ito 2008).
_HUES = ("#2186c4", "#d55e00", "#009e73", "#cc79a7", "#a88400", "#7a6fd0")
_STYLE = (
    """
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr)); gap: 12px; }
.panel { margin: 0; border: 1px solid var(--line); border-radius: 8px; background: var(--card); padding: 8px 10px 4px; }
.panel figcaption { font-size: 12.5px; color: var(--soft); }
.panel svg { display: block; width: 100%; height: auto; }
.panel text { font-size: 10.5px; fill: var(--soft); }
.panel .label { fill: var(--ink); stroke: var(--card); stroke-width: 3; paint-order: stroke; }
.panel .grid { stroke: var(--line); stroke-width: 1; }
.base { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 5 4; }
.panel .front { fill: none; stroke: var(--lead-span); stroke-width: 2; }
.panel .whisker { stroke-width: 1.5; opacity: 0.5; }
.dot { stroke-width: 2; fill: var(--card); }
.keys { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 6px 0 10px; font-size: 13px; color: var(--soft); }
.keys svg { width: 14px; height: 14px; vertical-align: -2px; margin-right: 5px; }
.failed { border-left: 3px solid var(--wrong); padding-left: 10px; margin: 8px 0; font-size: 13.5px; }
.plain .lead { color: var(--lead); font-weight: 650; }
.plain td { text-align: right; } .plain td.name { text-align: left; }
"""
    + "\n".join(f".s{i} {{ stroke: {hue}; }} .on.s{i} {{ fill: {hue} !important; }}" for i, hue in enumerate(_HUES))
    + "\n"
)


def render_page(sweep: Sweep, forms: Mapping[str, Callable[[float], str]], data: Any) -> str:
    """The whole page. forms: cost -> how an amount is written. data: what sweep.json holds; it is in `#data` too."""
    style = page_style() + _STYLE
    head = page_head(f"slmbench sweep: {sweep.recipe}", style)
    body = [_header(sweep)]
    if sweep.notices:
        body.append(notice_box(sweep.notices))
    if sweep.failures:
        faults = [tag("p", tag("b", point), ": ", reason, class_="failed") for point, reason in sweep.failures.items()]
        body.append(tag("section", tag("h2", "Points without a result"), *faults))
    if sweep.rows and sweep.columns:
        body.append(_keys(sweep))
        body += [_figures(sweep, column, forms) for column in sweep.columns]
        body.append(tag("section", tag("h2", "All numbers"), _table(sweep, forms)))
        body.append(_legend(sweep))
    else:
        body.append(tag("p", "No point has a result."))
    body.append(json_script("data", data))
    page = tag("html", head, tag("body", tag("main", *body)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _header(sweep: Sweep) -> Html:
    axes = "; ".join(f"{axis.key}: {', '.join(map(str, axis.values))}" for axis in sweep.axes)
    forms = (("JSON", "json"), ("CSV", "csv"), ("Markdown", "md"))
    links = [tag("a", name, href=f"sweep.{end}") for name, end in forms]
    return tag(
        "header",
        tag("p", "slmbench", class_="brand"),
        tag("h1", tag("span", "Sweep"), tag("span", sweep.recipe, class_="suite")),
        tag("p", axes, class_="lede"),
        tag("nav", tag("span", "This sweep as"), *links, aria_label="Other forms of this sweep"),
    )


def _keys(sweep: Sweep) -> Html:
    def sign(*marks: Html) -> Html:
        return tag("svg", *marks, viewBox="0 0 14 14", aria_hidden="true")

    keys = [
        tag("span", sign(tag("circle", cx=7, cy=7, r=4, class_=f"dot {_hue(i)}")), adapter)
        for i, adapter in enumerate(sweep.adapters)
    ]
    lead = tag("circle", cx=7, cy=7, r=4, class_=f"dot on {_hue(0)}")
    keys.append(tag("span", sign(lead), "filled: on the Pareto front"))
    dash = tag("line", x1=0, x2=14, y1=7, y2=7, class_="base")
    keys.append(tag("span", sign(dash), "the model without an adapter"))
    return tag("div", *keys, class_="keys")


def _figures(sweep: Sweep, column: Column, forms: Mapping[str, Callable[[float], str]]) -> Html:
    rows = [row for row in sweep.rows if column.key in row.scores]
    bases = {model: scores[column.key] for model, scores in sweep.bases.items() if column.key in scores}
    direction = "" if column.higher_is_better else " (lower is better)"
    panels = []
    for cost, label in COSTS.items():
        there = [row for row in rows if cost in row.costs]
        if there:
            dots = [_dot(sweep, row, column, cost, forms[cost]) for row in there]
            lines = {model: score.value for model, score in bases.items()}
            drawn = panel(dots, lines, forms[cost], f"{column.key} against {label}")
            panels.append(tag("figure", drawn, tag("figcaption", f"against {label}"), class_="panel"))
    title = tag("h2", f"{column.task}: {column.metric}{direction}")
    return tag("section", title, tag("div", *panels, class_="panels"))


def _dot(sweep: Sweep, row: Row, column: Column, cost: str, form: Callable[[float], str]) -> Dot:
    score = row.scores[column.key]
    told = f"{row.setting}, {row.adapter}: {_written(score)}; {COSTS[cost]} {form(row.costs[cost])}"
    whisker = None if score.method == "none" else (score.ci_low, score.ci_high)
    leads = cost in row.fronts.get(column.key, ())
    return Dot(row.costs[cost], score.value, whisker, row.label, told, leads, _hue(sweep.adapters.index(row.adapter)))


def _hue(position: int) -> str:
    return f"s{position % len(_HUES)}"


def _table(sweep: Sweep, forms: Mapping[str, Callable[[float], str]]) -> Html:
    heads = ["Setting", "Adapter", "Seeds", *(column.key for column in sweep.columns)]
    heads += [label.capitalize() for label in COSTS.values()]
    lines = []
    mixed = len(sweep.spreads) > 1
    for model, scores in sweep.bases.items():
        cells = [_cell(scores.get(column.key), False, mixed) for column in sweep.columns]
        names = [tag("th", model, scope="row"), tag("td", "none", class_="name"), tag("td", "\u2014")]
        lines.append(tag("tr", *names, *cells, *(tag("td", "\u2014") for _ in COSTS)))
    for row in sweep.rows:
        cells = [_cell(row.scores.get(column.key), bool(row.fronts.get(column.key)), mixed) for column in sweep.columns]
        costs = [tag("td", forms[cost](row.costs[cost]) if cost in row.costs else "\u2014") for cost in COSTS]
        names = [tag("th", row.setting, scope="row"), tag("td", row.adapter, class_="name")]
        lines.append(tag("tr", *names, tag("td", str(len(row.seeds))), *cells, *costs))
    table = tag(
        "table",
        tag("caption", "Green: on the front of that score against at least one of the costs."),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *lines),
        class_="plain",
    )
    return tag("div", table, class_="scroll", role="region", aria_label="All numbers", tabindex=0)


def _cell(score: Estimate | None, leads: bool, mixed: bool) -> Html:
    if score is None:
        return tag("td", "\u2014")
    return tag("td", _written(score, mixed), class_="lead" if leads else None)


def _written(score: Estimate, mixed: bool = False) -> str:
    if score.method == "none":
        return number(score.value)
    mark = OF_ITEMS if mixed and spread_of(score) == "items" else ""
    return f"{number(score.value)} [{number(score.ci_low)}, {number(score.ci_high)}]{mark}"


def _legend(sweep: Sweep) -> Html:
    over_seeds = "seeds" in sweep.spreads
    marked = f" {OF_ITEMS} marks intervals over the items of one run, as of a model without an adapter."
    interval = (
        "Mean over seeds, and the 95% t interval of that mean: where it could lie with other seeds. Few seeds make it "
        "wide, and rightly so." + (marked if "items" in sweep.spreads else "")
        if over_seeds
        else "The score of one run, and its 95% interval over test items. It says nothing of how much another seed of "
        "the training would change; --seeds 3 does."
    )
    told = [
        ("Score and line", interval),
        (
            "Pareto front",
            "Filled dots, joined by a line: no other setting is at least as good and at least as cheap, and better in "
            "one of the two. It is taken from the means alone: dots whose intervals overlap may change places.",
        ),
        (
            "Costs",
            "Means over seeds. Seconds compare only on the same machine. Peak memory is that of the process (of the "
            "GPU where there was one) while it trained. An axis is logarithmic where amounts differ by more than "
            "fourfold.",
        ),
    ]
    pairs = [tag("div", tag("dt", term), tag("dd", words)) for term, words in told]
    return tag("section", tag("h2", "How to read this"), tag("dl", *pairs, class_="legend"))
