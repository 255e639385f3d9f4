"""A recipe's adapters, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slmbench.catalog import Catalog
from slmbench.errors import UsageError, did_you_mean
from slmbench.models import resolve_model
from slmbench.recipe import Recipe
from slmbench.training import train_adapter


def train_recipe(
    recipe: Recipe,
    catalog: Catalog,
    *,
    out: str,
    data: str,
    only: Sequence[str] = (),
    twin: bool = False,
    resume: bool = True,
) -> list[str]:
    """Trains a recipe's adapters, each on a base loaded anew; returns their folders."""
    source = resolve_model(recipe.spec.model, catalog, twin=twin)
    options: dict[str, Any] = {"out": out, "data": data, "resume": resume}
    folders = []
    for name in chosen_adapters(recipe, only):
        folders.append(train_adapter(recipe, name, catalog, source, **options))
    return folders


def chosen_adapters(recipe: Recipe, only: Sequence[str]) -> list[str]:
    """The recipe's adapters, or those asked for. Raises UsageError for a name that it lacks."""
    for name in only:
        if name not in recipe.spec.adapters:
            hint = did_you_mean(name, recipe.spec.adapters)
            raise UsageError(f"recipe {recipe.name!r} has no adapter {name!r}{hint}")
    return list(only or recipe.spec.adapters)
