"""`slmbench schema`: the JSON schema of a kind of declaration, for editors and for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slmbench.console import show_json
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from pydantic import BaseModel

DECLARED = ("recipe", "merge", "task", "model", "dataset", "suite", "matrix", "format")
RECORDS = ("run", "sample", "training", "merged", "leaderboard")
"""What is written: `run.json`, a line of `samples.jsonl`, `training.json`, `merge.json`, `leaderboard.json`."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@click.command("schema", help="The JSON schema of a KIND of declaration, for editors, or of what slmbench writes.")
@click.argument("kind", type=click.Choice([*DECLARED, *RECORDS]))
def command(kind: str) -> None:
    show_json(json_schema(kind))


def json_schema(kind: str) -> JsonObject:
    """The JSON schema (2020-12) of a declaration or of a record, titled as a person knows it.

    It holds what a key is called, and what a value may be. What several keys may say together is checked on loading.
    """
    return {"$schema": DIALECT, **specs()[kind].model_json_schema(), "title": f"slmbench {kind}"}


def specs() -> dict[str, type[BaseModel]]:
    """kind -> what a declaration or a record of it is held to."""
    from slmbench import runs, schema
    from slmbench.leaderboard.content import LeaderboardContent

    return {
        "recipe": schema.RecipeSpec,
        "merge": schema.MergeRecipeSpec,
        "task": schema.TaskSpec,
        "model": schema.ModelSpec,
        "dataset": schema.DatasetSpec,
        "suite": schema.SuiteSpec,
        "matrix": schema.GridSpec,
        "format": schema.BlocksSpec,
        "run": runs.RunRecord,
        "sample": runs.SampleRecord,
        "training": runs.TrainingRecord,
        "merged": runs.MergeRecord,
        "leaderboard": LeaderboardContent,
    }
