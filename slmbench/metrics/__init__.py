"""Metrics of texts, choices and code, each a `Scorer` and an `evaluate.Metric`; `names.py` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmbench.metrics.names import METRIC_SUMMARIES, k_of

if TYPE_CHECKING:
    import evaluate

    from slmbench.metrics._scorer import Scorer
    from slmbench.metrics.passing import pass_at_k

__all__ = ["METRIC_SUMMARIES", "Scorer", "load_metric", "load_scorer", "metric_names", "pass_at_k"]


def metric_names() -> tuple[str, ...]:
    """All names that `list` shows, sorted. `load_scorer` and `load_metric` also know pass@k of every k."""
    return tuple(sorted(METRIC_SUMMARIES))


def load_scorer(name: str) -> Scorer:
    """The scorer of that name; loads no weights. Raises UsageError for an unknown one, with the nearest."""
    from slmbench.errors import UsageError, did_you_mean

    k = k_of(name)
    if name not in METRIC_SUMMARIES and k is None:
        raise UsageError(f"unknown metric {name!r}{did_you_mean(name, METRIC_SUMMARIES)}")
    from slmbench.metrics import accuracy, bertscore, classes, codes, exact_match, passing, rouge, squad

    if k is not None:
        return passing.scorer(k)
    if name == "bertscore":
        return bertscore.scorer()
    modules = (accuracy, classes, codes, exact_match, rouge, squad)
    return next(scorer for module in modules for scorer in module.SCORERS if scorer.name == name)


def load_metric(name: str) -> evaluate.Metric:
    """The metric of that name as an `evaluate.Metric`; needs no network. Raises UsageError for an unknown one."""
    from slmbench.metrics._evaluate import as_evaluate_metric

    return as_evaluate_metric(load_scorer(name))


def __getattr__(name: str) -> object:
    # Reading the names must not import attrs.
    if name == "Scorer":
        from slmbench.metrics._scorer import Scorer

        return Scorer
    if name == "pass_at_k":
        from slmbench.metrics.passing import pass_at_k

        return pass_at_k
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
