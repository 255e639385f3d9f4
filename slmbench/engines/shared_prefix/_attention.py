"""Attention over segments of a trie: each token sees those that stand before it in its own sequence, and no others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from attrs import define, field

from slmbench.engines.shared_prefix._trie import Segment
from slmbench.models import exchange_attention
from slmbench.values import Model, Tensor

TREE = "slmbench_tree"
KEPT_MASK = 4_000_000
"""A larger mask is made anew for every layer: those of one pass would take more memory than its activations."""


@define(eq=False)
class Pass:
    """One forward pass over segments that lie end to end in one row.

    held: segment -> its keys and values, a pair for each layer, each (1, key heads, length, width). Segments to be held
    after the pass are put in there by it. rows: what decodes one token each, before the segments, or None.
    """

    segments: Sequence[Segment]
    held: dict[Segment, list[tuple[Any, Any]]]
    keep: frozenset[Segment] = frozenset()
    rows: Any = None
    masks: dict[tuple[int, int | None], Any] = field(factory=dict)


_PASS: ContextVar[Pass | None] = ContextVar("slmbench_pass", default=None)


def forward_mask() -> Tensor:
    """The mask that says that a `Pass` holds."""
    import torch

    return torch.zeros((1, 1, 1, 1), dtype=torch.int32)


def attend_by_tree(
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
    """transformers' attention function where the mask is a `forward_mask`: by the `Pass` that is under way.

    query: (1, heads, tokens, width); key and value may have fewer heads. Returns (1, tokens, heads, width).
    """
    import torch

    under_way = _PASS.get()
    if under_way is None:
        raise RuntimeError("a mask of passes, and none is under way in this thread")
    if unknown := {name for name in ("softcap", "s_aux", "position_bias") if options.get(name) is not None}:
        raise NotImplementedError(f"attention with {', '.join(sorted(unknown))}")
    out = torch.empty_like(query)
    at = 0
    if under_way.rows is not None:
        at = under_way.rows.count
        out[:, :, :at] = under_way.rows.attend(
            module.layer_idx, query[0, :, :at], key[0, :, :at], value[0, :, :at], scaling, sliding_window
        )
    _attend_segments(under_way, module.layer_idx, query, key, value, scaling, sliding_window, at, out)
    return out.transpose(1, 2).contiguous(), None


def _attend_segments(
    under_way: Pass,
    layer: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    window: int | None,
    at: int,
    out: Tensor,
) -> None:
    import torch

    fresh: dict[Segment, tuple[Any, Any]] = {}
    before: tuple[Segment, ...] = ()
    keys = values = None
    longest = max(map(len, under_way.segments), default=0)
    for segment in under_way.segments:
        n = len(segment)
        here = slice(at, at + n)
        at += n
        k, v = key[:, :, here], value[:, :, here]
        fresh[segment] = (k, v)
        if segment in under_way.keep:
            under_way.held.setdefault(segment, []).append((k.clone(), v.clone()))
        if segment.context:
            past = segment.before
            if keys is None or values is None or segment.context != before:
                shape = (1, key.shape[1], past + longest, key.shape[3])
                keys, values = key.new_empty(shape), value.new_empty((*shape[:3], value.shape[3]))
                low = 0
                for above in segment.context:
                    ks, vs = fresh[above] if above in fresh else under_way.held[above][layer]
                    keys[:, :, low : low + len(above)], values[:, :, low : low + len(above)] = ks, vs
                    low += len(above)
                before = segment.context
            keys[:, :, past : past + n], values[:, :, past : past + n] = k, v
            k, v = keys[:, :, : past + n], values[:, :, : past + n]
        mask = _mask(under_way, segment, window, query)
        out[:, :, here] = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, here],
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )


def _mask(under_way: Pass, segment: Segment, window: int | None, query: Tensor) -> Tensor:
    """(length, before + length), added to scores; None where the segment is plainly causal."""
    import torch

    past, n = segment.before, len(segment)
    if window is not None and past + n <= window:
        window = None
    if past == 0 and segment.ends is None and window is None:
        return None
    if (kept := under_way.masks.get((id(segment), window))) is not None:
        return kept
    index = torch.arange(n)
    seen = index[None, :] <= index[:, None]  # (length, length)
    if segment.ends is not None:
        seen &= index[:, None] < torch.from_numpy(segment.ends)[None, :]
    seen = torch.cat([torch.ones(n, past, dtype=torch.bool), seen], dim=1)
    if window is not None:
        positions = torch.from_numpy(segment.positions)
        columns = torch.cat([torch.arange(past, dtype=positions.dtype), positions])
        seen &= positions[:, None] - columns[None, :] < window
    mask = torch.zeros(n, past + n, dtype=query.dtype).masked_fill_(~seen, float("-inf")).to(query.device)
    if mask.numel() <= KEPT_MASK:
        under_way.masks[id(segment), window] = mask
    return mask


@contextlib.contextmanager
def tree_attention(core: Model) -> Iterator[None]:
    """For the length of the block, a model attends by the `Pass` under way; without one it attends as ever."""
    before = core.config._attn_implementation
    exchange_attention(core, TREE, attend_by_tree)
    try:
        yield
    finally:
        core.set_attn_implementation(before)


@contextlib.contextmanager
def under_way(one: Pass) -> Iterator[None]:
    """For the length of the block, attention is that of this pass."""
    token = _PASS.set(one)
    try:
        yield
    finally:
        _PASS.reset(token)
