"""Routers made, and held against what they choose between: the base, chance, the adapter made for each task."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import evolve, field, frozen

from slmbench.catalog import Catalog
from slmbench.console import phase, say
from slmbench.errors import UsageError, did_you_mean
from slmbench.evaluation import EvaluationOptions, choose_format, evaluate_tasks
from slmbench.formats import load_format
from slmbench.leaderboard import Leaderboard, Routing, RunProblems, read_runs, routings
from slmbench.models import (
    AdapterInfo,
    LoadedModel,
    adapter_on,
    check_base,
    held_as,
    load_model,
    read_adapter,
    refuse_unknown,
    resolve_model,
)
from slmbench.paths import shown
from slmbench.routing import (
    BASE_TEXTS,
    ROWS,
    VALIDATION_ROWS,
    OracleChoice,
    RandomChoice,
    Router,
    RouterChoice,
    ScoredTexts,
    fit_router,
    read_router,
    texts_of,
    user_text,
    write_router,
)
from slmbench.runs import TrainingRecord
from slmbench.task import Settings, Task, formats_of, load_task, require_rows
from slmbench.training import held_out_rows
from slmbench.values import JsonObject
from slmbench.workflow.evaluate import EvaluationPlan, evaluate_plan, ready_evaluation
from slmbench.workflow.rank import rank


@frozen(kw_only=True)
class RouterPlan:
    """What a router is asked for. model: the base. adapters: folders.

    tasks: those of the adapters' trainings unless given; `ADAPTER=TASK` where a training doesn't say it. head: auto, or
    one of `slmbench.routing.HEADS`. rows, validation_rows: of each task's train split, at most. unknown: tasks without
    an adapter, whose texts the threshold is to keep from adapters; everyday texts unless given. score_rows: rows of
    each task that no adapter was trained on, which base and adapters answer, so that the threshold is chosen by score.
    """

    model: str
    adapters: tuple[str, ...]
    tasks: tuple[str, ...] | None = None
    head: str = "auto"
    rows: int = ROWS
    validation_rows: int = VALIDATION_ROWS
    unknown: tuple[str, ...] | None = None
    score_rows: int = 0
    seed: int = 0
    data: str = "auto"
    force_base: bool = False


def fit(plan: RouterPlan, catalog: Catalog) -> Router:
    """A router as it is asked for, with its base at hand. Raises SlmbenchError's children before a model is loaded."""
    refuse_unknown(plan.model, catalog)
    adapters = _named(plan.adapters)
    owners = _owners(adapters, plan.tasks)
    unknown = [name for name in plan.unknown or () if name not in owners]
    if own := [name for name in plan.unknown or () if name in owners]:
        raise UsageError(
            f"--unknown {own[0]}: adapter {owners[own[0]]!r} is for that task; name one without an adapter"
        )
    tasks = {name: load_task(name, catalog, data=plan.data) for name in (*owners, *unknown)}
    for name, task in tasks.items():
        if task.spec.train_split is None and name in owners:
            raise UsageError(f"task {name!r} declares no train_split, so there is nothing to fit a router on")
    require_rows([(task, _split(task)) for task in tasks.values()])
    with phase("texts of the tasks"):
        texts = [texts_of(tasks[name], plan.rows, plan.validation_rows, plan.seed) for name in owners]
        strange = [text for name in unknown for text in _texts_of_any(tasks[name], plan.validation_rows)]
    dtype, packing = held_as(plan.adapters)
    with phase(f"loading {plan.model}"):
        loaded = load_model(resolve_model(plan.model, catalog), dtype=dtype, quantization=packing)
    for info in adapters.values():
        check_base(loaded, info.folder, force=plan.force_base)
    scored = _scored(plan, {name: tasks[name] for name in owners}, adapters, owners, loaded, catalog)
    router = fit_router(
        texts,
        adapters,
        owners,
        loaded,
        head=plan.head,
        unknown=strange or BASE_TEXTS,
        scored=scored,
        seed=plan.seed,
    )
    model = os.path.abspath(plan.model) if os.path.isdir(plan.model) else plan.model
    return evolve(router, facts={**router.facts, "model": model, "unknown": unknown or "everyday texts"})


