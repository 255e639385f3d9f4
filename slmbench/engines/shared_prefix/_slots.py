"""Rows that are being decoded: each has a slot for the keys and values of its own, beside contexts that rows share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slmbench.engines.shared_prefix._trie import Segment
from slmbench.values import Tensor

GROWTH = 16
"""Slots get longer by so many tokens at a time."""


class Slots:
    """Keys and values of rows' own tokens; row i is in slot i, and slots beyond the last row are free.

    keys, values: for each layer (slots, key heads, capacity, width). lengths: how many tokens each row has there.
    starts: how many tokens stand before its slot. contexts: the segments these tokens are in. adapter: see `Segment`.
    """

    def __init__(self, most: int, adapter: str = "") -> None:
        self.most = most
        self.adapter = adapter
        self.lengths: list[int] = []
        self.starts: list[int] = []
        self.contexts: list[tuple[Segment, ...]] = []
        self.held: dict[Segment, list[tuple[Tensor, Tensor]]] = {}
        self.keys: list[Any] = []
        self.values: list[Any] = []

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.lengths)

    def add(self, own: Sequence[tuple[Tensor, Tensor]], start: int, context: tuple[Segment, ...]) -> None:
        """A row more, behind the others. own: keys and values of its first tokens, a pair for each layer."""
        self.lengths.append(0)
        self.starts.append(0)
        self.contexts.append(())
        self.put(self.count - 1, own, start, context)

    def put(self, at: int, own: Sequence[tuple[Tensor, Tensor]], start: int, context: tuple[Segment, ...]) -> None:
        """A row in the place of one that has ended."""
        n = own[0][0].shape[2]
        self._reach(n + 1, own)
        for layer, (keys, values) in enumerate(own):
            self.keys[layer][at, :, :n], self.values[layer][at, :, :n] = keys[0], values[0]
        self.lengths[at], self.starts[at], self.contexts[at] = n, start, context

    def remove(self, at: int) -> None:
        """Ends a row; the last one takes its slot."""
        last = self.count - 1
        if at != last:
            n = self.lengths[last]
            for tensor in (*self.keys, *self.values):
                tensor[at, :, :n] = tensor[last, :, :n]
            self.lengths[at], self.starts[at] = self.lengths[last], self.starts[last]
            self.contexts[at] = self.contexts[last]
        for of_rows in (self.lengths, self.starts, self.contexts):
            of_rows.pop()

    def _reach(self, capacity: int, own: Sequence[tuple[Tensor, Tensor]] = ()) -> None:
        """Makes slots long enough for so many tokens."""
        if not self.keys:
            for keys, values in own:
                self.keys.append(keys.new_zeros((self.most, keys.shape[1], 0, keys.shape[3])))
                self.values.append(values.new_zeros((self.most, values.shape[1], 0, values.shape[3])))
        if self.keys[0].shape[2] >= capacity:
            return
        capacity = -(-capacity // GROWTH) * GROWTH
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                new = old.new_zeros((*old.shape[:2], capacity, old.shape[3]))
                new[:, :, : old.shape[2]] = old
                tensors[layer] = new

    def begin_step(self) -> None:
        """Makes room for one token more of every row, and notes who sees what."""
        import torch

        self._reach(max(self.lengths) + 1)
        device = self.keys[0].device
        self._width = max(self.lengths) + 1
        self._at = torch.tensor(self.lengths, device=device)
        self._rows = torch.arange(self.count, device=device)
        self._positions = torch.tensor(self.positions, device=device)
        groups: dict[Segment, list[int]] = {}
        for row, context in enumerate(self.contexts):
            for segment in context:
                groups.setdefault(segment, []).append(row)
        self._groups = [
            (segment, None if len(rows) == self.count else torch.tensor(rows, device=device))
            for segment, rows in groups.items()
        ]
        self._masks: dict[int | None, Any] = {}

    def end_step(self) -> None:
        """Every row has one token more."""
        self.lengths = [n + 1 for n in self.lengths]

    @property
    def positions(self) -> list[int]:
        """Of the token that each row gets next."""
        return [start + n for start, n in zip(self.starts, self.lengths, strict=True)]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """One token of every row: to its own slot and to the contexts it shares, put together by their normalisers.

        query: (heads, rows, width), key and value: (key heads, rows, width); returns (heads, rows, width of values).
        Scores and sums are float32.
        """
        import torch

        heads, n, width = query.shape
        kv_heads = key.shape[0]
        scale = width**-0.5 if scaling is None else scaling
        self.keys[layer][self._rows, :, self._at] = key.transpose(0, 1)
        self.values[layer][self._rows, :, self._at] = value.transpose(0, 1)
        asked = query.view(kv_heads, heads // kv_heads, n, width)
        keys = self.keys[layer][:n, :, : self._width]  # (rows, key heads, seen, width)
        values = self.values[layer][:n, :, : self._width]
        # In half precision a product of queries and keys would lose what their difference is about, or overflow.
        asked = asked.float() * scale
        scores = asked.permute(2, 0, 1, 3) @ keys.float().transpose(-1, -2)
        scores += self._own_mask(window)
        most, norm, mixed = _mix(scores, values)
        for segment, rows in self._groups:
            ks, vs = self.held[segment][layer]  # (1, key heads, length, width)
            of = asked if rows is None else asked[:, :, rows]
            group = of.shape[2]
            found = of.reshape(kv_heads, -1, width) @ ks[0].float().transpose(-1, -2)
            found = found.view(kv_heads, heads // kv_heads, group, -1)
            if window is not None:
                found += self._shared_mask(segment, rows, window)
            m, s, o = _mix(found.flatten(1, 2), vs[0])
            m, s, o = (part.view(kv_heads, -1, group, part.shape[-1]).permute(2, 0, 1, 3) for part in (m, s, o))
            if rows is None:
                most, norm, mixed = _merge(most, norm, mixed, m, s, o)
            else:
                most[rows], norm[rows], mixed[rows] = _merge(most[rows], norm[rows], mixed[rows], m, s, o)
        out = (mixed / norm).to(query.dtype)  # (rows, key heads, group, width)
        return torch.as_tensor(out).permute(1, 2, 0, 3).reshape(heads, n, -1)

    def _own_mask(self, window: int | None) -> Tensor:
        import torch

        if window not in self._masks:
            column = torch.arange(self._width, device=self._at.device)
            hidden = column[None, :] > self._at[:, None]
            if window is not None:
                hidden |= self._at[:, None] - column[None, :] >= window
            mask = torch.zeros(hidden.shape, device=self._at.device).masked_fill_(hidden, float("-inf"))
            self._masks[window] = mask[:, None, None, :]
        return self._masks[window]

    def _shared_mask(self, segment: Segment, rows: object, window: int) -> Tensor:
        import torch

        positions = self._positions if rows is None else self._positions[rows]
        column = torch.from_numpy(segment.positions).to(positions.device)
        hidden = positions[:, None] - column[None, :] >= window
        return torch.zeros(hidden.shape, device=positions.device).masked_fill_(hidden, float("-inf"))


def _mix(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(largest score, sum of exponentials below it, values weighted by these), all float32; scores are overwritten."""
    # Where a window hides a whole context, there is no largest score to subtract.
    most = scores.amax(dim=-1, keepdim=True).clamp_(min=-1e30)
    weights = scores.sub_(most).exp_()
    norm = weights.sum(dim=-1, keepdim=True)
    return most, norm, weights @ values.float()


def _merge(m1: Tensor, s1: Tensor, o1: Tensor, m2: Tensor, s2: Tensor, o2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    import torch

    most = torch.maximum(m1, m2)
    a, b = (m1 - most).exp(), (m2 - most).exp()
    return most, s1 * a + s2 * b, o1 * a + o2 * b
