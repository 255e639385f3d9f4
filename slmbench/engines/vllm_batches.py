"""Batches for vLLM, as lm-eval's backend asks for them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from slmbench.console import phase
from slmbench.engines.generation_config import end_ids, surprises_of
from slmbench.engines.protocol import ScoreAnswer, ScoreRequest, WriteAnswer, WriteRequest
from slmbench.engines.requests import Wanted, check_prompt, name_of, wanted_by
from slmbench.engines.sampling import stream_of
from slmbench.engines.vllm_lm import RANKS, Finished, max_lora_rank, vllm_class
from slmbench.errors import EngineError, UsageError
from slmbench.models import LoadedModel, LoraShape, ModelApart
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from lm_eval.models.vllm_causallms import VLLM

DEFAULT_TOKENS = 256
"""Of a text at most, if nothing is said: lm-eval's."""


class Started:
    """A vLLM with a base's weights, for all that is asked of it and of its adapters.

    room: for adapters' ranks and modules; rank 0 if none is to be asked for.
    """

    def __init__(self, lm: VLLM, room: LoraShape) -> None:
        self.lm: Any = lm
        self.room = room
        self._requests: dict[str, Any] = {}

    def use(self, loaded: LoadedModel) -> Any:
        """lm-eval's object, asking for a model's adapter from now on."""
        self.lm.tokenizer = loaded.tokenizer
        self.lm.lora_request = None if loaded.adapter is None else self._request(loaded)
        return self.lm

    def _request(self, loaded: LoadedModel) -> Any:
        from vllm.lora.request import LoRARequest

        info = loaded.adapter
        assert info is not None
        if info.sha256 not in self._requests:
            # vLLM knows adapters apart by name and by number, and keeps what it has read.
            number, folder = len(self._requests) + 1, os.path.abspath(info.folder)
            self._requests[info.sha256] = LoRARequest(f"{info.name}-{info.sha256[:12]}", number, folder)
        return self._requests[info.sha256]

    def close(self) -> None:
        """Ends vLLM's process, which gives the GPU's memory back."""
        core = getattr(self.lm.model.llm_engine, "engine_core", None)
        self.lm.model = None
        if core is not None:
            core.shutdown()


