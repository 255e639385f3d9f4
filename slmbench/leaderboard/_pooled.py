"""Pooled metrics of a run read back: their values from its items' parts, and what each item adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmbench.catalog import Catalog
from slmbench.errors import SlmbenchError
from slmbench.metrics import Scorer, own_scorer
from slmbench.statistics.estimate import jackknife
from slmbench.task import load_task
from slmbench.values import Estimate


def pooled_values(
    scorer_name: str,
    parts: Mapping[str, object],
    clusters: Mapping[str, str | None],
    record: Mapping[str, object],
    catalog: Catalog | None = None,
) -> dict[str, tuple[Estimate, dict[str, float]]]:
    """Value name -> (the run's estimate, item id -> jackknife pseudo-value).

    Pseudo-values stand in for scores where two runs are compared item by item: their mean is the bias-corrected value.
    parts: item id -> what the item adds. record: the run's, which names the task that a plugin's metric is of, and
    catalog knows that task.
    Raises ValueError if they aren't what the metric wrote.
    """
    try:
        scorer = own_scorer(scorer_name) or _of_plugin(scorer_name, record, catalog)
        if scorer.pool is None:
            raise ValueError(f"metric {scorer_name!r} is not pooled")
        estimates, pseudo = jackknife(scorer.pool, list(parts.values()), [clusters.get(item) for item in parts])
    except SlmbenchError as error:
        raise ValueError(str(error)) from error
    except (TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"its parts are not what {scorer_name!r} writes: {type(error).__name__} {error}") from error
    return {name: (found, dict(zip(parts, pseudo[name], strict=True))) for name, found in estimates.items()}


def _of_plugin(name: str, record: Mapping[str, Any], catalog: Catalog | None) -> Scorer:
    """The scorer of a metric that a plugin brings, as it was when the run was made. Raises ValueError."""
    task, told = record["task"]["id"], record.get("scorer") or {}
    scorers = load_task(task, catalog).scorers
    found = next((scorer for scorer in scorers if scorer.name == name), None)
    if found is None:
        raise ValueError(f"a plugin brought it, and task {task!r} here doesn't")
    versions = dict(zip(str(told.get("id")).split("+"), str(told.get("version")).split("+"), strict=False))
    if versions.get(name) != found.version:
        raise ValueError(f"its plugin has changed: it was version {versions.get(name)}, and is {found.version} here")
    return found
