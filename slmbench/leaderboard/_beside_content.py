"""What `leaderboard.json` holds below the table: published numbers beside measured ones, and the table of measures."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from slmbench.foreign import Amount, AnyText, Count, Number
from slmbench.leaderboard.table import BesideLine, MeasureLine
from slmbench.runs import Part
from slmbench.values import Estimate, JsonObject


class EstimateContent(Part):
    """A number with its 95% interval.

    value: the mean, or the pooled value
    stderr: its standard error; null if there is no interval
    ci_low: lower end of the interval; null if there is none
    ci_high: upper end of it; null if there is none
    method: how the interval was made; none if there is none
    n: items
    """

    value: Number
    stderr: Amount | None
    ci_low: Number | None
    ci_high: Number | None
    method: AnyText
    n: Count


class InFilesContent(Part):
    """What a publisher's own files say in place of a published number.

    written: the number, as people read it
    source: where it is
    """

    written: AnyText
    source: AnyText


class PublishedContent(Part):
    """A number that somebody published, and the score here that is its row's.

    task: that it is of
    metric: a value of the task's; latency, or other of what isn't measured here
    called: the publication's own word for it; empty if it is the metric's
    model: whose it is
    adapter: whose it is; null of a model alone
    under: how it was made, as far as ours may be made otherwise
    low: the number at the metric's own scale, or where a range begins
    high: where a range ends; low again of a number
    written: the number, as people read it
    source: where it was published
    counted: how it was counted
    stderr: the standard error that is given with it, at the metric's own scale; null if none is
    n: items that it is of; null if that isn't said
    in_files: what the publisher's files say instead; null if nothing is known
    fault: why it can't be what it says; null if nobody says so
    remarks: what shows in the published numbers themselves
    row: the name of the row that was measured; null if none was
    condition: how the task was asked, if it was in several ways
    measured: the score of that row; null if none was measured
    verdict: whether the number is in, above or below the interval of that score; null if the two aren't compared
    why_not: why they aren't; null if they are
    """

    task: AnyText
    metric: AnyText
    called: AnyText
    model: AnyText
    adapter: AnyText | None
    under: dict[AnyText, Number | AnyText]
    low: Number
    high: Number
    written: AnyText
    source: AnyText
    counted: AnyText
    stderr: Amount | None = None
    n: Count | None = None
    in_files: InFilesContent | None
    fault: AnyText | None
    remarks: list[AnyText]
    row: AnyText | None
    condition: AnyText
    measured: EstimateContent | None
    verdict: AnyText | None
    why_not: AnyText | None


class WaitingContent(Part):
    """What an item alone takes.

    median_ms: milliseconds
    ci_low_ms: lower end of the median's 95% interval; null if there is none
    ci_high_ms: upper end of it
    mean_ms: milliseconds
    n: items
    """

    median_ms: Amount
    ci_low_ms: Amount | None
    ci_high_ms: Amount | None
    mean_ms: Amount
    n: Count


class EconomyContent(Part):
    """Mean tokens a record, prompt and answer, without worked examples.

    tokens: in the format
    json_tokens: of the same as compact JSON
    plain_tokens: of the same as plain text
    rows: that were counted
    """

    tokens: Amount
    json_tokens: Amount
    plain_tokens: Amount
    rows: Count


class PartlyContent(Part):
    """What a line over tasks has no value of, as some of them lack it.

    measure: latency, rouge_l, bertscore, answer_tokens, economy or memory
    tasks: that have it
    of: tasks that would have to
    """

    measure: AnyText
    tasks: Count
    of: Count


class MeasureContent(Part):
    """What a row is and takes in one format on one task, or over its tasks.

    row: its name
    format: how prompts were written down
    task: that was asked; null over all tasks, in which each counts the same
    condition: how the task was asked, if it was in several ways
    latency: of runs one item after another alone (--latency); null if there is none
    rouge_l: ROUGE-L; null of a task without it
    bertscore: BERTScore F1; null if it wasn't scored
    metric: that the task has in place of ROUGE-L; null if it has that
    score: its score; null if there is ROUGE-L
    answer_tokens: mean tokens of an answer
    economy: tokens of a record in the format, as JSON and as plain text; null if they could not be counted
    why_no_economy: why they could not; null if they were, or nobody asked
    memory_B: peak memory
    memory_of: GPU or process; null if it isn't known
    adapter_bytes: of the adapter's file; null of a model alone
    badges: what limits the scores
    tasks: that a line over all tasks is of
    tasks_of: tasks that the table has
    scored: of its own tasks, those that have ROUGE-L
    partly: over tasks, what some of them lack and so has no value
    """

    row: AnyText
    format: AnyText
    task: AnyText | None
    condition: AnyText
    latency: WaitingContent | None
    rouge_l: EstimateContent | None
    bertscore: EstimateContent | None
    metric: AnyText | None
    score: EstimateContent | None
    answer_tokens: Amount | None
    economy: EconomyContent | None
    why_no_economy: AnyText | None
    memory_B: Amount | None
    memory_of: AnyText | None
    adapter_bytes: Amount | None
    badges: list[AnyText]
    tasks: Count
    tasks_of: Count
    scored: Count
    partly: list[PartlyContent]


def estimate_content(made: Estimate) -> dict[str, Any]:
    """An estimate as leaderboard.json has it; nothing of an interval that there isn't."""
    if made.method == "none":
        return {"value": made.value, "stderr": None, "ci_low": None, "ci_high": None, "method": "none", "n": made.n}
    return asdict(made)


def beside_content(line: BesideLine) -> JsonObject:
    """A published number and what is measured beside it, as leaderboard.json has them."""
    return {
        **line.number.as_json(),
        "row": line.row or None,
        "condition": line.condition,
        "measured": None if line.measured is None else estimate_content(line.measured),
        "verdict": line.verdict or None,
        "why_not": line.why_not or None,
    }


def measure_content(line: MeasureLine) -> JsonObject:
    """A line of measures, as leaderboard.json has it."""
    waiting, other = line.waiting, line.other
    return {
        "row": line.row,
        "format": line.format,
        "task": line.task or None,
        "condition": line.condition,
        "latency": waiting
        and {
            "median_ms": waiting.median,
            "ci_low_ms": waiting.low,
            "ci_high_ms": waiting.high,
            "mean_ms": waiting.mean,
            "n": waiting.n,
        },
        "rouge_l": line.rouge and estimate_content(line.rouge),
        "bertscore": line.bert and estimate_content(line.bert),
        "metric": other and other[0],
        "score": other and estimate_content(other[1]),
        "answer_tokens": line.answer_tokens,
        "economy": line.economy and asdict(line.economy),
        "why_no_economy": line.why_no_economy or None,
        "memory_B": line.memory_bytes,
        "memory_of": line.memory_of or None,
        "adapter_bytes": line.adapter_bytes,
        "badges": list(line.badges),
        "tasks": line.tasks,
        "tasks_of": line.tasks_of,
        "scored": line.scored,
        "partly": [asdict(one) for one in line.partly],
    }
