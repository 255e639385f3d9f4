"""What `run.json` holds: the models that every reader of a run goes through."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field

from slmbench.errors import FileError, Problem
from slmbench.foreign import Amount, AnyText, Count, Limits, Number, faults, read_object
from slmbench.paths import shown
from slmbench.runs._part import CodePart, Filled, ImportedPart, MergePart, Part, Range, RescoredPart, Time
from slmbench.runs._stopped import PAUSED, StoppedPart
from slmbench.runs._versions import READS, RECORD, read_as, refuse_other
from slmbench.seal import SEAL, check_seal
from slmbench.values import JsonObject

LEFT_OUT = ("started", PAUSED, "error", "invalidated")
"""What the status of a run may be that has no result."""
AT_LIMIT, AT_STOP = "cut at max_tokens", "ended by a stop string"
"""Remarks on answers that are not whole."""
NOT_IN_FORMAT = "not in format"
"""How a remark on answers begins, before the format's name."""
CUT = "prompt longer than the model's window: cut at its beginning, the question's end and the answer's place kept"
"""A remark on prompts."""

# A model's or adapter's name is its folder's, which need not be UTF-8.
_RECORD_LIMITS = Limits(bytes=8_000_000, surrogates=True)


class ServedPart(Part):
    """A model that a server answered with: what was asked of it, and what it said of itself. Nothing of it is verified.

    name: as the server calls the model
    api: the path that texts were asked at
    where: this machine, or the host and port of another one
    server: how the server calls itself, with its version; not there if it doesn't say
    digest: of the model, as the server says; not there if it doesn't
    said: what else it says of the model
    """

    name: Filled
    api: AnyText
    where: AnyText
    server: AnyText | None = None
    digest: AnyText | None = None
    said: dict[AnyText, Any] | None = None


class ModelPart(Part):
    """The model of a run.

    name: as it is called: in the registry, or its folder's or file's name
    id: where it is from: a hub id, or the name
    revision: commit hash of its files on the hub
    weights_sha256: of its weights; not there of a model that a server has, as dtype and parameters
    config_sha256: of its config.json
    dtype: of its weights in memory
    parameters: how many weights it has
    served: by what server; not there of a model whose weights were read here
    quantization: how its weights are packed, as nf4+double; not there for whole ones
    twin: whether it is a small random copy; not there for a real one
    architecture: seq2seq of an encoder-decoder model; not there for a causal one
    encoder_tokens: how many tokens the encoder takes
    merge: what it was merged of; not there if it wasn't merged
    base: the model that it was trained or merged on; not there if nothing says so, and in earlier records
    recipe_sha256: of what the recipe says that all its weights were trained by; not there if they weren't
    setting_sha256: of the same, its seed apart
    """

    name: Filled
    id: AnyText | None = None
    revision: AnyText | None = None
    weights_sha256: AnyText | None = None
    config_sha256: AnyText | None = None
    dtype: AnyText | None = None
    parameters: Count | None = None
    served: ServedPart | None = None
    quantization: AnyText | None = None
    twin: bool | None = None
    architecture: AnyText | None = None
    encoder_tokens: Count | None = None
    merge: MergePart | None = None
    base: AnyText | None = None
    recipe_sha256: AnyText | None = None
    setting_sha256: AnyText | None = None


class AdapterPart(Part):
    """The adapter on the model of a run, and what its training.json says of it.

    name: its folder's
    sha256: of its weights and its config
    bytes: of its weights' file
    parameters: how many weights it adds
    rank: of its low-rank matrices
    method: how it was trained, as lora, or qlora, dora; or how it was merged, as merged: ties of one, two
    recipe: the recipe that it was trained by
    recipe_sha256: of what that recipe says
    setting_sha256: of what that recipe says, its seed apart: trainings that share it are seeds of one row; not there
        in earlier records
    settings: what its training may differ in from another one of that name and recipe, as {"lr": "0.0002"}; not there
        in earlier records
    train_seed: of its training
    train_s: seconds that its steps took
    tasks: what it was trained on
    forced_base: why the model is not the one that it was made on; not there if it is
    choices: adapter -> its sha256, if each item has its own and name and sha256 are of what chooses; else not there
    owners: task -> the adapter that is for it, as what chooses knows it; not there if it knows of none
    """

    name: Filled
    sha256: AnyText | None = None
    bytes: Count | None = None
    parameters: Count | None = None
    rank: int | None = None
    method: AnyText | None = None
    recipe: AnyText | None = None
    recipe_sha256: AnyText | None = None
    setting_sha256: AnyText | None = None
    settings: dict[AnyText, AnyText] | None = None
    train_seed: int | None = None
    train_s: Amount | None = None
    tasks: list[AnyText] | None = None
    forced_base: AnyText | None = None
    choices: dict[AnyText, AnyText] | None = None
    owners: dict[AnyText, AnyText] | None = None


class PackagePart(Part):
    """The installed package that brings a task.

    name: of the package
    version: of the package
    """

    name: AnyText | None = None
    version: AnyText | None = None


