"""Which runs may be ranked together: those that were asked the same, in any metric that was made the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slmbench.runs._record import MetricPart
from slmbench.seal import canonical_sha256
from slmbench.values import JsonObject

UNSAFE = "unsafe"
"""The tier of programs that run in no jail."""
TIMEOUT_S = 3.0
"""Seconds that a program has, unless its record says otherwise."""
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


def sandbox_told(sandbox: Mapping[str, Any] | None) -> list[str]:
    """What of a run's sandbox makes its verdicts others than those of two processes in a jail with the usual limits.

    Both jails show a program the same; outside of one it finds the machine's files and network. A program that has more
    seconds may end in time. Tests in the program's own process hold less.
    """
    part = sandbox or {}
    told = [str(part["examine"])] if part.get("examine") is not None else []
    told += [UNSAFE] if part.get("tier") == UNSAFE else []
    seconds = part.get("timeout_s")
    return told + ([f"{seconds:g} s"] if seconds is not None and seconds != TIMEOUT_S else [])


def comparability_key(record: JsonObject, *, judged: Mapping[str, Any] | None = None) -> str:
    """The key of what was asked in a finished run: as recorded, and of an older record the one that it would have now.

    An older record's key holds its metrics, so that a task that gained one could be compared with none of its past, and
    doesn't hold its sandbox. Where its key can be made again of its fields, so can the new one; else the recorded key
    stands. judged: the sandbox that its programs run in now, if they run again.
    """
    recorded, own = str(record["comparability_key"]), record.get("sandbox")
    told = sandbox_told(judged or own)
    plain = not told and not sandbox_told(own)
    if plain and any(metric.get("version") is not None for metric in record["metrics"]):
        return recorded
    beside = beside_of(record)
    return recorded if beside is None else comparability_keys(record, [*beside, *told])[0]


def forms_of(declared: Sequence[Sequence[object]] = ()) -> list[list[object]]:
    """All that may stand beside a run's fields in its key, its sandbox apart. declared: what its task may add."""
    forms: list[object] = [*declared, *_BESIDE_A_FORMAT]
    return [[], *[[form] for form in forms]]


def beside_of(record: JsonObject, declared: Sequence[Sequence[object]] = ()) -> list[object] | None:
    """What stood beside a run's fields when its comparability key was made; None if its key isn't made of them."""
    own = record.get("sandbox")
    examine = sandbox_told({"examine": (own or {}).get("examine")})
    for beside in forms_of(declared):
        made = {*comparability_keys(record, [*beside, *examine])}
        made.add(comparability_keys(record, [*beside, *sandbox_told(own)])[0])
        if record["comparability_key"] in made:
            return beside
    return None


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
