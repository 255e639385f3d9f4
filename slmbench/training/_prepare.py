"""What is settled before a weight is loaded: rows, what is kept aside, the order of steps, the memory that it takes."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from attrs import evolve, field, frozen

from slmbench import console
from slmbench.catalog import Catalog
from slmbench.contamination import apply, contamination_of
from slmbench.errors import UsageError, did_you_mean
from slmbench.formats import Format, dated, load_format
from slmbench.machine import large_imports
from slmbench.models import ModelSource, load_config, load_tokenizer, tokenizer_sha256
from slmbench.paths import shown
from slmbench.recipe import Recipe
from slmbench.runs import canonical_sha256
from slmbench.schema import LoraSpec, MixingSpec, RecipeSpec, RowsSpec
from slmbench.task import Settings, Task, formats_of, load_task, require_rows, training_needs
from slmbench.training._budget import check_budget
from slmbench.training._forecast import forecast_memory
from slmbench.training._initial import FirstAdapter, first_adapter
from slmbench.training._mixing import Plan, plan_batches
from slmbench.training._refusals import refuse_impossible
from slmbench.training._rows import TrainingRow, mixture, refuse_too_few, split_validation, take_rows
from slmbench.training._team import Team
from slmbench.values import Config, JsonObject, Tokenizer

_LABELS = {
    "imports": "importing torch, transformers, trl",
    "rows": "reading and encoding rows",
    "contamination": "looking for rows that are also evaluated",
    "plan": "order of the steps",
    "forecast": "forecast of memory",
    "load": "loading the model",
    "parity": "comparing prompts with the evaluation's",
    "model": "adapter",
    "save": "saving",
}


@frozen(eq=False)
class Phases:
    """Seconds by phase, as `steps`; a phase that is entered twice is summed. of: what the console calls it all."""

    of: str = ""
    seconds: dict[str, float] = field(factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """For the length of the block the console says that it is under way."""
        with console.phase(f"{self.of}: {_LABELS.get(name, name)}"), self.timed(name):
            yield

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """The same, for what shows itself otherwise."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@frozen(eq=False)
class Preparation:
    """A training before its model is loaded. spec: with what the adapter has of its own.

    rows: those trained on; validation: those kept aside, in no step.
    dropped: task -> reason -> rows left out. identity: sha256 of the settings that matter and of the rows, not of the
    base's weights. forecast: of each process; None in those beside the first. first: what it goes on from. order: the
    digest of all that the order of rows depends on; done: how many steps of it were made before.
    """

    spec: RecipeSpec
    source: ModelSource
    style: Format
    tokenizer: Any
    tasks: list[Task]
    rows: list[TrainingRow]
    validation: list[TrainingRow]
    dropped: Mapping[str, Mapping[str, int]]
    contamination: dict[str, Any]
    plan: Plan
    forecast: Any
    identity: str
    first: FirstAdapter | None = None
    order: str = ""
    done: int = 0

    @property
    def names(self) -> list[str]:
        return [task.name for task in self.tasks]

    def largest_batch(self, step: int, team: Team) -> list[tuple[int, int]]:
        """Tokens of each row of what a process has of a step's largest micro-batch, as `_sizes`. step: from 0."""
        batches = self.plan.part(self.rows, team.rank, team.size)
        batches = batches[step * self.plan.accumulate : (step + 1) * self.plan.accumulate]
        largest = max(batches, key=lambda batch: sum(self.rows[i].length for i in batch))
        return _sizes(self.rows, largest, self.spec.loss)

    def as_json(self) -> JsonObject:
        """What `--dry-run` shows: steps, tasks, the mixture that the steps will see, contamination, forecast."""
        return {
            "model": self.source.name,
            "steps": self.plan.steps,
            "tasks": mixture(self.rows, self.dropped),
            "validation_rows": {name: sum(row.task == name for row in self.validation) for name in self.names},
            "mixture": self.plan.realised(self.rows),
            "contamination": self.contamination,
            "forecast": self.forecast.as_json(),
        }


