"""From scored items to a record's metrics: an estimate each, with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from slmbench.metrics import Scorer
from slmbench.runs import MetricPart
from slmbench.statistics.estimate import estimate, jackknife
from slmbench.values import Estimate, Example, JsonObject


def metric_parts(
    scorers: Iterable[Scorer], examples: Sequence[Example], items: Sequence[JsonObject]
) -> tuple[list[MetricPart], dict[str, list[float]]]:
    """(the metrics of a record, the items' pseudo-values of each pooled one), in the order of the scorers.

    items: one an example, with `cluster_id`, `scores` and, for pooled scorers, `parts`.
    """
    metrics: list[MetricPart] = []
    pseudo: dict[str, list[float]] = {}
    for scorer in scorers:
        guesses = [chance for example in examples if (chance := scorer.chance(example)) is not None]
        for name, found in _estimates(scorer, items, pseudo).items():
            metric = MetricPart(
                name=name,
                scorer=scorer.name,
                version=scorer.version,
                pooled=scorer.pooled,
                value=found.value,
                se=found.stderr,
                ci_lo=found.ci_low,
                ci_hi=found.ci_high,
                method=found.method,
                n=found.n,
                n_error=0,
                higher_is_better=scorer.higher_is_better,
                range=None if scorer.range is None else list(scorer.range),
                chance=sum(guesses) / len(guesses) if guesses else None,
                describes=scorer.describes,
            )
            metrics.append(metric)
    return metrics, pseudo


def _estimates(scorer: Scorer, items: Sequence[JsonObject], pseudo: dict[str, list[float]]) -> dict[str, Estimate]:
    """Value name -> its estimate; of a pooled scorer, the items' pseudo-values go to `pseudo`."""
    clusters = [item["cluster_id"] for item in items]
    if scorer.pooled:
        assert scorer.pool is not None
        found, by_item = jackknife(scorer.pool, [item["parts"][scorer.name] for item in items], clusters)
        pseudo |= by_item
        return found
    return {name: estimate([item["scores"][name] for item in items], clusters, scorer.range) for name in scorer.values}
