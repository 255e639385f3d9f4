"""The engine over llama.cpp: lm-eval's requests to its sequences, and what of a file doesn't fit told before."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import field, frozen

from slmbench.console import phase
from slmbench.engines.generation_config import end_ids, surprises_of
from slmbench.engines.llamacpp_parts._library import Sequences, Weights
from slmbench.engines.llamacpp_parts._probe import repacks
from slmbench.engines.llamacpp_parts._scoring import BRANCHES, PrefixScorer, grouped
from slmbench.engines.llamacpp_parts._writing import Writer
from slmbench.engines.protocol import Item, ScoreAnswer, ScoreRequest, WriteAnswer, WriteRequest
from slmbench.engines.requests import Wanted, check_prompt, name_of, wanted_by
from slmbench.engines.sampling import Answer, stream_of
from slmbench.errors import EngineError, UsageError
from slmbench.files import disk_errors
from slmbench.machine import code_digest
from slmbench.models import LoadedModel, ModelApart, gguf_layout, write_gguf_lora
from slmbench.paths import cache_dir, shown
from slmbench.values import Tokenizer

DEFAULT_TOKENS = 256
"""Of a text at most, if nothing is said: lm-eval's."""
_STEP_CELLS = 256


@frozen(eq=False)
class LlamaStarted:
    """A file's weights in llama.cpp, and what is computed with them at the moment. load_s: seconds that they took."""

    weights: Weights
    load_s: float
    open: list[Sequences] = field(factory=list)

    def sequences(self, *, cells: int, sequences: int, shared: bool, adapter: Any) -> Sequences:
        """A context; the one before is closed."""
        self.close_sequences()
        made = Sequences(self.weights, cells=cells, sequences=sequences, shared=shared, adapter=adapter)
        self.open.append(made)
        return made

    def close_sequences(self) -> None:
        """Gives back what contexts take."""
        while self.open:
            self.open.pop().close()

    def close(self) -> None:
        """Gives all memory back."""
        self.close_sequences()
        self.weights.close()


