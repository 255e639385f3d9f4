"""Tasks, a loaded model, lm-eval between them, and a finished run for each task."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from statistics import quantiles
from typing import Any

from attrs import frozen

from slmbench.datasets import digest_rows
from slmbench.errors import DataError, SlmbenchError, UsageError
from slmbench.evaluation._engine import ENGINE, build_engine, engine_version
from slmbench.evaluation._harness import build_harness_task, generation_kwargs, render_all
from slmbench.evaluation._quiet import quiet_harness
from slmbench.files import disk_errors
from slmbench.formats import Format, Rendered, load_format
from slmbench.metrics.estimate import estimate
from slmbench.models import LoadedModel, tokenizer_sha256
from slmbench.runs import (
    OpenRun,
    Run,
    canonical_sha256,
    code,
    finished_run,
    hardware,
    packages,
    peak_memory_bytes,
    peak_vram_bytes,
    reset_peak_memory,
)
from slmbench.task import Task
from slmbench.values import Example

Progress = Callable[[str, int], Callable[[int], Any]]


@frozen(eq=False)
class _Job:
    """One task of an evaluation, ready to run."""

    task: Task
    examples: tuple[Example, ...]
    rendered: list[Rendered]
    folder: str
    record: dict[str, Any]


def evaluate_tasks(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    *,
    out: str,
    format: str = "plain",
    batch: int = 32,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Run]:
    """Scores a model on tasks, one run each in `<out>/runs/<run_id>`; runs that are there already are not repeated.

    The run's id is made of everything its numbers depend on, so the same call resumes: finished requests of a killed
    run are read from its journal. progress(title, total) -> advance(n), for a bar.
    Raises UsageError, DataError, OfflineError, HookError before any model runs; SlmbenchError where lm-eval fails.
    """
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise UsageError(f"a task is listed twice: {', '.join(names)}")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; it has to be at least 1")
    style = load_format(format)
    jobs = [_prepare(loaded, task, style, out, batch, limit, seed) for task in tasks]
    finished = {job.task.name: run for job in jobs if (run := finished_run(job.folder)) is not None}
    todo = [job for job in jobs if job.task.name not in finished]
    if todo:
        finished |= _run(loaded, todo, style, batch, seed, progress)
    return [finished[name] for name in names]


def _prepare(
    loaded: LoadedModel, task: Task, style: Format, out: str, batch: int, limit: int | None, seed: int
) -> _Job:
    examples = task.examples(task.spec.split, limit)
    rendered = render_all(task, examples, style, loaded.tokenizer)
    _check_room(loaded, task)
    shots = task.shots()
    rows = task.rows(task.spec.split)
    adapter = loaded.adapter
    training = adapter.training if adapter else {}
    template = loaded.tokenizer.chat_template if style.name == "chat" else None
    generation = generation_kwargs(task) if task.kind == "generate" else {}
    prompts = hashlib.sha256("\0".join(one.text for one in rendered).encode()).hexdigest()
    record: dict[str, Any] = {
        "seed": seed,
        "limit": limit,
        "model": {
            "name": loaded.source.name,
            "id": loaded.source.id,
            "revision": loaded.source.revision,
            "weights_sha256": loaded.weights_sha256,
            "config_sha256": loaded.config_sha256,
            "dtype": loaded.dtype,
            "parameters": loaded.parameters,
        },
        "adapter": None
        if adapter is None
        else {
            "name": adapter.name,
            "sha256": adapter.sha256,
            "bytes": adapter.bytes,
            "parameters": adapter.parameters,
            "rank": adapter.rank,
            "recipe": training.get("recipe"),
            "recipe_sha256": training.get("recipe_sha256"),
            "train_seed": training.get("seed"),
            "train_s": training.get("train_s"),
            "tasks": list(training.get("tasks", {})),
        },
        "tokenizer_sha256": tokenizer_sha256(loaded.tokenizer),
        "chat_template_sha256": hashlib.sha256(str(template).encode()).hexdigest() if template else None,
        "format": style.name,
        "task": {"id": task.name, "version": task.version, "digest": task.digest(style), "kind": task.kind},
        "dataset": {
            "id": task.dataset.spec.hub or task.dataset.name,
            "revision": rows.revision,
            "split": task.spec.split,
            "source": rows.source,
            "content_sha256": digest_rows(rows.rows[: len(examples)]),
            "item_ids_sha256": canonical_sha256([example.id for example in examples]),
            # What hooks made of the rows, which the rows' own digest can't know.
            "items_sha256": canonical_sha256([_item(task, example) for example in examples]),
            "n": len(examples),
        },
        "fewshot": {"n": len(shots), "split": task.spec.fewshot.split if shots else None},
        "fewshot_sha256": canonical_sha256([[shot.user, shot.answer] for shot in shots]) if shots else None,
        "prompts_sha256": prompts,
        "generation": generation,
        "scorer": {
            "id": "+".join(scorer.name for scorer in task.scorers),
            "version": "+".join(scorer.version for scorer in task.scorers),
        },
        "engine": ENGINE,
        "engine_version": engine_version(),
        "batch_size": batch,
    }
    # Two models are compared on the same items, asked the same way and scored the same way. Where the rows lay, on the
    # hub, in a mirror or in a file, is no difference.
    compared = ("format", "fewshot_sha256", "generation", "scorer")
    items = {key: record["dataset"][key] for key in ("split", "items_sha256", "item_ids_sha256", "n")}
    record["comparability_key"] = canonical_sha256([task.name, task.version, items, *(record[key] for key in compared)])
    identity = canonical_sha256(
        record
        | {"adapter": adapter and adapter.sha256, "slmbench": code()["version"], "device": str(loaded.model.device)}
    )[:10]
    who = loaded.source.name + (f"+{adapter.name}" if adapter else "")
    run_id = f"{re.sub(r'[^A-Za-z0-9._+-]', '-', who)}__{task.name}__{identity}"
    return _Job(task, examples, rendered, os.path.join(out, "runs", run_id), {"run_id": run_id, **record})


def _item(task: Task, example: Example) -> list[Any]:
    prompt = task.prompt(example)
    asked = [prompt.system, prompt.user, prompt.prefix]
    return [example.id, *asked, list(example.references), list(example.choices), example.gold, example.cluster]


def _check_room(loaded: LoadedModel, task: Task) -> None:
    context = getattr(loaded.model.config, "max_position_embeddings", None)
    if task.kind == "generate" and context is not None and task.spec.generation.max_tokens >= context:
        raise UsageError(
            f"task {task.name!r} generates up to {task.spec.generation.max_tokens} tokens, but "
            f"{loaded.source.name!r} has a context of {context}; lower generation.max_tokens in "
            "its task.yaml or take a model with more"
        )


def _run(
    loaded: LoadedModel, jobs: list[_Job], style: Format, batch: int, seed: int, progress: Progress | None
) -> dict[str, Run]:
    import lm_eval
    from lm_eval.tasks import TaskManager

    reset_peak_memory()
    hardware()  # Asked for now, so that an unknown machine fails before the work and not after it.
    open_runs: dict[str, OpenRun] = {}
    try:
        for job in jobs:
            with disk_errors(job.folder):
                os.makedirs(job.folder, exist_ok=True)
            facts = {"code": code(), "packages": packages(), "hardware": hardware()}
            open_runs[job.task.name] = OpenRun(job.folder, {**job.record, **facts})
        n_requests = sum(len(example.choices) or 1 for job in jobs for example in job.examples)
        who = loaded.source.name + (f" + {loaded.adapter.name}" if loaded.adapter else "")
        advance = progress(f"evaluate {who}", n_requests) if progress else None
        engine = build_engine(
            loaded,
            style,
            batch=batch,
            journals={name: run.journal for name, run in open_runs.items()},
            seed=seed,
            progress=advance,
        )
        try:
            with quiet_harness():
                results = lm_eval.simple_evaluate(
                    model=engine,
                    tasks=[build_harness_task(job.task, job.examples, job.rendered) for job in jobs],
                    task_manager=TaskManager(include_defaults=False),
                    bootstrap_iters=0,
                    log_samples=True,
                    random_seed=seed,
                    numpy_random_seed=seed,
                    torch_random_seed=seed,
                    fewshot_random_seed=seed,
                )
        except ValueError as error:
            raise DataError(f"scoring failed: {error}") from error
        return {job.task.name: _finish(job, open_runs[job.task.name], engine, results) for job in jobs}
    finally:
        for run in open_runs.values():
            run.close()


def _finish(job: _Job, run: OpenRun, engine: Any, results: dict[str, Any]) -> Run:
    logged = sorted(results["samples"][job.task.name], key=lambda sample: sample["doc_id"])
    samples = [_sample(job, engine, sample) for sample in logged]
    if len(samples) != len(job.examples):
        raise SlmbenchError(f"lm-eval returned {len(samples)} of {len(job.examples)} items of {job.task.name!r}")
    metrics = []
    for scorer in job.task.scorers:
        guesses = [chance for example in job.examples if (chance := scorer.chance(example)) is not None]
        for name in scorer.values:
            values = [sample["scores"][name] for sample in samples]
            mean = estimate(values, [sample["cluster_id"] for sample in samples])
            theirs = results["results"][job.task.name][f"{name},none"]
            if abs(theirs - mean.value) > 1e-9:
                raise SlmbenchError(f"{job.task.name}/{name}: lm-eval says {theirs}, the samples say {mean.value}")
            metrics.append(
                {
                    "name": name,
                    "value": mean.value,
                    "se": mean.stderr,
                    "ci_lo": mean.ci_low,
                    "ci_hi": mean.ci_high,
                    "method": mean.method,
                    "n": mean.n,
                    "n_error": 0,
                    "higher_is_better": scorer.higher_is_better,
                    "chance": sum(guesses) / len(guesses) if guesses else None,
                }
            )
    latencies = [sample["latency_ms"] for sample in samples]
    cost = {
        # The model's own time, each batch's shared out among its rows; that of a resumed run's first part included.
        "seconds": round(sum(sample["compute_ms"] for sample in samples) / 1000, 3),
        # Of the batch that an item was in: what a user of this batch size waits, not single-stream latency.
        "latency_p50_ms": round(_quantile(latencies, 50), 3),
        "latency_p90_ms": round(_quantile(latencies, 90), 3),
        "ram_peak_B": peak_memory_bytes(),
        "vram_peak_B": peak_vram_bytes(),
        "tokens_in": sum(sample["tokens_in"] for sample in samples),
        "tokens_out": sum(sample["tokens_out"] for sample in samples),
        "n_truncated": sum(sample["truncated"] for sample in samples),
        "n_resumed": run.resumed,
    }
    return run.finish(samples, {"metrics": metrics, "cost": cost})


def _sample(job: _Job, engine: Any, logged: dict[str, Any]) -> dict[str, Any]:
    index = logged["doc"]["index"]
    example, prompt = job.examples[index], job.rendered[index].text
    kind = "loglikelihood" if example.choices else "generate_until"
    records = [engine.record_of(job.task.name, kind, tuple(args)) for args in logged["arguments"]]
    names = [value for scorer in job.task.scorers for value in scorer.values]
    loglikelihoods = [record["loglikelihood"] for record in records] if example.choices else None
    if loglikelihoods is not None:
        output = example.choices[max(range(len(loglikelihoods)), key=lambda i: loglikelihoods[i])]
    else:
        output = records[0]["text"]
    return {
        "item_id": example.id,
        "epoch": 0,
        "cluster_id": example.cluster,
        "prompt": prompt,
        "prompt_sha256": hashlib.sha256(prompt.encode(errors="surrogatepass")).hexdigest(),
        "target": job.task.answer(example),
        "references": list(example.references),
        "output": output,
        "choices": list(example.choices) or None,
        "loglikelihoods": loglikelihoods,
        "gold": example.gold,
        "finish_reason": "scored" if example.choices else records[0]["finish_reason"],
        "tokens_in": sum(record["tokens_in"] for record in records),
        "tokens_out": sum(record["tokens_out"] for record in records),
        "truncated": any(record["truncated"] for record in records),
        "latency_ms": round(max(record["latency_ms"] for record in records), 3),
        "compute_ms": round(sum(record["share_ms"] for record in records), 3),
        "scores": {name: float(logged[name]) for name in names},
    }


def _quantile(values: list[float], percent: int) -> float:
    return values[0] if len(values) == 1 else quantiles(values, n=100, method="inclusive")[percent - 1]
