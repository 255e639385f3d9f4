"""What `leaderboard.json` holds: the models that its JSON schema is made of, and a leaderboard as such content."""

from __future__ import annotations

from typing import Any, Literal

from attrs import asdict
from pydantic import Field

from slmbench.foreign import Amount, AnyText, Count, Number
from slmbench.leaderboard._beside_content import (
    EstimateContent,
    MeasureContent,
    PublishedContent,
    beside_content,
    estimate_content,
    measure_content,
)
from slmbench.leaderboard.table import (
    Leaderboard,
    LeaderboardCell,
    LeaderboardColumn,
    LeaderboardRow,
    ShownRun,
)
from slmbench.leaderboard.texts import json_ready
from slmbench.runs import Part
from slmbench.values import JsonObject

SCHEMA = 2


class ConditionContent(Part):
    """How a task was asked: one comparability key, and what a person would call it.

    key: the comparability_key of its runs; what has another one isn't ranked with them
    task: that was asked
    label: what differs from the task's other conditions, as chat, 5 shots; empty if there is no other
    slug: behind the @ of its columns' keys; empty of the task's most common condition
    format: how prompts were written down
    shots: worked examples before the question
    cot: how a chain of thought was asked for
    version: of the task
    limit: only the first so many items; not there if all were asked
    max_tokens: that an answer may have
    source: where the rows came from, as mirror, hub, files, generated or samples
    n: items
    """

    key: AnyText
    task: AnyText
    label: AnyText
    slug: AnyText
    format: AnyText | None = None
    shots: Count | None = None
    cot: AnyText | None = None
    version: int | AnyText | None = None
    limit: Count | None = None
    max_tokens: Count | None = None
    source: AnyText | None = None
    n: Count | None = None


class ColumnContent(Part):
    """One metric of one task under one condition.

    key: unique; the task, its condition's slug behind an @, and the metric
    task: that was asked
    metric: the value's name
    metric_version: of the metric, if runs of this condition have it in several; not there otherwise
    higher_is_better: which way is up
    condition: the key of one of `conditions`
    primary: whether it is the task's primary metric
    chance: the score of guessing; not there if guessing means nothing
    worst: the score that counts as 0 where tasks are averaged; not there of a metric without a range
    best: the score that counts as 1 there
    ranked: rows that are ranked in it
    detectable: the difference of two rows that a paired test finds with 80% power; not there if none can be told
    in_process: true if tests of programs ran in the programs' own process; not there otherwise
    """

    key: AnyText
    task: AnyText
    metric: AnyText
    metric_version: AnyText | None = None
    higher_is_better: bool
    condition: AnyText
    primary: bool
    chance: Number | None = None
    worst: Number | None = None
    best: Number | None = None
    ranked: Count
    detectable: Amount | None = None
    in_process: bool | None = None


class CellContent(EstimateContent):
    """One score of a row, of one run or of several seeds.

    rank_low: the best rank (from 1) that the data leaves open; not there if it is not ranked
    rank_high: the worst of these ranks
    claim: best or not told apart from the best; not there of any other score, nor of one no better than chance
    badges: what keeps it out of the ranks, or limits it
    run_id: of the newest of its runs
    run_ids: of all its runs; not there if it is one
    seeds: of these runs
    values: the score of each of these runs
    """

    rank_low: Count | None = None
    rank_high: Count | None = None
    claim: Literal["best", "not told apart"] | None = None
    badges: list[AnyText] = Field(default_factory=list)
    run_id: AnyText
    run_ids: list[AnyText] | None = None
    seeds: list[int] | None = None
    values: list[Number] | None = None


class MeanContent(EstimateContent):
    """The number that rows are ordered by.

    rank_low: the best rank (from 1) that the data leaves open; not there if it is not ranked
    rank_high: the worst of these ranks
    claim: best or not told apart from the best; not there of any other row, nor of one no better than chance
    """

    rank_low: Count | None = None
    rank_high: Count | None = None
    claim: Literal["best", "not told apart"] | None = None


