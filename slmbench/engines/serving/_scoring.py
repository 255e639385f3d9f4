"""Log-probabilities of a prompt's tokens, where a server gives them: tried on a text that it wrote itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from slmbench.engines.protocol import MOST_NATS
from slmbench.engines.requests import Wanted
from slmbench.engines.sampling import SamplingSettings
from slmbench.engines.serving._answers import AnswerFault, Completion, LogProbs, read, value_of
from slmbench.engines.serving._client import Reply, ServerFailure, ServerRequest
from slmbench.engines.serving._dialects import CompletionsDialect, TextWish
from slmbench.engines.serving._link import IDS, TEXT, ServerLink
from slmbench.values import JsonObject, Tokenizer

_TRIED = (
    "Question: What is the capital of France?\nAnswer:",
    "Once upon a time there was a little",
    "1, 2, 3, 4, 5, 6,",
)
_WRITTEN = 4
"""Tokens of its own that are scored again."""
_CLOSE_NATS = 0.25
"""How far reading and writing may be apart: in half precision they are by some hundredths; of another token by nats."""


@frozen
class _Own:
    """A text that the server wrote. prompt: its ids, those that were written last. logprobs: of these, as written."""

    text: str
    prompt: tuple[int, ...]
    logprobs: tuple[float, ...]


def find_scoring(link: ServerLink, tokenizer: Tokenizer) -> str | None:
    """How prompts are to be sent so that their log-probabilities come back right; None if they don't.

    A text that the server wrote has to have the log-probabilities when it is read that it had when it was written.
    Some servers read them one place too late; with another tokenizer the numbers differ, too.
    """
    if not isinstance(link.dialect, CompletionsDialect):
        return None
    for begin in _TRIED:
        own = _own(link, tokenizer, begin)
        if own is None:
            continue
        for how in (IDS, TEXT):
            for drops in (0, 1):
                if _holds(link, tokenizer, own, how, drops):
                    link.drops = drops
                    return how
        return None
    return None


def scored_body(link: ServerLink, tokenizer: Tokenizer, ids: Sequence[int], how: str) -> JsonObject:
    """What is sent to have a prompt's tokens scored. One token more is written: some take 0 for without an end."""
    prompt: str | list[int] = list(ids)
    if how == TEXT:
        text = str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        prompt, _ = link.sent(tokenizer, text, list(ids))
    body = link.dialect.body(TextWish(prompt, Wanted((), 1, SamplingSettings())))
    return body | {"echo": True, "logprobs": 1}


def read_scores(reply: Reply, n_prompt: int, n_last: int, drops: int, where: str) -> tuple[float, bool]:
    """(the summed log-probability of a prompt's last tokens, whether each was the likeliest). Raises AnswerFault."""
    parts = _parts(read(Completion, reply, where).choices[0].logprobs, n_prompt, n_last, drops)
    if parts is None:
        raise AnswerFault(
            f"{where}: it doesn't list {n_prompt} tokens of the prompt, which are the tokenizer's, with a "
            "log-probability each"
        )
    values, greedy = parts
    return math.fsum(values), greedy


def _parts(found: LogProbs | None, n_prompt: int, n_last: int, drops: int) -> tuple[list[float], bool] | None:
    """(log-probabilities of a prompt's last tokens, whether each was the likeliest); None if they aren't there."""
    if found is None or found.top_logprobs is None:
        return None
    listed = n_prompt - drops
    lengths = {len(found.tokens), len(found.token_logprobs), len(found.top_logprobs)}
    # Behind the prompt stands what was written, a token or none.
    if len(lengths) != 1 or not 0 <= lengths.pop() - listed <= 1 or n_last >= n_prompt:
        return None
    values, best = found.token_logprobs[listed - n_last : listed], found.top_logprobs[listed - n_last : listed]
    numbers = [min(value, 0.0) for value in values if value is not None and value <= MOST_NATS]
    if len(numbers) != n_last:
        return None
    greedy = all(bool(top) and value >= max(top.values()) for value, top in zip(numbers, best, strict=True) if top)
    return numbers, greedy and all(best)


def _own(link: ServerLink, tokenizer: Tokenizer, begin: str) -> _Own | None:
    """A text of the server's own, whose tokens are those that the tokenizer makes of it."""
    prompt, _ = link.sent(tokenizer, begin, ids := list(tokenizer.encode(begin)))
    body = link.dialect.body(TextWish(prompt, Wanted((), _WRITTEN, SamplingSettings()))) | {"logprobs": 1}
    answer = _answer(link, body)
    if answer is None or (found := answer.choices[0].logprobs) is None:
        return None
    text = begin + answer.choices[0].text
    whole: list[Any] = list(tokenizer.encode(text))
    written = whole[len(ids) :]
    values = [value for value in found.token_logprobs[: len(written)] if value is not None]
    if whole[: len(ids)] != ids or not written or len(values) != len(written):
        return None
    return _Own(text, tuple(whole), tuple(values))


def _holds(link: ServerLink, tokenizer: Tokenizer, own: _Own, how: str, drops: int) -> bool:
    body = scored_body(link, tokenizer, own.prompt, how)
    answer = _answer(link, body)
    if answer is None:
        return False
    parts = _parts(answer.choices[0].logprobs, len(own.prompt), len(own.logprobs), drops)
    if parts is None:
        return False
    return all(abs(one - other) <= _CLOSE_NATS for one, other in zip(parts[0], own.logprobs, strict=True))


def _answer(link: ServerLink, body: JsonObject) -> Completion | None:
    """None of a server that can't: some say so by HTTP 500."""
    try:
        return value_of(Completion, link.client.ask_one(ServerRequest(link.dialect.path, body, tries=1)))
    except ServerFailure:
        return None
