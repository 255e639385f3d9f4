"""Values that cross between the processes: plain ones unchanged, hostile ones refused."""

from __future__ import annotations

import json
import math
import os
from collections import deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.sandbox._wire import BadFrame, decode, encode, read_frame, write_frame

keys = st.none() | st.booleans() | st.integers() | st.text(st.characters(categories=None)) | st.binary() | st.floats()
hashable = st.recursive(
    keys | st.complex_numbers(allow_nan=False), lambda s: st.tuples(s, s) | st.frozensets(s, max_size=3)
)
values = st.recursive(
    hashable
    | (
        st.decimals(allow_nan=False)
        | st.fractions()
        | st.dates()
        | st.datetimes().map(lambda t: t.replace(fold=0))
        | st.timedeltas()
    )
    | st.builds(deque, st.lists(keys, max_size=3), st.none() | st.integers(3, 9))
    | st.builds(range, st.integers(), st.integers())
    | st.builds(slice, st.integers() | st.none()),
    lambda s: (
        st.lists(s, max_size=4)
        | st.lists(s, max_size=3).map(tuple)
        | st.dictionaries(hashable, s, max_size=4)
        | st.sets(hashable, max_size=4)
        | st.binary().map(bytearray)
    ),
    max_leaves=12,
)


def refuse(value: Any) -> Any:
    raise AssertionError(f"no plain value: {value!r}")


def crossed(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value, refuse)).encode("ascii")), refuse)


@given(values)
def test_a_plain_value_comes_back_with_its_types(value: Any) -> None:
    # repr tells 1 from True and 0.0 from -0.0, and nan equals nan in it; the order in a set is no part of a value.
    def shown(v: Any) -> Any:
        if isinstance(v, set | frozenset):
            return type(v).__name__, sorted(map(repr, map(shown, v)))
        if isinstance(v, list | tuple | deque):
            return type(v).__name__, [shown(x) for x in v], getattr(v, "maxlen", None)
        if isinstance(v, dict):
            return "dict", [(shown(k), shown(x)) for k, x in v.items()]
        return repr(v)

    assert shown(crossed(value)) == shown(value)


@pytest.mark.parametrize("value", [1 << 10_000, -(1 << 53), 2**53 - 1, math.inf, -0.0, "\ud83d\ude00", "\U0001f600"])
def test_an_edge_value_comes_back(value: Any) -> None:
    assert crossed(value) == value and type(crossed(value)) is type(value)
    assert math.copysign(1, crossed(value)) == math.copysign(1, value) if isinstance(value, float) else True


def test_a_subclass_goes_as_its_builtin_whatever_it_says_of_itself() -> None:
    class Liar(int):
        def __index__(self) -> int:
            return 4

        __int__ = __index__
        __eq__ = lambda self, other: True  # noqa: E731
        __hash__ = int.__hash__

    assert type(crossed(Liar(7))) is int and crossed(Liar(7)) == 7


@pytest.mark.parametrize("base", [Decimal, Fraction, date, datetime, timedelta, deque])
def test_a_subclass_of_a_standard_class_is_no_plain_value(base: type) -> None:
    arguments = {date: (2020, 1, 1), datetime: (2020, 1, 1)}.get(base, ())
    same_name = type(base.__name__, (base,), {"__module__": base.__module__, "__eq__": lambda a, b: True})
    assert encode(base(*arguments), refuse) != {"opaque": 1}
    assert encode(same_name(*arguments), lambda value: 1) == {"opaque": 1}


def test_a_time_with_a_zone_is_no_plain_value() -> None:
    assert encode(datetime(2020, 1, 1, tzinfo=UTC), lambda value: 1) == {"opaque": 1}


@given(values)
def test_both_sides_meet_the_mutable_parts_of_a_value_in_one_order(value: Any) -> None:
    ours: list[Any] = []
    theirs: list[Any] = []
    decode(encode(value, refuse, ours), refuse, theirs)
    assert list(map(repr, map(type, ours))) == list(map(repr, map(type, theirs)))
    assert [len(part) for part in ours] == [len(part) for part in theirs]


def test_a_reference_is_the_object_itself_and_none_other_is_taken() -> None:
    inner = [1]
    message = encode([inner, 2, (inner,)], refuse, known={id(inner): 0})
    assert message == [{"ref": 0}, 2, {"tuple": [{"ref": 0}]}]
    value = decode(message, refuse, refs=[inner])
    assert value[0] is inner is value[2][0]
    for body in (1, -1, True, 0.0, None, "0"):
        with pytest.raises(BadFrame):
            decode({"ref": body}, refuse, refs=[inner])
    with pytest.raises(BadFrame):
        decode({"ref": 0}, refuse)


@pytest.mark.parametrize(
    "message",
    [
        {"Decimal": 1}, {"Decimal": "x"}, {"Fraction": [1, 0]}, {"Fraction": ["1", 2]}, {"Fraction": [True, 2]},
        {"date": [2020, 2, 30]}, {"date": [2020, 1]}, {"datetime": [2020, 1, 1]}, {"timedelta": [10**10, 0, 0]},
        {"deque": []}, {"deque": [[1], -1]}, {"deque": ["ab", None]}, {"deque": [1, 2, 3]},
    ],
)  # fmt: skip
def test_parts_of_no_number_and_no_date_are_refused(message: Any) -> None:
    with pytest.raises(BadFrame):
        decode(message, refuse)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda s: (
        st.lists(s, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                "int float str bytes tuple set dict complex range slice type frozenset opaque x ref deque "
                "Decimal Fraction date datetime timedelta".split()
            ),
            s,
            max_size=2,
        )
    ),
)
PLAIN = {
    t for t in (int, float, str, bytes, bytearray, bool, complex, list, tuple, set, frozenset, dict, range, slice, type)
} | {type(None), deque, Decimal, Fraction, date, datetime, timedelta}


@given(json_values)
def test_any_answer_is_a_plain_value_or_refused(message: Any) -> None:
    def types(value: Any) -> set[type]:
        inside = value.items() if isinstance(value, dict) else value
        below = [types(x) for x in inside] if isinstance(value, list | tuple | set | frozenset | dict | deque) else []
        return {type(value)}.union(*below)

    try:
        value = decode(message, lambda number: None)
    except BadFrame:
        return
    assert types(value) <= PLAIN


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[" * 100_000, b"\xff\xfe", b'{"value": 1', b"1" * 10_000],
    ids=["empty", "no JSON", "deep", "no UTF-8", "cut", "long number"],
)
def test_bytes_that_are_no_message_are_refused(body: bytes) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb", buffering=0) as target:
        target.write((len(body).to_bytes(4, "big") + body)[:65536])
        target.close()
        with pytest.raises((BadFrame, EOFError)):
            read_frame(source.fileno())


def test_a_frame_over_the_cap_is_neither_read_nor_written() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb", buffering=0) as target:
        with pytest.raises(BadFrame, match="at most 10"):
            write_frame(target.fileno(), "x" * 100, max_bytes=10)
        target.write((11).to_bytes(4, "big"))
        with pytest.raises(BadFrame, match="at most 10"):
            read_frame(source.fileno(), max_bytes=10)