def save(router: Router, folder: str) -> str:
    """Writes it, see `write_router`."""
    return write_router(router, folder)


def opened(folder: str, model: str | None, catalog: Catalog) -> Router:
    """A router that can be asked: with its base, if its head reads that. model: in place of the one that it names.

    A model that is given is held against the router's base, whatever the head reads.
    """
    router = read_router(folder)
    if model is None and not router.head.reads_base:
        return router
    name = model or str(router.facts.get("model") or router.base.name)
    refuse_unknown(name, catalog)
    dtype, packing = held_as([one.folder for one in router.adapters])
    with phase(f"loading {name}"):
        return router.of_base(load_model(resolve_model(name, catalog), dtype=dtype, quantization=packing))


@frozen(kw_only=True)
class RouterTrial:
    """A router's evaluation. unknown: tasks that have no adapter. merged, beside: folders whose rows stand beside it.

    alone: each adapter's own rows, too, on all tasks.
    """

    router: str
    options: EvaluationOptions
    model: str | None = None
    unknown: tuple[str, ...] | None = None
    merged: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    alone: bool = False
    data: str = "auto"
    settings: Settings = field(factory=Settings)


@frozen(eq=False)
class Trial:
    """What came out. faulty: the faults of runs of the folder that were left out."""

    board: Leaderboard
    page: str
    routing: Routing
    faulty: RunProblems | None = None


def try_router(trial: RouterTrial, catalog: Catalog) -> Trial:
    """Base, merged, multi-task, random, routed and oracle rows on the router's tasks and the unknown ones."""
    router = read_router(trial.router)
    router.check_adapters()
    owners = router.owners
    if not owners:
        raise UsageError(
            f"router {shown(trial.router)} was fitted without tasks, so that nothing says what is right; fit it again "
            "with --tasks ADAPTER=TASK"
        )
    model = trial.model or str(router.facts.get("model") or router.base.name)
    seed = trial.options.seed
    plan = EvaluationPlan(
        model=model,
        options=trial.options,
        tasks=(*owners, *(name for name in trial.unknown or () if name not in owners)),
        adapters=tuple(one.folder for one in router.adapters),
        choices=(RandomChoice(tuple(router.names), seed), RouterChoice(router), OracleChoice(owners)),
        alone=trial.alone,
        data=trial.data,
        settings=trial.settings,
    )
    plan, tasks = ready_evaluation(plan, catalog)
    format = plan.options.format
    runs = evaluate_plan(plan, tasks, catalog)
    if others := (*trial.merged, *trial.beside):
        # Asked as the router's adapters are, whatever their own trainings say.
        own = evolve(plan.options, format=format or runs[0].record["format"])
        runs += evaluate_plan(
            evolve(plan, options=own, adapters=others, choices=(), alone=True, base=False), tasks, catalog
        )
    out = trial.options.out
    names = [task.name for task in tasks]
    board, page, faulty = rank(
        [out],
        os.path.join(out, "leaderboard"),
        catalog,
        suite=None,
        tasks=names,
        no_texts=trial.options.no_texts,
        whole=out,
    )
    found = read_runs([Path(run.folder) for run in runs], catalog)
    routing = next(iter(routings(found.runs)), None)
    if routing is None:
        raise RunProblems(list(found.problems), left_out=True)
    return Trial(board, page, routing, faulty)


def _named(folders: Sequence[str]) -> dict[str, AdapterInfo]:
    """By their folders' names. Raises UsageError for two of one name, and for one that is there twice."""
    found: dict[str, AdapterInfo] = {}
    for folder in folders:
        info = read_adapter(folder)
        if (other := found.get(info.name)) is not None:
            again = os.path.realpath(other.folder) == os.path.realpath(folder)
            raise UsageError(
                f"adapter {shown(folder)} is given twice"
                if again
                else f"two adapters of one name: {shown(other.folder)} and {shown(folder)}; rename one of the folders"
            )
        found[info.name] = info
    return found


