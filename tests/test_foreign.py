from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from slmbench.errors import FileError
from slmbench.foreign import Foreign, Limits, decode_json, parse, read_json, read_model

SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    SCALARS | TEXTS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_back_as_it_was(value: Any, ascii: bool) -> None:
    assert decode_json(json.dumps(value, ensure_ascii=ascii).encode(), "a.json") == value


@given(st.binary(max_size=40) | st.text('[]{}",:0123456789eE.-+\\u \n\tNaIifty\ud800', max_size=40))
def test_any_bytes_are_a_value_or_one_error_that_names_the_file(given: bytes | str) -> None:
    data = given if isinstance(given, bytes) else given.encode(errors="surrogatepass")
    try:
        value = decode_json(data, "a.json", Limits(depth=5))
    except FileError as error:
        assert str(error).startswith("a.json: ")
    else:
        assert value == json.loads(data.decode("utf-8-sig"))
        json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not valid JSON (Expecting value, line 1, column 1); it was cut off or edited"),
        (b'{"a": 1', "is not valid JSON"),
        (b'{"a": 1} {}', "is not valid JSON (Extra data"),
        (b"[1,\n 2,\n x]", "line 3, column 2"),
        (b"NaN", "holds NaN, which is not a JSON number"),
        (b"[-Infinity]", "holds -Infinity, which is not a JSON number"),
        (b'{"a": [1e999]}', "holds 1e999, which is beyond the numbers of float64"),
        (b"9" * 9000, "holds a number of 9,000 digits (99999999999999999999...)"),
        (b"0." + b"9" * 9000, "which is beyond the numbers of float64"),
        (b'{"a": 1, "b": 2, "a": 1}', 'has the key "a" twice'),
        (b'{"a": {"b": 1, "b": 2}}', 'has the key "b" twice'),
        (b"\xff\xfe{\x00}\x00", "is not UTF-8 (byte 0); save it as UTF-8"),
        (b'"ab\xe4"', "is not UTF-8 (byte 3)"),
        (b'["\\ud800"]', "holds half a character"),
        (b'{"\\udc00 a": 1}', "holds half a character"),
        (b"[" * 41 + b"]" * 41, "is nested more than 40 levels deep"),
        (b"[" * 200_000, "is nested more than 40 levels deep"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "is nested more than 40 levels deep"),
        (b" " * 2001, "has more than 2,000 bytes"),
    ],
)
def test_a_file_that_is_no_json_of_finite_numbers_is_refused_by_name(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    limits = Limits(bytes=2000) if data.isspace() else Limits()
    with pytest.raises(FileError) as caught:
        read_json(path, limits, todo="get it again")
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path)) and str(caught.value).endswith("; get it again")


def test_brackets_in_texts_are_no_depth_and_a_byte_order_mark_no_fault() -> None:
    assert decode_json(b'\xef\xbb\xbf["[[{\\"[", "]", {"}": "\\\\"}]', "a.json", Limits(depth=2)) == [
        '[[{"[',
        "]",
        {"}": "\\"},
    ]
    assert decode_json(b'["\\ud83d\\ude00"]', "a.json") == ["\N{GRINNING FACE}"]
    assert decode_json(b'["\\ud800"]', "a.json", Limits(surrogates=True)) == ["\ud800"]


@pytest.mark.parametrize(
    "data",
    [b'"' + b"\\" * 3_000_001 + b"[" * 50, b'{"a":"' * 500_000, b'"[' * 1_000_000, b"[[]," * 1_000_000],
    ids=["backslashes", "objects", "quotes", "lists"],
)
def test_what_is_hard_to_look_through_costs_no_more_than_its_length(data: bytes) -> None:
    begun = time.perf_counter()
    with pytest.raises(FileError):
        decode_json(data, "a.json")
    assert time.perf_counter() - begun < 5


def test_a_pipe_a_folder_and_a_name_with_nul_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, str(tmp_path / "a\0b"), "/dev/zero"):
        with pytest.raises(FileError, match="can't be read"):
            read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothere.json")


class Inner(Foreign):
    name: str = Field(min_length=1)
    kind: Literal["a", "b"] = "a"


class Outer(Foreign):
    n: int = Field(ge=0)
    share: float
    flag: bool | None = None
    inner: Inner
    many: list[Inner] = Field(default_factory=list)
    either: str | list[int] | None = None


GOOD = {"n": 1, "share": 0.5, "inner": {"name": "x"}, "many": [{"name": "y"}], "other": {"of": "another tool"}}


def test_a_model_says_every_fault_at_once_each_with_field_and_what_was_got(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps(
            {
                "n": "1",
                "share": True,
                "flag": 1,
                "inner": None,
                "many": [{"name": "y"}, {"name": "", "kind": "c"}, {}],
                "either": ["a"],
            }
        )
    )
    with pytest.raises(FileError) as caught:
        read_model(path, Outer, todo="write it again")
    lines = [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]
    assert sorted(lines) == sorted(
        [
            "field many.2.name is missing",
            'field n is "1", has to be a whole number',
            "field share is true, has to be a number",
            "field flag is 1, has to be true or false",
            "field inner is null, has to be an object",
            'field many.1.name is "", has to be a text that is not empty',
            "field many.1.kind is \"c\", has to be 'a' or 'b'",
            'field either.0 is "a", has to be a whole number; write it again',
        ]
    )


def test_a_model_takes_what_fits_and_a_whole_value_that_is_none_is_said() -> None:
    made = parse(Outer, GOOD, "a.json")
    assert (made.n, made.share, made.inner.name, made.many[0].kind, made.flag) == (1, 0.5, "x", "a", None)
    assert parse(Outer, GOOD | {"share": 3}, "a.json").share == 3
    for value in (None, [], "x", 3):
        with pytest.raises(FileError, match="has to be an object"):
            parse(Outer, value, "a.json", line=7)
    with pytest.raises(FileError, match=r"a\.json:7:1: is null, has to be an object"):
        parse(Outer, None, "a.json", line=7)
    with pytest.raises(FileError, match=r"field cost\.either is 1\.5, has to be a text or a list"):
        parse(Outer, GOOD | {"either": 1.5}, "a.json", at="cost")


@given(st.sampled_from(["n", "share", "inner", "many", "flag"]), VALUES)
def test_any_value_in_any_field_is_of_its_type_or_an_error(field: str, value: Any) -> None:
    try:
        made = parse(Outer, GOOD | {field: value}, "a.json")
    except FileError as error:
        assert f"field {field}" in str(error)
    else:
        got = getattr(made, field)
        assert (
            got.model_dump() if field == "inner" else [one.model_dump() for one in got] if field == "many" else got
        ) == ({"kind": "a"} | value if field == "inner" else value) or field == "many"
        assert type(got) in {"n": [int], "share": [float, int], "flag": [bool, type(None)]}.get(field, [type(got)])


def test_control_characters_of_a_file_stay_out_of_messages() -> None:
    with pytest.raises(FileError) as caught:
        parse(Outer, GOOD | {"n": "\x1b[2J\u202e"}, "a.json")
    assert "\x1b" not in str(caught.value) and "\u202e" not in str(caught.value)


def test_a_large_file_is_read_about_as_fast_as_json_itself(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [{"text": "x" * 200, "scores": {"a": rng.random()}, "choices": [1, 2, 3]} for _ in range(4000)]
    data = json.dumps(rows).encode()
    plain, ours = [], []
    for _ in range(3):
        begun = time.perf_counter()
        json.loads(data)
        plain.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        decode_json(data, "a.json")
        ours.append(time.perf_counter() - begun)
    assert min(ours) < 12 * min(plain)
