"""lm-eval's `hf` backend, with what it computes over and over computed once."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from slmbench.console import Console, Stage, bar
from slmbench.engines.requests import repeats_of
from slmbench.engines.shared_prefix._attention import tree_attention
from slmbench.engines.shared_prefix._generation import Generation
from slmbench.engines.shared_prefix._loglikelihood import Loglikelihood
from slmbench.engines.shared_prefix._memory import (
    DECODED_ROWS_CPU,
    DECODED_ROWS_GPU,
    PASS_TOKENS_CPU,
    PASS_TOKENS_GPU,
    Halving,
    automatic_batch,
)
from slmbench.engines.shared_prefix._probe import Ability, ability_of
from slmbench.errors import UsageError
from slmbench.machine import Freed, treat_freed
from slmbench.models import core_model
from slmbench.values import Tensor


class SharedPrefix(Generation, Loglikelihood):
    """What `SharedPrefixLM` puts before HFLM. Its own state, and what scoring and generation have in common."""

    batch_size_per_gpu: int
    cache_hook: Any

    def __init__(
        self,
        pretrained: object,
        *args: object,
        kv_budget_bytes: float | None = None,
        seed: int = 0,
        latency: bool = False,
        **kwargs: object,
    ) -> None:
        # A half-precision log-softmax over a vocabulary loses a tenth of a nat in twenty tokens.
        kwargs.setdefault("softmax_dtype", "float32")
        self.recent: dict[tuple[Any, ...], list[int]] = {}
        """What `tok_encode` was asked last, and the ids."""
        super().__init__(pretrained, *args, **kwargs)
        if kv_budget_bytes is not None and not 0 <= kv_budget_bytes < math.inf:
            raise UsageError(f"kv_budget_bytes is {kv_budget_bytes}; give a number from 0 on")
        if self.on_cpu:
            treat_freed(Freed.KEPT)
        self.kv_budget_bytes = kv_budget_bytes
        self.seed = int(seed)
        self.latency = bool(latency)
        self.notices: list[str] = []
        # Of the answer that is being handed over: latency_ms, share_ms; of a text also tokens_out, finish_reason and
        # which: task, item, number of the sample. None where HFLM hands it over, and then `why_plain` says why.
        self.timing = None
        self.why_plain = ""
        self.item_begun: float | None = None
        """With `latency`, when the item that is being computed was begun."""
        self.halving = Halving()
        self.computed_rows: int | None = None
        self._tried: tuple[Any, Ability] | None = None

    @property
    def core(self) -> Tensor:
        """The model of transformers, without wrappers."""
        return core_model(self.model)

    @property
    def ability(self) -> Ability:
        """What this model can take, tried on it once; with another adapter it is tried again."""
        which = str(getattr(self.model, "active_adapters", None))
        if self._tried is None or self._tried[0] != which:
            self._tried = (which, ability_of(self.model))
        return self._tried[1]

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has embeddings of; None where it doesn't say."""
        return getattr(self.core.get_input_embeddings(), "num_embeddings", None)

    @property
    def on_cpu(self) -> bool:
        """Whether the model is in the machine's own memory."""
        return self.device.type == "cpu"

    def rows(self, longest: int, halved: int = 0) -> int:
        """How many rows of so many tokens HFLM would compute at once."""
        if self.batch_size == "auto":
            found = automatic_batch(self.core, longest, self.ability.token_bytes)
        else:
            found = int(self.batch_size)
        self.computed_rows = max(1, found >> halved)
        return self.computed_rows

    def pass_tokens(self, rows: int, longest: int) -> int:
        """How many tokens are computed in one pass."""
        most = PASS_TOKENS_CPU if self.on_cpu else PASS_TOKENS_GPU
        return max(1, min(rows * longest, most >> self.halving.times))

    def decoded_rows(self) -> int:
        """How many rows are decoded at once, at most."""
        return max(1, (DECODED_ROWS_CPU if self.on_cpu else DECODED_ROWS_GPU) >> self.halving.times)

    def context_tokens(self, rows: int, longest: int) -> int:
        """How many tokens' keys and values may be held for others to share."""
        if self.kv_budget_bytes is None:
            return rows * longest
        return int(self.kv_budget_bytes // max(1, self.ability.token_bytes))

    def notice(self, text: str) -> None:
        """Says once why requests are batched plainly."""
        self.why_plain = text
        if text not in self.notices:
            self.notices.append(text)
            warnings.warn(text, stacklevel=2)

    def repeats(self, requests: Sequence[object]) -> list[int]:
        """For each request, which sample of its item it is."""
        return repeats_of(requests)

    def parted(self, which: Sequence[int], lengths: Sequence[int]) -> tuple[list[int], list[int]]:
        """(those whose prefixes can be shared, those that are batched plainly); says why where there are such."""
        ability = self.ability
        if ability.reason and which:
            self.notice(f"plain batching: {ability.reason}")
        if ability.reason:
            return [], list(which)
        most = ability.most_tokens
        if most is None or all(lengths[at] <= most for at in which):
            return list(which), []
        self.notice(f"plain batching of what is longer than {most} tokens: from there on all positions are turned anew")
        return [at for at in which if lengths[at] <= most], [at for at in which if lengths[at] > most]

    def timed(self, batches: Iterator[list[tuple[int, Any]]]) -> Iterator[list[tuple[int, Any]]]:
        """The same lists; while one is handed over, `timing` says what it took, shared out among its answers."""
        started = time.perf_counter()
        for batch in batches:
            if batch:
                now = time.perf_counter()
                # An item that is computed alone may take several passes.
                waited = now - (started if self.item_begun is None else self.item_begun)
                self.timing = {"latency_ms": waited * 1000, "share_ms": (now - started) * 1000 / len(batch)}
                yield batch
                self.timing = None
                started = time.perf_counter()

    @contextlib.contextmanager
    def batch_of(self, rows: int) -> Iterator[None]:
        """For the length of the block, HFLM computes so many rows at once."""
        kept, self.batch_size_per_gpu = self.batch_size_per_gpu, rows
        try:
            yield
        finally:
            self.batch_size_per_gpu = kept

    @contextlib.contextmanager
    def one_item(self) -> Iterator[None]:
        """For the length of the block, what is computed is one item, and its latency counts from here on."""
        self.item_begun = time.perf_counter()
        try:
            yield
        finally:
            self.item_begun = None

    def told(self, what: str) -> Stage:
        """A bar of the tokens that are computed; with `latency`, where items are counted, one that nobody sees."""
        if self.latency:
            return Stage(Console(), what, 0, "tokens")
        return bar(what, 0, "tokens", told=False)

    @contextlib.contextmanager
    def unheard(self) -> Iterator[None]:
        """For the length of the block, answers are handed over to no one."""
        kept, self.cache_hook = self.cache_hook, _Deaf()
        try:
            yield
        finally:
            self.cache_hook = kept

    @contextlib.contextmanager
    def model_ready(self) -> Iterator[None]:
        """For the length of the block, the model takes passes over a trie."""
        with tree_attention(self.core), self.cast():
            yield

    def cast(self) -> Tensor:
        """The context in which HFLM computes where it is given mixed precision."""
        import torch

        return torch.autocast(
            device_type=self.device.type,
            dtype=self.mixed_precision_dtype,
            enabled=self.mixed_precision_dtype is not None,
        )


class _Deaf:
    def add_partial(self, *_: object) -> None:
        """Nobody listens."""


@lru_cache(maxsize=1)
def shared_prefix_class() -> type:
    """`SharedPrefixLM`; made when it is first asked for, as lm_eval and torch take seconds to import."""
    from lm_eval.models.huggingface import HFLM

    class SharedPrefixLM(SharedPrefix, HFLM):
        """HFLM's answers, sooner: what requests share is computed once, and the head runs on scored positions alone.

        Takes what HFLM takes; `batch_size` says how much memory may be used: as much as HFLM would use with it, and
        `auto` finds it from what is free. kv_budget_bytes: keys and values of shared prefixes that are held at most; by
        default as much as HFLM's own cache takes at this batch size. seed: of drawn tokens. latency: one item after
        another, each alone and from its first token on, so that its time is what a lone user waits.

        Models whose attention can't be given a mask of branches are batched plainly, by HFLM; `notices` says why.
        """

    SharedPrefixLM.__module__ = "slmbench.evaluation.shared_prefix"
    SharedPrefixLM.__qualname__ = "SharedPrefixLM"
    return SharedPrefixLM
