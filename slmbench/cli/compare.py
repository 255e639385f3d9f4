"""`slmbench compare`: two results on the same items, and a gate for one that is to replace the other."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from slmbench.catalog import default_catalog
from slmbench.cli._options import gathered, names_of
from slmbench.console import colored, say, show, show_json
from slmbench.errors import SlmbenchError
from slmbench.workflow.defaults import SHOWN_ITEMS

if TYPE_CHECKING:
    from slmbench.workflow.sides import ComparePlan

WORSE, UNKNOWN = 1, 2
"""What a gate ends with."""


@click.command(
    "compare",
    help="Is B better than A? Each is a run's folder, an output folder with one model's runs, or, with --in DIR, a row "
    "of DIR's leaderboard by its name. With --fail-if worse, the exit code is 0 if B is not worse, 1 if it is, and 2 "
    "if these items don't say, or can't be read.",
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--in",
    "folders",
    multiple=True,
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where A and B are rows; given twice, A is a row of the first and B of the second.",
)
@click.option("--tasks", callback=names_of, metavar="A,B", help="Only these. [default: all that both have]")
@click.option("--metrics", callback=names_of, metavar="M,N", help="Only these, or task/metric; all of them count.")
@click.option("--fail-if", type=click.Choice(["worse"]), help="Exit with 1 if B is worse, with 2 if nothing says it.")
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="D",
    help="A loss up to this doesn't count, in the metric's own units, as 0.02.",
)
@click.option(
    "--items", type=click.IntRange(min=0), default=SHOWN_ITEMS, show_default=True, help="Items shown of each task."
)
@click.option("--no-texts", is_flag=True, help="Show nothing of what was asked or answered.")
@click.option("--json", "as_json", is_flag=True, help="The comparison as JSON on stdout.")
@gathered(plan="slmbench.workflow.sides:ComparePlan")
def command(plan: ComparePlan, fail_if: str | None, as_json: bool) -> int:
    from slmbench.cli._comparison import comparison_lines, gate_lines
    from slmbench.workflow.compare import EXIT_CODES, compare_plan, comparison_json

    try:
        found = compare_plan(plan, default_catalog())
    except SlmbenchError as error:
        if fail_if and error.exit_code == WORSE:
            error.exit_code = UNKNOWN  # A run that can't be read says nothing of who is worse.
        raise
    width = min(120, max(40, shutil.get_terminal_size((100, 24)).columns))
    if as_json:
        show_json(comparison_json(found, gated=fail_if is not None))
    else:
        for line in comparison_lines(found, width, colored=colored(), items=plan.items):
            show(line, painted=True)
        if fail_if:
            show()
            for line in gate_lines(found, width):
                show(line, painted=True)
    for problem in found.problems:
        say(f"left out: {problem}")
    if fail_if:
        return UNKNOWN if found.problems and found.gate == "not worse" else EXIT_CODES[found.gate]
    return 1 if found.problems else 0
