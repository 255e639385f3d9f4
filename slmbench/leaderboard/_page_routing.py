"""Routers on the page: where items of each task went, as a table whose cells are shaded, and what that cost."""

from __future__ import annotations

from collections.abc import Iterable

from slmbench.leaderboard._records import ScoredRun
from slmbench.leaderboard._routes import RoutedTask, Routing, routings
from slmbench.leaderboard.texts import number, percent
from slmbench.values import Estimate, JsonObject

_NONE = "\u2014"
_SHADES = 10


def routing_views(runs: Iterable[ScoredRun]) -> list[JsonObject]:
    """What routing.html.j2 draws, of each router."""
    return [_view(one) for one in routings(runs)]


def choices_among(runs: Iterable[ScoredRun]) -> list[str]:
    """What stands in an adapter's place where each item had its own."""
    adapters = [run.record.get("adapter") or {} for run in runs]
    return sorted({one["name"] for one in adapters if one.get("choices") is not None})


def _view(one: Routing) -> JsonObject:
    weighed = any(task.regret is not None for task in one.tasks)
    told = [
        ("Accuracy", _share(one.accuracy), "of the items of tasks with an adapter went to it"),
        ("Regret", _shown(one.regret), _meaning(one.regret)),
        ("False routes", _share(one.false_routes), "of the items of tasks without an adapter went to one"),
        ("Cost", _NONE if one.ms is None else f"{one.ms:.1f} ms", "to route a request, one after another"),
    ]
    return {
        "name": one.name,
        "remark": one.remark,
        "told": [(term, f"{value} {of}") for term, value, of in told if value != _NONE],
        "heads": ["Task", *one.columns, *(["Regret"] if weighed else [])],
        "rows": [(task.task, _cells(task, one), _lost(task) if weighed else None) for task in one.tasks],
        "weighed": weighed,
        "judged": any(task.own is not None for task in one.tasks),
    }


def _meaning(regret: Estimate | None) -> str:
    """What a regret says, in words."""
    if regret is None:
        return ""
    sure = "" if regret.ci_low > 0 or regret.ci_high < 0 else "; it may as well be none"
    return f"is how much more an item would score on average with its task\u2019s own adapter{sure}"


def _cells(task: RoutedTask, one: Routing) -> list[tuple[int, str, str, bool]]:
    """(items, their share in words, the class that shades it, whether it is where they belong) of each column."""
    cells = []
    for name in one.columns:
        count = task.counts[name]
        share = count / task.n if task.n else 0.0
        cells.append((count, percent(share) if count else "0%", f"shade{round(share * _SHADES)}", name == task.own))
    return cells


def _lost(task: RoutedTask) -> tuple[str, str]:
    """(its regret, in which metric)."""
    return _shown(task.regret), "" if task.regret is None else task.metric


def _share(value: Estimate | None) -> str:
    if value is None:
        return _NONE
    return f"{value.value:.1%} [{value.ci_low:.1%}, {value.ci_high:.1%}]"


def _shown(value: Estimate | None) -> str:
    if value is None:
        return _NONE
    if value.method == "none":
        return number(value.value)
    return f"{number(value.value)} [{number(value.ci_low)}, {number(value.ci_high)}]"
