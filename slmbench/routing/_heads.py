"""What tells tasks apart by a text: the heads of a router, a file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, Self

from attrs import frozen

from slmbench.values import Array

Arrays = Mapping[str, Array]
"""name -> a numpy array."""
HeadSettings = Mapping[str, int]


class MisfitArrays(ValueError):
    """Arrays or settings that a head can't be made of; the message says which and why."""


class Features(Protocol):
    """What a base's own layers make of texts (`BaseFeatures`)."""

    @property
    def layers(self) -> int: ...

    def means(self, texts: Sequence[str], layer: int) -> Array: ...

    def strengths(self, texts: Sequence[str], directions: Arrays) -> Array: ...

    def has(self, module: str) -> bool: ...


@frozen
class Labeled:
    """Texts and the class of each, from 0; classes: how many there are."""

    texts: Sequence[str]
    labels: Sequence[int]
    classes: int


class RouterHead(Protocol):
    """A fitted head. name: as it is called. reads_base: whether it reads hidden states, or the text alone."""

    name: ClassVar[str]
    summary: ClassVar[str]
    reads_base: ClassVar[bool]

    def shares(self, texts: Sequence[str], base: Features | None) -> Array:
        """How likely each class is of each text: (texts, classes), float64, rows sum to 1."""

    @property
    def arrays(self) -> Arrays:
        """What it is made of, as it is written to a file."""

    @property
    def settings(self) -> HeadSettings:
        """The numbers that it is computed with."""

    @classmethod
    def load(cls, arrays: Arrays, settings: HeadSettings, classes: int) -> Self:
        """As it was written. Raises MisfitArrays."""


def softmax(values: Array) -> Array:
    """Of each row, in float64."""
    import numpy as np

    values = np.asarray(values, dtype=np.float64)
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


def fitting(arrays: Arrays, shapes: Mapping[str, tuple[int | None, ...]], same: Sequence[str] = ()) -> list[Array]:
    """The arrays of these names, in order. Raises MisfitArrays.

    shapes: None for a side of any length from 1 on. same: names of arrays whose last sides are of one length.
    """
    import numpy as np

    if arrays.keys() != shapes.keys():
        raise MisfitArrays(f"has the arrays {_listed(arrays)}, has to have {_listed(shapes)}")
    for name, shape in shapes.items():
        array = arrays[name]
        fits = len(array.shape) == len(shape) and all(
            n > 0 if m is None else n == m for n, m in zip(array.shape, shape, strict=True)
        )
        if not fits:
            wanted = " x ".join("any" if side is None else str(side) for side in shape)
            raise MisfitArrays(f"array {name!r} is {' x '.join(map(str, array.shape))}, has to be {wanted}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise MisfitArrays(f"array {name!r} holds NaN or infinity")
    widths = {name: arrays[name].shape[-1] for name in same}
    if len(set(widths.values())) > 1:
        raise MisfitArrays(f"arrays differ in width: {', '.join(f'{name} {n}' for name, n in widths.items())}")
    return [arrays[name] for name in shapes]


def setting(settings: HeadSettings, name: str, least: int, most: int) -> int:
    """A head's setting within bounds. Raises MisfitArrays."""
    value = settings.get(name)
    if value is None or not least <= value <= most:
        raise MisfitArrays(f"setting {name!r} is {value}, has to be {least} to {most}")
    return value


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"
