"""`training.json`: what a training of this product says of itself, read by one strict model wherever it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from slmbench.foreign import Amount, Count, Limits, Number, read_object
from slmbench.runs._part import CodePart, Part, Sha256
from slmbench.runs._settings import LoraSettings, OptimSettings, PackingSettings, RowsSettings, TrainedSettings
from slmbench.runs._versions import AGAIN, READS, TRAINING, WITHOUT, read_as, write_as
from slmbench.schema import QuantizationSpec, targets_label
from slmbench.seal import check_seal, sealed

_LIMITS = Limits(bytes=200_000_000)  # Curves of a million steps.
_LONGEST_WORD = 24
_AGAIN = f"{AGAIN[TRAINING]}, or {WITHOUT}"


class TrainedBase(Part):
    """Where the base was.

    name: as it was called
    id: where it was from: a hub id, or the name
    location: the absolute path of a folder, or a hub id
    revision: commit hash of its files on the hub
    twin: whether it was a small random copy
    """

    name: str
    id: str
    location: str
    revision: str | None = None
    twin: bool = False


class TrainedFrom(Part):
    """The adapter that a training went on from.

    folder: where it was
    sha256: of it with its config
    optimizer: whether its optimiser's state was gone on with
    tasks: that it, and those before it, had been trained on
    """

    folder: str | None = None
    sha256: Sha256 | None = None
    optimizer: bool = False
    tasks: list[str] = Field(default=[])


class TrainedTask(Part):
    """A task's rows in the training.

    rows: that were there to train on
    tokens: of prompts and answers of these
    answer_tokens: of answers alone
    truncated_rows: rows whose prompt was cut
    truncated_answers: rows whose answer was cut
    rows_without_reasoning: rows with no worked solution, if one is trained
    dropped_rows: rows that were left out
    dropped: reason -> rows that were left out for it
    rows_seen: that the steps were made of; a row counts each time
    tokens_seen: of the rows seen
    validation_rows: rows kept aside
    validation_prompts: the first digits of the sha256 of each prompt of these, none of which was trained on
    parity_rows: rows whose tokens were compared with an evaluation's
    """

    rows: Count | None = None
    tokens: Count | None = None
    answer_tokens: Count | None = None
    truncated_rows: Count | None = None
    truncated_answers: Count | None = None
    rows_without_reasoning: Count | None = None
    dropped_rows: Count | None = None
    dropped: dict[str, Count] = Field(default={})
    rows_seen: Count | None = None
    tokens_seen: Count | None = None
    validation_rows: Count | None = None
    validation_prompts: list[str] = Field(default=[])
    parity_rows: Count | None = None


class TaskLoss(Part):
    """A task's part of a point.

    loss: mean over answer tokens (with `loss: all` over prompts too), in nats; null if it was NaN
    tokens: that it is the mean of
    rows: that these are of
    """

    loss: Number | None = None
    tokens: Count | None = None
    rows: Count | None = None


class CurvePoint(Part):
    """The losses at one step.

    step: from 1
    lr: learning rate
    loss: mean over all tasks' answer tokens (with `loss: all` over prompts too), in nats; null if it was NaN
    grad_norm: length of the gradient before it was clipped
    seconds: since the steps began, over all attempts
    tasks: task -> its part
    """

    step: Count
    lr: Number | None = None
    loss: Number | None = None
    grad_norm: Number | None = None
    seconds: Amount | None = None
    tasks: dict[str, TaskLoss] = Field(default={})


class TrainedCurves(Part):
    """Losses over the steps.

    train: of rows trained on, since the point before
    validation: of rows kept aside
    """

    train: list[CurvePoint] = Field(default=[])
    validation: list[CurvePoint] = Field(default=[])


class TaskShare(Part):
    """A task's share of what the steps saw.

    rows: of the task
    tokens: of the task
    share: of all rows, or of all tokens, by the mixture's unit
    """

    rows: Count | None = None
    tokens: Count | None = None
    share: Number | None = None


class EpochShares(Part):
    """What one epoch saw.

    epoch: from 1
    rows: of all tasks
    tokens: of all tasks
    tasks: task -> its share
    """

    epoch: Count | None = None
    rows: Count | None = None
    tokens: Count | None = None
    tasks: dict[str, TaskShare] = Field(default={})


class Packed(Part):
    """How rows were packed end to end.

    tokens_a_batch: that a batch has room for
    batches: how many there were
    fill: share of the room that rows took
    """

    tokens_a_batch: Count | None = None
    batches: Count | None = None
    fill: Number | None = None


class Mixture(Part):
    """What came of the mixture that was wanted.

    unit: rows or tokens, which shares are of
    wanted: task -> the share that was wanted
    rows: that the steps saw, of all tasks
    tokens: that the steps saw, of all tasks
    tasks: task -> what the steps saw of it
    epochs: the same by epoch
    packing: how rows were packed; not there if they were padded
    """

    unit: str | None = None
    wanted: dict[str, Number] = Field(default={})
    rows: Count | None = None
    tokens: Count | None = None
    tasks: dict[str, TaskShare] = Field(default={})
    epochs: list[EpochShares] = Field(default=[])
    packing: Packed | None = None


class LargestBatch(Part):
    """The batch that takes most memory.

    rows: in it
    tokens: in it
    answer_tokens: of these, those whose loss is taken: of answers, or with `loss: all` all but each row's first
    """

    rows: Count | None = None
    tokens: Count | None = None
    answer_tokens: Count | None = None


class MemoryForecast(Part):
    """The peak memory that was forecast.

    device: cpu or cuda
    forecast_bytes: before the first step
    calibrated_bytes: after it
    first_step_bytes: what the first step took
    parts: what the forecast is the sum of, in bytes
    largest_batch: that it is of
    simulated: whether the base was run once on the meta device for it
    """

    device: str | None = None
    forecast_bytes: Count | None = None
    calibrated_bytes: Count | None = None
    first_step_bytes: Count | None = None
    parts: dict[str, int] = Field(default={})
    largest_batch: LargestBatch | None = None
    simulated: bool | None = None


class ProcessMemory(Part):
    """Memory of one of several processes.

    peak_bytes: the most that it took, of its GPU if there was one
    peak_ram_bytes: its peak resident memory
    first_step_bytes: the most that the first step took
    """

    peak_bytes: Count | None = None
    peak_ram_bytes: Count | None = None
    first_step_bytes: Count | None = None


class MeasuredMemory(Part):
    """Memory as measured, and as it was forecast: of several processes that of the one which took most.

    forecast: what was forecast
    peak_bytes: the most that was taken, of the GPU if there was one
    peak_ram_bytes: peak resident memory of the process
    first_step_bytes: the most that the first step took
    processes: of each, by rank; not there for one process
    """

    forecast: MemoryForecast | None = None
    peak_bytes: Count | None = None
    peak_ram_bytes: Count | None = None
    first_step_bytes: Count | None = None
    processes: list[ProcessMemory] | None = None


class LossPoint(Part):
    """The loss of all tasks at a step.

    step: from 1
    loss: in nats; null if it was NaN
    """

    step: Count
    loss: Number | None = None


class TrainedTracker(Part):
    """A tracker that was told of the training.

    name: tensorboard, trackio, wandb or mlflow
    where: it kept that, below the output folder, or what said so; null if it never began
    failed: why it was given up; null if it worked to the end
    """

    name: str
    where: str | None = None
    failed: str | None = None


class TrainingRecord(Part):
    """A training's record. Every field may be missing, as older ones lack some; what is there has its type.

    schema: version of this layout
    recipe: that it was trained by
    variant: of the recipe; null for none
    recipe_sha256: of what the recipe says
    setting_sha256: of what the recipe says, its seed apart; not there in earlier records
    identity_sha256: of all that makes the training what it is; a training that has the same is not repeated
    settings: the recipe as it was run
    method: lora, qlora or full
    model: the base
    base: where the base was
    architecture: causal or seq2seq
    base_weights_sha256: of the base's weights
    init_adapter: what was gone on from; not there if nothing was
    base_parameters: weights of the base
    quantization: how the base was packed, as nf4+double; null for a whole one
    dtype: of the base's weights in memory
    compute_dtype: of the products
    trainable_parameters: weights that were trained
    bytes: of the file that was written
    sha256: of what came out: an adapter with its config, or a model's weights
    optimizer_sha256: of what was kept to go on with the optimiser's state; not there if nothing was
    seed: of what is drawn
    steps: of the optimizer
    resumed_from: steps whose checkpoints it went on from
    mixture: what the steps saw
    tasks: task -> its rows
    curves: losses over the steps
    loss: the loss of all tasks at each point
    contamination: the rows that are also evaluated, and what was done about them
    memory: that it took
    ram_peak_bytes: peak resident memory of the process
    train_s: seconds of the steps, over all attempts
    seconds: phase -> seconds, of the last attempt
    tokens_per_second: of prompts and answers, without padding
    notices: what a reader has to know of the base
    trackers: that were told of the last attempt; not there if none was asked for
    ended: when it ended, UTC
    code: the slmbench that wrote it
    packages: package -> version
    hardware: processor, cores, threads, memory in bytes, GPU, system, Python
    processes: that made it together
    threads: that torch computed with, in each process
    record_sha256: of the other fields here
    """

    version: int = Field(default=READS[TRAINING][-1], alias="schema", ge=READS[TRAINING][0], le=READS[TRAINING][-1])
    recipe: str | None = None
    variant: str | None = None
    recipe_sha256: str | None = None
    setting_sha256: str | None = None
    identity_sha256: str | None = None
    settings: TrainedSettings = TrainedSettings()
    method: str | None = None
    model: str | None = None
    base: TrainedBase | None = None
    architecture: str | None = None
    base_weights_sha256: Sha256 | None = None
    init_adapter: TrainedFrom | None = None
    base_parameters: Count | None = None
    quantization: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    compute_dtype: str | None = None
    trainable_parameters: Count | None = None
    bytes: Count | None = None
    sha256: Sha256 | None = None
    optimizer_sha256: Sha256 | None = None
    seed: Count | None = None
    steps: Count | None = None
    resumed_from: list[Count] | None = None
    mixture: Mixture = Mixture()
    tasks: dict[str, TrainedTask] = Field(default={})
    curves: TrainedCurves = TrainedCurves()
    loss: list[LossPoint] | None = None
    contamination: dict[str, Any] | None = None
    memory: MeasuredMemory = MeasuredMemory()
    ram_peak_bytes: Count | None = None
    train_s: Amount | None = None
    seconds: dict[str, Amount] | None = None
    tokens_per_second: Amount | None = None
    notices: list[str] | None = None
    trackers: list[TrainedTracker] | None = None
    ended: str | None = None
    code: CodePart | None = None
    packages: dict[str, str] | None = None
    hardware: dict[str, Any] | None = None
    processes: Count | None = None
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

    def told(self) -> dict[str, str]:
        """What trainings of one name and recipe may differ in, by words for people; as far as it is said."""
        said, optim = self.settings, self.settings.optim or OptimSettings()
        lora = said.lora or LoraSettings()
        found = {
            "variant": self.variant,
            "init_adapter": os.path.basename((self.init_adapter or TrainedFrom()).folder or "") or None,
            "format": said.format,
            "loss": said.loss if said.loss != "answer" else None,
            "lr": optim.lr,
            "steps": self.steps,
            "batch": optim.batch,
            "rows": f"{said.rows.n} by seed {said.rows.seed}" if isinstance(said.rows, RowsSettings) else said.rows,
            "alpha": lora.alpha,
            "dropout": lora.dropout,
            "schedule": optim.schedule,
            "targets": None if lora.targets is None else targets_label(lora.targets),
        }
        # Anybody may have written the file: a text of any length is no word.
        told = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in found.items()}
        return {key: told[key] for key, value in found.items() if value is not None and len(told[key]) <= _LONGEST_WORD}


def read_training(folder: str | os.PathLike[str]) -> TrainingRecord:
    """A folder's training.json. Raises FileError with all that is wrong; FileNotFoundError if there is none."""
    path = os.path.join(folder, TRAINING)
    record = read_object(path, _LIMITS, todo=_AGAIN)
    made = read_as(TrainingRecord, record, TRAINING, path, todo=_AGAIN)
    check_seal(record, path, todo=_AGAIN)
    return made


def write_training(folder: str | os.PathLike[str], record: Mapping[str, object]) -> None:
    """Writes a folder's training.json, sealed. Raises FileError for a record that is none by `TrainingRecord`."""
    write_as(TrainingRecord, sealed(record), os.path.join(folder, TRAINING))
