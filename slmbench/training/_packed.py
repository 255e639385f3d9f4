"""Stand-ins for linear layers that bitsandbytes packed: they take as much memory, and compute nothing."""

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


def eight_bit_linear(layer: Model) -> Tensor:
    """A linear layer of the same shape whose weight is of int8, and which is multiplied as bitsandbytes does it."""
    import torch

    class EightBitLinear(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return _eight_bits().apply(x, self.weight, self.bias)

    made = EightBitLinear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    size = (layer.out_features, layer.in_features)
    made.weight = torch.nn.Parameter(torch.empty(size, dtype=torch.int8), requires_grad=False)
    if made.bias is not None:
        made.bias.requires_grad_(False)
    return made


@functools.cache
def _eight_bits() -> Tensor:
    import torch

    class EightBits(torch.autograd.Function):
        """Inputs are cast to float16 and counted in int8, products in int32; backward unpacks the weight."""

        @staticmethod
        def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            ctx.save_for_backward(x, weight)
            rows = x.reshape(-1, x.shape[-1])
            counted = torch.round(rows.to(torch.float16) * 127.0).to(torch.int8)
            whole = torch.empty((len(rows), len(weight)), dtype=torch.int32, device=x.device)
            scales = torch.empty((len(rows), 1), device=x.device), torch.empty((1, len(weight)), device=x.device)
            made = whole * (scales[0] * scales[1]) * 1.0
            del counted, whole
            return made.to(x.dtype).view(*x.shape[:-1], -1)

        @staticmethod
        def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, ...]:
            x, weight = ctx.saved_tensors
            return slope.to(x.dtype) @ weight.to(x.dtype, copy=True).mul_(1.0), None, None

    return EightBits


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
