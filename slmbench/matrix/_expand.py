"""From a matrix to its cells: everything that it crosses, each once, all of it sound before anything is begun."""

from __future__ import annotations

import glob
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import evolve, field, frozen

from slmbench.catalog import Catalog
from slmbench.datasets import count_lines, count_rows, local_source
from slmbench.errors import DeclarationError, Problem, SlmbenchError, UsageError
from slmbench.formats import load_format
from slmbench.matrix._values import KEY_DIGITS, GridAsking, GridCell, GridSubject, GridTraining
from slmbench.merge_recipe import MergeRecipe, load_merge_recipe
from slmbench.models import read_adapter, resolve_model
from slmbench.recipe import Recipe, find_recipe, kind_of, load_recipe, suite_tasks
from slmbench.registry import Registry
from slmbench.schema import GridExclusionSpec, GridRecipeSpec, GridSpec, RecipeSpec, parse, result_name
from slmbench.seal import canonical_sha256
from slmbench.task import Task, formats_of, load_task
from slmbench.yamlfile import Document, Location, read_yaml

WEIGHTS = (".safetensors", ".gguf", ".bin")


@frozen
class Grid:
    """A validated matrix and what it crosses. items: task -> about how many it has, None if only reading them tells."""

    path: str
    spec: GridSpec
    cells: tuple[GridCell, ...]
    trainings: tuple[GridTraining, ...]
    notices: tuple[str, ...] = ()
    items: Mapping[str, int | None] = field(factory=dict, repr=False)

    @property
    def name(self) -> str:
        return os.path.splitext(os.path.basename(self.path))[0]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(cell.task for cell in self.cells))


def load_grid(path: str, catalog: Catalog) -> Grid:
    """A matrix out of its file. Raises DeclarationError with every problem of it at once, UsageError."""
    document = read_yaml(path)
    spec = parse(GridSpec, document)
    return _Expansion(path, document, spec, catalog).grid()


