"""`slmbench train`: a recipe's adapters."""

from __future__ import annotations

import click

from slmbench.catalog import default_catalog
from slmbench.cli._options import out_option, recipe_options
from slmbench.console import show
from slmbench.workflow.quiet import quiet_libraries
from slmbench.workflow.recipes import RecipeOptions, refuse_to_replace, say_golden


@click.command(
    "train", help="Train the adapters of a RECIPE (a name, or a YAML file). Of a merge recipe: those that it takes."
)
@click.argument("recipe_name", metavar="RECIPE")
@click.option("--adapter", "only", multiple=True, help="Only this adapter of the recipe; may be repeated.")
@recipe_options
@out_option
@click.option(
    "--dry-run", is_flag=True, help="Show rows, steps, tokens, memory, contamination, time; nothing is trained."
)
def command(recipe_name: str, only: tuple[str, ...], options: RecipeOptions, out: str, dry_run: bool) -> None:
    from slmbench.workflow.run import RunPlan
    from slmbench.workflow.train import chosen_adapters, train_recipe

    catalog, twin = default_catalog(), options.twin
    recipe, names = options.training(recipe_name, catalog)
    names = chosen_adapters(recipe, only or names)
    if twin:
        refuse_to_replace(recipe, names, out)
        say_golden(recipe, [], catalog)
    quiet_libraries()
    data = options.data_mode
    if dry_run:
        from slmbench.cli._plans import print_plans

        print_plans(recipe, names, catalog, RunPlan(recipe=recipe_name, out=out, options=options))
        return
    folders = train_recipe(
        recipe,
        catalog,
        out=out,
        data=data,
        only=names,
        twin=twin,
        resume=options.resume,
        track=options.track,
    )
    for trained in folders:
        show(trained)
