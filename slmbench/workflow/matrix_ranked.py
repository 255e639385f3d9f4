"""Whether a matrix's leaderboard is of what is there now: many runs take minutes to rank, a second to look at."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Collection, Iterator

from pydantic import Field

from slmbench.catalog import Catalog
from slmbench.errors import FileError, SlmbenchError
from slmbench.files import write_json
from slmbench.foreign import Foreign, SchemaOne, read_model
from slmbench.paths import package_dir
from slmbench.runs import FileState
from slmbench.seal import canonical_json
from slmbench.values import JsonObject

LEADERBOARD = "leaderboard"
_NOTE = "ranked.json"
_SETTLED_NS = 2_000_000_000
"""A file that was changed so shortly before may be changed again within the same tick of its clock."""


class _Note(Foreign, extra="forbid"):
    version: SchemaOne = Field(alias="schema")
    inputs: str
    files: str


class MatrixRanking:
    """The ranking of an output folder, by a digest of all that it depends on.

    These are what is asked for, this version's own files, tasks and suites with their plugins, and every file of the
    output folder that isn't bookkeeping, by place, size and times; with it are noted the leaderboard's own files. One
    that was changed, is gone or is new makes another digest. Where nothing is noted, or nobody can read it, one ranks.
    """

    def __init__(self, out: str, book: str, asked: JsonObject, catalog: Catalog) -> None:
        """book: the folder of bookkeeping in `out`, by its name. asked: what else the leaderboard depends on."""
        self._out, self._note = out, os.path.join(out, book, _NOTE)
        self._newest_ns = 0
        digest = hashlib.sha256(canonical_json(asked).encode())
        for paths in (_walked(out, {book, LEADERBOARD}), _walked(package_dir()), sorted(set(_declared(catalog)))):
            for path in paths:
                self._newest_ns = max(self._newest_ns, _add(digest, path))
        self._inputs, self._looked_ns = digest.hexdigest(), time.time_ns()

    def is_there(self) -> bool:
        """Whether the leaderboard is that of just this."""
        with contextlib.suppress(OSError, FileError):
            note = read_model(self._note, _Note)
            return note.inputs == self._inputs and note.files == self._files()
        return False

    def settle(self) -> None:
        """Waits, at most two seconds, until a change of any file is sure to be seen."""
        left_ns = self._newest_ns + _SETTLED_NS - self._looked_ns
        if 0 < left_ns <= _SETTLED_NS:
            time.sleep(left_ns / 1e9)
            self._looked_ns += left_ns

    def keep(self) -> None:
        """Notes that the leaderboard was made of this, which was looked at before. A note is worth no error."""
        if self._looked_ns - self._newest_ns >= _SETTLED_NS:
            with contextlib.suppress(OSError, SlmbenchError):
                write_json(self._note, {"schema": 1, "inputs": self._inputs, "files": self._files()})

    def _files(self) -> str:
        digest = hashlib.sha256()
        for path in _walked(os.path.join(self._out, LEADERBOARD)):
            _add(digest, path)
        return digest.hexdigest()


def _add(digest: hashlib._Hash, path: str) -> int:
    """Adds a file's state. Returns when it was changed, in nanoseconds."""
    try:
        found = FileState.of(os.stat(path))
    except OSError:  # As a plugin that a task doesn't have.
        digest.update(f"{path}\0\n".encode(errors="surrogateescape"))
        return 0
    digest.update(f"{path}\0{found.file} {found.state}\n".encode(errors="surrogateescape"))
    return found.changed_ns


def _walked(folder: str, without: Collection[str] = ()) -> Iterator[str]:
    """Every file in a folder and below, in an order. without: names in the folder itself that are left out.

    Folders that are links are gone into, as runs may lie on another disk; each once, as a link may lead back.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        with contextlib.suppress(OSError):
            found = os.stat(place)
            if (found.st_dev, found.st_ino) in seen:
                folders.clear()
                continue
            seen.add((found.st_dev, found.st_ino))
        left = without if place == folder else ()
        folders[:] = sorted(name for name in folders if name not in left and name != "__pycache__")
        yield from (os.path.join(place, name) for name in sorted(files))


def _declared(catalog: Catalog) -> Iterator[str]:
    for kind in ("tasks", "suites"):
        for path in catalog.files(kind).values():
            yield path
            if kind == "tasks":
                yield os.path.join(os.path.dirname(path), "plugin.py")
    yield from catalog.plugin_files()
    yield from (one.path for one in catalog.plugin_modules if one.path)
