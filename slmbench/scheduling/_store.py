"""Results of jobs in a store that any fsspec URL names, for nodes that share no disk.

    <url>/driver.json                                who gives out jobs, with its last sign of life
          given/<digest>/files/...                   a folder that the driver had already, and a job reads
                         manifest.json               its files; written last: it is whole
          jobs/<key>/attempts/<attempt>/asked.json   the job, and where what it reads lies in the store
                                        made/...     what it made, each folder under its final name
                                        log.txt      what it said
                                        commit.json  how it ended, with all files; written last: it is whole

An object store can't rename, so nothing here relies on it: what has no commit isn't there, and as every attempt has a
prefix of its own, two never mix. Files are held to size and sha256 when they are fetched, and so are commits.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from slmbench.errors import FileError, SlmbenchError, UsageError
from slmbench.files import built_once, disk_errors, file_sha256, json_bytes, write_atomically
from slmbench.foreign import Count, Foreign, SchemaOne, decode_json, parse
from slmbench.paths import shown
from slmbench.scheduling._attempt import JobOutcome
from slmbench.scheduling._job import Job, job_from
from slmbench.seal import canonical_sha256
from slmbench.values import JsonObject
from slmbench.visible import visible

FLAT = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory"})
"""Stores that have no folders to make; asked for one, some make a bucket."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ATTEMPT = re.compile(r"[0-9a-f]{8,64}")


def _below(path: str) -> str:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or re.search(r"[\\\x00:]", path):
        raise ValueError("a path below the folder, with / between its parts and no '..'")
    return path


def _sha256(digest: str) -> str:
    if not _SHA256.fullmatch(digest):
        raise ValueError("a sha256: 64 hex digits")
    return digest


def _attempt(name: str) -> str:
    if not _ATTEMPT.fullmatch(name):
        raise ValueError("an attempt's name: hex digits")
    return name


RelativePath = Annotated[str, AfterValidator(_below)]


class StoredFile(Foreign, extra="forbid"):
    """A file's size and sha256."""

    bytes: Count
    sha256: Annotated[str, AfterValidator(_sha256)]


Files = dict[RelativePath, StoredFile]
"""The files of a folder by their paths below it."""


class StoredFolder(Foreign, extra="forbid"):
    """A folder in the store. place: its name below an output folder; prefix: below the store's URL."""

    place: RelativePath
    prefix: RelativePath
    files: Files


class JobCommit(Foreign, extra="forbid"):
    """How an attempt ended. made: places below the output folder and their files. log: of `log.txt`, if it is there."""

    version: SchemaOne = Field(default=1, alias="schema")
    attempt: Annotated[str, AfterValidator(_attempt)]
    outcome: JobOutcome
    made: dict[RelativePath, Files]
    log: StoredFile | None = None


class _Asked(Foreign, extra="forbid"):
    version: SchemaOne = Field(alias="schema")
    job: dict[str, object]
    starts: Count
    reads: list[StoredFolder]


