"""Files as somebody may have left them: anything in any field of a model, and bytes that are no sound JSON."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from attrs import frozen
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

Place = tuple[str | int, ...]
GONE: Any = object()

TEXTS = ("", "x", "5", "nan", "1e999", "true", "null", "\0", "\u202e", "\ud800", "../x", "(a+)+$", "x" * 400)
NUMBERS = (0, 1, -1, 2, 7, 10**9, 2**53 + 1, 2**70, 10**60, -0.0, 0.5, -1.5, 1e16, 1e300, -1e300, 1.7e308, 5e-324)
SIMPLE = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS) | st.floats(-2, 2)
VALUES = SIMPLE | st.recursive(
    SIMPLE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS[:6]), inner, max_size=2)
)
"""Every type of JSON, nested a little, with the values that trip readers."""
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "-1e400", "9" * 5000, "[" * 3000 + "]" * 3000, '{"a": 1, "a": 2}',
       "nul", "'x'", "01", '"\t"', '"\x00"', "[1,]", "{,}", "1 2", '"\\ud800"', "/* */ 1", "")  # fmt: skip
"""What is written where a value stands: no JSON, no number of float64, too deep, or half a character."""
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7")


def full(model: type[BaseModel]) -> dict[str, Any]:
    """An object of JSON that a model takes, with every field of it and of those inside."""
    made = {}
    for name, field in model.model_fields.items():
        kind = field.rebuild_annotation()
        made[field.alias or name] = next(_fitting(kind, model.__name__ + "." + name))
    return made


def _fitting(kind: Any, where: str) -> Iterator[Any]:
    adapter = TypeAdapter(kind, config=None if _is_model(kind) else ConfigDict(strict=True, allow_inf_nan=False))
    for value in _candidates(kind):
        try:
            adapter.validate_python(value)
        except ValidationError:
            continue
        yield value
    raise AssertionError(f"no value is known that fits {where}; add one to tests/damage.py")


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _candidates(kind: Any) -> Iterator[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if _is_model(kind):
        yield full(kind)
    elif origin is Annotated:
        yield from _candidates(arguments[0])
    elif origin in (Union, UnionType):
        for one in sorted(arguments, key=lambda one: one is NoneType):
            yield from _candidates(one)
    elif origin is Literal:
        yield from arguments
    elif origin is list:
        yield from ([one] for one in _candidates(arguments[0]))
        yield from ([0.0, 1.0], [0, 8], [[0.5], [1], [1]])
    elif origin is dict:
        yield from ({"k": one} for one in _candidates(arguments[1]))
    elif kind is NoneType:
        yield None
    elif kind is bool:
        yield True
    elif kind is int:
        yield from (1, 0, 2)
    elif kind is float:
        yield from (0.5, 0.0, -1.0)
    elif kind is str or kind is Any or kind is object:
        yield from ("x", "0" * 64, "2026-01-01T00:00:00+00:00", "F32", [1], 1)
    else:
        raise AssertionError(f"tests/damage.py knows no value of {kind!r}")


def filled(model: type[BaseModel], real: dict[str, Any]) -> dict[str, Any]:
    """A real file's object with the fields of the model that it lacks, or that are null in it."""
    return _over(full(model), real)


def _over(made: Any, real: Any) -> Any:
    if real is None:
        return made
    if isinstance(made, dict) and isinstance(real, dict):
        merged = {key: _over(value, real[key]) if key in real else value for key, value in made.items()}
        return merged | {key: value for key, value in real.items() if key not in made}
    return real


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """The place of everything inside a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*at, key)
        yield from places(inner, (*at, key))


def put(value: Any, place: Place, new: Any) -> Any:
    """A copy with something else in a place; GONE takes it away."""
    if not place:
        return new
    made = inner = copy.deepcopy(value)
    for part in place[:-1]:
        inner = inner[part]
    if new is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return made


@frozen
class Damage:
    """A damaged file. data: its bytes. place: of the value that was damaged, () where it is all of them."""

    data: bytes
    how: str
    place: Place


@st.composite
def damages(draw: st.DrawFn, value: Any) -> Damage:
    """One damage to a file that holds a value."""
    text = json.dumps(value)
    place = draw(st.sampled_from([(), *places(value)]))
    how = draw(st.sampled_from(["value"] * 6 + ["gone", "raw", "renamed", "twice", "cut", "bytes", "encoding"]))
    if how == "cut":
        return Damage(text.encode()[: draw(st.integers(0, len(text) - 1))], how, ())
    if how == "bytes":
        start, end = draw(st.integers(0, len(text))), draw(st.integers(0, 4))
        return Damage(text[:start].encode() + draw(st.binary(max_size=4)) + text[start + end :].encode(), how, ())
    if how == "encoding":
        return Damage(text.encode(draw(st.sampled_from(ENCODINGS))), how, ())
    if how == "raw":
        raw = json.dumps(put(value, place, "<here>")).replace('"<here>"', draw(st.sampled_from(RAW)))
        return Damage(raw.encode(), how, place)
    if how == "gone" and place:
        return Damage(json.dumps(put(value, place, GONE)).encode(), how, place)
    if how in ("renamed", "twice") and place and isinstance(place[-1], str):
        old = json.dumps(place[-1])
        keys = f"{old}: 1, {old}" if how == "twice" else json.dumps(f"{place[-1]}_")
        moved = put(put(value, place, GONE), (*place[:-1], "<key>"), _at(value, place))
        return Damage(json.dumps(moved).replace('"<key>"', keys).encode(), how, place)
    return Damage(json.dumps(put(value, place, draw(VALUES))).encode(), "value", place)


def _at(value: Any, place: Place) -> Any:
    for part in place:
        value = value[part]
    return value
