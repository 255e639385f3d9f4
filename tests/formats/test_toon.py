"""Toon: what is written is read back as it was, what isn't Toon of the right shape is a fault. Oracle: toon_format."""

from __future__ import annotations

from typing import Any

import pytest
import toon_format
from hypothesis import example, given
from hypothesis import strategies as st

from slmbench.errors import DataError
from slmbench.formats import FormatFault, load_format
from slmbench.formats.toon import decode_toon, encode_toon
from slmbench.values import Prompt, Shot, Target

TOON = load_format("toon")
# What ends a value, a line or a key, looks like another type, or is white space to Python and not to Toon.
MARKS = [*'"\\\n\t\r:,-[]{}#|. 0123456789eE+', "true", "null", "\u2028", "\x85", "\xa0", "\x1c", "\x00", "\ufeff"]
NASTY = st.lists(st.sampled_from(MARKS) | st.characters(exclude_categories=["Cs"]), max_size=12).map("".join)
SCALARS = NASTY | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NASTY, inner, max_size=3), max_leaves=8
)


def test_a_prompt_is_an_object_up_to_the_key_that_the_model_goes_on_from() -> None:
    prompt = Prompt("Question: 3+3?", "Be brief.", prefix="Answer:", inputs={"question": "3+3?", "n": 2})
    rendered = TOON.render(prompt, None)
    assert rendered.text == "Be brief.\n\nquestion: 3+3?\nn: 2\nanswer:"
    assert rendered.delimiter == " "


def test_shots_are_objects_with_their_answers_an_empty_line_apart() -> None:
    shots = (
        Shot("1+1?", Target("2"), {"question": "1+1?"}),
        Shot("Who?", Target("Ann: the first"), {"question": "Who?"}),
    )
    text = TOON.render(Prompt("3+3?", "", shots, inputs={"question": "3+3?"}), None).text
    assert text == 'question: 1+1?\nanswer: 2\n\nquestion: Who?\nanswer: "Ann: the first"\n\nquestion: 3+3?\nanswer:'


def test_a_reasoned_prompt_opens_the_reasoning_and_the_answer_follows_it() -> None:
    shot = Shot("1+1?", Target("2", "One and one."), {"question": "1+1?"})
    rendered = TOON.render(Prompt("3+3?", "", (shot,), inputs={"question": "3+3?"}, reasoned=True), None)
    assert rendered.text == ("question: 1+1?\nreasoning: One and one.\nanswer: 2\n\nquestion: 3+3?\nreasoning:")
    assert TOON.write(Target("2", "")) == '""\nanswer: 2'


def test_a_prompt_without_inputs_is_the_key_alone() -> None:
    assert TOON.render(Prompt("a"), None).text == "answer:"


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        ("x", "x"),
        ("4", "4"),
        ("-4", "-4"),
        ("0", "0"),
        ("two words", "two words"),
        ("", '""'),
        # A text that looks like something else is quoted; a whole number is what a model would write anyway.
        ("007", '"007"'),
        ("-0", '"-0"'),
        ("4.50", '"4.50"'),
        ("1e5", '"1e5"'),
        ("true", '"true"'),
        ("null", '"null"'),
        ("1234567890123456", '"1234567890123456"'),
        ("- x", '"- x"'),
        (" x ", '" x "'),
        ("a: b", '"a: b"'),
        ('say "x"', '"say \\"x\\""'),
        ("two\nlines", '"two\\nlines"'),
        ("[1]", '"[1]"'),
        ('{"a": 1}', '"{\\"a\\": 1}"'),
        ("٤", "٤"),
    ],
)
def test_an_answer_is_quoted_only_where_it_would_be_read_as_something_else(answer: str, written: str) -> None:
    assert TOON.write(Target(answer)) == written
    assert TOON.read(f" {written}\n", False) == answer
    assert str(toon_format.decode(f"answer: {written}")["answer"]) == answer


@given(NASTY, st.none() | NASTY)
@example("", "")
@example("\xa0", "\x85")
@example("a\n\nb", "answer: c\n\n")
def test_every_target_is_read_back_as_it_was_written(answer: str, reasoning: str | None) -> None:
    target = Target(answer, reasoning)
    written = TOON.write(target)
    assert TOON.read(written, reasoning is not None) == target.text
    # As a model begins after "answer:", and as it ends.
    assert TOON.read(f" {written}\n\n", reasoning is not None) == target.text


@given(NASTY, st.none() | NASTY)
def test_no_target_has_the_empty_line_that_ends_an_output(answer: str, reasoning: str | None) -> None:
    (stop,) = TOON.stop([])
    written = TOON.write(Target(answer, reasoning))
    assert stop == "\n\n"
    assert stop not in written
    assert len(written.split("\n")) == (1 if reasoning is None else 2)


@given(st.dictionaries(NASTY, NASTY | st.integers() | st.booleans(), max_size=4), NASTY, st.none() | NASTY)
def test_prompt_and_answer_together_are_one_object_of_all_their_fields(
    fields: dict[str, Any], answer: str, reasoning: str | None
) -> None:
    inputs = {key: value for key, value in fields.items() if key not in ("answer", "reasoning")}
    rendered = TOON.render(Prompt("u", inputs=inputs, reasoned=reasoning is not None), None)
    whole = toon_format.decode(rendered.text + rendered.delimiter + TOON.write(Target(answer, reasoning)))
    assert {key: whole[key] for key in inputs} == inputs
    assert list(whole) == [*inputs, *(["reasoning"] if reasoning is not None else []), "answer"]
    assert str(whole["answer"]) == answer
    assert whole.get("reasoning") == reasoning


