"""What a run says of another run that it is made of, held to that run where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from slmbench.errors import SlmbenchError
from slmbench.leaderboard._derived import Derived
from slmbench.runs import LEFT_OUT, SAMPLES, Run, RunIdentity, comparability_key, read_record
from slmbench.values import JsonObject

_ANSWER = ("item_id", "epoch", "prompt", "output", "loglikelihoods", "choices", "gold", "target")
_COPIED = ("cost", "hardware", "no_texts", "stopped", "imported")
# What a run is scored by and in is its own.
_OWN = ("scorer", "sandbox")


def follow(folder: Path, record: JsonObject, others: Mapping[str, Path]) -> Derived:
    """Holds a re-scored run to the run whose answers it has, an import to the run that was asked the same.

    others: run id -> folder; beside them, what lies next to the run is looked for.
    """
    found = Derived()
    if (source := record.get("rescored_of")) is not None:
        if (old := _at_hand(folder, str(source["run_id"]), others, "whose answers it has", found)) is not None:
            _hold_answers(Run(str(folder), record), old, found)
        return found
    twin = (record.get("imported") or {}).get("same_prompts_as")
    own = None if twin is None else _at_hand(folder, str(twin), others, "that was asked the same", found)
    if own is not None:
        of = f"of {own.run_id}, which was asked the same"
        found.hold("comparability_key", record["comparability_key"], comparability_key(own.record), of)
        found.hold("prompts_sha256", record.get("prompts_sha256"), own.record.get("prompts_sha256"), of)
    return found


def _at_hand(folder: Path, run_id: str, others: Mapping[str, Path], what: str, found: Derived) -> Run | None:
    place = others.get(run_id)
    if place is None and os.path.basename(run_id) == run_id and run_id not in ("", ".", ".."):
        place = folder.parent / run_id
    try:
        if place is not None and (there := read_record(place))["status"] not in LEFT_OUT:
            return Run(str(place), there)
        said = "is not there"
    except (FileNotFoundError, NotADirectoryError):
        said = "is not there"
    except SlmbenchError as error:
        said = f"can't be read ({str(error).splitlines()[0]})"
    found.notes.append(f"run {run_id}, {what}, {said}: nothing could be held to it")
    return None


def _hold_answers(run: Run, old: Run, found: Derived) -> None:
    source, there = run.record["rescored_of"], old.record
    same_samples = source["samples_sha256"] == there["samples_sha256"]
    if same_samples and source.get("record_sha256") is not None:
        said, wanted = source["record_sha256"], there.get("record_sha256")
        found.hold("rescored_of.record_sha256", said, wanted, f"the digest of {old.folder}: it was changed since")
    try:
        if said := _other_answer(run, old):
            found.faults.append(("rescored_of.run_id", old.run_id, f"the run whose answers it has: {said}"))
        elif not same_samples:
            found.notes.append(f"run {old.run_id}, whose answers it has, was made again since, with the same answers")
    except SlmbenchError as error:
        found.notes.append(f"run {old.run_id}: its answers can't be read ({str(error).splitlines()[0]})")
    if same_samples:
        keys = [key for key in (*_COPIED, *RunIdentity.model_fields) if key not in _OWN]
        for key in keys:
            if run.record.get(key) != there.get(key):
                found.faults.append((key, run.record.get(key), f"as in {old.run_id}, whose answers it has"))


def _other_answer(run: Run, old: Run) -> str:
    """The first answer that a run has otherwise than the run that it is from; '' for none."""
    ours, theirs = run.samples(), old.samples()
    for one, other in zip(ours, theirs, strict=False):
        if odd := next((key for key in _ANSWER if (one.get(key) or None) != (other.get(key) or None)), None):
            return f"item {one['item_id']!r} has another {odd} than in its {SAMPLES}"
    return "" if len(ours) == len(theirs) else f"it has {len(theirs)} samples, and this one {len(ours)}"
