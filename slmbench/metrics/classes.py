"""Macro F1 of multiple choice whose options are classes."""

from __future__ import annotations

from slmbench.metrics._scorer import Scorer, gold_of, named, pooled_score
from slmbench.metrics.accuracy import likeliest_of
from slmbench.metrics.names import METRIC_SUMMARIES
from slmbench.statistics.pooling import LabelF1, count_labels
from slmbench.values import Example, Output


def class_counts(example: Example, output: Output) -> dict[str, list[int]]:
    """class -> [true positive, false positive, false negative] of one item; a class is a choice's text.

    The prediction is the likeliest option, as in `accuracy`. Raises ValueError as that does, and without choices.
    """
    gold = gold_of(example)
    best = named(example, likeliest_of, output.loglikelihoods, example.choices, gold)
    return count_labels([example.choices[best]], [example.choices[gold]])


_POOL = LabelF1(macro="macro_f1")

SCORERS: tuple[Scorer, ...] = (
    Scorer(
        name="macro_f1",
        version="1",
        kind="choice",
        values=("macro_f1",),
        score=pooled_score(class_counts, _POOL),
        description=METRIC_SUMMARIES["macro_f1"],
        citation="Opitz and Burst 2019, Macro F1 and Macro F1, arXiv:1911.03347",
        binary=False,
        reads_choices=True,
        parts=class_counts,
        pool=_POOL,
    ),
)
