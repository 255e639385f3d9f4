"""The engine of an evaluation: lm-eval's, with a journal, so that every finished request is on disk at once."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from attrs import frozen

from slmbench.console import advanced, bar
from slmbench.engines import engine_names, load_engine
from slmbench.engines.generation_config import end_ids, tamed
from slmbench.engines.hflm import HFLM
from slmbench.engines.requests import check_known, check_pair, name_of
from slmbench.errors import DataError, SlmbenchError, UsageError, did_you_mean
from slmbench.evaluation._seq2seq import decode, encoder_tokens, ties_left_alone
from slmbench.evaluation._waiting import Waiting, most_tokens, sample_key, tag
from slmbench.formats import Format, decoder_ids, pair_ids, prompt_ids
from slmbench.journal import Journal
from slmbench.models import LoadedModel, core_model, tokenizer_sha256
from slmbench.values import JsonObject

AUTO = "auto"
Encoded = dict[tuple[str, str], tuple[list[int], list[int]]]
"""(context, continuation) -> the token ids of both."""
_VERBS = {"loglikelihood": "scoring", "generate_until": "writing"}
HF_BATCH = 32
"""What `auto` is for lm-eval's own engine, which would run its largest window some times over to find it."""


@frozen
class Engine:
    """How requests are computed. name: `shared`, ours, or `hf`, lm-eval's own.

    batch: how many rows' memory may be taken; `auto` for what is free. kv_budget_bytes: of shared prefixes, held at
    most; None for what plain batching's own cache would take. latency: one item after another, each alone.
    Raises UsageError for what doesn't go together.
    """

    name: str = "shared"
    batch: int | str = AUTO
    kv_budget_bytes: float | None = None
    latency: bool = False

    def __attrs_post_init__(self) -> None:
        if self.name not in (known := engine_names()):
            raise UsageError(f"no engine {self.name!r}{did_you_mean(self.name, known)}")
        if self.batch != AUTO and (type(self.batch) is not int or self.batch < 1):
            raise UsageError(f"batch is {self.batch!r}; give a number from 1 on, or auto")
        told = (("kv_budget", self.kv_budget_bytes is not None), ("latency", self.latency))
        given = [name for name, is_given in told if is_given]
        if given and not load_engine(self.name).facts.get("budgeted"):
            raise UsageError(
                f"{' and '.join(given)}: only the engine `shared` knows it; leave it out, or take that engine"
            )
        if self.kv_budget_bytes is not None and not 0 <= self.kv_budget_bytes < math.inf:
            raise UsageError(f"kv_budget is {self.kv_budget_bytes:g} bytes; give a number from 0 on")

    @property
    def rows(self) -> int | str:
        """The batch as the engine takes it."""
        return HF_BATCH if self.name == "hf" and self.batch == AUTO else self.batch

    @property
    def version(self) -> str:
        """Its name with the versions that its numbers depend on."""
        import lm_eval
        import torch
        import transformers

        libraries = f"lm-eval-{lm_eval.__version__}/transformers-{transformers.__version__}/torch-{torch.__version__}"
        return f"{self.name}/{libraries}"


def build_engine(
    loaded: LoadedModel,
    format: Format,
    engine: Engine = Engine(batch=1),
    *,
    journals: dict[str, Journal] | None = None,
    seed: int = 0,
    encoded: Encoded | None = None,
) -> Any:
    """An `lm_eval` HFLM over a loaded model. journals: task name -> its run's journal; answers found there are reused.

    encoded: token ids of requests, of engines with the same tokenizer and format; it is read and filled.
    """
    identity = {
        "model": loaded.weights_sha256,
        "config": loaded.config_sha256,
        "adapter": loaded.adapter.sha256 if loaded.adapter else None,
        "tokenizer": tokenizer_sha256(loaded.tokenizer),
        "dtype": loaded.dtype,
        "engine": engine.version,
        "seed": seed,
    }
    # Named only where they are: a journal that was begun without them goes on.
    if quantization := loaded.quantization:
        identity["quantization"] = quantization
    if loaded.architecture == "seq2seq":
        identity["encoder_tokens"] = encoder_tokens(loaded)
    options: dict[str, Any] = {"batch_size": engine.rows}
    if load_engine(engine.name).facts.get("budgeted"):
        options |= {"kv_budget_bytes": engine.kv_budget_bytes, "seed": seed, "latency": engine.latency}
    pairs: Encoded = {} if encoded is None else encoded
    return _engine_class(engine.name)(loaded, format, journals or {}, identity, pairs, options)


