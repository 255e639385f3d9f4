"""`slmbench schema`: the JSON schema of a kind of declaration, for editors and for other programs."""

from __future__ import annotations

from typing import Any

import click

from slmbench.console import show_json

KINDS = ("recipe", "task", "model", "dataset", "suite")
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@click.command("schema", help="The JSON schema of a KIND of declaration: editors complete and check YAML by it.")
@click.argument("kind", type=click.Choice(KINDS))
def command(kind: str) -> None:
    show_json(json_schema(kind))


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON schema (2020-12) of a recipe, task, model, dataset or suite, titled as a person knows it.

    It holds what a key is called, and what a value may be. What several keys may say together is checked on loading.
    """
    from slmbench import schema

    specs = {
        "recipe": schema.RecipeSpec,
        "task": schema.TaskSpec,
        "model": schema.ModelSpec,
        "dataset": schema.DatasetSpec,
        "suite": schema.SuiteSpec,
    }
    described = specs[kind].model_json_schema()
    return {"$schema": DIALECT, **described, "title": f"slmbench {kind}"}