class CostContent(Part):
    """What a row takes. A null is not known.

    parameters: of the model
    adapter_bytes: of the adapter's file
    adapter_parameters: that the adapter adds
    train_s: seconds that the adapter's training took; the mean over its seeds
    seconds: that the model computed over `cost_tasks`, in batches
    latency_p50_ms: median milliseconds of an item that is alone (--latency), the mean over `cost_tasks`
    ram_peak_B: peak resident memory of the process, the largest of all shown runs
    vram_peak_B: peak memory of the GPU, the largest of all shown runs
    prefill_tokens_per_s: tokens of a prompt read a second, one stream alone (--speed), the median of the shown runs
    decode_tokens_per_s: tokens written a second, so as well
    load_s: seconds that the weights took to load, so as well
    model_B: bytes of the weights' files
    tokens_in: tokens of all prompts of `cost_tasks`
    tokens_out: tokens of all answers of `cost_tasks`
    """

    parameters: Amount | None
    adapter_bytes: Amount | None
    adapter_parameters: Amount | None
    train_s: Amount | None
    seconds: Amount | None
    latency_p50_ms: Amount | None
    ram_peak_B: Amount | None
    vram_peak_B: Amount | None
    prefill_tokens_per_s: Amount | None
    decode_tokens_per_s: Amount | None
    load_s: Amount | None
    model_B: Amount | None
    tokens_in: Amount | None
    tokens_out: Amount | None


class RowContent(Part):
    """A model, or a model with an adapter; seeds of one recipe are one row.

    name: unique in this file
    model: its name
    adapter: its name; not there of a model alone
    variant: what tells the adapter apart from others of its name, as rank 16; not there if it has none
    quantization: how the model's weights are held; not there of whole ones
    method: how the adapter was trained, or what the model was merged of
    rank: of the adapter
    recipe: of the adapter
    seeds: of the trainings or evaluations that the scores are means of; not there of a single one
    badges: what a reader has to know of its scores
    aggregate: the number that rows are ordered by; not there if the row lacks one of its columns
    scores: column key -> score
    cost: what it takes
    """

    name: AnyText
    model: AnyText
    adapter: AnyText | None = None
    variant: AnyText | None = None
    quantization: AnyText | None = None
    method: AnyText | None = None
    rank: int | None = None
    recipe: AnyText | None = None
    seeds: list[int] | None = None
    badges: list[AnyText]
    aggregate: MeanContent | None = None
    scores: dict[AnyText, CellContent]
    cost: CostContent


class AggregateContent(Part):
    """The number that rows are ordered by: the mean over tasks of (score - worst) / (best - worst).

    name: what it is called
    columns: the keys of the columns that it is the mean of, one a task
    tasks: that it would be the mean of if all rows had them; a notice says which rows lack which
    """

    name: AnyText
    columns: list[AnyText]
    tasks: list[AnyText]


class NoticeContent(Part):
    """What a reader has to know.

    kind: that it can be folded by
    text: a sentence that says it of all
    details: what it is in each case; empty if the text says that
    """

    kind: AnyText
    text: AnyText
    details: list[AnyText]


class RunContent(Part):
    """A run that a score is of.

    task: that was asked
    condition: the key of one of `conditions`
    created: when it began
    seed: of what was drawn in it
    train_seed: of its adapter's training
    single_stream: true if each item was computed alone; not there otherwise
    cut: answers that were cut at max_tokens
    stopped: answers that a stop string ended
    cost: what it took, as its record has it
    """

    task: AnyText
    condition: AnyText
    created: AnyText
    seed: int | None = None
    train_seed: int | None = None
    single_stream: bool | None = None
    cut: Count
    stopped: Count
    cost: dict[AnyText, Amount | None]


