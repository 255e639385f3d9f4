"""Generated rows whose splits cannot overlap: what a row is about decides, by its hash, which split it may be in."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Hashable
from typing import Any

from slmbench.values import JsonObject

Draw = Callable[[random.Random], tuple[Hashable, dict[str, Any]]]


def split_of(essence: Hashable) -> str:
    """The only split that a row with this essence can be in: a tenth each for test and validation, the rest train."""
    bucket = hashlib.sha256(repr(essence).encode()).digest()[0] % 10
    return {0: "test", 1: "validation"}.get(bucket, "train")


def row_of(task: str, split: str, index: int, seed: int, draw: Draw) -> JsonObject:
    """Row number index of a split: draws until the essence falls into that split.

    draw(rng) -> (essence, row). The essence holds what makes two rows the same question (its numbers, its facts), not
    how it is dressed. Deterministic in all arguments. Raises ValueError for a split that isn't one of the three.
    """
    if split not in ("train", "validation", "test"):
        raise ValueError(f"unknown split {split!r}; generated splits are train, validation and test")
    rng = random.Random(f"{task}/{seed}/{split}/{index}")
    while True:
        essence, row = draw(rng)
        if split_of(essence) == split:
            return row
