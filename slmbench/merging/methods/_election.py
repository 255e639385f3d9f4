"""The sign that a majority of changes has at each number, and the changes that agree with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import define

if TYPE_CHECKING:
    from torch import Tensor

_DOUBT = 1e-6
"""Below this share of what is summed, a float32 sum's sign may be rounding's."""


@define
class Election:
    """How often changes of both signs met. conflicts and present: numbers with both signs, and with any change."""

    conflicts: int = 0
    present: int = 0

    def elect(self, changes: Sequence[Tensor], weights: Sequence[float], *, mean: bool) -> Tensor:
        """The sum of the weighted changes that have the sign of the sum of all, where a sum of 0 counts as positive.

        mean: divided by the summed sizes of their weights. changes: float32, 0 where one has no say.
        """
        import torch

        up, down = torch.zeros_like(changes[0]), torch.zeros_like(changes[0])
        up_weight, down_weight = torch.zeros_like(up), torch.zeros_like(up)
        for change, weight in zip(changes, weights, strict=True):
            part = change * weight
            up += part.clamp(min=0)
            down += part.clamp(max=0)
            if mean:
                up_weight.add_(part > 0, alpha=abs(weight))
                down_weight.add_(part < 0, alpha=abs(weight))
        total = up + down
        size = up - down
        if (doubt := (total.abs() <= _DOUBT * size) & (size > 0)).any():
            # Neither the order of the models nor rounding is to decide.
            exact = torch.zeros(int(doubt.sum()), dtype=torch.float64, device=total.device)
            for change, weight in zip(changes, weights, strict=True):
                exact.add_(change[doubt].double(), alpha=weight)
            total[doubt] = exact.sign().float()
        # Products with masks of 0 and 1 are exact, and many times faster than torch.where.
        positive = (total >= 0).float()
        negative = 1 - positive
        self.conflicts += int(torch.count_nonzero((up > 0) & (down < 0)))
        self.present += int(torch.count_nonzero(size))
        elected = up.mul_(positive).add_(down.mul_(negative))
        if mean:
            weight_of = up_weight.mul_(positive).add_(down_weight.mul_(negative))
            elected /= weight_of.add_(weight_of == 0)
        return elected

    @property
    def share(self) -> float:
        """Of the numbers that any model changes, those that two change into opposite directions."""
        return self.conflicts / self.present if self.present else 0.0
