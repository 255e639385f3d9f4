"""Tasks, a loaded model, lm-eval between them, and a finished run for each task."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from slmbench.console import phase, say
from slmbench.datasets import digest_rows
from slmbench.errors import DataError, UsageError
from slmbench.evaluation._answers import check_scored, check_written
from slmbench.evaluation._engine import AUTO, Encoded, Engine, build_engine
from slmbench.evaluation._harness import Judge, Request, build_harness_task, generation_kwargs, render_all
from slmbench.evaluation._judge import judge_code, refuse_unscorable, sandbox_record
from slmbench.evaluation._quiet import quiet_harness
from slmbench.evaluation._results import finish
from slmbench.evaluation._seq2seq import decoder_tokens, encoder_tokens
from slmbench.evaluation._trained_format import format_remarks
from slmbench.evaluation.shared_prefix._generation_config import surprises_of
from slmbench.files import disk_errors
from slmbench.formats import Format, dated, load_format
from slmbench.installed import package_of
from slmbench.machine import code, hardware, packages, reset_peak_memory
from slmbench.models import LoadedModel, TrainingFile, core_model, tokenizer_sha256
from slmbench.paths import shown
from slmbench.runs import OpenRun, Run, canonical_sha256, finished_run
from slmbench.sandbox import Sandbox
from slmbench.task import Task, evaluation_needs, require_rows
from slmbench.values import Example

TWIN_MARK = "slmbench_twin"
Progress = Callable[[str, int], Callable[[int], Any]]


@frozen(eq=False)
class _Job:
    """One task of an evaluation, ready to run. remarks: what a reader should know of the model that it is run on."""

    task: Task
    examples: tuple[Example, ...]
    requests: list[Request]
    folder: str
    record: dict[str, Any]
    remarks: tuple[str, ...] = ()


def evaluate_tasks(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    *,
    out: str,
    format: str = "plain",
    batch: int | str = AUTO,
    engine: str = "shared",
    kv_budget_bytes: float | None = None,
    latency: bool = False,
    limit: int | None = None,
    seed: int = 0,
    allow_unsafe_code: bool = False,
    encoded: Encoded | None = None,
    progress: Progress | None = None,
    no_texts: bool = False,
) -> list[Run]:
    """Scores a model on tasks, one run each in `<out>/runs/<run_id>`; runs that are there already are not repeated.

    The run's id is made of everything its numbers depend on, so the same call resumes: finished requests of a killed
    run are read from its journal. batch, engine, kv_budget_bytes, latency: see `Engine`. encoded: a dict for calls with
    the same tokenizer and format, as of a base and its adapters, so that each request is encoded once for all of them.
    progress(title, total) -> advance(n), for a bar.
    allow_unsafe_code: run the programs of code tasks without a sandbox where the machine has none.
    no_texts: the runs, those that are there already too, say that pages show digests in place of their texts.
    Raises UsageError, DataError, OfflineError, HookError, TrustError before any model runs; SlmbenchError where lm-eval
    fails.
    """
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise UsageError(f"a task is listed twice: {', '.join(names)}")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; it has to be at least 1")
    chosen = Engine(engine, batch, kv_budget_bytes, latency)
    style = load_format(format)
    tasks = [task.in_format(style) for task in tasks]
    sandbox = refuse_unscorable(tasks, allow_unsafe_code=allow_unsafe_code)
    require_rows(evaluation_needs(tasks))
    who = loaded.source.name + (f" + {loaded.adapter.name}" if loaded.adapter else "")
    for remark in format_remarks(loaded, style):
        say(f"note: {who}: {remark}")
    with phase(f"evaluate {who}", heads=True):
        with phase("importing lm_eval, writing prompts"):
            jobs = [_prepare(loaded, task, style, out, chosen, limit, seed, sandbox) for task in tasks]
        kept = {job.task.name: finished_run(job.folder, job.record) for job in jobs}
        finished = {name: run.without_texts() if no_texts else run for name, run in kept.items() if run is not None}
        todo = [job for job in jobs if job.task.name not in finished]
        if todo:
            finished |= _run(loaded, todo, style, chosen, seed, sandbox, encoded, progress, no_texts)
    return [finished[name] for name in names]


def _prepare(
    loaded: LoadedModel,
    task: Task,
    style: Format,
    out: str,
    engine: Engine,
    limit: int | None,
    seed: int,
    sandbox: Sandbox | None,
) -> _Job:
    examples = task.examples(task.spec.split, limit)
    requests = render_all(task, examples, style, loaded.tokenizer)
    _check_room(loaded, task)
    shown = {id(shots): shots for example in examples if (shots := task.shots(example))}
    shots = sorted(canonical_sha256([[s.user, s.target.text, dict(s.inputs)] for s in one]) for one in shown.values())
    rows = task.rows(task.spec.split)
    adapter = loaded.adapter
    training = adapter.record if adapter else TrainingFile()
    template = style.template_of(loaded.tokenizer) if style.template_of is not None else None
    generation = {} if task.kind == "choice" else generation_kwargs(task, style)
    if task.kind == "code":
        generation |= {"samples": task.spec.generation.samples}
    prompts = hashlib.sha256("\0".join(text for one in requests for text in one.texts).encode()).hexdigest()
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
            **_variant(loaded),
        },
        "adapter": None
        if adapter is None
        else {
            "name": adapter.name,
            "sha256": adapter.sha256,
            "bytes": adapter.bytes,
            "parameters": adapter.parameters,
            "rank": adapter.rank,
            "method": training.how(),
            "recipe": training.recipe,
            "recipe_sha256": training.recipe_sha256,
            "train_seed": training.seed,
            "train_s": training.train_s,
            "tasks": list(training.tasks),
            **({"forced_base": adapter.forced} if adapter.forced else {}),
        },
        "tokenizer_sha256": tokenizer_sha256(loaded.tokenizer),
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest() if template else None,
        "format": style.name,
        "task": {"id": task.name, "version": task.version, "digest": task.digest(style), "kind": task.kind}
        | _package(task),
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
        "fewshot": {"n": task.shot_count, "split": task.shot_split},
        "fewshot_sha256": canonical_sha256(shots) if shots else None,
        "cot": task.cot,
        "prompts_sha256": prompts,
        "generation": generation,
        "scorer": {
            "id": "+".join(scorer.name for scorer in task.scorers),
            "version": "+".join(scorer.version for scorer in task.scorers),
            # A metric with a model of its own is another metric with other weights.
            "weights": {s.name: [*s.values, s.weights_sha256()] for s in task.scorers if s.weights_sha256},
        },
        "sandbox": sandbox_record(task, sandbox),
        "engine": engine.name,
        "engine_version": engine.version,
        "batch_size": engine.rows,
        **({"latency": "single stream"} if engine.latency else {}),
        **({} if engine.kv_budget_bytes is None else {"kv_budget_B": engine.kv_budget_bytes}),
        **_generation_config(loaded, task),
    }
    # Two models are compared on the same items, asked the same way and scored the same way. Where the rows lay, on the
    # hub, in a mirror or in a file, is no difference.
    compared = ("format", "fewshot_sha256", "cot", "generation", "scorer")
    items = {key: record["dataset"][key] for key in ("split", "items_sha256", "item_ids_sha256", "n")}
    asked = [task.name, task.version, items, *(record[key] for key in compared)]
    if style.fenced or style.plugin:  # How an answer is taken out of turns or objects is a part of its score.
        asked.append([style.version, task.declared_form()])
    own = record.get("generation_config", {})
    if "examine" in (record["sandbox"] or {}):
        asked.append(record["sandbox"]["examine"])  # A weaker examination is another one.
    record["comparability_key"] = canonical_sha256(asked)
    identity = canonical_sha256(
        record
        | {"adapter": adapter and adapter.sha256, "slmbench": code()["version"], "device": str(loaded.model.device)}
    )[:10]
    who = loaded.source.name + (f"+{adapter.name}" if adapter else "")
    run_id = f"{re.sub(r'[^A-Za-z0-9._+-]', '-', who)}__{task.name}__{identity}"
    told = [*loaded.notices, *dated(style, loaded.tokenizer), *format_remarks(loaded, style)]
    if own.get("counts"):
        names = ", ".join(name for name in own if name != "counts")
        told.append(f"the model's generation_config.json has a say in the texts that are drawn ({names})")
    return _Job(task, examples, requests, os.path.join(out, "runs", run_id), {"run_id": run_id, **record}, tuple(told))


def _package(task: Task) -> dict[str, Any]:
    """The installed package that brings a task; {} for a task of slmbench's own or of a folder."""
    found = package_of(task.folder)
    return {} if found is None else {"package": {"name": found[0], "version": found[1]}}


