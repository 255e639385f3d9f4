"""JSON that somebody else may have written: bounded, parsed once, and a typed value or one error that names the field.

    settings = read_model(path, TrainingRecord)      # a Foreign model's value, or FileError with every fault

A model says what a file has to hold; `extra` is its own choice: `ignore` where other tools write keys of their own,
`forbid` where every key is ours.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

from attrs import frozen
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError, WithJsonSchema

from slmbench.errors import FileError, Problem
from slmbench.paths import shown
from slmbench.visible import visible

if TYPE_CHECKING:
    from slmbench.values import JsonObject

Location = tuple[int | str, ...]
MAX_DIGITS = 100
_MAX_CHARS_OF_A_FLOAT = 1_000
_PROBLEMS_SHOWN = 20
# Strings are taken whole, so that a bracket inside one doesn't count; possessive, so that a bad one costs linear time.
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@frozen
class Limits:
    """What a file may take. bytes: of the file, or of a line of JSON Lines. depth: levels of lists and objects.

    surrogates: whether a text may hold half a character, as `"\\ud800"`, which can't be written as UTF-8. infinity:
    whether Infinity is a number, as configs of some models have it.
    """

    bytes: int = 16_000_000
    depth: int = 40
    surrogates: bool = False
    infinity: bool = False


LIMITS = Limits()


class Foreign(BaseModel):
    """Base of what a file holds: nothing is coerced (`"5"` is not a number, `true` not 1), NaN and infinity refused.

    Keys that the model doesn't know are left out; `extra="forbid"` in a model's own `model_config` refuses them. In
    strict mode a list is not a tuple and text not a date: declare `list[...]`, and check texts with an AfterValidator.
    """

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="ignore")


ModelT = TypeVar("ModelT", bound=BaseModel)


AnyText = Annotated[InstanceOf[str], WithJsonSchema({"type": "string"})]
"""A text that may hold half a character, as a tokenizer may decode to one; pydantic's own `str` refuses it."""


Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, lt=1e300)]
Number = Annotated[float, Field(gt=-1e300, lt=1e300)]
"""Of these, sums and differences stay within float64."""
SchemaOne = Annotated[int, Field(ge=1, le=1)]
"""The number of a first schema; a Literal of an int ends in an OverflowError if a file has one beyond 64 bits."""


def read_model(path: str | os.PathLike[str], model: type[ModelT], limits: Limits = LIMITS, *, todo: str = "") -> ModelT:
    """A file's JSON as a model's value. todo: what a person can do about a bad one, as `train it again`.

    Raises FileError, with every fault of the file at once; FileNotFoundError if there is no such file.
    """
    return parse(model, read_json(path, limits, todo=todo), path, todo=todo)


def read_json(path: str | os.PathLike[str], limits: Limits = LIMITS, *, todo: str = "") -> object:
    """A file's JSON within limits. Raises FileError; FileNotFoundError if there is no such file."""
    return decode_json(read_bytes(path, limits.bytes, todo=todo), path, limits, todo=todo)


def read_object(path: str | os.PathLike[str], limits: Limits = LIMITS, *, todo: str = "") -> JsonObject:
    """A file's JSON object, for who passes its other keys on. Raises as `read_json`, and FileError for no object."""
    value = read_json(path, limits, todo=todo)
    if not isinstance(value, dict):
        raise faults(path, [("", value, "an object")], todo=todo)
    return value


def open_plain(path: str | os.PathLike[str]) -> IO[bytes]:
    """A plain file, to be read. Raises OSError: also for a pipe, which would wait for ever, and a name with a NUL."""
    try:
        return open(path, "rb", opener=_open_regular)
    except ValueError as error:  # A NUL in the name.
        raise OSError(None, str(error)) from None


def plain_lines(path: str | os.PathLike[str], most: int = LIMITS.bytes) -> Iterator[bytes]:
    """The lines of a plain file with their ends; one of more than `most` bytes comes in parts. Raises OSError."""
    with open_plain(path) as file:
        while line := file.readline(most + 1):
            yield line


