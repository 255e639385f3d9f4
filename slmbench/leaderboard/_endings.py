"""How the answers of runs ended: what a limit or a stop string cut is not a whole answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slmbench.leaderboard._records import ScoredRun
from slmbench.runs import AT_LIMIT, AT_STOP
from slmbench.visible import visible


def endings_of(runs: Sequence[ScoredRun]) -> Mapping[str, tuple[int, int]]:
    """Run id -> how many answers were cut at max_tokens, and how many a stop string ended, by the runs' remarks."""
    remarks = {run.run_id: run.record.get("remarks", {}) for run in runs}
    return {run_id: (counts.get(AT_LIMIT, 0), counts.get(AT_STOP, 0)) for run_id, counts in remarks.items()}


def notices_of(runs: Sequence[ScoredRun]) -> list[str]:
    """What a reader has to know of answers that were cut."""
    ends = endings_of(runs)
    return [
        f"{visible(run.name)} on {visible(run.task)}: {ends[run.run_id][0]} of {run.n_samples} answers were {AT_LIMIT}"
        for run in runs
        if ends[run.run_id][0]
    ]