class LlamaCpp:
    """An engine. loaded: of `load_gguf`, perhaps with an adapter. rows: texts that are written side by side.

    latency: one item after another, each alone and from its first token on. Weights are loaded by the first request,
    and stay with the model. Raises UsageError for a model that is no GGUF file.
    """

    def __init__(self, loaded: LoadedModel, rows: int, seed: int, *, latency: bool = False) -> None:
        apart = loaded.model
        if not isinstance(apart, ModelApart) or apart.file is None:
            raise UsageError(f"{loaded.source.name!r} is not a GGUF file, and llama.cpp reads nothing else")
        self.loaded, self.apart, self.file = loaded, apart, apart.file
        self.rows = 1 if latency else rows
        self.seed, self.latency = seed, latency

    @property
    def max_length(self) -> int:
        """The window, in tokens, as lm-eval finds it."""
        from lm_eval.models.utils import resolve_max_length

        return int(resolve_max_length(self.apart.config, self.loaded.tokenizer))

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has embeddings of."""
        return getattr(self.apart.get_input_embeddings(), "num_embeddings", None)

    @property
    def computed_rows(self) -> int | None:
        """Texts side by side."""
        return self.rows

    @property
    def load_s(self) -> float | None:
        """Seconds that the weights took to load; None before the first request."""
        return self.apart.reader.load_s if isinstance(self.apart.reader, LlamaStarted) else None

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreAnswer]]:
        """(index of a request, its answer), as contexts end. Too long contexts lose their beginning."""
        pairs = []
        for one in requests:
            whole = [*one.context, *one.continuation][-(self.max_length + 1) :]
            rest = len(one.continuation)
            pairs.append((whole[:-rest], whole[-rest:]))
        groups = grouped(pairs, range(len(pairs)))
        if not groups:
            return
        started = self._started()
        cells = max(group.cells for group in groups)
        sequences = started.sequences(
            cells=_rounded(cells), sequences=1 + BRANCHES, shared=True, adapter=self._adapter(started)
        )
        try:
            scorer = PrefixScorer(sequences)
            if self.latency:
                scorer.score(groups[0])  # Warms up.
            waited: dict[Item, float] = {}
            for group in groups:
                if self.latency:
                    scorer.forget()
                before = time.perf_counter()
                scores = self._told(requests[group.which[0]].item, lambda group=group: scorer.score(group))
                took_ms = (time.perf_counter() - before) * 1000
                for at, (total, greedy) in zip(group.which, scores, strict=True):
                    item = requests[at].item
                    waited.setdefault(item, 0.0)
                    waited[item] += took_ms / len(group.which) if self.latency else 0.0
                    ms = waited[item] if self.latency else took_ms
                    yield at, ScoreAnswer(total, greedy, ms, took_ms / len(group.which))
        finally:
            started.close_sequences()

    def write(self, requests: Sequence[WriteRequest]) -> Iterator[tuple[int, WriteAnswer]]:
        """(index of a request, its answer), as texts end, in an order in which neighbours begin alike."""
        from lm_eval.models.utils import postprocess_generated_text

        wanted = [self._wanted(one) for one in requests]
        answers = {at: self._answer(one, how) for at, (one, how) in enumerate(zip(requests, wanted, strict=True))}
        if not answers:
            return
        order = sorted(answers, key=lambda at: answers[at].prompt.tolist())
        tokenizer, started = self.loaded.tokenizer, self._started()
        sequences = started.sequences(
            cells=_rounded(max(len(one.prompt) + one.most_tokens for one in answers.values())),
            sequences=min(self.rows, len(answers)),
            shared=False,
            adapter=self._adapter(started),
        )
        try:
            writer = Writer(sequences, end_ids(self.apart, tokenizer), tokenizer, alone=self.latency)
            if self.latency:
                list(writer.write({0: self._answer(requests[order[0]], wanted[order[0]])}))  # Warms up.
            done = writer.write({at: answers[at] for at in order})
            left = dict.fromkeys(order)
            while left:
                ended = self._told(requests[next(iter(left))].item, lambda: next(done))
                at, latency_ms, share_ms = ended
                del left[at]
                one = answers[at]
                read = tokenizer.decode(one.tokens, skip_special_tokens=True)
                text = postprocess_generated_text(read, list(one.stops), None)
                yield at, WriteAnswer(text, len(one.tokens), one.reason, latency_ms, share_ms)
        finally:
            started.close_sequences()

    def _wanted(self, request: WriteRequest) -> Wanted:
        where, tokenizer = name_of(request.item), self.loaded.tokenizer
        eos = None if tokenizer.eos_token_id is None else tokenizer.decode([tokenizer.eos_token_id])
        surprises = surprises_of(self.apart.generation_config, drawn=True)
        wanted = wanted_by(where, request.kwargs, eos, DEFAULT_TOKENS, surprises)
        if wanted.plain:
            raise UsageError(f"{where}: {wanted.plain}, which llama.cpp isn't asked for; take --engine hf")
        return wanted

    def _answer(self, request: WriteRequest, how: Wanted) -> Answer:
        import numpy as np

        room = check_prompt(request, how.most_tokens, self)
        stream = stream_of(self.seed, str(request.item[1]), request.text, request.sample)
        prompt = np.array(request.prompt[-room:], dtype=np.int32)
        return Answer(prompt, how.most_tokens, how.stops, how.settings, stream)

    def _told(self, item: Item, compute: Any) -> Any:
        """What is computed; an error names whose it was. Raises EngineError."""
        try:
            return compute()
        except EngineError as error:
            raise EngineError(
                f"from {name_of(item)} on: {error}; answers before it are kept, and the same command goes on from there"
            ) from error

    def _adapter(self, started: LlamaStarted) -> Any:
        if self.loaded.adapter is None:
            return None
        file = _adapter_file(self.loaded, self.file)
        try:
            return started.weights.adapter(file)
        except EngineError:  # Perhaps it was damaged since.
            os.unlink(file)
            return started.weights.adapter(_adapter_file(self.loaded, self.file))

    def _started(self) -> LlamaStarted:
        if not isinstance(self.apart.reader, LlamaStarted):
            repack = repacks(self.file)
            with phase(f"loading {self.loaded.source.name} into llama.cpp"):
                before = time.perf_counter()
                weights = Weights(self.file, repack=repack)
                self.apart.reader = LlamaStarted(weights, time.perf_counter() - before)
            try:
                _check(weights, self.loaded)
            except BaseException:
                self.apart.close()
                raise
        reader = self.apart.reader
        assert isinstance(reader, LlamaStarted)
        return reader


def _adapter_file(loaded: LoadedModel, file: str) -> str:
    """An adapter as llama.cpp reads it, in the cache; written where it is missing. Raises UsageError, SlmbenchError."""
    assert loaded.adapter is not None
    # With the code: what a mend of it writes otherwise isn't read from before.
    name = f"{loaded.adapter.sha256[:16]}-{loaded.weights_sha256[:16]}-{code_digest()[:8]}.gguf"
    place = os.path.join(cache_dir(), "gguf-lora", name)
    if not os.path.isfile(place):
        with disk_errors(place):
            os.makedirs(os.path.dirname(place), exist_ok=True)
        write_gguf_lora(loaded.adapter, gguf_layout(file), place)
    return place


def _rounded(cells: int) -> int:
    return -(-(cells + 1) // _STEP_CELLS) * _STEP_CELLS


def _check(weights: Weights, loaded: LoadedModel) -> None:
    """Raises UsageError for a file whose tokens aren't the tokenizer's, or whose texts can't be gone back in."""
    where = shown(weights.path)
    if not weights.is_plain_decoder():
        raise UsageError(
            f"{where}: it has an encoder, or states that run on from token to token, which isn't computed so; "
            "take --engine shared"
        )
    check_tokens(where, weights.token_texts(), loaded.tokenizer)


def check_tokens(where: str, theirs: Sequence[str], tokenizer: Tokenizer) -> None:
    """Raises UsageError if a tokenizer's ids aren't those of a file. theirs: each token of the file, by id."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    ours = {token: text for text, token in vocabulary.items()}
    # A file may have unused tokens behind the last, up to the embeddings' size, and none in the tokenizer's place.
    odd = [token for token, text in ours.items() if token >= len(theirs) or theirs[token] != text]
    # Special tokens may be spelt otherwise in one of the two; transformers gives a file that names no BOS or UNK one
    # behind its last token, which no prompt of ours has.
    added = getattr(tokenizer, "added_tokens_decoder", {})
    odd = sorted(set(odd) - {*tokenizer.all_special_ids, *(token for token, one in added.items() if one.special)})
    if odd:
        first = odd[0]
        there = repr(theirs[first]) if first < len(theirs) else f"none, as it has {len(theirs):,}"
        raise UsageError(
            f"{where}: its tokens are not the tokenizer's: {len(odd):,} differ, such as {first}, which is "
            f"{ours[first]!r} to the tokenizer and {there} in the file; give the file that was made of this model, or "
            "the tokenizer that it was made with"
        )