class LeaderboardContent(Part):
    """A leaderboard's `leaderboard.json`.

    schema: version of this layout
    suite: its name; null of any runs
    aggregate: what rows are ordered by; null if the rows have no task in common that can be averaged
    cost_tasks: the tasks that all rows have, which seconds and tokens are summed over
    conditions: how tasks were asked
    columns: by task; of a task, the most common condition first
    rows: the best first
    runs: run_id -> a run that a score is of
    notices: what a reader has to know
    published: what others gave for its rows, beside what was measured; empty if nobody did, or no recipe says so
    measures: quality, waiting, tokens and memory of rows by format and task; empty unless the suite asks for it
    """

    version: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    suite: AnyText | None
    aggregate: AggregateContent | None
    cost_tasks: list[AnyText]
    conditions: list[ConditionContent]
    columns: list[ColumnContent]
    rows: list[RowContent]
    runs: dict[AnyText, RunContent]
    notices: list[NoticeContent]
    published: list[PublishedContent] = Field(default_factory=list)
    measures: list[MeasureContent] = Field(default_factory=list)


def content_of(leaderboard: Leaderboard) -> JsonObject:
    """The content of leaderboard.json: no NaN, no lone surrogates; null if an interval can't be made."""
    aggregate = leaderboard.aggregate
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "suite": leaderboard.suite,
        "aggregate": aggregate
        and {"name": aggregate.name, "columns": list(aggregate.columns), "tasks": list(leaderboard.averageable)},
        "cost_tasks": list(leaderboard.cost_tasks),
        "conditions": [_known(asdict(one)) for one in dict.fromkeys(c.condition for c in leaderboard.columns)],
        "columns": [_column(column) for column in leaderboard.columns],
        "rows": [_row(row) for row in leaderboard.rows],
        "runs": {run_id: _run(run) for run_id, run in leaderboard.runs.items()},
        "notices": [{"kind": n.kind, "text": n.text, "details": list(n.details)} for n in leaderboard.notices],
        "published": [beside_content(line) for line in leaderboard.published],
        "measures": [measure_content(line) for line in leaderboard.measures],
    }
    ready = json_ready(content)
    assert isinstance(ready, dict)
    return ready


def _known(parts: dict[str, Any]) -> dict[str, Any]:
    """What isn't None, nor False of what is mostly so."""
    return {key: value for key, value in parts.items() if value is not None}


def _column(column: LeaderboardColumn) -> dict[str, Any]:
    parts = asdict(column, recurse=False) | {"condition": column.condition.key}
    more = {"in_process": column.in_process or None, "metric_version": column.metric_version or None}
    return _known(parts | more)


def _cell(cell: LeaderboardCell) -> dict[str, Any]:
    several = len(cell.run_ids) > 1
    placed = {"rank_low": cell.rank_low, "rank_high": cell.rank_high, "claim": cell.claim}
    runs = {"run_ids": cell.run_ids, "seeds": cell.seeds, "values": cell.values} if several else {}
    return {**estimate_content(cell.estimate), **_known(placed), "badges": cell.badges, "run_id": cell.run_id, **runs}


def _row(row: LeaderboardRow) -> dict[str, Any]:
    aggregate = None
    if row.aggregate is not None:
        placed = {"rank_low": row.mean_rank_low, "rank_high": row.mean_rank_high, "claim": row.mean_claim}
        aggregate = estimate_content(row.aggregate) | _known(placed)
    who = {key: getattr(row, key) for key in ("name", "model", "adapter", "quantization", "method", "rank", "recipe")}
    more = {"variant": row.variant or None, "seeds": row.seeds or None}
    return {
        **_known(who | more),
        "badges": row.badges,
        **_known({"aggregate": aggregate}),
        "scores": {key: _cell(cell) for key, cell in row.cells.items()},
        "cost": dict(row.cost),
    }


def _run(run: ShownRun) -> dict[str, Any]:
    parts = asdict(run) | {"single_stream": run.single_stream or None}
    del parts["run_id"]
    return _known(parts)
