"""Tasks, a loaded model, lm-eval between them, and a finished run for each task."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from attrs import evolve, frozen

from slmbench.console import phase, say
from slmbench.engines.speed import measured_speed
from slmbench.errors import DataError, SlmbenchError, UsageError
from slmbench.evaluation._answers import check_either, check_scored, check_written
from slmbench.evaluation._encoding import Encoded
from slmbench.evaluation._failed import TaskFailure, is_of_a_task, settled, told_if_cut_short
from slmbench.evaluation._harness import Judge, OfSamples, add_of_samples, build_harness_task
from slmbench.evaluation._identity import TaskRun, prepare
from slmbench.evaluation._journaled import JournaledEngine, build_engine, lm_of
from slmbench.evaluation._judge import judge_code, refuse_unscorable
from slmbench.evaluation._options import EvaluationOptions
from slmbench.evaluation._quiet import quiet_harness
from slmbench.evaluation._race import (
    Opponent,
    Raced,
    kept_stopped,
    prefix_of,
    race,
    replayed,
    stopped_part,
    tell_verdict,
)
from slmbench.evaluation._results import finish
from slmbench.evaluation._routed import Chosen, Routed
from slmbench.evaluation._targets import ask_targets
from slmbench.evaluation._trained_format import PLAIN, format_remarks
from slmbench.files import disk_errors
from slmbench.formats import Format, load_format
from slmbench.machine import code, hardware, large_imports, packages, reset_peak_memory
from slmbench.models import LoadedModel
from slmbench.paths import shown
from slmbench.runs import OpenRun, Pool, Run, StoppedPart, finished_run
from slmbench.sandbox import Sandbox
from slmbench.task import Task, evaluation_needs, formats_of, reads_targets, require_rows
from slmbench.values import JsonObject

UNKNOWN_ROWS = 16
"""Computed at once by an engine that doesn't say how many, or not yet."""
FACTS = ("code", "packages", "hardware", "no_texts")


def evaluate_tasks(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    options: EvaluationOptions,
    *,
    encoded: Encoded | None = None,
    routed: Routed | None = None,
    against: Mapping[str, Opponent] = MappingProxyType({}),
) -> list[Run]:
    """Scores a model on tasks, one run each in `<out>/runs/<run_id>`; runs that are there already are not repeated.

    The run's id is made of everything its numbers depend on, so the same call resumes: finished requests of a killed
    run are read from its journal. encoded: a dict for calls with the same tokenizer and format, as of a base and its
    adapters, so that each request is encoded once for all of them. routed: what chooses each item's adapter, of a bank
    whose base loaded is. against: task -> a run that it is compared with; it ends as soon as that is decided, in a run
    of its own, and the whole set's run keeps the answers in its journal.
    Raises UsageError, OfflineError, TrustError before any model runs. A task that fails, by its rows, a hook or an
    answer, ends none of the others: TasksFailed has their runs, and the reasons; of one task alone its error is raised.
    """
    return settled(*try_tasks(loaded, tasks, options, encoded=encoded, routed=routed, against=against))


def try_tasks(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    options: EvaluationOptions,
    *,
    encoded: Encoded | None = None,
    routed: Routed | None = None,
    against: Mapping[str, Opponent] = MappingProxyType({}),
) -> tuple[list[Run | None], list[TaskFailure]]:
    """(a run for each task, None for one that failed; why it failed), as `evaluate_tasks` does."""
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
    failed: dict[str, SlmbenchError] = {}
    noted = (TaskFailure(who, name, failed[name]) for name in names if name in failed)
    with phase(f"evaluate {who}", heads=True), told_if_cut_short(noted):
        jobs = []
        with phase("importing lm_eval, writing prompts"):
            for task in tasks:
                with _apart(task.name, failed):
                    jobs.append(prepare(loaded, task, style, options, sandbox, routed))
        kept = {job.task.name: finished_run(job.folder, _pools(job.task).__getitem__, job.record) for job in jobs}
        races = {job.task.name: against[job.task.name] for job in jobs if job.task.name in against}
        for job in jobs:
            if (opponent := races.get(job.task.name)) is not None:
                kept[job.task.name] = _kept_race(who, style, job, opponent, kept[job.task.name])
        finished = {
            name: run.without_texts() if options.no_texts else run for name, run in kept.items() if run is not None
        }
        todo = [job for job in jobs if job.task.name not in finished]
        if options.speed and any("decode_tokens_per_s" not in run.record["cost"] for run in finished.values()):
            say(f"note: {who}: --speed measures with a run, and {len(finished)} are there already, as they were made")
        if todo:
            finished |= _run(loaded, todo, style, options, sandbox, encoded, routed, races, who, failed)
    return [finished.get(name) for name in names], list(noted)


