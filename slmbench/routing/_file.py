"""A router's folder: router.json, and its head's numbers as safetensors. Nothing in it can run."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from typing import Annotated, Any

from attrs import evolve
from pydantic import ConfigDict, Field

from slmbench.errors import FileError, Problem, UsageError
from slmbench.files import disk_errors, json_bytes, restore_swapped, swap_folder
from slmbench.foreign import Foreign, Limits, SchemaOne, faults, parse, read_bytes, read_object
from slmbench.models import LoadedModel
from slmbench.paths import shown
from slmbench.routing._fit import HEADS
from slmbench.routing._heads import MisfitArrays
from slmbench.routing._router import AGAIN, RoutedAdapter, Router, RouterBase, RouterClass
from slmbench.seal import check_seal, sealed

RECORD, ARRAYS = "router.json", "router.safetensors"
_LIMITS = Limits(bytes=4_000_000)
_MOST_BYTES = 500_000_000
_Text = Annotated[str, Field(min_length=1)]
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class RouterAdapterRecord(Foreign):
    """folder: from the router's own on; location: where that was when it was written."""

    name: _Text
    folder: _Text
    location: _Text
    sha256: _Digest
    tasks: list[_Text]


class RouterClassRecord(Foreign):
    adapter: _Text
    task: _Text | None = None


class RouterBaseRecord(Foreign):
    name: _Text
    weights_sha256: _Digest
    config_sha256: _Digest
    tokenizer_sha256: _Digest


class RouterRecord(Foreign):
    """router.json. facts: how it was fitted, for people. settings: what its head is computed with."""

    model_config = ConfigDict(extra="forbid")

    version: SchemaOne = Field(alias="schema")
    head: _Text
    classes: Annotated[list[RouterClassRecord], Field(min_length=1)]
    adapters: Annotated[list[RouterAdapterRecord], Field(min_length=1)]
    base: RouterBaseRecord
    threshold: Annotated[float, Field(ge=0, le=1)]
    settings: dict[str, int]
    facts: dict[str, Any]
    arrays_sha256: _Digest
    record_sha256: _Digest


def write_router(router: Router, folder: str) -> str:
    """Writes a router's folder, whole or not at all; one that is there is replaced. Returns it.

    Raises UsageError if the folder holds something else, SlmbenchError if it can't be written.
    """
    from safetensors.numpy import save

    place = os.path.abspath(folder)
    shelf = os.path.dirname(place)
    restore_swapped(place)
    if os.path.lexists(place) and not _may_be_replaced(place):
        raise UsageError(f"{shown(folder)} is there and holds no router; give another folder for it")
    arrays = save({name: _plain(array) for name, array in router.head.arrays.items()})
    record = sealed(
        {
            "schema": 1,
            "head": router.head.name,
            "classes": [{"adapter": one.adapter, "task": one.task} for one in router.classes],
            "adapters": [
                {
                    "name": one.name,
                    "folder": os.path.relpath(one.folder, place),
                    "location": os.path.abspath(one.folder),
                    "sha256": one.sha256,
                    "tasks": list(one.tasks),
                }
                for one in router.adapters
            ],
            "base": {
                "name": router.base.name,
                "weights_sha256": router.base.weights_sha256,
                "config_sha256": router.base.config_sha256,
                "tokenizer_sha256": router.base.tokenizer_sha256,
            },
            "threshold": router.threshold,
            "settings": dict(router.head.settings),
            "facts": router.facts,
            "arrays_sha256": hashlib.sha256(arrays).hexdigest(),
        }
    )
    with disk_errors(folder):
        os.makedirs(shelf, exist_ok=True)
        new = tempfile.mkdtemp(prefix=f".{os.path.basename(place)}.", dir=shelf)
        try:
            os.chmod(new, 0o777 & ~_umask())
            for name, data in ((ARRAYS, arrays), (RECORD, json_bytes(record))):
                with open(os.path.join(new, name), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            swap_folder(new, place)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return folder


def read_router(folder: str, loaded: LoadedModel | None = None) -> Router:
    """A router's folder. loaded: the base that it is used with, checked and kept; None to look at it alone.

    The adapters' folders are not read: `Router.check_adapters` does that. Raises UsageError if the folder is none, or
    the router is of another base; FileError for a damaged one.
    """
    restore_swapped(os.path.abspath(folder))
    path = os.path.join(folder, RECORD)
    try:
        raw = read_object(path, _LIMITS, todo=AGAIN)
        data = read_bytes(os.path.join(folder, ARRAYS), _MOST_BYTES, todo=AGAIN)
    except (FileNotFoundError, NotADirectoryError):
        missing = ARRAYS if os.path.isfile(path) else RECORD
        raise UsageError(
            f"{shown(folder)} is not a router's folder: it has no {missing}; `slmbench route fit` makes one"
        ) from None
    record = parse(RouterRecord, raw, path, todo=AGAIN)
    check_seal(raw, path, todo=AGAIN)
    router = _made(record, data, folder)
    return router if loaded is None else router.of_base(loaded)


def _made(record: RouterRecord, data: bytes, folder: str) -> Router:
    path, names = os.path.join(folder, RECORD), [one.name for one in record.adapters]
    found: list[tuple[str, object, str]] = []
    if record.head not in HEADS:
        found.append(("head", record.head, f"one of {', '.join(sorted(HEADS))}"))
    if len(set(names)) != len(names):
        found.append(("adapters", names, "a list of adapters with different names"))
    if strange := [one.adapter for one in record.classes if one.adapter not in names]:
        found.append(("classes", strange[0], f"an adapter of the list: {', '.join(names)}"))
    if idle := set(names) - {one.adapter for one in record.classes}:
        found.append(("classes", len(record.classes), f"a list with a class for adapter {sorted(idle)[0]!r}"))
    if (digest := hashlib.sha256(data).hexdigest()) != record.arrays_sha256:
        found.append(("arrays_sha256", record.arrays_sha256, f"{digest[:16]}..., the digest of {ARRAYS}"))
    if found:
        raise faults(path, found, todo=AGAIN)
    try:
        head = HEADS[record.head].load(_arrays(data), record.settings, len(record.classes))
    except MisfitArrays as error:
        raise FileError([Problem(shown(os.path.join(folder, ARRAYS)), 0, 0, str(error))], AGAIN) from None
    made = Router(
        head,
        tuple(RouterClass(one.adapter, one.task) for one in record.classes),
        tuple(RoutedAdapter(one.name, _there(one, folder), one.sha256, tuple(one.tasks)) for one in record.adapters),
        RouterBase(**record.base.model_dump()),
        record.threshold,
        record.facts,
    )
    return evolve(made, folder=folder, sha256=record.record_sha256)


def _arrays(data: bytes) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise MisfitArrays(f"is not a whole safetensors file ({' '.join(str(error).split())[:200]})") from None


def _there(one: RouterAdapterRecord, folder: str) -> str:
    """An adapter's folder: beside the router where both were moved, else where it was."""
    beside = os.path.normpath(os.path.join(folder, one.folder))
    return beside if os.path.isdir(beside) else one.location


def _may_be_replaced(place: str) -> bool:
    return os.path.isdir(place) and (os.path.isfile(os.path.join(place, RECORD)) or not os.listdir(place))


def _plain(array: Any) -> Any:
    import numpy as np

    return np.ascontiguousarray(array)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
