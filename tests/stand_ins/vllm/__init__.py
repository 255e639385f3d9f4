"""A stand-in for vLLM, which can't run here: what PyPI has is its CUDA build, and it pins other versions of packages.

It takes what vLLM 0.33 takes of what is asked of it in tests, and nothing else; it notes all of it in `started` and
`asked`, and answers with transformers and peft, as vLLM would: log-probabilities of a prompt's tokens and of the
likeliest one each, and texts that end at stop strings and stop tokens. That vLLM itself does so is not shown by it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypedDict

__version__ = "0.33.0"

started: list[dict[str, Any]] = []
"""What each LLM was made with."""
ended: list[str] = []
"""The models whose LLM was shut down."""
asked: list[tuple[Any, list[list[int]], list[SamplingParams]]] = []
"""(LoRA request, prompts, sampling parameters) of each call of `generate`."""


class TokensPrompt(TypedDict):
    """A prompt's ids."""

    prompt_token_ids: list[int]


@dataclass
class SamplingParams:
    """Those of vLLM's that are used here, with its defaults."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    max_tokens: int | None = 16
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True


class LLM:
    """A model of transformers in vLLM's place."""

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None,
        tokenizer_mode: str,
        trust_remote_code: bool,
        tensor_parallel_size: int,
        dtype: str,
        quantization: str | None,
        revision: str | None,
        tokenizer_revision: str | None,
        seed: int,
        max_model_len: int,
        max_num_seqs: int | None,
        enable_lora: bool,
        max_lora_rank: int,
        generation_config: str,
        lora_target_modules: list[str] | None = None,
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        started.append({name: value for name, value in locals().items() if name not in ("self", "torch")})
        if max_lora_rank not in (1, 8, 16, 32, 64, 128, 256, 320, 512):
            raise ValueError(f"max_lora_rank {max_lora_rank}")
        self.name, self.lora, self.most_rank, self.window = model, enable_lora, max_lora_rank, max_model_len
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype), local_files_only=True)
        self.model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        core = SimpleNamespace(shutdown=lambda: ended.append(model))
        self.llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(max_model_len=max_model_len, dtype=dtype), engine_core=core
        )

    def generate(
        self,
        prompts: Sequence[TokensPrompt],
        sampling_params: Sequence[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: Any = None,
    ) -> list[Any]:
        """Each prompt alone, one after another."""
        ids = [list(prompt["prompt_token_ids"]) for prompt in prompts]
        asked.append((lora_request, ids, list(sampling_params)))
        with self._with(lora_request) as model:
            return [self._one(model, one, how) for one, how in zip(ids, sampling_params, strict=True)]

    @contextlib.contextmanager
    def _with(self, request: Any) -> Iterator[Any]:
        if request is None:
            yield self.model
            return
        from peft import PeftModel

        if not self.lora:
            raise ValueError("LoRA is not enabled")
        model = PeftModel.from_pretrained(self.model, request.lora_path).eval()
        try:
            config = model.peft_config["default"]
            if config.r > self.most_rank:
                raise ValueError(f"LoRA rank {config.r} is greater than max_lora_rank {self.most_rank}.")
            yield model
        finally:
            model.unload()

    def _one(self, model: Any, prompt: list[int], how: SamplingParams) -> Any:
        import torch

        if len(prompt) + (how.max_tokens or 0) > self.window:
            raise ValueError(f"{len(prompt)} and {how.max_tokens} tokens are more than {self.window}")
        random = torch.Generator().manual_seed(how.seed or 0)
        written: list[int] = []
        reason, at = "length", None
        logprobs: list[dict[int, Any] | None] | None = None
        read, past = prompt, None
        with torch.no_grad():
            for _ in range(how.max_tokens or 0):
                out = model(input_ids=torch.tensor([read]), past_key_values=past, use_cache=True)
                logits, past = out.logits[0].float(), out.past_key_values  # (seq, vocab)
                if how.prompt_logprobs is not None and logprobs is None:
                    logprobs = self._prompt_logprobs(logits, prompt)
                written.append(self._next(logits[-1], how, random))
                read = written[-1:]
                text = self.tokenizer.decode(written, skip_special_tokens=how.skip_special_tokens)
                if written[-1] == self.tokenizer.eos_token_id:
                    reason, at = "stop", None
                elif written[-1] in how.stop_token_ids:
                    reason, at = "stop", written[-1]
                elif found := [stop for stop in how.stop if how.detokenize and stop in text]:
                    reason, at = "stop", found[0]
                else:
                    continue
                break
        text = self.tokenizer.decode(written) if how.detokenize else ""
        made = SimpleNamespace(text=f" {text}", token_ids=written, finish_reason=reason, stop_reason=at)
        return SimpleNamespace(outputs=[made], prompt_logprobs=logprobs)

    @staticmethod
    def _prompt_logprobs(logits: Any, prompt: list[int]) -> list[dict[int, Any] | None]:
        of = logits.log_softmax(-1)  # (seq, vocab), float32
        found: list[dict[int, Any] | None] = [None]
        for place, token in enumerate(prompt[1:]):
            best = int(of[place].argmax())
            # The token's own first, as vLLM has it.
            found.append({one: SimpleNamespace(logprob=float(of[place, one])) for one in dict.fromkeys([token, best])})
        return found

    @staticmethod
    def _next(logits: Any, how: SamplingParams, random: Any) -> int:
        import torch

        if how.temperature == 0:
            return int(logits.argmax())
        scores = logits / how.temperature
        if how.top_k:
            scores[scores < scores.topk(how.top_k).values[-1]] = -torch.inf
        return int(torch.multinomial(scores.softmax(-1), 1, generator=random))