@lru_cache
def _engine_class(name: str) -> type:
    # Inside a function: lm_eval and torch take seconds to import, and listing tasks must not pay for them.
    import logging

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    Base = load_engine(name).function()
    return type(f"Journaled{Base.__name__}", (_Journaled, Base), {})


class _Journaled(HFLM):
    """What is put before HFLM or SharedPrefixLM: the format encodes prompts, and answers are journaled one by one."""

    def __init__(
        self,
        loaded: LoadedModel,
        format: Format,
        journals: dict[str, Journal],
        identity: JsonObject,
        encoded: Encoded,
        options: JsonObject,
    ) -> None:
        encoder_decoder = loaded.architecture == "seq2seq"
        with ties_left_alone(loaded.model):
            super().__init__(
                pretrained=loaded.model,
                backend="seq2seq" if encoder_decoder else "default",
                tokenizer=loaded.tokenizer,
                max_length=encoder_tokens(loaded) if encoder_decoder else None,
                # A half-precision log-softmax over a vocabulary loses a tenth of a nat in twenty tokens.
                softmax_dtype="float32",
                add_bos_token=format.special_tokens,
                **options,
            )
        self.format = format
        self.journals = journals
        self.identity = identity
        self.records: dict[str, dict[str, Any]] = {}
        self._told = bar("answers", 0, "tokens", told=False)
        self._waiting: dict[str, list[Waiting]] = defaultdict(list)
        self._keys: dict[str, tuple[str, dict[str, Any]]] = {}
        self._pairs = encoded
        self._prompt_ids = lru_cache(maxsize=64)(lambda text: tuple(prompt_ids(format, loaded.tokenizer, text)))
        self._repeats: list[int] = []
        self._generated: deque[dict[str, Any]] = deque()
        self._batch_ms, self._batch_rows = 0.0, 1
        self.cache_hook = self  # HFLM tells its cache hook of each answer as it comes.

    # The two ways in which HFLM encodes a prompt, both through the format's one function.
    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: Any
    ) -> list[int]:
        if add_special_tokens is None:
            ids = list(self._prompt_ids(string))
        else:
            ids = list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: Any,
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> Any:
        import torch

        rows = [self.tok_encode(string, left_truncate_len=left_truncate_len) for string in strings]
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        if self.backend == "seq2seq":
            # As in scoring: with learnt positions (BART), padding before a text would move it.
            padding_side = "right"
        ids = torch.full((len(rows), width), pad, dtype=torch.long)  # (batch, seq)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            where = slice(width - len(row), width) if padding_side == "left" else slice(0, len(row))
            ids[i, where] = torch.tensor(row)
            mask[i, where] = 1
        return ids, mask

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        # Asked for three times: for the journal's key, for the engine, for the record.
        if (context, continuation) not in self._pairs:
            self._pairs[context, continuation] = self._encoded(context, continuation)
        return self._pairs[context, continuation]

    def _encoded(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if self.backend == "seq2seq":
            # White space at the context's end stays there, as in generation: the decoder begins a text of its own.
            return prompt_ids(self.format, self.tokenizer, context), decoder_ids(self.tokenizer, continuation)
        if self.format.special_tokens is False:
            # A chat turn opens with a line break of the template's own. HFLM would move it over to the answer.
            return pair_ids(self.format, self.tokenizer, context, continuation)
        encoded: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
        return encoded

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        answers = self._answer(requests, "loglikelihood", super().loglikelihood)
        return [(answer["loglikelihood"], answer["greedy"]) for answer in answers]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        return [answer["text"] for answer in self._answer(requests, "generate_until", super().generate_until)]

    def _answer(self, requests: list[Any], kind: str, compute: Callable[..., Any]) -> list[JsonObject]:
        seen: dict[tuple[str, Any, str], int] = defaultdict(int)
        keys: list[tuple[str, str]] = []
        pending: list[Any] = []
        known: set[tuple[str, str]] = set()
        again = 0
        self._repeats = []
        for request in requests:
            content, facts = self._key(kind, request.args)
            self._check_tokens(kind, request)
            if kind == "loglikelihood":
                self._check_choice(request, facts["tokens_out"])
            # The same request of an item again is the next sample of it.
            epoch = seen[request.task_name, request.doc_id, content]
            seen[request.task_name, request.doc_id, content] += 1
            key = sample_key(content, request.args, request.doc_id, epoch)
            keys.append((request.task_name, key))
            journal = self.journals.get(request.task_name)
            if journal is not None and key in journal.entries:
                self._done(request.task_name, key, journal.entries[key])
            elif (request.task_name, key) in known:
                again += 1  # Another item asks the very same, and nothing is drawn: one answer serves both.
            else:
                known.add((request.task_name, key))
                pending.append(request)
                self._repeats.append(epoch)
                work = most_tokens(request.args, facts, self.max_gen_toks)
                waiting = Waiting(request.task_name, key, facts, epoch, request.doc_id, work)
                self._waiting[tag(kind, request.args)].append(waiting)
        if pending:
            total = sum(one.work for waiting in self._waiting.values() for one in waiting)
            with bar(_VERBS[kind], total, "tokens", told=False) as self._told:
                compute(pending, disable_tqdm=True)
        if again:
            advanced("answers", again)
        return [self.records[task + "\0" + key] for task, key in keys]

    def repeats(self, requests: list[Any]) -> list[int]:
        """Which sample of its item each pending request is, those counted that the journal had."""
        return self._repeats

    def _check_tokens(self, kind: str, request: Any) -> None:
        """Raises DataError for what the tokenizer knows and the model doesn't, before anything is computed."""
        context, second = request.args
        if kind == "generate_until":
            ids = self.tok_encode(context)
        else:
            ids = [*self._encode_pair(context, second)[1], *self._encode_pair(context, second)[0]] if context else []
        embeddings = core_model(self.model).get_input_embeddings()
        check_known(name_of(request), max(ids, default=0), getattr(embeddings, "num_embeddings", None))

    def _check_choice(self, request: Any, tokens: int) -> None:
        # lm-eval asserts both, without a word on whose choice it is.
        context, choice = request.args
        if self.backend == "seq2seq" and not 0 < tokens <= self.max_length:
            raise DataError(
                f"task {request.task_name!r}: the choice {choice[:60]!r} has {tokens} of this model's tokens, and its "
                f"decoder scores 1 to {self.max_length}; take a causal model for this task"
            )
        # SharedPrefixLM asks this itself.
        if self.backend == "causal" and context and not hasattr(self, "encoded_pairs"):
            embeddings = core_model(self.model).get_input_embeddings()
            pair = self._encode_pair(context, choice)
            check_pair(name_of(request), *pair, self.max_length, getattr(embeddings, "num_embeddings", None))

    def _key(self, kind: str, args: tuple[object, ...]) -> tuple[str, JsonObject]:
        asked = tag(kind, args)
        if asked not in self._keys:
            self._keys[asked] = self._key_of(kind, args)
        return self._keys[asked]

    def _key_of(self, kind: str, args: tuple[Any, ...]) -> tuple[str, JsonObject]:
        context, second = args
        if kind == "generate_until":
            ids, rest = self.tok_encode(context), second
            room = self.max_length
            if self.backend == "causal":
                room -= int(second.get("max_gen_toks", self.max_gen_toks))
            facts = {"tokens_in": len(ids), "truncated": len(ids) > room}
        elif context == "":
            ids, rest = [self.prefix_token_id], self.tok_encode(second, add_special_tokens=False)
            facts = {"tokens_in": 1, "tokens_out": len(rest), "truncated": False}
        else:
            ids, rest = self._encode_pair(context, second)
            if self.backend == "causal":
                truncated = len(ids) + len(rest) > self.max_length + 1
            else:
                truncated = len(ids) > self.max_length
            facts = {"tokens_in": len(ids), "tokens_out": len(rest), "truncated": truncated}
        parts = {**self.identity, "kind": kind, "prompt": ids, "rest": rest}
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest(), facts

    def add_partial(self, kind: str, args: tuple[Any, ...], answer: Any) -> None:
        """What the engine calls with each answer as it has it."""
        # SharedPrefixLM says what an answer took, and which sample it is; HFLM's come in the order of its batch.
        told = getattr(self, "timing", None)
        measured = dict(told) if told is not None else self._measured(kind)
        which = measured.pop("which", None)
        waiting = self._waiting[tag(kind, args)]
        one = next((one for one in waiting if which in (None, (one.task, one.item, one.epoch))), None)
        if one is None:  # Of a batch that ran out of memory, and was begun again.
            return
        waiting.remove(one)
        self._told.advance(one.work)
        task = one.task
        if kind == "generate_until":
            record = {"text": answer, **one.facts, **measured}
            if record["finish_reason"] == "stop":
                record["tokens_out"] = len(self.tokenizer.encode(answer, add_special_tokens=False))
        else:
            if not math.isfinite(answer[0]):
                raise SlmbenchError(
                    f"task {task!r}: the model's log-likelihood of {args[1]!r} is {answer[0]}; its weights or its "
                    f"adapter's are no numbers, or {self.identity['dtype']} is too narrow for it"
                )
            record = {"loglikelihood": answer[0], "greedy": bool(answer[1]), **one.facts, **measured}
        if told is None and (why_plain := getattr(self, "why_plain", "")):
            record["plain"] = why_plain
        if (journal := self.journals.get(task)) is not None:
            journal.append(one.key, record)
        self._done(task, one.key, record)

    def _measured(self, kind: str) -> JsonObject:
        if kind == "generate_until":
            measured = self._generated.popleft()
        else:
            measured = {"latency_ms": self._batch_ms, "share_ms": self._batch_ms / self._batch_rows}
        if (
            begun := getattr(self, "item_begun", None)
        ) is not None:  # It is alone, whatever number of batches it takes.
            measured["latency_ms"] = (time.perf_counter() - begun) * 1000
        return measured

    def _done(self, task: str, key: str, record: JsonObject) -> None:
        self.records[task + "\0" + key] = record
        advanced("answers")

    def record_of(self, task: str, kind: str, args: tuple[Any, ...], item: int, epoch: int = 0) -> JsonObject:
        """The journaled facts of a request: tokens, latency, how it ended. item: lm-eval's doc_id."""
        content, _ = self._key(kind, args)
        return self.records[task + "\0" + sample_key(content, args, item, epoch)]

    def _model_call(self, *args: object, **kwargs: object) -> object:
        started = time.perf_counter()
        logits = super()._model_call(*args, **kwargs)
        if logits.is_cuda:  # A GPU answers before it has computed.
            import torch

            torch.cuda.synchronize()
        self._batch_ms, self._batch_rows = (time.perf_counter() - started) * 1000, logits.shape[0]
        return logits

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **kwargs: Any) -> Any:
        started = time.perf_counter()
        core = core_model(self.model)
        with tamed([self.model, core], sampled=bool(kwargs.get("do_sample"))):
            if self.backend == "seq2seq":
                made, written = decode(self, context, max_length - context.shape[1], stop, kwargs)
            else:
                made = self._generate_in_place(context, max_length, stop, kwargs)  # (batch, seq), prompt included
                written = made[:, context.shape[1] :]
        latency_ms = (time.perf_counter() - started) * 1000
        ends = end_ids(core, self.tokenizer)
        for row in written.tolist():
            ended = next((at for at, token in enumerate(row) if token in ends), None)
            text = self.tok_decode(row if ended is None else row[:ended])
            cut = any(ending and ending in text for ending in stop)
            reason = "stop" if cut else "eos" if ended is not None else "length"
            tokens_out = len(row) if ended is None else ended + 1
            timing = {"latency_ms": latency_ms, "share_ms": latency_ms / made.shape[0]}
            self._generated.append({"tokens_out": tokens_out, "finish_reason": reason, **timing})
        return made

    def _generate_in_place(self, context: Any, max_length: int, stop: list[str], kwargs: JsonObject) -> Any:
        """HFLM's texts; under an adapter with tokens of its own before the prompt, no padding stands between the two.

        peft puts such tokens before the padding and drops the positions, so that a padded row would be another prompt.
        """
        import torch

        active = getattr(self.model, "active_peft_config", None)
        mask = kwargs.get("attention_mask")
        if mask is None or not getattr(active, "is_prompt_learning", False):
            return super()._model_generate(context, max_length, stop, **kwargs)
        pads = (mask == 0).sum(-1).tolist()
        parts: dict[int, Any] = {}
        for pad in sorted(set(pads)):
            rows = torch.tensor([row for row, its in enumerate(pads) if its == pad], device=context.device)
            own = {**kwargs, "attention_mask": mask[rows, pad:]}
            made = super()._model_generate(context[rows, pad:], max_length - pad, stop, **own)
            for row, ids in zip(rows.tolist(), made, strict=True):
                parts[row] = torch.cat([context[row, :pad], ids])
        width = max(len(ids) for ids in parts.values())
        pad_id = self.tokenizer.pad_token_id
        filled = [torch.nn.functional.pad(ids, (0, width - len(ids)), value=pad_id) for _, ids in sorted(parts.items())]
        return torch.stack(filled)
