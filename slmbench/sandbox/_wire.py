"""What crosses between the processes: frames of JSON, and Python values in them as plain builtin types.

A frame is its length in four bytes and as many bytes of JSON. Nothing here runs code that came over a pipe: a value is
rebuilt from the types of `encode` alone, so an object with methods of its own can't cross.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections import deque, namedtuple
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO, StringIO
from keyword import iskeyword
from typing import Any, TypeVar

MAX_FRAME_BYTES = 8 << 20
MAX_PROGRAM_BYTES = 64 << 20
MAX_DEPTH = 100
# Classes of the standard library that cross as whole numbers: where each is, and the attributes that make it up.
PARTS = {
    "Fraction": ("fractions", ("numerator", "denominator")),
    "date": ("datetime", ("year", "month", "day")),
    "datetime": ("datetime", ("year", "month", "day", "hour", "minute", "second", "microsecond")),
    "timedelta": ("datetime", ("days", "seconds", "microseconds")),
}
PATHS = ("PosixPath", "PurePosixPath")
Message = dict[str, Any]
"""A frame's JSON object."""
ValueT = TypeVar("ValueT")
FILES = {"StringIO": StringIO, "BytesIO": BytesIO}
TYPES = {t.__name__: t for t in (int, float, complex, bool, str, bytes, list, tuple, set, frozenset, dict, object)}


class BadFrame(Exception):
    """Bytes that are no frame, or a frame that is not a value."""


def read_frame(fd: int, max_bytes: int = MAX_FRAME_BYTES) -> Any:
    """The next frame's JSON. Raises EOFError at the end of the stream, BadFrame if too long or no JSON."""
    data = read_bytes(fd, max_bytes)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as err:
        raise BadFrame(f"no JSON: {str(err)[:100]}") from None


def write_frame(fd: int, message: object, max_bytes: int = MAX_FRAME_BYTES) -> None:
    """Writes one frame. Raises BadFrame, with nothing written, if it is too long, and OSError if nobody reads."""
    data = json.dumps(message).encode("ascii")
    if len(data) > max_bytes:
        raise BadFrame(f"a message of {len(data)} bytes; at most {max_bytes} cross")
    write_bytes(fd, data)


def read_bytes(fd: int, max_bytes: int) -> bytes:
    """What the next frame holds. Raises EOFError at the end of the stream, BadFrame if it is too long."""
    size = int.from_bytes(_read(fd, 4), "big")
    if size > max_bytes:
        raise BadFrame(f"a frame of {size} bytes; at most {max_bytes} are taken")
    return _read(fd, size)


def write_bytes(fd: int, data: bytes | memoryview) -> None:
    """Writes one frame that holds these bytes. Raises OSError if nobody reads."""
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