def _item(task: Task, example: Example) -> list[Any]:
    prompt = task.prompt(example)
    asked = [prompt.system, prompt.user, prompt.prefix]
    return [example.id, *asked, list(example.references), list(example.choices), example.gold, example.cluster]


def _generation_config(loaded: LoadedModel, task: Task) -> dict[str, Any]:
    """What the model's own `generation_config.json` says of the next token, and whether it counts; {} if nothing."""
    found = surprises_of(getattr(core_model(loaded.model), "generation_config", None))
    if task.kind == "choice" or not found:
        return {}
    counts = task.spec.generation.temperature > 0
    return {"generation_config": {"counts": counts, **found}}


def _variant(loaded: LoadedModel) -> dict[str, Any]:
    """What sets a model apart from a whole causal one of its name; {} for such a one, whose runs keep their ids."""
    found: dict[str, Any] = {}
    if quantization := loaded.quantization:
        found["quantization"] = quantization
    # The mark in its config stays with what is trained in full, merged or exported from a twin.
    if loaded.source.twin or getattr(loaded.model.config, TWIN_MARK, False):
        found["twin"] = True
    if loaded.architecture == "seq2seq":
        found |= {"architecture": "seq2seq", "encoder_tokens": encoder_tokens(loaded)}
    return found


def _check_room(loaded: LoadedModel, task: Task) -> None:
    if loaded.architecture == "seq2seq":
        most = decoder_tokens(loaded)
        if task.kind != "choice" and most is not None and task.max_tokens > most:
            raise UsageError(
                f"task {task.name!r} generates up to {task.max_tokens} tokens, but the decoder of "
                f"{loaded.source.name!r} writes {most}; lower it (`--max-tokens`, or generation.max_tokens in "
                "task.yaml) or take a model with more"
            )
        return
    context = getattr(loaded.model.config, "max_position_embeddings", None)
    if task.kind != "choice" and context is not None and task.max_tokens >= context:
        raise UsageError(
            f"task {task.name!r} generates up to {task.max_tokens} tokens, but "
            f"{loaded.source.name!r} has a context of {context}; lower it (`--max-tokens`, or "
            "generation.max_tokens in task.yaml) or take a model with more"
        )


