"""An engine in a file: one request after another, in plain transformers, no padding and nothing shared."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import slmbench
from slmbench.engines.protocol import ScoreAnswer, ScoreRequest, WriteAnswer, WriteRequest
from slmbench.engines.requests import check_prompt, name_of, wanted_by


@slmbench.engine("one_by_one", summary="One request after another, in plain transformers; greedy.", version="1")
def one_by_one(loaded, options, seed):
    """The engine over a causal model of transformers."""
    if loaded.architecture != "causal":
        raise ValueError("it computes causal models alone; take --engine shared for an encoder-decoder")
    return OneByOne(loaded.model, loaded.tokenizer)


class OneByOne:
    """Scores and writes without batches."""

    computed_rows = 1

    def __init__(self, model, tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.max_length = model.config.max_position_embeddings
        self.vocabulary = model.get_input_embeddings().num_embeddings

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreAnswer]]:
        """(index, log-likelihood of the continuation)."""
        import torch

        for at, one in enumerate(requests):
            begun = time.perf_counter()
            # The last token is never read; what is too long loses its beginning.
            ids = [*one.context, *one.continuation][-self.max_length - 1 :]
            rest = torch.tensor(ids[-len(one.continuation) :])
            with torch.no_grad():
                logits = self.model(torch.tensor([ids[:-1]])).logits[0, -len(rest) :]  # (continuation, vocab)
            logged = torch.log_softmax(logits.float(), dim=-1)
            total = float(logged.gather(1, rest[:, None]).double().sum())
            took_ms = (time.perf_counter() - begun) * 1000
            yield at, ScoreAnswer(total, bool((logged.argmax(dim=-1) == rest).all()), took_ms, took_ms)

    def write(self, requests: Sequence[WriteRequest]) -> Iterator[tuple[int, WriteAnswer]]:
        """(index, the likeliest text)."""
        import torch

        for at, one in enumerate(requests):
            begun = time.perf_counter()
            wanted = wanted_by(name_of(one.item), one.kwargs, self.tokenizer.eos_token, 256, {})
            if wanted.settings.sampled:
                raise ValueError("it draws no tokens; ask for the likeliest ones")
            ids = list(one.prompt[-check_prompt(one, wanted.most_tokens, self) :])
            start, text, reason = len(ids), "", "length"
            while reason == "length" and len(ids) - start < wanted.most_tokens:
                with torch.no_grad():
                    ids.append(int(self.model(torch.tensor([ids])).logits[0, -1].argmax()))
                text = self.tokenizer.decode(ids[start:], skip_special_tokens=True)
                ends = [text.index(stop) for stop in wanted.stops if stop in text]
                if ids[-1] == self.tokenizer.eos_token_id:
                    reason = "eos"
                elif ends:
                    text, reason = text[: min(ends)], "stop"
            took_ms = (time.perf_counter() - begun) * 1000
            yield at, WriteAnswer(text, len(ids) - start, reason, took_ms, took_ms)
