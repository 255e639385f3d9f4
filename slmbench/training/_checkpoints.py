"""Checkpoints: folders that are whole or not there, from which a killed training goes on to the same adapter."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import frozen
from pydantic import Field

from slmbench.console import say
from slmbench.errors import FileError, Problem, SlmbenchError
from slmbench.files import disk_errors, sync_folder
from slmbench.foreign import Count, Foreign, open_plain, parse, read_json
from slmbench.machine import packages
from slmbench.paths import shown
from slmbench.values import JsonObject

MANIFEST = "checkpoint.json"
_SCHEMA = 1
_CHUNK_BYTES = 1 << 20


@frozen
class Checkpoint:
    """A whole checkpoint. step: how many steps had been made."""

    folder: str
    step: int


def folder_name(step: int) -> str:
    """The name of a checkpoint's folder; names sort as steps do."""
    return f"step-{step:08d}"


@contextlib.contextmanager
def writing(place: str, step: int, identity: str, *, keep: int) -> Iterator[Callable[[str, bytes], None]]:
    """A new checkpoint below `place`: the block gets `write(name, data)`; at its end all is there, or nothing is.

    Every file is on the disk before the manifest with their sizes and sha256, and that before the folder has its name.
    Afterwards the `keep` newest are left. Raises SlmbenchError if the disk is full; earlier ones stay as they were.
    """
    final = os.path.join(place, folder_name(step))
    staging = os.path.join(place, f".{folder_name(step)}.tmp")
    files: dict[str, dict[str, Any]] = {}

    def write(name: str, data: bytes) -> None:
        write_synced(os.path.join(staging, name), data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    with disk_errors(final):
        try:
            shutil.rmtree(staging, ignore_errors=True)
            os.makedirs(staging)
            yield write
            manifest = {"schema": _SCHEMA, "step": step, "identity_sha256": identity, "files": files}
            manifest["packages"] = packages()
            write_synced(os.path.join(staging, MANIFEST), json.dumps(manifest, indent=1).encode())
            sync_folder(staging)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(staging, final)
            sync_folder(place)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    for _, name in _steps_in(place)[:-keep]:
        shutil.rmtree(os.path.join(place, name), ignore_errors=True)


def write_synced(path: str, data: bytes) -> None:
    """Writes a file and waits until it is on the disk. Raises OSError."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def latest(
    place: str, identity: str, check: Callable[[str, int], object] = lambda folder, step: None
) -> Checkpoint | None:
    """The newest whole checkpoint of a training, None if there is none.

    Those of another training (a changed recipe, other rows or weights) are removed, torn ones are passed over and
    removed, each with a line. check(folder, step) raises FileError or OSError for one whose files don't hold
    what they should.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(place):
            if name.startswith(".step-"):
                shutil.rmtree(os.path.join(place, name), ignore_errors=True)
    for step, name in reversed(_steps_in(place)):
        folder = os.path.join(place, name)
        manifest, fault = _read(folder, step)
        if manifest is not None and manifest.identity_sha256 != identity:
            fault = "is from a training with other settings, rows or weights"
        if manifest is not None and fault is None:
            try:
                check(folder, step)
            except (FileError, OSError) as error:
                fault = f"can't be resumed from: {'; '.join(str(error).splitlines())}"
        if manifest is not None and fault is None:
            _tell_packages(manifest.packages or {}, folder)
            return Checkpoint(folder, step)
        say(f"checkpoint {shown(folder)} {fault}; it is removed")
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _tell_packages(before: Mapping[str, str | None], folder: str) -> None:
    now = packages()
    changed = [f"{name} {old} then, {now.get(name)} now" for name, old in before.items() if now.get(name) != old]
    if changed:
        said = ", ".join(changed)
        say(f"checkpoint {shown(folder)} is from other versions ({said}): the result may differ in its last digits")


def newest_step(place: str) -> int | None:
    """The step of the newest checkpoint whose manifest is there; its files are not read."""
    steps = [step for step, name in _steps_in(place) if os.path.isfile(os.path.join(place, name, MANIFEST))]
    return steps[-1] if steps else None


def _steps_in(place: str) -> list[tuple[int, str]]:
    try:
        names = os.listdir(place)
    except OSError:
        return []
    digits = {name: name.removeprefix("step-") for name in names if name.startswith("step-")}
    return sorted((int(number), name) for name, number in digits.items() if number.isdigit())


class _File(Foreign):
    bytes: Count
    sha256: str


class _Manifest(Foreign):
    step: Count
    identity_sha256: str
    files: dict[str, _File] = Field(min_length=1)
    packages: dict[str, str | None] | None = None


def _read(folder: str, step: int) -> tuple[_Manifest | None, str | None]:
    """(manifest, what is wrong with the checkpoint), one of which is None."""
    path = os.path.join(folder, MANIFEST)
    try:
        value = read_json(path)
        if isinstance(value, dict) and value.get("schema", _SCHEMA) != _SCHEMA:
            return None, "was written by another version"
        manifest = parse(_Manifest, value, path)
    except FileNotFoundError:
        return None, f"is torn: it has no readable {MANIFEST}"
    except FileError as error:
        return None, f"is torn: it has no readable {MANIFEST}: {error.problems[0].message}"
    if manifest.step != step:
        return None, f"is torn: its {MANIFEST} is of step {manifest.step}"
    # A file that the manifest doesn't name is held to nothing.
    if unnamed := sorted(set(os.listdir(folder)) - manifest.files.keys() - {MANIFEST}):
        return None, f"is torn: its {MANIFEST} doesn't name {unnamed[0]}"
    for name, expected in manifest.files.items():
        try:
            size = os.path.getsize(os.path.join(folder, name))
            if size != expected.bytes:
                return None, f"is torn: {name} has {size:,} bytes instead of {expected.bytes:,}"
            if _sha256(os.path.join(folder, name)) != expected.sha256:
                return None, f"is torn: {name} has a different sha256 from the one written"
        except OSError as error:
            return None, f"is torn: {name}: {error.strerror}"
        except ValueError:  # A NUL in the name.
            return None, f"is torn: its {MANIFEST} names no file"
    return manifest, None


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def to_bytes(value: object) -> bytes:
    """A state dict as `torch.save` writes it; made in memory, so that a full disk is seen by whoever writes it."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load_state(path: str) -> JsonObject:
    """What `to_bytes` made, on the CPU; nothing in it is run. Raises FileError for anything else."""
    import torch

    with restoring(path):
        state: JsonObject = torch.load(path, map_location="cpu", weights_only=True)
    return state


@contextlib.contextmanager
def restoring(path: str) -> Iterator[None]:
    """For what is done with a file of a checkpoint: whatever torch raises is a FileError that names the file."""
    try:
        yield
    except (SlmbenchError, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        todo = f"delete {shown(path if os.path.isdir(path) else os.path.dirname(path))} and run the same command again"
        raise FileError([Problem(shown(path), 0, 0, f"can't be resumed from: {said}")], todo) from error


def random_states() -> JsonObject:
    """The states of Python's, numpy's and torch's global generators, of plain values and tensors."""
    import random

    import numpy
    import torch

    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = numpy.random.get_state()
    states: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [str(kind), torch.from_numpy(keys.astype("int64")), int(position), int(has_gauss), float(cached)],
        "torch": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def set_random_states(states: JsonObject) -> None:
    """Sets what `random_states` took."""
    import random

    import numpy
    import torch

    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype("uint32"), position, has_gauss, cached))
    torch.random.set_rng_state(states["torch"])
    # Another number of GPUs than before: then it is another run, and nothing to restore.
    if "cuda" in states and torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
