"""Metrics of texts, choices and code, a file each: a function that `slmbench.registry.metric` marks."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from slmbench.headers import Header, own_headers
from slmbench.registry import Registry, marked

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
    if (own := own_scorer(name)) is not None:
        return own
    found = plugins.get("metric", name) if plugins is not None else None
    if found is None:
        from slmbench.errors import UsageError, did_you_mean

        known = [*metric_names(), *(plugins.names("metric") if plugins is not None else ())]
        raise UsageError(f"unknown metric {name!r}{did_you_mean(name, known)}")
    from slmbench.metrics._declared import scorer_of

    return scorer_of(found, task)


def load_metric(name: str) -> evaluate.Metric:
    """The metric of that name as an `evaluate.Metric`; needs no network. Raises UsageError for an unknown one."""
    from slmbench.metrics._evaluate import as_evaluate_metric

    return as_evaluate_metric(load_scorer(name))


def own_scorer(name: str) -> Scorer | None:
    """slmbench's own metric of that name, pass@k of any k included; None without one."""
    from slmbench.metrics.passing import scorer_named

    if (of_any_k := scorer_named(name)) is not None:
        return of_any_k
    header = next((header for header in metric_headers() if header.name == name), None)
    return None if header is None else _scorer_in(header)


@cache
def _module_entries(path: str) -> Registry:
    module = import_module(f"slmbench.metrics.{os.path.basename(path)[:-3]}")
    return Registry(marked(vars(module), path, module.__name__, plugin=False))


def _scorer_in(header: Header) -> Scorer:
    entry = _module_entries(header.path).find("metric", header.name)
    if entry.facts.get("factory"):  # It may depend on what is asked for now.
        made: Scorer = entry.function()
        return made
    return _scorer_of_own(header.path, header.name)


@cache
def _scorer_of_own(path: str, name: str) -> Scorer:
    from slmbench.metrics._declared import scorer_of

    return scorer_of(_module_entries(path).find("metric", name))


def __getattr__(name: str) -> object:
    # Reading the names must not import attrs.
    if name == "Scorer":
        from slmbench.metrics._scorer import Scorer

        return Scorer
    if name == "pass_at_k":
        from slmbench.metrics.passing import pass_at_k

        return pass_at_k
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
