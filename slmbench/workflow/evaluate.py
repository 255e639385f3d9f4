"""Models, with adapters or without, on tasks: what `slmbench.evaluate` and every command that scores go through."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from attrs import evolve

from slmbench.catalog import Catalog, default_catalog
from slmbench.console import phase, say
from slmbench.errors import UsageError
from slmbench.evaluation import EvaluationOptions, choose_format, evaluate_tasks, format_remarks
from slmbench.formats import load_format
from slmbench.models import (
    LoadedModel,
    ModelSource,
    adapter_on,
    check_base,
    held_as,
    is_whole_model,
    load_model,
    refuse_unknown,
    resolve_model,
)
from slmbench.paths import shown
from slmbench.runs import Run, read_training
from slmbench.schema import QuantizationSpec
from slmbench.task import Settings, Task, formats_of, load_task


def evaluate(
    model: str | LoadedModel,
    tasks: str | Task | Sequence[str | Task],
    *,
    adapter: str | None = None,
    force_base: bool = False,
    out: str = "slmbench-out",
    format: str | None = None,
    batch: int | str = "auto",
    engine: str = "shared",
    kv_budget_bytes: float | None = None,
    latency: bool = False,
    limit: int | None = None,
    seed: int = 0,
    shots: int | None = None,
    cot: str | None = None,
    samples: int | None = None,
    allow_unsafe_code: bool = False,
    no_texts: bool = False,
    catalog: Catalog | None = None,
) -> list[Run]:
    """Scores a model on tasks; one finished Run each, in the order of `tasks`, in `<out>/runs`.

    model: a registry name, a folder, a hub id, or a LoadedModel (`slmbench.models.bind_model` makes one from memory).
    tasks: a task's name, or several separated by commas, or a Task, or a sequence of names and Tasks.
    adapter: a peft folder, put on the model for the length of the call; a model that is given by name is held as the
    adapter was trained on it, in its dtype and packed where it is QLoRA's. force_base: whatever model it was made on.
    format: plain, chat or toon; unless told that of the adapter's (or model's) training, else plain.
    batch: how many rows' memory may be taken, or auto. engine: shared, or lm-eval's own, hf.
    kv_budget_bytes, latency: see docs/engine.md. limit: only the first so many items of each task.
    shots, cot, samples: in place of what the tasks declare. allow_unsafe_code: run the programs of code tasks on a
    machine that has no sandbox for them. no_texts: pages show digests in place of the new runs' texts. catalog: where
    names are looked up; `default_catalog()` unless given.
    The same call again returns the runs that are there already, and goes on with one that was cut off.
    Raises SlmbenchError's children, as the command line does.
    """
    catalog = catalog or default_catalog()
    if isinstance(tasks, str):
        tasks = [name.strip() for name in tasks.split(",") if name.strip()]
    listed = [tasks] if isinstance(tasks, Task) else list(tasks)
    if not listed:
        raise UsageError('no task to evaluate; give a name, as "nano_note" (`slmbench list tasks` shows them)')
    options = EvaluationOptions(
        out=out,
        format=format,
        batch=batch,
        engine=engine,
        kv_budget_bytes=kv_budget_bytes,
        latency=latency,
        limit=limit,
        seed=seed,
        allow_unsafe_code=allow_unsafe_code,
        no_texts=no_texts,
    )
    if not isinstance(model, LoadedModel):
        refuse_unknown(model, catalog)
    ready = [load_task(task, catalog) if isinstance(task, str) else task for task in listed]
    adjusted, _ = Settings(shots, cot, samples).of(ready)
    trained = [] if adapter is None else [adapter]
    if isinstance(model, LoadedModel):
        given = model
    else:
        given = load_held(resolve_model(model, catalog), *held_as(trained))
    options = evolve(options, format=choose_format(given, trained, format, formats_of(ready, catalog)))
    # A LoadedModel is the caller's: it is given back without the adapter's layers.
    with nullcontext(given) if adapter is None else adapter_on(given, adapter, force_base=force_base) as loaded:
        return evaluate_tasks(loaded, adjusted, options)


def evaluate_all(
    model: str,
    trained: Sequence[str],
    tasks: Sequence[Task],
    catalog: Catalog,
    options: EvaluationOptions,
    *,
    twin: bool = False,
    force_base: bool = False,
) -> list[Run]:
    """Runs of the base and of everything in `trained`, all on the same tasks.

    trained: folders of adapters, or of whole models where all weights were trained. force_base: on this base whatever
    they say of theirs.
    """
    source = resolve_model(model, catalog, twin=twin)
    adapters = [folder for folder in trained if not is_whole_model(folder)]
    whole = {folder: _held_whole(folder) for folder in trained if folder not in adapters}
    # A wrong path, or another model's adapter, must not come to light after the base has been scored.
    dtype, quantization = held_as(adapters)
    options = evolve(options, format=choose_format(source, trained, options.format, formats_of(tasks, catalog)))
    loaded = load_held(source, dtype, quantization)
    for folder in adapters:
        if check_base(loaded, folder, force=force_base).training is None:
            with adapter_on(loaded, folder, force_base=force_base):
                pass  # What another tool made is put on once, so that whatever is odd about it is told now.
    encoded: dict[Any, Any] = {}  # Base and adapters are sent the same token ids.
    style = load_format(str(options.format), formats_of(tasks))
    said = set(format_remarks(loaded, style))
    runs = evaluate_tasks(loaded, tasks, options, encoded=encoded)
    for folder in adapters:
        with adapter_on(loaded, folder, force_base=force_base) as tuned:
            said |= set(format_remarks(tuned, style))
            shared = encoded if tuned.tokenizer is loaded.tokenizer else {}
            runs += evaluate_tasks(tuned, tasks, options, encoded=shared)
    del loaded
    for folder, whole_dtype in whole.items():
        alone = _as_trained(source, folder, catalog, whole_dtype)
        said |= set(format_remarks(alone, style))
        runs += evaluate_tasks(alone, tasks, options)
    for run in runs:
        n = run.record["dataset"]["n"]
        for remark, count in run.record.get("remarks", {}).items():
            if remark not in said:  # Told before the first of its runs.
                say(f"{run.run_id}: {remark}: {count} of {n}")
    return runs


def _held_whole(folder: str) -> str:
    """The dtype of a model whose weights were all trained. Raises UsageError if no training made the folder."""
    try:
        return read_training(folder).dtype
    except FileNotFoundError:
        raise UsageError(
            f"--adapter {shown(folder)}: it holds a whole model, and no training.json that says what it was trained "
            f"from; give it as the model: slmbench eval {shown(folder)}"
        ) from None


def _as_trained(source: ModelSource, folder: str, catalog: Catalog, dtype: str) -> LoadedModel:
    """The model that a training of all weights made of a source."""
    whole = resolve_model(folder, catalog)
    name = f"{source.name}-{whole.name}"
    return load_model(evolve(whole, name=name, family=source.family, twin=source.twin), dtype=dtype)


def load_held(source: ModelSource, dtype: str, quantization: QuantizationSpec | None) -> LoadedModel:
    """A base held as its adapters were trained on it (`held_as`): in their dtype, packed where they are QLoRA's."""
    if quantization is not None:
        say(f"the base is held as its adapters were trained on it: {quantization.type}, double={quantization.double}")
    with phase(f"loading {source.name}"):
        return load_model(source, dtype=dtype, quantization=quantization)
