"""`slmbench score`: saved answers under other metrics, without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slmbench.catalog import default_catalog
from slmbench.cli._options import gathered, names_of
from slmbench.console import say, show, show_json
from slmbench.errors import SlmbenchError
from slmbench.paths import shown
from slmbench.visible import visible

if TYPE_CHECKING:
    from slmbench.runs import Run
    from slmbench.workflow.score import ScorePlan


@click.command("score", help="Score saved answers again. RUNS are run folders, or folders that hold runs.")
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@click.option("--metrics", callback=names_of, help="Names, separated by commas. [default: what the tasks declare]")
@click.option("--out", type=click.Path(file_okay=False), help="New runs go to OUT/runs. [default: beside the old ones]")
@click.option("--keep-verdicts", is_flag=True, help="Score code tasks by the verdicts that are there: run no program.")
@click.option("--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even if no sandbox works here.")
@click.option("--json", "as_json", is_flag=True, help="An array of the new run records on stdout, and nothing else.")
@gathered(plan="slmbench.workflow.score:ScorePlan")
def command(plan: ScorePlan, as_json: bool) -> int:
    from slmbench.workflow.quiet import quiet_libraries
    from slmbench.workflow.score import score_plan

    quiet_libraries()
    done = score_plan(plan, default_catalog())
    if as_json:
        show_json([one.after.record for one in done if one.after is not None])
    for one in done:
        if one.after is not None and one.old is not None and not as_json:
            _show(one.old, one.after)
    errors = [one.error for one in done if one.error is not None]
    of: dict[str, list[str]] = {}
    for one in done:
        if one.error is not None:
            of.setdefault(str(one.error), []).append(one.before)
    for message, names in of.items():
        for line in message.split("\n"):
            say(f"error: {visible(line)}")
        # One reason, as a model that isn't here, may keep many from it.
        others = f" and {len(names) - 1} more runs" if len(names) > 1 else ""
        say(f"not scored: {visible(names[0])}{others}")
    # One kind of fault alone says by its own exit code what to do.
    return 0 if not errors else errors[0].exit_code if len(done) == len(errors) else SlmbenchError.exit_code


def _show(old: Run, new: Run) -> None:
    """Each value before and after, and where the new record is."""
    was = {metric["name"]: metric for metric in old.record["metrics"]}
    adapter = new.record.get("adapter")
    who = new.record["model"]["name"] + (f" + {adapter['name']}" if adapter else "")
    show(f"{visible(who)} on {visible(new.record['task']['id'])}: {shown(new.folder)}")
    width = max(len(visible(metric["name"])) for metric in new.record["metrics"])
    for metric in new.record["metrics"]:
        before = was.get(metric["name"])
        told = "" if before is None else " as before" if _same(before, metric) else f" was {before['value']:.4f}"
        show(f"  {visible(metric['name']):<{width}}  {metric['value']:.4f}  n = {metric['n']}{told or ' new'}")


def _same(one: dict[str, float], other: dict[str, float]) -> bool:
    return abs(one["value"] - other["value"]) <= 1e-12
