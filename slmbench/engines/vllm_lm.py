"""lm-eval's VLLM, held to what it is asked: ids that are given, texts as HFLM reads them, an adapter for each call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lm_eval.models.vllm_causallms import VLLM

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for `max_lora_rank`."""


class Finished(NamedTuple):
    """How vLLM ended a text. prompt: its ids. tokens: what was written. stopped_at: a token or text of those that were
    to end it; None for the tokenizer's EOS.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    reason: str
    stopped_at: int | str | None


def max_lora_rank(ranks: Sequence[int]) -> int:
    """The smallest that vLLM takes of those that hold all these ranks. Raises ValueError if none does."""
    largest = max(ranks)
    for allowed in RANKS:
        if largest <= allowed:
            return allowed
    raise ValueError(f"rank {largest} is above vLLM's largest, {RANKS[-1]}")


@lru_cache(maxsize=1)
def vllm_class() -> type[VLLM]:
    """`GivenVLLM`; made when it is first asked for, as vLLM takes seconds to import."""
    import logging

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.models.vllm_causallms import VLLM

    class GivenVLLM(VLLM):
        """VLLM; texts whose ids are in `given` are sent as these, and `finished` tells how each text ended.

        lora_request: the adapter of what is asked from now on, None for the base alone.
        """

        def __init__(self, *args: object, **kwargs: object) -> None:
            self.given: dict[str, list[int]] = {}
            self.finished: list[Finished] = []
            super().__init__(*args, **kwargs)

        def tok_encode(self, string: Any, *args: object, **kwargs: object) -> Any:
            """The ids that were given for a text, or for each of several. Raises KeyError for another one."""
            if isinstance(string, str):
                return self.given[string]
            return [self.given[one] for one in string]

        def _model_generate(
            self, requests: list[list[int]], generate: bool = False, sampling_params: Any = None
        ) -> list[Any]:
            outputs: list[Any] = super()._model_generate(requests, generate, sampling_params)
            for prompt, output in zip(requests, outputs, strict=True) if generate else ():
                (made,) = output.outputs
                ids = tuple(made.token_ids)
                ended = Finished(tuple(prompt), ids, made.finish_reason, made.stop_reason)
                self.finished.append(ended)
                # vLLM reads ids behind the prompt, and a tokenizer of sentencepiece's then writes a blank before them.
                kept = ids[:-1] if ended.reason == "stop" and not isinstance(ended.stopped_at, str) else ids
                made.text = self.tokenizer.decode(list(kept), skip_special_tokens=True)
            return outputs

    return GivenVLLM
