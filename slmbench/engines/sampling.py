"""Which token comes next, and when a text is over."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from attrs import define, field, frozen

from slmbench.values import Tensor, Tokenizer

WARPERS = ("repetition_penalty", "temperature", "top_k", "top_p", "min_p")
BLOCK = 256


@frozen
class SamplingSettings:
    """How tokens are drawn. Greedy unless `sampled`; `warpers` in the order in which they are applied."""

    sampled: bool = False
    warpers: tuple[tuple[str, float], ...] = ()


@define(eq=False)
class Answer:
    """A text that is being written. stops: what ends it. end_ids: tokens that end it. stream: where draws come from."""

    prompt: Any  # int32, (length,)
    most_tokens: int
    stops: tuple[str, ...]
    settings: SamplingSettings
    stream: random.Random
    tokens: list[int] = field(factory=list)
    reason: str = ""


def stream_of(seed: int, item: str, prompt: str, repeat: int) -> random.Random:
    """The random numbers of one sample: they depend on seed, item, prompt and repeat, and on nothing else."""
    digest = hashlib.sha256(f"{seed}\0{item}\0{repeat}\0{prompt}".encode(errors="surrogatepass")).digest()
    return random.Random(int.from_bytes(digest, "big"))


def next_tokens(logits: Tensor, answers: Sequence[Answer]) -> list[int]:
    """The next token of each answer. logits: (answers, vocab), float32."""
    chosen = [0] * len(answers)
    groups: dict[SamplingSettings, list[int]] = {}
    for row, answer in enumerate(answers):
        groups.setdefault(answer.settings, []).append(row)
    for settings, rows in groups.items():
        of = logits if len(rows) == len(answers) else logits[rows]
        # A temperature alone is worked in where the probabilities are made: a copy of all logits less.
        (name, value) = settings.warpers[0] if len(settings.warpers) == 1 else ("", 1.0)
        alone = name == "temperature"
        scores = of if alone else _warped(of, [answers[row] for row in rows], settings)
        if settings.sampled:
            draws = [answers[row].stream.random() for row in rows]
            found = _drawn(scores, draws, value if alone else 1.0)
        else:
            found = scores.argmax(dim=-1).tolist()
        for row, token in zip(rows, found, strict=True):
            chosen[row] = token
    return chosen


def _warped(scores: Tensor, answers: Sequence[Answer], settings: SamplingSettings) -> Tensor:
    import torch
    from transformers.generation import logits_process as processors

    made = {
        "temperature": processors.TemperatureLogitsWarper,
        "top_k": lambda k: processors.TopKLogitsWarper(int(k)),
        "top_p": processors.TopPLogitsWarper,
        "min_p": processors.MinPLogitsWarper,
    }
    for name, value in settings.warpers:
        if name == "repetition_penalty":
            scores = scores.clone()
            penalty = processors.RepetitionPenaltyLogitsProcessor(value)
            for row, answer in enumerate(answers):
                seen = torch.tensor([[*answer.prompt.tolist(), *answer.tokens]], device=scores.device)
                scores[row : row + 1] = penalty(seen, scores[row : row + 1])
        else:
            scores = made[name](value)(None, scores)
    return scores


def _drawn(scores: Tensor, draws: Sequence[float], temperature: float = 1.0) -> list[int]:
    """For each row, the token at which the summed probabilities pass its number of [0, 1)."""
    import torch

    weights = (scores - scores.amax(dim=-1, keepdim=True)).div_(temperature).exp_()  # (rows, vocab)
    if missing := -weights.shape[1] % BLOCK:
        weights = torch.nn.functional.pad(weights, (0, missing))
    blocks = weights.view(len(draws), -1, BLOCK)
    # In two steps, as a float32 sum over a whole vocabulary would be off by more than its small probabilities.
    ends = blocks.sum(dim=-1).double().cumsum(dim=-1)  # (rows, blocks)
    goal = torch.tensor(draws, dtype=torch.float64, device=scores.device) * ends[:, -1]
    found = []
    for row, wanted in enumerate(goal.tolist()):
        block = min(int(torch.searchsorted(ends[row], wanted, right=True)), ends.shape[1] - 1)
        before = float(ends[row, block - 1]) if block else 0.0
        within = blocks[row, block].double().cumsum(dim=-1)
        at = int(torch.searchsorted(within, wanted - before, right=True))
        if at >= BLOCK or float(blocks[row, block, at]) == 0.0:
            # Rounding led past the last token that has any probability.
            at = int(blocks[row, block].nonzero()[-1])
        found.append(block * BLOCK + at)
    return found


def is_over(answer: Answer, end_ids: frozenset[int], tokenizer: Tokenizer) -> bool:
    """Whether an answer ends with its last token; notes why."""
    if answer.tokens[-1] in end_ids:
        answer.reason = "eos"
    elif _stopped(answer, tokenizer):
        answer.reason = "stop"
    elif len(answer.tokens) >= answer.most_tokens:
        answer.reason = "length"
    return bool(answer.reason)


def _stopped(answer: Answer, tokenizer: Tokenizer) -> bool:
    if not answer.stops:
        return False
    # A stop string has at most as many tokens as bytes; some more, as decoding may eat a blank at the beginning.
    longest = max(len(stop.encode(errors="surrogatepass")) for stop in answer.stops) + 4
    tail = answer.tokens[-longest:]
    if not any(stop in text for text in _read(tail, tokenizer) for stop in answer.stops):
        return False
    return any(stop in text for text in _read(answer.tokens, tokenizer) for stop in answer.stops)


def _read(tokens: list[int], tokenizer: Tokenizer) -> tuple[str, ...]:
    """A text without special tokens, as results are, and with them, as a stop may be one."""
    plain, whole = tokenizer.decode(tokens, skip_special_tokens=True), tokenizer.decode(tokens)
    return (plain,) if plain == whole else (plain, whole)
