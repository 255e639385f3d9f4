"""Trim, elect signs, merge: changes without those that are small or that most others contradict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmbench.merging.methods._election import Election
from slmbench.merging.methods._pieces import largest, like, pieces
from slmbench.merging.methods._shares import each
from slmbench.registry import merge_method

if TYPE_CHECKING:
    from torch import Tensor


@merge_method(
    "ties",
    summary="Each model's largest changes, of which those count that agree with the majority's sign.",
    version="1",
    needs_base=True,
    ranges={"density": "(0, 1]"},
)
def ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    weights: Sequence[float],
    *,
    density: float | Sequence[float] = 0.2,
    lambda_: float = 1.0,
    normalize: bool = True,
) -> tuple[Tensor, dict[str, float]]:
    """theta_0 + lambda sum_A w_i d_i / sum_A |w_i|, where A are the models that agree at a number.

    d_i: of theta_i - theta_0 the k = max(1, floor(density n)) largest in size, the others 0; of several of one size at
    the border, those that come first. The sign of sum_i w_i d_i is elected, a sum of 0 as positive, and w_i d_i agrees
    if it has that sign. normalize: divide by the sum of the agreeing weights' sizes; without it they are added up.

    density: one for all, or one of each model. 0.2 and a lambda of 1 are the paper's recipe without a validation split.
    Facts: density, the share that was kept; sign_conflicts, the share of numbers that two models push apart, of those
    that any changes. Source: Yadav et al. 2023, TIES-Merging, arXiv:2306.01708, section 4.
    """
    election = Election()
    n = base.numel()
    kept = [max(1, int(share * n)) for share in each(density, len(tensors), "density")]
    cuts = [_Cut(*largest(one, base, k)) if k < n else None for one, k in zip(tensors, kept, strict=True)]
    merged, flat = like(base)
    for piece in pieces(tensors, base):
        whole = zip(cuts, piece.changes(), strict=True)
        changes = [change if cut is None else cut.trim(change) for cut, change in whole]
        total = election.elect(changes, weights, mean=normalize)
        flat[piece.at] = total.mul_(lambda_).add_(piece.base)
    return merged, {"density": sum(kept) / (n * len(kept)), "sign_conflicts": election.share}


class _Cut:
    """What is kept of a model's changes, as pieces of it come by in order: all above a size, some of that size."""

    def __init__(self, size: float, equals: int, there: int) -> None:
        self.size, self.equals, self.all = size, equals, equals == there

    def trim(self, change: Tensor) -> Tensor:
        import torch

        if self.all or not self.size:
            # What is above the float32 before it.
            below = torch.nextafter(torch.tensor(self.size), torch.tensor(0.0))
            return torch.nn.functional.hardshrink(change, float(below))
        sizes = change.abs()
        same = sizes == self.size
        found = int(same.sum())
        if found > self.equals:  # The first ones of them stay.
            same &= same.cumsum(0) <= self.equals
            found = self.equals
        self.equals -= found
        return change.mul_((sizes > self.size).logical_or_(same))
