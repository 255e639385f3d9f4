"""`training.json`: what a training of this product says of itself, read by one strict model wherever it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from slmbench.files import write_json
from slmbench.foreign import Amount, Count, Foreign, Limits, Number, parse, read_object
from slmbench.runs._written import check_written
from slmbench.schema import QuantizationSpec
from slmbench.seal import check_seal, sealed

TRAINING = "training.json"
TRAINING_SCHEMA = 3
"""3: `base` says where the base was. 2 and files without a number are read too."""
_LIMITS = Limits(bytes=200_000_000)  # Curves of a million steps.
_AGAIN = "train it again, or remove the file to have the adapter treated as one that was made elsewhere"

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class TrainedBase(Foreign):
    """Where the base was. location: the absolute path of a folder, or a hub id."""

    name: str
    id: str
    location: str
    revision: str | None = None
    twin: bool = False


class LoraSettings(Foreign):
    """How low-rank adapters were made, as far as it is read again."""

    rank: Count | None = None
    rslora: bool = False
    dora: bool = False
    lr_ratio: Number | None = None


class PackingSettings(Foreign):
    """How a QLoRA base was packed."""

    type: Literal["nf4", "fp4"] = "nf4"
    double: bool = True
    compute: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    def spec(self) -> QuantizationSpec:
        """As a base is loaded by it."""
        return QuantizationSpec(type=self.type, double=self.double, compute=self.compute)


class TrainedSettings(Foreign):
    """The recipe as it was run, as far as it is read again."""

    model_config = ConfigDict(extra="allow")

    method: str | None = None
    format: str = "plain"
    quantization: PackingSettings | None = None
    lora: LoraSettings | None = None
    shots: Count | None = None
    cot: str | None = None
    rows: Count | None = None
    max_tokens: Count | None = None


class TrainedTask(Foreign):
    """A task's rows in the training."""

    rows: Count | None = None
    tokens: Count | None = None
    truncated_rows: Count | None = None
    truncated_answers: Count | None = None
    dropped_rows: Count | None = None
    dropped: dict[str, Count] = Field(default={})


class TaskLoss(Foreign):
    """A task's part of a point. loss: None if it was no number. tokens: that it is the mean of."""

    loss: Number | None = None
    tokens: Count | None = None


class CurvePoint(Foreign):
    """The losses at one step."""

    step: Count
    tasks: dict[str, TaskLoss] = Field(default={})


class TrainedCurves(Foreign):
    """Losses of rows trained on, and of rows kept aside."""

    train: list[CurvePoint] = Field(default=[])
    validation: list[CurvePoint] = Field(default=[])


class TaskShare(Foreign):
    """A task's share of what the steps saw."""

    share: Number | None = None


class Mixture(Foreign):
    """What came of the mixture that was wanted."""

    unit: str | None = None
    tasks: dict[str, TaskShare] = Field(default={})


class MeasuredMemory(Foreign):
    """Memory as measured."""

    peak_bytes: Count | None = None


class TrainingRecord(Foreign):
    """A training's record. Every field may be missing, as older ones lack some; what is there has its type."""

    model_config = ConfigDict(extra="allow")

    version: Annotated[int, Field(alias="schema", ge=1, le=TRAINING_SCHEMA)] = TRAINING_SCHEMA
    recipe: str | None = None
    variant: str | None = None
    recipe_sha256: str | None = None
    identity_sha256: str | None = None
    settings: TrainedSettings = TrainedSettings()
    method: str | None = None
    model: str | None = None
    base: TrainedBase | None = None
    architecture: str | None = None
    base_weights_sha256: Sha256 | None = None
    quantization: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    trainable_parameters: Count | None = None
    sha256: Sha256 | None = None
    seed: Count | None = None
    steps: Count | None = None
    tasks: dict[str, TrainedTask] = Field(default={})
    curves: TrainedCurves = TrainedCurves()
    mixture: Mixture = Mixture()
    memory: MeasuredMemory = MeasuredMemory()
    ram_peak_bytes: Count | None = None
    train_s: Amount | None = None
    base_parameters: Count | None = None
    notices: list[str] | None = None
    compute_dtype: str | None = None
    bytes: Count | None = None
    resumed_from: list[Count] | None = None
    loss: list[dict[str, Any]] | None = None
    contamination: Any = None
    seconds: dict[str, Amount] | None = None
    tokens_per_second: Amount | None = None
    ended: str | None = None
    code: dict[str, Any] | None = None
    packages: dict[str, str] | None = None
    hardware: dict[str, Any] | None = None
    threads: Count | None = None
    record_sha256: Sha256 | None = None

    @property
    def packing(self) -> QuantizationSpec | None:
        """How the base was packed for a QLoRA training; None if it was not packed here."""
        if self.settings.method != "qlora":
            return None
        return (self.settings.quantization or PackingSettings()).spec()

    def how(self) -> str | None:
        """How it was trained, as `lora`, `rslora` or `qlora, dora`; None if it doesn't say."""
        method, lora = self.settings.method, self.settings.lora or LoraSettings()
        if method is None:
            return None
        if method == "full":
            return method
        kinds = [kind for kind, on in (("rslora", lora.rslora), ("dora", lora.dora), ("lora+", lora.lr_ratio)) if on]
        # Each of these is a LoRA; `lora` alone says that it is a plain one.
        return ", ".join(([] if kinds and method == "lora" else [method]) + kinds)


def read_training(folder: str | os.PathLike[str]) -> TrainingRecord:
    """A folder's training.json. Raises FileError with all that is wrong; FileNotFoundError if there is none."""
    path = os.path.join(folder, TRAINING)
    record = read_object(path, _LIMITS, todo=_AGAIN)
    made = parse(TrainingRecord, record, path, todo=_AGAIN)
    check_seal(record, path, todo=_AGAIN)
    return made


def write_training(folder: str | os.PathLike[str], record: Mapping[str, object]) -> None:
    """Writes a folder's training.json, sealed. Raises FileError for a record that is none by `TrainingRecord`."""
    path = os.path.join(folder, TRAINING)
    whole = sealed(record)
    check_written(TrainingRecord, whole, path)
    write_json(path, whole)
