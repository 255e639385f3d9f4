"""The declaration of a recipe: what is trained on what, how, and what is evaluated afterwards."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slmbench.schema._base import Name, Spec
from slmbench.schema._task import CotMode

FormatName = Literal["plain", "chat", "toon"]


class LoraSpec(Spec):
    """Low-rank adapters. targets None: those that the model declares."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] | Literal["all-linear"] | None = None


class OptimSpec(Spec):
    """How long and how fast. Exactly one of steps and epochs rules; batch counts rows, over accumulation steps."""

    lr: float = Field(default=2e-4, gt=0)
    batch: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    warmup_steps: int = Field(default=10, ge=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit"] = "adamw_torch"
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _one_length(self) -> OptimSpec:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("'steps' and 'epochs' both say how long to train; keep one")
        return self


class AdapterSpec(Spec):
    """One adapter: the tasks it is trained on together, and what differs from the recipe's `optim`."""

    tasks: list[Name] = Field(min_length=1)
    steps: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _no_repeats(self) -> AdapterSpec:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("a task is listed twice")
        return self


class EvaluationSpec(Spec):
    """What base and adapters are scored on. limit: the first n items (such rows are badged and not ranked).

    samples: an item, of code tasks; metrics: only these; None for what the tasks declare.
    """

    tasks: Annotated[list[Name], Field(min_length=1)] | None = None
    suite: Name | None = None
    batch: int = Field(default=32, ge=1)
    limit: int | None = Field(default=None, ge=1)
    samples: int | None = Field(default=None, ge=1, le=1000)
    metrics: Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_list(self) -> EvaluationSpec:
        if (self.tasks is None) == (self.suite is None):
            raise ValueError("an evaluation has exactly one of 'tasks' and 'suite'")
        return self


class RecipeSpec(Spec):
    """A recipe. shots: worked examples in every prompt; cot: chain of thought; None for what each task declares.

    rows: at most so many training rows a task. max_tokens: longer rows are cut, counted and shown.
    """

    summary: str = Field(min_length=1)
    source: str = ""
    model: str
    format: FormatName = "plain"
    adapters: dict[Name, AdapterSpec] = Field(min_length=1)
    lora: LoraSpec = LoraSpec()
    optim: OptimSpec = OptimSpec()
    shots: int | None = Field(default=None, ge=0, le=100)
    cot: CotMode | None = None
    rows: int | None = Field(default=None, ge=1)
    max_tokens: int = Field(default=512, ge=8)
    seed: int = 0
    evaluation: EvaluationSpec


class SuiteSpec(Spec):
    """A named list of tasks that are scored together."""

    summary: str = Field(min_length=1)
    tasks: list[Name] = Field(min_length=1)
    format: FormatName | None = None
