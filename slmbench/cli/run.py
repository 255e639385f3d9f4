"""`slmbench run`: a whole recipe, from rows to leaderboard. Run again, it goes on where it was."""

from __future__ import annotations

import click

from slmbench.catalog import default_catalog
from slmbench.cli._boards import listed, show_leaderboard
from slmbench.cli._options import recipe_options
from slmbench.errors import UsageError
from slmbench.workflow.recipes import DEFAULT_OUT, RecipeOptions, out_folder


@click.command("run", help="Train a RECIPE's adapters, evaluate base and adapters, write the leaderboard.")
@click.argument("recipe_name", metavar="RECIPE")
@click.option("--adapter", "only", multiple=True, help="Only this adapter of the recipe; may be repeated.")
@click.option("--metrics", "metric_names", help="Only these of the tasks' metrics, separated by commas.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N items. Such rows are badged and not ranked.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be trained and asked, memory and time; nothing is written."
)
@recipe_options
@click.option("--out", type=click.Path(file_okay=False), help=f"{DEFAULT_OUT}, or slmbench-twin with --twin.")
@click.option("--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even if no sandbox works here.")
@click.option("--no-texts", is_flag=True, help="Show digests on the page in place of prompts and outputs.")
@click.option("--json", "as_json", is_flag=True, help="The leaderboard as JSON on stdout, and nothing else.")
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
        raise UsageError("--json prints the leaderboard, and a dry run makes none; leave out one of the two")
    from slmbench.workflow.run import RunPlan, ready_run, run

    plan = RunPlan(
        recipe=recipe_name,
        out=out_folder(out, DEFAULT_OUT, options.twin),
        options=options,
        only=only,
        metrics=None if metric_names is None else tuple(listed("--metrics", metric_names)),
        limit=limit,
        allow_unsafe_code=allow_unsafe_code,
        no_texts=no_texts,
    )
    catalog = default_catalog()
    ready = ready_run(plan, catalog)
    if dry_run:
        from slmbench.cli._plans import print_evaluation, print_plans

        print_plans(ready.recipe, ready.adapters, catalog, plan)
        print_evaluation(ready, catalog)
        return
    show_leaderboard(*run(ready, catalog), as_json=as_json)
