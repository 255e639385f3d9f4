"""Macro F1 of multiple choice whose options are classes."""

from __future__ import annotations

from collections.abc import Sequence

from slmbench.metrics.accuracy import likeliest_of
from slmbench.registry import metric
from slmbench.statistics.pooling import LabelF1, count_labels


@metric(
    "macro_f1",
    summary="Mean over classes of the F1 of the likeliest option, pooled over items.",
    version="1",
    reads_choices=True,
    pool=LabelF1(macro="macro_f1"),
    citation="Opitz and Burst 2019, Macro F1 and Macro F1, arXiv:1911.03347",
)
def class_counts(loglikelihoods: Sequence[float], choices: Sequence[str], gold: int) -> dict[str, list[int]]:
    """class -> [true positive, false positive, false negative] of one item; a class is a choice's text.

    The prediction is the likeliest option, as in `accuracy`. Raises ValueError as that does, and without choices.
    """
    best = likeliest_of(loglikelihoods, choices, gold)
    return count_labels([choices[best]], [choices[gold]])
