"""The base and the weighted sum of what each model changed of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmbench.merging.methods._pieces import like, pieces
from slmbench.merging.methods._shares import shares
from slmbench.registry import merge_method

if TYPE_CHECKING:
    from torch import Tensor


@merge_method(
    "task_arithmetic",
    summary="The base plus lambda times the weighted sum of all changes.",
    version="1",
    needs_base=True,
    linear=True,
    average=True,
)
def task_arithmetic(
    tensors: Sequence[Tensor], base: Tensor, weights: Sequence[float], *, lambda_: float = 1.0, normalize: bool = False
) -> Tensor:
    """theta_0 + lambda sum_i w_i (theta_i - theta_0).

    lambda: of 1 and weights of 1, one model comes out as it is; of several the best is often 0.3 to 0.7 and is worth a
    search. normalize: divide by the sum of the weights, which makes of lambda 1 the average. Source: Ilharco et al.
    2023, Editing models with task arithmetic, arXiv:2212.04089, section 2.
    """
    factors = [lambda_ * weight for weight in (shares(weights) if normalize else weights)]
    merged, flat = like(base)
    import torch

    # As of `linear`, a finite result tells that all inputs were.
    for piece in pieces(tensors, base, looked_at=False):
        total, *others = piece.changes()
        total *= factors[0]
        for factor, change in zip(factors[1:], others, strict=True):
            total.add_(change, alpha=factor)
        flat[piece.at] = total.add_(piece.base)
        if not torch.isfinite(total.sum()):
            piece.look_at()
    return merged
