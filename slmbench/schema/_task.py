"""The declaration of a task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slmbench.schema._base import Misfits, Name, Spec
from slmbench.schema._dataset import DatasetSpec
from slmbench.yamlfile import Location


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
        evaluated = f"{self.split!r}, the split that is evaluated"
        is_choice = self.kind == "choice"
        has_answer, has_cot = self.answer is not None, self.cot is not None
        rules: list[tuple[bool, Location, str]] = [
            (
                bool(self.fewshot.n) and self.fewshot.split == self.split,
                ("fewshot", "split"),
                f"fewshot.split is {evaluated}: shots would show the answers",
            ),
            (self.train_split == self.split, ("train_split",), f"train_split is {evaluated}"),
            (
                is_choice and (self.choices is None or self.gold is None),
                ("kind",),
                "a choice task needs 'choices' (a list field, or a list of templates) and 'gold'",
            ),
            (
                is_choice and (has_answer or has_cot),
                ("answer" if has_answer else "cot",),
                "a choice task has no 'answer' or 'cot': its answer is the gold choice",
            ),
            (
                not is_choice and not has_answer and not has_cot,
                ("kind",),
                "a generate task needs 'answer', or 'cot' with reasoning and answer",
            ),
            (
                not is_choice and has_answer and has_cot,
                ("cot",),
                "'answer' and 'cot' both say what the target is; keep one",
            ),
            (
                not is_choice and (self.choices is not None or self.gold is not None),
                ("choices" if self.choices is not None else "gold",),
                "'choices' and 'gold' belong to a task of kind choice",
            ),
            (len(set(self.metrics)) != len(self.metrics), ("metrics",), "a metric is listed twice"),
        ]
        faults = [(location, message) for broken, location, message in rules if broken]
        if faults:
            raise Misfits(faults)
        return self
