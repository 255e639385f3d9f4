"""What `slmbench check` says of a recipe: everything that is wrong with its file and with what it names."""

from __future__ import annotations

import os

from slmbench.catalog import Catalog
from slmbench.checks import CheckReport
from slmbench.errors import DeclarationError, Problem, SlmbenchError, UsageError
from slmbench.merge_recipe import MergeRecipe, load_merge_recipe
from slmbench.paths import shown
from slmbench.recipe import Recipe, find_recipe, load_recipe
from slmbench.workflow.recipes import is_merge_recipe


def load_either(
    name: str, catalog: Catalog, overrides: tuple[str, ...] = (), *, variant: str | None = None
) -> Recipe | MergeRecipe:
    """A `Recipe` or a `MergeRecipe`, by the kind that its file declares. Raises UsageError or DeclarationError."""
    if not is_merge_recipe(name, catalog):
        return load_recipe(name, catalog, overrides, variant=variant)
    if variant is not None:
        raise UsageError(f"recipe {name!r} is of kind merge, which has no variants; its `train` may name one")
    return load_merge_recipe(name, catalog, overrides)


def is_recipe(name: str, catalog: Catalog) -> bool:
    """Whether a name, or a YAML file, is a recipe's and no task's."""
    if name in catalog.files("tasks"):
        return False
    named = name.endswith((".yaml", ".yml")) and os.path.isfile(name) and os.path.basename(name) != "task.yaml"
    return named or name in catalog.files("recipes")


def check_recipe(name: str, catalog: Catalog) -> CheckReport:
    """A report of one recipe, of either kind; nothing of it is run."""
    path, stem = find_recipe(name, catalog)
    try:
        kind = "recipe" if isinstance(load_either(name, catalog), Recipe) else "merge"
    except DeclarationError as error:
        return CheckReport(stem, tuple(error.problems), "recipe")
    except SlmbenchError as error:
        return CheckReport(stem, (Problem(shown(path), 0, 0, str(error)),), "recipe")
    return CheckReport(stem, (), kind)
