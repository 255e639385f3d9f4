"""`slmbench run`: a whole recipe, from rows to leaderboard. Run again, it goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from slmbench.catalog import Catalog, default_catalog
from slmbench.cli._plans import print_evaluation, print_plans
from slmbench.cli._recipes import RecipeOptions, evaluation_tasks, out_folder, recipe_options, refuse_to_replace
from slmbench.cli._work import (
    DEFAULT_OUT,
    chosen_adapters,
    evaluate_all,
    listed,
    quiet_libraries,
    show_leaderboard,
    train_recipe,
)
from slmbench.console import say
from slmbench.errors import UsageError


@click.command("run", help="Train a RECIPE's adapters, evaluate base and adapters, write the leaderboard.")
@click.argument("recipe_name", metavar="RECIPE")
@click.option("--adapter", "only", multiple=True, help="Only this adapter of the recipe; may be given again.")
@click.option("--metrics", "metric_names", help="Only these of the tasks' metrics, with commas between.")
@click.option("--limit", type=click.IntRange(1), help="The first N items alone. Such rows are badged and not ranked.")
@click.option("--dry-run", is_flag=True, help="What would be trained and asked, memory and time; nothing is written.")
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
    only: tuple[str, ...],
    metric_names: str | None,
    limit: int | None,
    dry_run: bool,
    out: str | None,
    allow_unsafe_code: bool,
    no_texts: bool,
    as_json: bool,
) -> None:
    if dry_run and as_json:
        raise UsageError("--json is the leaderboard's, and a dry run makes none; leave one of the two out")
    run_recipe(
        recipe_name,
        options,
        default_catalog(),
        out=out_folder(out, DEFAULT_OUT, options.twin),
        as_json=as_json,
        allow_unsafe_code=allow_unsafe_code,
        no_texts=no_texts,
        only=only,
        metrics=None if metric_names is None else listed("--metrics", metric_names),
        limit=limit,
        dry_run=dry_run,
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
    only: Sequence[str] = (),
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> str | None:
    """Everything a recipe says; returns the path of the leaderboard's page, None of a dry run.

    only: these of its adapters. metrics, limit: in place of the recipe's own.
    """
    from slmbench.evaluation import refuse_unscorable

    recipe, twin = options.recipe(recipe_name, catalog), options.twin
    told = {"evaluation.metrics": metrics and list(metrics), "evaluation.limit": limit}
    given = {key: value for key, value in told.items() if value is not None}
    recipe = recipe.with_overrides(given, blame="the command line")
    names = chosen_adapters(recipe, only)
    spec = recipe.spec
    if twin:
        refuse_to_replace(recipe, names, out)
    [tasks] = evaluation_tasks([recipe], catalog, options)
    quiet_libraries()
    refuse_unscorable(tasks, allow_unsafe_code=allow_unsafe_code)
    if dry_run:
        print_plans(recipe, names, catalog, out=out, data=options.data_mode, twin=twin)
        print_evaluation(recipe, names, tasks, catalog, twin=twin, unsafe=allow_unsafe_code)
        return None
    folders = train_recipe(
        recipe, catalog, out=out, data=options.data_mode, only=only, twin=twin, resume=options.resume
    )
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
