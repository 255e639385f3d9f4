"""Token-Oriented Object Notation: inputs and answer as one object, `key: value` a line, by the toon-format library.

A prompt is the object up to the key that the model goes on from; what it writes is decoded strictly, with that key
before it, and has to have the answer's shape. Specification: toon-format/spec, v4.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slmbench.errors import DataError
from slmbench.formats._base import FormatFault, Rendered
from slmbench.registry import format
from slmbench.values import Prompt, Target, Tokenizer

_CANONICAL_INT = re.compile(r"0|-?[1-9][0-9]{0,14}")
_END = "\n\n"
# White space of Toon; str.strip() would take a no-break space of the text's own as well.
_BLANKS = " \t\r\n"


def encode_toon(value: object) -> str:
    """A JSON value as Toon. Raises DataError for what Toon would change: NaN and infinities, keys that are not text."""
    from toon_format import encode

    _check_lossless(value)
    return str(encode(value))


def decode_toon(text: str) -> object:
    """The value of a Toon document, strictly. Raises FormatFault naming the line."""
    from toon_format import ToonDecodeError, decode

    try:
        return decode(text)
    except (ToonDecodeError, RecursionError) as error:
        raise FormatFault(f"not Toon: {str(error)[:200]}") from error


def _check_lossless(value: object) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise DataError(f"toon: the key {key!r} is not text")
            _check_lossless(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_lossless(inner)
    elif isinstance(value, float) and (value != value or abs(value) == float("inf")):
        raise DataError(f"toon has no way to write {value}")
    elif not isinstance(value, str | int | float | None):
        raise DataError(f"toon has no way to write a {type(value).__name__}")


def _object(inputs: Mapping[str, object], rest: str) -> str:
    clash = {"answer", "reasoning"} & set(inputs)
    if clash:
        name = sorted(clash)[0]
        raise DataError(f"toon: an input is named {name!r}, as what the model writes is; declare prompt.inputs")
    return f"{encode_toon(dict(inputs))}\n{rest}" if inputs else rest


def _write(target: Target) -> str:
    # A whole number goes without quotes, which a text that looks like one would need.
    answer: Any = int(target.answer) if _CANONICAL_INT.fullmatch(target.answer) else target.answer
    if target.reasoning is None:
        return encode_toon({"answer": answer}).removeprefix("answer:").removeprefix(" ")
    written = encode_toon({"reasoning": target.reasoning, "answer": answer})
    return written.removeprefix("reasoning:").removeprefix(" ")


def _read(output: str, reasoned: bool) -> str:
    keys = ["reasoning", "answer"] if reasoned else ["answer"]
    document = f"{keys[0]}: {output.strip(_BLANKS)}"
    # Bare, these would be texts to the library, though Toon writes no text so; most often they are JSON.
    if (found := re.search(r"^(?:reasoning|answer): *([{\[])", document, re.MULTILINE)) is not None:
        raise FormatFault(
            f"expected a text or a number, got what begins with {found[1]!r}; such a text has to be quoted"
        )
    value = decode_toon(document)
    if not isinstance(value, dict) or list(value) != keys:
        got = f"the keys {', '.join(map(repr, value))}" if isinstance(value, dict) else type(value).__name__
        raise FormatFault(f"expected the keys {', '.join(map(repr, keys))}, got {got}"[:300])
    texts = [_scalar(key, value[key], document) for key in keys]
    return Target(texts[-1], texts[0] if reasoned else None).text


def _scalar(key: str, value: object, document: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise FormatFault(f"{key}: expected a text or a number, got {type(value).__name__}")
    if isinstance(value, str):
        return value
    # As it was written: 1.10 is a price, which decoding makes 1.1.
    return next(line for line in document.splitlines() if line.startswith(f"{key}:")).partition(":")[2].strip()


def _partial(output: str, reasoned: bool) -> str | None:
    """What stands before the end of an output within an open quote: a value that was cut. None for any other fault."""
    keys = ["reasoning", "answer"] if reasoned else ["answer"]
    document = f"{keys[0]}: {output.strip(_BLANKS)}"
    if re.match(r'(?:reasoning|answer): *"', document.rpartition("\n")[2]) is None:
        return None
    # Half an escape is not a character yet.
    whole = re.sub(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?$", r"\1", document)
    try:
        value = decode_toon(f'{whole}"')
    except FormatFault:
        return None
    if (
        not isinstance(value, dict)
        or list(value) != keys[: len(value)]
        or not all(isinstance(v, str) for v in value.values())
    ):
        return None
    return "\n".join(text for text in value.values() if text)


def _stop(declared: Sequence[str]) -> list[str]:
    # Values are one line each; an empty line is the end of the object.
    return [_END, *declared]


@format(
    "toon",
    summary="Inputs and answer as one object in Token-Oriented Object Notation.",
    version="2",
    kind="object",
    write=_write,
    read=_read,
    partial=_partial,
    stop=_stop,
)
def render(prompt: Prompt, tokenizer: Tokenizer) -> Rendered:
    """Each shot as an object, and the question as one that its answer is to be added to."""
    opening = "reasoning:" if prompt.reasoned else "answer:"
    parts = [_object(shot.inputs, f"{opening} {_write(shot.target)}") + _END for shot in prompt.shots]
    system = prompt.system + _END if prompt.system else ""
    return Rendered(system + "".join(parts) + _object(prompt.inputs, opening), " ")
