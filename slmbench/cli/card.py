"""`slmbench card`: a model card with the numbers that are there, and the way to the hub."""

from __future__ import annotations

import click

from slmbench.catalog import default_catalog
from slmbench.console import say, show, show_json


@click.command(
    "card",
    help="Write the model card of PLACE: an adapter's folder, a model's, a run's, or an output folder with several. "
    "README.md says what it is of, what it scores with intervals beside its base, and what it was trained on and how; "
    "`.eval_results` has whole runs as the hub takes them.",
)
@click.argument("place", type=click.Path())
@click.option(
    "--out", type=click.Path(file_okay=False), help="Where the card goes. [default: the folder that it is of]"
)
@click.option(
    "--runs",
    multiple=True,
    type=click.Path(exists=True),
    help="Runs to take scores from; may be repeated. [default: those of the output folder around PLACE]",
)
@click.option("--force", is_flag=True, help="Write over a README.md that somebody else wrote, or edited.")
@click.option("--json", "as_json", is_flag=True, help="What was written, as JSON on stdout, and nothing else.")
def command(place: str, out: str | None, runs: tuple[str, ...], force: bool, as_json: bool) -> None:
    from slmbench.workflow.card import CardPlan, write_cards
    from slmbench.workflow.quiet import quiet_libraries

    quiet_libraries()
    made = write_cards(CardPlan(place=place, out=out, runs=runs, force=force), default_catalog())
    for card in made:
        for why in card.files.left_out:
            say(f"{card.facts.name}: no result file of {why}")
    if as_json:
        show_json([card.as_json() for card in made])
        return
    for card in made:
        for path in card.paths:
            show(path)
