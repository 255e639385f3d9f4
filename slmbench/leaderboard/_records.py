"""Finished runs, read back from their folders and checked against their own samples before anything is ranked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import field, frozen

from slmbench.catalog import Catalog
from slmbench.errors import FileError, Problem, SlmbenchError, UsageError
from slmbench.leaderboard._pooled import pool_of, pooled
from slmbench.runs import (
    ALONE,
    ITEM_SCORES,
    LEFT_OUT,
    RECORD,
    SAMPLES,
    ItemScores,
    MetricPart,
    check_samples,
    comparability_key,
    make_item_scores,
    metric_key,
    read_item_scores,
    read_record,
    verify,
)
from slmbench.values import Estimate, JsonObject
from slmbench.visible import visible

if TYPE_CHECKING:
    from numpy.typing import NDArray

TWIN = "twin"


class RunProblems(SlmbenchError):
    """Runs that don't hold what they claim; `problems` has every fault of every run, each with its file.

    left_out: whether the others were ranked without them.
    """

    def __init__(self, problems: list[Problem], *, left_out: bool = False) -> None:
        self.problems = list(problems)
        lines = [visible(str(problem)) for problem in self.problems]
        what = "these runs are left out" if left_out else "nothing was ranked"
        lines.append(f"{what}: run them again (`slmbench eval`), or move their folders away")
        super().__init__("\n".join(lines))


@frozen(eq=False)
class ScoredRun:
    """One finished run whose samples were checked.

    record: run.json as it is. items: the scores of its items, as columns. folder: where run.json and samples.jsonl lie.
    n_samples: lines of samples.jsonl. pooled: the estimates of pooled metrics.
    """

    folder: Path
    record: JsonObject
    created: datetime
    metrics: tuple[MetricPart, ...]
    items: ItemScores = field(repr=False)
    n_samples: int = 0
    pooled: Mapping[str, Estimate] = field(factory=dict, repr=False)

    @cached_property
    def clusters(self) -> Mapping[int, str | None]:
        """An item's hash -> its cluster, None for an item on its own: a view of `items`."""
        items = self.items.items.tolist()
        if self.items.clusters is None:
            return dict.fromkeys(items)
        labels = [None if one == ALONE else str(one) for one in self.items.clusters.tolist()]
        return dict(zip(items, labels, strict=True))

    @cached_property
    def scores(self) -> Mapping[str, Mapping[int, float]]:
        """Metric -> an item's hash -> its score: a view of `items`."""
        made = {}
        for name, column in self.items.scores.items():
            of_item = zip(self.items.items.tolist(), column.tolist(), strict=True)
            made[name] = {item: score for item, score in of_item if not math.isnan(score)}
        return made

    @property
    def run_id(self) -> str:
        return str(self.record["run_id"])

    @property
    def model(self) -> str:
        return str(self.record["model"]["name"])

    @property
    def adapter(self) -> str | None:
        adapter = self.record.get("adapter")
        return adapter["name"] if adapter else None

    @property
    def examined_in_process(self) -> bool:
        """Whether the tests of programs ran in the programs' own process."""
        sandbox = self.record.get("sandbox")
        return isinstance(sandbox, dict) and sandbox.get("examine") == "in_process"

    @property
    def quantization(self) -> str | None:
        """How the model's weights were held, as `nf4`; None if they were whole."""
        held: str | None = self.record["model"].get("quantization")
        return held

    @property
    def method(self) -> str | None:
        """How the adapter was trained, as `qlora`, or how the model was merged; None where its record doesn't say."""
        if self.adapter is None and (merge := self.record["model"].get("merge")):
            return f"merged: {merge['method']} of {', '.join(merge['inputs'])}"
        return (self.record.get("adapter") or {}).get("method")

    @property
    def forced_base(self) -> str | None:
        """Why the adapter's base isn't the one that it was made on; None if it is."""
        return (self.record.get("adapter") or {}).get("forced_base")

    @property
    def name(self) -> str:
        model = self.model if self.quantization is None else f"{self.model} ({self.quantization})"
        return model if self.adapter is None else f"{model} + {self.adapter}"

    @property
    def task(self) -> str:
        return str(self.record["task"]["id"])

    @property
    def no_texts(self) -> bool:
        """Whether pages show digests in place of what was asked and answered."""
        return bool(self.record.get("no_texts"))

    @cached_property
    def comparability_key(self) -> str:
        """Of what was asked. It says nothing of metrics: a run that has one metric more has the same key."""
        return comparability_key(self.record)

    def metric_key(self, name: str) -> str:
        """What runs of one `comparability_key` must have alike too, to be ranked together in the metric of that name.

        A table that puts runs under one column has to look at both: the key alone lets two versions of a metric meet.
        """
        return metric_key(self.record, next(metric for metric in self.metrics if metric.name == name))

    @property
    def badges(self) -> tuple[str, ...]:
        """Why this run may not be ranked: `limit 20`, `samples`, `twin`; empty for a real model's full run on real
        data."""
        limit = self.record.get("limit")
        badges = [] if limit is None else [f"limit {limit}"]
        if self.record["dataset"].get("source") == "samples":
            badges.append("samples")
        if self.record["model"].get("twin"):  # Random weights of a small size: they show that a recipe runs.
            badges.append(TWIN)
        return tuple(badges)


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
    problems: list[Problem] = []
    notices: list[str] = []
    left_out: list[Path] = []
    runs: list[ScoredRun] = []
    seen: dict[str, Path] = {}
    shared = _Shared()
    folders = {folder.resolve(): folder for path in paths for folder in run_folders(Path(path))}
    for folder in folders.values():
        before = len(problems)
        run = _load_run(folder, problems, notices, catalog, shared)
        if run is None:
            left_out += [folder] * (len(problems) > before)
            continue
        other = seen.setdefault(run.run_id, folder)
        if other is not folder:
            first = next(kept for kept in runs if kept.folder == other)
            if first.record == run.record:
                notices.append(f"run {visible(run.run_id)} appears twice ({other} and {folder}); it counts once")
            else:
                message = f"run_id {run.run_id!r} is also the run_id of {other}, with another record"
                problems.append(Problem(str(folder / RECORD), 0, 0, message))
                left_out.append(folder)
            continue
        runs.append(run)
    ordered = sorted(runs, key=lambda run: (run.created, run.run_id))
    return LoadedRuns(tuple(ordered), tuple(notices), tuple(problems), tuple(left_out))


