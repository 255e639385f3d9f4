"""A task from its folder: the declaration validated whole, its data set found, its plugin and metrics bound."""

from __future__ import annotations

import os

from attrs import evolve

from slmbench.catalog import Catalog, default_catalog
from slmbench.datasets import Dataset, load_dataset_spec, local_source
from slmbench.errors import DeclarationError, Problem, did_you_mean
from slmbench.headers import Promises, promises
from slmbench.metrics import load_scorer, metric_names, own_scorer
from slmbench.plugins import inside_folder, load_plugin, load_plugins
from slmbench.registry import Registry
from slmbench.schema import TaskSpec, parse
from slmbench.task._judging import outputs_of
from slmbench.task._task import Task
from slmbench.templates import Template, TemplateFault
from slmbench.yamlfile import Document, Location, read_yaml


def load_task(name: str, catalog: Catalog | None = None, *, data: str = "auto") -> Task:
    """The task that the catalog knows by a name. Raises UsageError, DeclarationError or HookError."""
    catalog = catalog or default_catalog()
    return load_task_folder(os.path.dirname(catalog.find("tasks", name)), catalog, data=data)


def load_task_folder(folder: str, catalog: Catalog, *, data: str = "auto", run_plugin: bool = True) -> Task:
    """The task of a folder. run_plugin=False leaves plugin.py alone: declarations can be read without trusting them."""
    name = os.path.basename(os.path.abspath(folder))
    document = read_yaml(os.path.join(folder, "task.yaml"))
    spec = parse(TaskSpec, document)
    plugins = load_plugins(catalog)
    # What plugin.py says that it brings: names are sound or not before anything of it is run.
    promised = promises(os.path.join(folder, "plugin.py"))
    problems = _template_problems(spec, document) + _metric_problems(spec, document, plugins, promised)
    dataset, dataset_problems = _dataset(name, spec, folder, catalog, document)
    problems += dataset_problems
    problems += _loader_problems(spec, document, plugins, promised)
    if dataset is not None:
        problems += _split_problems(spec, dataset, document)
    if problems:
        raise DeclarationError(problems)
    assert dataset is not None
    plugin = load_plugin(folder) if run_plugin else None
    if plugin is not None:
        plugins = plugins.joined(plugin.registered)
        if problems := _metric_problems(spec, document, plugins) + _loader_problems(spec, document, plugins):
            raise DeclarationError(problems)
    if data != "samples" and _falls_back(spec, dataset):
        spec = spec.model_copy(update={"split": spec.fallback_split})
    if dataset.folder == folder and spec.dataset == dataset.spec:
        loader = plugins.get("loader", dataset.spec.loader.name) if dataset.spec.loader else None
        dataset = evolve(dataset, plugin=plugin, loader=loader)
    known = [
        metric for metric in spec.metrics if plugin is not None or own_scorer(metric) or plugins.get("metric", metric)
    ]
    scorers = tuple(load_scorer(metric, plugins, task=name) for metric in known)
    values = [value for scorer in scorers for value in scorer.values]
    if spec.primary is not None and len(known) == len(spec.metrics) and spec.primary not in values:
        hint = did_you_mean(spec.primary, values) or f"; they give {', '.join(values)}"
        message = f"primary: none of the metrics gives {spec.primary!r}{hint}"
        raise DeclarationError([document.problem(("primary",), message)])
    cot = spec.cot.mode if spec.cot is not None else "off"
    return Task(name, spec, folder, dataset, plugin, scorers, data, cot, plugins=plugins)


def _falls_back(spec: TaskSpec, dataset: Dataset) -> bool:
    if spec.fallback_split is None or local_source(dataset, spec.split) is not None:
        return False
    return local_source(dataset, spec.fallback_split) is not None