class _Expansion:
    """The state of one expansion: what was looked up is looked up once, and problems are gathered."""

    def __init__(self, path: str, document: Document, spec: GridSpec, catalog: Catalog) -> None:
        self.path, self.document, self.spec, self.catalog = path, document, spec, catalog
        self.folder = os.path.dirname(os.path.abspath(path))
        self.problems: list[Problem] = []
        self._identities: dict[str, str] = {}
        self._tasks: dict[str, tuple[Task, Registry]] = {}
        self._hub_ids: dict[str, str] = {}

    def grid(self) -> Grid:
        spec = self.spec
        tasks = self._tasks_of_grid()
        asking = GridAsking(
            shots=spec.shots,
            cot=spec.cot,
            samples=spec.samples,
            limit=spec.limit,
            seed=spec.seed,
            batch=spec.batch,
            engine=spec.engine,
            latency=spec.latency,
        )
        cells: list[GridCell] = []
        subjects = [*self._models(), *self._adapters()]
        formats: Sequence[str | None] = spec.formats or [None]
        askings = [evolve(asking, format=format) for format in formats]
        cells += [GridCell(*parts) for parts in itertools.product(subjects, askings, tasks)]
        trainings: list[GridTraining] = []
        for i, given in enumerate(spec.recipes):
            try:
                for training, more in self._recipe(given, asking, tasks):
                    trainings.append(training)
                    cells += more
            except (UsageError, DeclarationError) as error:
                self._problem(("recipes", i), error)
        # A task is wrong also if nothing that would be scored on it is right.
        digests = self._digests({(cell.task, cell.asking.format) for cell in cells} | {(task, None) for task in tasks})
        if self.problems:
            raise DeclarationError(self.problems)
        told = (
            GridCell(cell.subject, cell.asking, cell.task, digests[cell.task, cell.asking.format]) for cell in cells
        )
        kept, notices = self._kept(told)
        if not kept:
            raise DeclarationError([self.document.problem(("exclude",), "exclude: nothing is left of the matrix")])
        items = {name: _items_of(task) for name, (task, _) in self._tasks.items()}
        return Grid(self.path, spec, tuple(kept), tuple(trainings), tuple(notices), items)

    def _problem(self, at: Location, error: Exception) -> None:
        self.problems.append(self.document.problem(at, " ".join(str(error).split("\n"))))

    def _tasks_of_grid(self) -> list[str]:
        names: list[str] = list(self.spec.tasks)
        for i, suite in enumerate(self.spec.suites):
            try:
                names += suite_tasks(self.catalog, suite)
            except (UsageError, DeclarationError) as error:
                self._problem(("suites", i), error)
        return list(dict.fromkeys(names))

    def _digests(self, asked: set[tuple[str, str | None]]) -> dict[tuple[str, str | None], str]:
        """(task, format) -> the digest of its declaration, hooks and metrics in that format."""
        found = {}
        for name, format in sorted(asked, key=lambda one: (one[0], one[1] or "")):
            at: Location = ("tasks", self.spec.tasks.index(name)) if name in self.spec.tasks else ()
            try:
                if name not in self._tasks:
                    loaded = load_task(name, self.catalog, data=_data(self.spec))
                    self._tasks[name] = loaded, formats_of([loaded], self.catalog)
                task, formats = self._tasks[name]
                style = load_format(format or "plain", formats)
                found[name, format] = task.in_format(style).digest(style)
            except (SlmbenchError, OSError) as error:
                self._problem(at, error)
        return found

    def _models(self) -> Iterator[GridSubject]:
        for i, name in enumerate(self.spec.models):
            try:
                model = self._beside(name)
                yield GridSubject(model=model, identity=self._identity_of_model(model))
            except (SlmbenchError, OSError) as error:
                self._problem(("models", i), error)

    def _adapters(self) -> Iterator[GridSubject]:
        found: dict[str, int] = {}
        for i, pattern in enumerate(self.spec.adapters):
            folders = sorted(glob.glob(os.path.join(self.folder, pattern)))
            for folder in (one for one in folders if os.path.isdir(one)):
                found.setdefault(os.path.normpath(folder), i)
            if not folders:
                self._problem(("adapters", i), UsageError(f"no folder is called {pattern}"))
        bases: dict[tuple[str, str], GridSubject] = {}
        for folder, i in found.items():
            try:
                subject = self._adapter(folder)
            except (SlmbenchError, OSError) as error:
                self._problem(("adapters", i), error)
                continue
            if self.spec.base:
                base = GridSubject(
                    model=subject.model, identity=self._identity_of_model(subject.model), held=subject.held
                )
                bases.setdefault((base.model, base.held), base)
            yield subject
        yield from bases.values()

    def _adapter(self, folder: str) -> GridSubject:
        info = read_adapter(folder)
        record = info.training
        said = info.config.base_model_name_or_path if record is None or record.model is None else record.model
        model = self._declared(self._beside(str(said).removesuffix("-twin")))
        held = "" if record is None or record.packing is None else record.packing.model_dump_json()
        return GridSubject(
            model=model,
            identity=canonical_sha256([self._identity_of_model(model), info.sha256]),
            name=info.name,
            place=folder,
            held=held,
            seed=None,
        )

    def _beside(self, name: str) -> str:
        """A model's name; of a folder or file beside the matrix its path."""
        path = os.path.normpath(os.path.join(self.folder, name))
        return path if name not in self.catalog.files("models") and os.path.exists(path) else name

    def _declared(self, hub_id: str) -> str:
        """A hub id by the name under which it is declared, as other tools' adapters know their base by its id alone."""
        if not self._hub_ids:
            for name, path in self.catalog.files("models").items():
                declared = read_yaml(path).data
                if isinstance(declared, dict) and isinstance(declared.get("hub"), str):
                    self._hub_ids.setdefault(declared["hub"], name)
        return self._hub_ids.get(hub_id, hub_id)

    def _identity_of_model(self, name: str) -> str:
        if name not in self._identities:
            source = resolve_model(name, self.catalog, twin=self.spec.twin, unpacked=False)
            place = "" if os.path.exists(source.location) else source.location
            self._identities[name] = canonical_sha256([place, source.revision, *_stamps(source.given)])
        return self._identities[name]

    def _recipe(
        self, given: str | GridRecipeSpec, asking: GridAsking, tasks: Sequence[str]
    ) -> Iterator[tuple[GridTraining, list[GridCell]]]:
        asked = GridRecipeSpec(recipe=given) if isinstance(given, str) else given
        name = self._recipe_name(asked.recipe)
        is_merge = kind_of(read_yaml(find_recipe(name, self.catalog)[0])) == "merge"
        seeds: Sequence[int | None] = self.spec.training_seeds or [None]
        for seed in seeds:
            overrides = [f"{key}={json.dumps(value)}" for key, value in asked.set.items()]
            if is_merge:
                yield self._merging(asked, name, overrides, seed, asking, tasks)
            else:
                yield self._training(asked, name, overrides, seed, asking, tasks)

    def _recipe_name(self, name: str) -> str:
        path = os.path.normpath(os.path.join(self.folder, name))
        return path if name.endswith((".yaml", ".yml")) and os.path.isfile(path) else name

    def _training(
        self,
        asked: GridRecipeSpec,
        name: str,
        overrides: list[str],
        seed: int | None,
        asking: GridAsking,
        tasks: Sequence[str],
    ) -> tuple[GridTraining, list[GridCell]]:
        if seed is not None:
            overrides = [*overrides, f"seed={seed}"]
        recipe = load_recipe(name, self.catalog, overrides, variant=asked.variant)
        only = asked.only or list(recipe.spec.adapters)
        for adapter in only:
            if adapter not in recipe.spec.adapters:
                raise UsageError(f"recipe {recipe.name!r} has no adapter {adapter!r}")
        model = self._beside(recipe.spec.model)
        identity = self._identity_of_model(model)
        products = tuple((one, canonical_sha256([recipe.digest_of(one), identity])[:KEY_DIGITS]) for one in only)
        training = self._made(asked, name, recipe.name, "train", overrides, seed, products, recipe.spec.seed)
        held = _held(recipe.spec)
        scored = list(tasks) or recipe.evaluation_tasks(self.catalog)
        return training, self._cells(training, model, held, self._askings(asking, recipe, bool(tasks)), scored)

    def _merging(
        self,
        asked: GridRecipeSpec,
        name: str,
        overrides: list[str],
        seed: int | None,
        asking: GridAsking,
        tasks: Sequence[str],
    ) -> tuple[GridTraining, list[GridCell]]:
        if asked.variant is not None:
            raise UsageError(f"recipe {name!r} is of kind merge, which has no variants")
        recipe = load_merge_recipe(name, self.catalog, overrides)
        if seed is not None:
            overrides = [*overrides, f"seed={seed}"]
            if recipe.train is not None:
                overrides.append(f"train.set.seed={seed}")
            recipe = load_merge_recipe(name, self.catalog, overrides)
        only = asked.only or list(recipe.spec.merges)
        for merge in only:
            if merge not in recipe.spec.merges:
                raise UsageError(f"recipe {recipe.name!r} has no merge {merge!r}")
        model = self._beside(recipe.model)
        results = [result_name(merge, one) for merge in only for one in recipe.spec.merges[merge].seeds or (None,)]
        inputs = self._inputs(recipe)
        whole = canonical_sha256([recipe.spec.model_dump(mode="json"), self._identity_of_model(model), inputs])
        products = tuple((one, canonical_sha256([whole, one])[:KEY_DIGITS]) for one in [*inputs, *results])
        training = self._made(asked, name, recipe.name, "merge", overrides, seed, products, recipe.spec.seed)
        held = "" if recipe.train is None else _held(recipe.train.spec)
        scored = list(tasks) or recipe.evaluation_tasks(self.catalog)
        return training, self._cells(training, model, held, self._askings(asking, recipe, bool(tasks)), scored)

    def _inputs(self, recipe: MergeRecipe) -> dict[str, str]:
        """The trained inputs of a merge, with what their weights depend on."""
        if recipe.train is None:
            return {}
        return {name: recipe.train.digest_of(name) for name in recipe.adapters}

    def _made(
        self,
        asked: GridRecipeSpec,
        given: str,
        name: str,
        kind: str,
        overrides: Sequence[str],
        seed: int | None,
        products: tuple[tuple[str, str], ...],
        own_seed: int,
    ) -> GridTraining:
        parts = [name, *([asked.variant] if asked.variant else [])]
        if asked.set or asked.only:
            parts.append(canonical_sha256([asked.set, asked.only])[:8])
        return GridTraining(
            recipe=given,
            kind=kind,
            name="-".join(parts),
            place=os.path.join("trained", "-".join(parts), f"seed-{own_seed if seed is None else seed}"),
            overrides=tuple(overrides),
            variant=asked.variant,
            only=tuple(asked.only or ()),
            products=products,
            seed=own_seed if seed is None else seed,
        )

    def _askings(self, asking: GridAsking, recipe: Recipe | MergeRecipe, own_tasks: bool) -> list[GridAsking]:
        """How a recipe's base and results are asked: as it trains and evaluates, where the matrix doesn't say."""
        train = recipe if isinstance(recipe, Recipe) else recipe.train
        evaluation = recipe.spec.evaluation if isinstance(recipe, Recipe) else recipe.evaluation
        assert evaluation is not None
        shots, cot = (None, None) if train is None else (train.spec.shots, train.spec.cot)
        made = evolve(
            asking,
            shots=asking.shots if asking.shots is not None else shots,
            cot=asking.cot or cot,
            samples=asking.samples or evaluation.samples,
            limit=asking.limit or evaluation.limit,
            max_tokens=evaluation.max_tokens,
            metrics=None if own_tasks or evaluation.metrics is None else tuple(evaluation.metrics),
        )
        formats = self.spec.formats or [recipe.spec.format or (train.spec.format if train is not None else "plain")]
        return [evolve(made, format=format) for format in formats]

    def _cells(
        self, training: GridTraining, model: str, held: str, askings: Iterable[GridAsking], tasks: Sequence[str]
    ) -> list[GridCell]:
        identity = self._identity_of_model(model)
        subjects = [GridSubject(model=model, identity=identity, held=held)] if self.spec.base else []
        for name, key in training.products:
            subjects.append(
                GridSubject(
                    model=model,
                    identity=key,
                    name=name,
                    place=training.place,
                    made=True,
                    held=held,
                    recipe=training.recipe,
                    seed=training.seed,
                )
            )
        return [GridCell(*parts) for parts in itertools.product(subjects, askings, tasks)]

    def _kept(self, cells: Iterable[GridCell]) -> tuple[list[GridCell], list[str]]:
        """(the cells that are not excluded, each once; what to tell of exclusions that exclude nothing)."""
        rules = self.spec.exclude
        used = [0] * len(rules)
        kept: dict[str, GridCell] = {}
        for cell in cells:
            out = False
            for i, rule in enumerate(rules):
                if _excludes(rule, cell):
                    used[i] += 1
                    out = True
            if not out:
                kept.setdefault(cell.key, cell)
        idle = [f"exclude: the {i + 1}. one fits nothing" for i, count in enumerate(used) if not count]
        return list(kept.values()), idle


