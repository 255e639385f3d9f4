"""The files of an adapter's folder, as whoever made them left them: read within limits, into values or an error."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, TypeGuard

from pydantic import ConfigDict, Field

from slmbench.errors import FileError, Problem
from slmbench.foreign import Foreign, Limits, decode_json, faults, read_bytes, read_model
from slmbench.paths import shown

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
AGAIN = "get the adapter again from where it was made, or train it again"
_MOST_CONFIG_BYTES = 4_000_000
_MOST_HEADER_BYTES = 100_000_000  # safetensors' own bound.
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}
BITS |= {"I64": 64, "U64": 64, "F64": 64, "C64": 64}

Count = Annotated[int, Field(ge=0)]
Texts = list[str]


class AdapterConfig(Foreign):
    """What is read here of peft's `adapter_config.json`. Keys of its many kinds stay in `model_extra`, as they were."""

    model_config = ConfigDict(extra="allow")

    peft_type: Annotated[str, Field(min_length=1)]
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    r: Count | None = None
    lora_alpha: float | None = None
    lora_dropout: Annotated[float, Field(ge=0, le=1)] | None = None
    lora_bias: bool | None = None
    use_dora: bool | None = None
    use_rslora: bool | None = None
    target_modules: Texts | str | None = None
    exclude_modules: Texts | str | None = None
    modules_to_save: Texts | None = None
    layers_to_transform: list[Count] | Count | None = None
    layers_pattern: Texts | str | None = None
    layer_replication: list[list[Count]] | None = None
    rank_pattern: dict[str, Count | list[bool]] | None = None
    alpha_pattern: dict[str, float] | None = None
    trainable_token_indices: list[Count] | dict[str, list[Count]] | None = None
    alora_invocation_tokens: list[Count] | None = None
    num_virtual_tokens: Count | None = None

    @property
    def patterns(self) -> dict[str, list[str]]:
        """field -> the regular expressions that peft makes of it."""
        one = {name: getattr(self, name) for name in ("target_modules", "exclude_modules")}
        found = {name: [value] for name, value in one.items() if isinstance(value, str) and value != "all-linear"}
        layers = self.layers_pattern
        many = {
            "modules_to_save": self.modules_to_save or [],
            "layers_pattern": [layers] if isinstance(layers, str) else layers or [],
            "rank_pattern": list(self.rank_pattern or ()),
            "alpha_pattern": list(self.alpha_pattern or ()),
        }
        return found | {name: values for name, values in many.items() if values}


def read_adapter_config(folder: str) -> AdapterConfig:
    """The value of a folder's `adapter_config.json`. Raises FileError; FileNotFoundError if there is none."""
    return read_model(Path(folder) / CONFIG, AdapterConfig, Limits(bytes=_MOST_CONFIG_BYTES), todo=AGAIN)


def read_shapes(path: str | os.PathLike[str]) -> dict[str, list[int]]:
    """name -> shape, from a safetensors file's header. Raises FileError if it is cut short or says nonsense."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > size - 8:
            _damaged(path, f"ends after {size:,} bytes, inside its header")
        if length > _MOST_HEADER_BYTES:
            _damaged(path, f"has a header of {length:,} bytes, which no such file has")
        header = decode_json(file.read(length), path, Limits(bytes=_MOST_HEADER_BYTES, depth=3), todo=AGAIN)
    if not isinstance(header, dict):
        raise faults(path, [("", header, "an object of tensors")], todo=AGAIN)
    header.pop("__metadata__", None)
    odd = [(name, said, wanted) for name, said in header.items() if (wanted := _wanted_of(said))]
    if odd:
        raise faults(path, odd[:10], todo=AGAIN)
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if size != 8 + length + end:
        _damaged(path, f"has {size:,} bytes instead of {8 + length + end:,}")
    return {name: list(tensor["shape"]) for name, tensor in header.items()}


def _wanted_of(said: object) -> str:
    """What a header's entry has to be, where it isn't; else ''."""
    if not isinstance(said, dict) or not isinstance(said.get("dtype"), str) or said["dtype"] not in BITS:
        return f"an object with a dtype of safetensors ({', '.join(sorted(BITS))})"
    shape, offsets = said.get("shape"), said.get("data_offsets")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        return "an object with a shape and two data_offsets of whole numbers from 0 on"
    if (offsets[1] - offsets[0]) * 8 != math.prod(shape) * BITS[said["dtype"]]:
        return f"an object whose data_offsets hold {math.prod(shape):,} numbers of {said['dtype']}"
    return ""


def _counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _damaged(path: str | os.PathLike[str], what: str) -> None:
    raise FileError([Problem(shown(path), 0, 0, what)], AGAIN)


def config_bytes(folder: str) -> bytes:
    """The bytes of a folder's `adapter_config.json`, for its digest. Raises FileError."""
    return read_bytes(Path(folder) / CONFIG, _MOST_CONFIG_BYTES, todo=AGAIN)
