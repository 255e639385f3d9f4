"""What a run says that ended before its set did, because it was decided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from slmbench.foreign import Amount, AnyText, Count, Number
from slmbench.runs._part import Filled, Part

PAUSED = "paused"
"""The status of the run on the whole set: its journal holds the answers, and it goes on from there."""


def _is_level(share: float) -> float:
    if not 0 < share < 1:
        raise ValueError("a number above 0 and below 1")
    return share


class StoppedPart(Part):
    """How a comparison with another run came out, item by item in random order, and where it ended.

    n: items that were drawn until then
    total: items of the whole set
    seed: of the order, which is made of it and the items' ids
    order_sha256: of the ids of all items, in the order of drawing
    metric: that was compared
    against: run_id of the other run
    against_sha256: of its samples.jsonl
    margin: a difference that was not to matter, in the metric's units; null if each was to
    alpha: probability of a wrong verdict at most; its part of 5%, if several comparisons were asked for at once
    verdict: better, worse, equal (within the margin), or undecided
    by: what decided it: sequence, margin, or all items; empty for nothing
    wins: items of n on which this run is better
    losses: items of n on which the other is
    ties: items of n on which both are the same
    e_value: against "equally good"; 1 / (.8 alpha) decides, 25 at 5%
    p: of the same, valid wherever it stopped: 1 / (.8 times the largest e-value), or alpha if all items decide; better
      and worse are the verdict if it is alpha at most
    difference: mean over n, this run's minus the other's; of clusters, their mean sum over the clusters' mean size
    ci_lo: lower end of its 1 - alpha interval, which holds wherever it stopped; what it excludes is decided
    ci_hi: upper end of the same
    whole: run_id of the run on the whole set, whose journal holds the answers
    whole_key: comparability key of that run
    """

    n: Count
    total: Count
    seed: int
    order_sha256: Filled
    metric: Filled
    against: Filled
    against_sha256: Filled
    margin: Number | None = None
    alpha: Annotated[Amount, AfterValidator(_is_level)] = 0.05
    verdict: Literal["better", "worse", "equal", "undecided"]
    by: AnyText
    wins: Count
    losses: Count
    ties: Count
    e_value: Amount
    p: Amount
    difference: Number
    ci_lo: Number
    ci_hi: Number
    whole: Filled
    whole_key: Filled

    @property
    def badge(self) -> str:
        """What the run is marked by wherever it is shown."""
        return f"stopped at {self.n} ({'undecided' if self.verdict == 'undecided' else 'decided'})"
