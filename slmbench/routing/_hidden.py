"""What the heads on hidden states share: the layer, and each number's mean and spread over the rows that they see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.routing._heads import Arrays, Features, MisfitArrays
from slmbench.values import Array


def layer_of(base: Features) -> int:
    """The layer whose states are read: a quarter of the way up, rounded up.

    Of SmolLM2-135M's 30 layers, 8 told five real sets apart best (0.994; from 4 on all 0.98 or more), and the layers
    above need not be computed.
    """
    return -(-base.layers // 4)


def vectors(base: Features | None, texts: Sequence[str], layer: int) -> Array:
    """(texts, width), float32. Raises UsageError without a base, MisfitArrays if it has no such layer."""
    if base is None:
        raise UsageError("this head reads hidden states: give the base")
    if layer > base.layers:
        raise MisfitArrays(f"setting 'layer' is {layer}, and the base has {base.layers}")
    return base.means(texts, layer)


@frozen(eq=False)
class Scaling:
    """mean, spread: (width,), float32: a few numbers of a hidden state are a hundred times as large as the others."""

    mean: Array
    spread: Array

    @classmethod
    def of(cls, found: Array) -> Self:
        spread = found.std(axis=0)
        spread[spread == 0] = 1
        return cls(found.mean(axis=0), spread)

    def apply(self, found: Array) -> Array:
        return (found - self.mean) / self.spread

    @property
    def arrays(self) -> Arrays:
        return {"mean": self.mean, "spread": self.spread}
