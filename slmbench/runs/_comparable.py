"""Which runs may be ranked together: those that were asked the same, in any metric that was made the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slmbench.runs._record import MetricPart
from slmbench.seal import canonical_sha256
from slmbench.values import JsonObject

# What a format that is more than a text adds: its version, and what a task declares for its kind, most often nothing.
_BESIDE_A_FORMAT = [[str(version), {kind: None}] for version in range(1, 10) for kind in ("turns", "object")]


def comparability_keys(identity: Mapping[str, Any], beside: Sequence[object] = ()) -> tuple[str, str]:
    """(the key of what was asked, the key that holds the metrics too) of a run's identity as JSON.

    beside: what else sets an answer apart, as how it is taken out of an object. The second key is what records had
    whose metrics don't say their version, and what run ids are made of: a run that is there stays found.
    """
    dataset = identity["dataset"]
    items = {key: dataset.get(key) for key in ("split", "items_sha256", "item_ids_sha256", "n")}
    asked = [identity["task"]["id"], identity["task"].get("version"), items]
    asked += [identity.get(key) for key in ("format", "fewshot_sha256", "cot", "generation")]
    return canonical_sha256([*asked, *beside]), canonical_sha256([*asked, identity.get("scorer"), *beside])


def comparability_key(record: JsonObject) -> str:
    """The key of what was asked in a finished run: as recorded, and of an older record the one that it would have now.

    An older record's key holds its metrics, so that a task that gained one could be compared with none of its past.
    Where its key can be made again of its fields, so can the new one; else the recorded key stands.
    """
    recorded = str(record["comparability_key"])
    if any(metric.get("version") is not None for metric in record["metrics"]):
        return recorded
    examine = (record.get("sandbox") or {}).get("examine")
    for told in ([], *_BESIDE_A_FORMAT):
        beside = ([told] if told else []) + ([examine] if examine is not None else [])
        now, then = comparability_keys(record, beside)
        if then == recorded:
            return now
    return recorded


def metric_key(record: JsonObject, metric: MetricPart) -> str:
    """What two runs of one `comparability_key` must have alike to be compared in a metric: who scored it, and how.

    That is the scorer's name, its version and, where it has a model of its own, that model's digest.
    """
    scorer, told = metric.scorer or metric.name, record.get("scorer") or {}
    version = metric.version
    if version is None:
        versions = zip(str(told.get("id")).split("+"), str(told.get("version")).split("+"), strict=False)
        version = dict(versions).get(scorer)
    return canonical_sha256([metric.name, scorer, version, (told.get("weights") or {}).get(scorer)])
