"""The jobs of a matrix, done: what a worker, another machine, or `slmbench matrix run-job` calls."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from slmbench.catalog import Catalog, default_catalog
from slmbench.console import say
from slmbench.errors import SlmbenchError
from slmbench.matrix import EvaluationWork, GridAsking, GridCell, GridSubject, training_of
from slmbench.scheduling import Job, JobResults
from slmbench.values import JsonObject
from slmbench.workflow.quiet import quiet_libraries

if TYPE_CHECKING:
    from slmbench.evaluation import EvaluationOptions, TaskFailure
    from slmbench.models import LoadedModel
    from slmbench.runs import Run


def run_matrix_job(job: Job, results: JobResults) -> None:
    """Does a job of a matrix. Its folder of bookkeeping lies in the output folder, where all results go."""
    quiet_libraries()
    out, catalog = os.path.dirname(os.path.abspath(results.folder)), default_catalog()
    if job.kind == "train":
        _train(job.work, out, catalog, results)
    elif job.kind == "merge":
        _merge(job.work, out, catalog, results)
    else:
        _evaluate(job, out, catalog, results)


def _train(work: JsonObject, out: str, catalog: Catalog, results: JobResults) -> None:
    from slmbench.training import checkpoint_pattern
    from slmbench.workflow.recipes import RecipeOptions, data_mode
    from slmbench.workflow.train import train_recipe

    training = training_of(work)
    options = RecipeOptions(
        overrides=training.overrides, variant=training.variant, twin=work["twin"], data=work["data"]
    )
    recipe = options.recipe(training.recipe, catalog)
    for name, key in training.products:
        results.goes_on_from(checkpoint_pattern(training.place, name))
        [folder] = train_recipe(
            recipe,
            catalog,
            out=os.path.join(out, training.place),
            data=data_mode(work["data"], work["twin"]),
            only=[name],
            twin=work["twin"],
        )
        results.made(key, os.path.relpath(folder, out))


def _merge(work: JsonObject, out: str, catalog: Catalog, results: JobResults) -> None:
    from slmbench.training import checkpoint_pattern
    from slmbench.workflow.merge import MergeAsked, make_merges, ready_merges
    from slmbench.workflow.recipes import RecipeOptions, data_mode
    from slmbench.workflow.train import train_recipe

    training = training_of(work)
    place = os.path.join(out, training.place)
    options = RecipeOptions(overrides=training.overrides, twin=work["twin"], data=work["data"])
    asked = MergeAsked(recipe=training.recipe, out=place, options=options, only=training.only)
    recipe = options.merge_recipe(training.recipe, catalog)
    keys = dict(training.products)
    if recipe.train is not None:
        for name in recipe.adapters:
            results.goes_on_from(checkpoint_pattern(training.place, name))
            [folder] = train_recipe(
                recipe.train,
                catalog,
                out=place,
                data=data_mode(work["data"], work["twin"]),
                only=[name],
                twin=work["twin"],
            )
            results.made(keys[name], os.path.relpath(folder, out))
    for made in make_merges(ready_merges(asked, catalog), catalog):
        results.made(keys[os.path.basename(made.folder)], os.path.relpath(made.folder, out))


def _evaluate(job: Job, out: str, catalog: Catalog, results: JobResults) -> None:
    """The job's cells that are still to be made; the base is loaded once for all of them.

    Raises TasksFailed when all is tried.
    """
    from slmbench.evaluation import settled, told_if_cut_short

    work = EvaluationWork.of_json(job.work)
    wanted = set(job.makes)
    cells = [cell for cell in work.cells if cell.key in wanted]
    tried = _Tried()
    folders = _sound_folders(cells, out, tried)
    cells = [cell for cell in cells if cell.subject in folders]
    # A worker does other jobs after this one, however it ends: what holds the base is ended with it.
    with contextlib.closing(tried), told_if_cut_short(tried.failures):
        for asking in dict.fromkeys(cell.asking for cell in cells):
            own = [cell for cell in cells if cell.asking == asking]
            by_subject = {
                one: [cell for cell in own if cell.subject == one] for one in dict.fromkeys(c.subject for c in own)
            }
            for names, subjects in _alike(by_subject).items():
                _score(work, asking, names, subjects, folders, tried, out, catalog, results)
    settled(tried.placed, tried.failures, again="`slmbench matrix` with `--rerun failed`")


class _Tried:
    """What came of a job's cells so far, and its base once it is loaded."""

    def __init__(self) -> None:
        self.loaded: LoadedModel | None = None
        self.placed: list[Run | None] = []
        self.failures: list[TaskFailure] = []

    def close(self) -> None:
        from slmbench.models import let_go

        if self.loaded is not None:
            let_go(self.loaded)


