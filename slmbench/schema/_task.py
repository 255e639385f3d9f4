"""The declaration of a task."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from slmbench.schema._base import Misfits, Name, Spec
from slmbench.schema._dataset import DatasetSpec
from slmbench.yamlfile import Location

# YAML reads a bare `off` as false.
CotMode = Annotated[Literal["off", "zero", "few"], BeforeValidator(lambda mode: "off" if mode is False else mode)]


def _field_path(path: str) -> str:
    if not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"{path!r} is not a field; name one, with dots into structs, as in `choices.text`")
    return path


FieldPath = Annotated[str, AfterValidator(_field_path)]
"""A field of a row, with dots into structs: `choices.text`."""


class PromptSpec(Spec):
    """Templates over a row's fields. prefix opens the answer, as in `Answer:`; delimiter stands between the two.

    inputs: what a format that writes fields down (toon) shows; None for the fields that `user` names.
    """

    user: str
    system: str = ""
    prefix: str = ""
    delimiter: Literal[" ", "", "\n"] = " "
    inputs: dict[Name, str] | None = None


class FormPromptSpec(PromptSpec):
    """A prompt whose prefix is a template, too: what opens the answer may hold what was asked."""


class CotSpec(Spec):
    """Chain of thought: where the reasoning is, how the final answer is marked, and how it is found again.

    mode: what holds unless a run says otherwise. off: the answer alone. zero: `instruction` asks for the reasoning
    (Kojima et al. 2022, arXiv:2205.11916). few: worked shots show it (Wei et al. 2022, arXiv:2201.11903).
    reasoning, answer: templates; the target is both. extract: group 1 of its last match is what metrics see.
    shots: worked examples in the data set's columns; None for the rows that `fewshot` names. max_tokens, stop: in place
    of `generation`'s, which are for the bare answer.
    """

    mode: CotMode = "few"
    instruction: str = ""
    reasoning: str | None = None
    answer: str
    extract: str | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=32768)
    stop: list[Annotated[str, Field(min_length=1)]] | None = None
    shots: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None


class FewshotSpec(Spec):
    """Worked examples before the question: n rows of a split, those after the first `skip`, the same for every item.

    same: a field; shots then come from the rows that have the item's own value there. delimiter: between shots.
    """

    n: int = Field(default=0, ge=0, le=100)
    split: Name = "train"
    pick: Literal["first"] = "first"
    skip: int = Field(default=0, ge=0)
    same: FieldPath | None = None
    delimiter: str = Field(default="\n\n", min_length=1)


class GenerationSpec(Spec):
    """Decoding up to max_tokens, cut at the first of the stop strings. temperature 0 is greedy; samples a prompt.

    Of several texts an item's score is the mean of theirs; of several programs it is what pass@k makes of them.
    """

    max_tokens: int = Field(default=256, ge=1, le=32768)
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    samples: int = Field(default=1, ge=1, le=1000)
    temperature: float = Field(default=0.0, ge=0, le=5)
    top_p: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _samples_differ(self) -> GenerationSpec:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"{self.samples} samples at temperature 0 are all the same; set a temperature")
        return self


class CodeSpec(Spec):
    """How an output becomes a program: a template that also sees {{ completion }}; tests: Python that checks it.

    examine: "in_process" runs the tests in the program's own process, where two can't carry them; it holds less.
    """

    program: str = "{{ completion }}"
    tests: str
    examine: Literal["two_processes", "in_process"] = "two_processes"


class FormSpec(Spec):
    """What a task declares otherwise for a kind of format: of turns (chat), or of objects (toon).

    prompt, answer, program: in place of the task's own; None leaves those. stop: the stop strings; the task's own are
    made for bare completion and hold there alone. extract: group 1 of its last match is what metrics see.
    """

    prompt: FormPromptSpec | None = None
    answer: str | None = None
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    extract: str | None = None
    program: str | None = None


class TaskSpec(Spec):
    """A task: its data, its prompt, its answer, how it is generated and scored.

    fallback_split: what is evaluated if a mirror has it and not `split`; the run says so. primary: the metric value
    that stands for the task where tasks are averaged, as rougeL; the first metric's first one if it isn't there.
    """

    summary: str = Field(min_length=1)
    source: str = ""
    version: int = Field(ge=0)
    license: str | None = None
    dataset: Name | DatasetSpec
    kind: Literal["generate", "choice", "code"]
    split: Name = "test"
    fallback_split: Name | None = None
    train_split: Name | None = "train"
    prompt: PromptSpec
    answer: str | None = None
    references: FieldPath | None = None
    cot: CotSpec | None = None
    choices: FieldPath | list[str] | None = None
    labels: FieldPath | list[str] | None = None
    gold: str | None = None
    continuation: str | None = None
    cluster: str | None = None
    code: CodeSpec | None = None
    fewshot: FewshotSpec = FewshotSpec()
    generation: GenerationSpec = GenerationSpec()
    formats: dict[Literal["turns", "object"], FormSpec] = Field(default_factory=dict)
    metrics: list[str] = Field(min_length=1)
    primary: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> TaskSpec:
        evaluated = f"{self.split!r}, the split that is evaluated"
        is_choice, is_code = self.kind == "choice", self.kind == "code"
        has_answer, has_cot = self.answer is not None, self.cot is not None
        of_choice = [key for key in ("choices", "labels", "gold", "continuation") if getattr(self, key) is not None]
        written = [key for key in ("answer", "cot", "references") if getattr(self, key) is not None]
        rules: list[tuple[bool, Location, str]] = [
            (
                bool(self.fewshot.n) and self.fewshot.split == self.split,
                ("fewshot", "split"),
                f"fewshot.split is {evaluated}: shots would show the answers",
            ),
            (self.train_split == self.split, ("train_split",), f"train_split is {evaluated}"),
            (
                self.fallback_split in (self.split, self.train_split, self.fewshot.split)
                and self.fallback_split is not None,
                ("fallback_split",),
                f"fallback_split is {self.fallback_split!r}, which serves another purpose already",
            ),
            (
                is_choice and (self.choices is None or self.gold is None),
                ("kind",),
                "a choice task needs 'choices' (a list field, or a list of templates) and 'gold'",
            ),
            (
                is_choice and bool(written),
                (written[0] if written else "kind",),
                f"a choice task has no {' or '.join(map(repr, written))}: its answer is the gold choice",
            ),
            (
                not is_choice and not has_answer and not has_cot,
                ("kind",),
                f"a {self.kind} task needs 'answer', or 'cot' with reasoning and answer",
            ),
            (
                not is_choice and bool(of_choice),
                (of_choice[0] if of_choice else "kind",),
                "'choices', 'labels', 'gold' and 'continuation' belong to a task of kind choice",
            ),
            (is_code and self.code is None, ("kind",), "a code task needs 'code', as in `code: {tests: ...}`"),
            (is_code and has_cot, ("cot",), "a code task has no 'cot': what it writes is run as it stands"),
            (not is_code and self.code is not None, ("code",), "'code' belongs to a task of kind code"),
            (
                is_choice and self.generation.samples > 1,
                ("generation", "samples"),
                "a choice task scores its choices and writes nothing, so it has no samples",
            ),
            (len(set(self.metrics)) != len(self.metrics), ("metrics",), "a metric is listed twice"),
        ]
        faults = [(location, message) for broken, location, message in rules if broken]
        faults += _cot_faults(self.cot) if self.cot is not None else []
        for kind, form in self.formats.items():
            at: Location = ("formats", kind)
            faults += _pattern_faults(form.extract, (*at, "extract")) if form.extract is not None else []
            if form.program is not None and not is_code:
                faults.append(((*at, "program"), "'program' belongs to a task of kind code"))
            if form.answer is not None and is_choice:
                faults.append(((*at, "answer"), "a choice task has no 'answer': its answer is the gold choice"))
        if faults:
            raise Misfits(faults)
        return self


def _cot_faults(cot: CotSpec) -> list[tuple[Location, str]]:
    faults: list[tuple[Location, str]] = []
    if cot.mode == "zero" and not cot.instruction:
        faults.append((("cot", "mode"), "mode zero asks by cot.instruction, which is empty"))
    if cot.extract is not None:
        faults += _pattern_faults(cot.extract, ("cot", "extract"))
    return faults


def _pattern_faults(pattern: str, location: Location) -> list[tuple[Location, str]]:
    key = ".".join(map(str, location))
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        return [(location, f"{key} is not a regular expression: {error}")]
    return [] if groups == 1 else [(location, f"{key} needs one group, the answer; it has {groups}")]
