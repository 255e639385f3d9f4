"""Everything that a run's files say of one another, made again: what `slmbench runs verify` looks at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.errors import FileError, Problem
from slmbench.foreign import faults
from slmbench.leaderboard._derived import derive, derive_metrics
from slmbench.leaderboard._followed import follow
from slmbench.leaderboard._pooled import pool_of, pooled
from slmbench.leaderboard._sums import Sums
from slmbench.runs import (
    ITEM_SCORES,
    LEFT_OUT,
    RECORD,
    SAMPLES,
    ItemScores,
    differing_score,
    item_hash,
    make_item_scores,
    read_item_scores,
    read_record,
    verify,
)
from slmbench.seal import SEAL
from slmbench.values import JsonObject

# Of pseudo-values, which are differences of sums, and may be summed in another order elsewhere.
_TOLERANCE = 1e-6


@frozen
class Audit:
    """What came of one run. status: of its record; `damaged` if that can't be read, `unfinished` without one.

    problems: every fault, the first mismatch first. notes: what could not be looked at, and why. n_samples: lines that
    were read. values: metrics that were made again.
    """

    folder: Path
    status: str
    run_id: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    n_samples: int = 0
    values: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems


def audit(folder: Path, catalog: Catalog | None = None, others: Mapping[str, Path] | None = None) -> Audit:
    """Looks at all that a run's files say: every digest, every line, every value, every item's score. Never raises
    SlmbenchError.

    others: run id -> the folder of a run that others may be made of; those beside it are found.
    catalog: knows the tasks whose plugins brought pooled metrics. What an index knows is not believed.
    """
    of_record = os.path.join(folder, RECORD)
    try:
        record = read_record(folder)
    except FileNotFoundError:
        return Audit(folder, "unfinished", folder.name)
    except FileError as error:
        return Audit(folder, "damaged", folder.name, tuple(error.problems))
    status, run_id = str(record["status"]), str(record.get("run_id") or folder.name)
    if status in LEFT_OUT:
        return Audit(folder, status, run_id)
    notes = []
    if record.get(SEAL) is None:
        notes.append(f"{RECORD} has no digest of itself, as of an earlier version: an edit of it can't be seen")
    sums = Sums()
    derived = derive(record, catalog)
    notes += derived.notes
    found = derived.faults
    problems: list[Problem] = []
    items: ItemScores | None = None
    n_samples = 0
    try:
        read = verify(folder, record, partial(pool_of, record=record, catalog=catalog), sums)
        n_samples = read.n_samples
        estimates, pseudo = pooled(read, record, catalog)
        of_metrics = derive_metrics(record, read, estimates, sums, catalog)
        notes += of_metrics.notes
        own = record.get("imported") is None and record.get("code") is not None
        found = [*sums.faults_of(record), *(sums.own_faults(record) if own else []), *of_metrics.faults, *found]
        followed = follow(folder, record, others or {})
        notes += followed.notes
        found = [*found, *followed.faults]
        scores = {**read.scores, **pseudo}
        names = [metric.name for metric in read.metrics]
        items = make_item_scores(names, scores, read.clusters, n_samples=n_samples)
    except FileError as error:
        problems += error.problems
    except ValueError as error:
        problems.append(Problem(str(folder / SAMPLES), 0, 0, f"its pooled metrics have no interval: {error}"))
    problems += faults(of_record, found).problems
    problems += _of_columns(folder, record, items, sums.ids, notes)
    return Audit(folder, status, run_id, tuple(problems), tuple(notes), n_samples, len(record["metrics"]))


def _of_columns(
    folder: Path, record: JsonObject, made: ItemScores | None, ids: Sequence[str], notes: list[str]
) -> list[Problem]:
    """What the file of item scores says and the samples don't. made: of the samples, if these are sound."""
    path = folder / ITEM_SCORES
    try:
        kept = read_item_scores(folder, record)
    except FileError as error:
        # What the record and its samples say of each other is told already.
        own = [problem for problem in error.problems if problem.path.endswith(ITEM_SCORES)]
        return own if own or made is None else error.problems
    if kept is None:
        if record.get("item_scores_sha256") is not None:
            notes.append(f"{ITEM_SCORES} is not there: the samples alone were looked at")
        return []
    if made is not None and (said := first_difference(kept, made, ids)):
        return [Problem(str(path), 0, 0, said)]
    return []


def first_difference(kept: ItemScores, made: ItemScores, ids: Sequence[str]) -> str | None:
    """The first item that a file of item scores has otherwise than the samples, which `made` is of; None if none.

    ids: of the items of the samples, in order.
    """
    import numpy as np

    if len(kept) != len(made) or not np.array_equal(kept.items, made.items):
        there = kept.items.tolist()
        known = {item_hash(item): item for item in ids}
        for position, item in enumerate(ids):
            if position >= len(there) or there[position] != item_hash(item):
                other = known.get(there[position], "another item") if position < len(there) else "nothing"
                return f"row {position + 1} is of {other!r}, and of {item!r} in {SAMPLES}"
        return f"has {len(kept)} items, {SAMPLES} has {len(made)}"
    none = np.full(len(made), -1)
    groups = [one.clusters if one.clusters is not None else none for one in (kept, made)]
    if (odd := np.flatnonzero(groups[0] != groups[1])).size:
        return f"item {ids[odd[0]]!r} is in another cluster than in {SAMPLES}"
    if (odd_score := differing_score(made, kept, _TOLERANCE)) is not None:
        where, name = odd_score
        got = f"item {ids[where]!r} has {float(kept.scores[name][where])!r} of {name!r}"
        return f"{got}, {SAMPLES} gives {float(made.scores[name][where])!r}"
    if kept.n_samples != made.n_samples:
        return f"says that it is of {kept.n_samples} samples, {SAMPLES} has {made.n_samples}"
    return None
