"""TIES on the cores of adapters: signs are elected among directions instead of among single weights."""

from __future__ import annotations

from collections.abc import Sequence

from slmbench.merging.lora import Factors, core_of, truncate
from slmbench.merging.methods.ties import ties
from slmbench.registry import merge_method


@merge_method(
    "core_ties",
    summary="TIES on the small matrices that are left of adapters in the space that they span together.",
    version="1",
    space="adapters",
    experimental=True,
    ranges={"density": "(0, 1]"},
)
def core_ties(
    tensors: Sequence[Factors],
    base: None,
    weights: Sequence[float],
    *,
    density: float = 0.2,
    lambda_: float = 1.0,
    normalize: bool = True,
) -> tuple[Factors, dict[str, float]]:
    """U ties(M_1, ..., M_T) V^T with M_i = U^T (s_i B_i A_i) V, for `ties` of the method of that name.

    U, V: left singular vectors of [B_1 ... B_T], right ones of [A_1; ...; A_T], each adapter's factors first balanced
    (both times the root of its singular values), so that the result depends on the changes alone and not on how they
    are split. TIES isn't free of bases: this is another method than `ties`, at the sum of the ranks at most. density,
    lambda, normalize: as of `ties`. Source: Panariello et al. 2025, Core Space, arXiv:2509.17786, section 4, whose
    factors are taken as they are.
    """
    import torch

    balanced = truncate({str(index): one for index, one in enumerate(tensors)}, "full")
    left, right, cores = core_of([one for one, _ in balanced.values()])
    zeros = torch.zeros(cores[0].shape)
    merged, facts = ties(cores, zeros, weights, density=density, lambda_=lambda_, normalize=normalize)
    a = merged.double() @ right.mT
    return Factors(a.float(), left.float(), 1.0, tensors[0].kind), facts
