"""A recipe's adapters, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slmbench.catalog import Catalog
from slmbench.errors import UsageError, did_you_mean
from slmbench.models import resolve_model
from slmbench.recipe import Recipe
from slmbench.training import refuse_small_splits, require_trackers, train_adapter


def train_recipe(
    recipe: Recipe,
    catalog: Catalog,
    *,
    out: str,
    data: str,
    only: Sequence[str] = (),
    twin: bool = False,
    resume: bool = True,
    track: Sequence[str] = (),
) -> list[str]:
    """Trains a recipe's adapters, each on a base loaded anew; returns their folders.

    Those that others go on from are trained first, also if only the others are asked for. track: trackers that are
    told of each, as `tensorboard`.
    """
    require_trackers(track)
    source = resolve_model(recipe.spec.model, catalog, twin=twin)
    options: dict[str, Any] = {"out": out, "data": data, "track": tuple(track)}
    chosen = chosen_adapters(recipe, only)
    ordered = recipe.spec.in_order(chosen)
    if not source.twin:
        refuse_small_splits(recipe, ordered, catalog, data)
    made = {}
    for name in ordered:
        made[name] = train_adapter(recipe, name, catalog, source, resume=resume or name not in chosen, **options)
    return [made[name] for name in chosen]


def chosen_adapters(recipe: Recipe, only: Sequence[str]) -> list[str]:
    """The recipe's adapters, or those asked for. Raises UsageError for a name that it lacks."""
    for name in only:
        if name not in recipe.spec.adapters:
            hint = did_you_mean(name, recipe.spec.adapters)
            raise UsageError(f"recipe {recipe.name!r} has no adapter {name!r}{hint}")
    return list(only or recipe.spec.adapters)
