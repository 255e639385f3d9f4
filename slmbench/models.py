"""Models and adapters: from a name to weights in memory, with what identifies both."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from slmbench.catalog import Catalog
from slmbench.errors import OfflineError, SlmbenchError, UsageError, did_you_mean
from slmbench.paths import hub_is_offline, package_dir, shown
from slmbench.schema import ModelSpec, parse
from slmbench.yamlfile import read_yaml


@frozen
class ModelSource:
    """Where a model comes from. location: a folder or a hub id, what transformers is given. id: how it is shown."""

    name: str
    id: str
    location: str
    revision: str | None = None
    dtype: str = "auto"
    lora_targets: tuple[str, ...] | str = "all-linear"
    remote_code: bool = False


@frozen
class AdapterInfo:
    """What identifies an adapter folder. training: its `training.json`, {} for adapters made elsewhere."""

    name: str
    folder: str
    sha256: str
    bytes: int
    parameters: int
    rank: int | None
    training: dict[str, Any]


@frozen(eq=False)
class LoadedModel:
    """A model ready to run. weights_sha256 is of the base's weights, whatever files they came in."""

    source: ModelSource
    model: Any
    tokenizer: Any
    weights_sha256: str
    config_sha256: str
    dtype: str
    parameters: int
    adapter: AdapterInfo | None = None


def resolve_model(name: str, catalog: Catalog) -> ModelSource:
    """A registry name, a local folder or a hub id. Raises UsageError with the nearest known name."""
    files = catalog.files("models")
    if name in files:
        path = files[name]
        spec = parse(ModelSpec, read_yaml(path))
        targets = tuple(spec.lora_targets) if isinstance(spec.lora_targets, list) else spec.lora_targets
        if spec.bundled is not None:
            location, shown_id = os.path.join(package_dir(), spec.bundled, "model"), f"slmbench/{spec.bundled}"
        elif spec.path is not None:
            location = shown_id = os.path.join(os.path.dirname(path), spec.path)
        else:
            location = shown_id = str(spec.hub)
        return ModelSource(name, shown_id, location, spec.revision, spec.dtype, targets, spec.remote_code)
    if os.path.isdir(name):
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise UsageError(f"{shown(name)} holds no config.json, so it is no model's folder")
        return ModelSource(os.path.basename(os.path.abspath(name)), shown(name), os.path.abspath(name))
    if name.count("/") == 1 and all(name.split("/")) and not name.startswith((".", "/")):
        return ModelSource(name.split("/")[1], name, name)
    raise UsageError(f"unknown model {name!r}{did_you_mean(name, files)} (or give a folder, or a hub id as owner/name)")


def load_model(source: ModelSource, adapter: str | None = None) -> LoadedModel:
    """Loads weights and tokenizer, onto a GPU where there is one. Raises OfflineError or SlmbenchError."""
    import torch
    import transformers

    tokenizer = load_tokenizer(source)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with _loading(source):
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            source.location,
            dtype=_dtype(source.dtype, device),
            use_safetensors=True,
            output_loading_info=True,
            **_load_options(source),
        )
    # transformers fills what the file lacks with random numbers and drops what it has too much; neither is the model.
    faults = [
        f"{len(report[kind])} {said}, as {sorted(map(str, report[kind]))[0]}"
        for kind, said in (
            ("missing_keys", "tensors are missing"),
            ("unexpected_keys", "tensors have no place"),
            ("mismatched_keys", "tensors have another shape"),
        )
        if report.get(kind)
    ]
    if faults:
        raise SlmbenchError(
            f"model {source.name!r} in {shown(source.location)}: config.json and weights don't fit: {'; '.join(faults)}"
        )
    model.to(device)
    loaded = bind_model(source, model, tokenizer)
    return attach_adapter(loaded, adapter) if adapter else loaded


def load_tokenizer(source: ModelSource) -> Any:
    """The tokenizer alone. Raises OfflineError or SlmbenchError."""
    import transformers

    _quiet(transformers)
    with _loading(source):
        return transformers.AutoTokenizer.from_pretrained(source.location, **_load_options(source))


def _load_options(source: ModelSource) -> dict[str, Any]:
    options: dict[str, Any] = {"trust_remote_code": source.remote_code}
    if os.path.isdir(source.location):
        return options | {"local_files_only": True}
    return options | {"revision": source.revision or "main", "local_files_only": hub_is_offline()}


@contextlib.contextmanager
def _loading(source: ModelSource) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        if os.path.isdir(source.location) or not isinstance(error, OSError):
            raise SlmbenchError(f"model {source.name!r} in {shown(source.location)} can't be loaded: {said}") from error
        raise OfflineError(
            f"model {source.name!r} ({source.id}) is neither in the local cache nor to be had from the hub: {said}. "
            "Download it on a connected machine with `hf download` and give its folder as the model"
        ) from error


