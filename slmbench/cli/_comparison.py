"""A comparison as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from slmbench.console import paint
from slmbench.console.columns import GAP, Cell, shortened, table_lines, widths_of, wrapped
from slmbench.console.word_diff import beside, excerpts
from slmbench.leaderboard.texts import number
from slmbench.visible import visible
from slmbench.workflow.compare import ALPHA, ComparedMetric, ComparedTask, Comparison, items_for_margin
from slmbench.workflow.flipped import DifferingItem

CHARS_SHOWN = 900
PROMPT_CHARS = 240
_COLORS = {"better": "green", "worse": "red"}
_SHORT = {"better": "B better", "worse": "B worse"}
_INDENT = "  "


def comparison_lines(found: Comparison, width: int, *, colored: bool, items: int) -> Iterator[str]:
    """Painted lines of at most width cells. items: how many were asked for."""
    for which, side, color in (("A", found.a, "yellow"), ("B", found.b, "cyan")):
        name = f"{which}: {visible(side.name)}"
        yield paint(shortened(name, width), "bold", color)
        yield from wrapped_lines(visible(side.place), width, "dim", _INDENT * 2)
    yield ""
    yield from wrapped_lines(summary(found), width, "bold")
    if (mean := found.mean) is not None:
        verdict = "not told apart" if mean.p > ALPHA else "B is better" if mean.difference > 0 else "B is worse"
        ends = f"{_signed(mean.difference)} [{_signed(mean.ci_low)}, {_signed(mean.ci_high)}]"
        said = f"mean of {len(found.mean_tasks)} tasks, 0 at chance and 1 at best: B - A {ends}, {_p_equals(mean.p)}"
        yield from wrapped_lines(f"{said}: {verdict}", width)
    for task in found.tasks:
        yield ""
        yield from _task_lines(task, width)
    yield from _cost_lines(found, width)
    for notice in found.notices:
        yield from wrapped_lines(f"! {notice}", width, "yellow")
    if items:
        for task in found.tasks:
            yield from _items_lines(task, width, colored)


def summary(found: Comparison) -> str:
    """B against A in a sentence: where it is better, where worse, and where nothing tells."""
    said: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
    for task in found.tasks:
        for metric in task.metrics:
            if metric.primary:
                several = sum(one.primary for one in task.metrics) > 1
                name = f"{task.name}/{metric.name}" if several else task.name
                said[metric.verdict].append(f"{visible(name)} ({_signed(metric.pair.difference)})")
    parts = [f"{verdict} on {', '.join(names)}" for verdict, names in said.items() if names and verdict in _COLORS]
    apart = said["not told apart"]
    if not parts:
        return f"A and B are not told apart on {', '.join(apart)}."
    return f"B is {'; '.join(parts)}" + (f"; not told apart on {', '.join(apart)}" if apart else "") + "."


def gate_lines(found: Comparison, width: int) -> Iterator[str]:
    """What `--fail-if worse` came to, and why."""
    by_more = f" by more than {found.margin:g}" if found.margin and found.gate == "not worse" else ""
    color = {"worse": "red", "inconclusive": "yellow"}.get(found.gate, "green")
    yield from wrapped_lines(f"gate: {found.gate}{by_more}", width, color)
    for task in found.tasks:
        for metric in task.metrics:
            if metric.primary and metric.gate != "not worse":
                yield from wrapped_lines(f"{visible(task.name)}: {_why(metric, found.margin)}", width, None, _INDENT)


def _why(metric: ComparedMetric, margin: float) -> str:
    if not metric.tested:
        return "no test: one of the runs was stopped by another comparison"
    low, high = metric.gain_ends
    if metric.gate == "worse":
        p = "" if metric.adjusted_p is None else f", {_p_equals(metric.adjusted_p)} after Holm"
        return f"B is worse by {number(-metric.gain)} ({number(max(0.0, -high))} to {number(-low)}{p})"
    said = f"B isn't told worse, but may be by up to {number(-low)}"
    if not margin:
        return f"{said}; --margin says which loss doesn't count"
    needed = items_for_margin(metric, margin)
    more = (
        f"; if both are as good, about {needed:,} items rule out {margin:g}"
        if needed and needed > metric.pair.n
        else ""
    )
    return f"{said}, more than {margin:g}{more}"


def _task_lines(task: ComparedTask, width: int) -> Iterator[str]:
    head = visible(task.name) + (f" ({', '.join(map(visible, task.badges))})" if task.badges else "")
    yield paint(shortened(head, width), "bold")
    for metric in task.metrics:
        if metric.primary:
            yield from _metric_lines(task, metric, width)
    others = [metric for metric in task.metrics if not metric.primary]
    rows = [
        [
            Cell(_INDENT + metric.name + ("" if metric.higher_is_better else " (lower)")),
            Cell(number(metric.a)),
            Cell(number(metric.b)),
            Cell(_difference(metric)),
            Cell(_p(metric.pair.p) if metric.tested else ""),
            Cell(_SHORT.get(metric.verdict, ""), _COLORS.get(metric.verdict)),
        ]
        for metric in others
    ]
    head_cells = [f"{_INDENT}other metrics", "A", "B", "B - A", "p", ""]
    if others and sum(widths_of(head_cells, rows)) + len(GAP) * len(head_cells) <= width:
        for line in table_lines(head_cells, rows, right=("A", "B", "p")):
            yield line.rstrip()
    else:
        for metric in others:
            said = f"{visible(metric.name)}: A {number(metric.a)}, B {number(metric.b)}, B - A {_difference(metric)}"
            tested = f", {_p_equals(metric.pair.p)}" if metric.tested else ""
            yield from wrapped_lines(said + tested, width, None, _INDENT)
    for one in task.differs:
        told = f": {one.a} in A, {one.b} in B" if one.a or one.b else ""
        yield from wrapped_lines(f"differs: {one.what}{told}", width, "yellow" if one.matters else "dim", _INDENT)
    for note in task.notes:
        yield from wrapped_lines(f"! {note}", width, "yellow", _INDENT)


def _metric_lines(task: ComparedTask, metric: ComparedMetric, width: int) -> Iterator[str]:
    lower = "" if metric.higher_is_better else ", lower is better"
    scores = f"A {number(metric.a)}, B {number(metric.b)}"
    yield from wrapped_lines(f"{visible(metric.name)}, {metric.pair.n:,} items{lower}: {scores}", width, None, _INDENT)
    verdict = {"better": "B is better", "worse": "B is worse"}.get(metric.verdict, "not told apart")
    said = f"B - A {_difference(metric)}"
    if metric.tested:
        said += f", {_p_equals(metric.pair.p)}: {verdict}"
    yield from wrapped_lines(said, width, _COLORS.get(metric.verdict), _INDENT)
    if metric.pair.detectable is not None:
        least = f"{metric.pair.n:,} items show a difference of {number(metric.pair.detectable)} or more, 4 times in 5"
        yield from wrapped_lines(least, width, "dim", _INDENT)
    found = task.items
    if found.binary:
        told = f"only B right {metric.pair.wins:,}, only A right {metric.pair.losses:,}"
        yield from wrapped_lines(f"{told}, both {found.both:,}, neither {found.neither:,}", width, None, _INDENT)
    else:
        told = f"B is better on {metric.pair.wins:,} items, A on {metric.pair.losses:,}, equal on {metric.pair.ties:,}"
        yield from wrapped_lines(told, width, None, _INDENT)


def _cost_lines(found: Comparison, width: int) -> Iterator[str]:
    if not found.costs:
        return
    rows = []
    apart: dict[str, list[str]] = {}
    for cost in found.costs:
        amounts = [Cell(cost.form(amount) if amount is not None else "-") for amount in (cost.a, cost.b)]
        rows.append([Cell(cost.label), *amounts, Cell("" if cost.ratio is None else f"\u00d7{_ratio(cost.ratio)}")])
        if cost.apart:
            apart.setdefault(cost.apart, []).append(cost.label)
    yield ""
    for line in table_lines(["cost", "A", "B", "B / A"], rows, right=("A", "B", "B / A")):
        yield line.rstrip()
    for why, labels in apart.items():
        yield from wrapped_lines(f"not comparable: {', '.join(labels)} ({why})", width, "dim")


def _items_lines(task: ComparedTask, width: int, colored: bool) -> Iterator[str]:
    primary = next((metric for metric in task.metrics if metric.primary), None)
    if primary is None:
        return
    if task.items.fault:
        yield ""
        yield from wrapped_lines(f"{visible(task.name)}: {task.items.fault}", width, "dim")
        return
    for item in task.items.shown:
        yield ""
        yield from _item_lines(task, primary, item, width, colored)
    left = primary.pair.wins + primary.pair.losses - len(task.items.shown)
    if task.items.shown and left > 0:
        yield ""
        yield from wrapped_lines(
            f"{visible(task.name)}: {left:,} more items differ; --items N shows more", width, "dim"
        )


def _item_lines(
    task: ComparedTask, metric: ComparedMetric, item: DifferingItem, width: int, colored: bool
) -> Iterator[str]:
    yield paint(shortened(f"{visible(task.name)}, item {visible(item.item_id)}", width), "bold")
    asked = " ".join(item.a.prompt[-4 * PROMPT_CHARS :].split())
    if len(asked) > PROMPT_CHARS or len(item.a.prompt) > 4 * PROMPT_CHARS:
        asked = "\u2026 " + asked[-PROMPT_CHARS:]
    yield from wrapped_lines(f"asked:  {visible(asked)}", width, "dim")
    target = " ".join(item.target[: 2 * PROMPT_CHARS].split())
    yield from wrapped_lines(f"target: {visible(shortened(target, 2 * PROMPT_CHARS))}", width, "dim")
    for which, side, color in (("A", item.a, "yellow"), ("B", item.b, "cyan")):
        told = f" ({'; '.join(map(visible, side.told))})" if side.told else ""
        yield from wrapped_lines(f"{which}: {visible(metric.name)} {number(side.score)}{told}", width, color)
    first, second = excerpts(item.a.output, item.b.output, CHARS_SHOWN)
    if first == second:
        yield from wrapped_lines(visible(" ".join(first.split())) or "(both wrote nothing)", width)
        return
    yield from beside(first, second, width, colored=colored)


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 99.5 else f"{value:,.0f}"


def _difference(metric: ComparedMetric) -> str:
    pair = metric.pair
    if not metric.tested:
        return _signed(pair.difference)
    return f"{_signed(pair.difference)} [{_signed(pair.ci_low)}, {_signed(pair.ci_high)}]"


def _signed(value: float) -> str:
    shown = number(value)
    return shown.lstrip("-") if not float(shown) else shown if shown.startswith("-") else f"+{shown}"


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.0001 else "<0.0001"


def _p_equals(value: float) -> str:
    return f"p = {_p(value)}".replace("= <", "< ")


def wrapped_lines(text: str, width: int, color: str | None = None, indent: str = "") -> Iterator[str]:
    """A text in painted lines of at most width cells."""
    for line in wrapped(text, max(20, width - len(indent))):
        yield indent + (paint(line, color) if color else visible(line))
