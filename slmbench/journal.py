"""An append-only file of finished work that survives a kill, and whose damaged lines cost no more than themselves."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable
from typing import Any

from slmbench.errors import FileError, SlmbenchError
from slmbench.files import disk_errors, lock
from slmbench.foreign import Foreign, Limits, decode_json, parse
from slmbench.paths import shown

FSYNC_EVERY_LINES = 64
FSYNC_EVERY_S = 1.0
# Texts come as a model wrote them, halves of characters among them.
_LIMITS = Limits(surrogates=True)
_SAID = 3


class _Line(Foreign):
    key: str
    value: Any
    crc32: str | None = None


class Journal:
    """An append-only JSON Lines file of key -> value, each line with a checksum of its own.

    check(key, value) raises FileError for an entry that can't be one. Lines that are cut off, no JSON, not what their
    checksum says or refused by check are left out; `damage` says each. One writer at a time: opening a journal that
    another process holds raises SlmbenchError.
    """

    def __init__(self, path: str, check: Callable[[str, object], object] | None = None) -> None:
        self.path = path
        self.entries: dict[str, Any] = {}
        self.damage: list[str] = []
        with disk_errors(path):
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115  (kept open for the run's length)
        if not lock(self._file):
            self._file.close()
            raise SlmbenchError(f"{shown(path)}: another process is writing this run; wait for it to end")
        self._load(check)
        self._unsynced = 0
        self._synced_at = time.monotonic()

    def _load(self, check: Callable[[str, object], object] | None) -> None:
        self._file.seek(0)
        good = number = 0
        while line := self._file.readline(_LIMITS.bytes):
            number += 1
            length = len(line)
            while len(line) == _LIMITS.bytes and not line.endswith(b"\n"):
                line = self._file.readline(_LIMITS.bytes)  # No answer is so long: passed over, and never held whole.
                length += len(line)
            if not line.endswith(b"\n"):
                self.damage.append(f"line {number} is cut off")
                break
            good += length
            if not line.strip():
                continue
            # A damaged line costs its own entry alone: those after it were acknowledged.
            try:
                entry = parse(_Line, decode_json(line.rstrip(), self.path, _LIMITS, line=number), self.path)
                if entry.crc32 not in (None, _crc32(_body(entry.key, entry.value))):
                    self.damage.append(f"line {number} does not match its checksum")
                    continue
                if check is not None:
                    check(entry.key, entry.value)
            except FileError as error:
                first = error.problems[0].message
                self.damage.append(f"line {number}{':' if first.startswith('field') else ''} {first}")
                continue
            self.entries[entry.key] = entry.value
        self._file.truncate(good)
        self._file.seek(0, os.SEEK_END)

    def damage_said(self) -> str:
        """All damage in one sentence, the first few lines by name; empty if there is none."""
        if not self.damage:
            return ""
        more = f"; and {len(self.damage) - _SAID} more lines" if len(self.damage) > _SAID else ""
        return f"{shown(self.path)}: {'; '.join(self.damage[:_SAID])}{more}"

    def append(self, key: str, value: object) -> None:
        """Adds one entry; it is with the operating system when this returns, and on the disk within a second."""
        body = _body(key, value)
        line = f'{body[:-1]}, "crc32": "{_crc32(body)}"}}\n'
        with disk_errors(self.path):
            self._file.write(line.encode())
            self._file.flush()
            self._unsynced += 1
            if self._unsynced >= FSYNC_EVERY_LINES or time.monotonic() - self._synced_at >= FSYNC_EVERY_S:
                os.fsync(self._file.fileno())
                self._unsynced, self._synced_at = 0, time.monotonic()
        self.entries[key] = value

    def close(self) -> None:
        with disk_errors(self.path):
            self._file.close()


def _body(key: str, value: object) -> str:
    return json.dumps({"key": key, "value": value}, ensure_ascii=True, allow_nan=False)


def _crc32(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
