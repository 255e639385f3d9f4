"""The recipes of a matrix: what each makes with each seed, and the cells that score it."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import evolve, frozen

from slmbench.catalog import Catalog
from slmbench.errors import UsageError
from slmbench.matrix._models import GridModels, held
from slmbench.matrix._values import KEY_DIGITS, GridAsking, GridCell, GridSubject, GridTraining
from slmbench.merge_recipe import MergeRecipe, load_merge_recipe
from slmbench.recipe import Recipe, find_recipe, kind_of, load_recipe
from slmbench.schema import GridRecipeSpec, GridSpec, QuantizationSpec, RecipeSpec, result_name
from slmbench.seal import canonical_sha256
from slmbench.yamlfile import read_yaml

LONGEST_NAME = 60


@frozen
class AskedRecipe:
    """A recipe as an entry of a matrix asks for it. name: or path. seed: None for its own. overrides: as --set's."""

    entry: GridRecipeSpec
    name: str
    seed: int | None
    overrides: tuple[str, ...]

    def with_seed(self, *keys: str) -> AskedRecipe:
        """With its seed, if it has one, under these keys of the recipe."""
        if self.seed is None:
            return self
        return evolve(self, overrides=(*self.overrides, *(f"{key}={self.seed}" for key in keys)))

    def _name(self, recipe: str) -> str:
        """What people call it: the recipe with what the entry says of it, as `nano-quickstart+note(lr=0.001)`."""
        entry = self.entry
        named = "+".join(["-".join(filter(None, (recipe, entry.variant))), *(entry.only or ())])
        said = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in (entry.set or {}).items())
        whole = "".join((f"{named}({said})" if said else named).split())
        return whole if len(whole) <= LONGEST_NAME else f"{whole[:LONGEST_NAME]}…"

    def training(self, kind: str, recipe: str, own_seed: int, products: Mapping[str, str]) -> GridTraining:
        """What it makes. recipe: its name. products: name -> what its weights depend on, by a digest."""
        parts = [recipe, *([self.entry.variant] if self.entry.variant else [])]
        if self.entry.set or self.entry.only:
            parts.append(canonical_sha256([self.entry.set, self.entry.only])[:8])
        seed = own_seed if self.seed is None else self.seed
        return GridTraining(
            recipe=self.name,
            kind=kind,
            name=self._name(recipe),
            place=os.path.join("trained", "-".join(parts), f"seed-{seed}"),
            overrides=self.overrides,
            variant=self.entry.variant,
            only=tuple(self.entry.only or ()),
            products=tuple((name, digest[:KEY_DIGITS]) for name, digest in products.items()),
            seed=seed,
        )


