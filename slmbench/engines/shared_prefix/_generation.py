"""lm-eval's generation requests, decoded beside each other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from slmbench.engines.generation_config import end_ids, surprises_of, tamed
from slmbench.engines.hflm import HFLM
from slmbench.engines.requests import Wanted, check_prompt, name_of, wanted_by
from slmbench.engines.sampling import Answer, Settings, stream_of
from slmbench.engines.shared_prefix._decoding import Decoder
from slmbench.errors import DataError
from slmbench.values import Tensor


class Generation(HFLM):
    """The part of `SharedPrefixLM` that writes texts."""

    timing: dict[str, Any] | None
    why_plain: str

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """As HFLM's, but that what the model's `generation_config.json` says doesn't change greedy texts.

        A drawn text depends on seed, prompt and repeat alone. Raises DataError, which names the request, where HFLM
        fails without a word on which it was; UsageError for a temperature with which nothing can be drawn.
        """
        eos: Any = None if self.eot_token_id is None else self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        surprises = surprises_of(self.core.generation_config)
        wanted = [wanted_by(name_of(one), one.args[1], eos, self.max_gen_toks, surprises) for one in requests]
        prompts = self._prompts(requests, wanted)
        repeats = self.repeats(requests)
        samples = [(one.task_name, one.doc_id, n) for one, n in zip(requests, repeats, strict=True)]
        found: dict[int, str] = {}

        def answer_of(at: int) -> Answer:
            stream = stream_of(self.seed, str(requests[at].doc_id), requests[at].args[0], repeats[at])
            return Answer(prompts[at], wanted[at].most_tokens, wanted[at].stops, wanted[at].settings, stream)

        def compute(left: Sequence[int], rows: int) -> Iterator[list[tuple[int, str]]]:
            lengths = [len(prompt) + how.most_tokens for prompt, how in zip(prompts, wanted, strict=True)]
            reasons = {at: why for at in left if (why := self._why_plain(wanted[at]))}
            shared, long = self.parted([at for at in left if at not in reasons], lengths)
            reasons |= dict.fromkeys(long, self.why_plain)
            if shared and self.latency:
                with self.unheard():  # Warms up.
                    list(self._write({shared[0]: answer_of(shared[0])}, samples, 1))
                for at in shared:
                    yield from self._write({at: answer_of(at)}, samples, 1)
            elif shared:
                yield from self._write({at: answer_of(at) for at in shared}, samples, rows)
            for why in dict.fromkeys(reasons.values()):
                self.why_plain = why
                plain = sorted(at for at in reasons if reasons[at] == why)
                yield from self._write_plainly(requests, wanted, repeats, plain, rows)

        def take(index: int, text: str) -> None:
            found[index] = text
            if self.timing is not None:
                self.cache_hook.add_partial("generate_until", requests[index].args, text)

        longest = max((len(prompt) + how.most_tokens for prompt, how in zip(prompts, wanted, strict=True)), default=0)
        self.halving.run(range(len(requests)), lambda halved: self.rows(longest, halved), compute, take)
        return [found[index] for index in range(len(requests))]

    def _prompts(self, requests: Sequence[Any], wanted: Sequence[Wanted]) -> list[Any]:
        """The token ids of each request's prompt, cut from the left as HFLM cuts them; int32 arrays."""
        import numpy as np

        known: dict[tuple[str, int], Any] = {}
        found = []
        for request, how in zip(requests, wanted, strict=True):
            room = self.max_length - (0 if self.backend == "seq2seq" else how.most_tokens)
            if room < 1:
                raise DataError(
                    f"{name_of(request)}: it asks for {how.most_tokens} tokens, and the model's window is "
                    f"{self.max_length}; lower max_gen_toks"
                )
            text = request.args[0]
            if (text, room) not in known:
                ids, _ = self.tok_batch_encode([text], left_truncate_len=room, truncation=self.truncation)
                known[text, room] = ids[0].numpy().astype(np.int32)
                check_prompt(name_of(request), known[text, room], self.vocabulary)
            found.append(known[text, room])
        return found

    def _why_plain(self, how: Wanted) -> str:
        if self.backend == "seq2seq":
            why = "an encoder-decoder writes its texts in plain batches"
        elif self.think_end_token is not None:
            why = "think_end_token is given"
        else:
            why = how.plain
        if not why:
            return ""
        text = f"plain batching of texts: {why}"
        self.notice(text)
        return text

    def _write(
        self: Any, answers: dict[int, Answer], samples: Sequence[tuple[str, Any, int]], rows: int
    ) -> Iterator[list[tuple[int, str]]]:
        from lm_eval.models.utils import postprocess_generated_text

        which, texts = list(answers), list(answers.values())
        longest = max(len(one.prompt) + one.most_tokens for one in texts)
        told = self.told("writing")
        decoder = Decoder(
            self.core,
            self.tokenizer,
            self.core.get_output_embeddings(),
            end_ids(self.core, self.tokenizer),
            batch=rows,
            most_rows=min(len(texts), self.decoded_rows()),
            most_tokens=self.pass_tokens(rows, longest),
            most_context_tokens=self.context_tokens(rows, longest),
            told=told,
        )
        with self.model_ready(), told:
            for index, latency_ms, share_ms in decoder.write(texts):
                answer = texts[index]
                text = postprocess_generated_text(self.tok_decode(answer.tokens), list(answer.stops), None)
                self.timing = {
                    "latency_ms": latency_ms,
                    "share_ms": share_ms,
                    "tokens_out": len(answer.tokens),
                    "finish_reason": answer.reason,
                    "which": samples[which[index]],
                }
                yield [(which[index], text)]
                self.timing = None

    def _write_plainly(
        self: Any,
        requests: Sequence[Any],
        wanted: Sequence[Wanted],
        repeats: Sequence[int],
        plain: Sequence[int],
        rows: int,
    ) -> Iterator[list[tuple[int, str]]]:
        """By HFLM: greedy texts a batch at a time, drawn ones one by one, as a batch would share its random numbers."""
        import torch

        # Of encoder-decoders all are plain, of others those whose own settings say so or that are too long.
        greedy = [at for at in plain if not wanted[at].settings.sampled]
        step = 1 if self.latency else rows
        # HFLM sorts by length; batches that are handed over one at a time have to be sorted before.
        greedy.sort(key=lambda at: -len(requests[at].args[0]))
        if plain and self.latency:
            with self.unheard(), self.batch_of(1), self._tamed(wanted[plain[0]].settings):
                super().generate_until([requests[plain[0]]], True)  # Warms up.
        for low in range(0, len(greedy), step):
            part = greedy[low : low + step]
            alone = self.one_item() if self.latency else contextlib.nullcontext()
            with alone, self.batch_of(step), self._tamed(wanted[part[0]].settings):
                texts = super().generate_until([requests[at] for at in part], True)
            yield list(zip(part, texts, strict=True))
        for at in (at for at in plain if wanted[at].settings.sampled):
            stream = stream_of(self.seed, str(requests[at].doc_id), requests[at].args[0], repeats[at])
            alone = self.one_item() if self.latency else contextlib.nullcontext()
            with alone, self.batch_of(1), self._tamed(wanted[at].settings), torch.random.fork_rng():
                torch.manual_seed(stream.getrandbits(63))
                (text,) = super().generate_until([requests[at]], True)
            yield [(at, text)]

    def _tamed(self, settings: Settings) -> Tensor:
        return tamed([self.model, self.core], sampled=settings.sampled)  # peft's wrapper has a config of its own.
