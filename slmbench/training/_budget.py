"""Whether a training fits into memory and, where it doesn't, the smallest change of its recipe that does."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from attrs import evolve

from slmbench.errors import UsageError
from slmbench.machine import available_bytes
from slmbench.training._forecast import Forecast, TrainingPlan, forecast_rows, weights_dtype

GB = 1e9
Change = tuple[tuple[str, str], ...]
Batch = Sequence[tuple[int, int]]
Step = tuple[Change, Callable[[TrainingPlan], TrainingPlan], Callable[[Batch], Batch]]


def check_budget(forecast: Forecast, limit_bytes: int | None = None) -> None:
    """Raises UsageError if a forecast is over what there is, with the smallest change of the recipe that fits.

    limit_bytes: what may be taken; None for what the machine has free, and then nothing is checked where that can't be
    known. Changes are tried one at a time, then together, those that leave the result as it is first: a smaller batch
    accumulated oftener, shorter packs, checkpointing; then the dtype, the optimiser, a packed base, shorter rows. Of
    several processes each has to fit into its GPU, or on a CPU into its share of the memory; fewer aren't tried.
    """
    limit = available_bytes(forecast.device) if limit_bytes is None else limit_bytes
    n = 1 if forecast.plan is None else forecast.plan.spec.launch.processes
    if limit is not None and n > 1 and forecast.device == "cpu":
        limit //= n
    if limit is None or forecast.total_bytes <= limit:
        return
    whose = "are free" if limit_bytes is None else "are allowed (memory_limit_gb)"
    who = "this training" if n == 1 else f"each of the {n} processes of this training"
    each = " for it" if n > 1 and forecast.device == "cpu" else ""
    needs = f"{who} needs {_gb(forecast.total_bytes)} ({_largest_parts(forecast)}), {_gb(limit)} {whose}{each}"
    smallest: tuple[int, Change] = (forecast.total_bytes, ())
    if forecast.plan is not None:
        for change, plan, batch in _changes(forecast, limit):
            found = forecast_rows(plan, batch).total_bytes
            if found <= limit:
                raise UsageError(f"{needs}; {_as_options(change)} needs {_gb(found)}")
            smallest = min(smallest, (found, change))
    if not smallest[1]:
        raise UsageError(f"{needs}; no change of the recipe makes it smaller: choose {_smaller(n)}")
    raise UsageError(
        f"{needs}; the least that it can be brought to is {_gb(smallest[0])}, with {_as_options(smallest[1])}: choose "
        f"{_smaller(n)}"
    )


def _smaller(processes: int) -> str:
    fewer = f"fewer processes (`--set launch.processes={processes // 2}`) or " if processes > 1 else ""
    return f"{fewer}a smaller model"


def _changes(forecast: Forecast, limit: int) -> Iterator[tuple[Change, TrainingPlan, Batch]]:
    """(what to set, the plan with it, its largest micro-batch): each change alone, then more and more together."""
    plan: TrainingPlan = forecast.plan
    rows: Batch = forecast.batch
    # What no batch however small gets rid of: where that alone is too much, rows needn't be tried.
    stands = sum(forecast.parts[key] for key in ("weights", "adapter", "gradients", "optimizer")) + plan.base_bytes
    singles = [*(_batches(plan, rows) if stands < limit else ()), *_others(plan)]
    for change, plan_of, rows_of in singles:
        yield change, plan_of(plan), rows_of(rows)
    together: Change = ()
    made, left = plan, rows
    smallest_batch = [*_batches(plan, rows)][-1:]
    for change, plan_of, rows_of in [*smallest_batch, *_others(plan)]:
        keys = {key for key, _ in change}
        together = (*(item for item in together if item[0] not in keys), *change)
        made, left = plan_of(made), rows_of(left)
        yield together, made, left


def _batches(plan: TrainingPlan, rows: Batch) -> Iterator[Step]:
    """The same rows a step in smaller micro-batches; packs are as large as `batch` says too."""
    optim, spec, processes = plan.optim, plan.spec, plan.spec.launch.processes
    effective = optim.batch * optim.accumulate
    for batch in (n for n in range(optim.batch - 1, processes - 1, -1) if optim.batch % n == 0):
        change = (("optim.batch", str(batch)), ("optim.accumulate", str(effective // batch)))
        # What one process has of it: the shares are about equal, and the largest rows the worst.
        share = -(-batch // processes)
        tokens = -(-batch * spec.max_tokens // processes) if spec.packing else None
        yield (
            change,
            _with_optim(batch=batch, accumulate=effective // batch),
            partial(_largest, n=share, pack_tokens=tokens),
        )
    own = -(-optim.batch // processes)
    if spec.packing and len(rows) > own:
        yield (("packing", "false"),), _with_spec(packing=False), lambda rows: _largest(rows, own, None)


def _others(plan: TrainingPlan) -> Iterator[Step]:
    spec, optim = plan.spec, plan.optim

    def same(rows: Batch) -> Batch:
        return rows

    if not optim.gradient_checkpointing:
        yield (("optim.gradient_checkpointing", "true"),), _with_optim(gradient_checkpointing=True), same
    if weights_dtype(spec, plan.source, plan.device) == "float32" and spec.method == "lora":
        yield (("dtype", "bfloat16"),), _with_spec(dtype="bfloat16"), same
    packs = importlib.util.find_spec("bitsandbytes") is not None
    if packs and optim.optimizer in ("adamw_torch", "adamw_torch_fused"):
        yield (("optim.optimizer", "adamw_8bit"),), _with_optim(optimizer="adamw_8bit"), same
    if packs and spec.method == "lora":
        yield (("method", "qlora"),), _with_spec(method="qlora"), same
    if spec.method == "full":
        yield (("method", "lora"),), _with_spec(method="lora"), same
    tokens = spec.max_tokens // 2
    while tokens >= 64:
        yield (("max_tokens", str(tokens)),), _with_spec(max_tokens=tokens), partial(_cut, most=tokens)
        tokens //= 2


def _with_optim(**settings: object) -> Callable[[TrainingPlan], TrainingPlan]:
    return lambda plan: evolve(plan, optim=plan.optim.model_copy(update=settings))


def _with_spec(**settings: object) -> Callable[[TrainingPlan], TrainingPlan]:
    return lambda plan: evolve(plan, spec=plan.spec.model_copy(update=settings))


def _largest(rows: Batch, n: int, pack_tokens: int | None) -> list[tuple[int, int]]:
    """The longest of the rows: n of them, or, in packs, as many as there is room for."""
    by_length = sorted(rows, key=sum, reverse=True)
    if pack_tokens is None:
        return by_length[:n]
    taken: list[tuple[int, int]] = []
    for row in by_length:
        if not taken or sum(map(sum, taken)) + sum(row) <= pack_tokens:
            taken.append(row)
    return taken


def _cut(rows: Batch, most: int) -> list[tuple[int, int]]:
    """Rows cut to so many tokens, the prompt's first."""
    return [(max(1, min(prompt, most - answer)), min(answer, most - 1)) for prompt, answer in rows]


def _as_options(change: Change) -> str:
    return "`" + " ".join(f"--set {key}={value}" for key, value in change) + "`"


def _largest_parts(forecast: Forecast) -> str:
    parts = sorted(forecast.parts.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {_gb(size)}" for name, size in parts)


def _gb(size: float) -> str:
    return f"{size / GB:.2f} GB" if size < 10 * GB else f"{size / GB:.1f} GB"
