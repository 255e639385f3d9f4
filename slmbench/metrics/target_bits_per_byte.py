"""How surprised a model is by the answer that it was to write: what packing loses first, before a word is wrong."""

from __future__ import annotations

import math

from slmbench.registry import metric


@metric(
    "target_bits_per_byte",
    summary="Bits that the answer which a model was to write costs, per UTF-8 byte of it; lower is better.",
    version="1",
    higher_is_better=False,
    range=None,
    citation="Gao et al. 2020, The Pile, arXiv:2101.00027, section 3.1",
)
def target_bits_per_byte(target_loglikelihood: float, target_bytes: int) -> float:
    """-log2 of the target's probability, divided by its UTF-8 bytes.

    target_loglikelihood: nats, summed over the tokens of the target behind its prompt, without the end of the text.
    target_bytes: of the target as its format writes it, which is what was scored, without the delimiter before it. A
    run's value is the mean over items. Raises ValueError for a NaN, an infinite value, or an empty target.
    """
    if target_bytes < 1:
        raise ValueError("the target is empty: target_bits_per_byte divides by its length")
    if not math.isfinite(target_loglikelihood):
        raise ValueError(f"the log-likelihood of the target is {target_loglikelihood}")
    return -target_loglikelihood / (math.log(2) * target_bytes)
