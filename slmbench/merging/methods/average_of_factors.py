"""The wrong baseline: A and B averaged apart, as many notebooks do it."""

from __future__ import annotations

from collections.abc import Sequence

from slmbench.errors import UsageError
from slmbench.merging.lora import Factors
from slmbench.merging.methods._shares import shares
from slmbench.registry import merge_method


@merge_method(
    "average_of_factors",
    summary="Wrong on purpose: averages A and B apart, which is not an average of the changes; a baseline.",
    version="1",
    space="adapters",
    average=True,
)
def average_of_factors(tensors: Sequence[Factors], base: None, weights: Sequence[float]) -> Factors:
    """(sum w_i B_i / sum w) (sum w_i A_i / sum w), scaled by the average scaling.

    Of two equal weights that is a quarter of (B_1 + B_2)(A_1 + A_2): half of the two changes' average is missing, and
    products of one adapter's B with the other's A, which nobody trained, stand in its place. Raises UsageError for
    ranks that differ, where the notebooks fail too, for DoRA, and for weights that sum to zero.
    """
    ranks = {one.rank for one in tensors}
    if len(ranks) > 1 or any(one.magnitude is not None for one in tensors):
        raise UsageError(
            f"it needs factors of one rank and no DoRA; got ranks {sorted(ranks)}; task_arithmetic and cat take any"
        )
    parts = shares(weights)
    a = sum((part * one.a for part, one in zip(parts[1:], tensors[1:], strict=True)), start=parts[0] * tensors[0].a)
    b = sum((part * one.b for part, one in zip(parts[1:], tensors[1:], strict=True)), start=parts[0] * tensors[0].b)
    scaling = sum(part * one.scaling for part, one in zip(parts, tensors, strict=True))
    return Factors(a, b, scaling, tensors[0].kind)
