"""Scores of the same answers, computed among other rows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

MOVED = {"bits_per_byte": 2e-4, "target_bits_per_byte": 2e-4}
"""What is made of log-likelihoods, whose float32 sums other rows of a pass move by 1e-4 nats in their last digits."""


def check_scores(scores: Mapping[str, float], others: Mapping[str, float]) -> None:
    """Equal, but for what `MOVED` names."""
    assert scores == {
        name: pytest.approx(value, rel=0, abs=MOVED[name]) if name in MOVED else value for name, value in others.items()
    }


def values_of(run: object) -> dict[str, float]:
    """Metric -> its value in a run's record."""
    return {metric["name"]: metric["value"] for metric in run.record["metrics"]}  # type: ignore[attr-defined]