def prepare_training(
    recipe: Recipe,
    name: str,
    catalog: Catalog,
    source: ModelSource,
    *,
    data: str = "auto",
    phases: Phases | None = None,
    loaded: dict[str, Task] | None = None,
    team: Team | None = None,
    place: str = "",
    planned: bool = False,
) -> Preparation:
    """Everything that can be known of a training without its weights, and every refusal that needs none.

    loaded: tasks by name that needn't be loaded again, with rows that are at hand; those of this training are added.
    team: None if this process isn't one of several that train together. place: where adapters of the recipe that this
    one may go on from are; planned: one that isn't there yet will be.
    Raises UsageError, DataError or OfflineError; with `on_contamination: fail`, DataError if rows are evaluated too.
    """
    phases = phases or Phases(name)
    if name not in recipe.spec.adapters:
        raise UsageError(f"recipe {recipe.name!r} has no adapter {name!r}{did_you_mean(name, recipe.spec.adapters)}")
    spec = recipe.spec_of(name)
    optim = spec.optim
    with phases.phase("imports"), large_imports():
        import datasets  # noqa: F401
        import peft  # noqa: F401
        import torch
        import transformers
        from trl import SFTTrainer

        assert SFTTrainer and transformers.Trainer  # Names that are imported when they are first asked for.
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with phases.phase("tokenizer"):
        config = load_config(source)
        source = evolve(source, architecture="seq2seq" if config.is_encoder_decoder else "causal")
        tokenizer = load_tokenizer(source)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
    loaded = {} if loaded is None else loaded
    for named in spec.adapters[name].tasks:  # Their plugins may bring the format.
        if named not in loaded:
            loaded[named] = load_task(named, catalog, data=data)
    style = load_format(spec.format, formats_of([loaded[named] for named in spec.adapters[name].tasks], catalog))
    with phases.phase("checks"):
        refuse_impossible(spec, optim, source, config, tokenizer, device=device, format=style, team=team)
        first = first_adapter(recipe, name, place, source, config, planned=planned)
    with phases.phase("rows"):
        for named in (*spec.adapters[name].tasks, *recipe.evaluation_tasks(catalog)):
            if named not in loaded:
                loaded[named] = load_task(named, catalog, data=data)
        own = spec.adapters[name].tasks
        declared = [loaded[task] for task in own]
        tasks, _ = Settings(shots=spec.shots, cot=spec.cot).of(declared)
        # Without those that are trained on, as their own splits are held too.
        evaluated = [loaded[named] for named in recipe.evaluation_tasks(catalog) if named not in own]
        compared = [(task, task.spec.split) for task in (*tasks, *evaluated)] if spec.on_contamination != "warn" else []
        require_rows(training_needs(tasks), compared)
        tasks = [task.in_format(style) for task in tasks]
        aside = spec.validation.rows if spec.validation is not None else 0
        drawn = spec.rows if isinstance(spec.rows, RowsSpec) else None
        wanted = spec.rows if not isinstance(spec.rows, RowsSpec) else spec.rows.n
        if drawn is not None and not source.twin:
            refuse_too_few(tasks, drawn, aside)
        rows: list[TrainingRow] = []
        dropped: dict[str, dict[str, int]] = {}
        for task in tasks:
            taken = take_rows(
                task,
                style,
                tokenizer,
                limit=None if wanted is None else wanted + aside,
                max_tokens=spec.max_tokens,
                architecture=source.architecture,
                seed=None if drawn is None else drawn.seed,
            )
            rows += taken.rows
            dropped[task.name] = dict(taken.dropped)
        _check_known(rows, source, config, tokenizer)
    with phases.phase("contamination"):
        report = contamination_of(tasks, rows, evaluated, spec.on_contamination)
        for shown in report.lines():
            console.say(shown)
        before = Counter(row.task for row in rows)
        rows = apply(report, rows, spec.on_contamination)
        after = Counter(row.task for row in rows)
        for task in tasks:
            dropped[task.name]["contamination"] = before[task.name] - after[task.name]
    validation: list[TrainingRow] = []
    if aside:
        rows, validation = split_validation(rows, aside)
        rows = _at_most(rows, wanted)
    if spec.method == "full" and spec.lora != LoraSpec():
        console.say(f"{name}: method: full trains all weights, so `lora` has no effect")
    for told in (*dated(style, tokenizer), *_remarks(spec, rows, validation, dropped)):
        console.say(f"{name}: {told}")
    if optim.schedule == "plateau" and not validation:
        raise UsageError(
            f"optim.schedule: 'plateau' follows the validation loss, but of {len(rows)} rows none can be kept aside (a "
            "quarter of a task's at most, and never a part of those with one prompt); `--set optim.schedule=linear`"
        )
    fed = [[[row.prompt, row.answer] for row in part] for part in (rows, validation)]
    with phases.phase("plan"):
        lay_out = partial(
            plan_batches,
            rows,
            mixing=spec.mixing,
            batch=optim.batch,
            accumulate=optim.accumulate,
            seed=spec.seed,
            pack_tokens=optim.batch * spec.max_tokens if spec.packing else None,
        )
        plan, order, done = lay_out(steps=optim.steps, epochs=optim.epochs), "", 0
        if recipe.spec.keeps_optimizer(name) or (first is not None and first.kept is not None):
            order = canonical_sha256([fed[0], {key: _plain(value) for key, value in lay_out.keywords.items()}])
        if first is not None and first.kept is not None and first.kept.order == order:
            done = first.kept.steps
            plan = lay_out(steps=done + plan.steps, epochs=None).after(done)
    if first is not None:
        console.say(f"{name}: {_goes_on(first, done)}")
    if 0 < plan.steps <= optim.warmup_steps and optim.schedule != "constant":
        console.say(f"{name}: all {plan.steps:,} steps are warm-up (optim.warmup_steps is {optim.warmup_steps:,})")
    forecast = None
    if team is None or team.leads:  # It is the same for the others.
        with phases.phase("forecast"):
            longest = _sizes(rows, plan.largest(rows, spec.launch.processes), spec.loss)
            forecast = forecast_memory(spec, optim, config, source, device=device, longest_batch=longest)
            limit = None if spec.memory_limit_gb is None else int(spec.memory_limit_gb * 1e9)
            check_budget(forecast, limit)
    # Where a recipe names no targets the model's declaration does, which may change while its weights don't.
    targets = None if spec.method == "full" else spec.lora.targets or source.lora_targets
    made_of = [recipe.digest_of(name), tokenizer_sha256(tokenizer), fed, targets]
    return Preparation(
        spec,
        source,
        style,
        tokenizer,
        tasks,
        rows,
        validation,
        dropped,
        report.as_json(),
        plan,
        forecast,
        canonical_sha256(made_of if first is None else [*made_of, first.identity]),
        first,
        order,
        done,
    )


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, MixingSpec) else value


