"""What to cite for a recipe, task, model, data set or suite: papers, data, models, metrics and slmbench itself.

Declarations are read, and what registers metrics and methods by its text; nothing is run and nothing looked up.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Sequence

from slmbench.catalog import Catalog
from slmbench.citations import Reference, gathered, references
from slmbench.errors import UsageError, did_you_mean
from slmbench.headers import Header, definition, headers, own_headers
from slmbench.merge_recipe import MergeRecipe
from slmbench.metrics import own_scorer
from slmbench.recipe import Recipe, suite_tasks
from slmbench.schema import DatasetSpec, ModelSpec, TaskSpec, parse
from slmbench.workflow.check_recipe import is_recipe, load_either
from slmbench.yamlfile import read_yaml

KINDS = ("recipes", "tasks", "models", "datasets", "suites")
_PAPERS = {
    "lora": "Hu et al. 2022, arXiv:2106.09685",
    "qlora": "Hu et al. 2022, arXiv:2106.09685; Dettmers et al. 2023, arXiv:2305.14314",
    "full": "",
}
_PAPER = re.compile(r"(?:[A-Z][\w-]+ and )?[A-Z][\w-]+(?: et al\.)? \d{4}, (?:[^,;.]+, )?arXiv:\d{4}\.\d{4,5}")


def cite(names: Sequence[str], catalog: Catalog, *, methods: Sequence[str] = ()) -> list[Reference]:
    """The references of what is named, each once, slmbench last. Of a name that several kinds have, KINDS' first.

    methods: of training, whose papers are cited too.

    Raises UsageError for a name that nothing has, DeclarationError for a file that doesn't hold.
    """
    found: list[Reference] = []
    for name in names:
        found += _of(name, catalog)
    for method in methods:
        found += references(_PAPERS.get(method, ""), f"method {method}", method)
    return gathered(sorted([*found, _us()], key=lambda one: one.key == _us().key))


def _of(name: str, catalog: Catalog) -> Iterator[Reference]:
    if is_recipe(name, catalog):
        return _of_recipe(load_either(name, catalog), catalog)
    kind = next((kind for kind in KINDS if name in catalog.files(kind)), None)
    if kind is None:
        known = [one for kind in KINDS for one in catalog.files(kind)]
        raise UsageError(f"nothing is called {name!r}{did_you_mean(name, known)}")
    made = {"tasks": _of_task, "models": _of_model, "datasets": _of_dataset, "suites": _of_suite}[kind]
    return made(name, catalog)


def _of_recipe(recipe: Recipe | MergeRecipe, catalog: Catalog) -> Iterator[Reference]:
    about = f"recipe {recipe.name}"
    yield from references(recipe.spec.source, about, recipe.spec.summary)
    trained = recipe.train if isinstance(recipe, MergeRecipe) else recipe
    if isinstance(recipe, MergeRecipe):
        there = [*own_headers("merge_method"), *catalog.headers("merge_method")]
        for method in dict.fromkeys(merge.method for merge in recipe.spec.merges.values()):
            for header in (one for one in there if one.name == method):
                text = "; ".join(_PAPER.findall(" ".join(definition(header)[2].split())))
                yield from references(text, f"merge method {method}", method)
        if trained is not None:
            yield from references(trained.spec.source, f"recipe {trained.name}", trained.spec.summary)
    tasks = recipe.evaluation_tasks(catalog) if trained is not None or recipe.spec.evaluation is not None else []
    if trained is not None:
        yield from references(_PAPERS[trained.spec.method], f"method {trained.spec.method}", trained.spec.method)
        tasks = [*(task for adapter in trained.spec.adapters.values() for task in adapter.tasks), *tasks]
    model = recipe.model if isinstance(recipe, MergeRecipe) else recipe.spec.model
    yield from _of_model(model, catalog)
    for task in dict.fromkeys(tasks):
        yield from _of_task(task, catalog)


def _of_suite(name: str, catalog: Catalog) -> Iterator[Reference]:
    for task in suite_tasks(catalog, name):
        yield from _of_task(task, catalog)


def _of_task(name: str, catalog: Catalog) -> Iterator[Reference]:
    path = catalog.find("tasks", name)
    spec = parse(TaskSpec, read_yaml(path))
    about = f"task {name}"
    cited = list(references(spec.source, about, spec.summary))
    data = spec.dataset if isinstance(spec.dataset, DatasetSpec) else None
    dataset = list(
        _of_dataset(spec.dataset, catalog) if isinstance(spec.dataset, str) else _of_rows(name, data) if data else ()
    )
    # A source that is no more than the data set's place on the hub is that entry, which says more.
    yield from (one for one in cited if not any(_is_place(one, of.fields["title"]) for of in dataset))
    yield from dataset
    plugin = os.path.join(os.path.dirname(path), "plugin.py")
    own = [*catalog.headers("metric"), *(one for one in headers(plugin) if one.kind == "metric")]
    for metric in spec.metrics:
        yield from references(_metric_citation(metric, own), f"metric {metric}", metric)


def _is_place(reference: Reference, hub: str) -> bool:
    said = reference.fields.get("note", reference.fields.get("title", ""))
    return re.fullmatch(rf"{re.escape(hub)}(?: on the Hugging Face hub)?(?:, \d{{4}})?", said) is not None


def _metric_citation(name: str, plugins: Sequence[Header]) -> str:
    scorer = own_scorer(name)
    if scorer is not None:
        return scorer.citation
    for header in plugins:
        if header.name == name:
            try:
                text = ast.literal_eval(definition(header)[1].get("citation", "''"))
            except ValueError:  # Made by code, which isn't run for this.
                continue
            return text if isinstance(text, str) else ""
    return ""


def _of_dataset(name: str, catalog: Catalog) -> Iterator[Reference]:
    return _of_rows(name, parse(DatasetSpec, read_yaml(catalog.find("datasets", name))))


def _of_rows(name: str, spec: DatasetSpec) -> Iterator[Reference]:
    if spec.hub is not None:
        yield _on_hub(spec.hub, "datasets/", spec.revision, spec.license, f"data set {name}")


def _of_model(name: str, catalog: Catalog) -> Iterator[Reference]:
    if name not in catalog.files("models"):
        if "/" in name and not os.path.exists(name):
            yield _on_hub(name, "", None, None, f"model {name}")
        return
    spec = parse(ModelSpec, read_yaml(catalog.find("models", name)))
    about = f"model {name}"
    yield from references(spec.source, about, spec.summary)
    if spec.hub is not None:
        yield _on_hub(spec.hub, "", spec.revision, spec.license, about)
    elif spec.bundled is not None:
        yield _us(about)
    elif not spec.source:
        yield from references("a folder of your own", about, spec.summary)


def _on_hub(hub: str, folder: str, revision: str | None, license: str | None, about: str) -> Reference:
    notes = [f"revision {revision}" if revision else "", f"licence {license}" if license else ""]
    fields = {"author": hub.partition("/")[0], "title": hub, "url": f"https://huggingface.co/{folder}{hub}"}
    note = ", ".join(note for note in notes if note)
    key = re.sub(r"[^a-z0-9]+", "-", f"hf-{hub}".lower())
    return Reference(key, fields | ({"note": note} if note else {}), (about,))


def _us(about: str = "slmbench") -> Reference:
    from importlib.metadata import version

    title = "slmbench: declare a task once; train on it, evaluate on it, rank on it"
    fields = {"author": "The slmbench authors", "title": title, "note": f"Version {version('slmbench')}"}
    return Reference("slmbench", fields, (about,))