def _excludes(rule: GridExclusionSpec, cell: GridCell) -> bool:
    subject = cell.subject
    told = {
        "model": (subject.model, os.path.basename(subject.model)),
        "adapter": (subject.name,),
        "recipe": (subject.recipe, os.path.splitext(os.path.basename(subject.recipe or ""))[0]),
        "task": (cell.task,),
        "format": (cell.asking.format or "plain",),
        "seed": (subject.seed,),
    }
    return all(getattr(rule, key) in told[key] for key in rule.model_fields_set)


def _items_of(task: Task) -> int | None:
    """About how many items a task is evaluated on, all of them; None if only reading them tells."""
    split = task.spec.split
    golden = task.data == "samples" or (task.data == "twin" and local_source(task.dataset, split) is None)
    return count_lines(task.samples_path) if golden else count_rows(task.dataset, split)


def _data(spec: GridSpec) -> str:
    return "twin" if spec.twin and spec.data == "auto" else spec.data


def _held(spec: RecipeSpec) -> str:
    """How a recipe's base is packed while it is trained, "" for as it is."""
    if spec.method != "qlora":
        return ""
    return "nf4" if spec.quantization is None else spec.quantization.model_dump_json()


def _stamps(path: str) -> list[list[object]]:
    """Name, size and time of the weights in a folder, or of a file; nothing of what lies elsewhere."""
    if os.path.isfile(path):
        files: Mapping[str, str] = {os.path.basename(path): path}
    elif os.path.isdir(path):
        files = {name: os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(WEIGHTS)}
    else:
        return []
    stamps = {name: os.stat(file) for name, file in files.items()}
    return [[name, stamp.st_size, stamp.st_mtime_ns] for name, stamp in stamps.items()]
