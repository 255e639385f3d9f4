"""Pooled metrics of a run read back: their values from its items' parts, and what each item adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slmbench.errors import SlmbenchError
from slmbench.metrics import load_scorer
from slmbench.statistics.estimate import jackknife
from slmbench.values import Estimate


def pooled_values(
    scorer_name: str, parts: Mapping[str, Any], clusters: Mapping[str, str | None]
) -> dict[str, tuple[Estimate, dict[str, float]]]:
    """Value name -> (the run's estimate, item id -> jackknife pseudo-value).

    Pseudo-values stand in for scores where two runs are compared item by item: their mean is the bias-corrected value.
    parts: item id -> what the item adds. Raises ValueError where they aren't what the metric wrote.
    """
    try:
        scorer = load_scorer(scorer_name)
        if scorer.pool is None:
            raise ValueError(f"metric {scorer_name!r} is not pooled")
        estimates, pseudo = jackknife(scorer.pool, list(parts.values()), [clusters.get(item) for item in parts])
    except SlmbenchError as error:
        raise ValueError(str(error)) from error
    except (TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"its parts are not what {scorer_name!r} writes: {type(error).__name__} {error}") from error
    return {name: (found, dict(zip(parts, pseudo[name], strict=True))) for name, found in estimates.items()}
