"""The schemas of records that this slmbench reads, and what is said of a record of another one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from pydantic import BaseModel

from slmbench.errors import FileError, Problem
from slmbench.files import write_json
from slmbench.foreign import ModelT, parse, short
from slmbench.paths import shown

RECORD = "run.json"
SAMPLES = "samples.jsonl"
ITEM_SCORES = "item_scores.parquet"
TRAINING = "training.json"
MERGE = "merge.json"
READS: dict[str, range] = {RECORD: range(1, 2), SAMPLES: range(1, 2), TRAINING: range(1, 4), MERGE: range(1, 2)}
"""File -> the schemas of it that are read; the last one is written. Training 3: `base` says where the base was."""
AGAIN = {RECORD: "run it again", SAMPLES: "run it again", TRAINING: "train it again", MERGE: "merge it again"}
WITHOUT = "remove the file to have the adapter treated as one that was made elsewhere"
REST = {RECORD: "or move the run's folder away", SAMPLES: "or move the run's folder away", TRAINING: f"or {WITHOUT}"}
REST[MERGE] = f"or {WITHOUT}"


class OtherSchema(FileError):
    """A file of a schema that isn't read here."""


class NewerRecord(OtherSchema):
    """A file that a newer slmbench wrote, which this one neither reads nor writes over."""


def written(kind: str) -> int:
    """The schema that a kind of record is written in."""
    return READS[kind][-1]


def read_as(
    model: type[ModelT], record: object, kind: str, path: str | os.PathLike[str], *, line: int = 0, todo: str = ""
) -> ModelT:
    """A record as a model's value; the model's own `schema` is held to READS. kind: its key there.

    Raises FileError with every fault; of a record of another schema OtherSchema, whatever else is wrong with it.
    """
    try:
        return parse(model, record, path, line=line, todo=todo, extra="ignore")
    except FileError:
        refuse_other(record, kind, path, line=line)
        raise


def refuse_other(record: object, kind: str, path: str | os.PathLike[str], *, line: int = 0) -> None:
    """Raises NewerRecord for a record of a newer schema, OtherSchema for one that is too old."""
    schema, reads = record.get("schema") if isinstance(record, dict) else None, READS[kind]
    if type(schema) is not int or schema in reads:
        return
    newer = schema > reads[-1]
    which = f"{reads[0]} to {reads[-1]}" if len(reads) > 1 else str(reads[0])
    age, way = ("a newer", "install a newer slmbench") if newer else ("an older", AGAIN[kind])
    said = f"has schema {short(schema)}, and this slmbench reads {which}: {age} one wrote it; {way}"
    raise (NewerRecord if newer else OtherSchema)([Problem(shown(path), line, 1 if line else 0, said)], REST[kind])


def write_as(model: type[BaseModel], record: Mapping[str, object], path: str) -> None:
    """Writes a record. Raises FileError for one that doesn't hold what the model says, or that holds more."""
    # As it will be read back: a tuple is a list there, and keys are texts.
    parse(model, json.loads(json.dumps(dict(record))), path)
    write_json(path, record)
