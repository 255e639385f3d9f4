"""Whether a matrix's leaderboard is of what is there now: many runs take minutes to rank, a second to look at."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Collection, Iterator

from pydantic import Field

from slmbench.catalog import FILE_KINDS, Catalog
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

    These are what is asked for; by name and version all installed packages; what SLMBENCH_* says; and, by place, size
    and times, this version's own files, all that is declared with everything beside its plugins, the mirror of data
    sets, and every file of the output folder that isn't bookkeeping. With it are noted the leaderboard's own files. One
    that was changed, is gone or is new makes another digest. Too much ranks once more, too little leaves a wrong
    leaderboard. Where nothing is noted, or nobody can read it, one ranks.
    """

    def __init__(self, out: str, book: str, asked: JsonObject, catalog: Catalog) -> None:
        """book: the folder of bookkeeping in `out`, by its name. asked: what else the leaderboard depends on."""
        self._out, self._note = out, os.path.join(out, book, _NOTE)
        self._newest_ns = 0
        said = {"asked": asked, "python": sys.version, "packages": _installed(), "environment": _environment()}
        digest = hashlib.sha256(canonical_json(said).encode(errors="surrogateescape"))
        places = [_walked(package_dir()), *(_walked(place, hidden=False, apart=out) for place in _declared(catalog))]
        for paths in (_walked(out, {book, LEADERBOARD}), *places):
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


def _walked(
    place: str, without: Collection[str] = (), *, hidden: bool = True, apart: str | None = None
) -> Iterator[str]:
    """Every file in a folder and below, in an order; a file is itself, whether it is there or not.

    without: names in the folder itself that are left out. hidden: folders with a dot in front, too. apart: a folder
    that is not gone into, as it is looked at by itself.
    Folders that are links are gone into, as runs may lie on another disk; each once, as a link may lead back.
    """
    if not os.path.isdir(place):
        yield place
        return
    seen: set[tuple[int, int]] = set()
    if apart is not None:
        with contextlib.suppress(OSError):
            found = os.stat(apart)
            seen.add((found.st_dev, found.st_ino))
    for here, folders, files in os.walk(place, followlinks=True):
        with contextlib.suppress(OSError):
            found = os.stat(here)
            if (found.st_dev, found.st_ino) in seen:
                folders.clear()
                continue
            seen.add((found.st_dev, found.st_ino))
        left = without if here == place else ()
        folders[:] = sorted(
            name for name in folders if name not in left and name != "__pycache__" and (hidden or name[0] != ".")
        )
        yield from (os.path.join(here, name) for name in sorted(files))


def _declared(catalog: Catalog) -> list[str]:
    """Files and folders of all that is declared: a task's with what its plugin imports and the rows that it has."""
    found = [os.path.dirname(path) for path in catalog.files("tasks").values()]
    found += [path for kind in (*FILE_KINDS, "formats") for path in catalog.files(kind).values()]
    found += [os.path.join(root, "plugins") for root in catalog.roots]
    for module in catalog.plugin_modules:
        # A package's whole folder, as its modules import each other. A module that is a file stands for itself.
        inner = module.module.count(".") + (os.path.basename(module.path) == "__init__.py")
        found.append(os.path.abspath(os.path.join(module.path, *[os.pardir] * inner)) if inner else module.path)
    if mirror := os.environ.get("SLMBENCH_DATA"):
        found.append(mirror)
    return sorted(set(found))


def _installed() -> list[str]:
    """Names and versions of all packages that can be imported, as their folders of metadata are called."""
    found = set()
    for folder in sys.path:
        with contextlib.suppress(OSError):
            found |= {name for name in os.listdir(folder or ".") if name.endswith((".dist-info", ".egg-info"))}
    return sorted(found)


def _environment() -> dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith("SLMBENCH_")}
