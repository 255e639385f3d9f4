"""Plain batches, as lm-eval's HFLM makes and computes them, one after another."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from slmbench.engines.protocol import ScoreAnswer, ScoreRequest, WriteAnswer, WriteRequest
from slmbench.engines.requests import check_prompt, most_tokens
from slmbench.models import core_model

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

    from slmbench.engines.hflm import Ended


class PlainBatches:
    """An engine: HFLM computes each batch; which requests share one is what it would be with all requests at once.

    hflm: of `slmbench.engines.hflm.hflm_class`.
    """

    def __init__(self, hflm: HFLM) -> None:
        self.hflm: Any = hflm
        self.computed_rows: int | None = None

    @property
    def max_length(self) -> int:
        """The window, in tokens; of an encoder-decoder, the encoder's."""
        return int(self.hflm.max_length)

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has embeddings of; None if it doesn't say."""
        return getattr(core_model(self.hflm.model).get_input_embeddings(), "num_embeddings", None)

    def score(self, requests: Sequence[ScoreRequest], rows: int | None = None) -> Iterator[tuple[int, ScoreAnswer]]:
        """(index of a request, its answer), batch by batch. rows: of a batch; None for HFLM's own."""
        from lm_eval.models.huggingface import HFLM

        with self._batch_of(rows) as most:
            for batch in self._batches(requests, most):
                asked = [(None, list(requests[at].context), list(requests[at].continuation)) for at in batch]
                started = time.perf_counter()
                # HFLM's own, whatever a subclass of it makes of the name.
                answers = HFLM._loglikelihood_tokens(self.hflm, asked, disable_tqdm=True)
                took_ms = (time.perf_counter() - started) * 1000
                for at, (loglikelihood, greedy) in zip(batch, answers, strict=True):
                    yield at, ScoreAnswer(loglikelihood, greedy, took_ms, took_ms / len(batch))

    def write(self, requests: Sequence[WriteRequest], rows: int | None = None) -> Iterator[tuple[int, WriteAnswer]]:
        """(index of a request, its answer), batch by batch. rows: of a batch; None for HFLM's own."""
        seq2seq = self.hflm.backend == "seq2seq"
        for one in requests:
            check_prompt(one, 0 if seq2seq else most_tokens(one.kwargs, self.hflm.max_gen_toks), self)
        # As HFLM parts and sorts them: one set of kwargs after another, of each the longest prompts first.
        parted: dict[str, list[int]] = {}
        for at, one in enumerate(requests):
            parted.setdefault(json.dumps(one.kwargs, sort_keys=True, default=repr), []).append(at)
        with self._batch_of(rows) as most:
            for together in parted.values():
                together.sort(key=lambda at: (-len(requests[at].prompt), requests[at].text))
                for low in range(0, len(together), most):
                    batch = together[low : low + most]
                    started = time.perf_counter()
                    written = self._written([requests[at] for at in batch])
                    took_ms = (time.perf_counter() - started) * 1000
                    for at, (text, ended) in zip(batch, written, strict=True):
                        yield at, WriteAnswer(text, ended.tokens_out, ended.reason, took_ms, took_ms / len(batch))

    def _written(self, batch: Sequence[WriteRequest]) -> list[tuple[str, Ended]]:
        """Each request's text, and how it ended; one call of HFLM's own."""
        from lm_eval.api.instance import Instance
        from lm_eval.api.model import CacheHook
        from lm_eval.models.huggingface import HFLM

        asked = [Instance("generate_until", {}, (one.text, one.kwargs), 0) for one in batch]
        self.hflm.given = {one.text: list(one.prompt) for one in batch}
        self.hflm.ended = []
        # Whoever holds this engine hands the answers over.
        hook, self.hflm.cache_hook = self.hflm.cache_hook, CacheHook(None)
        try:
            texts = HFLM.generate_until(self.hflm, asked, disable_tqdm=True)
        finally:
            self.hflm.given, self.hflm.cache_hook = {}, hook
        # HFLM gives texts in the order in which they were asked for, and equal prompts keep theirs in a batch.
        of_prompt: dict[str, list[Ended]] = {}
        for ended in reversed(self.hflm.ended):
            of_prompt.setdefault(ended.text, []).append(ended)
        return [(text, of_prompt[one.text].pop()) for one, text in zip(batch, texts, strict=True)]

    @contextlib.contextmanager
    def _batch_of(self, rows: int | None) -> Iterator[int]:
        kept = self.hflm.batch_size_per_gpu
        self.hflm.batch_size_per_gpu = kept if rows is None else rows
        try:
            yield int(self.hflm.batch_size_per_gpu)
        finally:
            self.hflm.batch_size_per_gpu = kept

    def _batches(self, requests: Sequence[ScoreRequest], rows: int) -> Iterator[list[int]]:
        """The batches that HFLM would make: one row for what differs in its last token alone, the longest first."""
        by_row: dict[tuple[int, ...], list[int]] = {}
        shares = self.hflm.backend == "causal" and self.hflm.logits_cache
        for at, one in enumerate(requests):
            whole = (*one.context, *one.continuation)
            by_row.setdefault(whole[:-1] if shares else (at,), []).append(at)

        def place(which: list[int]) -> tuple[int, tuple[int, ...]]:
            longest = max((requests[at] for at in which), key=lambda one: len(one.continuation))
            whole = (*longest.context, *longest.continuation)
            return -len(whole), whole

        order = sorted(by_row.values(), key=place)
        for low in range(0, len(order), rows):
            yield [at for which in order[low : low + rows] for at in which]
