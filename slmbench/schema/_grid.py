"""The declaration of a matrix: models, adapters and recipes on tasks, in formats, with seeds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from slmbench.schema._base import Misfits, Name, Spec
from slmbench.schema._recipe import EngineName, FormatName
from slmbench.schema._task import CotMode
from slmbench.yamlfile import Location

Text = Annotated[str, Field(min_length=1)]
GridSeed = Annotated[int, Field(ge=0, lt=2**32)]


class GridRecipeSpec(Spec):
    """A recipe of a matrix, of either kind. set: overrides, dotted path -> value. only: these of its adapters."""

    recipe: Text
    variant: Name | None = None
    set: dict[str, Any] = Field(default={})
    only: Annotated[list[Name], Field(min_length=1)] | None = None


class GridExclusionSpec(Spec):
    """What is left out: everything that has all of what is said here."""

    model: Text | None = None
    adapter: Text | None = None
    recipe: Text | None = None
    task: Name | None = None
    format: FormatName | None = None
    seed: GridSeed | None = None

    @model_validator(mode="after")
    def _says_something(self) -> GridExclusionSpec:
        if not self.model_fields_set:
            raise ValueError("an exclusion says at least one of model, adapter, recipe, task, format and seed")
        return self


class GridSpec(Spec):
    """A matrix. models: names, folders, hub ids or .gguf files. adapters: folders, `*` in them allowed.

    Paths are looked up beside the matrix's file. recipes: each trained (or merged), then scored; seeds: of the
    trainings, how many or which, None for each recipe's own. tasks and suites together; without either each recipe's
    own. formats: each of them; none for that of the training, else plain. base: whether the models that adapters and
    recipes are made on are scored too. limit, shots, cot, samples, perplexity, batch, engine, data: as `slmbench eval`
    takes them.
    seed: of the evaluations. twin: tiny random copies of the models.
    """

    summary: Text
    models: list[Text] = Field(default=[])
    adapters: list[Text] = Field(default=[])
    recipes: list[Text | GridRecipeSpec] = Field(default=[])
    tasks: list[Name] = Field(default=[])
    suites: list[Name] = Field(default=[])
    formats: list[FormatName] = Field(default=[])
    seeds: Annotated[int, Field(ge=1, le=1000)] | Annotated[list[GridSeed], Field(min_length=1)] | None = None
    exclude: list[GridExclusionSpec] = Field(default=[])
    base: bool = True
    limit: int | None = Field(default=None, ge=1)
    shots: int | None = Field(default=None, ge=0)
    cot: CotMode | None = None
    samples: int | None = Field(default=None, ge=1, le=1000)
    batch: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    engine: EngineName = "shared"
    latency: bool = False
    perplexity: bool = False
    seed: GridSeed = 0
    data: Literal["auto", "samples"] = "auto"
    twin: bool = False

    @model_validator(mode="after")
    def _has_what_it_crosses(self) -> GridSpec:
        faults: list[tuple[Location, str]] = []
        if not (self.models or self.adapters or self.recipes):
            faults.append(((), "a matrix has at least one of 'models', 'adapters' and 'recipes'"))
        if not (self.tasks or self.suites) and (self.models or self.adapters):
            faults.append(((), "say what is scored: 'tasks' or 'suites'; recipes alone bring their own"))
        for key in ("models", "adapters", "recipes", "tasks", "suites", "formats"):
            given = [
                GridRecipeSpec(recipe=one) if key == "recipes" and isinstance(one, str) else one
                for one in getattr(self, key)
            ]
            listed = [str(value) for value in given]
            for i, value in enumerate(listed):
                if value in listed[:i]:
                    faults.append(((key, i), f"{key}: listed twice"))
        if isinstance(self.seeds, list) and len(set(self.seeds)) != len(self.seeds):
            faults.append((("seeds",), "seeds: one is listed twice"))
        if self.seeds is not None and not self.recipes:
            faults.append((("seeds",), "seeds are those of trainings, and no recipe is trained; drop them"))
        if faults:
            raise Misfits(faults)
        return self

    @property
    def training_seeds(self) -> list[int] | None:
        """The seeds of the trainings; None for each recipe's own."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