@contextlib.contextmanager
def _apart(name: str, failed: dict[str, SlmbenchError]) -> Iterator[None]:
    """Notes what fails in the block, if it is of this task."""
    try:
        yield
    except SlmbenchError as error:
        if not is_of_a_task(error):
            raise
        failed[name] = error


def _kept_race(who: str, style: Format, job: TaskRun, opponent: Opponent, whole: Run | None) -> Run | None:
    """What is there of a race: the whole set's run, or the one that it ended with. Raises UsageError against itself."""
    if opponent.run_id == job.record["run_id"]:
        raise UsageError(f"--against {shown(opponent.folder)}: it is the run of {who} itself; give another model's")
    if whole is None:
        run = kept_stopped(job, opponent, _pools(job.task).__getitem__)
        run = None if run is None else evolve(run, decision=run.record["stopped"])
    else:
        scores = {sample["item_id"]: sample["scores"][opponent.metric] for sample in whole.samples()}
        part = stopped_part(job, opponent, replayed(job, opponent, scores))
        run = evolve(whole, decision=part.model_dump())
    if run is not None and run.decision is not None:
        say(f"{job.task.name}: there already, from a call before")
        tell_verdict(who, style.name, job.task.name, opponent, StoppedPart.model_validate(run.decision), None)
    return run


