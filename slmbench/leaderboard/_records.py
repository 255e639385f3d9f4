"""Finished runs, read back from their folders and checked against their own samples before anything is ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

from attrs import field, frozen

from slmbench.catalog import Catalog
from slmbench.errors import FileError, Problem, SlmbenchError, UsageError
from slmbench.leaderboard._pooled import pool_of, pooled
from slmbench.runs import (
    LEFT_OUT,
    RECORD,
    SAMPLES,
    MetricPart,
    comparability_key,
    metric_key,
    read_record,
    verify,
)
from slmbench.values import Estimate, JsonObject
from slmbench.visible import visible

TWIN = "twin"


class RunProblems(SlmbenchError):
    """Runs that don't hold what they claim; `problems` has every fault of every run, each with its file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = list(problems)
        lines = [visible(str(problem)) for problem in self.problems]
        lines.append("nothing was ranked: run these again (`slmbench eval`), or move their folders away")
        super().__init__("\n".join(lines))


@frozen(eq=False)
class ScoredRun:
    """One finished run whose samples were checked.

    record: run.json as it is. scores: metric name -> item id -> score (the mean over the item's epochs; of a pooled
    metric, its jackknife pseudo-value). clusters: item id -> cluster, None for an item on its own. folder: where
    run.json and samples.jsonl lie. n_samples: lines of samples.jsonl. pooled: the estimates of pooled metrics.
    """

    folder: Path
    record: JsonObject
    created: datetime
    metrics: tuple[MetricPart, ...]
    scores: Mapping[str, Mapping[str, float]] = field(repr=False)
    clusters: Mapping[str, str | None] = field(repr=False)
    n_samples: int = 0
    pooled: Mapping[str, Estimate] = field(factory=dict, repr=False)

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


def load_runs(
    paths: Path | str | Iterable[Path | str], catalog: Catalog | None = None
) -> tuple[list[ScoredRun], list[str]]:
    """All finished runs under paths, oldest first, and notices about those that were left out.

    paths: each an output folder (its `runs/` is read), a folder of run folders, one run's folder, or its run.json. A
    run that hasn't finished, failed or was invalidated is left out with a notice. Every finished run is checked: the
    hash of samples.jsonl, no item twice, every recorded value the mean of its samples' scores, all fields there.
    catalog: knows the tasks whose plugins brought pooled metrics; `default_catalog()` unless given.
    Raises RunProblems with the faults of all runs at once, UsageError if a path holds no run at all.
    """
    if isinstance(paths, (str, Path)):
        paths = [paths]
    problems: list[Problem] = []
    notices: list[str] = []
    runs: list[ScoredRun] = []
    seen: dict[str, Path] = {}
    folders = {folder.resolve(): folder for path in paths for folder in _run_folders(Path(path))}
    for folder in folders.values():
        run = _load_run(folder, problems, notices, catalog)
        if run is None:
            continue
        other = seen.setdefault(run.run_id, folder)
        if other is not folder:
            first = next(kept for kept in runs if kept.folder == other)
            if first.record == run.record:
                notices.append(f"run {visible(run.run_id)} appears twice ({other} and {folder}); it counts once")
            else:
                message = f"run_id {run.run_id!r} is also the run_id of {other}, with another record"
                problems.append(Problem(str(folder / RECORD), 0, 0, message))
            continue
        runs.append(run)
    if problems:
        raise RunProblems(problems)
    return sorted(runs, key=lambda run: (run.created, run.run_id)), notices


def _run_folders(path: Path) -> list[Path]:
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


def _load_run(folder: Path, problems: list[Problem], notices: list[str], catalog: Catalog | None) -> ScoredRun | None:
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
    try:
        read = verify(folder, record, partial(pool_of, record=record, catalog=catalog))
        estimates, pseudo = pooled(read, record, catalog)
    except FileError as error:
        problems.extend(error.problems)
        return None
    except ValueError as error:
        problems.append(Problem(str(folder / SAMPLES), 0, 0, f"its pooled metrics have no interval: {error}"))
        return None
    created = datetime.fromisoformat(record["created"])
    created = created if created.tzinfo else created.replace(tzinfo=UTC)
    scores = {**read.scores, **pseudo}
    return ScoredRun(folder, record, created, read.metrics, scores, read.clusters, read.n_samples, estimates)
