"""What a format is, and the one function that turns a rendered prompt into token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.values import Prompt, Target, Tokenizer


@frozen
class Rendered:
    """A prompt as text. delimiter: what stands between it and the answer (a blank, or nothing after a chat turn)."""

    text: str
    delimiter: str


class FormatFault(ValueError):
    """A model's output that isn't in the format it was asked for; the message says why."""


def _text_of(target: Target) -> str:
    return target.text


def _as_written(text: str, reasoned: bool) -> str:
    return text


def _nothing(output: str, reasoned: bool) -> str | None:
    return None


def _as_declared(stop: Sequence[str]) -> list[str]:
    return list(stop)


@frozen
class Format:
    """A way to write prompts down, and to read what comes back.

    render(prompt, tokenizer) -> Rendered. special_tokens: None if the tokenizer adds BOS and the like as it is set
    up to; False if the rendered text holds all of them itself. ends_turn(tokenizer) -> the ids that close an answer.
    write(target) -> the answer's text. read(output, reasoned) -> the bare text that metrics see; raises FormatFault.
    stop(declared) -> the stop strings of a generation in this format, of those that the task declares for its kind.
    kind: completion (a text that goes on), turns (a chat's), or object (fields written down); a task may declare
    prompt, stops and extraction for each. partial(output, reasoned) -> the text so far of an output that ends within a
    value, None for an output with any other fault. template_of(tokenizer) -> the template that render goes by, which a
    run's record names by its digest; None for a format without one. version: with the file's digest of a plugin's.
    """

    name: str
    version: str
    special_tokens: bool | None
    render: Callable[[Prompt, Any], Rendered]
    ends_turn: Callable[[Any], list[int]]
    write: Callable[[Target], str] = _text_of
    read: Callable[[str, bool], str] = _as_written
    stop: Callable[[Sequence[str]], list[str]] = _as_declared
    kind: str = "completion"
    partial: Callable[[str, bool], str | None] = _nothing
    template_of: Callable[[Any], str] | None = None
    plugin: bool = False

    @property
    def turns(self) -> bool:
        """Whether a prompt is a conversation."""
        return self.kind == "turns"

    @property
    def fenced(self) -> bool:
        """Whether code comes back in a fence or a value, with words around it, and not as what goes on from a text."""
        return self.kind != "completion"


def prompt_ids(format: Format, tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids of a rendered prompt: what training and evaluation both start from.

    A text that begins with BOS gets no second one.
    """
    bos = tokenizer.bos_token
    if bos and text.startswith(bos):
        return list(tokenizer.encode(text, add_special_tokens=False))
    if format.special_tokens is None:
        return list(tokenizer.encode(text))
    return list(tokenizer.encode(text, add_special_tokens=format.special_tokens))


def training_ids(format: Format, tokenizer: Tokenizer, rendered: Rendered, answer: str) -> tuple[list[int], list[int]]:
    """(prompt ids, answer ids with the end of the turn): the loss is on the second part alone.

    The prompt's ids are an exact prefix by construction. The answer's ids are those of the joint text where that text
    has the prompt as its prefix, as a SentencePiece tokenizer would spell a lone answer with a blank too many; else
    those of the answer alone. The parity check reports the second case.
    """
    prompt, target = pair_ids(format, tokenizer, rendered.text, rendered.delimiter + answer)
    return prompt, target + format.ends_turn(tokenizer)


def encoder_decoder_ids(
    format: Format, tokenizer: Tokenizer, rendered: Rendered, answer: str
) -> tuple[list[int], list[int]]:
    """(encoder ids, decoder labels with the end of the turn), for an encoder-decoder: two texts, each encoded alone.

    The encoder's ids end as the tokenizer closes a text by itself (T5: EOS). The labels are what lm-eval scores of such
    a model, `decoder_ids` of delimiter and answer, and the turn's end; the model itself puts its start token before
    them.
    """
    labels = decoder_ids(tokenizer, rendered.delimiter + answer)
    return prompt_ids(format, tokenizer, rendered.text), labels + format.ends_turn(tokenizer)


def decoder_ids(tokenizer: Tokenizer, continuation: str) -> list[int]:
    """The ids of what a decoder writes: the text alone, without any special token."""
    return list(tokenizer.encode(continuation, add_special_tokens=False))


def pair_ids(format: Format, tokenizer: Tokenizer, text: str, continuation: str) -> tuple[list[int], list[int]]:
    """(ids of the prompt, ids of what continues it), the first one exactly those of the prompt alone."""
    prompt = prompt_ids(format, tokenizer, text)
    joint = prompt_ids(format, tokenizer, text + continuation)
    if joint[: len(prompt)] == prompt:
        return prompt, joint[len(prompt) :]
    return prompt, list(tokenizer.encode(continuation, add_special_tokens=False))


def eos_ids(tokenizer: Tokenizer) -> list[int]:
    """The EOS token as a list. Raises UsageError if the tokenizer has none."""
    if tokenizer.eos_token_id is None:
        raise UsageError("the tokenizer has no EOS token, so no answer would ever end; set one in its config")
    return [int(tokenizer.eos_token_id)]