def _run(
    loaded: LoadedModel,
    jobs: list[TaskRun],
    style: Format,
    options: EvaluationOptions,
    sandbox: Sandbox | None,
    encoded: Encoded | None,
    routed: Routed | None,
    races: Mapping[str, Opponent],
    who: str,
    failed: dict[str, SlmbenchError],
) -> dict[str, Run]:
    """The runs of those that don't fail; failed gets the others."""
    reset_peak_memory()
    hardware()  # Asked for now, so that an unknown machine fails before the work and not after it.
    open_runs: dict[str, OpenRun] = {}
    try:
        for job in jobs:
            with disk_errors(job.folder):
                os.makedirs(job.folder, exist_ok=True)
            facts: dict[str, object] = {"code": code(), "packages": packages(), "hardware": hardware()}
            facts |= {"no_texts": True} if options.no_texts else {}
            texts = check_either if reads_targets(job.task.scorers) else check_written
            check = check_scored if job.task.kind == "choice" else texts
            open_runs[job.task.name] = OpenRun(job.folder, {**job.record, **facts}, check)
        n_requests = sum(
            (len(example.choices) or job.task.spec.generation.samples) + reads_targets(job.task.scorers)
            for job in jobs
            for example in job.examples
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
        if options.speed and chosen is None:
            # Of an engine without --latency, which computes an item before each call to warm up.
            alone = evolve(options.chosen(job.task for job in jobs), latency=False, batch=1)
            engine.speed = measured_speed(build_engine(loaded, style, alone, seed=options.seed).engine, loaded)
        asking = _Asking(style, options, sandbox, engine, chosen)
        finished = {}
        if at_once := [job for job in jobs if job.task.name not in races]:
            asked = asking.ask_apart(at_once, failed)
            for job in at_once:
                with phase(f"metrics of {job.task.name}"), _apart(job.task.name, failed):
                    if job.task.name in asked:
                        finished[job.task.name] = asking.finish(job, open_runs[job.task.name], asked[job.task.name])
        for job in jobs:
            if (opponent := races.get(job.task.name)) is not None:
                with _apart(job.task.name, failed):
                    finished[job.task.name] = asking.race(who, job, open_runs[job.task.name], opponent)
        return finished
    except KeyboardInterrupt:
        if kept := sum(len(run.journal.entries) for run in open_runs.values()):
            where = shown(os.path.dirname(jobs[0].folder))
            say(f"{kept:,} answers are kept in {where}, and the same command goes on from there")
        raise
    finally:
        for run in open_runs.values():
            run.close()


@frozen(eq=False)
class _Asking:
    """Asks an engine for items, all at once or some after others, and writes the runs."""

    style: Format
    options: EvaluationOptions
    sandbox: Sandbox | None
    engine: JournaledEngine
    chosen: Chosen | None

    def ask(self, jobs: Sequence[TaskRun], places: Sequence[int] | None = None) -> JsonObject:
        """lm-eval's results. places: of the only job's items, those that are asked, in this order; None for all."""
        with large_imports():
            import lm_eval.evaluator
            from lm_eval.tasks import TaskManager

        self.engine.places = {} if places is None else {jobs[0].task.name: places}
        of_samples: dict[str, OfSamples] = {job.task.name: {} for job in jobs}
        targets = {job.task.name: ask_targets(job.task, job.requests, self.engine, places) for job in jobs}
        seed = self.options.seed
        try:
            with quiet_harness():
                results: JsonObject = lm_eval.simple_evaluate(
                    model=lm_of(self.engine),
                    tasks=[
                        build_harness_task(
                            job.task,
                            job.examples,
                            job.requests,
                            self.style,
                            _judge(job, self.style, self.sandbox),
                            places,
                            of_samples[job.task.name],
                            targets[job.task.name],
                        )
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
        for name, scores in of_samples.items():
            add_of_samples(results, name, scores)
        return results

    def ask_apart(self, jobs: Sequence[TaskRun], failed: dict[str, SlmbenchError]) -> dict[str, JsonObject]:
        """lm-eval's results by task: of all at once, and if that fails of each by itself. failed: gets those that fail.

        What was answered before is in the journals, and isn't computed again.
        """
        try:
            results = self.ask(jobs)
        except SlmbenchError as error:
            if not is_of_a_task(error):
                raise
            if len(jobs) == 1:
                failed[jobs[0].task.name] = error
                return {}
            say(f"note: a task fails ({str(error).splitlines()[0]}); now each is asked by itself")
            each: dict[str, JsonObject] = {}
            for job in jobs:
                each |= self.ask_apart([job], failed)
            return each
        return {job.task.name: results for job in jobs}

    def finish(self, job: TaskRun, run: OpenRun, results: JsonObject, places: Sequence[int] | None = None) -> Run:
        """The finished run; places: of these items alone."""
        return finish(
            job.task,
            job.examples,
            job.requests,
            self.style,
            run,
            self.engine,
            results,
            self.options.latency,
            job.remarks,
            None if self.chosen is None else self.chosen.ms[job.task.name],
            places,
        )

    def race(self, who: str, job: TaskRun, run: OpenRun, opponent: Opponent) -> Run:
        """Asks until it is decided; the whole set's run if that took all items, else one of those that it took."""
        raced = race(job, opponent, lambda places: self.ask([job], places), lambda: self._batch_items(job))
        part = stopped_part(job, opponent, raced)
        if part.n == part.total:
            with phase(f"metrics of {job.task.name}"):
                done = self.finish(job, run, raced.results)
        else:
            done = self._stop(job, run, opponent, raced, part)
        tell_verdict(who, self.style.name, job.task.name, opponent, part, done.record["cost"]["seconds"])
        return evolve(done, decision=part.model_dump())

    def _stop(self, job: TaskRun, run: OpenRun, opponent: Opponent, raced: Raced, part: StoppedPart) -> Run:
        run.pause()
        stopped = prefix_of(job, opponent, raced.places)
        with disk_errors(stopped.folder):
            os.makedirs(stopped.folder, exist_ok=True)
        facts: JsonObject = {key: run.record[key] for key in FACTS if key in run.record}
        short = OpenRun(stopped.folder, {**stopped.record, **facts, "stopped": part.model_dump()})
        short.resumed = run.resumed
        try:
            with phase(f"metrics of {job.task.name}"):
                return self.finish(job, short, raced.results, raced.places)
        finally:
            short.close()

    def _batch_items(self, job: TaskRun) -> int:
        """How many items are computed at once, as far as it is known."""
        asked = self.options.batch
        rows = self.engine.engine.computed_rows or (asked if isinstance(asked, int) else UNKNOWN_ROWS)
        a_row = max(1, max(len(example.choices) for example in job.examples), job.task.spec.generation.samples)
        return max(1, rows // a_row)


def _pools(task: Task) -> dict[str, Pool]:
    return {scorer.name: scorer.pool for scorer in task.scorers if scorer.pool is not None}


def _judge(job: TaskRun, style: Format, sandbox: Sandbox | None) -> Judge | None:
    if job.task.kind != "code" or sandbox is None:
        return None
    return judge_code(job.task, job.examples, style, sandbox, job.requests[0].delimiter)