@frozen
class GridRecipes:
    """From entries of a matrix to trainings. tasks: those of the matrix, empty for each recipe's own."""

    folder: str
    spec: GridSpec
    catalog: Catalog
    models: GridModels
    asking: GridAsking
    tasks: Sequence[str]

    def of(self, given: str | GridRecipeSpec) -> Iterator[tuple[GridTraining, list[GridCell]]]:
        """What an entry makes with each seed, and the cells of it and its base. Raises UsageError, DeclarationError."""
        entry = GridRecipeSpec(recipe=given) if isinstance(given, str) else given
        path = os.path.normpath(os.path.join(self.folder, entry.recipe))
        name = path if entry.recipe.endswith((".yaml", ".yml")) and os.path.isfile(path) else entry.recipe
        make = self._merging if kind_of(read_yaml(find_recipe(name, self.catalog)[0])) == "merge" else self._training
        overrides = tuple(f"{key}={json.dumps(value)}" for key, value in entry.set.items())
        for seed in self.spec.training_seeds or (None,):
            yield make(AskedRecipe(entry, name, seed, overrides))

    def _training(self, asked: AskedRecipe) -> tuple[GridTraining, list[GridCell]]:
        asked = asked.with_seed("seed")
        recipe = load_recipe(asked.name, self.catalog, asked.overrides, variant=asked.entry.variant)
        only = _only(asked, recipe.spec.adapters, f"recipe {recipe.name!r} has no adapter")
        model = self.models.beside(recipe.spec.model)
        identity = self.models.identity(model)
        products = {one: canonical_sha256([recipe.digest_of(one), identity]) for one in only}
        training = asked.training("train", recipe.name, recipe.spec.seed, products)
        training = evolve(training, processes=recipe.spec.launch.processes)
        return training, self._cells(training, model, recipe)

    def _merging(self, asked: AskedRecipe) -> tuple[GridTraining, list[GridCell]]:
        if asked.entry.variant is not None:
            raise UsageError(f"recipe {asked.name!r} is of kind merge, which has no variants")
        recipe = load_merge_recipe(asked.name, self.catalog, asked.overrides)
        if asked.seed is not None:
            asked = asked.with_seed("seed", *(["train.set.seed"] if recipe.train is not None else []))
            recipe = load_merge_recipe(asked.name, self.catalog, asked.overrides)
        only = _only(asked, recipe.spec.merges, f"recipe {recipe.name!r} has no merge")
        model = self.models.beside(recipe.model)
        results = [result_name(merge, one) for merge in only for one in recipe.spec.merges[merge].seeds or (None,)]
        # Trained inputs, with what their weights depend on.
        inputs = {} if recipe.train is None else {name: recipe.train.digest_of(name) for name in recipe.adapters}
        whole = canonical_sha256(
            [recipe.spec.model_dump(mode="json", exclude={"published"}), self.models.identity(model), inputs]
        )
        products = {one: canonical_sha256([whole, one]) for one in [*inputs, *results]}
        training = asked.training("merge", recipe.name, recipe.spec.seed, products)
        if recipe.train is not None:
            training = evolve(training, processes=recipe.train.spec.launch.processes)
        return training, self._cells(training, model, recipe)

    def _cells(self, training: GridTraining, model: str, recipe: Recipe | MergeRecipe) -> list[GridCell]:
        trained = recipe if isinstance(recipe, Recipe) else recipe.train
        packed = "" if trained is None else held(_packing(trained.spec))
        identity = self.models.identity(model)
        base = GridSubject(model=model, identity=identity, held=packed)
        subjects = [base] if self.spec.base else []
        for name, key in training.products:
            made = evolve(base, identity=key, name=name, place=training.place, made=True)
            subjects.append(evolve(made, recipe=training.recipe, seed=training.seed))
        scored = self.tasks or recipe.evaluation_tasks(self.catalog)
        return [GridCell(*parts) for parts in itertools.product(subjects, self._askings(recipe), scored)]

    def _askings(self, recipe: Recipe | MergeRecipe) -> list[GridAsking]:
        """How a recipe's base and results are asked: as it trains and evaluates, where the matrix doesn't say."""
        asking = self.asking
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
            metrics=None if self.tasks or evaluation.metrics is None else tuple(evaluation.metrics),
            perplexity=asking.perplexity or evaluation.perplexity,
        )
        formats = self.spec.formats or [recipe.spec.format or (train.spec.format if train is not None else "plain")]
        return [evolve(made, format=format) for format in formats]


def _only(asked: AskedRecipe, there: Iterable[str], lacks: str) -> list[str]:
    """The names that an entry asks for, all of them by default. lacks: what is said of one that isn't there."""
    known = list(there)
    for name in asked.entry.only or ():
        if name not in known:
            raise UsageError(f"{lacks} {name!r}")
    return list(asked.entry.only or known)


def _packing(spec: RecipeSpec) -> QuantizationSpec | None:
    """How a recipe's base is packed while it is trained."""
    return (spec.quantization or QuantizationSpec()) if spec.method == "qlora" else None


def needed(trainings: Iterable[GridTraining], cells: Iterable[GridCell]) -> list[GridTraining]:
    """Trainings as far as some cell scores what they make. A merge is made with all that goes in."""
    scored: dict[str, set[str]] = {}
    for subject in {cell.subject for cell in cells if cell.subject.made}:
        scored.setdefault(str(subject.place), set()).add(subject.name)
    found = []
    for training in trainings:
        names = scored.get(training.place, set())
        products = tuple(one for one in training.products if training.kind == "merge" or one[0] in names)
        if names:
            found.append(evolve(training, products=products))
    return found
