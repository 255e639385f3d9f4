"""Generation: shared contexts are computed once, and a row that ends makes room for the next one at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from slmbench.console import Stage
from slmbench.engines.sampling import Answer, is_over, next_tokens
from slmbench.engines.shared_prefix._attention import Pass
from slmbench.engines.shared_prefix._passes import hidden_states
from slmbench.engines.shared_prefix._prompts import LaidOutPrompt, lay_out_prompts
from slmbench.engines.shared_prefix._slots import Slots
from slmbench.engines.shared_prefix._trie import Segment
from slmbench.models import adapter_of
from slmbench.values import Model, Tensor, Tokenizer

KeysValues = list[tuple[Tensor, Tensor]]  # One pair a layer.
# A computed prompt with its keys and values, the logits of its next token, and the answers that wait for a slot.
Ready = tuple[LaidOutPrompt, KeysValues, Tensor, deque[int]]


class Decoder:
    """Writes answers, many at a time.

    batch: rows whose memory may be taken, as if they shared nothing; as they do, more are decoded at once, `most_rows`
    at most. most_tokens: of prompts, computed in one pass. most_context_tokens: held for rows to share. head: hidden
    states (rows, width) -> logits (rows, vocab). end_ids: tokens that end an answer. told: is told of each token.
    """

    def __init__(
        self,
        core: Model,
        tokenizer: Tokenizer,
        head: Callable[[Tensor], Tensor],
        end_ids: frozenset[int],
        *,
        batch: int,
        most_rows: int,
        most_tokens: int,
        most_context_tokens: int,
        told: Stage,
    ) -> None:
        self.told = told
        self.core = core
        self.tokenizer = tokenizer
        self.head = head
        self.end_ids = end_ids
        self.most_tokens = most_tokens
        self.most_context_tokens = most_context_tokens
        self.batch = batch
        self.most_rows = most_rows
        self.slots = Slots(0)
        self.peak_context_tokens = 0
        self.prompt_tokens = 0
        self._context_of: dict[int, tuple[Segment, ...]] = {}

    def write(self, answers: Sequence[Answer]) -> Iterator[tuple[int, float, float]]:
        """(index of an answer, milliseconds since it was begun, its share of the time in passes), as they get done.

        The answers themselves are filled in.
        """
        adapter = adapter_of(self.core)
        prompts = lay_out_prompts([answer.prompt for answer in answers], self.most_context_tokens, adapter)
        contexts = {segment for prompt in prompts for segment in prompt.context}
        self.told.expect(sum(map(len, contexts)) + sum(prompt.own_tokens for prompt in prompts))
        self.told.expect(sum(answer.most_tokens for answer in answers))
        slots = self.slots = Slots(self._rows_at_once(prompts, answers), adapter)
        self._context_of = {row: prompt.context for prompt in prompts for row in prompt.rows}
        queue = deque(prompts)
        # Prompts whose own tokens are computed, with these, their next token's logits, and the rows still to begin.
        ready: deque[Ready] = deque()
        rows: list[int] = []  # Of each slot, the answer that is in it.
        begun: dict[int, float] = {}
        share: dict[int, float] = {}
        while queue or ready or rows:
            chosen = self._admit(queue, slots.most - len(rows) - sum(len(one[3]) for one in ready))
            started = time.perf_counter()
            first = {segment for prompt in chosen for segment in prompt.context} & contexts
            contexts -= first
            logits, own = self._step(chosen, [answers[row].tokens[-1] for row in rows])
            for line, (prompt, keys_values) in enumerate(zip(chosen, own, strict=True), start=len(rows)):
                begun.update(dict.fromkeys(prompt.rows, started))
                share.update(dict.fromkeys(prompt.rows, 0.0))
                ready.append((prompt, keys_values, logits[line], deque(prompt.rows)))
            busy, ended = list(rows), []
            for slot, token in enumerate(next_tokens(logits[: len(rows)], [answers[row] for row in rows])):
                answers[rows[slot]].tokens.append(token)
                if is_over(answers[rows[slot]], self.end_ids, self.tokenizer):
                    ended.append(slot)
            done = [rows[slot] for slot in ended]
            done += self._begin(ready, answers, rows, ended)
            for slot in reversed(ended):
                slots.remove(slot)
                rows[slot] = rows[-1]
                rows.pop()
            self._release(done)
            now = time.perf_counter()
            # Each token of a row and each prompt costs about the same in a pass, a prompt's rows all together.
            working = [*busy, *(row for prompt in chosen for row in prompt.rows)]
            for row in working:
                share[row] += (now - started) * 1000 / len(working)
            self.told.advance(sum(map(len, first)) + sum(prompt.own_tokens for prompt in chosen) + len(working))
            # What an answer leaves unwritten is done with its end.
            self.told.advance(sum(answers[row].most_tokens - len(answers[row].tokens) for row in done))
            for row in done:
                yield row, (now - begun[row]) * 1000, share[row]

    def _rows_at_once(self, prompts: Sequence[LaidOutPrompt], answers: Sequence[Answer]) -> int:
        """How many rows take the memory that `batch` rows would take which share nothing."""
        longest = max(len(answer.prompt) + answer.most_tokens for answer in answers)
        own = max(prompt.own_tokens + answers[row].most_tokens for prompt in prompts for row in prompt.rows)
        room = self.batch * longest
        room -= _context_tokens(prompts, max(self.batch, room // own))
        most = max(1, min(self.most_rows, max(self.batch, room // own)))
        # As many turns as with `most`, but full ones: a last turn with few rows takes nearly as long as one with all.
        return -(-len(answers) // -(-len(answers) // most))

    def _admit(self, queue: deque[LaidOutPrompt], room: int) -> list[LaidOutPrompt]:
        """The prompts to be computed in the next pass, with the contexts that they need."""
        chosen: list[LaidOutPrompt] = []
        tokens = 0
        held = sum(map(len, self.slots.held))
        coming: set[Segment] = set()
        while queue and room > 0:
            missing = [s for s in queue[0].context if s not in self.slots.held and s not in coming]
            context = sum(map(len, missing))
            cost = context + queue[0].own_tokens
            if chosen and tokens + cost > self.most_tokens:
                break
            if (chosen or self.slots.count) and context and held + context > self.most_context_tokens:
                break  # Rows that end will let go of theirs.
            prompt = queue.popleft()
            chosen.append(prompt)
            coming.update(missing)
            tokens, held, room = tokens + cost, held + context, room - len(prompt.rows)
        self.prompt_tokens += tokens
        self.peak_context_tokens = max(self.peak_context_tokens, held)
        return chosen

    def _step(
        self, chosen: Sequence[LaidOutPrompt], tokens: Sequence[int]
    ) -> tuple[Tensor, list[list[tuple[Tensor, Tensor]]]]:
        """(logits of each row's next token, then of each chosen prompt's; the keys and values of their own tokens)."""
        import torch

        slots = self.slots
        segments: dict[Segment, None] = {}
        for prompt in chosen:
            segments.update(dict.fromkeys(s for s in prompt.context if s not in slots.held))
            segments.update(dict.fromkeys(prompt.own))
        order = list(segments)
        one = Pass(order, slots.held, frozenset(order), slots if tokens else None)
        if tokens:
            slots.begin_step()
        with torch.no_grad():
            hidden = hidden_states(self.core, one, tokens, slots.positions if tokens else ())
            at, last = len(tokens), {}
            for segment in order:
                at += len(segment)
                last[segment] = at - 1
            wanted = [*range(len(tokens)), *(last[prompt.own[-1]] for prompt in chosen)]
            logits = self.head(hidden[torch.tensor(wanted, device=hidden.device)]).float()
        if tokens:
            slots.end_step()
        return logits, [_joined([slots.held.pop(segment) for segment in prompt.own]) for prompt in chosen]

    def _begin(self, ready: deque[Ready], answers: Sequence[Answer], rows: list[int], ended: list[int]) -> list[int]:
        """Puts rows of computed prompts into free slots, those of `ended` first; returns those over at once."""
        done = []
        while ready and (ended or len(rows) < self.slots.most):
            prompt, own, logits, waiting = ready[0]
            n = min(len(waiting), len(ended) + self.slots.most - len(rows))
            batch = [waiting.popleft() for _ in range(n)]
            firsts = next_tokens(logits[None].expand(n, -1).clone(), [answers[row] for row in batch])
            for row, token in zip(batch, firsts, strict=True):
                answers[row].tokens.append(token)
                if is_over(answers[row], self.end_ids, self.tokenizer):
                    done.append(row)
                elif ended:
                    slot = ended.pop()
                    self.slots.put(slot, own, prompt.shared_tokens, prompt.context)
                    rows[slot] = row
                else:
                    self.slots.add(own, prompt.shared_tokens, prompt.context)
                    rows.append(row)
            if not waiting:
                ready.popleft()
        return done

    def _release(self, done: Sequence[int]) -> None:
        """Lets go of contexts that no answer needs any more."""
        for row in done:
            for segment in self._context_of[row]:
                segment.uses -= 1
                if segment.uses == 0:
                    self.slots.held.pop(segment, None)


def _context_tokens(prompts: Sequence[LaidOutPrompt], rows: int) -> int:
    """The most tokens of contexts that so many rows, decoded in the order of their prompts, need at once."""
    window: deque[LaidOutPrompt] = deque()
    uses: dict[Segment, int] = {}
    count = tokens = most = 0
    for prompt in prompts:
        window.append(prompt)
        count += len(prompt.rows)
        for segment in prompt.context:
            tokens += 0 if uses.get(segment) else len(segment)
            uses[segment] = uses.get(segment, 0) + 1
        while count - len(window[0].rows) >= rows:
            count -= len(window[0].rows)
            for segment in window.popleft().context:
                uses[segment] -= 1
                tokens -= 0 if uses[segment] else len(segment)
        most = max(most, tokens)
    return most


def _joined(parts: Sequence[KeysValues]) -> KeysValues:
    """The keys and values of neighbouring segments as those of one."""
    import torch

    if len(parts) == 1:
        return parts[0]
    layers = zip(*parts, strict=True)
    return [(torch.cat([k for k, _ in of], dim=2), torch.cat([v for _, v in of], dim=2)) for of in layers]
