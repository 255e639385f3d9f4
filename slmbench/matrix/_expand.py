"""From a matrix to its cells: everything that it crosses, each once, all of it sound before anything is begun."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import evolve, field, frozen

from slmbench.catalog import Catalog
from slmbench.datasets import count_lines, count_rows, local_source
from slmbench.errors import DeclarationError, Problem, SlmbenchError, UsageError
from slmbench.formats import load_format
from slmbench.matrix._models import GridModels, held
from slmbench.matrix._recipes import GridRecipes, needed
from slmbench.matrix._values import GridAsking, GridCell, GridSubject, GridTraining
from slmbench.models import read_adapter
from slmbench.paths import shown
from slmbench.recipe import suite_tasks
from slmbench.registry import Registry
from slmbench.schema import GridExclusionSpec, GridSpec, parse
from slmbench.seal import canonical_sha256
from slmbench.task import Task, formats_of, load_task
from slmbench.yamlfile import Document, Location, read_yaml


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
        self._tasks: dict[str, tuple[Task, Registry]] = {}
        self.models = GridModels(self.folder, catalog, twin=spec.twin)

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
            perplexity=spec.perplexity,
        )
        cells: list[GridCell] = []
        subjects = [*self._models(), *self._adapters()]
        formats: Sequence[str | None] = spec.formats or [None]
        askings = [evolve(asking, format=format) for format in formats]
        cells += [GridCell(*parts) for parts in itertools.product(subjects, askings, tasks)]
        trainings: list[GridTraining] = []
        recipes = GridRecipes(self.folder, spec, self.catalog, self.models, asking, tasks)
        for i, given in enumerate(spec.recipes):
            try:
                for training, more in recipes.of(given):
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
        return Grid(self.path, spec, tuple(kept), tuple(needed(trainings, kept)), tuple(notices), items)

    def _problem(self, at: Location, error: Exception) -> None:
        said = str(error)
        if isinstance(error, OSError):
            place = f"{shown(error.filename)}: " if isinstance(error.filename, str) else ""
            said = f"{place}can't be read: {error.strerror}"
        self.problems.append(self.document.problem(at, " ".join(said.split("\n"))))

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
                model = self.models.beside(name)
                yield GridSubject(model=model, identity=self.models.identity(model))
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
                base = GridSubject(model=subject.model, identity=self.models.identity(subject.model), held=subject.held)
                bases.setdefault((base.model, base.held), base)
            yield subject
        yield from bases.values()

    def _adapter(self, folder: str) -> GridSubject:
        info = read_adapter(folder)
        record = info.training
        said = info.config.base_model_name_or_path if record is None or record.model is None else record.model
        model = self.models.declared(self.models.beside(str(said).removesuffix("-twin")))
        return GridSubject(
            model=model,
            identity=canonical_sha256([self.models.identity(model), info.sha256]),
            name=info.name,
            place=folder,
            held=held(None if record is None else record.packing),
            seed=None,
        )

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