class _Shared:
    """Arrays that several runs have, kept once."""

    def __init__(self) -> None:
        self.by_digest: dict[bytes, NDArray[Any]] = {}

    def __call__(self, array: NDArray[Any]) -> NDArray[Any]:
        return self.by_digest.setdefault(hashlib.sha256(array.tobytes()).digest(), array)


def run_folders(path: Path) -> list[Path]:
    """The run folders that path means; raises UsageError if there are none."""
    if not path.exists():
        raise UsageError(f"{path}: no such folder; give a folder that `slmbench eval --out` has written to")
    if path.name == RECORD and path.is_file():
        return [path.parent]
    if (path / RECORD).is_file():
        return [path]
    parent = path / "runs" if (path / "runs").is_dir() else path
    # A folder with only samples or journalled responses is a run that died early: load_runs says so.
    marks = (RECORD, SAMPLES, "responses.jsonl")
    found = [
        child
        for child in (sorted(parent.iterdir()) if parent.is_dir() else [])
        if child.is_dir() and any((child / mark).exists() for mark in marks)
    ]
    if not found:
        raise UsageError(
            f"{path}: no runs here (runs/<run_id>/run.json); `slmbench eval MODEL --tasks a,b --out {path}` makes some"
        )
    return found


def _load_run(
    folder: Path, problems: list[Problem], notices: list[str], catalog: Catalog | None, shared: _Shared
) -> ScoredRun | None:
    """The run in folder, or None after a problem or a notice was added."""
    try:
        record = read_record(folder)
    except FileNotFoundError:
        notices.append(f"{visible(str(folder))}: unfinished run (no run.json yet); left out")
        return None
    except FileError as error:
        problems.extend(error.problems)
        return None
    if (status := record["status"]) in LEFT_OUT:
        said = {"started": "unfinished run; run the same command again to resume it", "error": "failed run"}
        name = visible(str(record.get("run_id") or folder.name))
        notices.append(f"{name}: {said.get(status, 'invalidated run')}; left out")
        return None
    metrics = tuple(MetricPart.model_validate(metric, extra="ignore") for metric in record["metrics"])
    found: list[Problem] = []
    try:
        read = _from_columns(folder, record, metrics, notices, shared)
    except FileError as error:
        read, found = None, error.problems
    if read is None:  # Also where the columns are at fault: a reader wants to know of each line.
        try:
            read = _from_samples(folder, record, metrics, catalog, shared)
        except FileError as error:
            # What both say, this one says of the line.
            found = [one for one in found if one.path.endswith(ITEM_SCORES)] + error.problems
    if found or read is None:
        problems.extend(found)
        return None
    created = datetime.fromisoformat(record["created"])
    created = created if created.tzinfo else created.replace(tzinfo=UTC)
    return ScoredRun(folder, record, created, metrics, *read)


_Read: TypeAlias = "tuple[ItemScores, int, dict[str, Estimate]]"


def _from_columns(
    folder: Path, record: JsonObject, metrics: Sequence[MetricPart], notices: list[str], shared: _Shared
) -> _Read | None:
    """Item scores, lines and pooled estimates by the file of item scores; None without one. Raises FileError."""
    items = read_item_scores(folder, record, shared)
    if items is None:
        if record.get("item_scores_sha256") is not None:
            notices.append(f"{visible(str(folder / ITEM_SCORES))} is not there; its run was read from its samples")
        return None
    estimates = {
        one.name: Estimate(one.value, one.se or 0.0, one.ci_lo, one.ci_hi, one.n, one.method)
        for one in metrics
        if one.pooled
    }
    return items, check_samples(folder, record), estimates


def _from_samples(
    folder: Path, record: JsonObject, metrics: Sequence[MetricPart], catalog: Catalog | None, shared: _Shared
) -> _Read:
    """The same, from every line of samples.jsonl. Raises FileError."""
    read = verify(folder, record, partial(pool_of, record=record, catalog=catalog))
    try:
        estimates, pseudo = pooled(read, record, catalog)
    except ValueError as error:
        said = f"its pooled metrics have no interval: {error}"
        raise FileError([Problem(str(folder / SAMPLES), 0, 0, said)]) from error
    names = [metric.name for metric in metrics]
    return make_item_scores(names, {**read.scores, **pseudo}, read.clusters, shared), read.n_samples, estimates
