"""`slmbench card`: a model card with the numbers that are there, and the way to the hub."""

from __future__ import annotations

import click

from slmbench.catalog import default_catalog
from slmbench.console import say, show, show_json
from slmbench.errors import UsageError


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
@click.option(
    "--push",
    metavar="OWNER/NAME",
    help="Upload card, weights and tokenizer to this repository of the hub, private if it is new; says what before.",
)
@click.option("--public", is_flag=True, help="With --push: a repository that is new is public.")
@click.option(
    "--records",
    is_flag=True,
    help="With --push: training.json and its like too, which name folders of this machine and may quote rows.",
)
@click.option("--dry-run", is_flag=True, help="With --push: say what would be uploaded, and upload nothing.")
@click.option("--json", "as_json", is_flag=True, help="What was written, as JSON on stdout, and nothing else.")
def command(
    place: str,
    out: str | None,
    runs: tuple[str, ...],
    force: bool,
    push: str | None,
    public: bool,
    records: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from slmbench.workflow.card import CardPlan, PushPlan, push_card, write_cards
    from slmbench.workflow.quiet import quiet_libraries

    quiet_libraries()
    given = {"public": public, "records": records, "dry-run": dry_run}
    if push is None and any(given.values()):
        raise UsageError(f"--{next(flag for flag, on in given.items() if on)} goes with --push OWNER/NAME")
    where = None if push is None else PushPlan(repo=push, public=public, records=records, dry=dry_run)
    made = write_cards(CardPlan(place=place, out=out, runs=runs, force=force), default_catalog(), where)
    for card in made:
        for why in card.files.left_out:
            say(f"{card.facts.name}: no result file of {why}")
    pushed = [] if where is None else [push_card(card, where) for card in made]
    if as_json:
        show_json([card.as_json() | ({"push": pushed[0]} if pushed else {}) for card in made])
        return
    for card in made:
        for path in card.paths:
            show(path)
    for one in pushed:
        show(one["commit"]) if one["commit"] is not None else None
