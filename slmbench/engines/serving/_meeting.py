"""The first words with a server: which model it has, what it says of it, and whether a prompt goes there as written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from attrs import evolve

from slmbench.engines.generation_config import end_ids
from slmbench.engines.options import EngineOptions
from slmbench.engines.requests import Wanted
from slmbench.engines.sampling import SamplingSettings
from slmbench.engines.server_address import address_of
from slmbench.engines.serving._answers import (
    AnswerFault,
    ListedModel,
    ListedModels,
    OllamaVersion,
    ShownModel,
    Tag,
    Tags,
    read,
    value_of,
)
from slmbench.engines.serving._client import Reply, ServerClient, ServerFailure, ServerRequest
from slmbench.engines.serving._dialects import (
    COMPLETIONS,
    GENERATE,
    CompletionsDialect,
    Dialect,
    OllamaDialect,
    TextWish,
)
from slmbench.engines.serving._link import ServerLink
from slmbench.engines.serving._scoring import find_scoring
from slmbench.errors import EngineError, UsageError, did_you_mean
from slmbench.foreign import ModelT
from slmbench.models import LoadedModel
from slmbench.values import JsonObject, Tokenizer
from slmbench.visible import visible

PROBE = "Question: What is the capital of France?\nAnswer:"
UNVERIFIED = "answered by a server, whose weights were not verified: what it serves is what it says"
_MOST_SAID = 40
_REFUSED = frozenset({400, 422})
_MISSING = frozenset({404, 405, 501})


def meet(loaded: LoadedModel, options: EngineOptions, scored_tasks: Sequence[str] = ()) -> LoadedModel:
    """A model of `load_unread` as a server has it: `served` says what that tells, and its engine asks it.

    scored_tasks: names of tasks whose choices or targets are scored. Raises UsageError, with these names, if the server
    gives no log-probabilities of a prompt; for a model that it doesn't have; and for one whose prompts it changes.
    TrustError for another machine, EngineError for a server that doesn't answer.
    """
    asked = options.server
    asked.check()
    connections = 1 if options.latency else int(options.rows)
    client = ServerClient(address_of(asked), key=asked.api_key(), connections=connections, timeout_s=asked.timeout_s)
    meeting = _Meeting(client, loaded, asked.served)
    dialect, adds_bos = meeting.dialect()
    link = ServerLink(client, dialect, adds_bos=adds_bos, window=meeting.window, told=tuple(meeting.told))
    if scored_tasks:
        link.scoring = find_scoring(link, loaded.tokenizer)
        if link.scoring is None:
            raise UsageError(
                f"{client.address.told()} gives no log-probabilities of a prompt's tokens that hold, and "
                f"{', '.join(scored_tasks)} {'needs' if len(scored_tasks) == 1 else 'need'} them (choices, or "
                "--perplexity); leave that out, or take --engine shared"
            )
    loaded.model.reader = link
    name = meeting.name
    short = os.path.basename(name) if os.path.isabs(name) or name.endswith(".gguf") else name
    return evolve(
        loaded,
        source=evolve(loaded.source, name=f"{loaded.source.name} served as {visible(short)}"),
        notices=(*loaded.notices, UNVERIFIED, *meeting.told),
        served={"name": name, "api": dialect.path, **meeting.facts()},
    )


class _Meeting:
    """What is found out, a question after another. told: what a reader of the runs should know of it."""

    def __init__(self, client: ServerClient, loaded: LoadedModel, served: str | None) -> None:
        self.client, self.loaded = client, loaded
        self.told: list[str] = []
        self._listed, self._server = self._models()
        found = self._perhaps(OllamaVersion, ServerRequest("/api/version", tries=1))
        tags = self._perhaps(Tags, ServerRequest("/api/tags")) if found else None
        self._ollama = found.version if found and tags is not None else None
        self._tags = tags.models if tags is not None and found else []
        self.name = self._chosen(served)
        self._tag = next((one for one in self._tags if one.name == self.name), None)
        self._entry = next((one for one in self._listed if one.id == self.name), None)
        self._vllm = self._perhaps(OllamaVersion, ServerRequest("/version", tries=1)) if self._ollama is None else None

    @property
    def window(self) -> int | None:
        """How many tokens a prompt and its answer may have, as far as the server says it."""
        return self._entry.max_model_len if self._entry is not None else None

    def facts(self) -> JsonObject:
        """What a run's record says of the server and of the model there."""
        address = self.client.address
        made: dict[str, Any] = {"where": "this machine" if address.loopback else address.place}
        if self._ollama is not None:
            made["server"] = f"Ollama {visible(self._ollama)}"
        elif told := self._called():
            made["server"] = visible(told)[:200]
        if self._tag is not None and self._tag.digest:
            made["digest"] = visible(self._tag.digest)
        if said := self._said():
            made["said"] = said
        return made

    def _called(self) -> str:
        """How a server that isn't Ollama calls itself: vLLM's header is that of the HTTP library under it."""
        version = self._vllm.version if self._vllm is not None else ""
        if version and self._entry is not None and self._entry.owned_by == "vllm":
            return f"vLLM {version}"
        return ", version ".join(filter(None, (self._server.strip(), version)))

    def dialect(self) -> tuple[Dialect, bool]:
        """(the interface that a prompt goes through as it is written, whether the server puts BOS before a text)."""
        faults: list[str] = []
        made: list[Dialect] = [
            CompletionsDialect(self.name, extended=True),
            CompletionsDialect(self.name, extended=False),
        ]
        if self._ollama is not None:
            made.insert(0, OllamaDialect(self.name))
        for dialect in made:
            reply = self.client.ask_one(ServerRequest(dialect.path, dialect.body(self._probe())))
            if reply.status in _MISSING:
                said = f" ({reply.said})" if reply.said else ""
                faults.append(f"{dialect.path}: HTTP {reply.status}{said}")
                continue
            if reply.status in _REFUSED and isinstance(dialect, CompletionsDialect) and dialect.extended:
                faults.append(f"{dialect.path}: HTTP {reply.status} ({reply.said})")
                continue
            adds_bos, fault = self._as_written(dialect, reply)
            if not fault:
                if isinstance(dialect, CompletionsDialect) and not dialect.extended:
                    self.told.append("the server takes OpenAI's own fields alone: what else it draws by is its own")
                return dialect, adds_bos
            faults.append(fault)
        raise EngineError(
            f"{self.client.address.told()} has no interface that takes a prompt as it is written (OpenAI's "
            f"{COMPLETIONS}, or Ollama's {GENERATE} with raw): {'; '.join(dict.fromkeys(faults))}"
        )

    def _probe(self) -> TextWish:
        wanted = Wanted((), 1, SamplingSettings())
        return TextWish(PROBE, wanted, end_ids=tuple(sorted(end_ids(self.loaded.model, self.loaded.tokenizer))))

    def _as_written(self, dialect: Dialect, reply: Reply) -> tuple[bool, str]:
        """(whether the server puts BOS before a text, why the prompt didn't go as written)."""
        answer = dialect.text(self._probe(), reply, self.client.address.told(dialect.path))
        own = len(_bare_ids(self.loaded.tokenizer, PROBE))
        if answer.tokens_in is None:
            self.told.append("the server doesn't count tokens: whether a prompt goes as it is written isn't known")
            return _adds_bos(self.loaded.tokenizer), ""
        if answer.tokens_in in (own, own + 1):
            return answer.tokens_in > own, ""
        return False, (
            f"{dialect.path} read {answer.tokens_in} tokens of a text that has {own} by the tokenizer of "
            f"{self.loaded.source.name!r}: it puts a template around it, or has a model with another tokenizer"
        )

    def _models(self) -> tuple[list[ListedModel], str]:
        """What `/v1/models` lists, and how the server calls itself. Raises EngineError where nothing answers."""
        # One try: what isn't there at the first word is not there.
        reply = self.client.ask_one(ServerRequest("/v1/models", tries=1))
        where = self.client.address.told("/v1/models")
        if reply.status in (401, 403):
            raise EngineError(f"{where}: HTTP {reply.status} ({reply.said}); give its key by --api-key-env NAME")
        if 300 <= reply.status < 400:
            read(ListedModels, reply, where)
        if reply.status == 200 and not reply.fault and isinstance(reply.value, dict):
            return read(ListedModels, reply, where).data, reply.headers.get("server", "")
        if reply.status == 200:
            raise AnswerFault(f"{where}: its answer isn't JSON: {reply.fault or 'no object'}; is it a model server?")
        return [], reply.headers.get("server", "")

    def _perhaps(self, model: type[ModelT], request: ServerRequest) -> ModelT | None:
        """An answer that a server may do without."""
        try:
            return value_of(model, self.client.ask_one(request))
        except ServerFailure:
            return None

    def _chosen(self, served: str | None) -> str:
        names = list(dict.fromkeys([*(one.id for one in self._listed), *(one.name for one in self._tags)]))
        where = self.client.address.told()
        if served is None:
            if len(names) != 1:
                said = f"it has {len(names)}: {_some(names)}" if names else "it lists none"
                raise UsageError(f"--served: say what {where} calls the model; {said}")
            return names[0]
        if names and served not in names:
            if f"{served}:latest" in names:
                return f"{served}:latest"
            raise UsageError(f"{where} has no model {served!r}{did_you_mean(served, names)}")
        return served

    def _said(self) -> JsonObject:
        """What it says of the model, without what differs from one time to the next."""
        said: dict[str, Any] = {}
        if self._entry is not None and self._ollama is None:
            said = self._entry.model_dump(exclude_none=True, exclude={"id", "meta"})
            said |= _flat(self._entry.meta)
        if self._tag is not None:
            said |= _of_tag(self._tag)
            shown = self._perhaps(ShownModel, ServerRequest("/api/show", {"model": self.name}))
            if shown is not None:
                said |= {
                    key: value
                    for key, value in _flat(shown.model_info).items()
                    if key.startswith("general.") or key.endswith(".context_length")
                }
        return dict(sorted(said.items()))


def _of_tag(tag: Tag) -> JsonObject:
    said: JsonObject = {} if tag.size is None else {"size": tag.size}
    return said | (tag.details.model_dump(exclude_none=True) if tag.details is not None else {})


def _flat(given: JsonObject | None) -> JsonObject:
    """The short plain values of what somebody else may have written."""
    found = {
        visible(str(key))[:100]: visible(value)[:200] if isinstance(value, str) else value
        for key, value in (given or {}).items()
        if isinstance(value, (str, int, float, bool))
    }
    return dict(sorted(found.items())[:_MOST_SAID])


def _bare_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def _adds_bos(tokenizer: Tokenizer) -> bool:
    return tokenizer.bos_token_id is not None and list(tokenizer.encode("a"))[:1] == [tokenizer.bos_token_id]


def _some(names: Sequence[str]) -> str:
    shown = [visible(name)[:100] for name in names[:12]]
    return ", ".join(shown) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
