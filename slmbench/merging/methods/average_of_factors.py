"""The wrong baseline: A and B averaged apart, as many notebooks do it."""

from __future__ import annotations

from collections.abc import Sequence

from slmbench.errors import UsageError
from slmbench.merging.lora import Factors
from slmbench.registry import merge_method


@merge_method(
    "average_of_factors",
    summary="Wrong on purpose: averages A and B apart, whose product is no average of changes; a baseline.",
    version="1",
    needs_base=False,
    models=(1, None),
    experimental=False,
    space="adapters",
    linear=False,
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
            f"average_of_factors needs factors of one rank and no DoRA; got ranks {sorted(ranks)}; task_arithmetic and "
            "cat take any"
        )
    total = sum(weights)
    if not total:
        raise UsageError("average_of_factors: the weights sum to 0; give weights with another sum")
    shares = [weight / total for weight in weights]
    a = sum((share * one.a for share, one in zip(shares[1:], tensors[1:], strict=True)), start=shares[0] * tensors[0].a)
    b = sum((share * one.b for share, one in zip(shares[1:], tensors[1:], strict=True)), start=shares[0] * tensors[0].b)
    scaling = sum(share * one.scaling for share, one in zip(shares, tensors, strict=True))
    return Factors(a, b, scaling, tensors[0].kind)
