"""Words and pieces of words, weighted by how rare they are, under a logistic regression: the baseline to beat."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

from attrs import define

from slmbench.routing._heads import Arrays, Features, HeadSettings, Labeled, MisfitArrays, fitting, softmax
from slmbench.values import Array

MAX_CHARS = 20_000
"""Of a text that are looked at."""
_MAX_TERMS = 50_000
_STRENGTH = 10.0
# Words with their neighbours, and pieces of words: names of drugs and of functions are seldom the same twice.
_KINDS: dict[str, dict[str, Any]] = {
    "words": {"analyzer": "word", "ngram_range": (1, 2)},
    "pieces": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}
_COMMON: dict[str, Any] = {"sublinear_tf": True, "lowercase": True}


@define(eq=False, slots=False)
class TfidfHead:
    """scikit-learn's TfidfVectorizer twice, of words and of pieces of words, and its LogisticRegression over both.

    terms: kind -> its n-grams, in order; idf: kind -> (terms,); weights: (classes, terms of both), bias: (classes,).
    """

    name: ClassVar[str] = "tfidf"
    summary: ClassVar[str] = "TF-IDF of words and pieces of words, logistic regression"
    reads_base: ClassVar[bool] = False

    terms: dict[str, list[str]]
    idf: dict[str, Array]
    weights: Array
    bias: Array

    @classmethod
    def fit(cls, rows: Labeled) -> Self:
        import numpy as np
        from scipy.sparse import hstack
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = _cut(rows.texts)
        made = {kind: TfidfVectorizer(max_features=_MAX_TERMS, **how, **_COMMON) for kind, how in _KINDS.items()}
        found = hstack([one.fit_transform(texts) for one in made.values()]).tocsr()
        weights, bias = logistic_regression(found, rows, _STRENGTH)
        terms = {kind: [str(term) for term in one.get_feature_names_out()] for kind, one in made.items()}
        return cls(terms, {kind: one.idf_.astype(np.float32) for kind, one in made.items()}, weights, bias)

    def shares(self, texts: Sequence[str], base: Features | None) -> Array:
        from scipy.sparse import hstack

        found = hstack([one.transform(_cut(texts)) for one in self._vectorizers]).tocsr()
        return softmax(found @ self.weights.T + self.bias)

    @cached_property
    def _vectorizers(self) -> list[Any]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        made = []
        for kind, how in _KINDS.items():
            one = TfidfVectorizer(vocabulary=self.terms[kind], **how, **_COMMON)
            one.idf_ = self.idf[kind]
            made.append(one)
        return made

    @property
    def arrays(self) -> Arrays:
        import numpy as np

        found: dict[str, Array] = {"weights": self.weights, "bias": self.bias}
        for kind in _KINDS:
            found[f"idf_{kind}"] = self.idf[kind]
            # No n-gram holds a line break: both analyzers take them for blanks.
            found[f"terms_{kind}"] = np.frombuffer("\n".join(self.terms[kind]).encode(), dtype=np.uint8)
        return found

    @property
    def settings(self) -> HeadSettings:
        return {}

    @classmethod
    def load(cls, arrays: Arrays, settings: HeadSettings, classes: int) -> Self:
        shapes: dict[str, tuple[int | None, ...]] = {"weights": (classes, None), "bias": (classes,)}
        shapes |= {f"{part}_{kind}": (None,) for kind in _KINDS for part in ("idf", "terms")}
        weights, bias, *_ = fitting(arrays, shapes)
        terms: dict[str, list[str]] = {}
        for kind in _KINDS:
            written = arrays[f"terms_{kind}"]
            if written.dtype.name != "uint8":
                raise MisfitArrays(f"array 'terms_{kind}' is of {written.dtype.name}, has to be of uint8")
            try:
                terms[kind] = written.tobytes().decode().split("\n")
            except UnicodeDecodeError as error:
                raise MisfitArrays(f"array 'terms_{kind}' is not UTF-8 (byte {error.start:,})") from None
            if len(set(terms[kind])) != len(arrays[f"idf_{kind}"]) or len(terms[kind]) != len(set(terms[kind])):
                raise MisfitArrays(f"array 'terms_{kind}' doesn't hold a term for each number of 'idf_{kind}'")
        if weights.shape[1] != sum(map(len, terms.values())):
            raise MisfitArrays("array 'weights' doesn't have a column for each term")
        return cls(terms, {kind: arrays[f"idf_{kind}"] for kind in _KINDS}, weights, bias)


def logistic_regression(found: Array, rows: Labeled, strength: float) -> tuple[Array, Array]:
    """(weights (classes, features), bias (classes,)), float32, of scikit-learn's regression; classes weigh alike.

    strength: its C. Of two classes too there is a row each, so that a softmax is its sigmoid.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    if rows.classes == 1:
        return np.zeros((1, found.shape[1]), dtype=np.float32), np.zeros(1, dtype=np.float32)
    made = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000).fit(found, rows.labels)
    weights, bias = made.coef_, made.intercept_
    if rows.classes == 2:
        weights, bias = np.concatenate([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
    return weights.astype(np.float32), bias.astype(np.float32)


def _cut(texts: Sequence[str]) -> list[str]:
    return [text[:MAX_CHARS] for text in texts]
