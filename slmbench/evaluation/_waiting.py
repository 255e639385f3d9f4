"""Requests that an engine is to answer: what they are called in the journal, and how much work they are."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

from slmbench.values import JsonObject


@frozen(eq=False)
class Waiting:
    """A request that the engine is to answer.

    item: lm-eval's doc_id. epoch: which sample of its item it is. work: how many tokens it takes at most.
    """

    task: str
    key: str
    facts: dict[str, Any]
    epoch: int
    item: Any
    work: int


def sample_key(content: str, args: tuple[object, ...], item: object, epoch: int) -> str:
    """The journal's key of a request. Of drawn texts each item has its own, even where two ask the same."""
    drawn = isinstance(args[1], dict) and args[1].get("do_sample")
    key = f"{content}@{item}" if drawn else content
    return f"{key}#{epoch}" if epoch else key


def tag(kind: str, args: tuple[object, ...]) -> str:
    return json.dumps([kind, *args], sort_keys=True)


def most_tokens(args: tuple[Any, ...], facts: JsonObject, default: int) -> int:
    """How many tokens an answer takes at most, those that are read and those that are written."""
    written = facts["tokens_out"] if "tokens_out" in facts else args[1].get("max_gen_toks", default)
    return int(facts["tokens_in"] + written)
