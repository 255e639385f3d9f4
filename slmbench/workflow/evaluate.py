"""Models, with adapters or without, on tasks: what `slmbench.evaluate` and every command that scores go through."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from attrs import evolve, field, frozen

from slmbench.adapters import AdapterBank, AdaptersByRequest
from slmbench.catalog import Catalog, default_catalog
from slmbench.console import phase, say
from slmbench.engines.server_address import ServerOptions
from slmbench.errors import FileError, UsageError
from slmbench.evaluation import (
    AdapterChoice,
    Encoded,
    EvaluationOptions,
    Opponent,
    Routed,
    TaskFailure,
    choose_format,
    settled,
    told_if_cut_short,
)
from slmbench.formats import load_format
from slmbench.machine import available_bytes, resident_bytes
from slmbench.models import (
    LoadedModel,
    ModelSource,
    held_as,
    is_apart,
    is_whole_model,
    let_go,
    refuse_unknown,
)
from slmbench.paths import shown
from slmbench.recipe import load_suite
from slmbench.routing import AUTO, RouterChoice, read_router
from slmbench.runs import Run
from slmbench.task import Settings, Task, evaluation_needs, formats_of, left_out_notes, load_task, require_rows
from slmbench.workflow.decide import check_race, opponents_of
from slmbench.workflow.deployed import require_opponents
from slmbench.workflow.held import as_trained, held_whole, load_held, source_of
from slmbench.workflow.placed import LostAdapters, PlacedRuns
from slmbench.workflow.recipes import bertscore_by_twin, data_mode
from slmbench.workflow.served import check_served, load_served


@frozen(kw_only=True)
class EvaluationPlan:
    """What is asked for. tasks: those, or those of a suite. adapters: folders, of whole models too. base: scored first.

    choices: each is a row more, in which every item goes to the one of the adapters that it chooses; then they are
    called by their folders' names. router: the folder of one, whose adapters the name `auto` among the adapters stands
    for. alone: the adapters' own rows, too. data: auto, or samples, the golden rows alone.
    twin: the model's tiny random copy in its place. against: finished runs, by their folders, that everything is
    compared with item by item; until: decided, the moment at which it ends. margin: a difference that doesn't matter.
    With adapters it is they that are compared, and the base isn't scored.
    """

    model: str | LoadedModel
    options: EvaluationOptions
    tasks: tuple[str | Task, ...] | None = None
    suite: str | None = None
    adapters: tuple[str, ...] = ()
    choices: tuple[AdapterChoice, ...] = ()
    router: str | None = None
    alone: bool = True
    base: bool = True
    force_base: bool = False
    twin: bool = False
    data: str = "auto"
    settings: Settings = field(factory=Settings)
    against: tuple[str, ...] = ()
    until: str | None = None
    margin: float | None = None


def evaluate(
    model: str | LoadedModel,
    tasks: str | Task | Sequence[str | Task],
    *,
    adapter: str | None = None,
    router: str | None = None,
    force_base: bool = False,
    out: str = "slmbench-out",
    format: str | None = None,
    batch: int | str = "auto",
    engine: str = "shared",
    kv_budget_bytes: float | None = None,
    latency: bool = False,
    speed: bool = False,
    perplexity: bool = False,
    server: ServerOptions | None = None,
    limit: int | None = None,
    seed: int = 0,
    shots: int | None = None,
    cot: str | None = None,
    samples: int | None = None,
    allow_unsafe_code: bool = False,
    no_texts: bool = False,
    against: str | Sequence[str] | None = None,
    until: str | None = None,
    margin: float | None = None,
    catalog: Catalog | None = None,
) -> list[Run]:
    """Scores a model on tasks; one finished Run each, in the order of `tasks`, in `<out>/runs`.

    model: a registry name, a folder, a hub id, or a LoadedModel (`slmbench.models.bind_model` makes one from memory).
    tasks: a task's name, or several separated by commas, or a Task, or a sequence of names and Tasks.
    adapter: a folder, put on the model for the length of the call, as `slmbench eval --adapter` does without the base's
    runs; a model that is given by name is held as the adapter was trained on it, in its dtype and packed where it is
    QLoRA's; `auto` sends each item to the adapter that the router chooses. router: its folder, as `slmbench route fit`
    writes it. force_base: whatever model it was made on.
    format: plain, chat or toon; by default that of the adapter's (or model's) training, else plain.
    batch: how many rows' memory may be taken, or auto. engine: shared, lm-eval's hf or vllm, or one that plugins bring.
    kv_budget_bytes, latency: see docs/engine.md. speed: one stream is measured, too. perplexity: how likely right
    answers are to the model is scored, too. server: which one `engine="server"` asks. limit: only the first so
    many items of each task.
    shots, cot, samples: in place of what the tasks declare. allow_unsafe_code: run the programs of code tasks on a
    machine that has no sandbox for them. no_texts: pages show digests in place of the new runs' texts. catalog: where
    names are looked up; `default_catalog()` unless given.
    against: a finished run's folder (or several, one a task), with which the command line compares what comes out.
    until: "decided": items are asked in a random order until
    it is sure which of both is better, and the Run says so in `decision` (docs/decide.md). margin: a difference that
    doesn't matter, in the metric's units; within it both are equal.
    The same call again returns the runs that are there already, and goes on with one that was cut off.
    Raises SlmbenchError's children, as the command line does.
    """
    catalog = catalog or default_catalog()
    if isinstance(tasks, str):
        tasks = [name.strip() for name in tasks.split(",") if name.strip()]
    listed = (tasks,) if isinstance(tasks, Task) else tuple(tasks)
    if not listed:
        raise UsageError('no task to evaluate; give a name, as "nano_note" (`slmbench list tasks` shows them)')
    options = EvaluationOptions(
        out=out,
        format=format,
        batch=batch,
        engine=engine,
        kv_budget_bytes=kv_budget_bytes,
        latency=latency,
        speed=speed,
        server=server or ServerOptions(),
        limit=limit,
        seed=seed,
        allow_unsafe_code=allow_unsafe_code,
        no_texts=no_texts,
    )
    plan = EvaluationPlan(
        model=model,
        options=options,
        tasks=listed,
        adapters=() if adapter is None else (adapter,),
        router=router,
        base=adapter is None,
        force_base=force_base,
        settings=Settings(shots, cot, samples, perplexity=perplexity),
        against=(against,) if isinstance(against, str) else tuple(against or ()),
        until=until,
        margin=margin,
    )
    return evaluate_plan(*ready_evaluation(plan, catalog), catalog)


def ready_evaluation(plan: EvaluationPlan, catalog: Catalog) -> tuple[EvaluationPlan, list[Task]]:
    """(the plan, in its suite's format; its tasks as it wants them, their rows at hand); notices are said."""
    check_race(plan.against, plan.until, plan.margin, plan.options.limit)
    if isinstance(plan.model, str):
        refuse_unknown(plan.model, catalog)
    plan = _with_router(plan)
    if plan.against and plan.until is None:
        require_opponents(plan.against, plan.options.out)
    elif plan.against and plan.adapters:
        plan = evolve(plan, base=False)
    named: Sequence[str | Task] = plan.tasks or ()
    if plan.suite:
        suite = load_suite(catalog, plan.suite)
        named = suite.tasks
        plan = evolve(plan, options=evolve(plan.options, format=plan.options.format or suite.format))
    data = data_mode(plan.data, plan.twin)
    with bertscore_by_twin(plan.model, catalog, plan.twin):
        declared = [load_task(task, catalog, data=data) if isinstance(task, str) else task for task in named]
    tasks, notices = plan.settings.of(declared)
    needs = evaluation_needs(tasks)
    for notice in notices:
        say(f"note: {notice}")
    require_rows(needs)
    for notice in left_out_notes(needs):
        say(f"note: {notice}")
    return plan, tasks


def evaluate_plan(plan: EvaluationPlan, tasks: Sequence[Task], catalog: Catalog) -> list[Run]:
    """Runs of the base, unless the plan leaves it out, and of everything that is put on it, all on the same tasks.

    The base is loaded once, and adapters are exchanged on it. A task that fails ends no other, nor does an adapter that
    can't be loaded if others can: TasksFailed then, with the runs that are there.
    """
    return settled(*try_plan(plan, tasks, catalog))


def try_plan(
    plan: EvaluationPlan, tasks: Sequence[Task], catalog: Catalog, *, more: bool = False
) -> tuple[list[Run | None], list[TaskFailure]]:
    """(the runs as of `evaluate_plan`, None in the place of each that failed; why it failed).

    more: there is more to be done than this, so that not even an only adapter that can't be loaded ends it.
    """
    # An unknown engine, and one that isn't installed, is told before a model is looked for.
    apart = _check_engine(plan, tasks)
    against: dict[str, Opponent] = {}
    if plan.against and plan.until is not None:
        with phase("reading runs"):
            against = opponents_of(
                plan.against,
                tasks,
                plan.options.out,
                margin=plan.margin,
                seed=plan.options.seed,
                models=plan.base + plan.alone * len(plan.adapters) + len(plan.choices),
            )
    # A LoadedModel is the caller's: nothing is loaded in its place, and it is given back without the adapters' layers.
    ours = isinstance(plan.model, str)
    given: LoadedModel | ModelSource
    given = source_of(plan.model, catalog, plan.twin, apart) if isinstance(plan.model, str) else plan.model
    adapters = [folder for folder in plan.adapters if not (ours and is_whole_model(folder))]
    base = given.name if isinstance(given, ModelSource) else given.source.name
    # What chooses among adapters needs each of them.
    lost = LostAdapters(base, () if plan.choices else plan.adapters, more)
    whole = {}
    for folder in plan.adapters:
        if folder not in adapters:
            with lost.held_apart(folder, (FileError,)):
                whole[folder] = held_whole(folder)
    # A wrong path, or another model's adapter, must not come to light after the base has been scored.
    sound = lost.sound(adapters)
    held = held_as(sound if ours else [])
    formats = formats_of(tasks, catalog)
    options = evolve(plan.options, format=choose_format(given, [*sound, *whole], plan.options.format, formats))
    rows = PlacedRuns(tasks, options, load_format(str(options.format), formats_of(tasks)), against, lost)
    with told_if_cut_short(rows.failures):
        if plan.base or sound:
            if isinstance(given, LoadedModel):
                loaded = given
            elif apart == "served":
                loaded = load_served(given, plan.options.chosen(tasks), tasks)
            else:
                loaded = load_held(given, *held, apart=apart)
            _score_over(loaded, plan, adapters, rows, ours)
            del loaded
        else:
            for folder in adapters:
                rows.miss(folder)
        for folder in plan.adapters:
            if folder not in adapters:
                assert isinstance(given, ModelSource)
                alone = None
                if folder in whole:
                    with lost.held_apart(folder):
                        alone = as_trained(given, folder, catalog, whole[folder], apart)
                if alone is None:
                    rows.miss(folder)
                    continue
                with _let_go(alone, ours):
                    rows.score(alone)
    rows.tell_remarks()
    return rows.placed, rows.failures


def _score_over(
    loaded: LoadedModel, plan: EvaluationPlan, adapters: Sequence[str], rows: PlacedRuns, ours: bool
) -> None:
    """The rows of a base, of what is put on it, and of what chooses among that."""
    lost, named = rows.lost, _named(adapters, plan.choices)
    with _let_go(loaded, ours), _adapters_over(loaded) as bank:
        for name, folder in named.items():
            if folder not in lost.errors:
                with lost.held_apart(folder):
                    bank.add(name, folder, force_base=plan.force_base)
        routes = [Routed(bank, _on(loaded, choice)) for choice in plan.choices if isinstance(bank, AdapterBank)]
        encoded: Encoded = {}  # Base and adapters are sent the same ids.
        if plan.base:
            rows.score(loaded, encoded)
        for name, folder in named.items() if plan.alone else ():
            tuned = None
            if folder not in lost.errors:
                with lost.held_apart(folder):
                    tuned = bank.swap(name)
            if tuned is None:
                rows.miss(folder)
            else:
                rows.score(tuned, encoded if tuned.tokenizer is loaded.tokenizer else {})
        bank.swap(None)
        for routed in routes:
            rows.score(loaded, encoded, routed)


def held_base(plan: EvaluationPlan, tasks: Sequence[Task], source: ModelSource, adapters: Sequence[str]) -> LoadedModel:
    """A base as the plan's engine wants it and adapters were trained on it (`held_as`). Raises what loading does."""
    return load_held(source, *held_as(adapters), apart=_check_engine(plan, tasks))


def _check_engine(plan: EvaluationPlan, tasks: Sequence[Task]) -> str:
    """What the plan's engine reads itself, '' if nothing. Raises UsageError for what it can't be asked."""
    engine = plan.options.chosen(tasks)
    engine.require()
    if engine.apart == "served":
        check_served(engine, plan.adapters)
    served = isinstance(plan.model, LoadedModel) and plan.model.served is not None
    odd = isinstance(plan.model, LoadedModel) and bool(engine.apart) != is_apart(plan.model)
    if isinstance(plan.model, LoadedModel) and (odd or served != (engine.apart == "served")):
        raise UsageError(
            f"{plan.model.source.name!r} is in memory, and engine {engine.name!r} reads a model's files itself; give "
            "its name, folder or hub id, or take engine shared"
            if engine.apart
            else f"{plan.model.source.name!r} was read without its weights, which engine {engine.name!r} computes with"
        )
    if engine.apart and plan.choices:
        raise UsageError(
            f"{plan.choices[0].name}: engine {engine.name!r} sends all items of a run to one adapter; take --engine "
            "shared, or give the adapters' folders to have a row of each"
        )
    return engine.apart


def _adapters_over(loaded: LoadedModel) -> AdapterBank | AdaptersByRequest:
    return AdaptersByRequest(loaded) if is_apart(loaded) else AdapterBank(loaded, bank_bytes(loaded))


@contextlib.contextmanager
def _let_go(loaded: LoadedModel, ours: bool) -> Iterator[None]:
    """Ends what holds a model's weights after the block, if it is in another program; the caller's stays."""
    try:
        yield
    finally:
        if ours:
            let_go(loaded)


def _with_router(plan: EvaluationPlan) -> EvaluationPlan:
    """The plan with a router's adapters and choices in the place of the name `auto`. Raises UsageError, FileError."""
    given = tuple(folder for folder in plan.adapters if folder != AUTO)
    if AUTO not in plan.adapters:
        if plan.router is not None:
            raise UsageError(f"router {shown(plan.router)}: what it is for is not said; add --adapter {AUTO}")
        return plan
    if plan.router is None:
        raise UsageError(
            f"--adapter {AUTO} needs --router DIR, which `slmbench route fit` writes; a folder of that name is ./{AUTO}"
        )
    router = read_router(plan.router)
    router.check_adapters()
    folders = {os.path.realpath(folder): folder for folder in (*given, *(one.folder for one in router.adapters))}
    return evolve(
        plan,
        adapters=tuple(folders.values()),
        choices=(*plan.choices, RouterChoice(router)),
        alone=plan.alone and bool(given),
    )


def _on(loaded: LoadedModel, choice: AdapterChoice) -> AdapterChoice:
    """A choice with what it reads at hand."""
    return choice.of_base(loaded) if isinstance(choice, RouterChoice) else choice


def bank_bytes(loaded: LoadedModel) -> int | None:
    """How much memory adapters may take beside a base: a quarter of what is free; None if that can't be told."""
    device = loaded.model.device.type
    free = available_bytes(device)
    if free is None:
        return None
    return max(0, free - (resident_bytes() if device == "cpu" else 0)) // 4


def _named(folders: Sequence[str], choices: Sequence[AdapterChoice]) -> dict[str, str]:
    """name -> folder of adapters. Raises UsageError for two of one name among which something is to be chosen."""
    found: dict[str, str] = {}
    for folder in folders:
        name = os.path.basename(os.path.abspath(folder))
        if found.get(name, folder) != folder:
            if choices:
                raise UsageError(
                    f"two adapters of one name: {shown(found[name])} and {shown(folder)}; {choices[0].name} chooses by "
                    "names, so rename one of the folders"
                )
            name = folder
        found[name] = folder
    return found
