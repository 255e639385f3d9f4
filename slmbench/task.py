"""A task: its declaration, hooks and metrics bound into the one object that training and evaluation both ask."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from slmbench.catalog import Catalog, default_catalog
from slmbench.datasets import Dataset, Row, Rows, fetch_rows, load_dataset_spec, sample_rows
from slmbench.errors import DataError, DeclarationError, Problem, SlmbenchError, UsageError, did_you_mean
from slmbench.formats import Format
from slmbench.metrics import Scorer, load_scorer, metric_names
from slmbench.plugins import Plugin, inside_folder, load_plugin
from slmbench.schema import TaskSpec, parse
from slmbench.templates import Template, TemplateFault
from slmbench.values import Example, Output, Prompt, Score, Shot
from slmbench.yamlfile import Document, Location, read_yaml


@frozen(eq=False)
class Task:
    """A declared task. data: 'auto' for the declared data set, 'samples' for the golden rows in every split.

    examples(split) fetches and converts the rows; prompt(example), answer(example) and score(example, output) are pure.
    """

    name: str
    spec: TaskSpec
    folder: str
    dataset: Dataset
    plugin: Plugin | None
    scorers: tuple[Scorer, ...]
    data: str = "auto"
    _rows: dict[str, Rows] = field(factory=dict, repr=False)
    _examples: dict[str, tuple[Example, ...]] = field(factory=dict, repr=False)

    @property
    def version(self) -> int:
        return self.spec.version

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def samples_path(self) -> str:
        return os.path.join(self.folder, "samples.jsonl")

    def rows(self, split: str) -> Rows:
        """The split's raw rows, fetched once."""
        if split not in self._rows:
            if self.data == "samples":
                self._rows[split] = sample_rows(self.dataset, self.samples_path, split)
            else:
                self._rows[split] = fetch_rows(self.dataset, split)
        return self._rows[split]

    def examples(self, split: str, limit: int | None = None) -> tuple[Example, ...]:
        """The split's examples, the first `limit` of them. Raises DataError, HookError or OfflineError."""
        if split not in self._examples:
            rows = self.rows(split).rows
            self._examples[split] = tuple(self.example(row, number, split) for number, row in enumerate(rows))
        return self._examples[split] if limit is None else self._examples[split][:limit]

    def example(self, row: Row, number: int, split: str) -> Example:
        """One row as an Example. number: its place in the split, which errors name."""
        fields = dict(row)
        if self.plugin is not None and self.plugin.has("example"):
            fields |= self.plugin.call("example", dict(row), row=number)
        try:
            return self._bind(fields, f"{split}-{number}")
        except DataError as error:
            where = f"task {self.name!r}, split {split!r}, row {number}"
            raise DataError(f"{where}: {error}; the row's fields: {', '.join(sorted(fields))}") from error

    def _bind(self, fields: dict[str, Any], item_id: str) -> Example:
        spec = self.spec
        cluster = Template(spec.cluster).render(fields) if spec.cluster else None
        if spec.kind == "choice":
            choices = _choices(spec, fields)
            gold = _gold(Template(spec.gold or "").render(fields), choices)
            answer = choices[gold]
            return Example(item_id, fields, answer, None, choices, gold, (answer,), cluster)
        if spec.cot is not None:
            reasoning = Template(spec.cot.reasoning).render(fields)
            answer = Template(spec.cot.answer).render(fields)
            return Example(item_id, fields, answer, reasoning, references=(f"{reasoning}\n{answer}",), cluster=cluster)
        answer = Template(spec.answer or "").render(fields)
        return Example(item_id, fields, answer, references=(answer,), cluster=cluster)

    def prompt(self, example: Example) -> Prompt:
        """What a model is asked for an example, shots included."""
        return Prompt(self._user(example), self.spec.prompt.system, self.shots(), self.spec.prompt.prefix)

    def _user(self, example: Example) -> str:
        try:
            return Template(self.spec.prompt.user).render(example.fields)
        except DataError as error:
            there = ", ".join(sorted(example.fields))
            raise DataError(f"task {self.name!r}, item {example.id!r}: {error}; the row's fields: {there}") from error

    def shots(self) -> tuple[Shot, ...]:
        """The worked examples, the same for every item."""
        few = self.spec.fewshot
        if not few.n:
            return ()
        chosen = self.examples(few.split, few.n)
        if len(chosen) < few.n:
            raise DataError(f"task {self.name!r}: fewshot.n is {few.n}, but split {few.split!r} has {len(chosen)} rows")
        return tuple(Shot(self._user(example), self.answer(example)) for example in chosen)

    def answer(self, example: Example) -> str:
        """The whole target of an example: reasoning and answer, or the gold choice. Shots and training show it."""
        return f"{example.reasoning}\n{example.answer}" if example.reasoning is not None else example.answer

    def score(self, example: Example, output: Output) -> tuple[Score, ...]:
        """Every metric's values for one output."""
        values = {name: value for scorer in self.scorers for name, value in scorer.score(example, output).items()}
        return tuple(Score(name, float(value)) for name, value in values.items())

    def digest(self, format: Format) -> str:
        """sha256 over task.yaml, plugin.py, the format's and metrics' versions and the data set's declaration."""
        digest = hashlib.sha256()
        for name in ("task.yaml", "plugin.py"):
            path = Path(self.folder) / name
            if path.exists():
                digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        parts = {
            "format": [format.name, format.version],
            "metrics": [[scorer.name, scorer.version] for scorer in self.scorers],
            "dataset": self.dataset.spec.model_dump(mode="json"),
            "few-shot": self.spec.fewshot.model_dump(mode="json"),
        }
        digest.update(json.dumps(parts, sort_keys=True).encode())
        return digest.hexdigest()

    def with_shots(self, n: int | None) -> Task:
        """The same task with another number of shots; None leaves it as declared."""
        if n is None or n == self.spec.fewshot.n:
            return self
        if n and self.spec.fewshot.split == self.spec.split:
            raise UsageError(f"task {self.name!r} declares no few-shot split apart from the one that is evaluated")
        if n and self.spec.fewshot.split not in self.dataset.spec.split_names:
            raise UsageError(f"task {self.name!r} has no split {self.spec.fewshot.split!r} to take shots from")
        spec = self.spec.model_copy(update={"fewshot": self.spec.fewshot.model_copy(update={"n": n})})
        return Task(self.name, spec, self.folder, self.dataset, self.plugin, self.scorers, self.data)


