"""Changes of which a random part is dropped and the rest made larger for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from attrs import define

from slmbench.merging.methods._pieces import Piece, pieces
from slmbench.merging.methods._shares import each

if TYPE_CHECKING:
    from torch import Generator, Tensor

Rescale = Literal["inverse_density", "l1"]


@define(eq=False)
class Dropped:
    """The changes of several models, each number kept with a probability of `density` and then rescaled.

    Of one generator come all numbers of one model's tensor, piece by piece, so that a tensor's mask doesn't depend on
    what was merged before it or beside it.
    """

    tensors: Sequence[Tensor]
    base: Tensor
    density: float | Sequence[float]
    rescale: Rescale
    generator: Callable[[int], Generator]
    kept: int = 0

    def pieces(self) -> Iterator[tuple[Piece, list[Tensor]]]:
        """Each piece with the changes that are left of it."""
        factors = self._factors()
        for piece, changes, counts in self._drawn():
            for change, factor in zip(changes, factors, strict=True):
                change *= factor
            self.kept += sum(counts)
            yield piece, changes

    @property
    def share(self) -> float:
        """Of all numbers, those that were kept."""
        return self.kept / (len(self.tensors) * int(self.base.numel()))

    def _factors(self) -> list[float]:
        densities = self._densities()
        if self.rescale == "inverse_density":
            return [1 / density for density in densities]
        before, after = [0.0] * len(densities), [0.0] * len(densities)
        for piece, changes, _ in self._drawn():
            for index, (whole, left) in enumerate(zip(piece.changes(), changes, strict=True)):
                before[index] += float(whole.double().abs().sum())
                after[index] += float(left.double().abs().sum())
        # What lost all of its changes has nothing that could be made larger.
        return [full / left if left else 0.0 for full, left in zip(before, after, strict=True)]

    def _drawn(self) -> Iterator[tuple[Piece, list[Tensor], list[int]]]:
        import torch

        densities = self._densities()
        generators = [self.generator(index) for index in range(len(self.tensors))]
        for piece in pieces(self.tensors, self.base):
            changes = piece.changes()
            counts = []
            for change, density, generator in zip(changes, densities, generators, strict=True):
                # Drawn on the CPU, whose numbers are the same beside any accelerator.
                mask = torch.rand(change.shape, generator=generator) < density if density < 1 else None
                if mask is not None:
                    change *= mask.to(change.device)
                counts.append(len(change) if mask is None else int(mask.sum()))
            yield piece, changes, counts

    def _densities(self) -> list[float]:
        return each(self.density, len(self.tensors), "density")