@given(JSON)
def test_any_json_value_is_read_back_as_it_was_written(value: Any) -> None:
    assert decode_toon(encode_toon(value)) == value


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("4", "4"),
        (" -5 ", "-5"),
        ("0.1", "0.1"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"4"', "4"),
        ("true", "true"),
        ("false", "false"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("1,200", "1,200"),
        ("x # no comment", "x # no comment"),
        ("a: b", "a: b"),
        ("an answer with [1] and {2}", "an answer with [1] and {2}"),
        ('"two\\nlines"', "two\nlines"),
        ('"\\u00e9"', "é"),
        ("Ärger", "Ärger"),
        ("\r\n4\r\n", "4"),
    ],
)
def test_an_output_is_the_text_of_its_value(output: str, text: str) -> None:
    assert TOON.read(output, False) == text


FAULTS = [
    ("", "answer: expected a text or a number, got dict"),
    ("null", "answer: expected a text or a number, got NoneType"),
    ("x\nmore: y", "expected the keys 'answer', got the keys 'answer', 'more'"),
    ("x\n\nquestion: y", "expected the keys 'answer', got the keys 'answer', 'question'"),
    ("x\nanswer: y", "not Toon: line 2: Duplicate key 'answer'"),
    ("x\ny", "not Toon: line 2: Expected 'key: value'"),
    ("\n  inner: 4\n  other: 5", "not Toon"),
    ("x\n inner: 4", "not Toon: line 2"),
    ('"open', "not Toon: line 1: Unterminated string"),
    ('"a" b', "not Toon: line 1: Unexpected characters after closing quote"),
    ('"\\q"', "not Toon: line 1: Invalid escape sequence"),
    ('"\\ud800"', "not Toon: line 1: Surrogate escape"),
    ("1e999", "not Toon: line 1: Number 1e999 is out of range"),
    ("```\n4\n```", "not Toon: line 2"),
]


@pytest.mark.parametrize(("output", "fault"), FAULTS)
def test_an_output_of_another_shape_is_a_fault(output: str, fault: str) -> None:
    with pytest.raises(FormatFault) as caught:
        TOON.read(output, False)
    assert str(caught.value).startswith(fault)


@pytest.mark.parametrize(
    "output",
    ['{"answer": 4}', ' {"answer": "4"}', '{\n  "answer": 4\n}', "{}", "[4]", "[]", "[1]: 4", "[2]{a,b}:\n  1,2"],
)
def test_json_and_lists_are_faults_and_no_texts(output: str) -> None:
    with pytest.raises(FormatFault, match=r"expected a text or a number, got what begins with '[\[{]'"):
        TOON.read(output, False)
    with pytest.raises(FormatFault, match=r"expected a text or a number, got what begins with '[\[{]'"):
        TOON.read(f"so\nanswer: {output.strip()}", True)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("so\nanswer: 4", "so\n4"),
        (' "a\\nb"\nanswer: "c"\n', "a\nb\nc"),
        ("so\n\nanswer: 4", "so\n4"),
        ('""\nanswer: 4', "4"),
        ("5\nanswer: 4", "5\n4"),
    ],
)
def test_a_reasoned_output_is_reasoning_and_answer_on_lines_of_their_own(output: str, text: str) -> None:
    assert TOON.read(output, True) == text


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        ("so", "expected the keys 'reasoning', 'answer', got the keys 'reasoning'"),
        (
            "so\nanswer: 4\nmore: 5",
            "expected the keys 'reasoning', 'answer', got the keys 'reasoning', 'answer', 'more'",
        ),
        ("so\nanswer:", "answer: expected a text or a number, got dict"),
        ("\nanswer: 4", "expected the keys 'reasoning', 'answer', got the keys 'reasoning'"),
        ("one line\nanother line\nanswer: 4", "not Toon: line 2"),
    ],
)
def test_a_reasoned_output_of_another_shape_is_a_fault(output: str, fault: str) -> None:
    with pytest.raises(FormatFault) as caught:
        TOON.read(output, True)
    assert str(caught.value).startswith(fault)


@given(NASTY, st.booleans())
def test_any_output_is_a_text_or_a_fault(output: str, reasoned: bool) -> None:
    try:
        assert isinstance(TOON.read(output, reasoned), str)
    except FormatFault as fault:
        assert str(fault)


def test_deeply_nested_output_is_a_fault_and_no_crash() -> None:
    nested = "\n" + "".join(f"{'  ' * depth}a:\n" for depth in range(1, 3000))
    with pytest.raises(FormatFault):
        TOON.read(nested, False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": float("nan")}, "toon has no way to write nan"),
        ({"a": [1, {"b": float("-inf")}]}, "toon has no way to write -inf"),
        ({1: "a"}, "toon: the key 1 is not text"),
        ({"a": {None: 1}}, "toon: the key None is not text"),
        ({"a": b"x"}, "toon has no way to write a bytes"),
        ({"a": {1, 2}}, "toon has no way to write a set"),
    ],
)
def test_what_toon_would_change_is_refused(value: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        encode_toon(value)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["answer", "reasoning"])
def test_an_input_that_is_named_as_an_output_is_refused(name: str) -> None:
    with pytest.raises(
        DataError, match=f"toon: an input is named '{name}', as what the model writes is; declare prompt"
    ):
        TOON.render(Prompt("u", inputs={"question": "q", name: "x"}), None)
    with pytest.raises(DataError, match=f"toon: an input is named '{name}'"):
        TOON.render(Prompt("u", "", (Shot("u", Target("x"), {name: "x"}),)), None)
