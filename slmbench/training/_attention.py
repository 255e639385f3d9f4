"""Attention on rows that lie end to end in one sequence: each row sees itself alone, and no padding is computed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

from slmbench.errors import UsageError
from slmbench.models import core_model, dispatches_attention, exchange_attention
from slmbench.training._fused import fuse_parts
from slmbench.values import Model, Tensor

ROWS = "slmbench_rows"
_PROBE_ROWS = (5, 3, 7)


def row_mask(lengths: Sequence[int]) -> Tensor:
    """Where each row of a flat sequence begins, as the mask that `attend_by_row` reads: int32 of (1, 1, 1, rows + 1).

    It is on the CPU, so that a layer that reads it waits for no other device.
    """
    import torch

    starts = [0, *itertools.accumulate(lengths)]
    return torch.tensor(starts, dtype=torch.int32).view(1, 1, 1, -1)


def attend_by_row(
    module: Model,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """transformers' attention function where the mask is a `row_mask`: causal, row by row.

    query: (1, heads, tokens, width); key and value may have fewer heads. Returns (1, tokens, heads, width).
    """
    import torch

    starts = mask.flatten().tolist()
    lengths = [end - start for start, end in itertools.pairwise(starts)]
    dtype, device = value.dtype, query.device
    cast: Any = contextlib.nullcontext()
    if device.type == "cpu":
        # torch's bfloat16 attention on CPUs takes three times as long in backward as float32, casts included.
        query, key, value = query.float(), key.float(), value.float()
        cast = torch.autocast("cpu", enabled=False)
    out = []
    with cast:
        for q, k, v in zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True):
            banded = sliding_window is not None and q.shape[2] > sliding_window
            attended = torch.nn.functional.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=_band(q.shape[2], sliding_window, device) if banded else None,
                dropout_p=dropout,
                is_causal=not banded,
                scale=scaling,
                enable_gqa=q.shape[1] != k.shape[1],
            )
            out.append(attended.transpose(1, 2))
    return torch.cat(out, dim=1).to(dtype), None


def _band(length: int, window: int | None, device: object) -> Tensor:
    import torch

    assert window is not None
    back = torch.arange(length, device=device)
    back = back[:, None] - back[None, :]
    return (back >= 0) & (back < window)


def may_lie_flat(core: Model) -> bool:
    """Whether a class's rows may lie end to end, as far as that can be told without trying it.

    In eight bits bitsandbytes multiplies apart what is large in any row of a batch, so rows come out otherwise in
    company than alone (SmolLM2's by 0.03 of the largest), and no trial could tell that from rows that see each other.
    """
    return dispatches_attention(core) and not getattr(core, "is_loaded_in_8bit", False)


def prepare_model(model: Model) -> bool:
    """Lets a causal model take rows end to end, as `collate(flat=True)` lays them; padded batches go on working.

    model: with its adapter on, as its LoRA layers are fused too; `fuse_parts` says what is replaced in it, in place.

    Whether the model can is tried on it: three short rows end to end have to give the hidden states that each gives
    alone. Returns False, with the model as it was, where they don't: layers that carry a state from token to token,
    positions of its own, attention that transformers doesn't dispatch, weights in eight bits. For encoder-decoders it
    returns False, with their parts fused. Call it before a quantised model is evaluated; raises UsageError if that came
    first.
    """
    import torch

    core = core_model(model)
    _stay_differentiable(core)
    fuse_parts(core)
    if not may_lie_flat(core):
        return False
    if core.config._attn_implementation == ROWS:
        return True
    before, training = core.config._attn_implementation, core.training
    vocabulary = core.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, vocabulary, (1, n), generator=generator) for n in _PROBE_ROWS]
    backbone = core.base_model
    core.eval()
    can = False
    try:
        with torch.no_grad():
            alone = torch.cat([_hidden(core, row, None, None) for row in rows], dim=1)
            take_rows(core)
            positions = torch.cat([torch.arange(n)[None] for n in _PROBE_ROWS], dim=1)
            together = _hidden(core, torch.cat(rows, dim=1), row_mask(_PROBE_ROWS), positions)
        far = float((together.float() - alone.float()).abs().max() / alone.float().abs().max().clamp(min=1e-30))
        can = far < (1e-4 if alone.dtype == torch.float32 else 0.03)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError, NotImplementedError):
        # A class of anyone's: whatever it does with such a mask, it is not what is wanted, and padding always works.
        can = False
    finally:
        backbone.train(training)
        core.train(training)
    if not can:
        core.set_attn_implementation(before)
    return can


def take_rows(core: Model) -> None:
    """Has a model attend by row from now on, where a mask is a `row_mask`."""
    exchange_attention(core, ROWS, attend_by_row)


def _stay_differentiable(model: Model) -> None:
    """Keeps 4-bit weights on a CPU as they are: bitsandbytes packs them anew in the first evaluation, for a product
    that has no backward, and never back. Raises UsageError if that has happened.
    """
    for name, module in model.named_modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            if getattr(getattr(module.weight, "quant_state", None), "packing_format_for_cpu", False):
                raise UsageError(
                    f"the 4-bit weights of {name!r} were packed for inference when the model was evaluated, and no "
                    "gradient goes through them any more; load the model again to train it"
                )


def _hidden(core: Model, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    device = core.get_input_embeddings().weight.device
    positions = None if positions is None else positions.to(device)
    return core.base_model(
        input_ids=ids.to(device), attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
