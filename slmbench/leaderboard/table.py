"""The leaderboard as a value: columns, rows, cells with their uncertainty, and everything a reader has to be told."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from slmbench.published import PublishedNumber
from slmbench.values import Estimate, JsonObject

MIXED_WEIGHTS = "mixed weights"
FORCED_BASE = "forced base"
IMPORTED = "imported"
SERVED = "weights not verified"
BEST = "best"
NOT_TOLD_APART = "not told apart"
INSIDE = "in our interval"


@frozen
class Condition:
    """How a task was asked: one comparability key, and what a person would call it.

    key: the comparability_key of its runs. label: what differs from the task's other conditions, as `chat, 5 shots`; ''
    if the task has no other. slug: the part after `@` in its columns' keys; '' of the task's most common condition.
    format, shots (worked examples), cot, version (the task's), limit, max_tokens: as they were asked for; None if the
    records don't say, or if it means nothing there. source: where the rows came from. n: items.
    """

    key: str
    task: str
    label: str = ""
    slug: str = ""
    format: str | None = None
    shots: int | None = None
    cot: str | None = None
    version: int | str | None = None
    limit: int | None = None
    max_tokens: int | None = None
    source: str | None = None
    n: int | None = None


@frozen
class LeaderboardColumn:
    """One metric of one task under one condition.

    key: `gsm8k/exact_match/strict`, with `@` and the condition's slug behind the task if it isn't the most common one.
    metric_version: `version 2`, if runs of this condition have the metric in several; '' otherwise.
    primary: whether it is the task's primary metric. chance: the score of guessing. worst, best: the scores that count
    as 0 and as 1 where tasks are averaged (worst is chance if that is known); None of a metric without a range.
    ranked: how many rows are ranked in it. detectable: the difference of two rows that a paired test finds with 80%
    power, None if fewer than two are ranked. in_process: whether some row's programs were examined by tests in their
    own process, which holds less.
    """

    key: str
    task: str
    metric: str
    higher_is_better: bool
    condition: Condition
    primary: bool = False
    chance: float | None = None
    worst: float | None = None
    best: float | None = None
    ranked: int = 0
    detectable: float | None = None
    in_process: bool = False
    metric_version: str = ""

    @property
    def task_label(self) -> str:
        """The task, with its condition in brackets if it has several."""
        return f"{self.task} ({self.condition.label})" if self.condition.label else self.task

    @property
    def metric_label(self) -> str:
        """The metric, with its version in brackets if there are several."""
        return f"{self.metric} ({self.metric_version})" if self.metric_version else self.metric


@frozen
class LeaderboardCell:
    """One score, of one run or of several seeds.

    rank_low and rank_high are None if the run may not be ranked; badges say why, or what else it is. claim: `best` if
    tests tell this row apart from every other ranked row of the column and none is better, `not told apart` if it
    shares that place; None of all others, of a score that is no better than chance, and if no other row is ranked.
    run_ids: its runs, the newest first. seeds: of these runs, in the same order; () of a single run. values: the score
    of each of these runs; () of a single run.
    """

    estimate: Estimate
    run_ids: tuple[str, ...]
    badges: tuple[str, ...] = ()
    rank_low: int | None = None
    rank_high: int | None = None
    claim: str | None = None
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    @property
    def run_id(self) -> str:
        """The newest of its runs."""
        return self.run_ids[0]

    @property
    def stopped(self) -> bool:
        """Whether it is of a run that was stopped early, so that its mean depends on where."""
        return any(badge.startswith("stopped at ") for badge in self.badges)

    @property
    def leads(self) -> bool:
        """Whether nothing in its column is better, as far as the data tells, and it is better than chance."""
        return self.claim is not None


@frozen
class LeaderboardRow:
    """A model, or a model with an adapter; seeds of one recipe are one row.

    name: unique in its leaderboard. adapter: its name. variant: what tells it apart from other rows of the same model
    and adapter, as `rank 16`; '' if there is none. quantization: how the model's weights are held, None for whole ones.
    method: how the adapter was trained. rank, recipe: of the adapter. seeds: of the trainings or evaluations that its
    cells are the mean of; () of a single one. cells: by column key. cost: parameters, bytes, seconds, tokens.
    aggregate: of the leaderboard's aggregate, None if the row lacks one of its columns. mean_rank_low, mean_rank_high,
    mean_claim: of the aggregate, as a cell has them of its column, by tests that are paired within each task.
    """

    name: str
    model: str
    adapter: str | None
    badges: tuple[str, ...]
    cells: Mapping[str, LeaderboardCell]
    cost: Mapping[str, float | int | None]
    quantization: str | None = None
    method: str | None = None
    variant: str = ""
    rank: int | None = None
    recipe: str | None = None
    seeds: tuple[int, ...] = ()
    aggregate: Estimate | None = None
    mean_rank_low: int | None = None
    mean_rank_high: int | None = None
    mean_claim: str | None = None


@frozen
class Aggregate:
    """The one number that rows are ordered by: a mean over tasks of chance-normalised primary metrics.

    Normalised: (score - worst) / (best - worst) of the column, 0 at chance, 1 at the best score, below 0 if worse than
    chance. columns: the keys of the columns that it is the mean of, one a task, the same for all rows. declared: the
    tasks that the suite says count; () if it says nothing.
    """

    columns: tuple[str, ...]
    declared: tuple[str, ...] = ()
    name: str = "mean"


@frozen
class Notice:
    """Something that a reader has to know. kind: what notices are folded by. text: one sentence that says it of all.

    details: what it is in each case; () if the text says that already.
    """

    kind: str
    text: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


@frozen
class ShownRun:
    """One run of a cell. cost: as its record has it. single_stream: whether each item was computed alone (--latency).

    cut, stopped: how many answers ended at max_tokens and at a stop string.
    """

    run_id: str
    task: str
    condition: str
    created: str
    seed: int | None
    train_seed: int | None
    cost: Mapping[str, float | int | None]
    single_stream: bool = False
    cut: int = 0
    stopped: int = 0


@frozen
class BesideLine:
    """A published number and one score that is its own row's, or none.

    row: the leaderboard's name of the measured row, '' without one. condition: what its column says of how the task was
    asked; '' if there is one way. measured: the score; written: as people read it, with its interval and n, or why it
    isn't there. verdict: `in our interval`, `above` or `below` it: where the published number is; '' if the two aren't
    compared, and why_not says why.
    """

    number: PublishedNumber
    row: str
    condition: str
    measured: Estimate | None
    written: str
    verdict: str
    why_not: str

    @property
    def told(self) -> str:
        """The verdict, or why there is none; '' if nothing is there to be compared, which is all there is to say."""
        if self.measured is not None:
            return self.verdict or f"not compared: {self.why_not}"
        return "" if self.why_not == self.written else self.why_not


@frozen
class Waiting:
    """What an item alone takes, in milliseconds: median with its 95% interval (None if it has none), mean; n items."""

    median: float
    low: float | None
    high: float | None
    mean: float
    n: int


@frozen
class Economy:
    """Mean tokens a record, prompt and answer without shots: in a format, as compact JSON, as plain text; of rows."""

    tokens: float
    json_tokens: float
    plain_tokens: float
    rows: int

    @property
    def against_json(self) -> float:
        """How much more it costs than JSON, as a share: -0.1 is 10% less."""
        return self.tokens / self.json_tokens - 1

    @property
    def against_plain(self) -> float:
        return self.tokens / self.plain_tokens - 1


@frozen
class PartlyMeasured:
    """A measure that a line over tasks has no value of, as some of the tasks lack it: how many have it, of how many.

    measure: as leaderboard.json calls it.
    """

    measure: str
    tasks: int
    of: int


@frozen
class MeasureLine:
    """What a row is and takes in one format on one task, or over its tasks.

    row: its name in the leaderboard. task: '' over all. condition: if the task was asked in several ways. waiting: of
    runs one item after another alone. rouge, bert: ROUGE-L and BERTScore F1. other: (metric, score) of a task without
    ROUGE-L. answer_tokens: mean of an answer. why_no_economy: '' if it wasn't asked for. memory_of: GPU or process.
    adapter_bytes: None of a model alone. tasks, scored: how many a line over tasks is of, and how many have a ROUGE-L.
    tasks_of: how many the table has. partly: over tasks, what has no value as it is of some of them alone.
    """

    row: str
    format: str
    task: str
    condition: str
    waiting: Waiting | None
    rouge: Estimate | None
    bert: Estimate | None
    other: tuple[str, Estimate] | None
    answer_tokens: float | None
    economy: Economy | None
    why_no_economy: str
    memory_bytes: float | None
    memory_of: str
    adapter_bytes: float | None
    badges: tuple[str, ...] = ()
    tasks: int = 1
    scored: int = 1
    tasks_of: int = 1
    partly: tuple[PartlyMeasured, ...] = ()


@frozen
class Leaderboard:
    """What `leaderboard.json`, the CSV, the Markdown, the page and the terminal all show.

    columns: by task (0, 1, 2, 10), the task's most common condition first. rows: in the order of the aggregate; those
    that have none below, by where they stand in the columns that they have. notices: what a reader has to know. runs:
    by run id, those of the cells. cost_tasks: the tasks that all rows have, which seconds and tokens are summed over.
    published: what others gave for its rows, beside what is measured. measures: of a suite that asks for that table.
    """

    suite: str | None
    columns: tuple[LeaderboardColumn, ...]
    rows: tuple[LeaderboardRow, ...]
    notices: tuple[Notice, ...] = field(default=())
    runs: Mapping[str, ShownRun] = field(factory=dict)
    aggregate: Aggregate | None = None
    cost_tasks: tuple[str, ...] = ()
    published: tuple[BesideLine, ...] = ()
    measures: tuple[MeasureLine, ...] = ()

    @property
    def averages(self) -> bool:
        """Whether the aggregate has a column of its own: there is more than one task that could count in it."""
        return self.aggregate is not None and len(self.averageable) > 1

    @property
    def averageable(self) -> tuple[str, ...]:
        """The tasks that the aggregate would be of if all rows had them: those declared, or all with a range."""
        if self.aggregate is not None and self.aggregate.declared:
            return self.aggregate.declared
        return tuple(dict.fromkeys(one.task for one in self.columns if one.primary and one.best is not None))

    @property
    def averaged(self) -> str:
        """How many tasks the aggregate is of: `3 tasks`, or `2 of 3 tasks` if some don't count."""
        counted = 0 if self.aggregate is None else len(self.aggregate.columns)
        every = len(self.averageable)
        told = str(every) if counted == every else f"{counted} of {every}"
        return f"{told} task" if every == 1 else f"{told} tasks"

    def as_json(self) -> JsonObject:
        """The content of leaderboard.json: no NaN, no lone surrogates; null if an interval can't be made."""
        from slmbench.leaderboard.content import content_of

        return content_of(self)
