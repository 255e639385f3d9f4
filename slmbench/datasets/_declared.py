"""A declared data set, and the rows of one split."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from slmbench.catalog import Catalog
from slmbench.errors import DeclarationError, did_you_mean
from slmbench.plugins import Plugin, load_plugins
from slmbench.registry import Registered
from slmbench.schema import DatasetSpec, parse
from slmbench.yamlfile import read_yaml

Row = dict[str, Any]


@frozen
class Dataset:
    """A declared data set. folder: where relative files are looked up. plugin: makes the rows of generated splits.

    replaced: the declaration that this one stands in for; golden rows may be in the columns of either.
    loader: what yields the rows, where the declaration names a loader that is here.
    """

    name: str
    spec: DatasetSpec
    folder: str
    plugin: Plugin | None = None
    replaced: DatasetSpec | None = None
    loader: Registered | None = None


@frozen
class Rows:
    """The rows of one split, in the columns that tasks see. source: mirror, file, hub, generated, loader or samples.

    left_out: column -> how many rows were left out because it is empty there (`filled`). places: of each row, from 0,
    in what lies there; () where that isn't known.
    """

    dataset: str
    split: str
    source: str
    revision: str | None
    rows: list[Row]
    left_out: Mapping[str, int] = field(factory=dict)
    places: Sequence[int] = ()

    def place(self, number: int) -> str:
        """What tells where a row lies, where that is not its own number."""
        moved = number < len(self.places) and self.places[number] != number
        return f" ({self.places[number]} before others were left out)" if moved else ""

    @property
    def content_sha256(self) -> str:
        """The digest of the rows as canonical JSON, the same whatever file or service they came from."""
        return digest_rows(self.rows)


def digest_rows(rows: Iterable[object]) -> str:
    """sha256 over the canonical JSON of rows, one a line."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def load_dataset_spec(catalog: Catalog, name: str) -> Dataset:
    """The data set that the registry knows by a name. Raises UsageError or DeclarationError."""
    path = catalog.find("datasets", name)
    document = read_yaml(path)
    spec = parse(DatasetSpec, document)
    if spec.generated is not None:
        problem = document.problem(("generated",), "generated rows need a task's plugin; declare them in task.yaml")
        raise DeclarationError([problem])
    original = catalog.replaced("datasets", name)
    replaced = parse(DatasetSpec, read_yaml(original)) if original is not None else None
    loader = None
    if spec.loader is not None:
        plugins = load_plugins(catalog)
        loader = plugins.get("loader", spec.loader.name)
        if loader is None:
            known = did_you_mean(spec.loader.name, plugins.names("loader"))
            problem = document.problem(("loader", "name"), f"unknown loader {spec.loader.name!r}{known}")
            raise DeclarationError([problem])
    return Dataset(name, spec, os.path.dirname(path), replaced=replaced, loader=loader)