class ResultStore:
    """A store by its URL. Any number of processes may have one open; each attempt of a job has one writer."""

    def __init__(self, url: str) -> None:
        """Raises UsageError if it isn't a URL, or nothing that is installed reads such ones."""
        scheme, sep, rest = url.partition("://")
        if not sep or not scheme or not rest.strip("/") or "::" in url:
            raise UsageError(f"--store {visible(url)}: expected a URL, as file:///shared/store or s3://bucket/folder")
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False}
        if scheme in ("file", "local"):
            options["auto_mkdir"] = True
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise UsageError(f"--store {visible(url)}: {visible(str(error))}") from error
        self.url, self._scheme = url.rstrip("/"), scheme

    def path(self, *names: str) -> str:
        return posixpath.join(self._root, *names)

    def shown(self, *names: str) -> str:
        """A name's URL, for messages."""
        return visible(posixpath.join(self.url, *names))

    @contextlib.contextmanager
    def _told(self, *names: str) -> Iterator[None]:
        """What a store's own library raises, which may be anything, as a SlmbenchError that names the file."""
        try:
            yield
        except (SlmbenchError, FileNotFoundError):
            raise
        except Exception as error:
            said = " ".join(visible(str(error)).split())[:300]
            raise SlmbenchError(
                f"{self.shown(*names)}: the store failed: {type(error).__name__}: {said}; see that it is reached and "
                "may be written to from here, and run the same command again"
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file; where the store has folders of a disk, by a rename. Raises SlmbenchError."""
        if self._scheme in ("file", "local"):
            write_atomically(self.path(name), data)
            return
        with self._told(name):
            self._make_folder(posixpath.dirname(name))
            self._fs.pipe_file(self.path(name), data)

    def read(self, name: str) -> bytes | None:
        """A small file's bytes; None if it isn't there. Raises SlmbenchError."""
        try:
            with self._told(name):
                return bytes(self._fs.cat_file(self.path(name)))
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Removes a file or all below a prefix; nothing if there is none. Raises SlmbenchError."""
        with self._told(name), contextlib.suppress(FileNotFoundError):
            self._fs.rm(self.path(name), recursive=True)

    def _make_folder(self, name: str) -> None:
        if self._scheme not in FLAT:
            self._fs.makedirs(self.path(name), exist_ok=True)

    def put(self, folder: str, prefix: str) -> Files:
        """Uploads all files of a folder below a prefix. Folders without files aren't kept. Raises SlmbenchError."""
        found = _files(folder)
        for path in found:
            name = f"{prefix}/{path}"
            with self._told(name):
                self._make_folder(posixpath.dirname(name))
                self._fs.put_file(os.path.join(folder, path), self.path(name))
        return found

    def fetch(self, prefix: str, files: Files, place: str) -> None:
        """Puts a folder of the store at a place, whole or not at all; if it is there as it should be, nothing is read.

        Raises SlmbenchError naming the file if one is missing or isn't as its manifest says.
        """
        if _is_as_told(place, files):
            return
        with built_once(os.path.abspath(place), lambda there: _is_as_told(there, files)) as partial:
            for path, told in files.items():
                self._fetch_file(f"{prefix}/{path}", told, os.path.join(partial, path))

    def _fetch_file(self, name: str, told: StoredFile, path: str) -> None:
        with disk_errors(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with self._told(name):
                self._fs.get_file(self.path(name), path)
        except FileNotFoundError:
            raise SlmbenchError(f"{self.shown(name)}: is not there, though its commit names it") from None
        if (fault := _fault(path, told)) is not None:
            raise SlmbenchError(f"{self.shown(name)}: is damaged: {fault}")

    def give(self, folder: str, place: str) -> StoredFolder:
        """A folder of this machine in the store, under its digest: what is there already isn't uploaded again."""
        files = _files(folder)
        told = {path: file.model_dump() for path, file in files.items()}
        prefix = f"given/{canonical_sha256(told)[:32]}"
        if self.read(f"{prefix}/manifest.json") is None:
            self.put(folder, f"{prefix}/files")
            self.write(f"{prefix}/manifest.json", json_bytes({"files": told}))
        return StoredFolder(place=place, prefix=f"{prefix}/files", files=files)

    def ask(self, job: Job, attempt: str, starts: int, reads: list[StoredFolder]) -> None:
        """Writes down an attempt of a job. starts: how often it was begun, this time included. reads: what it needs."""
        value = {
            "schema": 1,
            "job": job.as_json(),
            "starts": starts,
            "reads": [one.model_dump() for one in reads],
        }
        self.write(f"{_prefix(job.key, attempt)}/asked.json", json_bytes(value))

    def asked(self, key: str, attempt: str) -> tuple[Job, int, list[StoredFolder]]:
        """(the job, its starts, what it reads) of an attempt. Raises SlmbenchError if it isn't there or isn't sound."""
        name = f"{_prefix(key, attempt)}/asked.json"
        data = self.read(name)
        if data is None:
            raise SlmbenchError(f"{self.shown(name)}: is not there")
        read = parse(_Asked, decode_json(data, self.shown(name)), self.shown(name))
        return job_from(read.job, self.shown(name)), read.starts, list(read.reads)

    def commit(self, key: str, attempt: str, outcome: JobOutcome, out: str, log: str) -> None:
        """Uploads what an attempt made, below the output folder `out`, and its log, and then says how it ended.

        Raises SlmbenchError; the attempt isn't there then.
        """
        prefix = _prefix(key, attempt)
        # Of results that lie in one folder, as the variants of a run do, it goes once.
        places = sorted({_place(place) for place in outcome.made.values()})
        made = {place: self.put(os.path.join(out, place), f"{prefix}/made/{place}") for place in places}
        said = None
        if os.path.exists(log):
            said = _told_of(log)
            with self._told(f"{prefix}/log.txt"):
                self._make_folder(prefix)
                self._fs.put_file(log, self.path(prefix, "log.txt"))
        value = JobCommit(attempt=attempt, outcome=outcome, made=made, log=said).model_dump(by_alias=True)
        sealed = {**value, "sha256": canonical_sha256(value)}
        self.write(f"{prefix}/commit.json", json_bytes(sealed))

    def committed(self, key: str, attempt: str) -> JobCommit | None:
        """How an attempt ended; None while it hasn't, also of one whose commit is cut off. Raises SlmbenchError."""
        name = f"{_prefix(key, attempt)}/commit.json"
        data = self.read(name)
        if data is None:
            return None
        shown_name = self.shown(name)
        try:
            value = decode_json(data, shown_name)
        except FileError:
            return None
        if not isinstance(value, dict) or value.pop("sha256", None) != canonical_sha256(value):
            raise SlmbenchError(f"{shown_name}: is damaged: its sha256 is another one than it says")
        found = parse(JobCommit, value, shown_name)
        lost = [place for place in found.outcome.made.values() if place not in found.made]
        if found.attempt != attempt or lost:
            raise SlmbenchError(f"{shown_name}: is of another attempt, or lacks files of what was made: {lost}")
        return found

    def attempts(self, key: str) -> list[str]:
        """Names of a job's attempts, ended or not."""
        name = f"jobs/{key}/attempts"
        try:
            with self._told(name):
                paths = self._fs.ls(self.path(name), detail=False)
        except FileNotFoundError:
            return []
        names = [posixpath.basename(str(path).replace("\\", "/").rstrip("/")) for path in paths]
        return sorted(one for one in names if _ATTEMPT.fullmatch(one))

    def drop(self, key: str, attempt: str) -> None:
        """Removes an attempt, its commit first, so that none is there of which files are missing."""
        self.remove(f"{_prefix(key, attempt)}/commit.json")
        self.remove(_prefix(key, attempt))

    def made(self, key: str, commit: JobCommit) -> list[StoredFolder]:
        """The folders that an attempt made."""
        prefix = f"{_prefix(key, commit.attempt)}/made"
        return [StoredFolder(place=at, prefix=f"{prefix}/{at}", files=files) for at, files in commit.made.items()]

    def fetch_log(self, key: str, commit: JobCommit, path: str) -> None:
        """Puts what an attempt said in place of a file, if it was committed. Raises SlmbenchError."""
        if commit.log is not None:
            self.fetch_one(f"{_prefix(key, commit.attempt)}/log.txt", commit.log, path)

    def fetch_one(self, name: str, told: StoredFile, path: str) -> None:
        beside = f"{path}.{secrets.token_hex(6)}.tmp"
        try:
            self._fetch_file(name, told, beside)
            with disk_errors(path):
                os.replace(beside, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(beside)


def _prefix(key: str, attempt: str) -> str:
    return f"jobs/{key}/attempts/{_attempt(attempt)}"


def _place(place: str) -> str:
    return _below(place.replace(os.sep, "/"))


def _told_of(path: str) -> StoredFile:
    with disk_errors(path):
        return StoredFile(bytes=os.path.getsize(path), sha256=file_sha256(path))


def _files(folder: str) -> Files:
    """All files of a folder. Raises SlmbenchError for what can't be uploaded: no folder, a link to one, an odd name."""
    if not os.path.isdir(folder):
        raise SlmbenchError(f"{shown(folder)}: expected a folder, to put it into the store")
    found: Files = {}
    for at, folders, names in os.walk(folder):
        for name in folders:
            if os.path.islink(os.path.join(at, name)):
                raise SlmbenchError(f"{shown(os.path.join(at, name))}: a link to a folder can't be put into a store")
        for name in names:
            full = os.path.join(at, name)
            relative = os.path.relpath(full, folder).replace(os.sep, "/")
            try:
                found[_below(relative)] = _told_of(full)
            except ValueError as error:
                raise SlmbenchError(f"{shown(full)}: can't be put into a store: expected {error}") from None
    return dict(sorted(found.items()))


def _fault(path: str, told: StoredFile) -> str | None:
    """What is wrong with a file, in words."""
    try:
        size = os.path.getsize(path)
        if size != told.bytes:
            return f"it has {size:,} bytes, and its manifest says {told.bytes:,}"
        digest = file_sha256(path)
    except OSError as error:
        return str(error.strerror)
    return None if digest == told.sha256 else f"its sha256 is {digest[:12]}…, and its manifest says {told.sha256[:12]}…"


def _is_as_told(place: str, files: Mapping[str, StoredFile]) -> bool:
    return os.path.isdir(place) and all(
        _fault(os.path.join(place, *path.split("/")), told) is None for path, told in files.items()
    )


def read_mark(url: str) -> str:
    """What is wrong with reading a file of a store that holds its own name, in words; "" if nothing is."""
    store, _, name = url.rpartition("/")
    try:
        data = ResultStore(store).read(name)
    except SlmbenchError as error:
        return str(error)
    return "" if data == name.encode() else "it isn't there"


def facts_of_store(probe: str, mark: str) -> JsonObject:
    """Whether a node reads the probe of a store and can write beside it."""
    unread = read_mark(probe)
    unwritable = None
    if not unread:
        try:
            ResultStore(probe.rpartition("/")[0]).write(mark, mark.encode())
        except SlmbenchError as error:
            unwritable = str(error)
    return {"sees": not unread, "unread": unread, "unwritable": unwritable}
