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
