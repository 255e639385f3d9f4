"""What several commands do: evaluate a model with adapters, and turn runs into a leaderboard that is shown."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slmbench.catalog import Catalog
from slmbench.console import phase, say, show, show_json
from slmbench.errors import SlmbenchError, UsageError, did_you_mean
from slmbench.paths import shown

if TYPE_CHECKING:
    from slmbench.models import LoadedModel, ModelSource
    from slmbench.recipe import Recipe
    from slmbench.runs import Run
    from slmbench.task import Task

DEFAULT_OUT = "slmbench-out"


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
    trained: Sequence[str],
    tasks: Sequence[Task],
    catalog: Catalog,
    *,
    out: str,
    format: str | None,
    batch: int | str,
    limit: int | None,
    seed: int,
    engine: str = "shared",
    kv_budget_bytes: float | None = None,
    latency: bool = False,
    allow_unsafe_code: bool = False,
    twin: bool = False,
    no_texts: bool = False,
    force_base: bool = False,
) -> list[Run]:
    """Runs of the base and of everything in `trained`, all on the same tasks.

    trained: folders of adapters, or of whole models where all weights were trained. The base is held as the adapters
    were trained on it: in their dtype, and packed into four bits where they are QLoRA's. force_base: on this base
    whatever they say of theirs. format: that of the trainings, else plain, where it is None.
    """
    from slmbench.evaluation import Engine, choose_format, evaluate_tasks, format_remarks
    from slmbench.formats import load_format
    from slmbench.models import adapter_on, check_base, held_as, is_whole_model, load_model, resolve_model

    Engine(engine, batch, kv_budget_bytes, latency)  # Refused before anything is loaded.
    source = resolve_model(model, catalog, twin=twin)
    adapters = [folder for folder in trained if not is_whole_model(folder)]
    whole = {folder: _held_whole(folder) for folder in trained if folder not in adapters}
    # A wrong path, or another model's adapter, must not come to light after the base has been scored.
    dtype, quantization = held_as(adapters)
    format = choose_format(source, trained, format)
    if quantization is not None:
        say(f"the base is held as its adapters were trained on it: {quantization.type}, double={quantization.double}")
    with phase(f"loading {source.name}"):
        loaded = load_model(source, dtype=dtype, quantization=quantization)
    for folder in adapters:
        if check_base(loaded, folder, force=force_base).training is None:
            with adapter_on(loaded, folder, force_base=force_base):
                pass  # What another tool made is put on once, so that whatever is odd about it is told now.
    options: dict[str, Any] = {
        "format": format,
        "batch": batch,
        "engine": engine,
        "kv_budget_bytes": kv_budget_bytes,
        "latency": latency,
        "limit": limit,
        "seed": seed,
        "allow_unsafe_code": allow_unsafe_code,
        "no_texts": no_texts,
    }
    encoded: dict[Any, Any] = {}  # Base and adapters are sent the same token ids.
    style = load_format(format)
    said = set(format_remarks(loaded, style))
    runs = evaluate_tasks(loaded, tasks, out=out, encoded=encoded, **options)
    for folder in adapters:
        with adapter_on(loaded, folder, force_base=force_base) as tuned:
            said |= set(format_remarks(tuned, style))
            shared = encoded if tuned.tokenizer is loaded.tokenizer else {}
            runs += evaluate_tasks(tuned, tasks, out=out, encoded=shared, **options)
    del loaded
    for folder, whole_dtype in whole.items():
        alone = _as_trained(source, folder, catalog, whole_dtype)
        said |= set(format_remarks(alone, style))
        runs += evaluate_tasks(alone, tasks, out=out, **options)
    for run in runs:
        n = run.record["dataset"]["n"]
        for remark, count in run.record.get("remarks", {}).items():
            if remark not in said:  # Told before the first of its runs.
                say(f"{run.run_id}: {remark}: {count} of {n}")
    return runs


def _held_whole(folder: str) -> str:
    """The dtype of a model whose weights were all trained. Raises UsageError where no training made the folder."""
    from slmbench.models import read_training

    try:
        return read_training(folder).dtype
    except FileNotFoundError:
        raise UsageError(
            f"--adapter {shown(folder)}: it holds a whole model, and no training.json that says what it was trained "
            f"from; give it as the model: slmbench eval {shown(folder)}"
        ) from None


def _as_trained(source: ModelSource, folder: str, catalog: Catalog, dtype: str) -> LoadedModel:
    """The model that a training of all weights made of a source."""
    from attrs import evolve

    from slmbench.models import load_model, resolve_model

    whole = resolve_model(folder, catalog)
    name = f"{source.name}-{whole.name}"
    return load_model(evolve(whole, name=name, family=source.family, twin=source.twin), dtype=dtype)


def train_recipe(
    recipe: Recipe,
    catalog: Catalog,
    *,
    out: str,
    data: str,
    only: Sequence[str] = (),
    twin: bool = False,
    resume: bool = True,
) -> list[str]:
    """Trains a recipe's adapters, each on a base loaded anew; returns their folders."""
    from slmbench.models import resolve_model
    from slmbench.training import train_adapter

    source = resolve_model(recipe.spec.model, catalog, twin=twin)
    options: dict[str, Any] = {"out": out, "data": data, "resume": resume}
    folders = []
    for name in chosen_adapters(recipe, only):
        folders.append(train_adapter(recipe, name, catalog, source, **options))
    return folders


def chosen_adapters(recipe: Recipe, only: Sequence[str]) -> list[str]:
    """The recipe's adapters, or those asked for. Raises UsageError for a name that it lacks."""
    for name in only:
        if name not in recipe.spec.adapters:
            hint = did_you_mean(name, recipe.spec.adapters)
            raise UsageError(f"recipe {recipe.name!r} has no adapter {name!r}{hint}")
    return list(only or recipe.spec.adapters)


def show_leaderboard(
    runs: Sequence[str],
    out: str,
    *,
    suite: str | None,
    tasks: Sequence[str] | None,
    as_json: bool,
    no_texts: bool = False,
) -> str:
    """Builds, writes and prints the leaderboard of runs (folders, or folders of runs); returns the page's path."""
    from slmbench.leaderboard import build_leaderboard, load_runs, render_text, write_leaderboard

    with phase("leaderboard"):
        loaded, notices = load_runs([Path(run) for run in runs])
        board = build_leaderboard(loaded, suite=suite, tasks=list(tasks) if tasks else None, notices=notices)
        if not board.rows:
            raise SlmbenchError("no finished run to rank; see `slmbench eval`")
        folder = Path(out)
        write_leaderboard(board, loaded, folder, no_texts=no_texts)
    if as_json:
        show_json(board.as_json())
    else:
        width = shutil.get_terminal_size((100, 24)).columns
        for line in render_text(board, width=width, color=True).split("\n"):
            show(line, painted=True)
    page = folder / "index.html"
    say(f"page: {page}")
    return str(page)


def listed(flag: str, names: str) -> list[str]:
    """Names with commas between, at least one. Raises UsageError."""
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if not listed:
        raise UsageError(f"{flag} {names!r} names nothing; give names with commas between")
    return listed
