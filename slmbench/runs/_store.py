"""A run's folder: `run.json`, `samples.jsonl` and, while it is under way, the journal `responses.jsonl`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from attrs import evolve, frozen

from slmbench.console import say
from slmbench.errors import FileError, Problem, SlmbenchError
from slmbench.files import write_json, write_together
from slmbench.foreign import faults, open_plain, short
from slmbench.journal import Journal
from slmbench.paths import shown
from slmbench.runs._comparable import comparability_key
from slmbench.runs._item_scores import (
    ItemScores,
    item_scores_bytes,
    make_item_scores,
    metric_faults,
    read_item_scores,
)
from slmbench.runs._record import MetricPart, RunRecord, read_record
from slmbench.runs._sample import SampleRecord, read_sample
from slmbench.runs._stopped import PAUSED
from slmbench.runs._verify import Pool, verify
from slmbench.runs._versions import ITEM_SCORES, READS, RECORD, SAMPLES, NewerRecord, write_as
from slmbench.seal import SEAL, canonical_json, sealed
from slmbench.values import JsonObject

_DIGESTS = {SAMPLES: "samples_sha256", ITEM_SCORES: "item_scores_sha256"}


@frozen(repr=False)
class Run:
    """A finished run: its folder and the record in its `run.json`.

    decision: how the comparison came out that it was made for (`evaluate(..., against=...)`); None without one. Of a
    run that was stopped it is the record's `stopped`; of one on the whole set it has the same fields.
    """

    folder: str
    record: JsonObject
    decision: JsonObject | None = None

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

    def without_texts(self) -> Run:
        """The run, which from now on says that pages keep its texts to themselves."""
        if self.record.get("no_texts"):
            return self
        record = self.record | {"no_texts": True}
        if SEAL in record:
            record = sealed(record)
        write_json(os.path.join(self.folder, RECORD), record)
        return evolve(self, record=record)

    def samples(self) -> list[JsonObject]:
        """Every item's record, as written. Raises SlmbenchError if the file isn't what was written."""
        path = os.path.join(self.folder, SAMPLES)
        try:
            with open_plain(path) as file:
                data = file.read()
        except OSError as error:
            raise FileError([Problem(shown(path), 0, 0, f"can't be read: {error.strerror}")], "run it again") from error
        if hashlib.sha256(data).hexdigest() != self.record["samples_sha256"].removeprefix("sha256:"):
            raise SlmbenchError(f"{shown(path)} was changed after the run; run it again")
        return [read_sample(line, path, number) for number, line in enumerate(data.splitlines(), 1)]


class OpenRun:
    """A run under way. Its journal is locked to this process; `finish` makes it whole, `close` leaves it resumable.

    check: what an entry of the journal has to pass to be taken for an answer; what doesn't is said, and asked again.
    """

    def __init__(self, folder: str, record: JsonObject, check: Callable[[str, object], object] | None = None) -> None:
        self.folder = folder
        self.journal = Journal(os.path.join(folder, "responses.jsonl"), check)
        if self.journal.damage:
            say(f"note: {self.journal.damage_said()}; what stood there is computed again")
        self.resumed = len(self.journal.entries)
        self.record = {"schema": READS[RECORD][-1], **record, "status": "started", "created": now(), "ended": None}
        write_json(os.path.join(folder, RECORD), self.record)

    def finish(
        self,
        samples: Sequence[SampleRecord],
        results: JsonObject,
        pseudo: Mapping[str, Sequence[float]] | None = None,
    ) -> Run:
        """Writes samples and item scores, then the record that vouches for both; the journal has served and goes.

        pseudo: of each pooled metric, the items' pseudo-values, in the order of the items. Without them such a run has
        no item scores, and is read from its samples.
        """
        data = "".join(map(sample_line, samples)).encode()
        return self.finish_written(data, _item_scores(samples, results["metrics"], pseudo or {}), results)

    def finish_written(self, lines: bytes, items: ItemScores | None, results: JsonObject) -> Run:
        """As `finish`, for who has the lines of samples.jsonl, as of `sample_line`, and what they come to."""
        contents = {SAMPLES: lines}
        if items is not None:
            contents[ITEM_SCORES] = item_scores_bytes(items)
        else:  # One of an earlier call would belong to other samples.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.folder, ITEM_SCORES))
        write_together({os.path.join(self.folder, name): one for name, one in contents.items()})
        digests = {_DIGESTS[name]: hashlib.sha256(one).hexdigest() for name, one in contents.items()}
        self.record |= {**results, "status": "ok", "ended": now(), **digests}
        self.record = sealed(self.record)
        write_as(RunRecord, self.record, os.path.join(self.folder, RECORD))
        self.journal.close()
        os.unlink(self.journal.path)
        return Run(self.folder, self.record)

    def close(self) -> None:
        self.journal.close()

    def pause(self) -> None:
        """Leaves it resumable, as `close` does, with a status that says that this is meant to be."""
        self.close()
        self.record |= {"status": PAUSED}
        write_json(os.path.join(self.folder, RECORD), self.record)


def _item_scores(
    samples: Sequence[SampleRecord], metrics: Sequence[JsonObject], pseudo: Mapping[str, Sequence[float]]
) -> ItemScores | None:
    """What the samples come to; None if that is not all that the metrics are made of."""
    parts = [MetricPart.model_validate(metric) for metric in metrics]
    clusters = {sample.item_id: sample.cluster_id for sample in samples}
    scores: dict[str, dict[str, float]] = {}
    for part in parts:
        if part.pooled:
            scores[part.name] = dict(zip(clusters, pseudo.get(part.name, ()), strict=False))
            continue
        of: dict[str, list[float]] = {}
        for sample in samples:
            if (value := sample.scores.get(part.name)) is not None:
                of.setdefault(sample.item_id, []).append(value)
        scores[part.name] = {item: math.fsum(values) / len(values) for item, values in of.items()}
    made = make_item_scores([part.name for part in parts], scores, clusters, n_samples=len(samples))
    return None if any(metric_faults(part, made.scores[part.name]) for part in parts) else made


def sample_line(sample: SampleRecord) -> str:
    """A line of samples.jsonl."""
    return json.dumps(sample.model_dump(exclude_unset=True), ensure_ascii=True, allow_nan=False) + "\n"


def finished_run(
    folder: str, pool_of: Callable[[str], Pool], expected: Mapping[str, object] | None = None
) -> Run | None:
    """The run of a folder if it ended well and is as it was written, else None; what is damaged is said.

    pool_of: as in `verify`. expected: what its record holds beside its results, as the run's id is made of it. Raises
    FileError for a run that a newer slmbench wrote, which must not be written over.
    """
    try:
        record = read_record(folder)
        if record["status"] != "ok":
            return None
        if odd := identity_faults(record, expected or {}):
            raise faults(os.path.join(folder, RECORD), odd)
        verify(folder, record, pool_of)
        read_item_scores(folder, record)
    except FileNotFoundError:
        return None
    except NewerRecord:
        raise
    except SlmbenchError as error:
        say(f"note: {'; '.join(str(error).splitlines())}; this task is run again")
        return None
    return Run(folder, record)


def identity_faults(record: JsonObject, expected: Mapping[str, object]) -> list[tuple[str, object, str]]:
    """(field, what a finished run's record says, what is expected) of those fields that make it another evaluation."""
    wanted = json.loads(json.dumps(dict(expected)))  # As it would be read back: a tuple is a list there.
    # An earlier record has its metrics in its key.
    there = record | ({"comparability_key": comparability_key(record)} if "comparability_key" in wanted else {})
    if there.get("adapter") and wanted.get("adapter"):
        # The same weights may have been trained twice, in other seconds.
        for one in (wanted, there):
            one["adapter"] = {key: one["adapter"].get(key) for key in ("name", "sha256")}
    # As JSON: to Python, false is 0 and 1.0 is 1.
    return [
        (key, there.get(key), short(value))
        for key, value in wanted.items()
        if canonical_json(there.get(key)) != canonical_json(value)
    ]


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
