"""How surprised a model is by the right option, which still tells models apart whose accuracy is that of guessing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slmbench.metrics.accuracy import likeliest_of
from slmbench.registry import metric


@metric(
    "bits_per_byte",
    summary="Bits that the right option costs, per UTF-8 byte of it; lower is better.",
    version="1",
    higher_is_better=False,
    range=None,
    reads_choices=True,
    citation="Gao et al. 2020, The Pile, arXiv:2101.00027, section 3.1",
)
def bits_per_byte(loglikelihoods: Sequence[float], written: Sequence[str], gold: int) -> float:
    """-log2 of the right option's probability, divided by the option's UTF-8 bytes.

    loglikelihoods: nats, one an option. written: the options as their format writes them, which is what was scored,
    without the delimiter that the prompt puts before them. gold: 0-based. A run's value is the mean over items, where
    lm-eval's of that name, which is for whole texts, divides the sum of bits by the sum of bytes. Raises ValueError for
    a NaN, an infinite value of the right option, a gold out of range, lengths that differ, or an empty right option.
    """
    likeliest_of(loglikelihoods, written, gold)
    n_bytes = len(written[gold].encode("utf-8", "surrogatepass"))
    if not n_bytes:
        raise ValueError(f"option {gold}, the right one, is empty: bits_per_byte divides by its length")
    if math.isinf(loglikelihoods[gold]):
        raise ValueError(f"the log-likelihood of option {gold}, the right one, is infinite")
    return -loglikelihoods[gold] / (math.log(2) * n_bytes)
