"""What --dry-run prints: what a training would be, what an evaluation would ask, and how long both would take."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from slmbench.catalog import Catalog
from slmbench.console import duration, phase, say, show
from slmbench.console.columns import Cell, print_lines, table_lines
from slmbench.errors import SlmbenchError
from slmbench.initial import initial_folder
from slmbench.paths import shown
from slmbench.workflow.recipes import trained_folder
from slmbench.workflow.run import ReadyRun, RunPlan, evaluate_recipe

if TYPE_CHECKING:
    from slmbench.recipe import Recipe
    from slmbench.task import Task
    from slmbench.training import Preparation

MEASURED_ITEMS = 4
MEASURED_TOKENS = 16


def print_plans(recipe: Recipe, names: Sequence[str], catalog: Catalog, plan: RunPlan) -> None:
    """What trainings would be, on stdout: rows, steps, mixture, memory, time. Contamination is told on stderr.

    Raises whatever the trainings themselves would raise before they load weights.
    """
    from slmbench.models import resolve_model
    from slmbench.training import prepare_training, refuse_small_splits

    source = resolve_model(recipe.spec.model, catalog, twin=plan.options.twin)
    rates: dict[str, float | None] = {}
    loaded: dict[str, Task] = {}  # What several adapters are trained or held on is read once.
    place = os.path.dirname(trained_folder(recipe, "", plan.out))
    ordered = recipe.spec.in_order(names)
    if not source.twin:
        refuse_small_splits(recipe, ordered, catalog, plan.options.data_mode, loaded)
    for name in ordered:
        prepared = prepare_training(
            recipe, name, catalog, source, data=plan.options.data_mode, loaded=loaded, place=place, planned=True
        )
        # What a token takes depends on little else, and each look loads the base.
        lora = prepared.spec.lora
        alike = repr((lora.targets, lora.dora, prepared.spec.optim.gradient_checkpointing))
        if alike not in rates and prepared.plan.steps:
            rates[alike] = _rate(prepared)
        rate = rates.get(alike)
        _print_plan(recipe, name, prepared, plan.out)
        if rate is not None:
            seconds = rate * prepared.plan.realised(prepared.rows)["tokens"]
            show(f"  time, steps alone: about {duration(seconds)}, give or take a third (a few micro-batches measured)")


def _rate(prepared: Preparation) -> float | None:
    from slmbench.training import seconds_per_token

    try:
        with phase("time of a step"):
            return seconds_per_token(prepared)
    except SlmbenchError as error:
        say(f"note: how long it takes was not measured: {error}")
        return None


def _print_plan(recipe: Recipe, name: str, prepared: Preparation, out: str) -> None:
    plan = prepared.as_json()
    spec, mixed = prepared.spec, plan["mixture"]
    optim = spec.optim
    tasks = ", ".join(spec.adapters[name].tasks)
    show(f"{shown(trained_folder(recipe, name, out))}: {plan['model']} on {tasks}, {plan['steps']} steps")
    rank = "all weights" if spec.method == "full" else f"{spec.method}, rank {spec.lora.rank}"
    a_step = f"{optim.batch} x {optim.accumulate} rows"
    if spec.packing:
        a_step = f"{optim.accumulate} x {optim.batch * spec.max_tokens:,} tokens, packed"
    show(f"  {rank}; {a_step} a step; {mixed['rows']:,} rows and {mixed['tokens']:,} tokens in all")
    if (initial := recipe.spec.initial_of(name)) is not None:
        state = " with its optimiser's state" if initial.optimizer else ""
        show(f"  goes on from {initial.adapter or shown(initial_folder(initial, recipe.path))}{state}")
    header = ("task", "rows", "tokens", "cut", "left out", "kept aside", "trained on", "share")
    rows = []
    for task, part in plan["tasks"].items():
        drawn = mixed["tasks"].get(task, {"rows": 0, "share": 0.0})
        counts = [part["rows"], part["tokens"], part["truncated_rows"] + part["truncated_answers"]]
        counts += (part["dropped_rows"], plan["validation_rows"].get(task, 0), drawn["rows"])
        rows.append([Cell(task), *(Cell(f"{n:,}") for n in counts), Cell(f"{drawn['share']:.1%}")])
    print_lines([f"  {line}" for line in table_lines(header, rows, right=header[1:])])
    show(f"  memory, forecast: {_memory(prepared.forecast.total_bytes / 1e9, spec.launch.processes)}")


def _memory(each_gb: float, processes: int) -> str:
    return (
        f"{each_gb:.2f} GB"
        if processes == 1
        else f"{each_gb:.2f} GB in each of {processes} processes, {processes * each_gb:.2f} GB in all"
    )


def print_evaluation(ready: ReadyRun, catalog: Catalog) -> None:
    """What a recipe's evaluation would ask, and how long it would take, from a few short answers of the base."""
    from slmbench.task import Settings

    recipe, tasks = ready.recipe, ready.tasks
    evaluation = recipe.spec.evaluation
    items = {task.name: len(task.examples(task.spec.split, evaluation.limit)) for task in tasks}
    models = 1 + len(ready.adapters)
    show(f"evaluation of the base and {models - 1} trained, each on {sum(items.values()):,} items:")
    # Metrics are not asked: a program, or a model that scores, takes a time of its own.
    short, _ = Settings(max_tokens=MEASURED_TOKENS).of([task.with_samples(1) for task in tasks])
    try:
        with tempfile.TemporaryDirectory() as folder:
            measured = evolve(ready.plan, out=folder)
            runs = evaluate_recipe(recipe, (), short, catalog, measured, limit=MEASURED_ITEMS)
    except SlmbenchError as error:
        say(f"note: how long it takes was not measured: {error}")
        return
    header, rows, total = ("task", "items", "tokens asked", "tokens written", "at most"), [], 0.0
    for task, run in zip(tasks, runs, strict=True):
        n, cost = run.record["dataset"]["n"], run.record["cost"]
        share = items[task.name] / n
        written = cost["tokens_out"] * share
        longer = 1.0
        if task.kind != "choice":
            written = items[task.name] * task.max_tokens * task.spec.generation.samples
            longer = max(1.0, written / max(1, cost["tokens_out"]) / share)
        seconds = cost["seconds"] * share * longer
        total += seconds
        numbers = (items[task.name], round(cost["tokens_in"] * share), round(written))
        rows.append([Cell(task.name), *(Cell(f"{value:,}") for value in numbers), Cell(duration(seconds))])
    print_lines([f"  {line}" for line in table_lines(header, rows, right=header[1:])])
    show(
        f"  time: at most about {duration(total)} for the base, {duration(total * models)} for all {models}; measured "
        f"on {MEASURED_ITEMS} items a task with {MEASURED_TOKENS} tokens, scaled up to the longest answers; many "
        "items at once, and answers that end sooner, take a fraction of it"
    )


def print_deployment(ready: ReadyRun) -> None:
    """What `--deploy` would make and score of each adapter."""
    from slmbench.gguf_files import read_kinds

    kinds = [kind.name for kind in read_kinds(ready.plan.deploy or ())]
    each = len(kinds) + 1
    show(
        f"then, of each adapter ({len(ready.adapters)} here), the merged weights and {', '.join(kinds)} files of them "
        f"are written to {shown(os.path.join(ready.plan.out, 'models'))} and scored: {each * len(ready.adapters)} "
        "models more"
    )
