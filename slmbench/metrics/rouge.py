"""ROUGE of summaries, by the rouge_score library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from slmbench.metrics._scorer import Scorer, text_score
from slmbench.metrics.names import METRIC_SUMMARIES

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def rouge(prediction: str, references: Sequence[str]) -> dict[str, float]:
    """F-measures in [0, 1] by ROUGE type, each against the reference that is best for it.

    No stemming, as in `evaluate`'s rouge, which reports a bootstrapped mean where slmbench reports the mean. rougeLsum
    takes every line for a sentence. The tokenizer keeps the letters a-z and digits only: texts in other scripts score
    0. Raises ValueError without references. Source: Lin 2004.
    """
    if isinstance(references, str):
        raise ValueError(f"references must be a list of texts, got the text {references[:80]!r}; wrap it in a list")
    if not references:
        raise ValueError("no references to compare with; give at least one")
    best = _library().score_multi(list(references), prediction)
    return {rouge_type: float(best[rouge_type].fmeasure) for rouge_type in ROUGE_TYPES}


@lru_cache(maxsize=1)
def _library() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    # Handed over, because the library logs a line for each scorer that makes its own.
    return RougeScorer(list(ROUGE_TYPES), tokenizer=DefaultTokenizer(use_stemmer=False))


SCORERS: tuple[Scorer, ...] = (
    Scorer(
        name="rouge",
        version="1",
        kind="text",
        values=ROUGE_TYPES,
        score=text_score(rouge),
        description=METRIC_SUMMARIES["rouge"],
        citation="Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, Text Summarization Branches Out",
        binary=False,
    ),
)
