"""`slmbench quickstart`: the whole story on the embedded model, offline, without a question asked."""

from __future__ import annotations

import time

import click

from slmbench.catalog import default_catalog
from slmbench.cli._boards import show_leaderboard
from slmbench.console import say
from slmbench.hub import staying_offline

RECIPE = "nano-quickstart"


@click.command("quickstart", help="Train four adapters on the embedded model, evaluate all, show the leaderboard.")
@click.option(
    "--out",
    default="slmbench-quickstart",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Where adapters, runs and page go.",
)
def command(out: str) -> None:
    started = time.monotonic()
    say("quickstart: four LoRA adapters on nano, a model of a million parameters, then everything is scored by lm-eval")
    from slmbench.workflow.run import RunPlan, ready_run, run

    catalog = default_catalog()
    # The embedded model is in the package: whatever the network is like, nothing is asked of it.
    with staying_offline():
        show_leaderboard(*run(ready_run(RunPlan(recipe=RECIPE, out=out), catalog), catalog), as_json=False)
    say(f"done in {time.monotonic() - started:.0f} s; runs, adapters and leaderboard are in {out}")
    say(f"next: slmbench compare nano+note nano+multi --in {out}; slmbench list tasks; slmbench new task NAME")
