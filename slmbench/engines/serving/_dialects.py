"""How a text is asked for, and what an answer says of it: OpenAI's completions, and Ollama's own interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from attrs import frozen

from slmbench.engines.requests import Wanted
from slmbench.engines.serving._answers import AnswerFault, Choice, Completion, OllamaText, read
from slmbench.engines.serving._client import Reply
from slmbench.values import JsonObject

MOST_STOPS = 4
"""That OpenAI's interface takes."""
COMPLETIONS = "/v1/completions"
GENERATE = "/api/generate"
UNTOLD = "the server doesn't tell a stop string from the model's own end: counted as ended by a stop string"
_LENGTH = frozenset({"length", "max_tokens"})
_EOS = frozenset({"eos", "eos_token"})
_STOP = frozenset({"stop_sequence", "stop_str"})


@frozen
class TextWish:
    """One text. prompt: as it is read, or its token ids. seed: of a drawn one. end_ids: tokens that end it.

    context: how many tokens prompt and text may need together, of any request of the run.
    """

    prompt: str | list[int]
    wanted: Wanted
    seed: int | None = None
    end_ids: tuple[int, ...] = ()
    context: int = 0


@frozen
class ServedText:
    """A text as a server gave it. reason: eos, stop or length. tokens_in, tokens_out: as it counts; None if it doesn't.

    untold: whether it said only that the text ended, by a stop string or not.
    """

    text: str
    reason: str
    tokens_in: int | None
    tokens_out: int | None
    untold: bool = False


class Dialect(Protocol):
    """One interface of a server for one of its models. path: of its requests."""

    path: str

    def body(self, wish: TextWish) -> JsonObject:
        """What is sent for a text."""

    def text(self, wish: TextWish, reply: Reply, where: str) -> ServedText:
        """What came back. Raises AnswerFault."""

    def asks_all(self, wanted: Wanted) -> bool:
        """Whether all that is wanted of drawing is asked for."""


class CompletionsDialect:
    """OpenAI's completions. model: as the server calls it. extended: whether it takes more than OpenAI's own fields.

    With less said, servers fill in defaults of their own: llama-cpp-python a repetition penalty, vLLM what the model's
    generation_config.json says.
    """

    path = COMPLETIONS

    def __init__(self, model: str, *, extended: bool) -> None:
        self.model = model
        self.extended = extended

    def body(self, wish: TextWish) -> JsonObject:
        """What is sent for a text."""
        how = dict(wish.wanted.settings.warpers)
        sampled = wish.wanted.settings.sampled
        made: dict[str, Any] = {
            "model": self.model,
            "prompt": wish.prompt,
            "max_tokens": wish.wanted.most_tokens,
            "temperature": how.get("temperature", 1.0) if sampled else 0.0,
            "top_p": how.get("top_p", 1.0),
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stream": False,
        }
        if wish.seed is not None:
            made["seed"] = wish.seed
        if stops := sent_stops(wish.wanted.stops):
            made["stop"] = stops
        if self.extended:
            penalty = how.get("repetition_penalty", 1.0)
            made |= {
                "top_k": int(how.get("top_k", 0)),
                "min_p": how.get("min_p", 0.0),
                "repeat_penalty": penalty,
                "repetition_penalty": penalty,
                # The prompt is whole: its BOS, if it has one, is in it.
                "add_special_tokens": False,
                "skip_special_tokens": True,
            }
            if wish.end_ids:
                made["stop_token_ids"] = list(wish.end_ids)
        return made

    def text(self, wish: TextWish, reply: Reply, where: str) -> ServedText:
        """What came back. Raises AnswerFault."""
        answer = read(Completion, reply, where)
        [choice], usage = answer.choices, answer.usage
        reason, untold = _reason(choice, wish, where)
        return ServedText(
            choice.text,
            reason,
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
            untold,
        )

    def asks_all(self, wanted: Wanted) -> bool:
        """Whether all that is wanted of drawing is asked for."""
        return self.extended or {name for name, _ in wanted.settings.warpers} <= {"temperature", "top_p"}


class OllamaDialect:
    """Ollama's own interface, raw: the prompt is read as it is. model: as Ollama calls it."""

    path = GENERATE

    def __init__(self, model: str) -> None:
        self.model = model

    def body(self, wish: TextWish) -> JsonObject:
        """What is sent for a text."""
        how = dict(wish.wanted.settings.warpers)
        options: dict[str, Any] = {
            "num_predict": wish.wanted.most_tokens,
            "temperature": how.get("temperature", 1.0) if wish.wanted.settings.sampled else 0.0,
            "top_k": int(how.get("top_k", 0)),
            "top_p": how.get("top_p", 1.0),
            "min_p": how.get("min_p", 0.0),
            "repeat_penalty": how.get("repetition_penalty", 1.0),
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop": sent_stops(wish.wanted.stops),
        }
        if wish.seed is not None:
            options["seed"] = wish.seed
        if wish.context:
            # What is longer Ollama cuts without a word; with another size it loads the model again.
            options["num_ctx"] = wish.context
        return {"model": self.model, "prompt": wish.prompt, "raw": True, "stream": False, "options": options}

    def text(self, wish: TextWish, reply: Reply, where: str) -> ServedText:
        """What came back. Raises AnswerFault."""
        answer = read(OllamaText, reply, where)
        if not answer.done:
            raise AnswerFault(f"{where}: it answered with a part of a text (done is false), not with all of it")
        if answer.thinking:
            raise AnswerFault(f"{where}: it took a chain of thought out of the text, as it shouldn't in a raw answer")
        reason = answer.done_reason
        if reason is None:  # Of earlier versions.
            reason = "length" if (answer.eval_count or 0) >= wish.wanted.most_tokens else "stop"
        if reason not in ("stop", "length"):
            raise _unknown(reason, where)
        untold = reason == "stop" and bool(wish.wanted.stops)
        told = "length" if reason == "length" else "stop" if untold else "eos"
        return ServedText(answer.response, told, answer.prompt_eval_count, answer.eval_count, untold)

    def asks_all(self, wanted: Wanted) -> bool:
        """Whether all that is wanted of drawing is asked for."""
        return True


def sent_stops(stops: Sequence[str]) -> list[str]:
    """Those that go with a request: the first ones. All of them are looked for in what comes back."""
    return list(stops[:MOST_STOPS])


def cut(text: str, stops: Sequence[str]) -> str:
    """A text up to its first stop string, as HFLM cuts it."""
    for stop in stops:
        text = text.split(stop)[0]
    return text


def _reason(choice: Choice, wish: TextWish, where: str) -> tuple[str, bool]:
    """(eos, stop or length; whether which of the first two isn't told)."""
    said = choice.finish_reason
    if said in _LENGTH:
        return "length", False
    if said in _EOS:
        return "eos", False
    if said in _STOP:
        return "stop", False
    if said != "stop":
        raise _unknown(said, where)
    if "stop_reason" in choice.model_fields_set:
        is_end = choice.stop_reason is None or choice.stop_reason in wish.end_ids
        return ("eos" if is_end else "stop"), False
    untold = bool(wish.wanted.stops)
    return ("stop" if untold else "eos"), untold


def _unknown(reason: str | None, where: str) -> AnswerFault:
    said = "without a reason" if reason is None else f"for the reason {reason[:80]!r}"
    return AnswerFault(f"{where}: its text ended {said}, which is neither stop nor length")