def encode(
    value: object,
    opaque: Callable[[object], object],
    mutables: list[object] | None = None,
    known: dict[int, int] | None = None,
) -> object:
    """JSON of a value. A subclass of a builtin type goes as the builtin; other objects as `{"opaque": opaque(value)}`.

    mutables: gets the lists, dicts, sets, byte arrays, deques and files in memory that are in the value, in an order
    that `decode` repeats. known: number of the object of an id, which goes as `{"ref": number}`; with mutables it gets
    theirs, so that one in two places is one there.
    Raises BadFrame if it is nested deeper than MAX_DEPTH.
    """
    known = {} if known is None else known

    def items(values: Iterable[object], depth: int) -> list[object]:
        return [one(item, depth + 1) for item in values]

    def one(value: Any, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise BadFrame(f"a value nested deeper than {MAX_DEPTH} levels")
        if id(value) in known and (depth or mutables is not None):
            return {"ref": known[id(value)]}
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
        if issubclass(kind, (list, dict, set, bytearray)) or kind in (deque, StringIO, BytesIO):
            if mutables is not None:
                known[id(value)] = len(mutables)
                mutables.append(value)
            return mutable(value, kind, depth)
        names = _field_names(kind)
        if names:
            return {"named": [kind.__name__[:100], names, items(tuple.__iter__(value), depth)]}
        for base in (tuple, frozenset):
            if issubclass(kind, base):
                return {base.__name__: items(base.__iter__(value), depth)}
        if issubclass(kind, bytes):
            return {"bytes": bytes.hex(value)}
        if issubclass(kind, complex):
            return {"complex": items([complex.real.__get__(value), complex.imag.__get__(value)], depth)}
        if kind is range or kind is slice:
            return {kind.__name__: items([value.start, value.stop, value.step], depth)}
        if kind is type and TYPES.get(name := value.__name__) is value:
            return {"type": name}
        if kind is memoryview and value.readonly and value.format == "B" and value.c_contiguous:
            return {"memoryview": value.hex()}
        parts = _standard_parts(value)
        return {"opaque": opaque(value)} if parts is None else {kind.__name__: parts}

    def mutable(value: Any, kind: type, depth: int) -> object:
        if issubclass(kind, list):
            return items(list.__iter__(value), depth)
        if issubclass(kind, dict):
            return {"dict": [items(pair, depth) for pair in dict.items(value)]}
        if issubclass(kind, set):
            return {"set": items(set.__iter__(value), depth)}
        if issubclass(kind, bytearray):
            return {"bytearray": bytearray.hex(value)}
        if kind is deque:
            return {"deque": [items(value, depth), value.maxlen]}
        if value.closed:
            return {kind.__name__: [None, 0]}
        whole = value.getvalue()
        return {kind.__name__: [one(whole, depth + 1), value.tell()]}

    return one(value, 0)


def _standard_parts(value: object) -> object:
    """What a number or a date of the standard library is made of; None for other values, and times with a zone."""
    kind = type(value)
    if kind is getattr(sys.modules.get("decimal"), "Decimal", None):
        return str(value)
    name: str = kind.__name__
    if name in PATHS and kind is getattr(sys.modules.get("pathlib"), name, None):
        return str(value)
    module, names = PARTS.get(name, ("", ()))
    if not names or kind is not getattr(sys.modules.get(module), name, None):
        return None
    if getattr(value, "tzinfo", None) is not None or getattr(value, "fold", False):
        return None
    parts: list[int] = [getattr(value, name) for name in names]
    return [part if abs(part) < 1 << 53 else {"int": hex(part)} for part in parts]


def _field_names(kind: type) -> list[str] | None:
    """Names of the fields of a `namedtuple`; None of another type, and where they could not be made anew."""
    names = getattr(kind, "_fields", None) if issubclass(kind, tuple) and kind is not tuple else None
    if type(names) is not tuple or not 0 < len(names) <= 100 or {*map(type, names)} != {str}:
        return None
    return list(names) if all(map(_is_field, (kind.__name__, *names))) else None


def _is_field(name: object) -> bool:
    return type(name) is str and name.isidentifier() and not name.startswith("_") and not iskeyword(name)


@functools.lru_cache(1000)
def _named(name: str, names: tuple[str, ...]) -> type:
    return namedtuple(name, names)


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def decode(
    message: object,
    opaque: Callable[[object], object],
    mutables: list[object] | None = None,
    refs: Sequence[object] = (),
) -> Any:
    """The value of `encode`'s JSON; `opaque` gets what stood for an object. Raises BadFrame for anything else.

    mutables: as in `encode`, with what refers to them. refs: what else `{"ref": n}` stands for.
    """
    refs = mutables if mutables is not None and not refs else refs

    def kept(value: ValueT) -> ValueT:
        # Before what is in it, which can refer to it.
        if mutables is not None:
            mutables.append(value)
        return value

    def items(values: object, depth: int) -> list[Any]:
        if type(values) is not list:
            raise BadFrame(f"a list expected, got {type(values).__name__}")
        return [one(item, depth + 1) for item in values]

    def one(message: object, depth: int) -> object:
        if depth > MAX_DEPTH + 1:
            raise BadFrame(f"a value nested deeper than {MAX_DEPTH} levels")
        if type(message) is list:
            value: list[object] = kept([])
            value += items(message, depth)
            return value
        elif type(message) is not dict:
            return message
        elif len(message) != 1:
            raise BadFrame("a tagged value has one key")
        else:
            ((tag, body),) = message.items()
            if tag == "opaque":
                return opaque(body)
            try:
                return tagged(tag, body, depth)
            except (TypeError, ValueError, KeyError, ArithmeticError, IndexError) as err:
                raise BadFrame(f"no value of {tag!r:.40}: {str(err)[:100]}") from None

    def tagged(tag: str, body: Any, depth: int) -> object:
        made: Any
        if tag == "dict":
            made = kept({})
            made.update(items(pair, depth) for pair in body)
            return made
        if tag == "set":
            made = kept(set())
            made.update(items(body, depth))
            return made
        if tag == "bytearray":
            return kept(bytearray.fromhex(body))
        if tag in FILES:
            whole, place = body
            made = kept(FILES[tag]())
            if whole is None:
                made.close()
                return made
            made.write(one(whole, depth + 1))
            made.seek(place)
            return made
        if tag == "named":
            name, names, values = body
            if not names or len(names) > 100 or not all(map(_is_field, (name, *names))):
                raise ValueError("no names of fields")
            return _named(name, tuple(names))(*items(values, depth))
        if tag == "memoryview":
            return memoryview(bytes.fromhex(body))
        if tag in PATHS and type(body) is str:
            import pathlib

            return getattr(pathlib, tag)(body)
        if tag == "type":
            return TYPES[body]
        if tag == "int":
            return int(body, 16)
        if tag == "str":
            return bytes.fromhex(body).decode("utf-8", "surrogatepass")
        if tag == "float" and body in ("nan", "inf", "-inf"):
            return float(body)
        if tag in ("tuple", "frozenset"):
            return tuple(items(body, depth)) if tag == "tuple" else frozenset(items(body, depth))
        if tag == "bytes":
            return bytes.fromhex(body)
        if tag == "complex":
            real, imaginary = items(body, depth)
            return complex(float(real), float(imaginary))
        if tag in ("range", "slice"):
            cut: Callable[..., object] = range if tag == "range" else slice
            return cut(*items(body, depth))
        if tag == "ref" and type(body) is int and body >= 0:
            return refs[body]
        if tag == "deque":
            values, maxlen = body
            made = kept(deque(maxlen=maxlen))
            made.extend(items(values, depth))
            return made
        if tag == "Decimal" and type(body) is str:
            from decimal import Decimal

            return Decimal(body)
        if tag in PARTS:
            module, names = PARTS[tag]
            parts = items(body, depth)
            if len(parts) != len(names) or {*map(type, parts)} != {int}:
                raise ValueError(f"{len(names)} whole numbers expected")
            return getattr(__import__(module), tag)(*parts)
        raise BadFrame(f"unknown tag {tag!r:.40}")

    return one(message, 0)
