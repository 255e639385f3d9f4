"""Golden rows where a split is not at hand: apart for training and evaluation, so that neither sees the other's."""

from __future__ import annotations

from attrs import evolve

from slmbench.datasets import Rows

HELD_ROWS = 2


def part_of_golden(golden: Rows, *, evaluated: bool) -> Rows:
    """The last two golden rows for the split that is evaluated, the others for any other split; all, of one row."""
    held = min(HELD_ROWS, len(golden.rows) // 2)
    if not held:
        return golden
    cut = len(golden.rows) - held
    return evolve(golden, rows=golden.rows[cut:] if evaluated else golden.rows[:cut])
