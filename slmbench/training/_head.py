"""The head and the loss of scored positions: logits of a part at a time, and what backward needs made in forward."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from slmbench.values import Model, Tensor

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

LOGITS_BYTES = 64 << 20
# For each core: a block of logits is gone over several times, which costs little while it is in the caches.
CACHED_BYTES = 1 << 20


def head_losses(head: Model, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(sum, each) of the cross entropies of `head(hidden)`, a torch.nn.Linear, in float32.

    hidden: (tokens, width); labels: (tokens,). The sum is differentiable by hidden and by the head's own weights, as
    they need it; `each`, of (tokens,), is not. At most LOGITS_BYTES of logits are there at once, and they are computed
    once. On a CPU the head keeps the room that they took: a page that the system hands out anew costs as much as the
    product that fills it.
    """
    import torch

    hidden, labels = hidden.to(head.weight.device), labels.to(head.weight.device)
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
    hidden, weight, bias = hidden.to(dtype), head.weight.to(dtype), head.bias
    room = _room(head, hidden, weight.shape[0])
    with torch.autocast(device, enabled=False):
        losses: tuple[Tensor, Tensor] = _function().apply(hidden, weight, bias, labels, room, torch.is_grad_enabled())
    return losses


def _room(head: Model, hidden: Tensor, vocabulary: int) -> Tensor:
    """Where the logits of a part go: (tokens of a part, vocabulary). Nothing but the next part ever reads it."""
    tokens = max(1, LOGITS_BYTES // (hidden.element_size() * vocabulary))
    parts = max(1, -(-hidden.shape[0] // tokens))
    tokens = max(1, -(-hidden.shape[0] // parts))
    kept = vars(head).get("_slmbench_room")
    if kept is None or kept.shape[0] < tokens or (kept.dtype, kept.device) != (hidden.dtype, hidden.device):
        kept = hidden.new_empty(tokens, vocabulary)
        if hidden.device.type == "cpu":
            head.__dict__["_slmbench_room"] = kept
    return kept[:tokens]


def logits_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(sum, each) as `head_losses`, of logits (tokens, vocabulary) that the model's own head made."""
    import torch

    each = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    return each.sum(), each.detach()


@functools.cache
def _function() -> Tensor:
    """The autograd function; its base class is torch's, which is imported where it is needed."""
    import torch

    class HeadLosses(torch.autograd.Function):
        forward = staticmethod(_forward)
        backward = staticmethod(_backward)

    return HeadLosses


def _forward(
    ctx: FunctionCtx, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, room: Tensor, recorded: bool
) -> tuple[Tensor, Tensor]:
    import torch

    # Within this function torch records nothing, and says what would need a gradient also where none is recorded.
    wanted = [recorded and bool(need) for need in ctx.needs_input_grad[:3]]
    tokens, vocabulary = hidden.shape[0], weight.shape[0]
    each = torch.empty(tokens, dtype=torch.float32, device=hidden.device)
    by_hidden = torch.empty_like(hidden) if wanted[0] else None
    by_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
    by_bias = torch.zeros_like(bias, dtype=torch.float32) if wanted[2] else None
    step = room.shape[0]
    rows = max(1, CACHED_BYTES * torch.get_num_threads() // (4 * vocabulary)) if hidden.device.type == "cpu" else step
    for start in range(0, tokens, step):
        part = slice(start, min(start + step, tokens))
        logits = torch.mm(hidden[part], weight.T, out=room[: part.stop - start])
        if bias is not None:
            logits += bias
        for first in range(0, logits.shape[0], rows):
            block = logits[first : first + rows]
            at = slice(start + first, start + first + block.shape[0])
            each[at] = _to_slopes(block, labels[at, None], any(wanted))
        if by_hidden is not None:
            torch.mm(logits, weight, out=by_hidden[part])
        if by_weight is not None:
            by_weight += logits.T @ hidden[part]
        if by_bias is not None:
            by_bias += logits.sum(dim=0, dtype=torch.float32)
    ctx.save_for_backward(by_hidden, by_weight, by_bias)
    ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
    ctx.mark_non_differentiable(each)
    return each.sum(), each


def _to_slopes(block: Tensor, right: Tensor, wanted: bool) -> Tensor:
    """The losses of a block of logits, which become the gradient of their sum by the logits where it is wanted."""
    import torch

    wide = block if block.dtype == torch.float32 else block.float()
    hit = wide.gather(1, right)
    most = wide.amax(dim=1, keepdim=True)
    total = wide.sub_(most).exp_().sum(dim=1, keepdim=True)
    if wanted:
        wide.mul_(total.reciprocal())
        wide.scatter_add_(1, right, wide.new_full(right.shape, -1.0))
        if wide is not block:
            block.copy_(wide)
    return (total.log() + most - hit)[:, 0]


def _backward(ctx: FunctionCtx, slope: Tensor, _: object) -> tuple[Tensor, ...]:
    by_hidden, by_weight, by_bias = ctx.saved_tensors
    weight_dtype, bias_dtype = ctx.dtypes
    return (
        None if by_hidden is None else by_hidden * slope.to(by_hidden.dtype),
        None if by_weight is None else (by_weight * slope).to(weight_dtype),
        None if by_bias is None else (by_bias * slope).to(bias_dtype),
        None,
        None,
        None,
    )
