"""The digest in a record of its own other fields, by which a change of any of them is seen when it is read again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping

from slmbench.foreign import faults
from slmbench.values import JsonObject

SEAL = "record_sha256"
# A finished run may be marked, as invalidated, and unmarked.
_LEFT_OUT = (SEAL, "status")


def sealed(record: Mapping[str, object]) -> JsonObject:
    """A record with the digest of its fields, `status` apart."""
    # As it will be read back: a key that is a number is a text there, and sorts as one.
    return {**record, SEAL: _digest(json.loads(json.dumps(dict(record))))}


def check_seal(record: Mapping[str, object], path: str | os.PathLike[str], *, todo: str = "") -> None:
    """Raises FileError if a record isn't what its digest says. One without a digest, as earlier ones, is taken."""
    said = record.get(SEAL)
    if said is not None and said != (found := _digest(record)):
        wanted = f"{found[:16]}..., the digest of the other fields: one of them was changed after it was written"
        raise faults(path, [(SEAL, said, wanted)], todo=todo)


def canonical_sha256(value: object) -> str:
    """sha256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """A value's JSON with sorted keys and no blanks: false is not 0 in it, and 1.0 is not 1."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(record: Mapping[str, object]) -> str:
    return canonical_sha256({key: value for key, value in record.items() if key not in _LEFT_OUT})
