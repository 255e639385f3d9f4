"""The weighted average of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmbench.merging.methods._pieces import like, pieces
from slmbench.merging.methods._shares import shares
from slmbench.registry import merge_method

if TYPE_CHECKING:
    from torch import Tensor


@merge_method(
    "linear", summary="The weighted average of the weights themselves.", version="1", linear=True, average=True
)
def linear(
    tensors: Sequence[Tensor], base: Tensor | None, weights: Sequence[float], *, normalize: bool = True
) -> Tensor:
    """sum_i w_i theta_i / sum_i w_i, of which base is no part.

    normalize: divide by the sum of the weights. Without it, weights whose sum isn't 1 make all weights of the model
    larger or smaller. Raises UsageError for weights that sum to 0, relative to their sizes. Source: Wortsman et al.
    2022, Model soups, arXiv:2203.05482; Matena and Raffel 2022, arXiv:2111.09832, section 2.
    """
    factors = shares(weights) if normalize else weights
    import torch

    merged, flat = like(tensors[0])
    # NaN and infinity stay in a sum, whatever the weight, so that a finite result tells that all inputs were.
    for piece in pieces(tensors, looked_at=False):
        part = torch.mul(piece.tensors[0], factors[0], out=flat[piece.at])
        for factor, tensor in zip(factors[1:], piece.tensors[1:], strict=True):
            part.add_(tensor, alpha=factor)
        if not torch.isfinite(part.sum()):
            piece.look_at()
    return merged
