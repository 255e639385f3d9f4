"""`slmbench eval`: a model, with or without adapters, on tasks."""

from __future__ import annotations

import os
from typing import Any

import click

from slmbench.catalog import default_catalog
from slmbench.cli._boards import listed, show_leaderboard
from slmbench.console import say, show_json
from slmbench.errors import UsageError
from slmbench.headers import own_headers
from slmbench.workflow.quiet import quiet_libraries
from slmbench.workflow.recipes import DEFAULT_OUT, bertscore_by_twin, data_mode, out_folder, say_golden


class _Batch(click.ParamType["int | str"]):
    """A number of rows from 1 on, or `auto`."""

    name = "N|auto"

    def convert(self, value: Any, param: Any, context: Any) -> int | str:
        if value == "auto":
            return "auto"
        try:
            rows = int(value)
        except (TypeError, ValueError):
            rows = 0
        if rows < 1:
            self.fail(f"{value!r} is neither auto nor a number of at least 1", param, context)
        return rows


BATCH = _Batch()
ENGINES = ["shared", *sorted({one.name for one in own_headers("engine")} - {"shared"})]


@click.command("eval", help="Score MODEL (a registry name, a folder, a .gguf file, or a hub id) on tasks or a suite.")
@click.argument("model")
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    type=click.Path(file_okay=False),
    help="An adapter's folder; repeat it for more.",
)
@click.option(
    "--force-base", is_flag=True, help="Put adapters on this model, whatever they were trained on; the runs say so."
)
@click.option("--twin", is_flag=True, help="The model's tiny random copy in its place, offline; badged, never ranked.")
@click.option("--tasks", "task_names", help="Names, separated by commas.")
@click.option("--suite")
@click.option(
    "--format", "format_name", help="plain, chat or toon. [default: the suite's, else the adapter's, else plain]"
)
@click.option("--shots", type=click.IntRange(0, 100), help="Worked examples in every prompt. [default: as declared]")
@click.option("--cot", type=click.Choice(["off", "zero", "few"]), help="Chain of thought. [default: as declared]")
@click.option("--samples", type=click.IntRange(1, 1000), help="Samples per item of code tasks; 1 is greedy.")
@click.option("--max-tokens", type=click.IntRange(1), help="Most tokens to generate, even if a task declares more.")
@click.option("--metrics", "metric_names", help="Only these of the tasks' metrics, separated by commas.")
@click.option("--allow-unsafe-code", is_flag=True, help="Run code that a model wrote even if no sandbox works here.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N items. Such rows are badged and not ranked.")
@click.option("--engine", type=click.Choice(ENGINES), default="shared", show_default=True, help="hf: lm-eval's.")
@click.option("--batch", default="auto", show_default=True, type=BATCH, help="Rows to compute at once, or auto.")
@click.option(
    "--kv-budget",
    "kv_budget_gb",
    type=click.FloatRange(min=0),
    metavar="GB",
    help="Most memory for keys and values of shared prompts. [default: what lm-eval's own cache would take]",
)
@click.option(
    "--latency", is_flag=True, help="One item after another, each alone: how long a single user waits for it."
)
@click.option("--seed", default=0, show_default=True)
@click.option("--data", type=click.Choice(["auto", "samples"]), default="auto", show_default=True)
@click.option("--out", type=click.Path(file_okay=False), help=f"{DEFAULT_OUT}, or slmbench-twin with --twin.")
@click.option("--no-texts", is_flag=True, help="Show digests on the page in place of prompts and outputs.")
@click.option("--json", "as_json", is_flag=True, help="An array of run records on stdout, and nothing else.")
def command(
    model: str,
    adapters: tuple[str, ...],
    force_base: bool,
    twin: bool,
    task_names: str | None,
    suite: str | None,
    format_name: str | None,
    shots: int | None,
    cot: str | None,
    samples: int | None,
    max_tokens: int | None,
    metric_names: str | None,
    allow_unsafe_code: bool,
    limit: int | None,
    engine: str,
    batch: int | str,
    kv_budget_gb: float | None,
    latency: bool,
    seed: int,
    data: str,
    out: str | None,
    no_texts: bool,
    as_json: bool,
) -> None:
    from slmbench.models import refuse_unknown
    from slmbench.recipe import load_suite
    from slmbench.task import Settings, evaluation_needs, left_out_notes, load_task, require_rows

    if (task_names is None) == (suite is None):
        raise UsageError("give either --tasks a,b or --suite NAME; `slmbench list tasks` and `list suites` show them")
    catalog = default_catalog()
    refuse_unknown(model, catalog)
    if suite:
        declared = load_suite(catalog, suite)
        names, format_name = list(declared.tasks), format_name or declared.format
    else:
        names = listed("--tasks", str(task_names))
    folder = out_folder(out, DEFAULT_OUT, twin)
    metrics = tuple(listed("--metrics", metric_names)) if metric_names is not None else None
    settings = Settings(shots, cot, samples, metrics, max_tokens)
    with bertscore_by_twin(model, catalog, twin):
        declared_tasks = [load_task(name, catalog, data=data_mode(data, twin)) for name in names]
    tasks, notices = settings.of(declared_tasks)
    for notice in notices:
        say(f"note: {notice}")
    require_rows(evaluation_needs(tasks))
    for notice in left_out_notes(evaluation_needs(tasks)):
        say(f"note: {notice}")
    if limit is not None:
        say(f"--limit {limit}: only the first {limit} items of each task; these rows will be badged and not ranked")
    if data == "samples":
        say("--data samples: golden rows, a handful; these rows will be badged and not ranked")
    if twin:
        say_golden(None, tasks, catalog)
        say("--twin: a random model; these rows will be badged and not ranked")
    quiet_libraries()
    from slmbench.evaluation import EvaluationOptions
    from slmbench.workflow.evaluate import evaluate_all

    options = EvaluationOptions(
        out=folder,
        format=format_name,
        batch=batch,
        engine=engine,
        kv_budget_bytes=None if kv_budget_gb is None else kv_budget_gb * 1e9,
        latency=latency,
        limit=limit,
        seed=seed,
        allow_unsafe_code=allow_unsafe_code,
        no_texts=no_texts,
    )
    runs = evaluate_all(model, adapters, tasks, catalog, options, twin=twin, force_base=force_base)
    if as_json:
        show_json([run.record for run in runs])
        return
    from slmbench.workflow.rank import rank

    # With what other calls left there: models are compared by evaluating one after another into the same folder.
    page = os.path.join(folder, "leaderboard")
    board, page = rank([folder], page, catalog, suite=suite, tasks=names, no_texts=no_texts)
    show_leaderboard(board, page, as_json=False)
