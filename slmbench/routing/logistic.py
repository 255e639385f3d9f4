"""A logistic regression on the base's hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from attrs import frozen

from slmbench.routing._heads import Arrays, Features, HeadSettings, Labeled, fitting, setting, softmax
from slmbench.routing._hidden import Scaling, layer_of, vectors
from slmbench.routing.tfidf import logistic_regression
from slmbench.values import Array

_STRENGTH = 0.01
"""scikit-learn's C: there are more features than rows, all of spread 1."""


@frozen(eq=False)
class LogisticHead:
    """weights: (classes, width), bias: (classes,), of a text's standardised mean hidden state."""

    name: ClassVar[str] = "logistic"
    summary: ClassVar[str] = "the base's mean hidden state, logistic regression"
    reads_base: ClassVar[bool] = True

    scaling: Scaling
    weights: Array
    bias: Array
    layer: int

    @classmethod
    def fit(cls, rows: Labeled, base: Features) -> Self:
        layer = layer_of(base)
        found = vectors(base, rows.texts, layer)
        scaling = Scaling.of(found)
        weights, bias = logistic_regression(scaling.apply(found), rows, _STRENGTH)
        return cls(scaling, weights, bias, layer)

    def shares(self, texts: Sequence[str], base: Features | None) -> Array:
        return softmax(self.scaling.apply(vectors(base, texts, self.layer)) @ self.weights.T + self.bias)

    @property
    def arrays(self) -> Arrays:
        return {**self.scaling.arrays, "weights": self.weights, "bias": self.bias}

    @property
    def settings(self) -> HeadSettings:
        return {"layer": self.layer}

    @classmethod
    def load(cls, arrays: Arrays, settings: HeadSettings, classes: int) -> Self:
        weights, bias, mean, spread = fitting(
            arrays,
            {"weights": (classes, None), "bias": (classes,), "mean": (None,), "spread": (None,)},
            same=("weights", "mean", "spread"),
        )
        return cls(Scaling(mean, spread), weights, bias, setting(settings, "layer", 1, 10_000))
