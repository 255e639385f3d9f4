"""From a name to the place where a model is: a declaration, its twin, a folder, or a hub id."""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.errors import SlmbenchError, UsageError, did_you_mean
from slmbench.foreign import read_json
from slmbench.paths import package_dir, shown
from slmbench.schema import ModelSpec, parse
from slmbench.twins import build_twin
from slmbench.yamlfile import read_yaml


@frozen
class ModelSource:
    """Where a model comes from. location: a folder or a hub id, what transformers is given. id: how it is shown.

    architecture: causal or seq2seq. family, context_tokens, tied_head: as declared, None where nothing is. twin: the
    small random copy of a model, whose scores mean nothing.
    """

    name: str
    id: str
    location: str
    revision: str | None = None
    dtype: str = "auto"
    lora_targets: tuple[str, ...] | str = "all-linear"
    remote_code: bool = False
    architecture: str = "causal"
    family: str | None = None
    context_tokens: int | None = None
    twin: bool = False
    gated: bool = False
    tied_head: bool | None = None


def resolve_model(name: str, catalog: Catalog, *, twin: bool = False) -> ModelSource:
    """A registry name, a local folder or a hub id. twin: the model's small random copy, built where it isn't yet.

    Raises UsageError with the nearest known name, or, where a twin is asked for that is not declared, with those that
    are; SlmbenchError where a twin can't be written.
    """
    files = catalog.files("models")
    if name in files:
        return _declared(name, files[name], files, twin)
    if twin:
        raise UsageError(f"{name!r} is not declared in the registry, so it has no twin{_with_twins(files)}")
    if os.path.isdir(name):
        config = os.path.join(name, "config.json")
        if not os.path.isfile(config):
            raise UsageError(f"{shown(name)} holds no config.json, so it is no model's folder{_other_folder(name)}")
        base = os.path.basename(os.path.abspath(name))
        return ModelSource(base, shown(name), os.path.abspath(name), architecture=_architecture(config))
    if _is_path(name):
        there = "is a file, and no model's folder" if os.path.exists(name) else "is no folder"
        raise UsageError(f"{shown(name)} {there}; give a folder with config.json, weights and tokenizer")
    if name.count("/") == 1 and all(name.split("/")) and not name.startswith((".", "/")):
        return ModelSource(name.split("/")[1], name, name)
    raise UsageError(f"unknown model {name!r}{did_you_mean(name, files)} (or give a folder, or a hub id as owner/name)")


def _is_path(name: str) -> bool:
    """Whether a name that is no folder can be nothing but a path: no hub id looks like it."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or (os.sep != "/" and os.sep in name)


def _other_folder(name: str) -> str:
    """What a folder without config.json is after all, and what to do with it."""
    if os.path.isfile(os.path.join(name, "adapter_config.json")):
        return f": it is an adapter's; give its base as the model, and `--adapter {shown(name)}`"
    inside = sorted(entry for entry in os.listdir(name) if os.path.isfile(os.path.join(name, entry, "config.json")))
    return f"; {', '.join(inside[:3])} in it would be" if inside else ""


def _declared(name: str, path: str, files: dict[str, str], twin: bool) -> ModelSource:
    spec = parse(ModelSpec, read_yaml(path))
    targets = tuple(spec.lora_targets) if isinstance(spec.lora_targets, list) else spec.lora_targets
    facts: dict[str, Any] = {
        "lora_targets": targets,
        "architecture": spec.architecture,
        "family": spec.family,
        "tied_head": spec.tied_head,
    }
    if twin and spec.bundled is None:
        if spec.twin is None:
            raise UsageError(f"model {name!r} has no twin{_with_twins(files)}; or declare `twin` in {shown(path)}")
        return ModelSource(
            f"{name}-twin",
            f"slmbench/{name}-twin",
            build_twin(name, spec),
            dtype="float32",
            context_tokens=spec.twin.context_tokens,
            twin=True,
            **facts,
        )
    if spec.bundled is not None:
        location, shown_id = os.path.join(package_dir(), spec.bundled, "model"), f"slmbench/{spec.bundled}"
    elif spec.path is not None:
        location = shown_id = os.path.join(os.path.dirname(path), spec.path)
    else:
        location = shown_id = str(spec.hub)
    return ModelSource(
        name,
        shown_id,
        location,
        spec.revision,
        spec.dtype,
        remote_code=spec.remote_code,
        context_tokens=spec.context_tokens,
        gated=spec.gated,
        **facts,
    )


def _with_twins(files: dict[str, str]) -> str:
    names = []
    for name, path in files.items():
        spec = parse(ModelSpec, read_yaml(path))
        if spec.twin is not None or spec.bundled is not None:
            names.append(name)
    return f"; these have one: {', '.join(names)}" if names else ""


def _architecture(config_path: str) -> str:
    # A folder that can't be read says so when it is loaded, with all that is wrong with it.
    try:
        config = read_json(config_path)
    except (SlmbenchError, OSError):
        return "causal"
    return "seq2seq" if isinstance(config, dict) and config.get("is_encoder_decoder") is True else "causal"
