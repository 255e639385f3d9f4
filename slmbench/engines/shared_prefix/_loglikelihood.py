"""lm-eval's log-likelihood requests, answered over one trie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from slmbench.engines.hflm import HFLM
from slmbench.engines.requests import check_pair, name_of
from slmbench.engines.shared_prefix._encoder_decoder import score_pairs
from slmbench.engines.shared_prefix._passes import PrefixStore
from slmbench.engines.shared_prefix._scoring import score
from slmbench.errors import DataError

Pair = tuple[Any, list[int], list[int]]
"""(the request's texts, None for a window of one; context ids; continuation ids), as HFLM has them."""
Scored = tuple[float, bool]
PLAIN_BATCHES = 16
"""How many batches HFLM is given at a time: what it has computed is lost where it runs out of memory."""

RECENT = 8
"""How many strings' ids are remembered."""


class Loglikelihood(HFLM):
    """The part of `SharedPrefixLM` that scores."""

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Scored]:
        """As HFLM's. Raises DataError, which names the request, where HFLM fails without a word on which it was."""
        if requests and self.enable_thinking:
            return super().loglikelihood(requests, disable_tqdm=disable_tqdm)  # Raises: thinking can't be scored.
        pairs = self.encoded_pairs(requests)
        if not self.latency:
            return self._loglikelihood_tokens(pairs, disable_tqdm=disable_tqdm)
        return self._one_item_at_a_time(requests, pairs)

    def tok_encode(
        self: Any,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """As HFLM's, which looks for BOS at the beginning even where a tokenizer has neither BOS nor EOS.

        A context comes again with each of its choices, so that the last few strings are remembered.
        """
        if kwargs:
            return super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs)
        asked = (string, add_special_tokens, left_truncate_len)
        ids = self.recent.pop(asked, None)
        if ids is None and self.prefix_token_id is None and add_special_tokens is None:
            ids = self.tokenizer.encode(string)
            ids = ids[-left_truncate_len:] if left_truncate_len else ids
        elif ids is None:
            ids = super().tok_encode(string, add_special_tokens, left_truncate_len)
        self.recent[asked] = ids
        if len(self.recent) > RECENT:
            del self.recent[next(iter(self.recent))]
        return list(ids)

    def encoded_pairs(self, requests: Sequence[Any]) -> list[Pair]:
        """(texts, context ids, continuation ids) of each request. Raises DataError where one can't be scored."""
        found: list[Pair] = []
        for request in requests:
            context, continuation = request.args
            if context == "":
                context_ids, rest = self._without_context(name_of(request), continuation)
            else:
                context_ids, rest = self._encode_pair(context, continuation)
            check_pair(name_of(request), context_ids, rest, self.max_length, self.vocabulary)
            found.append(((context, continuation), context_ids, rest))
        return found

    def _without_context(self, where: str, continuation: str) -> tuple[list[int], list[int]]:
        first = self.prefix_token_id
        if first is None:
            raise DataError(f"{where}: its context is empty, and this tokenizer has neither BOS nor EOS for its place")
        ids = self.tok_encode(continuation, add_special_tokens=False)
        return (ids[:1], ids[1:]) if ids[:1] == [first] else ([first], ids)

    def _one_item_at_a_time(self, requests: Sequence[Any], pairs: list[Pair]) -> list[Scored]:
        items: dict[tuple[Any, Any], list[int]] = {}
        for index, request in enumerate(requests):
            items.setdefault((request.task_name, request.doc_id), []).append(index)
        found: dict[int, Scored] = {}
        for number, indices in enumerate(items.values()):
            if number == 0:
                with self.unheard():  # Warms up.
                    self._loglikelihood_tokens([pairs[index] for index in indices])
            with self.one_item():
                answers = self._loglikelihood_tokens([pairs[index] for index in indices])
            found.update(zip(indices, answers, strict=True))
        return [found[index] for index in range(len(pairs))]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """As HFLM's, all windows of all texts together."""
        from lm_eval import utils

        windows: list[Pair] = []
        owners: list[int] = []
        for index, request in enumerate(requests):
            if self.prefix_token_id is None:
                raise DataError(f"{name_of(request)}: a text begins with BOS or EOS, and this tokenizer has neither")
            for window in utils.get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            ):
                context, continuation = utils.make_disjoint_window(window)
                check_pair(name_of(request), context, continuation, self.max_length, self.vocabulary)
                windows.append((None, context, continuation))
                owners.append(index)
        total = [0.0] * len(requests)
        for index, (found, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            total[index] += found
        for request, found in zip(requests, total, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found)
        return total

    def _loglikelihood_tokens(
        self: Any, requests: list[Pair], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Scored]:
        found: dict[int, Scored] = {}
        longest = max((len(context) + len(rest) for _, context, rest in requests), default=0)

        def compute(left: Sequence[int], rows: int) -> Iterator[list[tuple[int, Scored]]]:
            if self.backend == "seq2seq":
                yield from self.timed(score_pairs(self, requests, left, rows))
                return
            shared, plain = self.parted(left, [len(context) + len(rest) - 1 for _, context, rest in requests])
            if shared:
                yield from self.timed(self._score(requests, shared, rows, longest))
            for low in range(0, len(plain), PLAIN_BATCHES * rows):
                part = plain[low : low + PLAIN_BATCHES * rows]
                answers = self._score_plainly([requests[at] for at in part], rows)
                yield list(zip(part, answers, strict=True))

        def take(index: int, answer: Scored) -> None:
            found[index] = answer
            if requests[index][0] is not None and self.timing is not None:
                self.cache_hook.add_partial("loglikelihood", requests[index][0], answer)

        self.halving.run(range(len(requests)), lambda halved: self.rows(longest, halved), compute, take)
        return [found[index] for index in range(len(requests))]

    def _score(
        self: Any, requests: Sequence[Pair], which: Sequence[int], rows: int, longest: int
    ) -> Iterator[list[tuple[int, Scored]]]:
        import numpy as np

        pairs = []
        for at in which:
            _, context, rest = requests[at]
            whole = np.array((context + rest)[-(self.max_length + 1) :], dtype=np.int32)
            pairs.append((whole[:-1], whole[len(whole) - len(rest) :]))
        tokens = self.pass_tokens(rows, longest)
        store = PrefixStore(self.context_tokens(rows, longest))
        with self.model_ready(), self.told("scoring") as told:
            for done in score(self.core, pairs, store, tokens, self.core.get_output_embeddings(), told):
                yield [(which[index], (total, greedy)) for index, total, greedy in done]

    def _score_plainly(self, requests: list[Pair], rows: int) -> list[Scored]:
        with self.batch_of(rows):
            return super()._loglikelihood_tokens(requests, disable_tqdm=True)
