"""Whether a run holds what it claims: its samples read once, every recorded value held to them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from slmbench.errors import FileError, Problem, SlmbenchError
from slmbench.foreign import plain_lines
from slmbench.runs._hashes import changed
from slmbench.runs._item_scores import MEAN_TOLERANCE, interval_faults
from slmbench.runs._record import MetricPart
from slmbench.runs._sample import read_sample
from slmbench.runs._versions import RECORD, SAMPLES, OtherSchema
from slmbench.values import JsonObject

_FAULTS_SHOWN = 10

Pool: TypeAlias = Callable[[Sequence[object]], dict[str, float]]
"""Parts of all items -> the values of a pooled metric; ValueError if they are none of it."""


@frozen
class VerifiedScores:
    """What a run's samples hold, once all that its record says of them is true.

    metrics: as the record has them. scores: metric -> item id -> mean over the item's epochs. clusters: item id -> its
    cluster, None for an item on its own. parts: scorer of a pooled metric -> item id -> what the item adds.
    n_samples: lines of samples.jsonl.
    """

    metrics: tuple[MetricPart, ...]
    scores: Mapping[str, Mapping[str, float]]
    clusters: Mapping[str, str | None]
    parts: Mapping[str, Mapping[str, object]]
    n_samples: int


class _Samples:
    """What the lines of a samples.jsonl add up to."""

    def __init__(self, metrics: Sequence[MetricPart]) -> None:
        self.scores: dict[str, dict[str, list[float]]] = {metric.name: {} for metric in metrics}
        self.parts: dict[str, dict[str, object]] = {one.pooled_by: {} for one in metrics if one.pooled_by}
        self.clusters: dict[str, str | None] = {}
        self.epochs: dict[str, set[int]] = {}
        self.lines = 0

    def take(self, sample: JsonObject) -> str | None:
        """Adds one sample; returns what is wrong with it, or None."""
        item, epoch = sample["item_id"], sample.get("epoch", 0)
        if epoch in self.epochs.setdefault(item, set()):
            return f"item_id {item!r} appears more than once; an item counts once"
        self.epochs[item].add(epoch)
        cluster = sample.get("cluster_id")
        if self.clusters.setdefault(item, cluster) != cluster:
            return f"item {item!r} is in cluster {cluster!r} here and in {self.clusters[item]!r} elsewhere"
        for name, by_item in self.scores.items():
            # An item that an error kept from being scored has no score here; n in run.json has to agree with that.
            if (value := sample["scores"].get(name)) is not None:
                by_item.setdefault(item, []).append(float(value))
        for name, part_of in self.parts.items():
            if name not in (sample.get("parts") or {}):
                return f"item {item!r} has no parts for {name!r}, which is pooled"
            part_of[item] = sample["parts"][name]
        return None


def verify(
    folder: str | os.PathLike[str],
    record: JsonObject,
    pool_of: Callable[[str], Pool],
    also: Callable[[JsonObject], str | None] | None = None,
) -> VerifiedScores:
    """A run's scores, once everything that its record says of its samples has been found to be so.

    That is: the digest of the file, no item twice, n and n_error, scores within their range, every value the mean of
    its scores or the pool of its parts, and within its own interval. record: as `read_record` gives it. pool_of: the
    pool of a scorer by name; it may raise ValueError, KeyError or SlmbenchError. also: sees every sample that is sound,
    in order, and says what else is wrong with it.
    Raises FileError with every fault at once; OtherSchema for samples of another schema.
    """
    path, of_record = Path(folder) / SAMPLES, Path(folder) / RECORD
    metrics = tuple(MetricPart.model_validate(metric, extra="ignore") for metric in record["metrics"])
    samples = _Samples(metrics)
    problems = _read(path, record["samples_sha256"].removeprefix("sha256:"), samples, also)
    for metric in metrics:
        for place, message in _wrong(metric, samples):
            problems.append(Problem(str(path.with_name(place)), 0, 0, message))
    problems += interval_faults(record, of_record)
    if not problems:
        problems = [
            p for metric in metrics if metric.pooled_by for p in _wrongly_pooled(metric, samples, pool_of, path)
        ]
    if problems:
        raise FileError(problems)
    means = {
        name: {item: math.fsum(values) / len(values) for item, values in by_item.items()}
        for name, by_item in samples.scores.items()
    }
    return VerifiedScores(metrics, means, samples.clusters, samples.parts, samples.lines)


def _read(
    path: Path, claimed: str, samples: _Samples, also: Callable[[JsonObject], str | None] | None
) -> list[Problem]:
    """Reads a samples.jsonl into `samples`; returns what is wrong with the file and its lines."""
    digest = hashlib.sha256()
    problems: list[Problem] = []
    wrong: list[Problem] = []
    try:
        for number, line in enumerate(plain_lines(path), 1):
            digest.update(line)
            samples.lines += 1
            try:
                sample = read_sample(line, path, number)
            except OtherSchema:
                raise  # All of the file is.
            except FileError as error:
                wrong.extend(error.problems)
                continue
            if message := samples.take(sample) or (also and also(sample)):
                wrong.append(Problem(str(path), number, 1, message))
    except OSError as error:
        raise FileError([Problem(str(path), 0, 0, f"can't be read: {error.strerror or error}")]) from error
    if problem := changed(path, digest.hexdigest(), claimed):
        problems.append(problem)
    problems += wrong[:_FAULTS_SHOWN]
    if len(wrong) > _FAULTS_SHOWN:
        said = f"and {len(wrong) - _FAULTS_SHOWN} more lines with such faults"
        problems.append(Problem(str(path), 0, 0, said))
    if len({frozenset(seen) for seen in samples.epochs.values()}) > 1:
        said = "not every item was run in the same epochs; a mean would favour some"
        problems.append(Problem(str(path), 0, 0, said))
    return problems


def _wrong(metric: MetricPart, samples: _Samples) -> list[tuple[str, str]]:
    """(file, what of it) that a metric says and its scores don't."""
    by_item = samples.scores[metric.name]
    values = [score for item in by_item.values() for score in item]
    mean = math.fsum(values) / len(values) if values else math.nan
    unscored = samples.lines - len(values)
    found = []
    # n counts items; with several epochs a runner may as well count samples.
    if metric.n not in (len(values), len(by_item)):
        found.append((RECORD, f"metric {metric.name!r} says n = {metric.n}, samples.jsonl has {len(values)} scores"))
    elif unscored > (n_error := metric.n_error or 0):
        said = f"metric {metric.name!r}: {unscored} samples have no score, but n_error is {n_error}"
        found.append((RECORD, said))
    if metric.pooled_by is not None:
        return found
    low, high = metric.bounds or (-math.inf, math.inf)
    if outside := [score for score in values if not low <= score <= high]:
        said = f"score {metric.name!r} is {outside[0]!r}, outside the metric's range {[low, high]}"
        found.append((SAMPLES, said))
    if not values:
        if not found:
            said = f"metric {metric.name!r} says {metric.value!r}, samples.jsonl has no score of it"
            found.append((RECORD, said))
    elif not abs(mean - metric.value) <= MEAN_TOLERANCE * max(1.0, abs(mean)):
        said = f"metric {metric.name!r} says {metric.value!r}, the mean of its samples' scores is {mean!r}"
        found.append((RECORD, said))
    return found


def _wrongly_pooled(metric: MetricPart, samples: _Samples, pool_of: Callable[[str], Pool], path: Path) -> list[Problem]:
    scorer = str(metric.pooled_by)
    try:
        with pooling(scorer):
            value = pool_of(scorer)(list(samples.parts[scorer].values()))[metric.name]
    except ValueError as error:
        return [Problem(str(path), 0, 0, f"metric {metric.name!r} can't be pooled: {error}")]
    if abs(value - metric.value) <= MEAN_TOLERANCE:
        return []
    said = f"metric {metric.name!r} says {metric.value!r}, its samples' parts give {value!r}"
    return [Problem(str(path.with_name(RECORD)), 0, 0, said)]


@contextmanager
def pooling(scorer: str) -> Iterator[None]:
    """Whatever a scorer's pool raises for parts that aren't its own, as a ValueError."""
    try:
        yield
    except SlmbenchError as error:
        raise ValueError(str(error)) from error
    except (TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"its parts are not what {scorer!r} writes: {type(error).__name__} {error}") from error
