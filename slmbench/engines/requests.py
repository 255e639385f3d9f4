"""Requests as lm-eval hands them over: what each asks for, and what of it can't be done."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from slmbench.engines.generation_config import DEFAULT_TOP_K, NEUTRAL
from slmbench.engines.protocol import Engine, Item, WriteRequest
from slmbench.engines.sampling import WARPERS, SamplingSettings
from slmbench.errors import DataError, UsageError
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

KNOWN = {"until", "do_sample", "max_gen_toks", *WARPERS}


@frozen
class Wanted:
    """How one request wants its text. plain: why it can't be decoded beside others, '' if it can."""

    stops: tuple[str, ...]
    most_tokens: int
    settings: SamplingSettings
    plain: str = ""


def name_of(item: Item) -> str:
    """Which task and item a request is of, for errors."""
    return f"task {item[0]!r}, item {item[1]}"


def item_of(request: Instance) -> Item:
    """Whose a request of lm-eval's is."""
    return request.task_name, request.doc_id


def repeats_of(requests: Sequence[Instance]) -> list[int]:
    """For each request, how many of the same task, item and text stand before it: which sample of its item it is."""
    seen: Counter[tuple[Any, ...]] = Counter()
    found = []
    for request in requests:
        key = (request.task_name, request.doc_id, request.args[0])
        found.append(seen[key])
        seen[key] += 1
    return found


def wanted_by(where: str, given: JsonObject, eos: str | None, default_tokens: int, surprises: JsonObject) -> Wanted:
    """Reads generation kwargs as lm-eval does. surprises: of the model's file; they count where tokens are drawn.

    Raises UsageError for a temperature with which nothing can be drawn, and if no token is asked for.
    """
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

    kwargs: dict[str, Any] = dict(normalize_gen_kwargs(copy.deepcopy(given), default_tokens))
    given_stops = handle_stop_sequences(kwargs.pop("until", None), eos=eos)
    stops = tuple(stop for stop in given_stops if stop)
    most_tokens = int(kwargs.pop("max_gen_toks"))
    if most_tokens < 1:
        raise UsageError(f"{where}: max_gen_toks is {most_tokens}; ask for at least one token")
    if "" in given_stops:
        most_tokens = 1  # An empty stop is in every text, and lm-eval looks for it after the first token.
    sampled = bool(kwargs.pop("do_sample", False))
    temperature = float(kwargs.pop("temperature", 0.0) or 0.0)
    if sampled and temperature <= 0.0:
        raise UsageError(f"{where}: do_sample with a temperature of {temperature:g}; give one above 0, or don't sample")
    warpers: dict[str, Any] = {}
    if sampled:
        warpers = {"top_k": DEFAULT_TOP_K} | {name: surprises[name] for name in WARPERS if name in surprises}
    unknown = sorted(name for name in kwargs if name not in KNOWN and kwargs[name] is not None)
    unknown += sorted(name for name in surprises if sampled and name not in WARPERS)
    warpers |= {name: kwargs[name] for name in WARPERS if kwargs.get(name) is not None}
    if sampled:
        warpers["temperature"] = temperature
    else:
        warpers = {name: value for name, value in warpers.items() if name == "repetition_penalty"}
    used = ((name, float(warpers[name])) for name in WARPERS if name in warpers)
    settings = SamplingSettings(
        sampled, tuple((name, value) for name, value in used if value not in NEUTRAL.get(name, ()))
    )
    return Wanted(stops, most_tokens, settings, f"it is given {', '.join(unknown)}" if unknown else "")


def check_pair(
    where: str, context: Sequence[int], continuation: Sequence[int], most: int, vocabulary: int | None
) -> None:
    """Raises DataError if lm-eval would stop without a word on whose request it was.

    most: tokens of a continuation at most. vocabulary: ids below this one have a row in the model; None unknown.
    """
    fault = ""
    if not context:
        fault = "its context has no tokens, and this tokenizer puts none before a text; give it a context"
    elif not continuation:
        fault = (
            "its continuation has no token of its own: it is empty, or the tokenizer melts it into the context's last "
            "token; move the boundary, for example with a blank before the continuation"
        )
    elif len(continuation) > most:
        fault = f"its continuation has {len(continuation)} tokens, and the model's window is {most}; shorten it"
    if fault:
        raise DataError(f"{where}: {fault}")
    check_known(where, max(*context, *continuation), vocabulary)


def most_tokens(kwargs: JsonObject, default: int) -> int:
    """How many tokens a text has at most, read from generation kwargs as lm-eval does."""
    from lm_eval.models.utils import normalize_gen_kwargs

    return int(normalize_gen_kwargs(copy.deepcopy(kwargs), default)["max_gen_toks"])


def check_prompt(request: WriteRequest, written: int, engine: Engine) -> int:
    """How many tokens of a prompt there is room for beside `written` ones.

    Raises DataError if there is none, and for a prompt that no model could go on from.
    """
    where, room = name_of(request.item), engine.max_length - written
    if room < 1:
        raise DataError(
            f"{where}: it asks for {written} tokens, and the model's window is {engine.max_length}; lower max_gen_toks"
        )
    if not len(request.prompt):
        raise DataError(f"{where}: its prompt has no tokens, and this tokenizer puts none before a text")
    check_known(where, max(request.prompt), engine.vocabulary)
    return room


def check_known(where: str, largest: int, vocabulary: int | None) -> None:
    """Raises DataError for a token that the model has no embedding of."""
    if vocabulary is not None and largest >= vocabulary:
        raise DataError(
            f"{where}: its text has token {largest}, and the model has {vocabulary} of them, from 0 on; this tokenizer "
            "is another model's, or the model's embeddings have to be resized to it"
        )
