"""How a recipe optimises, and how it mixes its tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from slmbench.schema._base import Misfits, Name, Spec

MAX_STEPS = 1_000_000


class OptimSpec(Spec):
    """How long and how fast. Exactly one of steps and epochs rules; batch counts rows, over accumulation steps.

    steps: 0 leaves an adapter that is gone on from (`init_adapter`) as it is.

    schedule plateau: the rate is multiplied by plateau_factor whenever the validation loss has not fallen for
    plateau_patience looks.
    """

    lr: float = Field(default=2e-4, gt=0, le=1e30)
    batch: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=0, le=MAX_STEPS)
    epochs: float | None = Field(default=None, gt=0, le=10_000)
    warmup_steps: int = Field(default=10, ge=0)
    schedule: Literal["linear", "cosine", "constant", "plateau"] = "linear"
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    plateau_patience: int = Field(default=2, ge=0)
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit"] = "adamw_torch"
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> OptimSpec:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("'steps' and 'epochs' both say how long to train; keep one")
        return self


class MixingSpec(Spec):
    """What share of the training each task of an adapter gets, counted in examples or in tokens.

    proportional: by size, each row once an epoch; equal: the same for all; temperature: size ** (1 / temperature), 1 is
    proportional, large is equal; weights: as given, task -> share. Small tasks are repeated, in a new order each time.
    """

    by: Literal["proportional", "equal", "temperature", "weights"] = "proportional"
    unit: Literal["examples", "tokens"] = "examples"
    temperature: float | None = Field(default=None, ge=1)
    weights: dict[Name, float] = Field(default={})

    @model_validator(mode="after")
    def _fitting(self) -> MixingSpec:
        faults: list[tuple[tuple[str | int, ...], str]] = []
        if (self.by == "temperature") != (self.temperature is not None):
            faults.append((("temperature",), "goes with `by: temperature`, and with nothing else"))
        if (self.by == "weights") != bool(self.weights):
            faults.append((("weights",), "goes with `by: weights`, and with nothing else"))
        for task, weight in self.weights.items():
            if weight <= 0:
                faults.append((("weights", task), f"a weight is above 0, got {weight}; leave the task out instead"))
        if faults:
            raise Misfits(faults)
        return self
