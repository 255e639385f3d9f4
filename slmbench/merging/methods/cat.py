"""Factors side by side: the weighted sum of changes, exactly, at the sum of the ranks."""

from __future__ import annotations

from collections.abc import Sequence

from slmbench.merging.lora import Factors, stacked
from slmbench.registry import merge_method


@merge_method(
    "cat",
    summary="Adapters side by side: the weighted sum of their changes, exact, of the sum of their ranks.",
    version="1",
    space="adapters",
)
def cat(tensors: Sequence[Factors], base: None, weights: Sequence[float]) -> Factors:
    """sum_i w_i s_i B_i A_i = [w_1 s_1 B_1 ... w_T s_T B_T] [A_1; ...; A_T].

    tensors: the factors of one module. weights: of each; none of them is divided by their sum. Source: peft's
    `add_weighted_adapter(combination_type="cat")`.
    """
    return stacked(tensors, weights)
