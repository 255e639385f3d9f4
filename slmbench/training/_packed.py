"""A stand-in for a linear layer that bitsandbytes packed: it takes as much memory, and computes nothing."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from slmbench.values import Model, Tensor

if TYPE_CHECKING:
    import torch
    from torch.autograd.function import FunctionCtx


def packed_linear(layer: Model, weight_bytes: int, compute: torch.dtype) -> Tensor:
    """A linear layer of the same shape whose weight is `weight_bytes` of uint8, unpacked to `compute` for a product."""
    import torch

    class PackedLinear(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return _function().apply(x, self.weight, self.bias, self.out_features, compute)

    made = PackedLinear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    made.weight = torch.nn.Parameter(torch.empty(weight_bytes, dtype=torch.uint8), requires_grad=False)
    if made.bias is not None:
        made.bias.requires_grad_(False)
    return made


@functools.cache
def _function() -> Tensor:
    import torch

    class Unpacked(torch.autograd.Function):
        """Keeps its packed weight alone for backward, and unpacks it there once more, as bitsandbytes does."""

        @staticmethod
        def forward(
            ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, out_features: int, compute: torch.dtype
        ) -> Tensor:
            ctx.shape, ctx.dtype = (out_features, x.shape[-1]), compute
            unpacked = torch.empty(ctx.shape, dtype=compute, device=x.device)
            return torch.nn.functional.linear(x.to(compute), unpacked, None if bias is None else bias.to(compute))

        @staticmethod
        def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, ...]:
            unpacked = torch.empty(ctx.shape, dtype=ctx.dtype, device=slope.device)
            return slope.to(ctx.dtype) @ unpacked, None, None, None, None

    return Unpacked
