"""The page's main table: scores with intervals and ranks, and beside them what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from attrs import frozen

from slmbench.leaderboard._html import Html, breakable, tag
from slmbench.leaderboard._text import count, duration, number, size
from slmbench.leaderboard.table import Cell, Column, Leaderboard, Row

# From this share of the model's parameters on, an adapter is no small addition, and the page says so aloud.
LARGE_ADAPTER = 0.05


@frozen
class _Layout:
    """How one column is drawn. n: what all its rows have in common (None: they differ). low, high: the ends of its
    bars. first: it is the first of its task, and a line is drawn before it."""

    n: int | None
    low: float
    high: float
    first: bool


def score_table(leaderboard: Leaderboard, anchors: Mapping[str, str]) -> Html:
    """The table of all rows and columns. anchors: run id -> id of the element that shows the run's samples."""
    layouts: dict[str, _Layout] = {}
    task = None
    for column in leaderboard.columns:
        layouts[column.key] = _layout(leaderboard, column, column.task != task)
        task = column.task
    rows = []
    for position, row in enumerate(leaderboard.rows):
        cells = [_score(row, column, layouts[column.key], anchors) for column in leaderboard.columns]
        rows.append(tag("tr", _name(row), *cells, _cost(row), role="row", data_order=position))
    caption = tag(
        "caption",
        "Scores by model and task, with 95% intervals and rank ranges. Each score links to samples of its run.",
    )
    table = tag(
        "table", caption, _head(leaderboard, layouts), tag("tbody", *rows, role="rowgroup"), id="scores", role="table"
    )
    return tag("div", table, class_="scroll", role="region", aria_label="Scores", tabindex=0)


def interval_text(low: float, high: float) -> str:
    """`0.756–0.899`, or with `to` where a minus sign would read like the dash."""
    return f"{number(low)} to {number(high)}" if low < 0 else f"{number(low)}\u2013{number(high)}"


def _layout(leaderboard: Leaderboard, column: Column, first: bool) -> _Layout:
    made = [row.cells[column.key].estimate for row in leaderboard.rows if column.key in row.cells]
    counts = {part.n for part in made}
    n = counts.pop() if len(counts) == 1 else None
    low = min(part.ci_low for part in made)
    high = max(part.ci_high for part in made)
    # Nearly every metric lives in [0, 1]: one scale for all of those, so that bars can be compared across columns.
    if low >= -0.1 and high <= 1.1:
        return _Layout(n, min(0.0, low), max(1.0, high), first)
    if column.chance is not None:
        low, high = min(low, column.chance), max(high, column.chance)
    margin = (high - low) * 0.05 or 1.0
    return _Layout(n, low - margin, high + margin, first)


def _head(leaderboard: Leaderboard, layouts: Mapping[str, _Layout]) -> Html:
    tasks = []
    metrics = []
    for task, group in groupby(enumerate(leaderboard.columns, 1), key=lambda entry: entry[1].task):
        columns = list(group)
        tasks.append(
            tag("th", breakable(task), scope="colgroup", colspan=len(columns), role="columnheader", class_="task")
        )
        for place, (position, column) in enumerate(columns):
            notes = []
            if not column.higher_is_better:
                notes.append("lower is better")
            if layouts[column.key].n is not None:
                notes.append(f"n = {layouts[column.key].n}")
            if column.chance is not None:
                notes.append(f"chance {number(column.chance)}")
            marks = [tag("span", "in process", class_="badge")] if column.in_process else []
            metrics.append(
                tag(
                    "th",
                    tag("span", breakable(column.metric), class_="sorter"),
                    *(tag("small", note) for note in notes),
                    *marks,
                    scope="col",
                    role="columnheader",
                    class_="metric first" if place == 0 else "metric",
                    data_col=position,
                    data_best="high" if column.higher_is_better else "low",
                    data_label=f"{column.task}: {column.metric}",
                )
            )
    model = tag(
        "th", tag("span", "Model", class_="sorter"), scope="col", rowspan=2, role="columnheader", class_="name",
        data_col=0, data_best="low", data_label="Model name",
    )  # fmt: skip
    cost = tag(
        "th", tag("span", "Cost", class_="sorter"), scope="col", rowspan=2, role="columnheader",
        class_="cost", data_col=len(leaderboard.columns) + 1, data_best="low",
        data_label="Evaluation time",
    )  # fmt: skip
    return tag("thead", tag("tr", model, *tasks, cost, role="row"), tag("tr", *metrics, role="row"), role="rowgroup")


def _name(row: Row) -> Html:
    parts: list[Html | str] = [tag("span", row.model, class_="model")]
    if row.quantization is not None:
        parts.append(" ")
        parts.append(tag("span", row.quantization, class_="held"))
    if row.adapter is not None:
        parts.append(" ")
        parts.append(tag("span", "+\u00a0", row.adapter, class_="adapter"))
    parts.extend(tag("span", badge, class_="badge") for badge in row.badges)
    return tag("th", *parts, scope="row", role="rowheader", class_="name", data_v=row.name)


