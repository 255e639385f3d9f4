"""`slmbench run`: a whole recipe, from rows to leaderboard. Run again, it goes on where it was."""

from __future__ import annotations

import os

import click

from slmbench.catalog import Catalog, default_catalog
from slmbench.cli._recipes import RecipeOptions, evaluation_tasks, out_folder, recipe_options, refuse_to_replace
from slmbench.cli._work import DEFAULT_OUT, evaluate_all, quiet_libraries, show_leaderboard, train_recipe
from slmbench.console import say


@click.command("run", help="Train a RECIPE's adapters, evaluate base and adapters, write the leaderboard.")
@click.argument("recipe_name", metavar="RECIPE")
@recipe_options
@click.option("--out", type=click.Path(file_okay=False), help=f"{DEFAULT_OUT}, or slmbench-twin with --twin.")
@click.option(
    "--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even where no sandbox can hold it."
)
@click.option("--no-texts", is_flag=True, help="No prompts or outputs on the page: digests of them.")
@click.option("--json", "as_json", is_flag=True, help="The leaderboard as JSON on stdout, and nothing else there.")
def command(
    recipe_name: str,
    options: RecipeOptions,
    out: str | None,
    allow_unsafe_code: bool,
    no_texts: bool,
    as_json: bool,
) -> None:
    run_recipe(
        recipe_name,
        options,
        default_catalog(),
        out=out_folder(out, DEFAULT_OUT, options.twin),
        as_json=as_json,
        allow_unsafe_code=allow_unsafe_code,
        no_texts=no_texts,
    )


def run_recipe(
    recipe_name: str,
    options: RecipeOptions,
    catalog: Catalog,
    *,
    out: str,
    as_json: bool,
    allow_unsafe_code: bool = False,
    no_texts: bool = False,
) -> str:
    """Everything a recipe says; returns the path of the leaderboard's page."""
    from slmbench.evaluation import refuse_unscorable

    recipe, twin = options.recipe(recipe_name, catalog), options.twin
    spec = recipe.spec
    if twin:
        refuse_to_replace(recipe, list(spec.adapters), out)
    [tasks] = evaluation_tasks([recipe], catalog, options)
    quiet_libraries()
    refuse_unscorable(tasks, allow_unsafe_code=allow_unsafe_code)
    folders = train_recipe(recipe, catalog, out=out, data=options.data_mode, twin=twin, resume=options.resume)
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
        engine=spec.evaluation.engine,
        limit=spec.evaluation.limit,
        seed=spec.seed,
        allow_unsafe_code=allow_unsafe_code,
        twin=twin,
        no_texts=no_texts,
    )
    return show_leaderboard(
        [run.folder for run in runs],
        os.path.join(out, "leaderboard"),
        suite=spec.evaluation.suite,
        tasks=recipe.evaluation_tasks(catalog),
        as_json=as_json,
        no_texts=no_texts,
    )
