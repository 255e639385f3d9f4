"""lm-eval's requests, answered from journals and by an engine: each answer is on disk as soon as it is there."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from attrs import asdict, frozen

from slmbench.adapters import AdapterBank
from slmbench.console import advanced, bar
from slmbench.engines.encoder_decoder import encoder_tokens
from slmbench.engines.options import EngineOptions
from slmbench.engines.protocol import (
    Engine,
    Item,
    ScoreAnswer,
    ScoreRequest,
    WriteAnswer,
    WriteRequest,
    check_engine,
)
from slmbench.engines.requests import check_known, check_pair, item_of, most_tokens, name_of
from slmbench.engines.speed import Speed
from slmbench.errors import DataError, SlmbenchError
from slmbench.evaluation._answers import is_scored
from slmbench.evaluation._encoding import Encoded, Encoder
from slmbench.evaluation._routed import Chosen, RoutedEngine
from slmbench.formats import Format
from slmbench.journal import Journal
from slmbench.models import LoadedModel, tokenizer_sha256
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM

_VERBS = {"loglikelihood": "scoring", "generate_until": "writing"}
LM_EVALS_TOKENS = 256
"""Of a text at most, if a task of lm-eval's own says nothing."""


@frozen(eq=False)
class _Waiting:
    """A request that the engine is to answer. facts: of its record. work: how many tokens it takes at most."""

    key: str
    request: ScoreRequest | WriteRequest
    facts: JsonObject
    work: int


