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
from slmbench.errors import SlmbenchError, UsageError

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
    with_base: bool = True,
) -> list[Run]:
    """Runs of the base (unless told otherwise) and of each adapter folder, all on the same tasks."""
    from slmbench.evaluation import evaluate_tasks
    from slmbench.models import attach_adapter, load_model, resolve_model

    source = resolve_model(model, catalog)
    loaded = load_model(source)
    options: dict[str, Any] = {"format": format, "batch": batch, "limit": limit, "seed": seed, "progress": progress}
    runs = list(evaluate_tasks(loaded, tasks, out=out, **options)) if with_base else []
    for folder in adapters:
        tuned = attach_adapter(loaded, folder)
        runs += evaluate_tasks(tuned, tasks, out=out, **options)
        loaded = detached(tuned, loaded)
    return runs


def detached(tuned: Any, base: Any) -> Any:
    """The base again, with the adapter's layers taken out of it."""
    tuned.model.unload()
    return base


def train_recipe(recipe: Recipe, catalog: Catalog, *, out: str, data: str, only: Sequence[str] = ()) -> list[str]:
    """Trains a recipe's adapters, each on a base loaded anew; returns their folders."""
    from slmbench.models import load_model, resolve_model
    from slmbench.training import train_adapter

    unknown = [name for name in only if name not in recipe.spec.adapters]
    if unknown:
        from slmbench.errors import did_you_mean

        raise UsageError(
            f"recipe {recipe.name!r} has no adapter {unknown[0]!r}{did_you_mean(unknown[0], recipe.spec.adapters)}"
        )
    folders = []
    for name in only or recipe.spec.adapters:
        loaded = load_model(resolve_model(recipe.spec.model, catalog))
        folders.append(train_adapter(recipe, name, catalog, loaded, out=out, data=data, progress=progress))
    return folders


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
