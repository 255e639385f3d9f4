"""The Python way in for a whole evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from slmbench.catalog import Catalog, default_catalog
from slmbench.errors import UsageError
from slmbench.evaluation import choose_format, evaluate_tasks
from slmbench.models import LoadedModel, adapter_on, held_as, load_model, refuse_unknown, resolve_model
from slmbench.runs import Run
from slmbench.task import Settings, Task, load_task


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
    tasks: a task's name, or several with commas between, or a Task, or a sequence of names and Tasks.
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
    if not isinstance(model, LoadedModel):
        refuse_unknown(model, catalog)
    ready = [load_task(task, catalog) if isinstance(task, str) else task for task in listed]
    adjusted, _ = Settings(shots, cot, samples).of(ready)
    trained = [] if adapter is None else [adapter]
    given = model if isinstance(model, LoadedModel) else _load(model, trained, catalog)
    chosen = choose_format(given, trained, format)
    # A LoadedModel is the caller's: it is given back without the adapter's layers.
    with nullcontext(given) if adapter is None else adapter_on(given, adapter, force_base=force_base) as loaded:
        return evaluate_tasks(
            loaded,
            adjusted,
            out=out,
            format=chosen,
            batch=batch,
            engine=engine,
            kv_budget_bytes=kv_budget_bytes,
            latency=latency,
            limit=limit,
            seed=seed,
            allow_unsafe_code=allow_unsafe_code,
            no_texts=no_texts,
        )


def _load(model: str, adapters: Sequence[str], catalog: Catalog) -> LoadedModel:
    source = resolve_model(model, catalog)
    dtype, quantization = held_as(adapters)
    return load_model(source, dtype=dtype, quantization=quantization)
