"""The Python way in for a whole evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from slmbench.catalog import Catalog, default_catalog
from slmbench.evaluation import evaluate_tasks
from slmbench.models import LoadedModel, load_model, resolve_model
from slmbench.runs import Run
from slmbench.task import Settings, Task, load_task


def evaluate(
    model: str | LoadedModel,
    tasks: Sequence[str | Task],
    *,
    adapter: str | None = None,
    out: str = "slmbench-out",
    format: str = "plain",
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
    catalog: Catalog | None = None,
) -> list[Run]:
    """Scores a model on tasks; one finished Run each, in `<out>/runs`.

    model: a registry name, a folder, a hub id, or a LoadedModel (`slmbench.models.bind_model` makes one from memory).
    adapter: a peft folder. batch: how many rows' memory may be taken, or auto. engine: shared, or lm-eval's own, hf.
    kv_budget_bytes, latency: see docs/engine.md.
    shots, cot, samples: in place of what the tasks declare. allow_unsafe_code: run the programs of code tasks on a
    machine that has no sandbox for them. Raises SlmbenchError's children, as the command line does.
    """
    catalog = catalog or default_catalog()
    if isinstance(model, LoadedModel):
        loaded = model
    else:
        loaded = load_model(resolve_model(model, catalog), adapter)
    ready = [load_task(task, catalog) if isinstance(task, str) else task for task in tasks]
    adjusted, _ = Settings(shots, cot, samples).of(ready)
    return evaluate_tasks(
        loaded,
        adjusted,
        out=out,
        format=format,
        batch=batch,
        engine=engine,
        kv_budget_bytes=kv_budget_bytes,
        latency=latency,
        limit=limit,
        seed=seed,
        allow_unsafe_code=allow_unsafe_code,
    )
