"""Norms and gated activations in fewer passes over memory, while nothing needs a gradient."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

# Read in transformers' code, and held by tests: weight * (x / rms(x)), in float32 inside; down(silu(gate) * up).
NORMS = frozenset(f"{family}RMSNorm" for family in ("Llama", "Qwen2", "Qwen3", "Phi3", "Mistral", "SmolLM3"))
GATED = frozenset(f"{family}MLP" for family in ("Llama", "Qwen2", "Qwen3", "Mistral", "SmolLM3"))


@contextlib.contextmanager
def parts_fused(core: Any) -> Iterator[None]:
    """For the length of the block, a float32 model's known norms and gated MLPs compute in place.

    Each gives what the module's own forward gives, up to rounding. A module with a forward or a device hook of its own
    is left alone. Only without gradients.
    """
    import torch

    replaced = []
    for module in core.modules():
        kind = type(module)
        own = "forward" in vars(module) or hasattr(module, "_hf_hook")
        if own or not kind.__module__.startswith("transformers.models."):
            continue
        if kind.__name__ in NORMS and module.weight.dtype == torch.float32:
            module.forward = types.MethodType(_norm, module)
        elif kind.__name__ in GATED and isinstance(module.act_fn, torch.nn.SiLU | _silu_of_transformers()):
            module.forward = types.MethodType(_gated, module)
        else:
            continue
        replaced.append(module)
    try:
        yield
    finally:
        for module in replaced:
            del module.forward


def _silu_of_transformers() -> type:
    from transformers.activations import ACT2FN

    return type(ACT2FN["silu"])


def _norm(self: Any, x: Any) -> Any:
    import torch

    if x.dtype != torch.float32:
        return type(self).forward(self, x)
    return torch.nn.functional.rms_norm(x, (x.shape[-1],), self.weight, self.variance_epsilon)


def _gated(self: Any, x: Any) -> Any:
    import torch

    gate = torch.nn.functional.silu(self.gate_proj(x), inplace=True)  # (..., seq, width)
    return self.down_proj(gate.mul_(self.up_proj(x)))
