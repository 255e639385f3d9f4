"""What crosses between the processes: frames of JSON, and Python values in them as plain builtin types.

A frame is its length in four bytes and as many bytes of JSON. Nothing here runs code that came over a pipe: a value is
rebuilt from the types of `encode` alone, so an object with methods of its own can't cross.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

MAX_FRAME_BYTES = 8 << 20
MAX_PROGRAM_BYTES = 64 << 20
MAX_DEPTH = 100
TYPES = {t.__name__: t for t in (int, float, complex, bool, str, bytes, list, tuple, set, frozenset, dict, object)}


class BadFrame(Exception):
    """Bytes that are no frame, or a frame that is no value."""


def read_frame(fd: int, max_bytes: int = MAX_FRAME_BYTES) -> Any:
    """The next frame's JSON. Raises EOFError at the end of the stream, BadFrame if too long or no JSON."""
    size = int.from_bytes(_read(fd, 4), "big")
    if size > max_bytes:
        raise BadFrame(f"a frame of {size} bytes; at most {max_bytes} are taken")
    data = _read(fd, size)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as err:
        raise BadFrame(f"no JSON: {str(err)[:100]}") from None


def write_frame(fd: int, message: Any, max_bytes: int = MAX_FRAME_BYTES) -> None:
    """Writes one frame. Raises BadFrame, with nothing written, if it is too long, and OSError if nobody reads."""
    data = json.dumps(message).encode("ascii")
    if len(data) > max_bytes:
        raise BadFrame(f"a message of {len(data)} bytes; at most {max_bytes} cross")
    data = memoryview(len(data).to_bytes(4, "big") + data)
    while data:
        data = data[os.write(fd, data) :]


def _read(fd: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def encode(value: Any, opaque: Callable[[Any], Any], depth: int = 0) -> Any:
    """JSON of a value. A subclass of a builtin type goes as the builtin; other objects as `{"opaque": opaque(value)}`.

    Raises BadFrame where it is nested deeper than MAX_DEPTH.
    """
    if depth > MAX_DEPTH:
        raise BadFrame(f"a value nested deeper than {MAX_DEPTH} levels")

    def items(values: Any) -> list[Any]:
        return [encode(item, opaque, depth + 1) for item in values]

    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, int):
        value = int.__int__(value)
        # Other readers of JSON keep 53 bits, and Python itself refuses very long decimals.
        return value if abs(value) < 1 << 53 else {"int": hex(value)}
    if issubclass(kind, float):
        value = float.__float__(value)
        return value if value - value == 0 else {"float": repr(value)}
    if issubclass(kind, str):
        value = str.__str__(value)
        # A pair of lone surrogates would come back from JSON as one character.
        return {"str": value.encode("utf-8", "surrogatepass").hex()} if _has_surrogates(value) else value
    if issubclass(kind, list):
        return items(list.__iter__(value))
    if issubclass(kind, dict):
        return {"dict": [items(pair) for pair in dict.items(value)]}
    for base in (tuple, set, frozenset):
        if issubclass(kind, base):
            return {base.__name__: items(base.__iter__(value))}
    for base in (bytes, bytearray):
        if issubclass(kind, base):
            return {base.__name__: base.hex(value)}
    if issubclass(kind, complex):
        return {"complex": items([complex.real.__get__(value), complex.imag.__get__(value)])}
    if kind in (range, slice):
        return {kind.__name__: items([value.start, value.stop, value.step])}
    if kind is type and TYPES.get(value.__name__) is value:
        return {"type": value.__name__}
    return {"opaque": opaque(value)}


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def decode(message: Any, opaque: Callable[[Any], Any], depth: int = 0) -> Any:
    """The value of `encode`'s JSON; `opaque` gets what stood for an object. Raises BadFrame for anything else."""
    if depth > MAX_DEPTH + 1:
        raise BadFrame(f"a value nested deeper than {MAX_DEPTH} levels")

    def items(values: Any) -> list[Any]:
        if type(values) is not list:
            raise BadFrame(f"a list expected, got {type(values).__name__}")
        return [decode(item, opaque, depth + 1) for item in values]

    if type(message) is list:
        return items(message)
    if type(message) is not dict:
        return message
    if len(message) != 1:
        raise BadFrame("a tagged value has one key")
    ((tag, body),) = message.items()
    try:
        if tag == "opaque":
            return opaque(body)
        if tag == "dict":
            return dict(map(items, body))
        if tag == "type":
            return TYPES[body]
        if tag == "int":
            return int(body, 16)
        if tag == "str":
            return bytes.fromhex(body).decode("utf-8", "surrogatepass")
        if tag == "float" and body in ("nan", "inf", "-inf"):
            return float(body)
        if tag in ("tuple", "set", "frozenset"):
            return TYPES[tag](items(body))
        if tag in ("bytes", "bytearray"):
            return {"bytes": bytes, "bytearray": bytearray}[tag].fromhex(body)
        if tag == "complex":
            return complex(*map(float, items(body)))
        if tag in ("range", "slice"):
            return {"range": range, "slice": slice}[tag](*items(body))
    except (TypeError, ValueError, KeyError, OverflowError) as err:
        raise BadFrame(f"no value of {tag!r:.40}: {str(err)[:100]}") from None
    raise BadFrame(f"unknown tag {tag!r:.40}")
