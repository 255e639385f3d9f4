"""`slmbench cite`: BibTeX of what a result rests on."""

from __future__ import annotations

import click

from slmbench.catalog import default_catalog
from slmbench.console import say, show, show_json


@click.command(
    "cite",
    help="BibTeX of what a recipe, task, model, data set or suite rests on: papers, data sets, models, metrics, and "
    "slmbench itself, alone if nothing is named.",
)
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--json", "as_json", is_flag=True, help="An array of {key, type, fields, for, bibtex} on stdout.")
def command(names: tuple[str, ...], as_json: bool) -> None:
    from slmbench.workflow.cite import cite

    found = cite(names, default_catalog())
    if as_json:
        entries = [
            {"key": one.key, "type": "misc", "fields": dict(one.fields), "for": list(one.about), "bibtex": one.bibtex}
            for one in found
        ]
        show_json(entries)
        return
    for number, one in enumerate(found):
        show() if number else None
        show(one.bibtex, keep="\n")
    if any(one.fields.get("author", "").endswith(" and others") for one in found):
        say("note: authors are those that declarations name, often the first alone; complete them before you print")
