"""Drop and rescale, then add: task arithmetic of changes of which a random part is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from slmbench.merging.methods._dropped import Dropped, Rescale
from slmbench.merging.methods._pieces import like
from slmbench.registry import merge_method

if TYPE_CHECKING:
    from torch import Generator, Tensor


@merge_method(
    "dare_linear",
    summary="The base plus lambda times the weighted sum of changes that were dropped at random and rescaled.",
    version="1",
    needs_base=True,
    ranges={"density": "(0, 1]"},
)
def dare_linear(
    tensors: Sequence[Tensor],
    base: Tensor,
    weights: Sequence[float],
    *,
    density: float | Sequence[float] = 0.5,
    lambda_: float = 1.0,
    rescale: Rescale = "inverse_density",
    generator: Callable[[int], Generator],
) -> tuple[Tensor, dict[str, float]]:
    """theta_0 + lambda sum_i w_i r_i m_i (theta_i - theta_0), where m_i is 1 with a probability of `density`, else 0.

    density: one for all, or one of each model. 0.5, because of what is kept each number is off by its own size times
    sqrt(1 / density - 1), as much as it is large at 0.5 and three times as much at the paper's 0.1, which it shows for
    models of 7B and more. rescale: `inverse_density` is the paper's r = 1 / density, by which the expected sum stays;
    `l1` makes the tensor's sum of sizes what it was before, as mergekit does, which is another r where few numbers are
    large. Results differ by seed: report three. Facts: density, the share that was kept. Source: Yu et al. 2024,
    Language models are super Mario, arXiv:2311.03099, section 3.2.
    """
    dropped = Dropped(tensors, base, density, rescale, generator)
    merged, flat = like(base)
    for piece, (total, *others) in dropped.pieces():
        total *= lambda_ * weights[0]
        for change, weight in zip(others, weights[1:], strict=True):
            total.add_(change, alpha=lambda_ * weight)
        flat[piece.at] = total.add_(piece.base)
    return merged, {"density": dropped.share}