def load_task(name: str, catalog: Catalog | None = None, *, data: str = "auto") -> Task:
    """The task that the catalog knows by a name. Raises UsageError, DeclarationError or HookError."""
    catalog = catalog or default_catalog()
    return load_task_folder(os.path.dirname(catalog.find("tasks", name)), catalog, data=data)


def load_task_folder(folder: str, catalog: Catalog, *, data: str = "auto", run_plugin: bool = True) -> Task:
    """The task of a folder. run_plugin=False leaves plugin.py alone: declarations can be read without trusting them."""
    name = os.path.basename(os.path.abspath(folder))
    document = read_yaml(os.path.join(folder, "task.yaml"))
    spec = parse(TaskSpec, document)
    problems = _template_problems(spec, document) + _metric_problems(spec, document)
    dataset, dataset_problems = _dataset(name, spec, folder, catalog, document)
    problems += dataset_problems
    if dataset is not None:
        problems += _split_problems(spec, dataset, document)
    if problems:
        raise DeclarationError(problems)
    assert dataset is not None
    plugin = load_plugin(folder) if run_plugin else None
    if dataset.spec.generated is not None or dataset.folder == folder:
        dataset = Dataset(dataset.name, dataset.spec, dataset.folder, plugin)
    return Task(name, spec, folder, dataset, plugin, tuple(load_scorer(metric) for metric in spec.metrics), data)


def templates_of(spec: TaskSpec) -> list[tuple[Location, str]]:
    """Where each template of a task stands, and its source."""
    found: list[tuple[Location, str | None]] = [
        (("prompt", "user"), spec.prompt.user),
        (("answer",), spec.answer),
        (("cluster",), spec.cluster),
        (("gold",), spec.gold),
    ]
    if spec.cot is not None:
        found += [(("cot", "reasoning"), spec.cot.reasoning), (("cot", "answer"), spec.cot.answer)]
    if isinstance(spec.choices, list):
        found += [(("choices", i), source) for i, source in enumerate(spec.choices)]
    return [(location, source) for location, source in found if source is not None]


