"""What several commands do: evaluate a model with adapters, and turn runs into a leaderboard that is shown."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmbench.catalog import Catalog
from slmbench.cli._progress import progress
from slmbench.errors import SlmbenchError, UsageError, did_you_mean

if TYPE_CHECKING:
    from slmbench.recipe import Recipe
    from slmbench.runs import Run
    from slmbench.task import Task

DEFAULT_OUT = "slmbench-out"


def say(text: str) -> None:
    """A line for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def quiet_libraries() -> None:
    """Keeps advice of the libraries below off the terminal; their errors come through as exceptions."""
    import logging
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("BITSANDBYTES_NOWELCOME", "1")
    warnings.filterwarnings("ignore")
    for name in ("transformers", "lm_eval", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "torchao"):
        logging.getLogger(name).setLevel(logging.ERROR)


def evaluate_all(
    model: str,
    adapters: Sequence[str],
    tasks: Sequence[Task],
    catalog: Catalog,
    *,
    out: str,
    format: str,
    batch: int,
    limit: int | None,
    seed: int,
    allow_unsafe_code: bool = False,
) -> list[Run]:
    """Runs of the base and of each adapter folder, all on the same tasks."""
    from slmbench.evaluation import evaluate_tasks
    from slmbench.models import attach_adapter, load_model, read_adapter, resolve_model

    source = resolve_model(model, catalog)
    for folder in adapters:  # A wrong path must not come to light after the base has been scored.
        read_adapter(folder)
    loaded = load_model(source)
    options: dict[str, Any] = {
        "format": format,
        "batch": batch,
        "limit": limit,
        "seed": seed,
        "allow_unsafe_code": allow_unsafe_code,
        "progress": progress,
    }
    runs = evaluate_tasks(loaded, tasks, out=out, **options)
    for folder in adapters:
        tuned = attach_adapter(loaded, folder)
        runs += evaluate_tasks(tuned, tasks, out=out, **options)
        tuned.model.unload()  # The base again, without the adapter's layers in it.
    for run in runs:
        for remark, count in run.record.get("remarks", {}).items():
            say(f"{run.run_id}: {remark}: {count}")
        cut, n = run.record["cost"]["n_truncated"], run.record["dataset"]["n"]
        if cut:
            say(f"{run.run_id}: {cut} of {n} prompts were longer than the model's context and lost their beginning")
    return runs


def train_recipe(recipe: Recipe, catalog: Catalog, *, out: str, data: str, only: Sequence[str] = ()) -> list[str]:
    """Trains a recipe's adapters, each on a base loaded anew; returns their folders."""
    from slmbench.models import load_model, read_adapter, resolve_model
    from slmbench.training import train_adapter

    folders = []
    for name in chosen_adapters(recipe, only):
        loaded = load_model(resolve_model(recipe.spec.model, catalog))
        folder = train_adapter(recipe, name, catalog, loaded, out=out, data=data, progress=progress)
        for task, part in read_adapter(folder).training.get("tasks", {}).items():
            if part["rows_without_reasoning"]:
                say(
                    f"{name}: {task}: {part['rows_without_reasoning']} of {part['rows']} rows have no reasoning: their "
                    "target is the marked answer alone, which teaches a model not to reason"
                )
            if part["truncated_rows"] or part["truncated_answers"]:
                say(
                    f"{name}: {task}: of {part['rows']} rows {part['truncated_rows']} lost the front of their prompt "
                    f"and {part['truncated_answers']} the end of their answer (max_tokens is {recipe.spec.max_tokens})"
                )
        folders.append(folder)
    return folders


def chosen_adapters(recipe: Recipe, only: Sequence[str]) -> list[str]:
    """The recipe's adapters, or those asked for. Raises UsageError for a name that it lacks."""
    for name in only:
        if name not in recipe.spec.adapters:
            hint = did_you_mean(name, recipe.spec.adapters)
            raise UsageError(f"recipe {recipe.name!r} has no adapter {name!r}{hint}")
    return list(only or recipe.spec.adapters)


def show_leaderboard(
    runs: Sequence[str], out: str, *, suite: str | None, tasks: Sequence[str] | None, as_json: bool
) -> str:
    """Builds, writes and prints the leaderboard of runs (folders, or folders of runs); returns the page's path."""
    import json

    from slmbench.leaderboard import build_leaderboard, load_runs, render_text, write_leaderboard

    loaded, notices = load_runs([Path(run) for run in runs])
    board = build_leaderboard(loaded, suite=suite, tasks=list(tasks) if tasks else None, notices=notices)
    if not board.rows:
        raise SlmbenchError("no finished run to rank; see `slmbench eval`")
    folder = Path(out)
    write_leaderboard(board, loaded, folder)
    if as_json:
        print(json.dumps(board.as_json(), indent=1, allow_nan=False))
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        print(render_text(board, width=width, color=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    page = folder / "index.html"
    say(f"page: {page}")
    return str(page)