class JournaledEngine:
    """Answers lm-eval's requests. journals: task name -> its run's journal; answers found there are reused.

    identity: what an answer depends on beside the request itself; the journal's keys are made of both. chosen: which
    adapter each item goes to; None if all go to the same.
    """

    def __init__(
        self,
        engine: Engine,
        options: EngineOptions,
        encoder: Encoder,
        identity: JsonObject,
        journals: Mapping[str, Journal],
        chosen: Chosen | None = None,
    ) -> None:
        self.engine = engine
        self.options = options
        self.encoder = encoder
        self.identity = identity
        self.journals = journals
        self.chosen = chosen
        self.records: dict[tuple[str, str], JsonObject] = {}
        self.speed: Speed | None = None
        """Of one stream, if it was measured."""
        self.places: Mapping[str, Sequence[int]] = {}
        """Task -> which of its items lm-eval is given, in that order; all of a task that isn't there."""
        self._keys: dict[str, tuple[str, JsonObject]] = {}

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """(log-likelihood, whether each token is the likeliest) of each request."""
        answers = self._answer(requests, "loglikelihood")
        return [(answer["loglikelihood"], answer["greedy"]) for answer in answers]

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """The text of each request."""
        return [answer["text"] for answer in self._answer(requests, "generate_until")]

    def record_of(self, task: str, kind: str, args: tuple[Any, ...], item: int, epoch: int = 0) -> JsonObject:
        """The journaled facts of a request: tokens, latency, how it ended. item: its number in the task."""
        content, _ = self.key(kind, args, (task, item))
        return self.records[task, _sample_key(content, args, item, epoch)]

    def key(self, kind: str, args: tuple[Any, ...], item: Item) -> tuple[str, JsonObject]:
        """(what the journal calls a request, but for item and sample; its tokens)."""
        asked = json.dumps([kind, *args, self._whose(item)], sort_keys=True)
        if asked not in self._keys:
            self._keys[asked] = self._key(kind, args, item)
        return self._keys[asked]

    def _whose(self, item: Item) -> JsonObject:
        return {} if self.chosen is None else self.chosen.identity(item)

    def _key(self, kind: str, args: tuple[Any, ...], item: Item) -> tuple[str, JsonObject]:
        window = self.engine.max_length
        if kind == "generate_until":
            ids, rest = self.encoder.prompt(args[0]), args[1]
            check_known(name_of(item), max(ids, default=0), self.engine.vocabulary)
            room = window - (0 if self.encoder.encoder_decoder else most_tokens(rest, LM_EVALS_TOKENS))
            facts = {"tokens_in": len(ids), "truncated": len(ids) > room}
        else:
            ids, rest = self._pair(args, item)
            whole = len(ids) if self.encoder.encoder_decoder else len(ids) + len(rest) - 1
            facts = {"tokens_in": len(ids), "tokens_out": len(rest), "truncated": whole > window}
        parts = {**self.identity, **self._whose(item), "kind": kind, "prompt": ids, "rest": rest}
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest(), facts

    def _pair(self, args: tuple[Any, ...], item: Item) -> tuple[list[int], list[int]]:
        """Raises DataError for what an engine would stop at without a word on whose request it was."""
        context, choice = args
        try:
            ids, rest = self.encoder.pair(context, choice)
        except DataError as error:
            raise DataError(f"{name_of(item)}: {error}") from error
        window = self.engine.max_length
        if self.encoder.encoder_decoder and not 0 < len(rest) <= window:
            raise DataError(
                f"{name_of(item)}: {choice[:60]!r}, which is scored, has {len(rest)} of this model's tokens, and its "
                f"decoder scores 1 to {window}; take a causal model for this task"
            )
        check_pair(name_of(item), ids, rest, window, self.engine.vocabulary)
        return ids, rest

    def _answer(self, requests: Sequence[Instance], kind: str) -> list[JsonObject]:
        seen: dict[tuple[Item, str], int] = defaultdict(int)
        keys: list[tuple[str, str]] = []
        waiting: dict[tuple[str, str], _Waiting] = {}
        again = 0
        for request in requests:
            item = self._item_of(request)
            content, facts = self.key(kind, request.args, item)
            # The same request of an item again is the next sample of it.
            epoch = seen[item, content]
            seen[item, content] += 1
            key = _sample_key(content, request.args, item[1], epoch)
            keys.append((request.task_name, key))
            journal = self.journals.get(request.task_name)
            known = None if journal is None else journal.entries.get(key)
            if known is not None and is_scored(known) is (kind == "loglikelihood"):
                self._done(keys[-1], known)
            elif keys[-1] in waiting:
                again += 1  # Another item asks the very same, and nothing is drawn: one answer serves both.
            else:
                waiting[keys[-1]] = self._waiting(kind, request, key, facts, epoch)
        if waiting:
            self._compute(list(waiting.values()), kind)
        if again:
            advanced("answers", again)
        return [self.records[key] for key in keys]

    def _item_of(self, request: Instance) -> Item:
        task, number = item_of(request)
        return task, self.places[task][request.doc_id] if task in self.places else number

    def _waiting(self, kind: str, request: Instance, key: str, facts: JsonObject, epoch: int) -> _Waiting:
        context, second = request.args
        item = self._item_of(request)
        if kind == "loglikelihood":
            pair = ScoreRequest(item, *self.encoder.pair(context, second))
            return _Waiting(key, pair, facts, facts["tokens_in"] + facts["tokens_out"])
        prompt = WriteRequest(item, context, self.encoder.prompt(context), second, epoch)
        return _Waiting(key, prompt, facts, facts["tokens_in"] + most_tokens(second, LM_EVALS_TOKENS))

    def _compute(self, waiting: Sequence[_Waiting], kind: str) -> None:
        left = set(range(len(waiting)))
        told = bar(_VERBS[kind], sum(one.work for one in waiting), "tokens", told=False)
        # Closed at once if the journal fails: the model is left as it was found.
        with told, closing(self._answers([one.request for one in waiting], kind)) as answers:
            for at, answer in answers:
                if at not in left:
                    raise self.options.registered.fault(f"request {at} of {len(waiting)} is answered twice, or is none")
                left.remove(at)
                one = waiting[at]
                told.advance(one.work)
                task = one.request.item[0]
                record = self._record(one, answer)
                if (journal := self.journals.get(task)) is not None:
                    journal.append(one.key, record)
                self._done((task, one.key), record)
        if left:
            of = name_of(waiting[min(left)].request.item)
            raise self.options.registered.fault(f"{len(left)} of {len(waiting)} requests have no answer", of)

    def _answers(
        self, requests: Sequence[Any], kind: str
    ) -> Generator[tuple[int, ScoreAnswer | WriteAnswer], None, None]:
        """The engine's answers. Raises HookError for whatever a plugin's engine raises."""
        wanted: type = ScoreAnswer if kind == "loglikelihood" else WriteAnswer
        compute: Any = self.engine.score if kind == "loglikelihood" else self.engine.write
        try:
            # `yield from` closes it as soon as this one is closed.
            yield from _held_to(wanted, compute(requests))
        except (Exception, SystemExit) as error:
            if not self.options.is_its_own(error):
                raise
            raise self.options.registered.fault("", error=error) from error

    def _record(self, one: _Waiting, answer: ScoreAnswer | WriteAnswer) -> JsonObject:
        record = one.facts | asdict(answer)
        if isinstance(answer, WriteAnswer) and answer.finish_reason == "stop":
            record["tokens_out"] = len(self.encoder.tokenizer.encode(answer.text, add_special_tokens=False))
        if isinstance(answer, ScoreAnswer) and not math.isfinite(answer.loglikelihood):
            assert isinstance(one.request, ScoreRequest)
            rest = self.encoder.tokenizer.decode(one.request.continuation)
            raise SlmbenchError(
                f"{name_of(one.request.item)}: the model's log-likelihood of {rest!r} is {answer.loglikelihood}; its "
                f"weights or its adapter's are NaN or infinite, or {self.identity['dtype']} is too narrow for it"
                + f", or the engine in {self.options.registered.where} is wrong"
                * self.options.registered.plugin
            )
        if not answer.plain:
            del record["plain"]
        return record

    def _done(self, key: tuple[str, str], record: JsonObject) -> None:
        self.records[key] = record
        advanced("answers")


