"""`slmbench plan`: how many items, and how long, until a difference shows."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from slmbench.catalog import default_catalog
from slmbench.cli._options import gathered, names_of
from slmbench.console import say, show, show_json
from slmbench.workflow.defaults import DETECT

if TYPE_CHECKING:
    from slmbench.workflow.plan import DecisionPlan


@click.command(
    "plan",
    help="How many items of TASKS (names separated by commas), and how many seconds, until a model that is better or "
    "worse than RUN by --detect is told apart from it; and what all items of each task can show.",
)
@click.argument("tasks", callback=names_of)
@click.option(
    "--against",
    required=True,
    metavar="RUN",
    help="A run's folder, an output folder with one model's runs, or, with --in DIR, a row of its leaderboard.",
)
@click.option("--in", "folder", type=click.Path(file_okay=False), metavar="DIR", help="Where RUN is a row.")
@click.option(
    "--metrics", callback=names_of, metavar="M,N", help="For these metrics. [default: each task's primary metric]"
)
@click.option(
    "--detect",
    type=click.FloatRange(min=0, min_open=True),
    default=DETECT,
    show_default=True,
    metavar="D",
    help="The difference to find, in the metric's own units.",
)
@click.option(
    "--power",
    type=click.FloatRange(min=0.5, max=1, max_open=True),
    default=0.8,
    show_default=True,
    help="How often it is found if it is there.",
)
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON on stdout.")
@gathered(plan="slmbench.workflow.plan:DecisionPlan")
def command(plan: DecisionPlan, as_json: bool) -> int:
    from slmbench.cli._planned import planned_lines
    from slmbench.workflow.plan import plan_decision, planned_json

    planned = plan_decision(plan, default_catalog())
    if as_json:
        show_json(planned_json(planned))
    else:
        for line in planned_lines(planned, min(120, max(40, shutil.get_terminal_size((100, 24)).columns))):
            show(line, painted=True)
    for problem in planned.problems:
        say(f"left out: {problem}")
    return 1 if planned.problems else 0
