"""The length of a text and nothing else: what a router has to beat before its accuracy says anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from attrs import frozen

from slmbench.routing._heads import Arrays, Features, HeadSettings, Labeled, MisfitArrays, fitting, softmax
from slmbench.values import Array

_LEAST_SPREAD = 0.05


@frozen(eq=False)
class LengthHead:
    """A normal distribution of the logarithm of a text's characters for each class, all classes as likely.

    means, spreads: (classes,), float64.
    """

    name: ClassVar[str] = "length"
    summary: ClassVar[str] = "the length of the text alone; a baseline"
    reads_base: ClassVar[bool] = False

    means: Array
    spreads: Array

    @classmethod
    def fit(cls, rows: Labeled) -> Self:
        import numpy as np

        sizes, labels = _sizes(rows.texts), np.asarray(rows.labels)
        of_class = [sizes[labels == one] for one in range(rows.classes)]
        spreads = np.array([max(sizes.std(), _LEAST_SPREAD) for sizes in of_class])
        return cls(np.array([sizes.mean() for sizes in of_class]), spreads)

    def shares(self, texts: Sequence[str], base: Features | None) -> Array:
        import numpy as np

        away = (_sizes(texts)[:, None] - self.means[None]) / self.spreads[None]
        return softmax(-0.5 * away**2 - np.log(self.spreads)[None])

    @property
    def arrays(self) -> Arrays:
        return {"means": self.means, "spreads": self.spreads}

    @property
    def settings(self) -> HeadSettings:
        return {}

    @classmethod
    def load(cls, arrays: Arrays, settings: HeadSettings, classes: int) -> Self:
        means, spreads = fitting(arrays, {"means": (classes,), "spreads": (classes,)})
        if not (spreads > 0).all():
            raise MisfitArrays("array 'spreads' holds a number that is not above 0")
        return cls(means, spreads)


def _sizes(texts: Sequence[str]) -> Array:
    import numpy as np

    return np.log1p(np.array([len(text) for text in texts], dtype=np.float64))