def _run(
    loaded: LoadedModel,
    jobs: list[_Job],
    style: Format,
    chosen: Engine,
    seed: int,
    sandbox: Sandbox | None,
    encoded: Encoded | None,
    progress: Progress | None,
    no_texts: bool,
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
            facts |= {"no_texts": True} if no_texts else {}
            check = check_scored if job.task.kind == "choice" else check_written
            open_runs[job.task.name] = OpenRun(job.folder, {**job.record, **facts}, check)
        n_requests = sum(
            len(example.choices) or job.task.spec.generation.samples for job in jobs for example in job.examples
        )
        if resumed := sum(run.resumed for run in open_runs.values()):
            say(f"{resumed:,} of {n_requests:,} answers are there from a call before")
        advance = progress("evaluate", n_requests) if progress else None
        engine = build_engine(
            loaded,
            style,
            chosen,
            journals={name: run.journal for name, run in open_runs.items()},
            seed=seed,
            encoded=encoded,
            progress=advance,
        )
        try:
            with quiet_harness():
                results = lm_eval.simple_evaluate(
                    model=engine,
                    tasks=[
                        build_harness_task(job.task, job.examples, job.requests, style, _judge(job, style, sandbox))
                        for job in jobs
                    ],
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
        finished = {}
        for job in jobs:
            run = open_runs[job.task.name]
            with phase(f"metrics of {job.task.name}"):
                finished[job.task.name] = finish(
                    job.task,
                    job.examples,
                    job.requests,
                    style,
                    run,
                    engine,
                    results,
                    chosen.latency,
                    job.remarks,
                )
        return finished
    except KeyboardInterrupt:
        if kept := sum(len(run.journal.entries) for run in open_runs.values()):
            where = shown(os.path.dirname(jobs[0].folder))
            say(f"{kept:,} answers are kept in {where}, and the same command goes on from there")
        raise
    finally:
        for run in open_runs.values():
            run.close()


def _judge(job: _Job, style: Format, sandbox: Sandbox | None) -> Judge | None:
    if job.task.kind != "code" or sandbox is None:
        return None
    return judge_code(job.task, job.examples, style, sandbox, job.requests[0].delimiter)
