"""A decoding step's attention: over a row's own slot and over contexts that rows share."""

from __future__ import annotations

import numpy as np
import pytest

from slmbench.engines.shared_prefix._slots import Slots
from slmbench.engines.shared_prefix._trie import Segment

HEADS, KV_HEADS, WIDTH = 6, 2, 8


def _pair(generator, length, dtype, scale=1.0):
    import torch

    shape = (1, KV_HEADS, length, WIDTH)
    return tuple((scale * torch.randn(shape, generator=generator)).to(dtype) for _ in range(2))


def _wanted(query, parts, window, scale):
    """Each row's attention in float64, alone."""
    import torch

    keys, values = (torch.cat([part[i].double() for part in parts], dim=2) for i in range(2))
    n = keys.shape[2]
    seen = torch.arange(n) > n - 1 - (window or n)
    return torch.nn.functional.scaled_dot_product_attention(
        query.double()[None, :, None],
        keys,
        values,
        attn_mask=seen[None, None, None],
        scale=scale,
        enable_gqa=True,
    )[0, :, 0]


@pytest.mark.parametrize("window", [None, 1, 4, 9, 30])
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 1e-2), ("float16", 2e-3)])
@pytest.mark.parametrize("size", [1.0, 60.0])
def test_attention_is_that_of_each_row_alone(window, dtype, bound, size) -> None:
    import torch

    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(0)
    shared = [
        Segment(np.zeros(n, np.int32), np.arange(start, start + n, dtype=np.int32), None, (), [])
        for start, n in ((0, 7), (7, 5), (7, 3))
    ]
    contexts = [(shared[0], shared[1]), (shared[0], shared[1]), (shared[0], shared[2]), (), (shared[0],)]
    slots = Slots(len(contexts))
    slots.held = {segment: [_pair(generator, len(segment), kind, size)] for segment in shared}
    own = [[_pair(generator, n, kind, size)] for n in (1, 4, 2, 6, 20)]
    for pairs, context in zip(own, contexts, strict=True):
        slots.add(pairs, sum(map(len, context)), context)
    query = (size * torch.randn((HEADS, 5, WIDTH), generator=generator)).to(kind)
    key, value = (part[0] for part in _pair(generator, 5, kind, size))
    slots.begin_step()
    made = slots.attend(0, query, key, value, None, window)
    assert torch.isfinite(made).all()
    for row, (pairs, context) in enumerate(zip(own, contexts, strict=True)):
        parts = [slots.held[segment][0] for segment in context]
        parts += [pairs[0], (key[None, :, row : row + 1], value[None, :, row : row + 1])]
        want = _wanted(query[:, row], parts, window, WIDTH**-0.5)
        assert float((made[:, row].double() - want).abs().max()) <= bound * float(want.abs().max())


def test_a_row_that_ends_gives_its_slot_to_the_last_one() -> None:
    import torch

    generator = torch.Generator().manual_seed(1)
    slots = Slots(3)
    own = [[_pair(generator, n, torch.float32)] for n in (3, 5, 2)]
    for pairs in own:
        slots.add(pairs, 0, ())
    slots.remove(0)
    assert slots.lengths == [2, 5]
    assert torch.equal(slots.keys[0][0, :, :2], own[2][0][0][0])
    slots.put(1, own[0], 0, ())
    assert slots.lengths == [2, 3]
    assert torch.equal(slots.values[0][1, :, :3], own[0][0][1][0])
