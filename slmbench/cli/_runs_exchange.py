"""`slmbench runs import` and `runs export --format`: runs of other tools in, and ours out to their layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from slmbench.catalog import default_catalog
from slmbench.cli._options import gathered
from slmbench.console import say, show, show_json
from slmbench.errors import FileError
from slmbench.paths import shown
from slmbench.visible import visible
from slmbench.workflow.recipes import DEFAULT_OUT

if TYPE_CHECKING:
    from slmbench.workflow.exchange import ExportPlan, ImportPlan


@click.command("import", help="Runs of lm-eval, from FOLDER (its --output_path, written with --log_samples).")
@click.argument("folder", type=click.Path())
@click.option(
    "--out", default=DEFAULT_OUT, show_default=True, type=click.Path(file_okay=False), help="Its `runs` gets theirs."
)
@click.option(
    "--like",
    multiple=True,
    type=click.Path(),
    metavar="RUNS",
    help="Runs to be compared with if the prompts are the same, beside those in OUT; repeat it for more.",
)
@click.option("--model", metavar="NAME", help="What the model is called here. [default: as lm-eval called it]")
@click.option("--json", "as_json", is_flag=True, help="An array of run records on stdout, and nothing else.")
@gathered(plan="slmbench.workflow.exchange:ImportPlan")
def import_command(plan: ImportPlan, as_json: bool) -> int:
    from slmbench.workflow.exchange import import_plan

    done = import_plan(plan, default_catalog())
    for notice in done.notices:
        say(f"note: {visible(notice)}")
    if as_json:
        show_json([run.record for run in done.runs])
    else:
        for run in done.runs:
            show(f"{visible(run.run_id)}: {shown(run.folder)}")
            twin = run.record["imported"].get("same_prompts_as")
            said = (
                f"asked the same as {visible(twin)}, and ranked with it" if twin else "ranked with no run of slmbench"
            )
            say(f"{visible(run.run_id)}: {said}")
    if done.problems and not done.runs:
        raise FileError(list(done.problems))
    for problem in done.problems:
        say(f"error: {visible(str(problem))}")
    return 1 if done.problems else 0


@click.command("export", help="RUNS in the layout of another tool, in OUT.")
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@click.option(
    "--format",
    type=click.Choice(["parquet", "lm-eval", "every-eval-ever"]),
    help="parquet: runs.parquet, a row for every metric of a run, and samples.parquet, a row for every sample.",
)
@click.option("--parquet", "format", flag_value="parquet", help="The same as --format parquet.")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Where they are written.")
@click.option("--no-texts", is_flag=True, help="Digests in place of all texts.")
@click.option("--organization", metavar="NAME", help="Who ran the evaluation, which every_eval_ever asks for.")
@click.option("--developer", metavar="NAME", help="Who made models whose id names nobody, as nano (every_eval_ever).")
@click.option(
    "--relationship",
    type=click.Choice(["first_party", "third_party", "collaborative", "other"]),
    default="third_party",
    show_default=True,
    help="Of who ran it to who made the model (every_eval_ever).",
)
@gathered(plan="slmbench.workflow.exchange:ExportPlan")
def export_command(plan: ExportPlan) -> int:
    from slmbench.workflow.exchange import export_plan

    files, faulty = export_plan(plan, default_catalog())
    for path in files:
        show(shown(path))
    if faulty is not None:
        raise faulty
    return 0
