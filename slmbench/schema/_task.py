"""The declaration of a task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slmbench.schema._base import Name, Spec
from slmbench.schema._dataset import DatasetSpec


class PromptSpec(Spec):
    """Templates over a row's fields. prefix opens the answer, as in `Answer:`."""

    user: str
    system: str = ""
    prefix: str = ""


class CotSpec(Spec):
    """Worked solutions: templates for the reasoning and for how the final answer is marked. The target is both."""

    reasoning: str
    answer: str


class FewshotSpec(Spec):
    """Worked examples before the question: the first n rows of a split, the same for every item."""

    n: int = Field(default=0, ge=0, le=100)
    split: Name = "train"
    pick: Literal["first"] = "first"


class GenerationSpec(Spec):
    """Greedy decoding up to max_tokens, cut at the first of the stop strings."""

    max_tokens: int = Field(default=256, ge=1, le=32768)
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)


class TaskSpec(Spec):
    """A task: its data, its prompt, its answer, how it is generated and scored."""

    summary: str = Field(min_length=1)
    source: str = ""
    version: int = Field(ge=0)
    license: str | None = None
    dataset: Name | DatasetSpec
    kind: Literal["generate", "choice"]
    split: Name = "test"
    train_split: Name | None = "train"
    prompt: PromptSpec
    answer: str | None = None
    cot: CotSpec | None = None
    choices: str | list[str] | None = None
    gold: str | None = None
    cluster: str | None = None
    fewshot: FewshotSpec = FewshotSpec()
    generation: GenerationSpec = GenerationSpec()
    metrics: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> TaskSpec:
        faults = []
        if self.fewshot.n and self.fewshot.split == self.split:
            faults.append(f"fewshot.split is {self.split!r}, the split that is evaluated: shots would show the answers")
        if self.train_split == self.split:
            faults.append(f"train_split is {self.split!r}, the split that is evaluated")
        if self.kind == "choice":
            if self.choices is None or self.gold is None:
                faults.append("a choice task needs 'choices' (a list field, or a list of templates) and 'gold'")
            if self.answer is not None or self.cot is not None:
                faults.append("a choice task has no 'answer' or 'cot': its answer is the gold choice")
        else:
            if self.answer is None and self.cot is None:
                faults.append("a generate task needs 'answer', or 'cot' with reasoning and answer")
            if self.answer is not None and self.cot is not None:
                faults.append("'answer' and 'cot' both say what the target is; keep one")
            if self.choices is not None or self.gold is not None:
                faults.append("'choices' and 'gold' belong to a task of kind choice")
        if len(set(self.metrics)) != len(self.metrics):
            faults.append("a metric is listed twice")
        if faults:
            raise ValueError("; ".join(faults))
        return self
