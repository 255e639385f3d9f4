"""Tensors of one shape, a piece of all at a time: what a method holds in memory doesn't grow with their size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from slmbench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 1 << 17
"""Numbers of one tensor that are worked on at once: the pieces of 16 models, in float32, stay in or near the cache."""


class NotFinite(UsageError):
    """An input that holds NaN or infinity. index: which of the tensors; None for the base."""

    def __init__(self, index: int | None, value: str) -> None:
        self.index, self.value = index, value
        whose = "the base" if index is None else f"input {index + 1}"
        super().__init__(f"{whose} holds {value}")


class Piece(NamedTuple):
    """The same numbers of all tensors, flat. at: where they are. tensors and base: float32, never to be changed."""

    at: slice
    tensors: list[Tensor]
    base: Tensor | None

    def changes(self) -> list[Tensor]:
        """What each tensor is off the base by, in new memory."""
        assert self.base is not None
        return [tensor - self.base for tensor in self.tensors]

    def look_at(self) -> None:
        """Raises NotFinite if an input, or the base, holds NaN or infinity."""
        for index, tensor in enumerate(self.tensors):
            _finite(tensor, index)
        if self.base is not None:
            _finite(self.base, None)


def pieces(tensors: Sequence[Tensor], base: Tensor | None = None, *, looked_at: bool = True) -> Iterator[Piece]:
    """All numbers of tensors of one shape, in order. Raises NotFinite, unless whoever asks looks at them himself."""
    flat = [tensor.detach().reshape(-1) for tensor in tensors]
    flat_base = None if base is None else base.detach().reshape(-1)
    for start in range(0, flat[0].numel(), PIECE):
        at = slice(start, start + PIECE)
        piece = Piece(at, [one[at].float() for one in flat], None if flat_base is None else flat_base[at].float())
        if looked_at:
            piece.look_at()
        yield piece


def _finite(piece: Tensor, index: int | None) -> None:
    import torch

    # A sum is many times cheaper than a look at each number; a finite one may overflow, so that it only raises doubt.
    if not torch.isfinite(piece.sum()) and not torch.isfinite(piece).all():
        raise NotFinite(index, "NaN" if torch.isnan(piece).any() else "infinity")


def like(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """(an unfilled float32 tensor of the same shape and device, the same one flat)."""
    import torch

    made = torch.empty(tensor.shape, dtype=torch.float32, device=tensor.device)
    return made, made.view(-1)


def largest(tensor: Tensor, base: Tensor, k: int) -> tuple[float, int, int]:
    """(the k-th largest |tensor - base| in float32, how many of that size are among the k largest, how many are there).

    Exact, by counting the bits of the sizes, which are in the order of the sizes, upper half first: two passes and no
    copy of the tensor.
    """
    import torch

    upper = torch.zeros(1 << 15, dtype=torch.int64)
    for bits in _bits(tensor, base):
        upper += torch.bincount(bits >> 16, minlength=1 << 15).cpu()
    high, above = _bin_of(upper, k)
    lower = torch.zeros(1 << 16, dtype=torch.int64)
    for bits in _bits(tensor, base):
        lower += torch.bincount(bits[(bits >> 16) == high] & 0xFFFF, minlength=1 << 16).cpu()
    low, beyond = _bin_of(lower, k - above)
    found = torch.tensor([high << 16 | low], dtype=torch.int32).view(torch.float32)
    return float(found), k - above - beyond, int(lower[low])


def _bits(tensor: Tensor, base: Tensor) -> Iterator[Tensor]:
    import torch

    # NaN is a size like others here; whoever goes through the pieces afterwards finds it.
    flat, flat_base = tensor.detach().reshape(-1), base.detach().reshape(-1)
    for start in range(0, flat.numel(), PIECE):
        at = slice(start, start + PIECE)
        yield (flat[at].float() - flat_base[at].float()).abs_().view(torch.int32)


def _bin_of(counts: Tensor, k: int) -> tuple[int, int]:
    """(the bin that holds the k-th of the last ones, how many lie in bins beyond)."""
    reached = counts.flip(0).cumsum(0)
    back = int((reached < k).sum())
    return len(counts) - 1 - back, int(reached[back - 1]) if back else 0
