"""`slmbench run`: a whole recipe, from rows to leaderboard. Run again, it goes on where it was."""

from __future__ import annotations

import os

import click

from slmbench.catalog import Catalog, default_catalog
from slmbench.cli._work import DEFAULT_OUT, evaluate_all, quiet_libraries, say, show_leaderboard, train_recipe


@click.command("run", help="Train a RECIPE's adapters, evaluate base and adapters, write the leaderboard.")
@click.argument("recipe_name", metavar="RECIPE")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As in --set optim.lr=1e-4; checked.")
@click.option("--data", type=click.Choice(["auto", "samples"]), default="auto", show_default=True)
@click.option("--out", default=DEFAULT_OUT, show_default=True, type=click.Path(file_okay=False))
@click.option(
    "--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even where no sandbox can hold it."
)
@click.option("--json", "as_json", is_flag=True, help="The leaderboard as JSON on stdout, and nothing else there.")
def command(
    recipe_name: str, overrides: tuple[str, ...], data: str, out: str, allow_unsafe_code: bool, as_json: bool
) -> None:
    options = {"data": data, "out": out, "as_json": as_json, "allow_unsafe_code": allow_unsafe_code}
    run_recipe(recipe_name, overrides, default_catalog(), **options)


def run_recipe(
    recipe_name: str,
    overrides: tuple[str, ...],
    catalog: Catalog,
    *,
    data: str,
    out: str,
    as_json: bool,
    allow_unsafe_code: bool = False,
) -> str:
    """Everything a recipe says; returns the path of the leaderboard's page."""
    from slmbench.recipe import load_recipe
    from slmbench.task import Settings, load_task

    recipe = load_recipe(recipe_name, catalog, overrides)
    spec = recipe.spec
    # Loaded before anything is trained: a broken task must not come to light after an hour of training.
    names = recipe.evaluation_tasks(catalog)
    declared = [load_task(name, catalog, data=data) for name in names]
    # The recipe's mode is that of its training; tasks that declare no chain of thought are evaluated as they are.
    cot = spec.cot if any(task.spec.cot for task in declared) else None
    metrics = tuple(spec.evaluation.metrics) if spec.evaluation.metrics else None
    tasks, notices = Settings(spec.shots, cot, spec.evaluation.samples, metrics).of(declared)
    for notice in notices:
        say(f"note: {notice}")
    for task in tasks:
        task.examples(task.spec.split, spec.evaluation.limit)
    quiet_libraries()
    folders = train_recipe(recipe, catalog, out=out, data=data)
    if spec.evaluation.limit is not None:
        say(f"evaluation.limit {spec.evaluation.limit}: these rows will be badged and not ranked")
    runs = evaluate_all(
        spec.model,
        folders,
        tasks,
        catalog,
        out=out,
        format=spec.format,
        batch=spec.evaluation.batch,
        limit=spec.evaluation.limit,
        seed=spec.seed,
        allow_unsafe_code=allow_unsafe_code,
    )
    return show_leaderboard(
        [run.folder for run in runs],
        os.path.join(out, "leaderboard"),
        suite=spec.evaluation.suite,
        tasks=names,
        as_json=as_json,
    )
