"""`slmbench leaderboard`: finished runs into tables and the page."""

from __future__ import annotations

import os

import click

from slmbench.catalog import default_catalog
from slmbench.cli._boards import show_leaderboard
from slmbench.workflow.recipes import DEFAULT_OUT


@click.command("leaderboard", help="RUNS are run folders, or folders that hold runs (as --out of eval).")
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@click.option("--suite", help="Only this suite's tasks, in its order.")
@click.option("--without", multiple=True, metavar="ROW", help="Leave this row out; may be given several times.")
@click.option(
    "--out", type=click.Path(file_okay=False), help=f"Default: RUNS/leaderboard, or {DEFAULT_OUT}/leaderboard."
)
@click.option("--no-texts", is_flag=True, help="Show digests on the page in place of prompts and outputs.")
@click.option("--strict", is_flag=True, help="Rank nothing if a run is not what it claims; else it is left out.")
@click.option("--json", "as_json", is_flag=True, help="The leaderboard as JSON on stdout.")
def command(
    runs: tuple[str, ...],
    suite: str | None,
    without: tuple[str, ...],
    out: str | None,
    no_texts: bool,
    strict: bool,
    as_json: bool,
) -> None:
    from slmbench.recipe import suite_tasks

    catalog = default_catalog()
    tasks = suite_tasks(catalog, suite) if suite else None
    if out is None:
        only = runs[0] if len(runs) == 1 and os.path.isdir(os.path.join(runs[0], "runs")) else DEFAULT_OUT
        out = os.path.join(only, "leaderboard")
    from slmbench.workflow.rank import rank

    ranked = rank(runs, out, catalog, suite=suite, tasks=tasks, no_texts=no_texts, strict=strict, without=without)
    show_leaderboard(*ranked, as_json=as_json)
