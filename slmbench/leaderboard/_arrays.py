"""Scores of several runs as arrays over the same items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slmbench.leaderboard._records import ScoredRun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALONE = -1


def stacked(runs: Sequence[ScoredRun], name: str) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """(scores: (runs, items), NaN where a run lacks an item; clusters: (items,), -1 of an item alone) of a metric.

    The items are those of all runs, in the order of the first; runs of one comparability key have the same ones.
    Clusters are None if no item has one.
    """
    import numpy as np

    first = runs[0].items
    if all(run.items.items is first.items or np.array_equal(run.items.items, first.items) for run in runs):
        scores = np.array([run.items.scores[name] for run in runs], dtype=np.float64)
        labels = next((run.items.clusters for run in runs if run.items.clusters is not None), None)
        return scores, labels
    order = np.array(list(dict.fromkeys(item for run in runs for item in run.items.items.tolist())), dtype=np.uint64)
    sorter = np.argsort(order)
    scores = np.full((len(runs), len(order)), np.nan)
    clusters = np.full(len(order), ALONE, dtype=np.int64)
    for position, run in enumerate(runs):
        places = sorter[np.searchsorted(order, run.items.items, sorter=sorter)]
        scores[position, places] = run.items.scores[name]
        if run.items.clusters is not None:
            clusters[places] = run.items.clusters
    return scores, None if (clusters == ALONE).all() else clusters
