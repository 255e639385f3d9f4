"""Whether a run holds what it claims: its samples read once, every recorded value held to them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from slmbench.errors import FileError, Problem
from slmbench.foreign import plain_lines
from slmbench.runs._record import RECORD, SAMPLES, read_sample
from slmbench.values import Estimate, JsonObject

# A recorded mean may differ from the recomputed one by rounding alone.
MEAN_TOLERANCE = 1e-9


@frozen
class RunMetric:
    """What a run's record says of one metric. chance: the score of guessing, None if it is unknown.

    pooled_by: the scorer of a metric that is not a mean over items, as a micro-averaged F1; None for a mean. range: the
    lowest and highest score of an item, None if there is none.
    """

    name: str
    value: float
    n: int
    n_error: int
    higher_is_better: bool
    chance: float | None = None
    pooled_by: str | None = None
    range: tuple[float, float] | None = None


Pool = Callable[
    [str, Mapping[str, Any], Mapping[str, "str | None"], Mapping[str, Any]],
    Mapping[str, tuple[Estimate, Mapping[str, float]]],
]
"""(scorer, item id -> part, item id -> cluster, record) -> value name -> (estimate, item id -> pseudo-value)."""


def metrics_of(record: Mapping[str, Any]) -> list[RunMetric]:
    """What a record says of its metrics."""
    return [
        RunMetric(
            metric["name"],
            metric["value"],
            metric["n"],
            metric.get("n_error") or 0,
            metric["higher_is_better"],
            metric.get("chance"),
            (metric.get("scorer") or metric["name"]) if metric.get("pooled") else None,
            (metric["range"][0], metric["range"][1]) if metric.get("range") else None,
        )
        for metric in record["metrics"]
    ]


Scores = tuple[dict[str, dict[str, float]], dict[str, str | None], int, dict[str, Estimate]]


def read_scores(
    folder: str | os.PathLike[str],
    record: Mapping[str, Any],
    metrics: list[RunMetric],
    problems: list[Problem],
    pool: Pool | None = None,
) -> Scores | None:
    """Scores by metric and item, clusters by item, the number of lines, and the estimates of pooled metrics.

    pool: recomputes pooled metrics; None leaves these as they are recorded. Returns None after problems were added.
    """
    path = Path(folder) / SAMPLES
    before = len(problems)
    scores: dict[str, dict[str, list[float]]] = {metric.name: {} for metric in metrics}
    clusters: dict[str, str | None] = {}
    epochs: dict[str, set[Any]] = {}
    parts: dict[str, dict[str, Any]] = {metric.pooled_by: {} for metric in metrics if metric.pooled_by}
    digest = hashlib.sha256()
    lines = 0
    faults: list[Problem] = []
    try:
        for line_number, line in enumerate(plain_lines(path), 1):
            digest.update(line)
            lines += 1
            try:
                sample = read_sample(line, path, line_number)
            except FileError as error:
                faults.extend(error.problems)
                continue
            if message := _take_sample(sample, scores, clusters, epochs, parts):
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
        if metric.pooled_by is None or pool is None:
            continue
        try:
            pooling, pseudo = pool(metric.pooled_by, parts[metric.pooled_by], clusters, record)[metric.name]
        except (ValueError, KeyError) as error:
            problems.append(Problem(str(path), 0, 0, f"metric {metric.name!r} can't be pooled: {error}"))
            return None
        if not abs(pooling.value - metric.value) <= MEAN_TOLERANCE:
            message = f"metric {metric.name!r} says {metric.value!r}, its samples' parts give {pooling.value!r}"
            problems.append(Problem(str(path.with_name(RECORD)), 0, 0, message))
            return None
        means[metric.name], pooled[metric.name] = dict(pseudo), pooling
    return means, clusters, lines, pooled


def _take_sample(
    sample: JsonObject,
    scores: dict[str, dict[str, list[float]]],
    clusters: dict[str, str | None],
    epochs: dict[str, set[Any]],
    parts: dict[str, JsonObject],
) -> str | None:
    """Adds one sample's scores; returns what is wrong with it, or None."""
    item, epoch = sample["item_id"], sample.get("epoch", 0)
    if epoch in epochs.setdefault(item, set()):
        return f"item_id {item!r} appears more than once; an item counts once"
    epochs[item].add(epoch)
    cluster = sample.get("cluster_id")
    if clusters.setdefault(item, cluster) != cluster:
        return f"item {item!r} is in cluster {cluster!r} here and in {clusters[item]!r} elsewhere"
    for name, by_item in scores.items():
        # An item that an error kept from being scored has no score here; n in run.json has to agree with that.
        if (value := sample["scores"].get(name)) is not None:
            by_item.setdefault(item, []).append(float(value))
    for name, part_of in parts.items():
        if name not in (sample.get("parts") or {}):
            return f"item {item!r} has no parts for {name!r}, which is pooled"
        part_of[item] = sample["parts"][name]
    return None
