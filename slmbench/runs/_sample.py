"""What a line of `samples.jsonl` holds: the model that every reader of samples goes through."""

from __future__ import annotations

import os
from typing import Any

from pydantic import Field

from slmbench.foreign import Amount, AnyText, Count, Limits, Number, decode_json
from slmbench.runs._part import Part
from slmbench.runs._versions import READS, SAMPLES, read_as
from slmbench.values import JsonObject

# A sample's choices and its prompt's shots may be long; a line of more is none of ours.
_SAMPLE_LIMITS = Limits(surrogates=True)


class SampleRecord(Part):
    """A line of `samples.jsonl`: an item, or one of the samples of an item.

    schema: version of this layout; 1 if it is not there
    item_id: of the item, unique in its split
    epoch: which sample of the item, from 0
    cluster_id: items of one cluster are not independent; null for an item on its own
    prompt: what the model was asked
    prompt_sha256: of the prompt
    target: what it was to write
    references: every text that counts as right
    target_loglikelihood: of the target, summed over its tokens, in nats; not there unless a metric reads it
    target_bytes: UTF-8 bytes of the target as its format writes it; not there unless a metric reads it
    output: what it wrote, or the choice that it took
    format_fault: why the output is not in its format; null if it is
    verdict: of a program: passed, failed, timed out or died
    verdict_detail: what the verdict comes from
    choices: the options of a choice task
    loglikelihoods: of each option, summed over its tokens, in nats
    gold: which option is right, from 0
    finish_reason: stop, eos or length; scored of a choice task
    tokens_in: of the prompt; of all options' prompts
    tokens_out: of the answer; of all options
    truncated: whether the prompt was cut to the model's window
    latency_ms: milliseconds of the passes that the item was in
    compute_ms: the item's share of the model's time, in milliseconds
    scores: metric's value -> score of the item; null if an error kept it from being scored
    sample_scores: of this sample alone, where `scores` are the mean of an item's samples; else not there
    parts: pooled metric -> what the item adds to it
    adapter: that answered, null for the base alone; not there if all items have the same
    """

    version: int = Field(default=1, alias="schema", ge=READS[SAMPLES][0], le=READS[SAMPLES][-1])
    item_id: AnyText
    epoch: Count = 0
    cluster_id: AnyText | None = None
    prompt: AnyText | None = None
    prompt_sha256: AnyText | None = None
    target: AnyText | None = None
    references: list[AnyText] | None = None
    target_loglikelihood: Number | None = None
    target_bytes: Count | None = None
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
    # Sums of larger scores would overflow.
    scores: dict[AnyText, Number | None]
    sample_scores: dict[AnyText, Number | None] | None = None
    parts: dict[AnyText, Any] | None = None
    adapter: AnyText | None = None


def read_sample(line: bytes, path: str | os.PathLike[str], number: int) -> JsonObject:
    """A line of samples.jsonl. Raises FileError, with every fault of the line."""
    sample = decode_json(line.rstrip(b"\r\n"), path, _SAMPLE_LIMITS, line=number)
    read_as(SampleRecord, sample, SAMPLES, path, line=number)
    assert isinstance(sample, dict)
    return sample