def build_engine(
    loaded: LoadedModel,
    format: Format,
    options: EngineOptions | None = None,
    *,
    journals: Mapping[str, Journal] | None = None,
    seed: int = 0,
    encoded: Encoded | None = None,
    bank: AdapterBank | None = None,
    chosen: Chosen | None = None,
) -> JournaledEngine:
    """The engine that the options name, over a loaded model. journals, encoded: see `JournaledEngine`, `Encoder`.

    bank, chosen: its adapters, and which of them each item goes to; loaded is then the bank's base.
    """
    options = options or EngineOptions(batch=1)
    identity: JsonObject = {
        "model": loaded.weights_sha256,
        "config": loaded.config_sha256,
        "adapter": loaded.adapter.sha256 if loaded.adapter else None,
        "tokenizer": tokenizer_sha256(loaded.tokenizer),
        "dtype": loaded.dtype,
        "engine": options.version,
        "seed": seed,
    }
    # Named only if they are there: a journal that was begun without them goes on.
    if quantization := loaded.quantization:
        identity["quantization"] = quantization
    if loaded.served is not None:
        identity["served"] = loaded.served
    if loaded.architecture == "seq2seq":
        identity["encoder_tokens"] = encoder_tokens(loaded)

    def make(over: LoadedModel) -> Engine:
        try:
            return check_engine(options.registered.function(over, options, seed))
        except (Exception, SystemExit) as error:
            if not options.is_its_own(error):
                raise
            raise options.registered.fault("", error=error) from error

    engine = make(loaded) if bank is None or chosen is None else RoutedEngine(bank, chosen, make)
    return JournaledEngine(engine, options, Encoder(loaded, format, encoded), identity, journals or {}, chosen)


def lm_of(engine: JournaledEngine) -> LM:
    """What `lm_eval.simple_evaluate` takes for a model."""
    from lm_eval.api.model import LM

    class Answering(LM):
        """Hands requests over."""

        def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
            return engine.loglikelihood(requests)

        def generate_until(self, requests: list[Instance]) -> list[str]:
            return engine.generate_until(requests)

        def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
            raise NotImplementedError("no task of slmbench's scores whole texts")

    return Answering()


def _sample_key(content: str, args: tuple[Any, ...], item: object, epoch: int) -> str:
    """The journal's key of a request. Of drawn texts each item has its own, even if two ask the same."""
    drawn = isinstance(args[1], dict) and args[1].get("do_sample")
    key = f"{content}@{item}" if drawn else content
    return f"{key}#{epoch}" if epoch else key


def _held_to(wanted: type, answers: Iterable[Any]) -> Generator[Any, None, None]:
    """The answers. Raises ValueError for one that is not (an index, an answer to what is asked)."""
    each = iter(answers)
    try:
        for one in each:
            if not (isinstance(one, tuple) and len(one) == 2 and type(one[0]) is int and isinstance(one[1], wanted)):
                raise ValueError(f"an answer is {one!r:.200}; it has to be (index of a request, {wanted.__name__})")
            yield one
    finally:
        if isinstance(each, Generator):
            each.close()