class TaskPart(Part):
    """The task of a run.

    id: its name
    version: as it declares
    digest: sha256 over its declaration, its plugin, format, metrics and data set
    kind: generate, choice or code
    package: the installed package that brings it; not there for one of slmbench's own or of a folder
    """

    id: Filled
    version: int | AnyText | None = None
    digest: AnyText | None = None
    kind: AnyText | None = None
    package: PackagePart | None = None


class DatasetPart(Part):
    """The rows of a run.

    id: the data set's hub id, or its name
    revision: its commit hash, if one is known
    split: as the task declares
    source: where the rows came from, as mirror, hub, files, generated or samples
    content_sha256: of the rows
    item_ids_sha256: of the items' ids, in order
    items_sha256: of what the task makes of the rows: prompts, references, choices, clusters
    n: items that were scored
    """

    id: AnyText | None = None
    revision: AnyText | None = None
    split: AnyText | None = None
    source: Filled
    content_sha256: AnyText | None = None
    item_ids_sha256: AnyText | None = None
    items_sha256: AnyText | None = None
    n: Count | None = None


class ShotsPart(Part):
    """The worked examples that a prompt begins with.

    n: how many
    split: where they are taken from
    """

    n: Count | None = None
    split: AnyText | None = None


class ScorerPart(Part):
    """What the answers were scored by.

    id: the metrics' names, joined by +
    version: their versions, joined by +
    weights: metric with a model of its own -> its values' names, then the sha256 of that model
    """

    id: AnyText | None = None
    version: AnyText | None = None
    weights: dict[AnyText, list[AnyText]] | None = None


class SandboxPart(Part):
    """Where the programs of a code task ran.

    tier: bubblewrap, namespaces or unsafe
    timeout_s: seconds that a program may take
    examine: in_process if the tests ran in the program's own process; not there otherwise
    """

    tier: AnyText | None = None
    timeout_s: Amount | None = None
    examine: AnyText | None = None


