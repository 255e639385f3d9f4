"""The engine that computes once what requests share; what it can't, it gives to the plain batches that it holds."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from slmbench.console import Console, Stage, bar
from slmbench.engines.generation_config import end_ids, surprises_of
from slmbench.engines.plain import PlainBatches
from slmbench.engines.protocol import Item, ScoreAnswer, ScoreRequest, WriteAnswer, WriteRequest
from slmbench.engines.requests import Wanted, check_prompt, name_of, wanted_by
from slmbench.engines.sampling import Answer, stream_of
from slmbench.engines.shared_prefix._attention import tree_attention
from slmbench.engines.shared_prefix._decoding import Decoder
from slmbench.engines.shared_prefix._encoder_decoder import score_pairs
from slmbench.engines.shared_prefix._passes import PrefixStore
from slmbench.engines.shared_prefix._room import Room
from slmbench.engines.shared_prefix._scoring import score
from slmbench.machine import Freed, treat_freed
from slmbench.models import core_model
from slmbench.values import Array, Model, Tensor

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM


class SharedPrefix:
    """An engine. hflm: of `slmbench.engines.hflm.hflm_class`; its batch size says how much memory may be taken.

    kv_budget_bytes: keys and values of shared prefixes that are held at most; None for as much as HFLM's own cache
    takes at this batch size. seed: of drawn tokens. latency: one item after another, each alone and from its first
    token on, so that its time is what a lone user waits. Raises UsageError for a budget that is none.

    Models whose attention can't be given a mask of branches are batched plainly, by HFLM; `notices` says why.
    """

    def __init__(
        self, hflm: HFLM, *, kv_budget_bytes: float | None = None, seed: int = 0, latency: bool = False
    ) -> None:
        self.plain = PlainBatches(hflm)
        self.hflm = self.plain.hflm
        self.room = Room(self.model, self.hflm.batch_size, kv_budget_bytes)
        if self.room.on_cpu:
            treat_freed(Freed.KEPT)
        self.seed = seed
        self.latency = latency
        self.notices: list[str] = []

    @property
    def model(self) -> Model:
        """The model, with the adapters around it that are active now."""
        return self.hflm.model

    @property
    def core(self) -> Model:
        """The model of transformers, without wrappers."""
        return core_model(self.model)

    @property
    def max_length(self) -> int:
        """The window, in tokens; of an encoder-decoder, the encoder's."""
        return self.plain.max_length

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has embeddings of; None if it doesn't say."""
        return self.plain.vocabulary

    @property
    def computed_rows(self) -> int | None:
        """What an automatic batch came to, halvings included; 1 if each item is alone."""
        return 1 if self.latency else self.room.computed_rows

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreAnswer]]:
        """(index of a request, its answer), as passes end.

        Contexts lose their beginning if they are longer than the window, as with HFLM.
        """
        if not self.latency:
            yield from self._score(requests, range(len(requests)))
            return
        items: dict[Item, list[int]] = {}
        for at, request in enumerate(requests):
            items.setdefault(request.item, []).append(at)
        for number, which in enumerate(items.values()):
            if number == 0:
                list(self._score(requests, which))  # Warms up.
            yield from self._score(requests, which, begun=time.perf_counter())

    def _score(
        self, requests: Sequence[ScoreRequest], which: Sequence[int], begun: float | None = None
    ) -> Iterator[tuple[int, ScoreAnswer]]:
        """begun: when the item was begun that is computed alone; it may take several passes."""
        lengths = {at: len(requests[at].context) + len(requests[at].continuation) for at in which}
        longest = max(lengths.values(), default=0)

        def compute(left: Sequence[int], rows: int) -> Iterator[tuple[int, ScoreAnswer]]:
            if self.hflm.backend == "seq2seq":
                pairs = score_pairs(self.model, requests, left, rows, self.max_length, self.cast)
                yield from _timed(pairs, begun)
                return
            shared, plain, why = self._parted(left, {at: length - 1 for at, length in lengths.items()})
            if shared:
                yield from _timed(self._score_shared(requests, shared, rows, longest), begun)
            for at, answer in self.plain.score([requests[at] for at in plain], rows):
                waited = answer.latency_ms if begun is None else (time.perf_counter() - begun) * 1000
                yield plain[at], evolve(answer, latency_ms=waited, plain=why)

        yield from self.room.run(which, longest, compute)

    def _score_shared(
        self, requests: Sequence[ScoreRequest], which: Sequence[int], rows: int, longest: int
    ) -> Iterator[list[tuple[int, float, bool]]]:
        import numpy as np

        pairs = []
        for at in which:
            context, rest = requests[at].context, requests[at].continuation
            whole = np.array([*context, *rest][-(self.max_length + 1) :], dtype=np.int32)
            pairs.append((whole[:-1], whole[len(whole) - len(rest) :]))
        store = PrefixStore(self.room.context_tokens(rows, longest))
        tokens, head = self.room.pass_tokens(rows, longest), self.core.get_output_embeddings()
        with self._ready(), self._told("scoring") as told:
            for done in score(self.core, pairs, store, tokens, head, told):
                yield [(which[index], total, greedy) for index, total, greedy in done]

    def write(self, requests: Sequence[WriteRequest]) -> Iterator[tuple[int, WriteAnswer]]:
        """(index of a request, its answer), as texts end.

        What the model's `generation_config.json` says doesn't change greedy texts. A drawn text depends on seed, item,
        prompt and number of the sample alone. Raises UsageError for a temperature with which nothing can be drawn.
        """
        wanted = self._wanted(requests)
        prompts = self._prompts(requests, wanted)
        lengths = {at: len(prompts[at]) + how.most_tokens for at, how in enumerate(wanted)}
        longest = max(lengths.values(), default=0)

        def answers(which: Sequence[int]) -> dict[int, Answer]:
            return {at: self._answer(requests[at], prompts[at], wanted[at]) for at in which}

        def compute(left: Sequence[int], rows: int) -> Iterator[tuple[int, WriteAnswer]]:
            reasons = {at: why for at in left if (why := self._why_plain(wanted[at]))}
            shared, long, why = self._parted([at for at in left if at not in reasons], lengths)
            reasons |= dict.fromkeys(long, why)
            if shared and self.latency:
                list(self._write_shared(answers(shared[:1]), 1))  # Warms up.
                for at in shared:
                    yield from self._write_shared(answers([at]), 1)
            elif shared:
                yield from self._write_shared(answers(shared), rows)
            for why in dict.fromkeys(reasons.values()):
                plain = sorted(at for at in reasons if reasons[at] == why)
                for at, written in self._write_plainly(requests, wanted, plain, rows):
                    yield at, evolve(written, plain=why)

        yield from self.room.run(range(len(requests)), longest, compute)

    def _wanted(self, requests: Sequence[WriteRequest]) -> list[Wanted]:
        end, hflm = self.hflm.eot_token_id, self.hflm
        eos = None if end is None else hflm.tok_decode(end, skip_special_tokens=False)
        surprises = surprises_of(self.core.generation_config, drawn=True)
        return [wanted_by(name_of(one.item), one.kwargs, eos, hflm.max_gen_toks, surprises) for one in requests]

    def _prompts(self, requests: Sequence[WriteRequest], wanted: Sequence[Wanted]) -> list[Array]:
        """The token ids of each request's prompt, cut from the left as HFLM cuts them; int32 arrays."""
        import numpy as np

        found = []
        for request, how in zip(requests, wanted, strict=True):
            room = check_prompt(request, 0 if self.hflm.backend == "seq2seq" else how.most_tokens, self)
            found.append(np.array(request.prompt[-room:], dtype=np.int32))
        return found

    def _answer(self, request: WriteRequest, prompt: Array, how: Wanted) -> Answer:
        stream = stream_of(self.seed, str(request.item[1]), request.text, request.sample)
        return Answer(prompt, how.most_tokens, how.stops, how.settings, stream)

    def _write_shared(self, answers: dict[int, Answer], rows: int) -> Iterator[tuple[int, WriteAnswer]]:
        from lm_eval.models.utils import postprocess_generated_text

        which, texts = list(answers), list(answers.values())
        longest = max(len(one.prompt) + one.most_tokens for one in texts)
        told = self._told("writing")
        decoder = Decoder(
            self.core,
            self.hflm.tokenizer,
            self.core.get_output_embeddings(),
            end_ids(self.core, self.hflm.tokenizer),
            batch=rows,
            most_rows=min(len(texts), self.room.decoded_rows()),
            most_tokens=self.room.pass_tokens(rows, longest),
            most_context_tokens=self.room.context_tokens(rows, longest),
            told=told,
        )
        with self._ready(), told:
            for index, latency_ms, share_ms in decoder.write(texts):
                one = texts[index]
                text = postprocess_generated_text(self.hflm.tok_decode(one.tokens), list(one.stops), None)
                yield which[index], WriteAnswer(text, len(one.tokens), one.reason, latency_ms, share_ms)

    def _write_plainly(
        self, requests: Sequence[WriteRequest], wanted: Sequence[Wanted], plain: Sequence[int], rows: int
    ) -> Iterator[tuple[int, WriteAnswer]]:
        """By HFLM: greedy texts a batch at a time, drawn ones one by one, as a batch would share its random numbers."""
        import torch

        if self.latency:
            list(self.plain.write([requests[plain[0]]], 1))  # Warms up.
        greedy = [at for at in plain if not wanted[at].settings.sampled]
        for at, written in self.plain.write([requests[at] for at in greedy], 1 if self.latency else rows):
            yield greedy[at], written
        for at in (at for at in plain if wanted[at].settings.sampled):
            one = requests[at]
            with torch.random.fork_rng():
                stream = stream_of(self.seed, str(one.item[1]), one.text, one.sample)
                torch.manual_seed(stream.getrandbits(63))
                ((_, written),) = self.plain.write([one], 1)
            yield at, written

    def _why_plain(self, how: Wanted) -> str:
        if self.hflm.backend == "seq2seq":
            why = "an encoder-decoder writes its texts in plain batches"
        elif self.hflm.think_end_token is not None:
            why = "think_end_token is given"
        else:
            why = how.plain
        return self._notice(f"plain batching of texts: {why}") if why else ""

    def _notice(self, text: str) -> str:
        """Says once why requests are batched plainly."""
        if text not in self.notices:
            self.notices.append(text)
            warnings.warn(text, stacklevel=2)
        return text

    def _parted(self, which: Sequence[int], lengths: dict[int, int]) -> tuple[list[int], list[int], str]:
        """(those whose prefixes can be shared, those that are batched plainly, why)."""
        if not which:
            return [], [], ""
        ability = self.room.ability
        if ability.reason:
            return [], list(which), self._notice(f"plain batching: {ability.reason}")
        most = ability.most_tokens
        if most is None or all(lengths[at] <= most for at in which):
            return list(which), [], ""
        why = f"plain batching of what is longer than {most} tokens: from there on all positions are rotated again"
        short, long = ([at for at in which if (lengths[at] <= most) is fits] for fits in (True, False))
        return short, long, self._notice(why)

    def _told(self, what: str) -> Stage:
        """A bar of the tokens that are computed; with `latency`, where items are counted, one that nobody sees."""
        if self.latency:
            return Stage(Console(), what, 0, "tokens")
        return bar(what, 0, "tokens", told=False)

    @contextlib.contextmanager
    def _ready(self) -> Iterator[None]:
        """For the length of the block, the model takes passes over a trie."""
        with tree_attention(self.core), self.cast():
            yield

    def cast(self) -> Tensor:
        """The context in which HFLM computes if it is given mixed precision."""
        import torch

        dtype = self.hflm.mixed_precision_dtype
        return torch.autocast(device_type=self.hflm.device.type, dtype=dtype, enabled=dtype is not None)


def _timed(batches: Iterator[list[tuple[int, float, bool]]], begun: float | None) -> Iterator[tuple[int, ScoreAnswer]]:
    """Each batch's answers with the time that it took, shared out among them. begun: see `SharedPrefix._score`."""
    started = time.perf_counter()
    for batch in batches:
        if batch:
            now = time.perf_counter()
            waited_ms, share_ms = (now - (begun or started)) * 1000, (now - started) * 1000 / len(batch)
            for at, total, greedy in batch:
                yield at, ScoreAnswer(total, greedy, waited_ms, share_ms)
            started = time.perf_counter()
