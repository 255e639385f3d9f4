"""A recipe's published numbers beside what given runs measured, and those of the recipes that adapters are of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from slmbench.catalog import Catalog
from slmbench.console import say
from slmbench.errors import SlmbenchError
from slmbench.leaderboard import (
    BesideLine,
    Leaderboard,
    RunProblems,
    ScoredRun,
    build_leaderboard,
    read_runs,
    set_beside,
)
from slmbench.published import PublishedNumber, same_model
from slmbench.recipe import Recipe, load_recipe
from slmbench.visible import visible
from slmbench.yamlfile import read_yaml


def published_beside(
    numbers: Sequence[PublishedNumber], runs: Sequence[str], catalog: Catalog
) -> tuple[BesideLine, ...]:
    """The numbers, each with the scores that are its row's. runs: folders, or folders of runs; without any, none.

    Raises RunProblems if no run is what it claims; if some are, the others are left out, which is said.
    """
    if not runs:
        return set_beside(Leaderboard(None, (), ()), {}, numbers)
    found = read_runs([Path(run) for run in runs], catalog)
    if found.problems and not found.runs:
        raise RunProblems(list(found.problems))
    for folder in found.left_out:
        say(f"{visible(folder.name)}: left out, as it is not what it claims")
    tasks = list(dict.fromkeys(number.task for number in numbers))
    of_these = [run for run in found.runs if run.task in tasks]
    board = build_leaderboard(of_these, tasks=tasks)
    return set_beside(board, {run.run_id: run for run in of_these}, numbers)


def published_of(runs: Sequence[ScoredRun], catalog: Catalog) -> tuple[PublishedNumber, ...]:
    """The published numbers of the registry's recipes that the runs' adapters were trained by.

    Somebody's own recipe may have the name of one: the adapter has to be one of that recipe's, on one of its models and
    its tasks. Of a recipe that isn't sound nothing: it says so where it is asked for.
    """
    files = catalog.files("recipes")
    names = {str((run.record.get("adapter") or {}).get("recipe")) for run in runs}
    found: list[PublishedNumber] = []
    for name in sorted(names & set(files)):
        with suppress(SlmbenchError, OSError):
            declared = read_yaml(files[name]).data
            if isinstance(declared, dict) and declared.get("published"):
                recipe = load_recipe(name, catalog)
                if any(_is_of(run, recipe) for run in runs):
                    found += recipe.published
    return tuple(found)


def _is_of(run: ScoredRun, recipe: Recipe) -> bool:
    """Whether a run's adapter may be one that a recipe, or a variant, or a twin of either makes, whatever was set."""
    adapter = run.record.get("adapter") or {}
    model = run.model.removesuffix("-twin")
    made = [maker.spec for maker in recipe.makers]
    if adapter.get("recipe") != recipe.name or not any(same_model(spec.model, model) for spec in made):
        return False
    declared = [set(spec.adapters[run.adapter].tasks) for spec in made if run.adapter in spec.adapters]
    return set(adapter.get("tasks") or ()) in declared