class MetricPart(Part):
    """One metric of a run.

    name: of the value, as exact_match/strict
    scorer: the metric that gives it, as exact_match
    version: of that metric; not there in earlier records
    pooled: whether it is made of all items' parts at once, and is not a mean of scores
    value: over all items
    se: its standard error
    ci_lo: lower end of its 95% interval
    ci_hi: upper end of its 95% interval
    method: how the interval was made; none if there is none
    n: items that have a score
    n_error: samples that an error kept from being scored
    higher_is_better: which way is up
    range: the lowest and the highest score of an item; null if there is none
    chance: the expected value of a guess; null if guessing means nothing
    describes: whether it says what a text is like and judges none, so that it has no rank; not in earlier records
    """

    name: Filled
    scorer: Filled | None = None
    version: AnyText | None = None
    pooled: bool | None = None
    value: Number
    se: Amount | None = None
    ci_lo: Number
    ci_hi: Number
    method: AnyText
    n: Count
    n_error: Count | None = None
    higher_is_better: bool
    range: Range | None = None
    chance: Number | None = None
    describes: bool = False

    @property
    def pooled_by(self) -> str | None:
        """The scorer whose parts the value is pooled of; None if it is a mean of scores."""
        return (self.scorer or self.name) if self.pooled else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest score of an item, None if there is none."""
        return (self.range[0], self.range[1]) if self.range else None


class CostPart(Part):
    """What a run took.

    seconds: that the model computed, a batch's shared out among its rows; a resumed run's first part included
    tokens_per_s: tokens read and written a second
    latency_p50_ms: median milliseconds of an item that is alone; null unless --latency
    latency_p90_ms: their 90th percentile, in milliseconds
    ram_peak_B: peak resident memory of the process, bytes
    vram_peak_B: peak memory of the GPU, bytes; null without one, or if another program computed, as vLLM
    tokens_in: tokens of all prompts
    tokens_out: tokens of all answers
    n_truncated: prompts that were cut to the model's window
    n_resumed: answers that were read from the journal of a call before
    batch_rows: rows that were computed at once
    choice_ms: median milliseconds of choosing an item's adapter, one after another; not there if none was chosen
    prefill_tokens_per_s: tokens of a prompt read a second, one stream alone; not there unless --speed
    decode_tokens_per_s: tokens written a second, one stream alone; null if its text ended at once
    load_s: seconds that the weights took to load; null if that isn't known
    model_B: bytes of the weights' files on disk; null if there are none
    """

    seconds: Amount | None = None
    tokens_per_s: Amount | None = None
    latency_p50_ms: Amount | None = None
    latency_p90_ms: Amount | None = None
    ram_peak_B: Count | None = None
    vram_peak_B: Count | None = None
    tokens_in: Count | None = None
    tokens_out: Count | None = None
    n_truncated: Count | None = None
    n_resumed: Count | None = None
    batch_rows: Count | None = None
    choice_ms: Amount | None = None
    prefill_tokens_per_s: Amount | None = None
    decode_tokens_per_s: Amount | None = None
    load_s: Amount | None = None
    model_B: Count | None = None


class RunIdentity(Part):
    """The part of a run's record that is known before its model runs, and that its id is made of.

    seed: of what is drawn
    limit: only the first so many items; null for all
    model: who was scored
    adapter: what was on the model; null for nothing
    tokenizer_sha256: of the tokenizer
    chat_template_sha256: of the chat template that prompts were written by
    format: how prompts were written down
    task: what was asked
    dataset: of which rows
    fewshot: how many worked examples a prompt begins with
    fewshot_sha256: of these examples' texts
    cot: how a chain of thought was asked for; off for not at all
    prompts_sha256: of all prompts' texts
    generation: the settings of lm-eval that texts were written with; {} of a choice task
    scorer: what answers were scored by
    sandbox: where programs ran; null if none did
    engine: what computed the answers, as shared, hf, vllm or a plugin's
    engine_version: its name, a plugin's with its version and its file's digest, and lm-eval, transformers, torch, vLLM
    batch_size: rows at once, or auto
    latency: single stream if each item was computed alone; not there otherwise
    kv_budget_B: bytes that keys and values may take, if that was set
    generation_config: what the model's generation_config.json says of the next token, and whether it counts
    """

    seed: int | None = None
    limit: Count | None = None
    model: ModelPart
    adapter: AdapterPart | None = None
    tokenizer_sha256: AnyText | None = None
    chat_template_sha256: AnyText | None = None
    format: AnyText | None = None
    task: TaskPart
    dataset: DatasetPart
    fewshot: ShotsPart | None = None
    fewshot_sha256: AnyText | None = None
    cot: AnyText | None = None
    prompts_sha256: AnyText | None = None
    generation: dict[AnyText, Any] | None = None
    scorer: ScorerPart | None = None
    sandbox: SandboxPart | None = None
    engine: AnyText | None = None
    engine_version: AnyText | None = None
    batch_size: int | AnyText | None = None
    latency: AnyText | None = None
    kv_budget_B: Amount | None = None
    generation_config: dict[AnyText, Any] | None = None

    def as_json(self) -> JsonObject:
        """Plain data in the order of the fields, those that were not given left out: what digests are made of."""
        return self.model_dump(exclude_unset=True)


class RunRecord(RunIdentity):
    """A finished run's `run.json`.

    schema: version of this layout
    run_id: who and what in words, then the first digits of a digest over all that the numbers depend on
    status: ok of a finished run; may be changed to invalidated, which leaves the run out
    created: when it began, UTC
    ended: when it ended, UTC
    comparability_key: of what was asked; runs are ranked together in a metric if theirs is the same, and its version
    rescored_of: the run that its answers, cost and hardware are from, if they were scored again; else not there
    imported: the other tool's files that it was made of; not there if it is slmbench's own
    code: the slmbench that wrote it
    packages: package -> version
    hardware: processor, cores, threads, memory in bytes, GPU, system, Python
    metrics: what came out
    cost: what it took
    no_texts: whether pages keep its texts to themselves; not there otherwise
    remarks: what a reader has to know -> of how many samples
    stopped: how it ended before its set did, because it was decided; not there of a run on the whole set
    samples_sha256: of samples.jsonl
    item_scores_sha256: of item_scores.parquet; not there for a run that has no such file
    record_sha256: of the other fields here, status apart
    """

    version: int = Field(alias="schema", ge=READS[RECORD][0], le=READS[RECORD][-1])
    run_id: Filled
    status: Literal["ok"]
    created: Time
    ended: Time | None = None
    comparability_key: Filled
    rescored_of: RescoredPart | None = None
    imported: ImportedPart | None = None
    code: CodePart | None = None
    packages: dict[AnyText, AnyText] | None = None
    hardware: dict[AnyText, Any] | None = None
    metrics: list[MetricPart] = Field(min_length=1)
    cost: CostPart
    no_texts: bool | None = None
    remarks: dict[AnyText, Count] = Field(default_factory=dict)
    stopped: StoppedPart | None = None
    samples_sha256: Filled
    item_scores_sha256: AnyText | None = None
    record_sha256: AnyText | None = None


def read_record(folder: str | os.PathLike[str]) -> JsonObject:
    """A run folder's record: that of a finished run holds what `RunRecord` says, another one its status alone.

    Raises FileError, with every fault at once, and for a record of a newer slmbench; FileNotFoundError without one.
    """
    path = os.path.join(folder, RECORD)
    record = read_object(path, _RECORD_LIMITS)
    status = record.get("status")
    if not isinstance(status, str) or status not in LEFT_OUT:
        names = [metric.name for metric in read_as(RunRecord, record, RECORD, path).metrics]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise FileError([Problem(shown(path), 0, 0, f"field metrics has {twice[0]!r} more than once")])
        check_seal(record, path)
        # Records have both or, of an earlier version, neither.
        if record.get(SEAL) is None and record.get("item_scores_sha256") is not None:
            raise faults(path, [(SEAL, None, "the digest of the other fields, which was removed")])
    else:
        refuse_other(record, RECORD, path)
    return record