def bind_model(source: ModelSource, model: Any, tokenizer: Any) -> LoadedModel:
    """A model that is in memory already, with its digest and size."""
    import torch

    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    model.eval()
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return LoadedModel(source, model, tokenizer, digest.hexdigest(), _config_sha256(model), dtype, parameters)


def _config_sha256(model: Any) -> str:
    # Weights alone are no model: the same ones under another rope base or norm epsilon give other numbers.
    configs = [model.config.to_dict(), model.generation_config.to_dict() if model.generation_config else {}]
    for config in configs:
        for key in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures"):
            config.pop(key, None)
    return hashlib.sha256(json.dumps(configs, sort_keys=True, default=str).encode()).hexdigest()


def read_adapter(folder: str) -> AdapterInfo:
    """What an adapter folder says of itself, without loading it. Raises UsageError where it is none."""
    config_path = Path(folder) / "adapter_config.json"
    weights_path = Path(folder) / "adapter_model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise UsageError(f"{shown(folder)} is no adapter's folder: it has no {path.name}")
    weights = weights_path.read_bytes()
    training_path = Path(folder) / "training.json"
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        training = json.loads(training_path.read_text(encoding="utf-8")) if training_path.is_file() else {}
        shapes = _shapes(weights)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"adapter {shown(folder)} is damaged: {error}; train it again") from error
    if not isinstance(config, dict) or not isinstance(training, dict):
        raise UsageError(f"adapter {shown(folder)} is damaged: its JSON files hold no keys; train it again")
    parameters = sum(_product(shape) for shape in shapes.values())
    digest = hashlib.sha256(hashlib.sha256(weights).digest() + hashlib.sha256(config_path.read_bytes()).digest())
    name = os.path.basename(os.path.abspath(folder))
    return AdapterInfo(name, folder, digest.hexdigest(), len(weights), parameters, config.get("r"), training)


def attach_adapter(loaded: LoadedModel, folder: str) -> LoadedModel:
    """The model with an adapter on it. Raises UsageError where the adapter was trained on other weights."""
    from peft import PeftModel, get_peft_model_state_dict

    info = read_adapter(folder)
    trained_on = info.training.get("base_weights_sha256")
    if trained_on and trained_on != loaded.weights_sha256:
        raise UsageError(
            f"adapter {shown(folder)} was trained on {info.training.get('model')!r} with weights {trained_on[:12]}, "
            f"but {loaded.source.name!r} here has {loaded.weights_sha256[:12]} in {loaded.dtype}; "
            "train it again on these"
        )
    try:
        model = PeftModel.from_pretrained(loaded.model, folder)
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        said = " ".join(str(error).split())[:300]
        raise UsageError(f"adapter {shown(folder)} doesn't fit {loaded.source.name!r}: {said}") from error
    # peft only warns of tensors that match nothing, and an adapter of which nothing is loaded scores as the base.
    there = {key: list(tensor.shape) for key, tensor in get_peft_model_state_dict(model).items()}
    given = _shapes((Path(folder) / "adapter_model.safetensors").read_bytes())
    if there != given:
        odd = sorted(key for key in {*there, *given} if there.get(key) != given.get(key))
        model.unload()
        raise UsageError(
            f"adapter {shown(folder)} doesn't fit {loaded.source.name!r}: {len(odd)} tensors differ in name or shape, "
            f"as {odd[0]}"
        )
    model.eval()
    return evolve(loaded, model=model, adapter=info)


def tokenizer_sha256(tokenizer: Any) -> str:
    """The digest of a tokenizer's vocabulary, merges and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        # The last call's padding and cutting are left in there; they are no part of what a tokenizer is.
        state.pop("padding", None), state.pop("truncation", None)
    else:
        state = sorted(tokenizer.get_vocab().items())
    parts = json.dumps([state, tokenizer.special_tokens_map], sort_keys=True, default=str)
    return hashlib.sha256(parts.encode()).hexdigest()


def _shapes(weights: bytes) -> dict[str, list[int]]:
    """name -> shape, from a safetensors file's header. Raises ValueError where it is cut short."""
    header_bytes = int.from_bytes(weights[:8], "little")
    if len(weights) < 8 + header_bytes:
        raise ValueError(f"adapter_model.safetensors ends after {len(weights):,} bytes, inside its header")
    header = json.loads(weights[8 : 8 + header_bytes])
    header.pop("__metadata__", None)
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if len(weights) != 8 + header_bytes + end:
        raise ValueError(f"adapter_model.safetensors has {len(weights):,} bytes instead of {8 + header_bytes + end:,}")
    return {key: list(tensor["shape"]) for key, tensor in header.items()}


def _product(shape: list[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _dtype(name: str, device: str) -> Any:
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _quiet(transformers: Any) -> None:
    # Their bars and advice would drown ours; errors still come through as exceptions.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
