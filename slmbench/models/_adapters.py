"""Adapters: what a folder says of itself, and whether it fits the base that it is put on."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from slmbench.errors import UsageError, did_you_mean
from slmbench.models._load import LoadedModel
from slmbench.paths import shown


@frozen
class AdapterInfo:
    """What identifies an adapter folder.

    kind: peft's name of its method, as LORA. training: its `training.json`, {} for adapters made elsewhere.
    """

    name: str
    folder: str
    sha256: str
    kind: str | None
    bytes: int
    parameters: int
    rank: int | None
    training: dict[str, Any]


def read_adapter(folder: str) -> AdapterInfo:
    """What an adapter folder says of itself, without loading it. Raises UsageError where it is none."""
    config_path = Path(folder) / "adapter_config.json"
    weights_path = Path(folder) / "adapter_model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise UsageError(f"{shown(folder)} is no adapter's folder: it has no {path.name}")
    training_path = Path(folder) / "training.json"
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        training = json.loads(training_path.read_text(encoding="utf-8")) if training_path.is_file() else {}
        shapes = _shapes(weights_path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"adapter {shown(folder)} is damaged: {error}; train it again") from error
    if not isinstance(config, dict) or not isinstance(training, dict):
        raise UsageError(f"adapter {shown(folder)} is damaged: its JSON files hold no keys; train it again")
    parameters = sum(math.prod(shape) for shape in shapes.values())
    with open(weights_path, "rb") as file:
        weights_digest = hashlib.file_digest(file, "sha256").digest()
    digest = hashlib.sha256(weights_digest + hashlib.sha256(config_path.read_bytes()).digest())
    name = os.path.basename(os.path.abspath(folder))
    size = weights_path.stat().st_size
    return AdapterInfo(
        name, folder, digest.hexdigest(), config.get("peft_type"), size, parameters, config.get("r"), training
    )


def attach_adapter(loaded: LoadedModel, folder: str, *, strict: bool = True) -> LoadedModel:
    """The model with an adapter on it. Raises UsageError where the adapter was trained on another base.

    strict: the base's weights, as they are in memory, are those of the training: the same model, dtype and packing.
    Without it names and shapes have to fit, as where an adapter of a packed base is merged into the whole one.
    """
    from peft import PeftModel, PeftType, get_peft_model_state_dict

    info = check_base(loaded, folder) if strict else read_adapter(folder)
    if info.kind not in list(PeftType):
        raise UsageError(
            f"adapter {shown(folder)}: its adapter_config.json names peft_type {info.kind!r}, which the installed peft "
            f"doesn't know{did_you_mean(str(info.kind), [kind.value for kind in PeftType])}"
        )
    try:
        model = PeftModel.from_pretrained(loaded.model, folder)
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        said = " ".join(str(error).split())[:300]
        raise UsageError(f"adapter {shown(folder)} doesn't fit {loaded.source.name!r}: {said}") from error
    # peft only warns of tensors that match nothing, and an adapter of which nothing is loaded scores as the base.
    there = {key: list(tensor.shape) for key, tensor in get_peft_model_state_dict(model).items()}
    given = _shapes(Path(folder) / "adapter_model.safetensors")
    if there != given:
        odd = sorted(key for key in {*there, *given} if there.get(key) != given.get(key))
        model.unload()
        raise UsageError(
            f"adapter {shown(folder)} doesn't fit {loaded.source.name!r}: {len(odd)} tensors differ in name or shape, "
            f"as {odd[0]}"
        )
    model.eval()
    return evolve(loaded, model=model, adapter=info)


def check_base(loaded: LoadedModel, folder: str) -> AdapterInfo:
    """What an adapter says of itself. Raises UsageError where it was trained on another base than the loaded one."""
    info = read_adapter(folder)
    if odd := _other_base(info, loaded):
        raise UsageError(f"adapter {shown(folder)} {odd}")
    return info


def _other_base(info: AdapterInfo, loaded: LoadedModel) -> str | None:
    """What sets the base in memory apart from that of the training; None where nothing does, or nothing is known."""
    said = info.training
    if not said.get("base_weights_sha256"):
        return None
    packing = said.get("quantization")
    if packing != loaded.quantization:
        return (
            f"was trained on {said.get('model')!r} {_packed(packing)}, but {loaded.source.name!r} is here "
            f"{_packed(loaded.quantization)}; load the base as it was in training"
        )
    if said["base_weights_sha256"] == loaded.weights_sha256:
        return None
    if said.get("model") == loaded.source.name and said.get("dtype") not in (None, loaded.dtype):
        return (
            f"was trained on {said.get('model')!r} in {said['dtype']}, but its weights are here in {loaded.dtype}; "
            f"load the base with dtype {said['dtype']}"
        )
    return (
        f"was trained on {said.get('model')!r} with weights {said['base_weights_sha256'][:12]}, but "
        f"{loaded.source.name!r} here has {loaded.weights_sha256[:12]} in {loaded.dtype}; train it again on these"
    )


def _packed(quantization: object) -> str:
    return f"packed as {quantization}" if quantization else "unpacked"


def _shapes(path: Path) -> dict[str, list[int]]:
    """name -> shape, from a safetensors file's header. Raises ValueError where it is cut short."""
    there = path.stat().st_size
    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if there < 8 + header_bytes:
            raise ValueError(f"{path.name} ends after {there:,} bytes, inside its header")
        header = json.loads(file.read(header_bytes))
    header.pop("__metadata__", None)
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if there != 8 + header_bytes + end:
        raise ValueError(f"{path.name} has {there:,} bytes instead of {8 + header_bytes + end:,}")
    return {key: list(tensor["shape"]) for key, tensor in header.items()}
