"""A file in `plugins/` of a folder on SLMBENCH_PATH: what it registers is there for all tasks and commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import slmbench

if TYPE_CHECKING:
    from torch import Tensor


@slmbench.metric(
    "chars_f1",
    summary="F1 of letters that two texts have in common, pooled over items.",
    version="1",
    pool=lambda parts: _f1(*(sum(column) for column in zip(*parts, strict=True))),
)
def chars_f1(output: str, references: Sequence[str]) -> list[int]:
    """What an item adds: letters in common, letters written, letters wanted."""
    from collections import Counter

    got, wanted = Counter(output), Counter(references[0])
    return [(got & wanted).total(), got.total(), wanted.total()]


def _f1(common: int, got: int, wanted: int) -> float:
    return 2 * common / (got + wanted) if got + wanted else 0.0


@slmbench.merge_method(
    "agreed",
    summary="The base plus the smallest change at each number, where all models change it into one direction.",
    version="1",
    needs_base=True,
    models=(2, None),
    ranges={"lambda": "[0, 10]"},
)
def agreed(
    tensors: Sequence[Tensor], base: Tensor, weights: Sequence[float], lambda_: float = 1.0
) -> tuple[Tensor, dict[str, float]]:
    """theta_0 + lambda d, where d is that w_i (theta_i - theta_0) which is nearest to 0, if all have one sign."""
    import torch

    least = weights[0] * (tensors[0].float() - base.float())
    agree = torch.ones_like(least, dtype=torch.bool)
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):  # One model in memory at a time.
        change = weight * (tensor.float() - base.float())
        agree &= least.sign() == change.sign()
        least = torch.where(change.abs() < least.abs(), change, least)
    return base.float() + lambda_ * least * agree, {"agreed": float(agree.float().mean())}
