"""What servers answer: the fields that are read, each held to its kind."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from slmbench.engines.serving._client import Reply
from slmbench.errors import EngineError, FileError
from slmbench.foreign import AnyText, Count, Foreign, ModelT, Number, parse
from slmbench.visible import visible

Short = Annotated[str, Field(max_length=1000)]


class ListedModel(Foreign):
    """A model of `/v1/models`. meta: what llama.cpp's own server says of its file."""

    id: Annotated[str, Field(min_length=1, max_length=1000)]
    owned_by: Short | None = None
    root: Short | None = None
    max_model_len: Count | None = None
    meta: dict[str, Any] | None = None


class ListedModels(Foreign):
    """`GET /v1/models`."""

    data: Annotated[list[ListedModel], Field(max_length=10_000)]


class TagDetails(Foreign):
    """What Ollama says of a model's file."""

    format: Short | None = None
    family: Short | None = None
    parameter_size: Short | None = None
    quantization_level: Short | None = None


class Tag(Foreign):
    """A model of Ollama's `/api/tags`."""

    name: Annotated[str, Field(min_length=1, max_length=1000)]
    digest: Short | None = None
    size: Count | None = None
    details: TagDetails | None = None


class Tags(Foreign):
    """Ollama's `GET /api/tags`."""

    models: Annotated[list[Tag], Field(max_length=10_000)]


class OllamaVersion(Foreign):
    """`GET /api/version`, and vLLM's `/version`."""

    version: Annotated[str, Field(min_length=1, max_length=200)]


class ShownModel(Foreign):
    """Ollama's `POST /api/show`."""

    details: TagDetails | None = None
    model_info: dict[str, Any] | None = None


class LogProbs(Foreign):
    """Of a completion's tokens. A token without one, as the first of a prompt, has null."""

    tokens: list[AnyText]
    token_logprobs: list[Number | None]
    top_logprobs: list[dict[AnyText, Number] | None] | None = None


class Choice(Foreign):
    """One text. stop_reason: of vLLM, the stop that ended it."""

    text: AnyText
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: LogProbs | None = None


class Usage(Foreign):
    """Tokens as the server counts them."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None


class Completion(Foreign):
    """`POST /v1/completions`."""

    choices: Annotated[list[Choice], Field(min_length=1, max_length=1)]
    usage: Usage | None = None


class OllamaText(Foreign):
    """Ollama's `POST /api/generate`."""

    response: AnyText
    done: bool
    done_reason: str | None = None
    thinking: AnyText | None = None
    prompt_eval_count: Count | None = None
    eval_count: Count | None = None


class AnswerFault(EngineError):
    """An answer that isn't what the interface promises."""


def read(model: type[ModelT], reply: Reply, where: str) -> ModelT:
    """A reply's value. Raises AnswerFault for one with another status, that is no JSON, or that holds other things."""
    if reply.status != 200:
        away = f"; it leads to {visible(reply.headers['location'])[:200]}" if "location" in reply.headers else ""
        raise AnswerFault(f"{where}: HTTP {reply.status}" + f" ({reply.said})" * bool(reply.said) + away)
    if reply.fault:
        raise AnswerFault(f"{where}: its answer isn't JSON: {reply.fault}")
    try:
        return parse(model, reply.value, "the answer")
    except FileError as error:
        raise AnswerFault(f"{where}: {'; '.join(str(one) for one in error.problems[:3])}") from None


def value_of(model: type[ModelT], reply: Reply) -> ModelT | None:
    """A reply's value, None where it is none: for what a server may do without."""
    try:
        return read(model, reply, "")
    except AnswerFault:
        return None
