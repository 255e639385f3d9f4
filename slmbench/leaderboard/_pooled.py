"""Metrics that are not a mean over items: who pools them, and what each item adds to them."""

from __future__ import annotations

from slmbench.catalog import Catalog
from slmbench.metrics import Scorer, own_scorer
from slmbench.runs import Pool, VerifiedScores, pooling
from slmbench.statistics.estimate import jackknife
from slmbench.task import load_task
from slmbench.values import Estimate, JsonObject


def pool_of(scorer: str, record: JsonObject, catalog: Catalog | None = None) -> Pool:
    """The pool of a scorer: slmbench's own, or of the plugin that brings it to a run's task in a catalog.

    Raises ValueError, SlmbenchError if there is none.
    """
    found = (own_scorer(scorer) or _of_plugin(scorer, record, catalog)).pool
    if found is None:
        raise ValueError(f"metric {scorer!r} is not pooled")
    return found


def pooled(
    read: VerifiedScores, record: JsonObject, catalog: Catalog | None = None
) -> tuple[dict[str, Estimate], dict[str, dict[str, float]]]:
    """Value name -> its estimate, and -> item id -> jackknife pseudo-value, of the pooled metrics of a run.

    Pseudo-values stand in for scores where two runs are compared item by item: their mean is the bias-corrected value.
    Raises ValueError if a value can't be had, or is not finite, without one of the items.
    """
    estimates: dict[str, Estimate] = {}
    pseudo: dict[str, dict[str, float]] = {}
    recorded = {metric.name for metric in read.metrics}
    for scorer, parts in read.parts.items():
        with pooling(scorer):
            pool = pool_of(scorer, record, catalog)
            found, by_item = jackknife(pool, list(parts.values()), [read.clusters[item] for item in parts])
        for name in found.keys() & recorded:
            estimates[name], pseudo[name] = found[name], dict(zip(parts, by_item[name], strict=True))
    return estimates, pseudo


def _of_plugin(name: str, record: JsonObject, catalog: Catalog | None) -> Scorer:
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