class VLLMBatches:
    """An engine: so many requests at a time go to vLLM, which computes them in the order and batches that it likes.

    loaded: of `load_apart`, perhaps with an adapter. vLLM is started by the first request, and stays with the model.
    seed: of drawn texts. Raises UsageError for a model that is in memory.
    """

    def __init__(self, loaded: LoadedModel, rows: int, seed: int) -> None:
        if not isinstance(loaded.model, ModelApart):
            raise UsageError(
                f"{loaded.source.name!r} is in memory, and vLLM reads a model's files itself; give its name, folder or "
                "hub id, or take --engine shared"
            )
        self.loaded = loaded
        self.apart: ModelApart = loaded.model
        self.rows = rows
        self.seed = seed
        self.computed_rows: int | None = None

    @property
    def window(self) -> int:
        """How many tokens vLLM holds of a text at most: as many as the model, as lm-eval finds it."""
        from lm_eval.models.utils import resolve_max_length

        return int(resolve_max_length(self.apart.config, self.loaded.tokenizer))

    @property
    def max_length(self) -> int:
        """Two tokens less: vLLM reads a scored text's last token, too, and writes one more behind it."""
        return self.window - 2

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has embeddings of; None if it doesn't say."""
        return getattr(self.apart.get_input_embeddings(), "num_embeddings", None)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreAnswer]]:
        """(index of a request, its answer), so many at a time."""
        lm = self._started()
        for low in range(0, len(requests), self.rows):
            batch = requests[low : low + self.rows]
            asked = [(None, list(one.context), list(one.continuation)) for one in batch]
            started = time.perf_counter()
            answers = self._asked(batch, lambda asked=asked: lm._loglikelihood_tokens(asked, disable_tqdm=True))
            took_ms = (time.perf_counter() - started) * 1000
            for at, (loglikelihood, greedy) in enumerate(answers, low):
                yield at, ScoreAnswer(float(loglikelihood), bool(greedy), took_ms, took_ms / len(batch))

    def write(self, requests: Sequence[WriteRequest]) -> Iterator[tuple[int, WriteAnswer]]:
        """(index of a request, its answer), so many at a time."""
        wanted = [self._wanted(one) for one in requests]
        prompts = [
            list(one.prompt[-check_prompt(one, how.most_tokens, self) :])
            for one, how in zip(requests, wanted, strict=True)
        ]
        lm = self._started()
        for low in range(0, len(requests), self.rows):
            places = range(low, min(low + self.rows, len(requests)))
            started = time.perf_counter()
            written = self._written(
                lm, [requests[at] for at in places], [prompts[at] for at in places], [wanted[at] for at in places]
            )
            took_ms = (time.perf_counter() - started) * 1000
            for at, (text, ended) in zip(places, written, strict=True):
                reason = self._reason(requests[at], ended)
                yield at, WriteAnswer(text, len(ended.tokens), reason, took_ms, took_ms / len(places))

    def _written(
        self, lm: Any, batch: Sequence[WriteRequest], prompts: Sequence[list[int]], wanted: Sequence[Wanted]
    ) -> list[tuple[str, Finished]]:
        """Each request's text, and how it ended; one call of lm-eval's."""
        from lm_eval.api.instance import Instance

        # By number, as two tasks may have one text, cut for each to what it leaves room for.
        names = [f"{at:09}" for at in range(len(batch))]
        asked = [
            Instance("generate_until", {}, (name, self._kwargs(one, how)), 0)
            for name, one, how in zip(names, batch, wanted, strict=True)
        ]
        lm.given = dict(zip(names, prompts, strict=True))
        lm.finished = []
        try:
            texts = self._asked(batch, lambda: lm.generate_until(asked, disable_tqdm=True))
        finally:
            lm.given = {}
        # lm-eval gives texts in the order in which they were asked for, and equal prompts keep theirs in a batch.
        of_prompt: dict[tuple[int, ...], list[Finished]] = {}
        for ended in reversed(lm.finished):
            of_prompt.setdefault(ended.prompt, []).append(ended)
        return [(text, of_prompt[tuple(prompt)].pop()) for prompt, text in zip(prompts, texts, strict=True)]

    def _wanted(self, request: WriteRequest) -> Wanted:
        where, surprises = name_of(request.item), surprises_of(self.apart.generation_config, drawn=True)
        wanted = wanted_by(where, request.kwargs, None, DEFAULT_TOKENS, surprises)
        if wanted.plain:
            raise UsageError(f"{where}: {wanted.plain}, which vLLM isn't asked for; take --engine hf")
        return wanted

    def _kwargs(self, request: WriteRequest, wanted: Wanted) -> JsonObject:
        """lm-eval's generation kwargs; what is none of its own is handed on to vLLM's SamplingParams."""
        tokenizer = self.loaded.tokenizer
        special = {tokenizer.decode([one]): one for one in tokenizer.all_special_ids}
        ends = {*end_ids(self.apart, tokenizer), *(special[stop] for stop in wanted.stops if stop in special)}
        made: JsonObject = {name: int(value) if name == "top_k" else value for name, value in wanted.settings.warpers}
        made |= {
            "until": [stop for stop in wanted.stops if stop not in special],
            "max_gen_toks": wanted.most_tokens,
            "do_sample": wanted.settings.sampled,
            "stop_token_ids": sorted(ends),
            # As in HFLM's texts. A stop that is a special token is told as that.
            "skip_special_tokens": True,
        }
        if wanted.settings.sampled:
            made.setdefault("temperature", 1.0)
            stream = stream_of(self.seed, str(request.item[1]), request.text, request.sample)
            made["seed"] = stream.getrandbits(31)
        return made

    def _reason(self, request: WriteRequest, ended: Finished) -> str:
        if ended.reason == "length":
            return "length"
        if ended.reason != "stop":  # As abort: what there is of the text is no answer.
            raise EngineError(
                f"{name_of(request.item)}: vLLM gave its text up after {len(ended.tokens)} tokens ({ended.reason}); "
                "answers before it are kept, and the same command goes on from there"
            )
        if isinstance(ended.stopped_at, str):
            return "stop"
        ends = end_ids(self.apart, self.loaded.tokenizer)
        return "eos" if ended.stopped_at is None or ended.stopped_at in ends else "stop"

    def _asked(self, batch: Sequence[ScoreRequest] | Sequence[WriteRequest], ask: Any) -> Any:
        """What lm-eval gives. Raises EngineError for whatever vLLM raises."""
        try:
            return ask()
        except Exception as error:
            raise EngineError(
                f"vLLM stopped at {len(batch)} requests from {name_of(batch[0].item)} on: {_said(error)}; answers "
                "before them are kept, and the same command goes on from there; fewer at once may help (--batch N)"
            ) from error

    def _started(self) -> Any:
        loras = self.apart.loras
        asked = LoraShape(max((one.rank for one in loras), default=0), frozenset().union(*(s.targets for s in loras)))
        reader = self.apart.reader
        fits = isinstance(reader, Started) and asked.rank <= reader.room.rank and asked.targets <= reader.room.targets
        if not isinstance(reader, Started) or not fits:
            self.apart.close()
            reader = self.apart.reader = self._start(asked)
        return reader.use(self.loaded)

    def _start(self, room: LoraShape) -> Started:
        rank = room.rank
        if rank > RANKS[-1]:
            raise UsageError(
                f"an adapter of rank {rank}: vLLM takes {RANKS[-1]} at most; take --engine shared, or merge it into "
                "its base (`slmbench export --to merged`)"
            )
        lora: JsonObject = {}
        if rank:
            lora = {"enable_lora": True, "max_lora_rank": max_lora_rank([rank])}
            # Otherwise the head has room for one, too, and on a CPU vLLM 0.32 fails there where prompts are scored.
            lora["lora_target_modules"] = sorted(room.targets)
        with phase(f"starting vLLM with {self.loaded.source.name}"):
            try:
                lm = vllm_class()(
                    pretrained=self.apart.folder,
                    dtype=self.loaded.dtype,
                    trust_remote_code=self.loaded.source.remote_code,
                    max_model_len=self.window,
                    seed=self.seed,
                    batch_size=self.rows,
                    # Nothing of the model's file changes which token comes next; EOS are told with each request.
                    generation_config="vllm",
                    **lora,
                )
            except Exception as error:
                raise EngineError(
                    f"vLLM {metadata.version('vllm')} doesn't start with {self.loaded.source.name!r} in "
                    f"{self.loaded.dtype}, {self.window} tokens long: {_said(error)}; what it wrote above says more. "
                    "--engine shared does without it"
                ) from error
        return Started(lm, room)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
