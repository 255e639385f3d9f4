"""The models of a matrix: names and paths beside its file, and what changes if they may have."""

from __future__ import annotations

import os
from collections.abc import Mapping

from slmbench.catalog import Catalog
from slmbench.models import resolve_model
from slmbench.schema import QuantizationSpec
from slmbench.seal import canonical_sha256
from slmbench.yamlfile import read_yaml

READ = (".safetensors", ".gguf", ".bin", ".json", ".jinja", ".model", ".txt")
"""What names of files end in that a model is read from: weights, settings, its tokenizer and its chat template."""


class GridModels:
    """What models of a matrix are, each looked up once. folder: of the matrix's file."""

    def __init__(self, folder: str, catalog: Catalog, *, twin: bool) -> None:
        self._folder, self._catalog, self._twin = folder, catalog, twin
        self._identities: dict[str, str] = {}
        self._hub_ids: dict[str, str] = {}

    def beside(self, name: str) -> str:
        """A model's name; of a folder or file beside the matrix its path."""
        path = os.path.normpath(os.path.join(self._folder, name))
        return path if name not in self._catalog.files("models") and os.path.exists(path) else name

    def declared(self, hub_id: str) -> str:
        """A hub id by the name under which it is declared, as other tools' adapters know their base by its id alone."""
        if not self._hub_ids:
            for name, path in self._catalog.files("models").items():
                declared = read_yaml(path).data
                if isinstance(declared, dict) and isinstance(declared.get("hub"), str):
                    self._hub_ids.setdefault(declared["hub"], name)
        return self._hub_ids.get(hub_id, hub_id)

    def identity(self, name: str) -> str:
        """What changes if a model, its tokenizer or its chat template may have.

        Raises SlmbenchError or OSError for what is no model.
        """
        if name not in self._identities:
            source = resolve_model(name, self._catalog, twin=self._twin, unpacked=False)
            place = "" if os.path.exists(source.location) else source.location
            self._identities[name] = canonical_sha256([place, source.revision, *_stamps(source.given)])
        return self._identities[name]


def held(packing: QuantizationSpec | None) -> str:
    """How a base is packed, "" for as it is."""
    return "" if packing is None else packing.model_dump_json()


def _stamps(path: str) -> list[list[object]]:
    """Name, size and time of the files in a model's folder, or of a file; nothing of what lies elsewhere."""
    if os.path.isfile(path):
        files: Mapping[str, str] = {os.path.basename(path): path}
    elif os.path.isdir(path):
        files = {name: os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(READ)}
    else:
        return []
    stamps = {name: os.stat(file) for name, file in files.items()}
    return [[name, stamp.st_size, stamp.st_mtime_ns] for name, stamp in stamps.items()]
