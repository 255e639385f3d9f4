"""Who is scored on what: the part of a run's record that is known before its model runs, its id, and its comparability.

The record's keys and their order are those of `run.json`; run ids and comparability keys are digests over them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from slmbench.console import say
from slmbench.datasets import digest_rows
from slmbench.engines.encoder_decoder import decoder_tokens, encoder_tokens
from slmbench.engines.generation_config import own_say
from slmbench.errors import DataError, FileError
from slmbench.evaluation._harness import Request, generation_kwargs, render_all
from slmbench.evaluation._judge import sandbox_record
from slmbench.evaluation._options import EvaluationOptions
from slmbench.evaluation._routed import Routed
from slmbench.evaluation._targets import with_scorable_targets
from slmbench.evaluation._trained_format import format_remarks
from slmbench.formats import Format, dated
from slmbench.installed import package_of
from slmbench.machine import code
from slmbench.models import LoadedModel, core_model, tokenizer_sha256
from slmbench.runs import (
    AdapterPart,
    DatasetPart,
    ModelPart,
    PackagePart,
    RunIdentity,
    ScorerPart,
    ServedPart,
    ShotsPart,
    TaskPart,
    canonical_sha256,
    comparability_keys,
    evaluated_digits,
    read_merge,
    sandbox_told,
    trained_as,
)
from slmbench.sandbox import Sandbox
from slmbench.task import Task, limit_for
from slmbench.values import Example, JsonObject

TWIN_MARK = "slmbench_twin"


@frozen(eq=False)
class TaskRun:
    """One task of an evaluation, ready to run. remarks: what a reader should know of the model that it is run on."""

    task: Task
    examples: tuple[Example, ...]
    requests: list[Request]
    folder: str
    record: dict[str, Any]
    remarks: tuple[str, ...] = ()


def prepare(
    loaded: LoadedModel,
    task: Task,
    style: Format,
    options: EvaluationOptions,
    sandbox: Sandbox | None,
    routed: Routed | None = None,
) -> TaskRun:
    """A task, bound to a format, with its rows and prompts written. Raises UsageError, DataError, HookError.

    routed: what chooses each item's adapter; loaded is then the base.
    """
    engine, limit, seed = options.chosen([task]), limit_for(task, options.limit), options.seed
    examples = task.examples(task.spec.split, limit)
    requests = render_all(task, examples, style, loaded.tokenizer)
    task, unscored = with_scorable_targets(loaded, task, examples, requests)
    if unscored:
        say(f"note: {unscored}")
    _check_room(loaded, task)
    shown = {id(shots): shots for example in examples if (shots := task.shots(example))}
    texts = [[[s.user, s.target.text, dict(s.inputs)] for s in one] for one in shown.values()]
    shot_digests = sorted(map(canonical_sha256, texts))
    rows = task.rows(task.spec.split)
    adapter = _adapter(loaded) if routed is None else routed.part()
    template = style.template_of(loaded.tokenizer) if style.template_of is not None else None
    generation = {} if task.kind == "choice" else generation_kwargs(task, style)
    if task.kind == "code" or task.spec.generation.samples > 1:
        generation |= {"samples": task.spec.generation.samples}
    more: dict[str, Any] = {"latency": "single stream"} if engine.latency else {}
    more |= {} if engine.kv_budget_bytes is None else {"kv_budget_B": engine.kv_budget_bytes}
    identified = RunIdentity(
        seed=seed,
        limit=limit,
        model=ModelPart(
            name=loaded.source.name,
            id=loaded.source.id,
            revision=loaded.source.revision,
            config_sha256=loaded.config_sha256,
            **_weights(loaded),
            **_variant(loaded),
        ),
        adapter=adapter,
        tokenizer_sha256=tokenizer_sha256(loaded.tokenizer),
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else None,
        format=style.name,
        task=TaskPart(id=task.name, version=task.version, digest=task.digest(style), kind=task.kind, **_package(task)),
        dataset=DatasetPart(
            id=task.dataset.spec.hub or task.dataset.name,
            revision=rows.revision,
            split=task.spec.split,
            source=rows.source,
            content_sha256=digest_rows(rows.rows[: len(examples)]),
            **item_digests(task, examples),
        ),
        fewshot=ShotsPart(n=task.shot_count, split=task.shot_split),
        fewshot_sha256=canonical_sha256(shot_digests) if shot_digests else None,
        cot=task.cot,
        prompts_sha256=prompts_digest(requests),
        generation=generation,
        scorer=ScorerPart(
            id="+".join(scorer.name for scorer in task.scorers),
            version="+".join(scorer.version for scorer in task.scorers),
            # A metric with a model of its own is another metric with other weights.
            weights={s.name: [*s.values, s.weights_sha256()] for s in task.scorers if s.weights_sha256},
        ),
        sandbox=sandbox_record(task, sandbox),
        engine=engine.name,
        engine_version=engine.version,
        batch_size=engine.rows,
        **more,
        **_generation_config(loaded, task, generation),
    )
    record = identified.as_json()
    # Two models are compared on the same items, asked the same way, in any metric that both have (`metric_key`). Where
    # the rows lay, on the hub, in a mirror or in a file, is no difference.
    beside: list[Any] = []
    if style.fenced or style.plugin:  # How an answer is taken out of turns or objects is a part of its score.
        beside.append([style.version, task.declared_form()])
    own = record.get("generation_config", {})
    identity = evaluated_digits(record, beside, version=code()["version"], device=str(loaded.model.device))
    record["comparability_key"] = comparability_keys(record, [*beside, *sandbox_told(record["sandbox"])])[0]
    record["model"] |= _made_on(loaded)  # Its weights identify a model: this is for people, and no part of an id.
    who = loaded.source.name + (f"+{adapter.name}" if adapter else "")
    run_id = f"{re.sub(r'[^A-Za-z0-9._+-]', '-', who)}__{task.name}__{identity}"
    told = [*loaded.notices, *dated(style, loaded.tokenizer), *format_remarks(loaded, style)]
    told += [] if routed is None else routed.remarks(style)
    if own.get("counts"):
        names = ", ".join(name for name in own if name != "counts")
        told.append(f"the model's generation_config.json has a say in the texts that are drawn ({names})")
    return TaskRun(
        task, examples, requests, os.path.join(options.out, "runs", run_id), {"run_id": run_id, **record}, tuple(told)
    )


def item_digests(task: Task, examples: Sequence[Example]) -> JsonObject:
    """What a record's `dataset` says of the items alone, in their order."""
    return {
        "item_ids_sha256": canonical_sha256([example.id for example in examples]),
        "items_sha256": items_sha256(task, examples),
        "n": len(examples),
    }


