"""A whole merge recipe: train what goes in, search, merge, score base, inputs and results, rank them on one board."""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import evolve, field, frozen

from slmbench.catalog import Catalog
from slmbench.console import say
from slmbench.errors import SlmbenchError, UsageError
from slmbench.evaluation import EvaluationOptions, made_and_failed, refuse_unscorable, require_engine, told_if_cut_short
from slmbench.formats import load_format
from slmbench.leaderboard import Leaderboard
from slmbench.merge_recipe import MergeRecipe
from slmbench.runs import Run
from slmbench.statistics.seeds import mean_over_seeds
from slmbench.task import Task, evaluation_needs, formats_of, left_out_notes, require_rows, training_needs
from slmbench.workflow.evaluate import EvaluationPlan, evaluate_plan
from slmbench.workflow.merge import MadeMerge, MergeAsked, ReadyMerges, asked_tasks, make_merges, ready_merges
from slmbench.workflow.quiet import quiet_libraries
from slmbench.workflow.rank import failed_of, rank
from slmbench.workflow.recipes import bind_tasks, refuse_to_replace, say_golden
from slmbench.workflow.run import RunPlan
from slmbench.workflow.train import train_recipe


@frozen(kw_only=True)
class ReadyMergeRun:
    """A plan whose recipe is sound, and whose tasks have their rows. adapters: of the train recipe, to be there."""

    plan: RunPlan
    merges: ReadyMerges
    adapters: tuple[str, ...]
    tasks: tuple[Task, ...] = field(repr=False)

    @property
    def recipe(self) -> MergeRecipe:
        return self.merges.recipe


def ready_merge_run(plan: RunPlan, catalog: Catalog) -> ReadyMergeRun:
    """Everything that a run needs and that can be refused before anything is trained."""
    if plan.deploy:
        raise UsageError("--deploy is for recipes that train; a merge is shipped by `slmbench export FOLDER --to gguf`")
    asked = MergeAsked(recipe=plan.recipe, out=plan.out, options=plan.options, only=plan.only)
    merges = ready_merges(asked, catalog, trained=False)
    told = {"metrics": plan.metrics and list(plan.metrics), "limit": plan.limit}
    recipe = merges.recipe.with_evaluation({key: value for key, value in told.items() if value is not None})
    merges = evolve(merges, recipe=recipe)
    used = {name for merge in merges.merges for name in recipe.inputs_of(merge)}
    wanted = {one.adapter for name, one in recipe.spec.inputs.items() if name in used} | set(recipe.spec.beside)
    adapters = tuple(name for name in recipe.adapters if name in wanted)
    if plan.options.twin and recipe.train is not None:
        refuse_to_replace(recipe.train, adapters, plan.out)
    tasks, notices = bind_tasks(asked_tasks(recipe, recipe.evaluation_tasks(catalog)), catalog, plan.options)
    trained = bind_tasks(asked_tasks(recipe, _trained_tasks(recipe)), catalog, plan.options)[0] if adapters else []
    require_rows([*evaluation_needs(tasks), *training_needs(trained)])
    for notice in (*notices, *left_out_notes(evaluation_needs(tasks))):
        say(f"note: {notice}")
    for task in tasks:
        task.examples(task.spec.split, recipe.evaluation.limit)
    if plan.options.twin:
        say_golden(recipe.train, tasks, catalog)
    load_format(recipe.format, formats_of(tasks, catalog))
    quiet_libraries()
    refuse_unscorable(tasks, allow_unsafe_code=plan.allow_unsafe_code)
    require_engine(recipe.evaluation.engine, tasks)
    return ReadyMergeRun(plan=plan, merges=merges, adapters=adapters, tasks=tuple(tasks))


def run_merge(ready: ReadyMergeRun, catalog: Catalog) -> tuple[Leaderboard, str, SlmbenchError | None, list[MadeMerge]]:
    """(the leaderboard, its page's path, what failed, the merges). What is finished already
    is not done again.
    """
    plan, recipe = ready.plan, ready.recipe
    trained: list[str] = []
    if recipe.train is not None and ready.adapters:
        trained = train_recipe(
            recipe.train,
            catalog,
            out=plan.out,
            data=plan.options.data_mode,
            only=ready.adapters,
            twin=plan.options.twin,
            resume=plan.options.resume,
            track=plan.options.track,
        )
    made = make_merges(ready.merges, catalog)
    if recipe.evaluation.limit is not None:
        say(f"evaluation.limit {recipe.evaluation.limit}: these rows will be badged, and ranked among themselves")
    used = [name for name in recipe.spec.inputs if any(name in recipe.inputs_of(one) for one in ready.merges.merges)]
    inputs = [ready.merges.folders[name] for name in used]
    folders = dict.fromkeys([*inputs, *trained, *(one.folder for one in made)])
    runs, failed = made_and_failed(lambda: evaluate_plan(_evaluation(ready, tuple(folders)), ready.tasks, catalog))
    with told_if_cut_short(() if failed is None else failed.failures):
        board, page, faulty = rank(
            [run.folder for run in runs],
            os.path.join(plan.out, "leaderboard"),
            catalog,
            suite=recipe.evaluation.suite,
            tasks=recipe.evaluation_tasks(catalog),
            no_texts=plan.no_texts,
            notices=spreads(made, runs),
            whole=plan.out,
            published=recipe.published,
        )
    return board, page, failed_of(failed, faulty), made


def spreads(made: Sequence[MadeMerge], runs: Sequence[Run]) -> list[str]:
    """A line for each merge with several seeds and each task: its first metric's mean, and how far seeds differ."""
    found = []
    for merge in dict.fromkeys(one.merge for one in made):
        names = {os.path.basename(one.folder): one.seed for one in made if one.merge == merge}
        if len(names) < 2:
            continue
        for task in dict.fromkeys(run.record["task"]["id"] for run in runs):
            its = {name: run for run in runs if run.record["task"]["id"] == task and (name := _merged(run)) in names}
            metric = next((run.record["metrics"][0]["name"] for run in its.values()), None)
            values = [part["value"] for run in its.values() for part in run.record["metrics"] if part["name"] == metric]
            if len(values) > 1:
                over = mean_over_seeds(values)
                found.append(
                    f"{merge}, {len(values)} seeds, {task}/{metric}: mean {over.value:.4f}, from {min(values):.4f} to "
                    f"{max(values):.4f}; each seed is a row"
                )
    return found


def _merged(run: Run) -> str:
    adapter = run.record.get("adapter")
    if adapter is not None:
        return str(adapter["name"])
    return os.path.basename(str(run.record["model"]["id"]))


def _evaluation(ready: ReadyMergeRun, folders: tuple[str, ...]) -> EvaluationPlan:
    recipe, plan = ready.recipe, ready.plan
    evaluation = recipe.evaluation
    options = EvaluationOptions(
        out=plan.out,
        format=recipe.format,
        batch=evaluation.batch,
        engine=evaluation.engine,
        limit=evaluation.limit,
        seed=recipe.spec.seed,
        allow_unsafe_code=plan.allow_unsafe_code,
        no_texts=plan.no_texts,
    )
    return EvaluationPlan(model=recipe.model, options=options, adapters=folders, twin=plan.options.twin)


def _trained_tasks(recipe: MergeRecipe) -> list[str]:
    train = recipe.train
    if train is None:
        return []
    return list(dict.fromkeys(task for name in recipe.adapters for task in train.spec.adapters[name].tasks))
