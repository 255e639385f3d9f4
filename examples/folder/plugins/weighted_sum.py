"""A file in `plugins/` of a folder on SLMBENCH_PATH: what it registers is there for all tasks and commands."""

from __future__ import annotations

from collections.abc import Sequence

import slmbench


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


@slmbench.merge_method("plain_sum", summary="The sum of the tensors, each times its weight.", version="1")
def plain_sum(tensors: Sequence[object], base: object, weights: Sequence[float]) -> object:
    """One tensor of the same shape."""
    return sum(weight * tensor for weight, tensor in zip(weights, tensors, strict=True))
