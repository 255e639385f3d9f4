"""Weights as shares of one, and values that may differ by model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slmbench.errors import UsageError

_NEARLY = 1e-6


def shares(weights: Sequence[float]) -> list[float]:
    """The weights over their sum. Raises UsageError for a sum that is 0 but for rounding, of weights of any size."""
    total = math.fsum(weights)
    if abs(total) <= _NEARLY * math.fsum(map(abs, weights)):
        raise UsageError(
            f"the weights {', '.join(f'{weight:g}' for weight in weights)} sum to 0; an average needs others"
        )
    return [weight / total for weight in weights]


def each(value: float | Sequence[float], count: int, what: str) -> list[float]:
    """One value for each of so many models, of one for all or a list. Raises UsageError for a list of other length."""
    values = [value] * count if isinstance(value, int | float) else list(value)
    if len(values) != count:
        raise UsageError(f"{what} has {len(values)} values for {count} models")
    return values
