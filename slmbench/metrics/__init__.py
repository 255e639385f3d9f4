"""Metrics: exact match, ROUGE and multiple-choice accuracy, each a `Scorer` and an `evaluate.Metric`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.metrics.names import METRIC_SUMMARIES

if TYPE_CHECKING:
    import evaluate

    from slmbench.metrics._scorer import Scorer

__all__ = ["METRIC_SUMMARIES", "Scorer", "load_metric", "load_scorer", "metric_names"]


def metric_names() -> tuple[str, ...]:
    """All names that `load_scorer` and `load_metric` know, sorted."""
    return tuple(sorted(METRIC_SUMMARIES))


def load_scorer(name: str) -> Scorer:
    """The scorer of that name. Raises UsageError for an unknown one, with the nearest."""
    from slmbench.errors import UsageError, did_you_mean

    if name not in METRIC_SUMMARIES:
        raise UsageError(f"unknown metric {name!r}{did_you_mean(name, METRIC_SUMMARIES)}")
    from slmbench.metrics import accuracy, exact_match, rouge

    scorers = (*accuracy.SCORERS, *exact_match.SCORERS, *rouge.SCORERS)
    return next(scorer for scorer in scorers if scorer.name == name)


def load_metric(name: str) -> evaluate.Metric:
    """The metric of that name as an `evaluate.Metric`; needs no network. Raises UsageError for an unknown one."""
    from slmbench.metrics._evaluate import as_evaluate_metric

    return as_evaluate_metric(load_scorer(name))


def __getattr__(name: str) -> object:
    # Reading the names must not import attrs.
    if name == "Scorer":
        from slmbench.metrics._scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