def prompts_digest(requests: Sequence[Request]) -> str:
    """The sha256 of all that is sent."""
    return hashlib.sha256("\0".join(text for one in requests for text in one.texts).encode()).hexdigest()


def _adapter(loaded: LoadedModel) -> AdapterPart | None:
    adapter = loaded.adapter
    if adapter is None:
        return None
    training = adapter.record
    more: JsonObject = {"forced_base": adapter.forced} if adapter.forced else {}
    more |= {"setting_sha256": training.setting_sha256} if training.setting_sha256 else {}
    more |= {"settings": settings} if training.recipe and (settings := training.told()) else {}
    return AdapterPart(
        name=adapter.name,
        sha256=adapter.sha256,
        bytes=adapter.bytes,
        parameters=adapter.parameters,
        rank=adapter.rank,
        method=training.how() if adapter.merge is None else f"merged: {adapter.merge.told}",
        recipe=training.recipe,
        recipe_sha256=training.recipe_sha256,
        train_seed=training.seed,
        train_s=training.train_s,
        tasks=list(training.tasks),
        **more,
    )


def _package(task: Task) -> JsonObject:
    """The installed package that brings a task; {} for a task of slmbench's own or of a folder."""
    found = package_of(task.folder)
    return {} if found is None else {"package": PackagePart(name=found[0], version=found[1])}


