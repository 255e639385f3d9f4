"""Parts of a model's forward in fewer passes over memory: LoRA on a frozen product, RMS norm, gated activation.

Each does what the module's own forward does, with a backward of its own that knows what is frozen. A part that is not
as expected when it is called (merged, cast by autocast, trained weights, another dtype) takes its own forward.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from slmbench.values import JsonObject, Model, Tensor

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

# Read in transformers' code, and held by tests: weight * (x / rms(x)), in float32 inside; down(silu(gate) * up).
NORMS = frozenset(f"{family}RMSNorm" for family in ("Llama", "Qwen2", "Qwen3", "Phi3", "Mistral", "SmolLM3"))
GATED = frozenset(f"{family}MLP" for family in ("Llama", "Qwen2", "Qwen3", "Mistral", "SmolLM3"))

CACHED_BYTES = 1 << 18  # For each core, of each of the tensors that a part goes over several times.


def fuse_parts(model: Model) -> int:
    """Replaces the forward of a model's LoRA layers, norms and gated MLPs, in place; returns how many it replaced.

    Weights, names and what is saved stay as they are. A module with a device hook, or replaced before, is left alone.
    """
    import peft

    fused = 0
    for module in model.modules():
        forward: Callable[..., Any] | None = None
        if "forward" in vars(module) or hasattr(module, "_hf_hook"):
            continue
        kind = type(module)
        if kind is peft.tuners.lora.Linear:
            forward = _lora
        elif kind.__module__.startswith("transformers.models."):
            if kind.__name__ in NORMS:
                forward = _norm
            elif kind.__name__ in GATED and _is_silu(module):
                forward = _gated
            elif kind.__name__ == "Phi3MLP" and _is_silu(module, "activation_fn"):
                forward = _gated_phi3
        if forward is not None:
            module.forward = types.MethodType(forward, module)
            fused += 1
    return fused


def _is_silu(module: Model, name: str = "act_fn") -> bool:
    import torch

    act = getattr(module, name, None)
    return isinstance(act, torch.nn.SiLU) or type(act).__name__ == "SiLUActivation"


def _lora(self: Model, x: Tensor, *args: object, **options: object) -> Tensor:
    import torch

    names = self.active_adapters
    base = self.base_layer
    if (
        args
        or options
        or self.disable_adapters
        or self.merged
        or len(names) != 1
        or names[0] not in self.lora_A
        or names[0] in self.lora_variant
        or type(base) is not torch.nn.Linear
        or base.weight.requires_grad
        or (base.bias is not None and base.bias.requires_grad)
        or self.lora_A[names[0]].bias is not None
        or self.lora_B[names[0]].bias is not None
        or x.dtype != base.weight.dtype
        or x.dtype not in (torch.float32, torch.bfloat16)
        or _is_cast(x)
    ):
        return type(self).forward(self, x, *args, **options)
    name = names[0]
    dropped = self.lora_dropout[name](x)
    return _functions()["lora"].apply(
        x,
        None if dropped is x else dropped,
        base.weight,
        base.bias,
        self.lora_A[name].weight,
        self.lora_B[name].weight,
        self.scaling[name],
    )


def _norm(self: Model, x: Tensor) -> Tensor:
    weight = self.weight
    if weight.requires_grad or x.dtype != weight.dtype or _is_cast(x):
        return type(self).forward(self, x)
    return _functions()["norm"].apply(x, weight, self.variance_epsilon)


def _is_cast(x: Tensor) -> bool:
    """Whether autocast would turn products of x into another dtype than its own."""
    import torch

    device = x.device.type
    return bool(torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) != x.dtype)


def _gated(self: Model, x: Tensor) -> Tensor:
    return self.down_proj(_functions()["gate"].apply(self.gate_proj(x), self.up_proj(x)))


def _gated_phi3(self: Model, x: Tensor) -> Tensor:
    gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
    return self.down_proj(_functions()["gate"].apply(gate, up))


@functools.cache
def _functions() -> JsonObject:
    """The autograd functions; their base class is torch's, which is imported where it is needed."""
    import torch

    class Lora(torch.autograd.Function):
        """x W' + b + scale d A' B': d is x after dropout. W and b are frozen; A and B may be wider in dtype than x."""

        @staticmethod
        def forward(
            ctx: FunctionCtx,
            x: Tensor,
            dropped: Tensor,
            weight: Tensor,
            bias: Tensor,
            a: Tensor,
            b: Tensor,
            scale: float,
        ) -> Tensor:
            shape = x.shape
            x = x.reshape(-1, shape[-1])
            into = x if dropped is None else dropped.reshape(-1, shape[-1])
            low = into @ a.to(x.dtype).T
            out = x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)
            out.addmm_(low, (b * scale).to(x.dtype).T)
            ctx.save_for_backward(into, low, weight, a, b)
            ctx.scale, ctx.apart = scale, dropped is not None
            return out.view(*shape[:-1], -1)

        @staticmethod
        def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, ...]:
            into, low, weight, a, b = ctx.saved_tensors
            shape = slope.shape
            slope = slope.reshape(-1, shape[-1])
            by_low = slope @ (b * ctx.scale).to(slope.dtype)
            by_a = by_b = by_x = by_dropped = None
            if ctx.needs_input_grad[4]:
                by_a = (by_low.T @ into).to(a.dtype)
            if ctx.needs_input_grad[5]:
                by_b = (slope.T @ low).to(b.dtype).mul_(ctx.scale)
            if ctx.needs_input_grad[0]:
                by_x = slope @ weight
                if not ctx.apart:
                    by_x.addmm_(by_low, a.to(slope.dtype))
                by_x = by_x.view(*shape[:-1], -1)
            if ctx.needs_input_grad[1]:
                by_dropped = (by_low @ a.to(slope.dtype)).view(*shape[:-1], -1)
            return by_x, by_dropped, None, None, by_a, by_b, None

    def blocks(*tensors: Tensor) -> Tensor:
        """The same rows of several tensors (..., width), on a CPU so few at once that they stay in its caches."""
        flat = [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]
        width = flat[0].shape[1] * flat[0].element_size()
        rows = (
            max(1, CACHED_BYTES * torch.get_num_threads() // width)
            if tensors[0].device.type == "cpu"
            else max(1, flat[0].shape[0])
        )
        return zip(*(tensor.split(rows) for tensor in flat), strict=True)

    class Norm(torch.autograd.Function):
        """weight * x / rms(x) over the last dimension, in float32 until the weight comes in; the weight is frozen."""

        @staticmethod
        def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
            out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
            inverse = torch.empty((*x.shape[:-1], 1), dtype=torch.float32, device=x.device)
            for rows, made, by in blocks(x, out, inverse):
                wide = rows.float()
                torch.linalg.vector_norm(wide, dim=-1, keepdim=True, out=by)
                by.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
                torch.mul((wide * by).to(x.dtype), weight, out=made)
            ctx.save_for_backward(x, weight, inverse)
            return out

        @staticmethod
        def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, ...]:
            x, weight, inverse = ctx.saved_tensors
            out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
            for rows, by, slopes, made in blocks(x, inverse, slope, out):
                wide, turned = rows.float(), (slopes * weight).float()
                along = (turned * wide).sum(dim=-1, keepdim=True).mul_(by**3).div_(-x.shape[-1])
                made.copy_(turned.mul_(by).addcmul_(wide, along))
            return out, None, None

    class Gate(torch.autograd.Function):
        """silu(gate) * up; only what went in is kept for backward."""

        @staticmethod
        def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor) -> Tensor:
            ctx.save_for_backward(gate, up)
            out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
            for g, u, o in blocks(gate, up, out):
                torch.mul(torch.nn.functional.silu(g), u, out=o)
            return out

        @staticmethod
        def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, ...]:
            gate, up = ctx.saved_tensors
            by_gate = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
            by_up = torch.empty_like(by_gate)
            for g, u, s, by_g, by_u in blocks(gate, up, slope, by_gate, by_up):
                torch.mul(torch.nn.functional.silu(g), s, out=by_u)
                torch.ops.aten.silu_backward.grad_input(s * u, g, grad_input=by_g)
            return by_gate, by_up

    return {"lora": Lora, "norm": Norm, "gate": Gate}
