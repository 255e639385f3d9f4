"""What an adapter's folder says of itself, without loading it."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from attrs import evolve, frozen

from slmbench.errors import UsageError
from slmbench.models._adapter_files import (
    CONFIG,
    WEIGHTS,
    AdapterConfig,
    config_bytes,
    read_adapter_config,
    read_shapes,
)
from slmbench.paths import shown
from slmbench.runs import MergeRecord, TrainingRecord, read_merge, trained_as
from slmbench.schema import QuantizationSpec

MODEL_CONFIG = "config.json"
T = TypeVar("T")


@frozen
class AdapterInfo:
    """What identifies an adapter folder.

    kind: peft's name of its method, as LORA. shapes: of its tensors, by name. training: its `training.json`, or what a
    merge's inputs say alike; None for adapters made elsewhere. merge: its `merge.json`, None if it wasn't merged.
    forced: why the base that it is on is not its own, None if it is.
    """

    name: str
    folder: str
    sha256: str
    kind: str
    bytes: int
    shapes: dict[str, list[int]]
    config: AdapterConfig
    training: TrainingRecord | None = None
    merge: MergeRecord | None = None
    forced: str | None = None

    def with_forced(self, why: str) -> AdapterInfo:
        """This one, put on a base that it wasn't made on."""
        return evolve(self, forced=why)

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def rank(self) -> int | None:
        return self.config.r

    @property
    def record(self) -> TrainingRecord:
        """Its training.json, or one that says nothing."""
        return self.training or TrainingRecord()


def read_adapter(folder: str) -> AdapterInfo:
    """What an adapter folder says of itself, without loading it.

    Raises UsageError if it is none, FileError if one of its files doesn't hold what it has to.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"adapter {folder}: there is no such folder")
    for name in (CONFIG, WEIGHTS):
        if not os.path.isfile(os.path.join(folder, name)):
            raise UsageError(f"{shown(folder)} is not an adapter's folder: it has no {name}{_instead(folder)}")
    config = read_adapter_config(folder)
    shapes = read_shapes(Path(folder) / WEIGHTS)
    merge, training = _or_none(read_merge, folder), _or_none(trained_as, folder)
    weights_path = os.path.join(folder, WEIGHTS)
    with open(weights_path, "rb") as file:
        weights_digest = hashlib.file_digest(file, "sha256").digest()
    digest = hashlib.sha256(weights_digest + hashlib.sha256(config_bytes(folder)).digest())
    name = os.path.basename(os.path.abspath(folder))
    size = os.path.getsize(weights_path)
    return AdapterInfo(name, folder, digest.hexdigest(), config.peft_type, size, shapes, config, training, merge)


def _or_none(read: Callable[[str], T], folder: str) -> T | None:
    try:
        return read(folder)
    except FileNotFoundError:
        return None


def held_as(adapters: Sequence[str]) -> tuple[str, QuantizationSpec | None]:
    """(dtype, quantisation) of the base that these adapters were trained on.

    ("auto", None) where none of them says so. Raises UsageError if a folder holds no adapter, or if adapters
    want the base held in several ways.
    """
    wanted: dict[tuple[str, QuantizationSpec | None], str] = {}
    for folder in adapters:
        training = read_adapter(folder).training
        if training is None:  # Made elsewhere: it takes the base as it is held for others.
            continue
        wanted.setdefault((training.dtype, training.packing), folder)
    if len(wanted) > 1:
        said = "; ".join(
            f"{shown(folder)}: {dtype}" + (f", {packing.type}" if packing else "")
            for (dtype, packing), folder in wanted.items()
        )
        raise UsageError(f"these adapters were trained on a base held in different ways ({said}); evaluate them apart")
    return next(iter(wanted), ("auto", None))


def is_whole_model(folder: str) -> bool:
    """Whether a folder holds a whole model, as a training of all weights or a merge leaves it, and no adapter."""
    there = os.path.isfile(os.path.join(folder, MODEL_CONFIG))
    return there and not os.path.isfile(os.path.join(folder, CONFIG))


def _instead(folder: str) -> str:
    if is_whole_model(folder):
        return f"; it holds a whole model: give it as the model, as in `slmbench eval {shown(folder)}`"
    if os.path.isfile(os.path.join(folder, "adapter_model.bin")):
        return "; adapter_model.bin is a pickle, which can run code: save it as safetensors where it was made"
    return ""