def _owners(adapters: Mapping[str, AdapterInfo], given: Sequence[str] | None) -> dict[str, str]:
    """task -> the name of its adapter. Raises UsageError where it isn't one."""
    told: dict[str, list[str]] = {}
    for name, info in adapters.items():
        for task in info.record.tasks:
            told.setdefault(task, []).append(name)
    if given is not None:
        wanted: dict[str, list[str]] = {}
        for entry in given:
            name, equals, task = entry.partition("=")
            if equals:
                if name not in adapters:
                    raise UsageError(f"--tasks {entry}: there is no adapter {name!r}{did_you_mean(name, adapters)}")
                wanted[task] = [name]
            elif entry in told:
                wanted[entry] = told[entry]
            else:
                raise UsageError(
                    f"--tasks {entry}: no adapter was trained on that task{did_you_mean(entry, told)}; say whose it is "
                    f"with --tasks ADAPTER={entry}"
                )
        told = wanted
    for task, names in told.items():
        if len(names) > 1:
            raise UsageError(
                f"task {task!r} is known by the adapters {' and '.join(map(repr, names))}, and no text tells which is "
                f"meant; leave one of them out, or say --tasks {names[0]}={task}"
            )
    return {task: names[0] for task, names in told.items()}


def _split(task: Task) -> str:
    return task.spec.train_split or task.spec.split


def _texts_of_any(task: Task, n: int) -> list[str]:
    """Texts of a task that no adapter is for."""
    texts = [user_text(task, example) for example in task.examples(_split(task))]
    return list(dict.fromkeys(text for text in texts if text))[:n]


def _scored(
    plan: RouterPlan,
    tasks: Mapping[str, Task],
    adapters: Mapping[str, AdapterInfo],
    owners: Mapping[str, str],
    loaded: LoadedModel,
    catalog: Catalog,
) -> ScoredTexts | None:
    """What base and adapters answer to rows that none of them was trained on; None if none are asked for."""
    import numpy as np

    if not plan.score_rows or not tasks:
        return None
    source = loaded.source
    named = choose_format(source, plan.adapters, None, formats_of(tasks.values(), catalog))
    style = load_format(named, formats_of(tasks.values()))
    trained: dict[str, TrainingRecord | None] = {name: info.training for name, info in adapters.items()}
    with phase("rows to score"):
        held = [
            held_out_rows(
                task.in_format(style),
                trained,
                style,
                loaded.tokenizer,
                max_tokens=1024,
                wanted=plan.score_rows,
                architecture=source.architecture,
            ).first(plan.score_rows)
            for task in tasks.values()
        ]
    for one in held:
        say(f"scores: {one.task.name}: {len(one.rows)} rows, {one.origin}")
    with tempfile.TemporaryDirectory() as out:
        options = EvaluationOptions(out=out, format=named, seed=plan.seed)

        def values(model: LoadedModel) -> list[float]:
            runs = evaluate_tasks(model, [one.task for one in held], options)
            return [value for one, run in zip(held, runs, strict=True) for value in _values(one.task, run.samples())]

        of_base = values(loaded)
        of_adapters = []
        for info in adapters.values():
            with adapter_on(loaded, info.folder, force_base=plan.force_base) as tuned:
                of_adapters.append(values(tuned))
    texts = [user_text(one.task, row.example) for one in held for row in one.rows]
    names = [one.task.name for one in held for _ in one.rows]
    return ScoredTexts(texts, names, np.array(of_base), np.array(of_adapters).T)


def _values(task: Task, samples: Sequence[JsonObject]) -> list[float]:
    """The first metric's value of each item, higher is better; 0 where an error kept it from being scored."""
    scorer = task.scorers[0]
    sign = 1.0 if scorer.higher_is_better else -1.0
    found = [one["scores"] for one in samples if one["epoch"] == 0]
    return [sign * float(next(iter(scores.values()), None) or 0.0) for scores in found]
