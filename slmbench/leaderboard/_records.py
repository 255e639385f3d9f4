"""Finished runs, read back from their folders and checked against their own samples before anything is ranked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import field, frozen

from slmbench.errors import Problem, SlmbenchError, UsageError
from slmbench.leaderboard._checks import RecordChecker
from slmbench.leaderboard._pooled import pooled_values
from slmbench.values import Estimate
from slmbench.visible import visible

RECORD = "run.json"
SAMPLES = "samples.jsonl"
TWIN = "twin"
# A recorded mean may differ from the recomputed one by rounding alone.
MEAN_TOLERANCE = 1e-9


class RunProblems(SlmbenchError):
    """Runs that don't hold what they claim; `problems` has every fault of every run, each with its file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = list(problems)
        lines = [visible(str(problem)) for problem in self.problems]
        lines.append("nothing was ranked: run these again (`slmbench eval`), or move their folders away")
        super().__init__("\n".join(lines))


@frozen
class RunMetric:
    """What a run's record says of one metric. chance: the score of guessing, None where it is unknown.

    pooled_by: the scorer of a metric that is no mean over items, as a micro-averaged F1; None for a mean. range: the
    lowest and highest score of an item, None where there is none.
    """

    name: str
    value: float
    n: int
    n_error: int
    higher_is_better: bool
    chance: float | None = None
    pooled_by: str | None = None
    range: tuple[float, float] | None = None


@frozen(eq=False)
class Run:
    """One finished run whose samples were checked.

    record: run.json as it is. scores: metric name -> item id -> score (the mean over the item's epochs; of a pooled
    metric, its jackknife pseudo-value). clusters: item id -> cluster, None for an item on its own. folder: where
    run.json and samples.jsonl lie. n_samples: lines of samples.jsonl. pooled: the estimates of pooled metrics.
    """

    folder: Path
    record: Mapping[str, Any]
    created: datetime
    metrics: tuple[RunMetric, ...]
    scores: Mapping[str, Mapping[str, float]] = field(repr=False)
    clusters: Mapping[str, str | None] = field(repr=False)
    n_samples: int = 0
    pooled: Mapping[str, Estimate] = field(factory=dict, repr=False)

    @property
    def run_id(self) -> str:
        return self.record["run_id"]

    @property
    def model(self) -> str:
        return self.record["model"]["name"]

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
        """How the model's weights were held, as `nf4`; None where they were whole."""
        return self.record["model"].get("quantization")

    @property
    def method(self) -> str | None:
        """How the adapter was trained, as `qlora`; None without one, or where its record doesn't say."""
        return (self.record.get("adapter") or {}).get("method")

    @property
    def name(self) -> str:
        model = self.model if self.quantization is None else f"{self.model} ({self.quantization})"
        return model if self.adapter is None else f"{model} + {self.adapter}"

    @property
    def task(self) -> str:
        return self.record["task"]["id"]

    @property
    def no_texts(self) -> bool:
        """Whether pages show digests in place of what was asked and answered."""
        return bool(self.record.get("no_texts"))

    @property
    def comparability_key(self) -> str:
        return self.record["comparability_key"]

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


def load_runs(paths: Path | str | Iterable[Path | str]) -> tuple[list[Run], list[str]]:
    """All finished runs under paths, oldest first, and notices about those that were left out.

    paths: each an output folder (its `runs/` is read), a folder of run folders, one run's folder, or its run.json. A
    run that hasn't finished, failed or was invalidated is left out with a notice. Every finished run is checked: the
    hash of samples.jsonl, no item twice, every recorded value the mean of its samples' scores, all fields there.
    Raises RunProblems with the faults of all runs at once, UsageError where a path holds no run at all.
    """
    if isinstance(paths, (str, Path)):
        paths = [paths]
    problems: list[Problem] = []
    notices: list[str] = []
    runs: list[Run] = []
    seen: dict[str, Path] = {}
    folders = {folder.resolve(): folder for path in paths for folder in _run_folders(Path(path))}
    for folder in folders.values():
        run = _load_run(folder, problems, notices)
        if run is None:
            continue
        other = seen.setdefault(run.run_id, folder)
        if other is not folder:
            first = next(kept for kept in runs if kept.folder == other)
            if first.record == run.record:
                notices.append(f"run {visible(run.run_id)} is there twice ({other} and {folder}); it counts once")
            else:
                message = f"run_id {run.run_id!r} is also that of {other}, with another record"
                problems.append(Problem(str(folder / RECORD), 0, 0, message))
            continue
        runs.append(run)
    if problems:
        raise RunProblems(problems)
    return sorted(runs, key=lambda run: (run.created, run.run_id)), notices


def _run_folders(path: Path) -> list[Path]:
    """The run folders that path means; raises UsageError where there are none."""
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
        raise UsageError(f"{path}: no runs here (runs/<run_id>/run.json); run `slmbench eval --out {path}` first")
    return found