def read_bytes(path: str | os.PathLike[str], most: int, *, todo: str = "") -> bytes:
    """A file's bytes, of which there may be `most`. Raises FileError; FileNotFoundError if there is no such file."""
    try:
        with open_plain(path) as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        _refuse(path, 0, f"can't be read: {error.strerror or error}", todo)
    if len(data) > most:
        _refuse(path, 0, f"has more than {most:,} bytes, which no such file has", todo)
    return data


def decode_json(
    data: bytes, path: str | os.PathLike[str], limits: Limits = LIMITS, *, line: int = 0, todo: str = ""
) -> object:
    """One JSON value of plain dicts, lists, texts, finite numbers, booleans and None. path, line: for messages.

    A byte order mark at its start is passed over. Raises FileError for what is too large or too deep, not UTF-8, not
    JSON, for NaN, Infinity, a number beyond float64 or of more than 100 digits, and for a key that is there twice.
    """
    try:
        if len(data) > limits.bytes:
            raise ValueError(f"has more than {limits.bytes:,} bytes")
        check_depth(data, limits.depth)
        value = (_DECODER_OF_INFINITY if limits.infinity else _DECODER).decode(data.removeprefix(BOM_UTF8).decode())
        if not limits.surrogates and _SURROGATE_ESCAPE.search(data):
            check_surrogates(value)
    except UnicodeDecodeError as error:
        _refuse(path, line, f"is not UTF-8 (byte {error.start:,}); save it as UTF-8", todo)
    except json.JSONDecodeError as error:
        place = f"line {line or error.lineno}, column {error.colno}"
        _refuse(path, line, f"is not valid JSON ({error.msg}, {place}); it was cut off or edited", todo)
    except (ValueError, RecursionError) as error:
        _refuse(path, line, str(error), todo)
    return value


def parse(
    model: type[ModelT],
    value: object,
    path: str | os.PathLike[str],
    *,
    line: int = 0,
    todo: str = "",
    at: str = "",
    extra: Literal["ignore"] | None = None,
) -> ModelT:
    """A value of `read_json` as a model's. at: the dotted name of the field that value stands in, for messages.

    extra: `ignore` leaves keys out that the model and its parts don't know, also where these refuse them.
    Raises FileError with every fault: the field, what was got, what has to be there.
    """
    try:
        return model.model_validate(value, extra=extra)
    except ValidationError as error:
        raise FileError(_problems(error, value, shown(path), line, at), todo) from None


def faults(path: str | os.PathLike[str], found: Iterable[tuple[str, object, str]], *, todo: str = "") -> FileError:
    """An error for what a model can't say: (field, what was got, what has to be there) each."""
    return FileError([Problem(shown(path), 0, 0, _said(*one)) for one in found], todo)


def short(value: object) -> str:
    """What was got, in JSON's own words, of a length that fits into a line."""
    if isinstance(value, dict):
        keys = ", ".join(json.dumps(str(key)[:20]) for key in list(value)[:4])
        return f"an object ({keys}{', ...' if len(value) > 4 else ''})" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, str):
        return json.dumps(visible(value[:60]), ensure_ascii=False) + ("..." if len(value) > 60 else "")
    return json.dumps(value)[:60]


def _open_regular(path: str, flags: int) -> int:
    # A named pipe would wait for ever, and a device has no end.
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(None, "is not a regular file")
    return handle


def _refuse(path: str | os.PathLike[str], line: int, message: str, todo: str) -> NoReturn:
    raise FileError([Problem(shown(path), line, 1 if line else 0, message)], todo) from None


def check_depth(data: bytes, most: int) -> None:
    """Raises ValueError if JSON is nested deeper than `most` levels."""
    # Before it is parsed: the parser itself recurses.
    if data.count(b"[") + data.count(b"{") <= most:
        return
    depth = 0
    for match in _BRACKETS.finditer(data):
        first = match[0][:1]
        if first in b"[{":
            depth += 1
            if depth > most:
                raise ValueError(f"is nested more than {most} levels deep")
        elif first in b"]}":
            depth -= 1


