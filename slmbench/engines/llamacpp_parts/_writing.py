"""Texts with llama.cpp: some side by side, each in a sequence that goes on from what it has read before."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from attrs import define, field

from slmbench.engines.llamacpp_parts._library import Sequences
from slmbench.engines.llamacpp_parts._scoring import shared_length
from slmbench.engines.sampling import Answer, is_over, next_tokens
from slmbench.errors import EngineError
from slmbench.values import Array, Tokenizer

_WORTH_COPYING = 32
"""Tokens that another sequence has to know more, so that its keys and values are copied."""


@define(eq=False)
class _Slot:
    """A sequence. known: the tokens that it has keys and values of. which: the request that it writes, None if idle."""

    sequence: int
    known: list[int] = field(factory=list)
    which: int | None = None
    answer: Answer | None = None
    begun: float = 0.0
    share_s: float = 0.0


class Writer:
    """Writes texts in as many sequences as there are. alone: nothing that was read for another text is used."""

    def __init__(self, sequences: Sequences, ends: frozenset[int], tokenizer: Tokenizer, *, alone: bool) -> None:
        self.sequences, self.ends, self.tokenizer, self.alone = sequences, ends, tokenizer, alone
        self._slots = [_Slot(number) for number in range(sequences.sequences)]

    def write(self, answers: dict[int, Answer]) -> Iterator[tuple[int, float, float]]:
        """(whose text is written, milliseconds that it took, its share of them in milliseconds), as texts end.

        answers: filled in place; their order is that in which they are begun. Raises EngineError for NaN.
        """
        waiting = iter(answers.items())
        for slot in self._slots:
            slot.which = None
        while True:
            for slot in self._slots:
                # A text may be over with its first token.
                while slot.which is None and (one := next(waiting, None)) is not None:
                    self._begin(slot, *one)
                    if slot.answer is not None and slot.answer.reason:
                        yield self._ended(slot)
            active = [slot for slot in self._slots if slot.which is not None]
            if not active:
                return
            self._step(active)
            for slot in active:
                if slot.answer is not None and slot.answer.reason:
                    yield self._ended(slot)

    def _ended(self, slot: _Slot) -> tuple[int, float, float]:
        assert slot.which is not None
        done = slot.which, (time.perf_counter() - slot.begun) * 1000, slot.share_s * 1000
        slot.which = slot.answer = None
        return done

    def _begin(self, slot: _Slot, which: int, answer: Answer) -> None:
        slot.which, slot.answer, slot.begun = which, answer, time.perf_counter()
        prompt: list[int] = answer.prompt.tolist()
        known = self._recall(slot, prompt)
        new = prompt[known:]
        wanted = [False] * (len(new) - 1) + [True]
        for _, rows in self.sequences.feed(new, range(known, len(prompt)), [slot.sequence] * len(new), wanted):
            self._choose([slot], rows)
        slot.known = prompt
        slot.share_s = time.perf_counter() - slot.begun

    def _recall(self, slot: _Slot, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt a slot's sequence has, and nothing behind them; the last one is never among them,
        as its logits are wanted.
        """
        own = 0 if self.alone else min(shared_length(slot.known, prompt), len(prompt) - 1)
        others = [one for one in self._slots if one is not slot] if not self.alone else []
        best = max(others, key=lambda one: shared_length(one.known, prompt), default=None)
        if best is not None:
            theirs = min(shared_length(best.known, prompt), len(prompt) - 1)
            if theirs >= own + _WORTH_COPYING:
                self.sequences.cut(slot.sequence, 0)
                self.sequences.copy(best.sequence, slot.sequence)
                own = theirs
        self.sequences.cut(slot.sequence, own)
        slot.known = list(prompt[:own])
        return own

    def _step(self, active: Sequence[_Slot]) -> None:
        started = time.perf_counter()
        tokens = [slot.answer.tokens[-1] for slot in active if slot.answer is not None]
        places = [len(slot.known) for slot in active]
        whose = [slot.sequence for slot in active]
        for first, rows in self.sequences.feed(tokens, places, whose, [True] * len(active)):
            self._choose(active[first : first + len(rows)], rows)
        for slot, token in zip(active, tokens, strict=True):
            slot.known.append(token)
        took = (time.perf_counter() - started) / len(active)
        for slot in active:
            slot.share_s += took

    def _choose(self, slots: Sequence[_Slot], rows: Array) -> None:
        """Each slot's next token. rows: (slots, vocab), float32."""
        import numpy as np
        import torch

        if not np.isfinite(rows.max(axis=-1)).all():
            raise EngineError("llama.cpp computes NaN or infinity, so no token can be chosen; the weights are damaged")
        answers = [slot.answer for slot in slots if slot.answer is not None]
        if any(one.settings.sampled or one.settings.warpers for one in answers):
            # A copy, as what is drawn is made in place, and these are llama.cpp's own numbers.
            tokens = next_tokens(torch.from_numpy(rows.copy()), answers)
        else:
            # Without torch, whose threads would wait for more beside llama.cpp's: a sixth of a token's time.
            tokens = rows.argmax(axis=-1).tolist()
        for answer, token in zip(answers, tokens, strict=True):
            answer.tokens.append(token)
            is_over(answer, self.ends, self.tokenizer)
