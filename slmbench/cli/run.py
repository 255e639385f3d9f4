"""`slmbench run`: a whole recipe, from rows to leaderboard. Run again, it goes on where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slmbench.catalog import Catalog, default_catalog
from slmbench.cli._boards import show_leaderboard, show_prompts
from slmbench.cli._options import gathered, names_of, out_option, recipe_options
from slmbench.errors import UsageError

if TYPE_CHECKING:
    from slmbench.workflow.run import RunPlan


@click.command("run", help="Train a RECIPE's adapters, evaluate base and adapters, write the leaderboard. Merges, too.")
@click.argument("recipe")
@click.option("--adapter", "only", multiple=True, help="Only this adapter, or merge, of the recipe; may be repeated.")
@click.option("--metrics", callback=names_of, help="Only these of the tasks' metrics, separated by commas.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N items. Such rows are badged and not ranked.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be trained and asked, memory and time; nothing is written."
)
@click.option(
    "--deploy",
    callback=names_of,
    metavar="q8_0,q4_k_m",
    help="Pack each adapter's merged weights so, too, and score each file with llama.cpp: what is lost, and won.",
)
@recipe_options
@out_option
@click.option("--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even if no sandbox works here.")
@click.option("--no-texts", is_flag=True, help="Show digests on the page in place of prompts and outputs.")
@click.option("--json", "as_json", is_flag=True, help="The leaderboard as JSON on stdout, and nothing else.")
@gathered(plan="slmbench.workflow.run:RunPlan")
def command(plan: RunPlan, dry_run: bool, as_json: bool) -> None:
    from slmbench.workflow.recipes import is_merge_recipe
    from slmbench.workflow.run import ready_run, run

    if dry_run and as_json:
        raise UsageError("--json prints the leaderboard, and a dry run makes none; leave out one of the two")
    catalog = default_catalog()
    if is_merge_recipe(plan.recipe, catalog):
        _run_merge(plan, catalog, dry_run=dry_run, as_json=as_json)
        return
    ready = ready_run(plan, catalog)
    if dry_run:
        from slmbench.cli._plans import print_deployment, print_evaluation, print_plans

        print_plans(ready.recipe, ready.adapters, catalog, plan)
        print_evaluation(ready, catalog)
        if plan.deploy:
            print_deployment(ready)
        return
    board, page, faulty = run(ready, catalog)
    if ready.recipe.spec.prompts and not as_json:
        show_prompts(board, plan.out, no_texts=plan.no_texts)
    show_leaderboard(board, page, faulty, as_json=as_json)


def _run_merge(plan: RunPlan, catalog: Catalog, *, dry_run: bool, as_json: bool) -> None:
    from slmbench.cli.merge import planned, print_made, print_planned
    from slmbench.workflow.run_merge import ready_merge_run, run_merge

    ready = ready_merge_run(plan, catalog)
    if dry_run:
        from slmbench.cli._plans import print_plans

        if ready.recipe.train is not None:
            print_plans(ready.recipe.train, ready.adapters, catalog, plan)
        print_planned(planned(ready.merges))
        return
    board, page, faulty, made = run_merge(ready, catalog)
    if not as_json:
        print_made(made)
    show_leaderboard(board, page, faulty, as_json=as_json)