def _template_problems(spec: TaskSpec, document: Document) -> list[Problem]:
    problems = []
    for location, source in templates_of(spec):
        try:
            Template(source)
        except TemplateFault as fault:
            problems.append(document.problem(location, f"{'.'.join(map(str, location))}: {fault}"))
    for key in ("system", "prefix"):
        text = getattr(spec.prompt, key)
        if "{{" in text or "{%" in text:
            problems.append(document.problem(("prompt", key), f"prompt.{key} is fixed text and takes no template"))
        if text != text.rstrip():
            message = f"prompt.{key} ends in white space, which makes other tokens of what follows; take it off"
            problems.append(document.problem(("prompt", key), message))
    if not spec.prompt.prefix and spec.prompt.user != spec.prompt.user.rstrip():
        message = "prompt.user ends in white space, which makes other tokens of the answer; take it off"
        problems.append(document.problem(("prompt", "user"), message))
    return problems


def _metric_problems(spec: TaskSpec, document: Document) -> list[Problem]:
    problems = []
    for i, name in enumerate(spec.metrics):
        try:
            scorer = load_scorer(name)
        except UsageError:
            message = f"unknown metric {name!r}{did_you_mean(name, metric_names())}"
            problems.append(document.problem(("metrics", i), message))
            continue
        wanted = "choice" if spec.kind == "choice" else "text"
        if scorer.kind != wanted:
            message = f"metric {name!r} scores {scorer.kind} outputs; a task of kind {spec.kind} has {wanted} outputs"
            problems.append(document.problem(("metrics", i), message))
    return problems


def _dataset(
    name: str, spec: TaskSpec, folder: str, catalog: Catalog, document: Document
) -> tuple[Dataset | None, list[Problem]]:
    if not isinstance(spec.dataset, str):
        dataset = Dataset(name, spec.dataset, folder)
        problems = []
        for split, given in (spec.dataset.files or {}).items():
            try:
                inside_folder(folder, given)
            except ValueError as error:
                problems.append(document.problem(("dataset", "files", split), str(error)))
        return dataset, problems
    known = catalog.files("datasets")
    if spec.dataset not in known:
        message = f"unknown dataset {spec.dataset!r}{did_you_mean(spec.dataset, known)}"
        return None, [document.problem(("dataset",), message)]
    try:
        return load_dataset_spec(catalog, spec.dataset), []
    except DeclarationError as error:  # Told together with the task's own problems.
        return None, error.problems


def _split_problems(spec: TaskSpec, dataset: Dataset, document: Document) -> list[Problem]:
    wanted: list[tuple[Location, str, str | None]] = [(("split",), "split", spec.split)]
    if "train_split" in document.data or not isinstance(spec.dataset, str):
        wanted.append((("train_split",), "train_split", spec.train_split))
    if spec.fewshot.n:
        wanted.append((("fewshot", "split"), "fewshot.split", spec.fewshot.split))
    there = dataset.spec.split_names
    return [
        document.problem(
            location, f"{key}: data set {dataset.name!r} has no split {split!r}{did_you_mean(split, there)}"
        )
        for location, key, split in wanted
        if split is not None and split not in there
    ]


def _choices(spec: TaskSpec, fields: dict[str, Any]) -> tuple[str, ...]:
    if isinstance(spec.choices, list):
        choices: Any = [Template(source).render(fields) for source in spec.choices]
    else:
        name = spec.choices or ""
        if name not in fields:
            raise DataError(f"choices names {name!r}, which the row lacks{did_you_mean(name, fields)}")
        choices = fields[name]
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not all(isinstance(c, str) for c in choices):
        raise DataError(f"choices: expected a list of texts, got {type(choices).__name__}")
    if len(choices) < 2 or any(not choice for choice in choices):
        raise DataError(f"choices: expected at least two texts, none of them empty, got {list(choices)!r}")
    return tuple(choices)


def _gold(text: str, choices: tuple[str, ...]) -> int:
    text = text.strip()
    as_index = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else len(choices)
    if as_index < len(choices) and text in choices and choices[as_index] != text:
        raise DataError(f"gold: {text!r} is an index and, elsewhere, one of the choices; set the index in plugin.py")
    if as_index < len(choices):
        return as_index
    if choices.count(text) == 1:
        return choices.index(text)
    raise DataError(f"gold: {text!r} is neither an index below {len(choices)} nor exactly one of the choices")


def validate_all(catalog: Catalog) -> list[SlmbenchError]:
    """The errors of every task's declaration, without running plugins; an empty list where all are sound."""
    errors: list[SlmbenchError] = []
    for path in catalog.files("tasks").values():
        try:
            load_task_folder(os.path.dirname(path), catalog, run_plugin=False)
        except SlmbenchError as error:
            errors.append(error)
    return errors
