"""Metrics of texts, choices and code, a file each: a function that `slmbench.registry.metric` marks."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from slmbench.headers import Header, own_headers
from slmbench.registry import Registered, Registry, find, own_entry

if TYPE_CHECKING:
    import evaluate

    from slmbench.metrics._scorer import Scorer
    from slmbench.metrics.passing import pass_at_k

__all__ = ["Scorer", "load_metric", "load_scorer", "metric_headers", "metric_names", "own_scorer", "pass_at_k"]


def metric_headers() -> tuple[Header, ...]:
    """slmbench's own metrics, by name: what `list` shows, read without importing one of them."""
    return own_headers("metric")


def metric_names() -> tuple[str, ...]:
    """All names that `list` shows, sorted. `load_scorer` and `load_metric` also know pass@k of every k."""
    return tuple(header.name for header in metric_headers())


def load_scorer(name: str, plugins: Registry | None = None, *, task: str = "") -> Scorer:
    """The scorer of that name; loads no weights. plugins: what else is known. task: named where a plugin's fails.

    Raises UsageError for an unknown one, with the nearest.
    """
    return own_scorer(name) or _made(find("metric", name, plugins), task)


def load_metric(name: str) -> evaluate.Metric:
    """The metric of that name as an `evaluate.Metric`; needs no network. Raises UsageError for an unknown one."""
    from slmbench.metrics._evaluate import as_evaluate_metric

    return as_evaluate_metric(load_scorer(name))


def own_scorer(name: str) -> Scorer | None:
    """slmbench's own metric of that name, pass@k of any k included; None without one."""
    from slmbench.metrics.passing import scorer_named

    entry = own_entry("metric", name)
    if entry is not None and entry.facts.get("factory"):  # It may depend on what is asked for now.
        return _made(entry)
    return scorer_named(name) or (None if entry is None else _of_own(name))


@cache
def _of_own(name: str) -> Scorer:
    return _made(find("metric", name))


def _made(entry: Registered, task: str = "") -> Scorer:
    from slmbench.metrics._declared import scorer_of

    return scorer_of(entry, task)


def __getattr__(name: str) -> object:
    # Reading the names must not import attrs.
    if name == "Scorer":
        from slmbench.metrics._scorer import Scorer

        return Scorer
    if name == "pass_at_k":
        from slmbench.metrics.passing import pass_at_k

        return pass_at_k
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