def _goes_on(first: FirstAdapter, done: int) -> str:
    """What a person should know of how a training goes on from an adapter."""
    said = f"goes on from {shown(first.info.folder)}"
    if first.kept is None:
        return said
    if done:
        return f"{said} with its optimiser's state, after step {done:,} of the same order of rows"
    return f"{said} with its optimiser's state; its rows, or their order, were others: these begin at their first"


def _remarks(
    spec: RecipeSpec,
    rows: Sequence[TrainingRow],
    validation: Sequence[TrainingRow],
    dropped: Mapping[str, Mapping[str, int]],
) -> Iterator[str]:
    """What a person would want to know of the rows while the training can still be stopped."""
    aside = Counter(row.task for row in validation)
    for task, part in mixture(rows, dropped).items():
        if part["rows_without_reasoning"]:
            yield (
                f"{task}: {part['rows_without_reasoning']} of {part['rows']} rows have no reasoning: their target is "
                "the marked answer alone, which teaches a model not to reason"
            )
        if part["truncated_rows"] or part["truncated_answers"]:
            yield (
                f"{task}: of {part['rows']} rows {part['truncated_rows']} lost the front of their prompt and "
                f"{part['truncated_answers']} the end of their answer (max_tokens is {spec.max_tokens})"
            )
        if spec.validation is not None and not aside[task]:
            yield f"{task}: none of its {part['rows']} rows can be kept aside, so it has no validation loss"


def _check_known(rows: Sequence[TrainingRow], source: ModelSource, config: Config, tokenizer: Tokenizer) -> None:
    """Raises UsageError for rows with tokens that the model has no embedding of."""
    size = config.get_text_config().vocab_size
    for row in rows:
        largest = max(chain(row.prompt, row.answer), default=0)
        if largest >= size:
            raise UsageError(
                f"task {row.task!r}, item {row.example.id!r}: its text has token {largest} "
                f"({tokenizer.decode([largest])!r}), and {source.name!r} has {size} of them: this tokenizer is "
                "another model's, or the model's embeddings have to be resized to it"
            )


def _sizes(rows: list[TrainingRow], batch: Sequence[int], loss: str) -> list[tuple[int, int]]:
    """(prompt, answer) tokens of each row; of a loss of `all` (first, others), as of the others each is scored."""
    if loss == "all":
        return [(1, rows[i].length - 1) for i in batch]
    return [(len(rows[i].prompt), len(rows[i].answer)) for i in batch]


def _at_most(rows: list[TrainingRow], n: int | None) -> list[TrainingRow]:
    """The first n rows of each task."""
    kept, counts = [], dict.fromkeys((row.task for row in rows), 0)
    for row in rows:
        counts[row.task] += 1
        if n is None or counts[row.task] <= n:
            kept.append(row)
    return kept
