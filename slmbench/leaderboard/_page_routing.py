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


def _view(one: Routing) -> JsonObject:
    told = [
        ("Accuracy", _share(one.accuracy), "of items whose task has an adapter"),
        ("Regret", _shown(one.regret), "the oracle's score less the router's, paired by item"),
        ("False routes", _share(one.false_routes), "of items whose task has no adapter"),
    ]
    return {
        "name": one.name,
        "remark": one.remark,
        "told": [(term, f"{value} {of}") for term, value, of in told if value != _NONE],
        "heads": ["Task", *one.columns, "Regret"],
        "rows": [(task.task, _cells(task, one), _shown(task.regret)) for task in one.tasks],
        "judged": any(task.own is not None for task in one.tasks),
    }


def _cells(task: RoutedTask, one: Routing) -> list[tuple[int, str, str, bool]]:
    """(items, their share in words, the class that shades it, whether it is where they belong) of each column."""
    cells = []
    for name in one.columns:
        count = task.counts[name]
        share = count / task.n if task.n else 0.0
        cells.append((count, percent(share) if count else "0%", f"shade{round(share * _SHADES)}", name == task.own))
    return cells


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
