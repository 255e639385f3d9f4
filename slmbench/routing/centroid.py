"""The nearest mean: a class is where its texts' hidden states lie on average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from attrs import frozen

from slmbench.routing._heads import Arrays, Features, HeadSettings, Labeled, fitting, setting, softmax
from slmbench.routing._hidden import Scaling, layer_of, vectors
from slmbench.values import Array

_SHARPNESS = 10.0
"""What cosines are multiplied by before a softmax makes shares of them; the order of classes does not depend on it."""


@frozen(eq=False)
class CentroidHead:
    """The cosine of a text's standardised mean hidden state and the mean of each class. centroids: (classes, width)."""

    name: ClassVar[str] = "centroid"
    summary: ClassVar[str] = "the base's mean hidden state, nearest mean of a class"
    reads_base: ClassVar[bool] = True

    scaling: Scaling
    centroids: Array
    layer: int

    @classmethod
    def fit(cls, rows: Labeled, base: Features) -> Self:
        import numpy as np

        layer, labels = layer_of(base), np.asarray(rows.labels)
        found = vectors(base, rows.texts, layer)
        scaling = Scaling.of(found)
        scaled = scaling.apply(found)
        return cls(scaling, np.stack([scaled[labels == one].mean(axis=0) for one in range(rows.classes)]), layer)

    def shares(self, texts: Sequence[str], base: Features | None) -> Array:
        scaled = self.scaling.apply(vectors(base, texts, self.layer))
        return softmax(_SHARPNESS * _unit(scaled) @ _unit(self.centroids).T)

    @property
    def arrays(self) -> Arrays:
        return {**self.scaling.arrays, "centroids": self.centroids}

    @property
    def settings(self) -> HeadSettings:
        return {"layer": self.layer}

    @classmethod
    def load(cls, arrays: Arrays, settings: HeadSettings, classes: int) -> Self:
        centroids, mean, spread = fitting(
            arrays,
            {"centroids": (classes, None), "mean": (None,), "spread": (None,)},
            same=("centroids", "mean", "spread"),
        )
        return cls(Scaling(mean, spread), centroids, setting(settings, "layer", 1, 10_000))


def _unit(rows: Array) -> Array:
    import numpy as np

    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
