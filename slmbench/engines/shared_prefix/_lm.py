"""The engine behind lm-eval's own class: texts in, as HFLM takes and encodes them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from slmbench.engines.hflm import hflm_class
from slmbench.engines.protocol import ScoreRequest, WriteRequest
from slmbench.engines.requests import check_pair, item_of, name_of, repeats_of
from slmbench.engines.shared_prefix._engine import SharedPrefix
from slmbench.errors import DataError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

RECENT = 8
"""How many strings' ids are remembered."""
Scores = list[tuple[float, bool]]
_Encoded = tuple[tuple[str, str] | None, list[int], list[int]]


@lru_cache(maxsize=1)
def shared_prefix_class() -> type[HFLM]:
    """`SharedPrefixLM`; made when it is first asked for, as lm_eval and torch take seconds to import."""

    Base: Any = hflm_class()

    class SharedPrefixLM(Base):
        """HFLM's answers, sooner: what requests share is computed once, and the head runs on scored positions alone.

        Takes what HFLM takes; `batch_size` says how much memory may be used: as much as HFLM would use with it, and
        `auto` finds it from what is free. kv_budget_bytes, seed, latency: see `engine`, which computes.
        """

        def __init__(
            self,
            pretrained: object,
            *args: object,
            kv_budget_bytes: float | None = None,
            seed: int = 0,
            latency: bool = False,
            **kwargs: object,
        ) -> None:
            self.recent: dict[tuple[object, ...], list[int]] = {}
            """What `tok_encode` was asked last, and the ids."""
            super().__init__(pretrained, *args, **kwargs)
            self.engine = SharedPrefix(self, kv_budget_bytes=kv_budget_bytes, seed=int(seed), latency=bool(latency))

        def tok_encode(
            self,
            string: str,
            add_special_tokens: bool | None = None,
            left_truncate_len: int | None = None,
            **kwargs: object,
        ) -> list[int]:
            """As HFLM's, which looks for BOS at the beginning even if a tokenizer has neither BOS nor EOS.

            A context comes again with each of its choices, so that the last few strings are remembered.
            """
            if kwargs or string in self.given:
                return list(super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs))
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

        def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> Scores:
            """As HFLM's. Raises DataError, which names the request, if HFLM fails without a word on which it was."""
            if requests and self.enable_thinking:
                return list(super().loglikelihood(requests, disable_tqdm=disable_tqdm))  # Raises: it can't be scored.
            return self._scores(self.encoded_pairs(requests), [one.args for one in requests])

        def encoded_pairs(self, requests: list[Instance]) -> list[ScoreRequest]:
            """The token ids of each request. Raises DataError for one that can't be scored."""
            found: list[ScoreRequest] = []
            for request in requests:
                context, continuation = request.args
                if context == "":
                    ids, rest = self._without_context(name_of(item_of(request)), continuation)
                else:
                    ids, rest = self._encode_pair(context, continuation)
                check_pair(name_of(item_of(request)), ids, rest, self.max_length, self.engine.vocabulary)
                found.append(ScoreRequest(item_of(request), ids, rest))
            return found

        def _without_context(self, where: str, continuation: str) -> tuple[list[int], list[int]]:
            first = self.prefix_token_id
            if first is None:
                raise DataError(
                    f"{where}: its context is empty, and this tokenizer has neither BOS nor EOS for its place"
                )
            ids = self.tok_encode(continuation, add_special_tokens=False)
            return (ids[:1], ids[1:]) if ids[:1] == [first] else ([first], ids)

        def _loglikelihood_tokens(
            self,
            requests: list[_Encoded],
            disable_tqdm: bool = False,
            override_bs: int | None = None,
        ) -> Scores:
            """As HFLM's. requests: (texts, None for a window of one; context ids; continuation ids)."""
            pairs = [ScoreRequest(("", 0), context, continuation) for _, context, continuation in requests]
            return self._scores(pairs, [texts for texts, _, _ in requests])

        def _scores(self, pairs: list[ScoreRequest], texts: list[tuple[str, str] | None]) -> Scores:
            found: dict[int, tuple[float, bool]] = {}
            for at, answer in self.engine.score(pairs):
                found[at] = (answer.loglikelihood, answer.greedy)
                if texts[at] is not None:
                    self.cache_hook.add_partial("loglikelihood", texts[at], found[at])
            return [found[at] for at in range(len(pairs))]

        def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
            """As HFLM's, all windows of all texts together."""
            from lm_eval import utils

            windows: list[ScoreRequest] = []
            owners: list[int] = []
            for index, request in enumerate(requests):
                where = name_of(item_of(request))
                if self.prefix_token_id is None:
                    raise DataError(f"{where}: a text begins with BOS or EOS, and this tokenizer has neither")
                for window in utils.get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0]),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.max_length,
                    context_len=1,
                ):
                    context, continuation = utils.make_disjoint_window(window)
                    check_pair(where, context, continuation, self.max_length, self.engine.vocabulary)
                    windows.append(ScoreRequest(item_of(request), context, continuation))
                    owners.append(index)
            total = [0.0] * len(requests)
            for index, (found, _) in zip(owners, self._scores(windows, [None] * len(windows)), strict=True):
                total[index] += found
            for request, found in zip(requests, total, strict=True):
                self.cache_hook.add_partial("loglikelihood_rolling", request.args, found)
            return total

        def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
            """As HFLM's; a drawn text depends on seed, item, prompt and repeat alone. Raises as scoring does."""
            ids: dict[str, list[int]] = {}
            for text in (one.args[0] for one in requests):
                if text not in ids:
                    ids[text] = self.tok_batch_encode([text], truncation=self.truncation)[0][0].tolist()
            asked = [
                WriteRequest(item_of(one), one.args[0], ids[one.args[0]], one.args[1], sample)
                for one, sample in zip(requests, repeats_of(requests), strict=True)
            ]
            found: dict[int, str] = {}
            for at, answer in self.engine.write(asked):
                found[at] = answer.text
                self.cache_hook.add_partial("generate_until", requests[at].args, answer.text)
            return [found[at] for at in range(len(requests))]

    SharedPrefixLM.__module__ = "slmbench.evaluation.shared_prefix"
    SharedPrefixLM.__qualname__ = "SharedPrefixLM"
    return SharedPrefixLM
