"""A whole recipe: train, score base and adapters, rank. A plan is data; the steps are functions over it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import evolve, field, frozen

from slmbench.catalog import Catalog
from slmbench.console import phase, say
from slmbench.errors import SlmbenchError, UsageError
from slmbench.evaluation import (
    EvaluationOptions,
    made_and_failed,
    refuse_unscorable,
    require_engine,
    settled,
    told_if_cut_short,
)
from slmbench.formats import load_format
from slmbench.leaderboard import Leaderboard
from slmbench.recipe import Recipe
from slmbench.runs import Run
from slmbench.task import PROMPTS, Task, formats_of
from slmbench.workflow.deploy import Deployed, Scoring, deploy, flags_of, own_tasks, refuse_deployment
from slmbench.workflow.evaluate import EvaluationPlan, evaluate_plan, try_plan
from slmbench.workflow.quiet import quiet_libraries
from slmbench.workflow.rank import failed_of, rank
from slmbench.workflow.recipes import RecipeOptions, evaluation_tasks, refuse_to_replace
from slmbench.workflow.train import chosen_adapters, train_recipe


@frozen(kw_only=True)
class RunPlan:
    """What is asked for. only: these of the recipe's adapters. metrics, limit: in place of the recipe's own.

    deploy: what each adapter is packed as, and scored as, beside its merged weights (`q4_k_m`).
    """

    recipe: str
    out: str
    options: RecipeOptions = field(factory=RecipeOptions)
    only: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = None
    limit: int | None = None
    deploy: tuple[str, ...] | None = None
    allow_unsafe_code: bool = False
    no_texts: bool = False


@frozen(kw_only=True)
class ReadyRun:
    """A plan whose recipe is sound, and whose tasks have their rows."""

    plan: RunPlan
    recipe: Recipe
    adapters: tuple[str, ...]
    tasks: tuple[Task, ...]


def ready_run(plan: RunPlan, catalog: Catalog) -> ReadyRun:
    """Everything that a run needs and that can be refused before anything is trained."""
    recipe = plan.options.recipe(plan.recipe, catalog)
    told = {"evaluation.metrics": plan.metrics and list(plan.metrics), "evaluation.limit": plan.limit}
    # What packing loses shows in likelihoods long before it shows in answers; base and adapter have theirs beside it.
    told |= {"evaluation.perplexity": True} if plan.deploy else {}
    given = {key: value for key, value in told.items() if value is not None}
    recipe = recipe.with_overrides(given, blame="the command line")
    adapters = chosen_adapters(recipe, plan.only)
    if plan.deploy:
        refuse_deployment(plan.deploy, recipe, catalog, twin=plan.options.twin)
    if plan.options.twin:
        refuse_to_replace(recipe, adapters, plan.out)
    [tasks] = evaluation_tasks([recipe], catalog, plan.options)
    # A format of a plugin has to be one that the evaluated tasks bring, and that comes to light before a training.
    load_format(recipe.spec.format, formats_of(tasks, catalog))
    quiet_libraries()
    _check_own(recipe, adapters, tasks)
    refuse_unscorable(tasks, allow_unsafe_code=plan.allow_unsafe_code)
    require_engine(recipe.spec.evaluation.engine, tasks)
    return ReadyRun(plan=plan, recipe=recipe, adapters=tuple(adapters), tasks=tuple(tasks))


def run(ready: ReadyRun, catalog: Catalog) -> tuple[Leaderboard, str, SlmbenchError | None]:
    """(the leaderboard, its page's path, what failed: tasks, or runs that were left out for their faults). What is
    finished already is not done again.
    """
    plan, spec = ready.plan, ready.recipe.spec
    folders = train_recipe(
        ready.recipe,
        catalog,
        out=plan.out,
        data=plan.options.data_mode,
        only=plan.only,
        twin=plan.options.twin,
        resume=plan.options.resume,
        track=plan.options.track,
    )
    if spec.evaluation.limit is not None:
        say(f"evaluation.limit {spec.evaluation.limit}: these rows will be badged, and ranked among themselves")
    score = evaluate_own if spec.evaluation.adapters_on == "own" else evaluate_recipe
    runs, failed = made_and_failed(lambda: score(ready.recipe, folders, ready.tasks, catalog, plan))
    shipped = _deployed(ready, folders, catalog) if plan.deploy else Deployed()
    with told_if_cut_short(() if failed is None else failed.failures):
        board, page, faulty = rank(
            [*(run.folder for run in runs), *shipped.runs],
            os.path.join(plan.out, "leaderboard"),
            catalog,
            suite=spec.evaluation.suite,
            tasks=[task.name for task in ready.tasks],
            no_texts=plan.no_texts,
            whole=plan.out,
            published=ready.recipe.published,
        )
    for sentence in shipped.sentences:
        say(sentence)
    unshipped = SlmbenchError("\n".join(shipped.failures)) if shipped.failures else None
    return board, page, failed_of(failed, faulty) or unshipped


def _deployed(ready: ReadyRun, folders: Sequence[str], catalog: Catalog) -> Deployed:
    plan, recipe = ready.plan, ready.recipe
    data, quiet = plan.options.data_mode, plan.no_texts
    flags = flags_of(recipe, data=data, no_texts=quiet, unsafe=plan.allow_unsafe_code)
    names = tuple(task.name for task in ready.tasks if task.name != PROMPTS)
    scoring = Scoring(plan.out, recipe.spec.format, names, flags)
    with phase("what ships", told=False):
        return deploy(folders, plan.deploy or (), scoring, own_tasks(recipe, folders, ready.tasks), catalog)


def evaluate_recipe(
    recipe: Recipe,
    folders: Sequence[str],
    tasks: Sequence[Task],
    catalog: Catalog,
    plan: RunPlan,
    *,
    seed: int | None = None,
    limit: int | None = None,
) -> list[Run]:
    """Runs of a recipe's base, and of what was trained of it, as it says. seed, limit: in place of its own."""
    asked = _asked(recipe, plan, seed, limit)
    return evaluate_plan(evolve(asked, adapters=tuple(folders)), tasks, catalog)


def evaluate_own(
    recipe: Recipe, folders: Sequence[str], tasks: Sequence[Task], catalog: Catalog, plan: RunPlan
) -> list[Run]:
    """Runs of a recipe's base on all tasks, and of what was trained of it on its own tasks and the recipe's prompts.

    Raises TasksFailed, with the runs that are there, after all is tried.
    """
    asked = _asked(recipe, plan, None, None)
    own = {folder: _own(recipe, os.path.basename(folder), tasks) for folder in folders}
    made, failures = try_plan(asked, tasks, catalog, more=True)
    for scored in dict.fromkeys(own.values()):
        alike = tuple(folder for folder in folders if own[folder] == scored)
        there = [task for task in tasks if task.name in scored]
        more, failed = try_plan(evolve(asked, base=False, adapters=alike), there, catalog, more=True)
        made, failures = [*made, *more], [*failures, *failed]
    return settled(made, failures)


def _own(recipe: Recipe, adapter: str, tasks: Sequence[Task]) -> tuple[str, ...]:
    own = recipe.spec.adapters[adapter].tasks
    return tuple(task.name for task in tasks if task.name in own or task.name == PROMPTS)


def _check_own(recipe: Recipe, adapters: Sequence[str], tasks: Sequence[Task]) -> None:
    """Raises UsageError for adapters that would be scored on nothing."""
    nothing = [name for name in adapters if not set(recipe.spec.adapters[name].tasks) & {task.name for task in tasks}]
    if recipe.spec.evaluation.adapters_on == "own" and nothing:
        raise UsageError(
            f"evaluation.adapters_on: is 'own', and no task that {', '.join(nothing)} is trained on is evaluated; "
            "`--set evaluation.adapters_on=all`"
        )


def _asked(recipe: Recipe, plan: RunPlan, seed: int | None, limit: int | None) -> EvaluationPlan:
    spec = recipe.spec
    options = EvaluationOptions(
        out=plan.out,
        format=spec.format,
        batch=spec.evaluation.batch,
        engine=spec.evaluation.engine,
        limit=spec.evaluation.limit if limit is None else limit,
        seed=spec.seed if seed is None else seed,
        speed=bool(plan.deploy),
        allow_unsafe_code=plan.allow_unsafe_code,
        no_texts=plan.no_texts,
    )
    return EvaluationPlan(model=spec.model, options=options, twin=plan.options.twin)