def _load_run(folder: Path, problems: list[Problem], notices: list[str]) -> Run | None:
    """The run in folder, or None after a problem or a notice was added."""
    where = str(folder / RECORD)
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except FileNotFoundError:
        notices.append(f"{visible(str(folder))}: unfinished run (no run.json yet); left out")
        return None
    except OSError as error:
        problems.append(Problem(where, 0, 0, f"can't be read: {error.strerror or error}"))
        return None
    except (ValueError, RecursionError) as error:
        problems.append(Problem(where, 0, 0, f"is not valid JSON ({error}); it was cut off or edited"))
        return None
    if not isinstance(record, dict):
        problems.append(Problem(where, 0, 0, f"holds a JSON {type(record).__name__}, not an object"))
        return None
    status = record.get("status")
    if status in ("started", "error", "invalidated"):
        said = {"started": "unfinished run; run the same command again to resume it", "error": "failed run"}
        name = visible(str(record.get("run_id") or folder.name))
        notices.append(f"{name}: {said.get(status, 'invalidated run')}; left out")
        return None
    checker = RecordChecker(where, record)
    created = _checked_created(checker)
    metrics = _checked_metrics(checker)
    if created is None or checker.problems:
        problems.extend(checker.problems)
        return None
    samples = _read_scores(folder / SAMPLES, record, metrics, problems)
    if samples is None:
        return None
    scores, clusters, lines, pooled = samples
    return Run(folder, record, created, tuple(metrics), scores, clusters, lines, pooled)


def _checked_created(checker: RecordChecker) -> datetime | None:
    checker.one_of("schema", [1])
    checker.one_of("status", ["ok"])
    for name in ("run_id", "model.name", "task.id", "comparability_key", "samples_sha256", "dataset.source"):
        checker.text(name)
    checker.whole("limit", optional=True)
    if checker.record.get("adapter") is not None:
        checker.text("adapter.name")
        checker.text("adapter.method", optional=True)
    checker.text("model.quantization", optional=True)
    checker.flag("model.twin", optional=True)
    checker.flag("no_texts", optional=True)
    cost = checker.record.get("cost", {})
    if not isinstance(cost, dict):
        checker.add("cost", cost, "an object")
    created = checker.text("created")
    if created is None:
        return None
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        checker.add("created", created, "an ISO 8601 time")
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _checked_metrics(checker: RecordChecker) -> list[RunMetric]:
    entries = checker.record.get("metrics")
    if not isinstance(entries, list) or not entries:
        checker.add("metrics", entries, "a list with at least one metric")
        return []
    metrics: list[RunMetric] = []
    for position in range(len(entries)):
        at = f"metrics.{position}"
        name = checker.text(f"{at}.name")
        value = checker.finite(f"{at}.value")
        n = checker.whole(f"{at}.n")
        n_error = checker.whole(f"{at}.n_error", optional=True) or 0
        higher = checker.flag(f"{at}.higher_is_better")
        chance = checker.finite(f"{at}.chance", optional=True)
        if name is None or value is None or n is None or higher is None:
            continue
        if any(name == metric.name for metric in metrics):
            checker.add(f"{at}.name", name, "a name that no other metric of the run has")
            continue
        pooled_by = checker.text(f"{at}.scorer") if checker.record["metrics"][position].get("pooled") else None
        metrics.append(RunMetric(name, value, n, n_error, higher, chance, pooled_by, _checked_range(checker, at)))
    return metrics


def _checked_range(checker: RecordChecker, at: str) -> tuple[float, float] | None:
    found = checker.value(f"{at}.range")
    if found is None:  # None was written before metrics had one.
        return None
    if isinstance(found, list) and len(found) == 2:
        low, high = (checker.finite(f"{at}.range.{position}") for position in (0, 1))
        if low is not None and high is not None and low < high:
            return low, high
    checker.add(f"{at}.range", found, "null, or the lowest and the highest score of an item")
    return None


_Scores = tuple[dict[str, dict[str, float]], dict[str, str | None], int, dict[str, Estimate]]


