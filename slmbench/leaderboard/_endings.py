"""How the answers of runs ended: what a limit or a stop string cut is not a whole answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slmbench.leaderboard._records import ScoredRun
from slmbench.visible import visible

AT_LIMIT, AT_STOP = "cut at max_tokens", "ended by a stop string"


def endings_of(runs: Sequence[ScoredRun]) -> Mapping[str, tuple[int, int]]:
    """Run id -> how many answers were cut at max_tokens, and how many a stop string ended, by the runs' remarks."""
    found = {}
    for run in runs:
        remarks = run.record.get("remarks")
        counts = [remarks.get(key) if isinstance(remarks, Mapping) else None for key in (AT_LIMIT, AT_STOP)]
        at_limit, at_stop = (count if isinstance(count, int) else 0 for count in counts)
        found[run.run_id] = (at_limit, at_stop)
    return found


def notices_of(runs: Sequence[ScoredRun]) -> list[str]:
    """What a reader has to know of answers that were cut."""
    ends = endings_of(runs)
    return [
        f"{visible(run.name)} on {visible(run.task)}: {ends[run.run_id][0]} of {run.n_samples} answers were {AT_LIMIT}"
        for run in runs
        if ends[run.run_id][0]
    ]
