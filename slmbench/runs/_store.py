"""A run's folder: `run.json`, `samples.jsonl` and, while it is under way, the journal `responses.jsonl`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from slmbench.console import say
from slmbench.errors import SlmbenchError
from slmbench.files import write_atomically, write_json
from slmbench.journal import Journal
from slmbench.paths import shown

SCHEMA = 1


@frozen(repr=False)
class Run:
    """A finished run: its folder and the record in its `run.json`."""

    folder: str
    record: dict[str, Any]

    def __repr__(self) -> str:
        """Who was scored on what, the first metric with its 95% interval and n, and the folder."""
        adapter = self.record.get("adapter")
        who = self.record["model"]["name"] + (f" + {adapter['name']}" if adapter else "")
        first = self.record["metrics"][0]
        interval = "" if first.get("method") == "none" else f" ({first['ci_lo']:.3f} to {first['ci_hi']:.3f})"
        score = f"{first['name']} {first['value']:.3f}{interval}, n = {first['n']}"
        return f"<Run {who} on {self.record['task']['id']}: {score}; {shown(self.folder)}>"

    @property
    def run_id(self) -> str:
        return str(self.record["run_id"])

    def samples(self) -> list[dict[str, Any]]:
        """Every item's record, as written. Raises SlmbenchError where the file isn't what was written."""
        path = os.path.join(self.folder, "samples.jsonl")
        with open(path, "rb") as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != self.record["samples_sha256"]:
            raise SlmbenchError(f"{shown(path)} was changed after the run; run it again")
        return [json.loads(line) for line in data.splitlines()]


class OpenRun:
    """A run under way. Its journal is locked to this process; `finish` makes it whole, `close` leaves it resumable.

    check: what an entry of the journal has to pass to be taken for an answer; what doesn't is said, and asked again.
    """

    def __init__(self, folder: str, record: dict[str, Any], check: Callable[[str, Any], object] | None = None) -> None:
        self.folder = folder
        self.journal = Journal(os.path.join(folder, "responses.jsonl"), check)
        if self.journal.damage:
            say(f"note: {self.journal.damage_said()}; what stood there is computed again")
        self.resumed = len(self.journal.entries)
        self.record = {"schema": SCHEMA, **record, "status": "started", "created": now(), "ended": None}
        write_json(os.path.join(folder, "run.json"), self.record)

    def finish(self, samples: list[dict[str, Any]], results: dict[str, Any]) -> Run:
        """Writes the samples, then the record that vouches for them; the journal has served and goes."""
        lines = [json.dumps(sample, ensure_ascii=True, allow_nan=False) + "\n" for sample in samples]
        data = "".join(lines).encode()
        write_atomically(os.path.join(self.folder, "samples.jsonl"), data)
        digest = hashlib.sha256(data).hexdigest()
        self.record |= {**results, "status": "ok", "ended": now(), "samples_sha256": digest}
        write_json(os.path.join(self.folder, "run.json"), self.record)
        self.journal.close()
        os.unlink(self.journal.path)
        return Run(self.folder, self.record)

    def close(self) -> None:
        self.journal.close()


def finished_run(folder: str) -> Run | None:
    """The run of a folder if it ended well and its samples are as they were written, else None."""
    path = os.path.join(folder, "run.json")
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or record.get("status") != "ok":
        return None
    run = Run(folder, record)
    try:
        run.samples()
    except (OSError, SlmbenchError, ValueError):  # Damaged or changed: it is no longer what ended well.
        return None
    return run


def canonical_sha256(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
