from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slmbench.errors import DeclarationError
from slmbench.yamlfile import MAX_BYTES, MAX_DEPTH, MAX_NODES, parse_yaml, read_yaml


def faults(text: str | bytes) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        parse_yaml(text.encode() if isinstance(text, str) else text, "x.yaml")
    return [str(problem) for problem in caught.value.problems]


def data(text: str | bytes) -> object:
    return parse_yaml(text.encode() if isinstance(text, str) else text, "x.yaml").data


plain_text = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff\ufffe\uffff"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | plain_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_text, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_what_yaml_dumps_is_read_back_the_same(value: object) -> None:
    assert data(yaml.safe_dump(value, allow_unicode=True)) == value


@pytest.mark.parametrize(
    ("text", "number"),
    [("5e-3", 0.005), ("1E5", 1e5), ("-2.e+1", -20.0), (".5e1", 5.0), ("1.5e-3", 0.0015), ("3", 3), ("0.1", 0.1)],
)
def test_numbers_written_the_usual_way_are_numbers(text: str, number: float) -> None:
    read = data(f"lr: {text}")["lr"]
    assert read == number
    assert type(read) is type(number)


@pytest.mark.parametrize("text", ['"5e-3"', "'1'", '"true"', "1e", "e5", "5e-3x", "2024-01-31", "=", "<<"])
def test_quoted_numbers_dates_and_odd_words_are_texts(text: str) -> None:
    assert isinstance(data(f"a: {text}")["a"], str)


@pytest.mark.parametrize(
    ("text", "kind"), [("010", "an octal number"), ("-0_7", "an octal number"), ("1:30", "a number in base 60")]
)
def test_numbers_that_only_yaml_reads_otherwise_are_faults(text: str, kind: str) -> None:
    (fault,) = faults(f"rows: {text}\n")
    assert f"{text!r}: YAML 1.1 reads {kind} here; write a plain number, or quote it" in fault
    assert data(f"rows: '{text}'") == {"rows": text}
    assert data("a: 0\nb: 0.5\nc: 10\nd: -0.0") == {"a": 0, "b": 0.5, "c": 10, "d": 0.0}


def test_keys_are_texts_even_where_yaml_takes_them_for_something_else() -> None:
    assert data("on: 1\n5: 2\nnull: 3\n") == {"on": 1, "5": 2, "null": 3}


def test_byte_order_mark_and_crlf_do_no_harm() -> None:
    document = parse_yaml(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - x\r\n", "x.yaml")
    assert document.data == {"a": 1, "b": ["x"]}
    assert document.marks[("a",)] == (1, 1)
    assert document.marks[("b", 0)] == (3, 5)


@pytest.mark.parametrize("text", ["", "# nothing\n", "\n\n"])
def test_an_empty_file_is_none(text: str) -> None:
    assert data(text) is None


def test_a_problem_is_shown_at_the_nearest_enclosing_mark() -> None:
    document = parse_yaml(b"a: 1\nb:\n  c: [1, 2]\n", "x.yaml")
    assert str(document.problem(("b", "c", 1), "m")) == "x.yaml:3:10: m"
    assert str(document.problem(("b", "zzz", "deep"), "m")) == "x.yaml:2:1: m"
    assert str(document.problem(("nowhere",), "m")) == "x.yaml:1:1: m"


def test_every_duplicate_key_and_tag_of_a_file_is_told_at_once() -> None:
    assert faults("a: 1\na: 2\nb: !function f\nc:\n  d: 1\n  d: 2\n") == [
        "x.yaml:2:1: duplicate key 'a'; it is on line 1 already",
        "x.yaml:3:4: tag '!function' is not allowed; declarations are data and run no code",
        "x.yaml:6:3: duplicate key 'd'; it is on line 5 already",
    ]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/module:os", "!function", "!!set"]
)
def test_tags_are_refused_on_every_kind_of_node(tag: str) -> None:
    for node in ("x", "[x]", "{x: y}"):
        (fault,) = faults(f"a: {tag} {node}\n")
        assert "is not allowed; declarations are data and run no code" in fault


def test_billion_laughs_stops_at_the_node_limit() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    started = time.process_time()
    (fault,) = faults("\n".join(lines))
    assert fault.endswith(f"aliases expand to more than {MAX_NODES:,} nodes or {MAX_DEPTH} levels")
    assert time.process_time() - started < 5


@pytest.mark.parametrize("text", ["&a [*a]", "a: &x {b: *x}", "a: &x\n  - [[*x]]\n"])
def test_an_alias_to_its_own_parent_is_refused(text: str) -> None:
    (fault,) = faults(text)
    assert "aliases expand to more than" in fault


@pytest.mark.parametrize("text", ["[" * 10_000, "{a: " * 10_000, "- " * 10_000, "? " * 10_000, "[" * 900_000])
def test_deep_nesting_is_an_error_and_not_a_crash(text: str) -> None:
    (fault,) = faults(text)
    assert f"nested more than {MAX_DEPTH} levels deep" in fault


def test_nesting_up_to_the_limit_is_read() -> None:
    assert data("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


def test_a_file_over_a_megabyte_is_refused_unread() -> None:
    assert faults(b"a" * (MAX_BYTES + 1)) == ["x.yaml: 1,000,001 bytes; a declaration has at most 1,000,000"]


def test_a_number_of_a_million_digits_costs_nothing() -> None:
    started = time.process_time()
    for text in ("9" * 999_000, "1" + ":59" * 300_000, "0." + "1" * 900_000):
        (fault,) = faults("a: " + text)
        assert fault.startswith("x.yaml:1:4: not a number: '")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a: 1\nb: \xff\n", "x.yaml:2:1: not UTF-8; save the file as UTF-8"),
        ("a: 1\nb: ü".encode("utf-16"), "x.yaml:1:1: not UTF-8; save the file as UTF-8"),
        (
            b"a: 1\nb: x\0y\n",
            "x.yaml:2:5: YAML syntax: character '\\x00' is not allowed; write it as an escape inside double quotes",
        ),
        (
            b"a: \x1b[31m\n",
            "x.yaml:1:4: YAML syntax: character '\\x1b' is not allowed; write it as an escape inside double quotes",
        ),
        (b"a: [1\n", "x.yaml:2:1: YAML syntax: did not find expected ',' or ']' while parsing a flow sequence"),
        (b"a: 'x\n", "x.yaml:2:1: YAML syntax: found unexpected end of stream while scanning a quoted scalar"),
        (
            b"a: 1\n---\nb: 2\n",
            "x.yaml:2:1: YAML syntax: but found another document expected a single document in the stream",
        ),
        (b"a: *b\n", "x.yaml:1:4: YAML syntax: found undefined alias"),
        (b"? [a]\n: b\n", "x.yaml:1:3: a key must be plain text (merge keys '<<' are not supported)"),
        (b"a: &x {b: 1}\nc:\n  <<: *x\n", "x.yaml:3:3: a key must be plain text (merge keys '<<' are not supported)"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line_and_column(raw: bytes, message: str) -> None:
    assert faults(raw) == [message]


@given(st.binary(max_size=60) | st.text("[]{}:,-?&*!|>'\"#%@`ab \n\t", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_but_never_crash(raw: bytes) -> None:
    try:
        parse_yaml(raw, "x.yaml")
    except DeclarationError as error:
        assert error.problems
        assert all("\n" not in str(problem) for problem in error.problems)


def test_a_missing_file_is_told_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeclarationError, match=r"^no\.yaml: can't be read: No such file or directory$"):
        read_yaml(tmp_path / "no.yaml")
