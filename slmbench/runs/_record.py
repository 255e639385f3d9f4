"""What `run.json` and a line of `samples.jsonl` hold: the models that every reader of a run goes through."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from slmbench.errors import FileError, Problem
from slmbench.foreign import (
    Amount,
    AnyText,
    Count,
    Foreign,
    Limits,
    Number,
    SchemaOne,
    decode_json,
    parse,
    read_object,
)
from slmbench.paths import shown
from slmbench.seal import check_seal
from slmbench.values import JsonObject

RECORD = "run.json"
SAMPLES = "samples.jsonl"
SCHEMA = 1
LEFT_OUT = ("started", "error", "invalidated")
"""What the status of a run may be that has no result."""

# A sample's choices and its prompt's shots may be long; a line of more is none of ours.
# A model's or adapter's name is its folder's, which need not be UTF-8.
_RECORD_LIMITS = Limits(bytes=8_000_000, surrogates=True)
_SAMPLE_LIMITS = Limits(surrogates=True)


def _is_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("an ISO 8601 time") from None
    return text


def _is_not_empty(text: str) -> str:
    if not text:
        raise ValueError("a text that is not empty")
    return text


def _is_range(ends: list[float]) -> list[float]:
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise ValueError("null, or the lowest and the highest score of an item")
    return ends


Range = Annotated[list[Number], AfterValidator(_is_range)]
Filled = Annotated[AnyText, AfterValidator(_is_not_empty)]
Time = Annotated[AnyText, AfterValidator(_is_time)]


class ModelPart(Foreign):
    name: Filled
    id: AnyText | None = None
    revision: AnyText | None = None
    weights_sha256: AnyText | None = None
    config_sha256: AnyText | None = None
    dtype: AnyText | None = None
    parameters: Count | None = None
    quantization: AnyText | None = None
    twin: bool | None = None
    architecture: AnyText | None = None
    encoder_tokens: Count | None = None


class AdapterPart(Foreign):
    name: Filled
    sha256: AnyText | None = None
    bytes: Count | None = None
    parameters: Count | None = None
    rank: int | None = None
    method: AnyText | None = None
    recipe: AnyText | None = None
    recipe_sha256: AnyText | None = None
    train_seed: int | None = None
    train_s: Amount | None = None
    tasks: list[AnyText] | None = None
    forced_base: AnyText | None = None


class PackagePart(Foreign):
    name: AnyText | None = None
    version: AnyText | None = None


class TaskPart(Foreign):
    id: Filled
    version: int | AnyText | None = None
    digest: AnyText | None = None
    kind: AnyText | None = None
    package: PackagePart | None = None


class DatasetPart(Foreign):
    id: AnyText | None = None
    revision: AnyText | None = None
    split: AnyText | None = None
    source: Filled
    content_sha256: AnyText | None = None
    item_ids_sha256: AnyText | None = None
    items_sha256: AnyText | None = None
    n: Count | None = None


class ShotsPart(Foreign):
    n: Count | None = None
    split: AnyText | None = None


class ScorerPart(Foreign):
    id: AnyText | None = None
    version: AnyText | None = None
    weights: dict[AnyText, list[Any]] | None = None


class SandboxPart(Foreign):
    tier: AnyText | None = None
    timeout_s: Amount | None = None
    examine: AnyText | None = None


class CodePart(Foreign):
    version: AnyText | None = None
    commit: AnyText | None = None
    dirty: bool | None = None


class MetricPart(Foreign):
    """A metric of a run. se: its standard error. method: of the interval from ci_lo to ci_hi. n: items.

    n_error: items without a score. range: an item's lowest and highest score. chance: of guessing.
    """

    name: Filled
    scorer: Filled | None = None
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


class CostPart(Foreign):
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


class RunIdentity(Foreign):
    """The part of a run's record that is known before its model runs, and that its id is made of.

    seed: of what is drawn. limit: the first so many items alone; null for all. model, adapter: who. task, dataset,
    format, fewshot, cot, generation: what was asked, and how; fewshot_sha256, prompts_sha256: of the very texts.
    scorer, sandbox: how answers are scored. engine, batch_size, kv_budget_B, latency: how they are computed.
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
    """A finished run's `run.json`. What other versions write beside these keys is left as it is."""

    schema_: SchemaOne = Field(alias="schema")
    run_id: Filled
    status: Literal["ok"]
    created: Time
    ended: Time | None = None
    comparability_key: Filled
    code: CodePart | None = None
    packages: dict[AnyText, AnyText] | None = None
    hardware: dict[AnyText, Any] | None = None
    metrics: list[MetricPart] = Field(min_length=1)
    cost: CostPart
    no_texts: bool | None = None
    remarks: dict[AnyText, Count] = Field(default_factory=dict)
    samples_sha256: Filled
    record_sha256: AnyText | None = None


class SampleRecord(Foreign):
    """A line of `samples.jsonl`."""

    item_id: AnyText
    epoch: Count = 0
    cluster_id: AnyText | None = None
    prompt: AnyText | None = None
    prompt_sha256: AnyText | None = None
    target: AnyText | None = None
    references: list[AnyText] | None = None
    output: AnyText | None = None
    format_fault: AnyText | None = None
    verdict: AnyText | None = None
    verdict_detail: AnyText | None = None
    choices: list[AnyText] | None = None
    loglikelihoods: list[Number] | None = None
    gold: int | None = None
    finish_reason: AnyText | None = None
    tokens_in: Count | None = None
    tokens_out: Count | None = None
    truncated: bool | None = None
    latency_ms: Amount | None = None
    compute_ms: Amount | None = None
    # An item that an error kept from being scored has no score; sums of larger ones would overflow.
    scores: dict[AnyText, Number | None]
    parts: dict[AnyText, Any] | None = None


def read_record(folder: str | os.PathLike[str], *, todo: str = "") -> JsonObject:
    """A run folder's record: that of a finished run holds what `RunRecord` says, another one its status alone.

    Raises FileError, with every fault at once, and for a record of a newer slmbench; FileNotFoundError without one.
    """
    path = os.path.join(folder, RECORD)
    record = read_object(path, _RECORD_LIMITS, todo=todo)
    status = record.get("status")
    if type(written := record.get("schema")) is int and written > SCHEMA:
        raise NewerRecord(path, written)
    if not isinstance(status, str) or status not in LEFT_OUT:
        problems: list[Problem] = []
        try:
            checked = parse(RunRecord, record, path)
            names = [metric.name for metric in checked.metrics]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                problems = [Problem(shown(path), 0, 0, f"field metrics has {twice[0]!r} more than once")]
            check_seal(record, path)
        except FileError as error:
            problems = error.problems
        if problems:
            raise FileError(problems, todo)
    return record


class NewerRecord(FileError):
    """A run that a newer slmbench wrote, which this one neither reads nor writes over."""

    def __init__(self, path: str, schema: int) -> None:
        said = f"has schema {schema}, and this slmbench reads {SCHEMA}: a newer one wrote it"
        super().__init__([Problem(shown(path), 0, 0, said)], "upgrade slmbench, or move the run's folder away")


def read_sample(line: bytes, path: str | os.PathLike[str], number: int) -> JsonObject:
    """A line of samples.jsonl. Raises FileError, with every fault of the line."""
    sample = decode_json(line.rstrip(b"\r\n"), path, _SAMPLE_LIMITS, line=number)
    parse(SampleRecord, sample, path, line=number)
    assert isinstance(sample, dict)
    return sample