def items_sha256(task: Task, examples: Sequence[Example]) -> str:
    """The digest of what a task makes of its rows: what is asked of each, shots aside, and what counts as right."""
    return canonical_sha256([_item(task, example) for example in examples])


def _item(task: Task, example: Example) -> list[Any]:
    prompt = task.prompt(example)
    asked = [prompt.system, prompt.user, prompt.prefix]
    return [example.id, *asked, list(example.references), list(example.choices), example.gold, example.cluster]


def _generation_config(loaded: LoadedModel, task: Task, given: JsonObject) -> JsonObject:
    """What the model's own `generation_config.json` says of the next token, and whether it counts; {} if nothing.

    given: how texts are asked for.
    """
    if task.kind == "choice":
        return {}
    found = own_say(getattr(core_model(loaded.model), "generation_config", None), given)
    return {"generation_config": found} if found else {}


def _weights(loaded: LoadedModel) -> JsonObject:
    """What identifies a model's weights; of one that a server has, what that says."""
    if loaded.served is not None:
        return {"served": ServedPart(**loaded.served)}
    return {"weights_sha256": loaded.weights_sha256, "dtype": loaded.dtype, "parameters": loaded.parameters}


def _variant(loaded: LoadedModel) -> JsonObject:
    """What sets a model apart from a whole causal one of its name; {} for such a one, whose runs keep their ids."""
    found: dict[str, Any] = {}
    if quantization := loaded.quantization:
        found["quantization"] = quantization
    # The mark in its config stays with what is trained in full, merged or exported from a twin.
    if loaded.source.twin or getattr(loaded.model.config, TWIN_MARK, False):
        found["twin"] = True
    if loaded.architecture == "seq2seq":
        found |= {"architecture": "seq2seq", "encoder_tokens": encoder_tokens(loaded)}
    if loaded.served is not None:
        return found  # What the folder here was made of is no fact of what is served.
    # A folder may hold any file of another tool.
    with contextlib.suppress(OSError, FileError):
        found["merge"] = read_merge(loaded.source.location).part()
    return found


def _made_on(loaded: LoadedModel) -> JsonObject:
    """What a whole model was trained or merged on, and by which recipe; {} if its folder doesn't say."""
    if loaded.served is not None:
        return {}
    with contextlib.suppress(OSError, FileError):
        training = trained_as(loaded.source.location)
        told = {
            "base": training.base.name if training.base is not None and training.base.name else training.model,
            "recipe_sha256": training.recipe_sha256,
            "setting_sha256": training.setting_sha256,
        }
        return {key: value for key, value in told.items() if value is not None}
    return {}


def _check_room(loaded: LoadedModel, task: Task) -> None:
    """Raises DataError if a model has no room for a task's answers: other tasks may fit it."""
    if loaded.architecture == "seq2seq":
        most = decoder_tokens(loaded)
        if task.kind != "choice" and most is not None and task.max_tokens > most:
            raise DataError(
                f"task {task.name!r} generates up to {task.max_tokens} tokens, but the decoder of "
                f"{loaded.source.name!r} writes {most}; lower it (`--max-tokens`, or generation.max_tokens in "
                "task.yaml) or take a model with more"
            )
        return
    context = getattr(loaded.model.config, "max_position_embeddings", None)
    if task.kind != "choice" and context is not None and task.max_tokens >= context:
        raise DataError(
            f"task {task.name!r} generates up to {task.max_tokens} tokens, but "
            f"{loaded.source.name!r} has a context of {context}; lower it (`--max-tokens`, or "
            "generation.max_tokens in task.yaml) or take a model with more"
        )