def templates_of(spec: TaskSpec) -> list[tuple[Location, str]]:
    """Where each template of a task stands, and its source."""
    found: list[tuple[Location, str | None]] = [
        (("prompt", "user"), spec.prompt.user),
        (("prompt", "system"), spec.prompt.system),
        (("answer",), spec.answer),
        (("cluster",), spec.cluster),
        (("gold",), spec.gold),
        (("continuation",), spec.continuation),
    ]
    found += [(("prompt", "inputs", name), source) for name, source in (spec.prompt.inputs or {}).items()]
    if spec.cot is not None:
        found += [(("cot", "reasoning"), spec.cot.reasoning), (("cot", "answer"), spec.cot.answer)]
    if spec.code is not None:
        found += [(("code", "program"), spec.code.program), (("code", "tests"), spec.code.tests)]
    for kind, form in spec.formats.items():
        at: Location = ("formats", kind)
        found += [((*at, "answer"), form.answer), ((*at, "program"), form.program)]
        if form.prompt is not None:
            found += [((*at, "prompt", key), getattr(form.prompt, key)) for key in ("user", "system", "prefix")]
            found += [((*at, "prompt", "inputs", name), source) for name, source in (form.prompt.inputs or {}).items()]
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
    for kind, form in spec.formats.items():
        if form.program is not None and "completion" not in _names(form.program):
            key = f"formats.{kind}.program"
            message = f"{key} never names {{{{ completion }}}}, so no output would be run"
            problems.append(document.problem(("formats", kind, "program"), message))
        if form.prompt is not None and form.prompt.delimiter and form.prompt.prefix != form.prompt.prefix.rstrip():
            key = f"formats.{kind}.prompt.prefix"
            message = f"{key} ends in white space, which changes the tokens of what follows; remove it"
            problems.append(document.problem(("formats", kind, "prompt", "prefix"), message))
    prompt = spec.prompt
    if "{{" in prompt.prefix or "{%" in prompt.prefix:
        problems.append(document.problem(("prompt", "prefix"), "prompt.prefix is fixed text, not a template"))
    last = "prefix" if prompt.prefix else "user"
    # A blank before the delimiter's blank, or a line break before an answer, is another token than training's.
    for key in ("system", "prefix", "user"):
        text = getattr(prompt, key)
        matters = key != "user" or (last == "user" and prompt.delimiter)
        if text != text.rstrip() and matters:
            message = f"prompt.{key} ends in white space, which changes the tokens of what follows; remove it"
            problems.append(document.problem(("prompt", key), message))
    if spec.code is not None and "completion" not in _names(spec.code.program):
        message = "code.program never names {{ completion }}, so no output would be run"
        problems.append(document.problem(("code", "program"), message))
    if spec.continuation is not None and "choice" not in _names(prompt.user):
        message = "prompt.user never names {{ choice }}, so every choice would have the same prompt"
        problems.append(document.problem(("prompt", "user"), message))
    return problems


def _names(source: str) -> frozenset[str]:
    try:
        return Template(source).names
    except TemplateFault:  # Told already, at its own place.
        return frozenset({"completion", "choice"})


def _metric_problems(
    spec: TaskSpec, document: Document, plugins: Registry, promised: Promises | None = None
) -> list[Problem]:
    """promised: (kind, name) of what a plugin that hasn't run yet says that it registers."""
    problems = []
    named: dict[str, str] = {}  # Of a value that two metrics give, one would stand for both.
    for i, name in enumerate(spec.metrics):
        if promised is not None and promised.has("metric", name):
            continue
        known = [*metric_names(), *plugins.names("metric")]
        if own_scorer(name) is None and plugins.get("metric", name) is None:
            message = f"unknown metric {name!r}{did_you_mean(name, known)}"
            problems.append(document.problem(("metrics", i), message))
            continue
        scorer = load_scorer(name, plugins)
        if scorer.samples > spec.generation.samples:
            message = (
                f"metric {name!r} needs {scorer.samples} samples an item; generation.samples is "
                f"{spec.generation.samples}"
            )
            problems.append(document.problem(("metrics", i), message))
        if spec.kind == "generate" and spec.generation.samples > 1 and scorer.pooled:
            message = (
                f"metric {name!r} is pooled over items, each with one answer; generation.samples is "
                f"{spec.generation.samples}"
            )
            problems.append(document.problem(("metrics", i), message))
        if scorer.kind not in outputs_of(spec.kind):
            has = outputs_of(spec.kind)[0]
            message = f"metric {name!r} scores {scorer.kind} outputs; a task of kind {spec.kind} has {has} outputs"
            problems.append(document.problem(("metrics", i), message))
        for value in scorer.values:
            if (other := named.setdefault(value, name)) != name:
                message = f"metrics {other!r} and {name!r} both give a value {value!r}; rename one of the two"
                problems.append(document.problem(("metrics", i), message))
    return problems


def _loader_problems(
    spec: TaskSpec, document: Document, plugins: Registry, promised: Promises | None = None
) -> list[Problem]:
    declared = spec.dataset.loader if not isinstance(spec.dataset, str) else None
    if (
        declared is None
        or (promised is not None and promised.has("loader", declared.name))
        or plugins.get("loader", declared.name) is not None
    ):
        return []
    known = [*plugins.names("loader"), *(promised.names("loader") if promised is not None else ())]
    message = f"unknown loader {declared.name!r}{did_you_mean(declared.name, known)}"
    return [document.problem(("dataset", "loader", "name"), message)]


def _dataset(
    name: str, spec: TaskSpec, folder: str, catalog: Catalog, document: Document
) -> tuple[Dataset | None, list[Problem]]:
    if not isinstance(spec.dataset, str):
        dataset = Dataset(name, spec.dataset, folder)
        problems = []
        for split, given in (spec.dataset.files or {}).items():
            for path in [given] if isinstance(given, str) else given:
                try:
                    inside_folder(folder, path)
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
    if spec.fallback_split is not None:
        wanted.append((("fallback_split",), "fallback_split", spec.fallback_split))
    there = dataset.spec.split_names
    return [
        document.problem(
            location, f"{key}: data set {dataset.name!r} has no split {split!r}{did_you_mean(split, there)}"
        )
        for location, key, split in wanted
        if split is not None and split not in there
    ]