def _sound_folders(cells: Sequence[GridCell], out: str, tried: _Tried) -> dict[GridSubject, str | None]:
    """Where what is on the base lies, None for the base itself; of those that can't be read, all cells have failed."""
    from slmbench.evaluation import TaskFailure
    from slmbench.models import is_whole_model, read_adapter

    found: dict[GridSubject, str | None] = {}
    for subject in dict.fromkeys(cell.subject for cell in cells):
        try:
            folder = _folder(subject, out)
            if folder is not None and not is_whole_model(folder):
                read_adapter(folder)
            found[subject] = folder
        except SlmbenchError as error:
            say(f"{subject.shown} is left out: {error}")
            own = [cell for cell in cells if cell.subject == subject]
            tried.placed += [None] * len(own)
            tried.failures += [TaskFailure(subject.shown, cell.task, error) for cell in own]
    return found


def _alike(by_subject: dict[GridSubject, list[GridCell]]) -> dict[tuple[str, ...], dict[GridSubject, list[GridCell]]]:
    """Subjects by the tasks that they are scored on: those of equal ones are done in one go."""
    found: dict[tuple[str, ...], dict[GridSubject, list[GridCell]]] = {}
    for subject, cells in by_subject.items():
        found.setdefault(tuple(cell.task for cell in cells), {})[subject] = cells
    return found


def _score(
    work: EvaluationWork,
    asking: GridAsking,
    names: Sequence[str],
    subjects: dict[GridSubject, list[GridCell]],
    folders: dict[GridSubject, str | None],
    tried: _Tried,
    out: str,
    catalog: Catalog,
    results: JobResults,
) -> None:
    from slmbench.models import is_apart, is_whole_model, resolve_model
    from slmbench.task import Settings
    from slmbench.workflow.evaluate import EvaluationPlan, held_base, ready_evaluation, try_plan

    plan = EvaluationPlan(
        model=work.model,
        options=_options(asking, out, work),
        tasks=tuple(names),
        twin=work.twin,
        data=work.data,
        settings=Settings(
            asking.shots, asking.cot, asking.samples, asking.metrics, asking.max_tokens, asking.perplexity
        ),
    )
    plan, tasks = ready_evaluation(plan, catalog)
    whole = {one: path for one, path in folders.items() if one in subjects and path and is_whole_model(path)}
    put_on = {one: path for one, path in folders.items() if one in subjects and path and one not in whole}
    bases = [one for one in subjects if folders[one] is None]
    if (bases or put_on) and tried.loaded is None:
        kept = [str(path) for path in folders.values() if path and not is_whole_model(path)]
        tried.loaded = held_base(plan, tasks, resolve_model(work.model, catalog, twin=work.twin), kept)
    loaded = tried.loaded
    groups: list[dict[GridSubject, str | None]] = [dict.fromkeys(bases), {**put_on}]
    if loaded is not None and is_apart(loaded):
        groups = [groups[0] | groups[1]]  # What reads the base is begun once, and has to know of adapters then.
    asked_of: list[tuple[dict[GridSubject, str | None], str | LoadedModel | None]]
    asked_of = [*((one, loaded) for one in groups), ({**whole}, work.model)]
    for group, model in asked_of:
        if not group or model is None:
            continue
        paths = tuple(path for path in group.values() if path)
        asked = evolve(plan, model=model, adapters=paths, base=None in group.values())
        placed, failures = try_plan(asked, tasks, catalog, more=True)
        tried.placed += placed
        tried.failures += failures
        runs = iter(placed)
        for subject in group:
            for cell in subjects[subject]:
                if (run := next(runs)) is not None:
                    results.made(cell.key, os.path.relpath(run.folder, out))


def _options(asking: GridAsking, out: str, work: EvaluationWork) -> EvaluationOptions:
    from slmbench.evaluation import EvaluationOptions

    return EvaluationOptions(
        out=out,
        format=asking.format,
        batch=asking.batch,
        engine=asking.engine,
        latency=asking.latency,
        limit=asking.limit,
        seed=asking.seed,
        allow_unsafe_code=work.allow_unsafe_code,
        no_texts=work.no_texts,
    )


def places_read(job: Job, out: str) -> list[str]:
    """Places below the output folder, with / between their parts, that a job reads and another one made.

    Raises SlmbenchError if one isn't there.
    """
    if job.kind != "evaluate":
        return []
    wanted = set(job.makes)
    cells = [cell for cell in EvaluationWork.of_json(job.work).cells if cell.key in wanted and cell.subject.made]
    folders = [_folder(subject, out) for subject in dict.fromkeys(cell.subject for cell in cells)]
    return [os.path.relpath(folder, out).replace(os.sep, "/") for folder in folders if folder is not None]


def _folder(subject: GridSubject, out: str) -> str | None:
    """Where what is on the base lies. Raises SlmbenchError if its making left nothing."""
    if subject.place is None:
        return None
    if not subject.made:
        return subject.place
    for kind in ("adapters", "models"):
        folder = os.path.join(out, subject.place, kind, subject.name)
        if os.path.isdir(folder):
            return folder
    raise SlmbenchError(f"{subject.shown}: neither adapters/ nor models/ of {subject.place} has it")
