"""`slmbench eval`: a model, with or without adapters, on tasks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from slmbench.catalog import default_catalog
from slmbench.cli._boards import show_leaderboard
from slmbench.cli._options import data_option, gathered, names_of, out_option
from slmbench.console import say, show, show_json
from slmbench.engines.server_address import TIMEOUT_S
from slmbench.errors import UsageError
from slmbench.workflow.quiet import quiet_libraries
from slmbench.workflow.recipes import say_golden

if TYPE_CHECKING:
    from slmbench.workflow.evaluate import EvaluationPlan


class _Batch(click.ParamType["int | str"]):
    """A number of rows from 1 on, or `auto`."""

    name = "N|auto"

    def convert(self, value: object, param: click.Parameter | None, context: click.Context | None) -> int | str:
        if value == "auto":
            return "auto"
        try:
            rows = int(str(value))
        except ValueError:
            rows = 0
        if rows < 1:
            self.fail(f"{value!r} is neither auto nor a number of at least 1", param, context)
        return rows


BATCH = _Batch()


@click.command("eval", help="Score MODEL (a registry name, a folder, a .gguf file, or a hub id) on tasks or a suite.")
@click.argument("model")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=click.Path(file_okay=False),
    help="An adapter's folder; repeat it for more. `auto`: each item goes to the one that --router chooses.",
)
@click.option("--router", type=click.Path(file_okay=False), metavar="DIR", help="A router of `slmbench route fit`.")
@click.option(
    "--force-base", is_flag=True, help="Put adapters on this model, whatever they were trained on; the runs say so."
)
@click.option(
    "--twin",
    is_flag=True,
    is_eager=True,
    help="The model's tiny random copy in its place, offline; badged, never ranked.",
)
@click.option("--tasks", callback=names_of, help="Names, separated by commas.")
@click.option("--suite", help="All tasks of a suite, in place of --tasks.")
@click.option("--format", help="plain, chat or toon. [default: the suite's, else the adapter's, else plain]")
@click.option("--shots", type=click.IntRange(0, 100), help="Worked examples in every prompt. [default: as declared]")
@click.option("--cot", type=click.Choice(["off", "zero", "few"]), help="Chain of thought. [default: as declared]")
@click.option("--samples", type=click.IntRange(1, 1000), help="Samples per item, of tasks that draw some; 1 is greedy.")
@click.option("--max-tokens", type=click.IntRange(1), help="Most tokens to generate, even if a task declares more.")
@click.option("--metrics", callback=names_of, help="Only these of the tasks' metrics, separated by commas.")
@click.option(
    "--perplexity", is_flag=True, help="Score how likely right answers are to the model, too: bits a byte of them."
)
@click.option("--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even if no sandbox works here.")
@click.option(
    "--limit", type=click.IntRange(1), help="Only the first N items. Such rows are badged, and ranked among themselves."
)
@click.option(
    "--against",
    multiple=True,
    metavar="RUN",
    help="A finished run on the same items, by folder, id, or row in OUT: what is lost and won against it; with "
    "--until decided, who is better.",
)
@click.option(
    "--until",
    type=click.Choice(["decided"]),
    help="Items in random order, and an end as soon as it is sure (wrong at most 5%) which is better: docs/decide.md.",
)
@click.option(
    "--margin", type=float, metavar="D", help="A difference that doesn't matter: within it the two are equal."
)
@click.option(
    "--engine", metavar="NAME", default="shared", show_default=True, help="`slmbench list engines` shows them."
)
@click.option("--batch", default="auto", show_default=True, type=BATCH, help="Rows to compute at once, or auto.")
@click.option(
    "--kv-budget",
    "kv_budget_bytes",
    type=click.FloatRange(min=0),
    metavar="GB",
    callback=lambda _, __, gb: None if gb is None else gb * 1e9,
    help="Most memory for keys and values of shared prompts. [default: what lm-eval's own cache would take]",
)
@click.option(
    "--latency", is_flag=True, help="One item after another, each alone: how long a single user waits for it."
)
@click.option(
    "--speed", is_flag=True, help="Measure one stream, too: tokens read and written a second, loading (some seconds)."
)
@click.option("--url", metavar="URL", help="Of the server that --engine server asks, as http://127.0.0.1:8080.")
@click.option("--served", metavar="NAME", help="What the server calls the model. [default: its only one]")
@click.option(
    "--allow-remote", is_flag=True, help="Let --url be another machine, which is then sent all prompts (exit 3 else)."
)
@click.option(
    "--api-key-env", metavar="VARIABLE", help="The environment variable that holds the server's key; never recorded."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long one answer of the server may take.",
)
@click.option("--seed", default=0, show_default=True, help="Of what is drawn.")
@data_option
@out_option
@click.option("--no-texts", is_flag=True, help="Show digests on the page in place of prompts and outputs.")
@click.option("--json", "as_json", is_flag=True, help="An array of run records on stdout, and nothing else.")
@gathered(
    server="slmbench.engines.server_address:ServerOptions",
    settings="slmbench.task:Settings",
    options="slmbench.evaluation:EvaluationOptions",
    plan="slmbench.workflow.evaluate:EvaluationPlan",
)
def command(plan: EvaluationPlan, as_json: bool) -> None:
    from slmbench.evaluation import TasksFailed, settled, told_if_cut_short
    from slmbench.workflow.deployed import against_lines
    from slmbench.workflow.evaluate import ready_evaluation, try_plan
    from slmbench.workflow.rank import failed_of, rank

    if (plan.tasks is None) == (plan.suite is None):
        raise UsageError("give either --tasks a,b or --suite NAME; `slmbench list tasks` and `list suites` show them")
    catalog, limit, out = default_catalog(), plan.options.limit, plan.options.out
    plan, tasks = ready_evaluation(plan, catalog)
    if limit is not None:
        say(
            f"--limit {limit}: only the first {limit} items of each task; "
            "these rows will be badged, and ranked among themselves"
        )
    if plan.data == "samples":
        say("--data samples: golden rows, a handful; these rows will be badged and not ranked")
    if plan.twin:
        say_golden(None, tasks, catalog)
        say("--twin: a random model; these rows will be badged and not ranked")
    quiet_libraries()
    placed, failures = try_plan(plan, tasks, catalog)
    runs = [run for run in placed if run is not None]
    failed = TasksFailed(placed, failures) if failures else None
    lines = against_lines(plan.against, runs, out, catalog) if plan.against and plan.until is None else ()
    if as_json:
        for line in lines:
            say(line)
        show_json([run.record | ({"decision": run.decision} if run.decision else {}) for run in runs])
        if failed is not None:
            raise failed
        return
    if not runs:
        settled(placed, failures)
    # With what other calls left there: models are compared by evaluating one after another into the same folder.
    page, names = os.path.join(out, "leaderboard"), [task.name for task in tasks]
    with told_if_cut_short(failures):
        board, page, faulty = rank(
            [out], page, catalog, suite=plan.suite, tasks=names, no_texts=plan.options.no_texts, whole=out
        )
    own = [str(run.record["run_id"]) for run in runs]
    for line in lines:
        show(line)
    show_leaderboard(board, page, failed_of(failed, faulty), as_json=False, own=own)