def _score(row: Row, column: Column, layout: _Layout, anchors: Mapping[str, str]) -> Html:
    label = f"{column.task}: {column.metric}"
    if layout.n is not None:
        label += f", n = {layout.n}"
    if column.chance is not None:
        label += f", chance {number(column.chance)}"
    cell = row.cells.get(column.key)
    first = " first" if layout.first else ""
    if cell is None:
        missing = tag("span", "\u2014", title="no run", class_="missing")
        return tag("td", missing, role="cell", class_="score none" + first, data_label=label)
    made = cell.estimate
    anchor = anchors.get(cell.run_id)
    value = number(made.value)
    shown = tag("a", value, href=f"#{anchor}", class_="value") if anchor else tag("span", value, class_="value")
    interval = "no interval" if made.method == "none" else interval_text(made.ci_low, made.ci_high)
    below = [tag("span", interval, class_="ci")]
    if layout.n is None:
        below.append(tag("span", f"n = {made.n}", class_="n"))
    return tag(
        "td",
        tag("span", shown, _rank(cell, column), class_="top"),
        _bar(cell, column, layout),
        tag("span", *below, class_="below"),
        role="cell",
        class_=f"score{' lead' if cell.leads else ''}{first}",
        data_label=label,
        data_v=repr(made.value),
    )


def _rank(cell: Cell, column: Column) -> Html:
    if cell.rank_low is None or cell.rank_high is None:
        return tag("span", ", ".join(cell.badges) or "not ranked", class_="rank not")
    low, high = cell.rank_low, cell.rank_high
    span = str(low) if low == high else f"{low}\u2013{high}"
    words = f"rank {low}" if low == high else f"rank {low} to {high}"
    return tag("span", tag("span", "#", aria_hidden="true"), span, class_="rank", title=f"{words} of {column.ranked}")


def _bar(cell: Cell, column: Column, layout: _Layout) -> Html:
    """The interval as a line, the value as a dot, chance as a tick; only numbers made here go into it."""
    low, high = layout.low, layout.high

    def at(value: float) -> str:
        return f"{4 + 92 * min(1.0, max(0.0, (value - low) / (high - low))):.1f}%"

    made = cell.estimate
    parts = [tag("line", x1="4%", x2="96%", y1=6, y2=6, class_="axis")]
    if column.chance is not None and low <= column.chance <= high:
        parts.append(tag("line", x1=at(column.chance), x2=at(column.chance), y1=1, y2=11, class_="chance"))
    if made.method != "none":
        parts.append(tag("line", x1=at(made.ci_low), x2=at(made.ci_high), y1=6, y2=6, class_="interval"))
    parts.append(tag("circle", cx=at(made.value), cy=6, r=3, class_="mean"))
    return tag("svg", *parts, class_="bar", aria_hidden="true", height=12)


def _cost(row: Row) -> Html:
    """The cost in short; the table of costs has the rest."""
    cost = row.cost
    lines: list[Html] = []
    if cost["parameters"] is not None:
        lines.append(_line(count(cost["parameters"]), "parameters"))
    if cost["adapter_parameters"] is not None:
        share = adapter_share(row)
        part = "" if share is None else f" ({_percent(share)})"
        large = share is not None and share >= LARGE_ADAPTER
        lines.append(_line(f"+{count(cost['adapter_parameters'])}", f"adapter{part}", " large" if large else ""))
    how = ", ".join(part for part in (row.method, row.quantization and f"on {row.quantization}") if part)
    if how:
        lines.append(tag("span", how, class_="line"))
    times = [(cost["train_s"], "train"), (cost["seconds"], "eval")]
    spent = [tag("span", tag("b", duration(seconds)), " ", what) for seconds, what in times if seconds is not None]
    if spent:
        lines.append(tag("span", spent[0], *(part for one in spent[1:] for part in (", ", one)), class_="line"))
    if cost["ram_peak_B"] is not None:
        lines.append(_line(size(cost["ram_peak_B"]), "memory"))
    seconds = cost["seconds"]
    shown = None if seconds is None else repr(seconds)
    return tag("td", *lines, role="cell", class_="cost", data_label="Cost", data_v=shown)


def adapter_share(row: Row) -> float | None:
    """Parameters of the row's adapter for each one of its model; None without an adapter."""
    own, base = row.cost["adapter_parameters"], row.cost["parameters"]
    return own / base if own is not None and base else None


def cost_table(leaderboard: Leaderboard) -> Html:
    """Everything that the rows' runs took, a line a row."""
    amounts = (
        ("Parameters", "parameters", count),
        ("Adapter", "adapter_parameters", count),
        ("Adapter file", "adapter_bytes", size),
        ("Training", "train_s", duration),
        ("Evaluation", "seconds", duration),
        ("Peak memory", "ram_peak_B", size),
        ("Tokens in", "tokens_in", count),
        ("Tokens out", "tokens_out", count),
    )
    heads = ["Model", *(head for head, _, _ in amounts)]
    rows = []
    for row in leaderboard.rows:
        cost = row.cost
        shown: list[Html | str] = []
        for _, key, form in amounts:
            value = cost[key]
            share = adapter_share(row) if key == "adapter_parameters" else None
            if value is None:
                shown.append("\u2014")
            elif share is None:
                shown.append(form(value))
            else:
                note = f"adapter is {_percent(share)} of the model\u2019s parameters"
                large = "line large" if share >= LARGE_ADAPTER else "line"
                shown.append(Html(tag("span", form(value)) + tag("span", note, class_=large)))
        rows.append(tag("tr", tag("th", row.name, scope="row"), *(tag("td", part) for part in shown)))
    table = tag(
        "table",
        tag("caption", "Seconds and tokens are summed over the runs shown above; memory is their peak."),
        tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
        tag("tbody", *rows),
        class_="plain costs",
    )
    return tag("div", table, class_="scroll", role="region", aria_label="Cost", tabindex=0)


def _line(amount: str, what: str, kind: str = "") -> Html:
    return tag("span", tag("b", amount), " ", what, class_=f"line{kind}")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 else "under 0.1%"