def _read_scores(
    path: Path, record: dict[str, Any], metrics: list[RunMetric], problems: list[Problem]
) -> _Scores | None:
    """Scores by metric and item, clusters by item, the number of lines, and the estimates of pooled metrics.

    None after problems were added.
    """
    before = len(problems)
    scores: dict[str, dict[str, list[float]]] = {metric.name: {} for metric in metrics}
    clusters: dict[str, str | None] = {}
    epochs: dict[str, set[Any]] = {}
    parts: dict[str, dict[str, Any]] = {metric.pooled_by: {} for metric in metrics if metric.pooled_by}
    digest = hashlib.sha256()
    lines = 0
    faults: list[Problem] = []
    try:
        with path.open("rb") as file:
            for line_number, line in enumerate(file, 1):
                digest.update(line)
                lines += 1
                message = _take_sample(line, scores, clusters, epochs, parts)
                if message:
                    faults.append(Problem(str(path), line_number, 1, message))
    except OSError as error:
        problems.append(Problem(str(path), 0, 0, f"can't be read: {error.strerror or error}"))
        return None
    claimed = record["samples_sha256"].removeprefix("sha256:")
    if digest.hexdigest() != claimed:
        found = digest.hexdigest()
        message = f"sha256 is {found[:16]}..., run.json says {claimed[:16]}...: changed after the run ended"
        problems.append(Problem(str(path), 0, 0, message))
    problems.extend(faults[:10])
    if len(faults) > 10:
        problems.append(Problem(str(path), 0, 0, f"and {len(faults) - 10} more lines with such faults"))
    if len({frozenset(seen) for seen in epochs.values()}) > 1:
        problems.append(Problem(str(path), 0, 0, "not every item was run in the same epochs; a mean would favour some"))
    for metric in metrics:
        values = [score for item in scores[metric.name].values() for score in item]
        mean = math.fsum(values) / len(values) if values else math.nan
        unscored = lines - len(values)
        # n counts items; with several epochs a runner may as well count samples.
        if metric.n not in (len(values), len(scores[metric.name])):
            message = f"metric {metric.name!r} says n = {metric.n}, samples.jsonl has {len(values)} scores"
            problems.append(Problem(str(path.with_name(RECORD)), 0, 0, message))
        elif unscored > metric.n_error:
            message = f"metric {metric.name!r}: {unscored} samples have no score, but n_error is {metric.n_error}"
            problems.append(Problem(str(path.with_name(RECORD)), 0, 0, message))
        outside = [score for score in values if metric.range and not metric.range[0] <= score <= metric.range[1]]
        if outside and metric.pooled_by is None:
            message = f"score {metric.name!r} is {outside[0]!r}, outside the metric's range {list(metric.range or ())}"
            problems.append(Problem(str(path), 0, 0, message))
        if metric.pooled_by is None and not abs(mean - metric.value) <= MEAN_TOLERANCE * max(1.0, abs(mean)):
            message = f"metric {metric.name!r} says {metric.value!r}, the mean of its samples' scores is {mean!r}"
            problems.append(Problem(str(path.with_name(RECORD)), 0, 0, message))
    if len(problems) > before:
        return None
    means = {
        name: {item: math.fsum(values) / len(values) for item, values in by_item.items()}
        for name, by_item in scores.items()
    }
    pooled: dict[str, Estimate] = {}
    for metric in metrics:
        if metric.pooled_by is None:
            continue
        try:
            found, pseudo = pooled_values(metric.pooled_by, parts[metric.pooled_by], clusters)[metric.name]
        except (ValueError, KeyError) as error:
            problems.append(Problem(str(path), 0, 0, f"metric {metric.name!r} can't be pooled: {error}"))
            return None
        if not abs(found.value - metric.value) <= MEAN_TOLERANCE:
            message = f"metric {metric.name!r} says {metric.value!r}, its samples' parts give {found.value!r}"
            problems.append(Problem(str(path.with_name(RECORD)), 0, 0, message))
            return None
        means[metric.name], pooled[metric.name] = pseudo, found
    return means, clusters, lines, pooled


def _take_sample(
    line: bytes,
    scores: dict[str, dict[str, list[float]]],
    clusters: dict[str, str | None],
    epochs: dict[str, set[Any]],
    parts: dict[str, dict[str, Any]],
) -> str | None:
    """Adds one line's scores; returns what is wrong with the line, or None."""
    try:
        sample = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"is not valid JSON ({error})"
    if not isinstance(sample, dict):
        return f"holds a JSON {type(sample).__name__}, not an object"
    item = sample.get("item_id")
    if not isinstance(item, str):
        return f"item_id is {item!r}, not text"
    epoch = sample.get("epoch", 0)
    if type(epoch) is not int:
        return f"epoch is {epoch!r}, not a whole number"
    if epoch in epochs.setdefault(item, set()):
        return f"item_id {item!r} is there more than once; an item counts once"
    epochs[item].add(epoch)
    cluster = sample.get("cluster_id")
    if cluster is not None and not isinstance(cluster, str):
        return f"cluster_id of item {item!r} is {cluster!r}, neither text nor null"
    if clusters.setdefault(item, cluster) != cluster:
        return f"item {item!r} is in cluster {cluster!r} here and in {clusters[item]!r} elsewhere"
    given = sample.get("scores")
    if not isinstance(given, dict):
        return f"scores of item {item!r} are {given!r}, not an object"
    for name, by_item in scores.items():
        value = given.get(name)
        # An item that an error kept from being scored has no score here; n in run.json has to agree with that.
        if value is None:
            continue
        # Compared before it is made a float: an int may be too large for one.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
            return f"score {name!r} of item {item!r} is {value!r}, not a finite number"
        by_item.setdefault(item, []).append(float(value))
    for name, part_of in parts.items():
        if not isinstance(sample.get("parts"), dict) or name not in sample["parts"]:
            return f"item {item!r} has no parts for {name!r}, which is pooled"
        part_of[item] = sample["parts"][name]
    return None
