"""`slmbench train`: a recipe's adapters."""

from __future__ import annotations

import click

from slmbench.catalog import default_catalog
from slmbench.cli._options import recipe_options
from slmbench.console import show
from slmbench.workflow.quiet import quiet_libraries
from slmbench.workflow.recipes import DEFAULT_OUT, RecipeOptions, out_folder, refuse_to_replace, say_golden


@click.command("train", help="Train the adapters of a RECIPE (a name, or a YAML file).")
@click.argument("recipe_name", metavar="RECIPE")
@click.option("--adapter", "only", multiple=True, help="Only this adapter of the recipe; may be repeated.")
@recipe_options
@click.option("--out", type=click.Path(file_okay=False), help=f"{DEFAULT_OUT}, or slmbench-twin with --twin.")
@click.option(
    "--dry-run", is_flag=True, help="Show rows, steps, tokens, memory, contamination, time; nothing is trained."
)
def command(recipe_name: str, only: tuple[str, ...], options: RecipeOptions, out: str | None, dry_run: bool) -> None:
    from slmbench.workflow.run import RunPlan
    from slmbench.workflow.train import chosen_adapters, train_recipe

    catalog, twin = default_catalog(), options.twin
    recipe = options.recipe(recipe_name, catalog)
    names, folder = chosen_adapters(recipe, only), out_folder(out, DEFAULT_OUT, twin)
    if twin:
        refuse_to_replace(recipe, names, folder)
        say_golden(recipe, [], catalog)
    quiet_libraries()
    data = options.data_mode
    if dry_run:
        from slmbench.cli._plans import print_plans

        print_plans(recipe, names, catalog, RunPlan(recipe=recipe_name, out=folder, options=options))
        return
    for trained in train_recipe(recipe, catalog, out=folder, data=data, only=only, twin=twin, resume=options.resume):
        show(trained)
