"""A recipe as a training was run with it, as far as its record is read again."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from slmbench.foreign import Count, Number
from slmbench.runs._part import Part
from slmbench.schema import QuantizationSpec


class LoraSettings(Part):
    """How low-rank adapters were made, as far as it is read again.

    rank: of their matrices
    rslora: whether they are scaled by the square root of the rank
    dora: whether lengths and directions of weights were trained apart
    lr_ratio: how much faster B learned than A; null for as fast
    alpha: what they are scaled by, over the rank or its square root
    dropout: the share of their inputs that a step leaves out
    targets: the modules that they are on; null for those that the model declares
    """

    model_config = ConfigDict(extra="allow")

    rank: Count | None = None
    alpha: Number | None = None
    dropout: Number | None = None
    targets: list[str] | str | None = None
    rslora: bool = False
    dora: bool = False
    lr_ratio: Number | None = None


class OptimSettings(Part):
    """How fast a training learned, as far as it is read again.

    lr: the highest rate
    batch: rows of a step
    schedule: how the rate falls
    """

    model_config = ConfigDict(extra="allow")

    lr: Number | None = None
    batch: Count | None = None
    schedule: str | None = None


class PackingSettings(Part):
    """How a QLoRA base was packed.

    type: of the four bits, or int8
    double: whether the scales of four bits were packed, too
    compute: dtype of the products of four bits
    """

    type: Literal["nf4", "fp4", "int8"] = "nf4"
    double: bool = True
    compute: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    def spec(self) -> QuantizationSpec:
        """As a base is loaded by it."""
        return QuantizationSpec(type=self.type, double=self.double, compute=self.compute)


class RowsSettings(Part):
    """Rows that were drawn of each task.

    n: how many
    seed: by which
    """

    n: Count
    seed: Count


class TrainedSettings(Part):
    """The recipe as it was run; beside what is read again, all other settings of it.

    method: lora, qlora or full
    loss: what its loss was of: answers, or all tokens; not there in earlier records, which are of answers
    format: how prompts were written down
    quantization: how the base was packed
    lora: how low-rank adapters were made
    optim: how fast it learned
    shots: worked examples that a prompt began with; null for as many as the task declares
    cot: how a chain of thought was trained; null for as the task declares
    rows: the first so many of each task alone, or so many drawn by a seed; null for all
    max_tokens: what a row was cut to
    """

    model_config = ConfigDict(extra="allow")

    method: str | None = None
    loss: str | None = None
    format: str = "plain"
    quantization: PackingSettings | None = None
    lora: LoraSettings | None = None
    optim: OptimSettings | None = None
    shots: Count | None = None
    cot: str | None = None
    rows: Count | RowsSettings | None = None
    max_tokens: Count | None = None
