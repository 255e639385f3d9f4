"""Tasks, a loaded model, lm-eval between them, and a finished run for each task."""

from __future__ import annotations

import os
from collections.abc import Sequence

from slmbench.console import phase, say
from slmbench.errors import DataError, UsageError
from slmbench.evaluation._answers import check_scored, check_written
from slmbench.evaluation._encoding import Encoded
from slmbench.evaluation._harness import Judge, build_harness_task
from slmbench.evaluation._identity import Job, prepare
from slmbench.evaluation._journaled import build_engine, lm_of
from slmbench.evaluation._judge import judge_code, refuse_unscorable
from slmbench.evaluation._options import EvaluationOptions
from slmbench.evaluation._quiet import quiet_harness
from slmbench.evaluation._results import finish
from slmbench.evaluation._routed import Routed
from slmbench.evaluation._trained_format import PLAIN, format_remarks
from slmbench.files import disk_errors
from slmbench.formats import Format, load_format
from slmbench.machine import code, hardware, packages, reset_peak_memory
from slmbench.models import LoadedModel
from slmbench.paths import shown
from slmbench.runs import OpenRun, Pool, Run, finished_run
from slmbench.sandbox import Sandbox
from slmbench.task import Task, evaluation_needs, formats_of, require_rows


def evaluate_tasks(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    options: EvaluationOptions,
    *,
    encoded: Encoded | None = None,
    routed: Routed | None = None,
) -> list[Run]:
    """Scores a model on tasks, one run each in `<out>/runs/<run_id>`; runs that are there already are not repeated.

    The run's id is made of everything its numbers depend on, so the same call resumes: finished requests of a killed
    run are read from its journal. encoded: a dict for calls with the same tokenizer and format, as of a base and its
    adapters, so that each request is encoded once for all of them. routed: what chooses each item's adapter, of a bank
    whose base loaded is.
    Raises UsageError, DataError, OfflineError, HookError, TrustError before any model runs; SlmbenchError where lm-eval
    fails.
    """
    names = [task.name for task in tasks]
    if len(set(names)) != len(names):
        raise UsageError(f"a task is listed twice: {', '.join(names)}")
    style = load_format(options.format or PLAIN, formats_of(tasks))
    tasks = [task.in_format(style) for task in tasks]
    sandbox = refuse_unscorable(tasks, allow_unsafe_code=options.allow_unsafe_code)
    require_rows(evaluation_needs(tasks))
    on = routed.choice.name if routed else loaded.adapter.name if loaded.adapter else ""
    who = f"{loaded.source.name} + {on}" if on else loaded.source.name
    for remark in () if routed else format_remarks(loaded, style):
        say(f"note: {who}: {remark}")
    with phase(f"evaluate {who}", heads=True):
        with phase("importing lm_eval, writing prompts"):
            jobs = [prepare(loaded, task, style, options, sandbox, routed) for task in tasks]
        kept = {job.task.name: finished_run(job.folder, _pools(job.task).__getitem__, job.record) for job in jobs}
        finished = {
            name: run.without_texts() if options.no_texts else run for name, run in kept.items() if run is not None
        }
        todo = [job for job in jobs if job.task.name not in finished]
        if todo:
            finished |= _run(loaded, todo, style, options, sandbox, encoded, routed)
    return [finished[name] for name in names]


def _run(
    loaded: LoadedModel,
    jobs: list[Job],
    style: Format,
    options: EvaluationOptions,
    sandbox: Sandbox | None,
    encoded: Encoded | None,
    routed: Routed | None,
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
            facts: dict[str, object] = {"code": code(), "packages": packages(), "hardware": hardware()}
            facts |= {"no_texts": True} if options.no_texts else {}
            check = check_scored if job.task.kind == "choice" else check_written
            open_runs[job.task.name] = OpenRun(job.folder, {**job.record, **facts}, check)
        n_requests = sum(
            len(example.choices) or job.task.spec.generation.samples for job in jobs for example in job.examples
        )
        if resumed := sum(run.resumed for run in open_runs.values()):
            say(f"{resumed:,} of {n_requests:,} answers are there from a call before")
        chosen = None
        if routed is not None:
            with phase(f"choosing adapters: {routed.choice.name}"):
                chosen = routed.chosen([(job.task, job.examples) for job in jobs])
        engine = build_engine(
            loaded,
            style,
            options.chosen(job.task for job in jobs),
            journals={name: run.journal for name, run in open_runs.items()},
            seed=options.seed,
            encoded=encoded,
            bank=routed.bank if routed else None,
            chosen=chosen,
        )
        try:
            with quiet_harness():
                results = lm_eval.simple_evaluate(
                    model=lm_of(engine),
                    tasks=[
                        build_harness_task(job.task, job.examples, job.requests, style, _judge(job, style, sandbox))
                        for job in jobs
                    ],
                    task_manager=TaskManager(include_defaults=False),
                    bootstrap_iters=0,
                    log_samples=True,
                    random_seed=options.seed,
                    numpy_random_seed=options.seed,
                    torch_random_seed=options.seed,
                    fewshot_random_seed=options.seed,
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
                    options.latency,
                    job.remarks,
                    None if chosen is None else chosen.ms[job.task.name],
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


def _pools(task: Task) -> dict[str, Pool]:
    return {scorer.name: scorer.pool for scorer in task.scorers if scorer.pool is not None}


def _judge(job: Job, style: Format, sandbox: Sandbox | None) -> Judge | None:
    if job.task.kind != "code" or sandbox is None:
        return None
    return judge_code(job.task, job.examples, style, sandbox, job.requests[0].delimiter)
