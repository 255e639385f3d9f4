"""Runs read from their folders, a thousand in seconds; each is what it claims, or is left out with its faults."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.errors import FileError, Problem
from slmbench.leaderboard._pooled import pool_of, pooled
from slmbench.leaderboard._records import RunProblems, ScoredRun
from slmbench.runs import (
    ITEM_SCORES,
    LEFT_OUT,
    PAUSED,
    RECORD,
    SAMPLES,
    ItemScores,
    MetricPart,
    RunIdentity,
    SampleHashes,
    differing_score,
    identity_faults,
    located_runs,
    make_item_scores,
    read_item_scores,
    read_record,
    verify,
)
from slmbench.seal import SEAL
from slmbench.values import Estimate, JsonObject
from slmbench.visible import visible

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Log-likelihoods of two calls differ by what a batch rounds; an answer that is right in one of them doesn't.
_SAME = 1e-4


@frozen(eq=False)
class LoadedRuns:
    """What `read_runs` found. runs: oldest first. notices: about runs that are no fault's. problems: of those left out.

    left_out: the folders of the runs that don't hold what they claim.
    """

    runs: tuple[ScoredRun, ...]
    notices: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    left_out: tuple[Path, ...] = ()


def load_runs(
    paths: Path | str | Iterable[Path | str], catalog: Catalog | None = None
) -> tuple[list[ScoredRun], list[str]]:
    """All finished runs under paths, oldest first, and notices about those that were left out, as of `read_runs`.

    Raises RunProblems with the faults of all runs at once, UsageError if a path holds no run at all.
    """
    loaded = read_runs(paths, catalog)
    if loaded.problems:
        raise RunProblems(list(loaded.problems))
    return list(loaded.runs), list(loaded.notices)


def read_runs(paths: Path | str | Iterable[Path | str], catalog: Catalog | None = None) -> LoadedRuns:
    """All finished runs under paths that hold what they claim; the rest is left out, with its faults or a notice.

    paths: each an output folder (its `runs/` is read), a folder of run folders, one run's folder, or its run.json. A
    run that hasn't finished, failed or was invalidated is left out with a notice. Every finished run is checked: the
    record's own digest and its fields, the hashes of samples.jsonl and of the item scores, and every recorded value
    against them. One without item scores, as of an earlier version, is read from its samples: no item twice, every
    value the mean of their scores.
    catalog: knows the tasks whose plugins brought pooled metrics; `default_catalog()` unless given.
    Raises UsageError if a path holds no run at all.
    """
    if isinstance(paths, (str, Path)):
        paths = [paths]
    folders = {real: folder for path in paths for real, folder in located_runs(Path(path))}
    found = _Found()
    with SampleHashes() as hashes:
        reads = [_begin(folder, found, hashes) for folder in folders.values()]
        for read in reads:
            if read is not None:
                found.add(_end(read, found, catalog))
    runs = found.runs()
    if unsealed := [visible(run.run_id) for run in runs if run.record.get(SEAL) is None]:
        more = f" and {len(unsealed) - 3} more" if len(unsealed) > 3 else ""
        said = f"an edit of their {RECORD} can't be seen, which has no digest of itself, as of an earlier version"
        found.notices.append(f"{', '.join(unsealed[:3])}{more}: {said}")
    return LoadedRuns(tuple(runs), tuple(found.notices), tuple(found.problems), tuple(found.left_out))


class _Found:
    """What has been read so far."""

    def __init__(self) -> None:
        self._twins: dict[str, list[ScoredRun]] = defaultdict(list)
        self.notices: list[str] = []
        self.problems: list[Problem] = []
        self.left_out: list[Path] = []
        self._arrays: dict[bytes, NDArray[Any]] = {}

    def shared(self, array: NDArray[Any]) -> NDArray[Any]:
        """The one array of equal ones: most runs of a task have the same items."""
        return self._arrays.setdefault(hashlib.sha256(array.tobytes()).digest(), array)

    def fault(self, folder: Path, problems: Iterable[Problem]) -> None:
        self.problems.extend(problems)
        self.left_out.append(folder)

    def add(self, run: ScoredRun | None) -> None:
        if run is not None:
            self._twins[run.run_id].append(run)

    def runs(self) -> list[ScoredRun]:
        """One run of each id, oldest first. What is there twice counts once, or not at all if it contradicts itself."""
        found = []
        for twins in self._twins.values():
            newest = max(twins, key=lambda run: (run.created, str(run.record.get(SEAL))))
            others = [run for run in twins if run is not newest]
            if said := next(filter(None, (_contradiction(newest, other) for other in others)), None):
                for run in twins:
                    self.fault(run.folder, [Problem(str(run.folder / RECORD), 0, 0, said)])
                continue
            found.append(newest)
            for other in others:
                what = "appears twice" if other.record == newest.record else "was made twice, with the same scores"
                where = f"({newest.folder} and {other.folder})"
                counts = "it counts once" if other.record == newest.record else f"{newest.folder} counts, the newer one"
                self.notices.append(f"run {visible(newest.run_id)} {what} {visible(where)}; {visible(counts)}")
        return sorted(found, key=lambda run: (run.created, run.run_id))


def _contradiction(one: ScoredRun, other: ScoredRun) -> str | None:
    """What two runs of one id say differently of what was asked, or of what came out; None if nothing."""
    names = f"run_id {one.run_id!r} is that of {one.folder} and of {other.folder}"
    keys = [key for key in (*RunIdentity.model_fields, "comparability_key") if key in one.record]
    wanted = {key: one.record[key] for key in keys} | {"comparability_key": one.comparability_key}
    if odd := identity_faults(other.record, wanted):
        return (
            f"{names}, which differ in {', '.join(key for key, *_ in odd)}; move away the one that isn't what it says"
        )
    said = None
    if one.items.scores.keys() != other.items.scores.keys():
        said = "have other metrics"
    elif one.items.items.tolist() != other.items.items.tolist():
        said = "have other items"
    elif (odd_score := differing_score(one.items, other.items, _SAME)) is not None:
        said = f"have other scores of {odd_score[1]!r}"
    return said and f"{names}, which {said}: the same evaluation came out in two ways; move one of them away"


@frozen(eq=False)
class _Begun:
    """A run whose record was read. items: by its columns, if it has any. faults: of these. check: of its samples."""

    folder: Path
    record: JsonObject
    items: ItemScores | None = None
    faults: tuple[Problem, ...] = ()
    check: Callable[[], None] | None = None


def _begin(folder: Path, found: _Found, hashes: SampleHashes) -> _Begun | None:
    """The run in folder, or None after a fault or a notice was added."""
    try:
        record = read_record(folder)
    except FileNotFoundError:
        found.notices.append(f"{visible(str(folder))}: unfinished run (no run.json yet); left out")
        return None
    except FileError as error:
        found.fault(folder, error.problems)
        return None
    if record["status"] == PAUSED and "metrics" not in record:
        return None  # The stopped run that it is the rest of is there, and says so.
    if (status := record["status"]) in LEFT_OUT:
        said = {"started": "unfinished run; run the same command again to resume it", "error": "failed run"}
        name = visible(str(record.get("run_id") or folder.name))
        found.notices.append(f"{name}: {said.get(status, 'invalidated run')}; left out")
        return None
    try:
        items = read_item_scores(folder, record, found.shared)
    except FileError as error:
        return _Begun(folder, record, faults=tuple(error.problems))
    if items is None:
        if record.get("item_scores_sha256") is not None:
            path = visible(str(folder / ITEM_SCORES))
            found.notices.append(f"{path} is not there; its run was read from its samples")
        return _Begun(folder, record)
    return _Begun(folder, record, items, check=hashes.begin(folder, record))


def _end(begun: _Begun, found: _Found, catalog: Catalog | None) -> ScoredRun | None:
    """The run, or None after its faults were added."""
    folder, record, items, faults = begun.folder, begun.record, begun.items, list(begun.faults)
    metrics = tuple(MetricPart.model_validate(metric, extra="ignore") for metric in record["metrics"])
    estimates = {
        one.name: Estimate(one.value, one.se or 0.0, one.ci_lo, one.ci_hi, one.n, one.method)
        for one in metrics
        if one.pooled
    }
    try:
        if begun.check is not None:
            begun.check()
    except FileError as error:
        items, faults = None, error.problems
    if items is None:  # Also where a file was changed: a reader wants to know of each line.
        try:
            items, estimates = _from_samples(begun, metrics, catalog, found)
        except FileError as error:
            # What both say, this one says of the line.
            faults = [one for one in faults if one.path.endswith(ITEM_SCORES)] + error.problems
    if faults or items is None:
        found.fault(folder, faults)
        return None
    created = datetime.fromisoformat(record["created"])
    created = created if created.tzinfo else created.replace(tzinfo=UTC)
    return ScoredRun(folder, record, created, metrics, items, estimates)


def _from_samples(
    begun: _Begun, metrics: Sequence[MetricPart], catalog: Catalog | None, found: _Found
) -> tuple[ItemScores, dict[str, Estimate]]:
    """Item scores and pooled estimates, from every line of samples.jsonl. Raises FileError."""
    folder, record = begun.folder, begun.record
    read = verify(folder, record, partial(pool_of, record=record, catalog=catalog))
    try:
        estimates, pseudo = pooled(read, record, catalog)
    except ValueError as error:
        said = f"its pooled metrics have no interval: {error}"
        raise FileError([Problem(str(folder / SAMPLES), 0, 0, said)]) from error
    scores = {**read.scores, **pseudo}
    names = [metric.name for metric in metrics]
    return make_item_scores(names, scores, read.clusters, found.shared, read.n_samples), estimates
