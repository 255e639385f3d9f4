"""A plan as lines for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from slmbench.cli._comparison import wrapped_lines
from slmbench.console import paint
from slmbench.console.columns import shortened
from slmbench.leaderboard.texts import duration, number, percent
from slmbench.statistics.planning import CORRELATION
from slmbench.visible import visible
from slmbench.workflow.plan import Planned, PlannedTask

_INDENT = "  "


def planned_lines(planned: Planned, width: int) -> Iterator[str]:
    """Painted lines of at most width cells."""
    yield paint(shortened(f"against: {visible(planned.against.name)}", width), "bold")
    yield from wrapped_lines(visible(planned.against.place), width, "dim", _INDENT * 2)
    for task in planned.tasks:
        yield ""
        yield paint(shortened(visible(task.task), width), "bold")
        yield from _task_lines(planned, task, width)
    yield ""
    if planned.seconds is not None and len(planned.tasks) > 1:
        yield from wrapped_lines(f"all of it: {duration(planned.seconds)} on that machine", width, "bold")
    tasks = ",".join(dict.fromkeys(visible(task.task) for task in planned.tasks))
    said = f"a larger difference shows sooner: `slmbench eval MODEL --tasks {tasks} --against RUN --until decided`"
    yield from wrapped_lines(f"{said} stops as soon as it is decided", width, "dim")
    for notice in planned.notices:
        yield from wrapped_lines(f"! {notice}", width, "yellow")


def _task_lines(planned: Planned, task: PlannedTask, width: int) -> Iterator[str]:
    detect, power = planned.plan.detect, planned.plan.power
    known = "all" if task.whole else "the first"
    said = f"{visible(task.metric)} {number(task.score)} on {known} {task.items:,} items"
    yield from wrapped_lines(said, width, None, _INDENT)
    needs = f"to find {detect:g} with {power:.0%} power: {task.needed:,} items{_time(task, task.needed)}"
    if task.enough:
        yield from wrapped_lines(needs, width, "green", _INDENT)
    else:
        more = ", more than there are" if task.whole else f", more than these {task.items:,}"
        yield from wrapped_lines(needs + more, width, "yellow", _INDENT)
    shows = "no difference at all" if task.shows is None else f"{number(task.shows)} or more"
    all_of_them = f"these {task.items:,} items{_time(task, task.items)}"
    yield from wrapped_lines(
        f"{all_of_them} find {detect:g} with {_power(task.power)} power, and {shows} with {power:.0%}",
        width,
        None,
        _INDENT,
    )
    yield from wrapped_lines(
        f"to say who is better on just these {task.items:,}: {task.of_set:,} of them{_time(task, task.of_set)}",
        width,
        "dim",
        _INDENT,
    )
    yield from wrapped_lines(_source(task), width, "dim", _INDENT)


def _source(task: PlannedTask) -> str:
    past, spread = task.past, task.past.spread
    amount = f"the difference of an item has a standard deviation of {number(spread.sd)}"
    form: Callable[[float], str] = number
    if spread.discordance is not None:
        amount, form = f"two models differ on {percent(spread.discordance)} of the items", percent
    how = f"assumed, for a correlation of {CORRELATION:g}: no other run here scores near it"
    if past.pairs and past.low is not None and past.high is not None:
        ends = f": {form(past.low)} to {form(past.high)}" if past.low != past.high else ""
        how = f"median of {past.pairs} pairs of past runs{ends}" if past.pairs > 1 else "one pair of past runs"
    design = f"; clusters make it {spread.design:.2f} times as many items" if spread.design > 1.005 else ""
    return f"{amount} ({how}){design}"


def _power(share: float) -> str:
    return "over 99%" if share > 0.99 else percent(share)


def _time(task: PlannedTask, items: int) -> str:
    seconds = task.seconds(items)
    return "" if seconds is None else f" ({duration(seconds)})"