def check_surrogates(value: object) -> None:
    """Raises ValueError if a key or a text of a JSON value holds half a character."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if _SURROGATE.search(one):
                raise ValueError(f"holds half a character ({short(one)}), which can't be written as UTF-8")
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"holds a number of {len(text):,} digits ({text[:20]}...)")
    return int(text)


def _real(text: str) -> float:
    number = float(text) if len(text) <= _MAX_CHARS_OF_A_FLOAT else math.inf
    if not math.isfinite(number):
        raise ValueError(f"holds {text[:40]}, which is beyond the numbers of float64")
    return number


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not a JSON number")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"has the key {short(name)} twice")
            seen.add(name)
    return made


def decoder(*, nan_is_null: bool = False) -> json.JSONDecoder:
    """A decoder that raises ValueError for what `decode_json` refuses, depth and surrogates apart.

    nan_is_null: NaN is read as null, which is what tables of other tools mean by it.
    """
    constant: Any = (lambda name: None if name == "NaN" else _no_number(name)) if nan_is_null else _no_number
    return json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=constant)


_DECODER = decoder()


def _infinity(name: str) -> float:
    return float(name) if name != "NaN" else _no_number(name)


_DECODER_OF_INFINITY = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_real, parse_constant=_infinity
)

# What pydantic calls these names Python's types; who looks into a file knows JSON's.
_EXPECTED: dict[str, str] = {
    "string_type": "a text",
    "string_unicode": "a text of whole characters",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "is_instance_of": "a text",
    "model_type": "an object",
    "none_required": "null",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "string_too_short": "a text that is not empty",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} or fewer",
}


def _problems(error: ValidationError, value: object, path: str, line: int, at: str) -> list[Problem]:
    told: dict[Location, tuple[object, list[str]]] = {}
    plain: dict[Location, str] = {}
    for item in error.errors(include_url=False):
        place, missing = _place(item["loc"], value)
        kind = item["type"]
        if kind == "missing":
            plain.setdefault((*place, *missing), "is missing")
        elif kind == "extra_forbidden":
            plain.setdefault(place, "is not a key of this file")
        elif kind == "value_error":
            told.setdefault(place, (item["input"], []))[1].append(str(item["ctx"]["error"]))
        else:
            form = _EXPECTED.get(kind)
            wanted = form.format(**item.get("ctx", {})) if form else item["msg"][:1].lower() + item["msg"][1:]
            told.setdefault(place, (item["input"], []))[1].append(wanted)
    deeper = [*plain, *told]
    # Where one kind of a union fits but for something inside, that the others don't fit is not news.
    kept = {p: it for p, it in told.items() if not any(d[: len(p)] == p != d for d in deeper)}
    found = [(place, f"{_named(place, at)} {said}") for place, said in plain.items()]
    found += [
        (place, _said(_named(place, at, bare=True), got, " or ".join(dict.fromkeys(wanted))))
        for place, (got, wanted) in kept.items()
    ]
    problems = [Problem(path, line, 1 if line else 0, visible(message)) for _, message in found]
    if len(problems) > _PROBLEMS_SHOWN:
        more = Problem(path, line, 1 if line else 0, f"and {len(problems) - _PROBLEMS_SHOWN} more fields like these")
        problems = [*problems[:_PROBLEMS_SHOWN], more]
    return problems


def _place(location: Location, value: object) -> tuple[Location, Location]:
    """The part of a pydantic location that leads through the value, and the key that is not there.

    The names of a union's members stand in a location, too; those are in no file.
    """
    place: Location = ()
    rest: Location = ()
    for part in location:
        inside = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(inside, dict) and part in inside:
            place, value, rest = (*place, part), inside[part], ()
        else:
            rest = (part,)
    return place, rest


def _named(place: Location, at: str, bare: bool = False) -> str:
    name = ".".join([*([at] if at else []), *(str(part) for part in place)])
    return name if bare else f"field {name}"


def _said(name: str, got: object, wanted: str) -> str:
    return visible(
        f"field {name} is {short(got)}, has to be {wanted}" if name else f"is {short(got)}, has to be {wanted}"
    )
