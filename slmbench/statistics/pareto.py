"""Which of several things no other one beats in every respect."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(rows: Sequence[Sequence[float]], maximise: Sequence[bool]) -> list[bool]:
    """Whether each row is on the Pareto front.

    rows: one finite number an objective; maximise: for each objective whether more is better. A row is off the front
    where another one is at least as good in every objective and better in one; equal rows are on it together.
    Raises ValueError if a row has another number of objectives, or one that is NaN.
    """
    for position, row in enumerate(rows):
        if len(row) != len(maximise):
            raise ValueError(f"row {position} has {len(row)} objectives instead of {len(maximise)}")
        if any(value != value for value in row):
            raise ValueError(f"row {position} has an objective that is NaN: {list(row)}")
    gains = [tuple(value if more else -value for value, more in zip(row, maximise, strict=True)) for row in rows]
    # Sorted from the best: a row can only be beaten by one before it, or equal to it.
    order = sorted(range(len(gains)), key=lambda i: gains[i], reverse=True)
    front: list[tuple[float, ...]] = []
    on_front = [False] * len(gains)
    for i in order:
        if not any(_beats(other, gains[i]) for other in front):
            on_front[i] = True
            front.append(gains[i])
    return on_front


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
