"""`slmbench train`: a recipe's adapters."""

from __future__ import annotations

import os

import click

from slmbench.catalog import default_catalog
from slmbench.cli._work import DEFAULT_OUT, chosen_adapters, quiet_libraries, say, train_recipe


@click.command("train", help="Train the adapters of a RECIPE (a name, or a YAML file).")
@click.argument("recipe_name", metavar="RECIPE")
@click.option("--adapter", "only", multiple=True, help="Only this adapter of the recipe; may be given again.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As in --set optim.lr=1e-4; checked.")
@click.option("--data", type=click.Choice(["auto", "samples"]), default="auto", show_default=True)
@click.option("--out", default=DEFAULT_OUT, show_default=True, type=click.Path(file_okay=False))
@click.option("--dry-run", is_flag=True, help="Show what would be trained, and stop.")
def command(
    recipe_name: str, only: tuple[str, ...], overrides: tuple[str, ...], data: str, out: str, dry_run: bool
) -> None:
    from slmbench.recipe import load_recipe

    catalog = default_catalog()
    recipe = load_recipe(recipe_name, catalog, overrides)
    if dry_run:
        for name in chosen_adapters(recipe, only):
            optim = recipe.optim_of(name)
            length = f"{optim.steps} steps" if optim.steps else f"{optim.epochs or 1:g} epochs"
            tasks = ", ".join(recipe.spec.adapters[name].tasks)
            click.echo(f"{os.path.join(out, 'adapters', name)}: {recipe.spec.model} on {tasks}, {length}")
        return
    quiet_libraries()
    for folder in train_recipe(recipe, catalog, out=out, data=data, only=only):
        say(f"adapter: {folder}")
        click.echo(folder)
