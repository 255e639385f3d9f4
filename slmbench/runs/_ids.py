"""The digits at the end of a run's id: a digest over all that its numbers depend on, as far as its record says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slmbench.runs._comparable import comparability_keys, forms_of, sandbox_told
from slmbench.runs._record import RunIdentity
from slmbench.seal import canonical_sha256
from slmbench.values import JsonObject

_DIGITS = 10
_DEVICES = ("cpu", "mps", *(f"{kind}:{number}" for kind in ("cuda", "mps", "xpu") for number in range(8)))


def evaluated_digits(identity: Mapping[str, Any], beside: Sequence[object], *, version: object, device: str) -> str:
    """Of a run that a model answered. identity: `RunIdentity` as JSON. beside: as in `comparability_keys`.

    version: of slmbench. device: that the model was on, which no record names.
    """
    sandbox = identity.get("sandbox") or {}
    examine = sandbox_told({"examine": sandbox.get("examine")})
    adapter = identity.get("adapter")
    who = adapter and adapter.get("sha256")
    if adapter and adapter.get("choices") is not None:
        who = [who, adapter["choices"]]
    facts = {
        # The ids of runs have the tier in their record; a run that is there stays found.
        "comparability_key": comparability_keys(identity, [*beside, *examine])[1],
        "adapter": who,
        "slmbench": version,
        "device": device,
    }
    return canonical_sha256({**identity, **facts})[:_DIGITS]


def rescored_digits(record: Mapping[str, Any], version: object) -> str:
    """Of a run that was scored again. record: its identity, its comparability key and `rescored_of`."""
    return canonical_sha256([record, version])[:_DIGITS]


def stopped_digits(
    whole: str, against: str, against_sha256: str, *, metric: str, margin: float | None, seed: int, alpha: float | None
) -> str:
    """Of a run that ended before its set did, of the rule that it ended by: fields of `StoppedPart`.

    alpha: None of an earlier run, which doesn't say it.
    """
    rule = [whole, against, against_sha256, metric, None if margin is None else float(margin), seed]
    return canonical_sha256([*rule, *([] if alpha is None else [alpha])])[:_DIGITS]


def stopped_key(whole_key: str, order_sha256: str, n: int) -> str:
    """The comparability key of a run that ended before its set did, which no run on the whole set has."""
    return canonical_sha256(["stopped", whole_key, order_sha256, n])


def imported_digits(imported: Mapping[str, Any], task: str, called: str | None) -> str:
    """Of a run of another tool. called: what its model was to be called; None for as that tool called it."""
    return canonical_sha256([imported, task, called])[:_DIGITS]


def digits_of(record: JsonObject, forms: Sequence[Sequence[object]] = ()) -> set[str]:
    """All that the digits of a finished run's id may be, made again of its fields.

    More than one, as no record says on which device the model was, or what an import was told to call it. forms: what
    its task declares for its format, where that is known.
    """
    identity = {key: record[key] for key in RunIdentity.model_fields if key in record}
    version = (record.get("code") or {}).get("version")
    if (source := record.get("rescored_of")) is not None:
        told = {**identity, "comparability_key": record["comparability_key"], "rescored_of": source}
        return {rescored_digits(told, version)}
    if (imported := record.get("imported")) is not None:
        # A run that was asked the same as one of ours has that one's task; its id still names the other tool's.
        words = str(record["run_id"]).split("__")[1:-1]
        tasks = {record["task"]["id"], *("__".join(words[place:]) for place in range(len(words)))}
        names = (None, record["model"]["name"])
        return {imported_digits(imported, task, called) for task in tasks for called in names}
    if (stopped := record.get("stopped")) is not None:
        rule = {key: stopped[key] for key in ("whole", "against", "against_sha256", "metric", "seed")}
        return {stopped_digits(**rule, margin=stopped.get("margin"), alpha=stopped.get("alpha"))}
    return {
        evaluated_digits(identity, beside, version=version, device=device)
        for beside in forms_of(forms)
        for device in _DEVICES
    }
