"""A twin's folder: built once into the cache, whole or not there, and checked whenever it is asked for."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version

from pydantic import Field

from slmbench.console import say
from slmbench.errors import FileError, UsageError
from slmbench.files import built_once, disk_errors, file_sha256, write_json
from slmbench.foreign import Foreign, SchemaOne, read_model
from slmbench.paths import cache_dir, shown
from slmbench.schema import ModelSpec
from slmbench.twins._text import DOCUMENTS

MANIFEST = "twin.json"


class _Manifest(Foreign):
    """files: the sha256 of each."""

    version: SchemaOne = Field(alias="schema")
    family: str
    files: dict[str, str] = Field(min_length=1)


def build_twin(name: str, spec: ModelSpec) -> str:
    """The folder of a model's twin, in transformers' layout: built where it is missing or damaged.

    It lies in the cache, under a name that says what it was made of, so that another declaration or another version
    gives another folder. The same declaration gives the same bytes. Two processes may ask at once. Raises UsageError
    for a model without `twin` or with sizes that make no model, SlmbenchError if the cache can't be written.
    """
    if fault := _fault(spec):
        raise UsageError(f"model {name!r} can't have a twin: {fault}")
    shelf = os.path.join(cache_dir(), "twins")
    place = os.path.join(shelf, f"{name}-{_key(spec)}")
    if _is_whole(place):
        return place
    if os.path.isdir(place):
        say(f"note: {shown(place)} is not as it was built; the twin is built again")
    with disk_errors(shelf), built_once(place, _is_whole) as partial:
        _fill(partial, spec)
    return place


def _fault(spec: ModelSpec) -> str | None:
    twin = spec.twin
    if twin is None or spec.family in (None, "nano"):
        return "its declaration lacks `twin`, or a `family` that one could be built after"
    if (spec.architecture == "seq2seq") != (spec.family == "t5"):
        return f"family {spec.family!r} is not {spec.architecture}"
    if twin.heads % twin.kv_heads:
        return f"twin.heads ({twin.heads}) is not a multiple of twin.kv_heads ({twin.kv_heads})"
    if twin.head_width % 2:
        return f"twin.head_width ({twin.head_width}) is odd; positions turn pairs of numbers"
    if spec.family in ("phi3", "qwen2") and twin.heads * twin.head_width != twin.hidden:
        return f"a {spec.family}'s twin.hidden ({twin.hidden}) is heads * head_width ({twin.heads} * {twin.head_width})"
    return None


def _fill(folder: str, spec: ModelSpec) -> None:
    from slmbench.twins._configs import write_config
    from slmbench.twins._tokenizers import build_tokenizer
    from slmbench.twins._weights import write_weights

    tokenizer = build_tokenizer(spec)
    tokenizer.save_pretrained(folder)
    config = write_config(folder, spec, tokenizer)
    write_weights(folder, spec, config)
    files = {file: file_sha256(os.path.join(folder, file)) for file in sorted(os.listdir(folder))}
    write_json(os.path.join(folder, MANIFEST), {"schema": 1, "family": spec.family, "files": files})


def _is_whole(place: str) -> bool:
    try:
        files = read_model(os.path.join(place, MANIFEST), _Manifest).files
        # A file that the manifest doesn't name is held to nothing.
        return files.keys() == set(os.listdir(place)) - {MANIFEST} and all(
            file_sha256(os.path.join(place, name)) == said for name, said in files.items()
        )
    except (FileError, OSError):
        return False


def _key(spec: ModelSpec) -> str:
    # What a twin is made of: what is declared, the code that builds it, and the libraries that write it.
    assert spec.twin is not None
    digest = hashlib.sha256()
    declared = [spec.family, spec.tied_head, spec.instruct, spec.twin.model_dump(mode="json")]
    digest.update(json.dumps(declared, sort_keys=True).encode())
    here = os.path.dirname(os.path.abspath(__file__))
    sources = [os.path.join(here, name) for name in sorted(os.listdir(here)) if name.endswith(".py")]
    for path in [*sources, DOCUMENTS]:
        digest.update(bytes.fromhex(file_sha256(path)))
    for package in ("tokenizers", "transformers"):
        digest.update(f"{package} {version(package)}\n".encode())
    return digest.hexdigest()[:16]
