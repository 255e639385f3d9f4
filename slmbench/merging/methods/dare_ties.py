"""Drop and rescale, then elect signs and merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from slmbench.merging.methods._dropped import Dropped, Rescale
from slmbench.merging.methods._election import Election
from slmbench.merging.methods._pieces import like
from slmbench.registry import merge_method

if TYPE_CHECKING:
    from torch import Generator, Tensor


@merge_method(
    "dare_ties",
    summary="Changes dropped at random and rescaled, of which those count that agree with the majority's sign.",
    version="1",
    needs_base=True,
    ranges={"density": "(0, 1]"},
)
def dare_ties(
    tensors: Sequence[Tensor],
    base: Tensor,
    weights: Sequence[float],
    *,
    density: float | Sequence[float] = 0.5,
    lambda_: float = 1.0,
    normalize: bool = True,
    rescale: Rescale = "inverse_density",
    generator: Callable[[int], Generator],
) -> tuple[Tensor, dict[str, float]]:
    """As `ties`, with d_i that are dropped at random and rescaled as in `dare_linear`, in place of the largest.

    normalize: divide by the sum of the agreeing weights' sizes, as TIES does; mergekit's default is to add up. density,
    rescale and seeds: see `dare_linear`. Facts: density, the share that was kept; sign_conflicts, the share of numbers
    that two models push apart, of those that any changes. Source: Yu et al. 2024, arXiv:2311.03099;
    Yadav et al. 2023, arXiv:2306.01708, section 4.
    """
    dropped, election = Dropped(tensors, base, density, rescale, generator), Election()
    merged, flat = like(base)
    for piece, changes in dropped.pieces():
        total = election.elect(changes, weights, mean=normalize)
        flat[piece.at] = total.mul_(lambda_).add_(piece.base)
    return merged, {"density": dropped.share, "sign_conflicts": election.share}
