"""An answer that was cut is counted as such, and what there is of it is scored."""

from __future__ import annotations

import pytest

from slmbench.evaluation._judge import read_answer
from slmbench.formats import load_format
from slmbench.task import load_task
from slmbench.values import Target

TOON = load_format("toon")
TEXT = 'He said: "no\\no"\nand left: 5%, é.'


def test_a_toon_answer_cut_anywhere_is_read_as_far_as_it_goes() -> None:
    example = load_task("nano_note", data="samples").examples("test")[0]
    written = TOON.write(Target(TEXT))
    for end in range(2, len(written) + 1):
        answer = read_answer(TOON, example, f" {written[:end]}")
        assert answer.fault == ""
        assert TEXT.startswith(answer.text.rstrip()) and len(answer.text) >= (end - 1) / 1.5 - 5
    assert read_answer(TOON, example, f" {written}").text == TEXT


@pytest.mark.parametrize("output", ['{"answer": "x', "x\nother: y", 'x\nother: "y'])
def test_what_is_no_toon_for_another_reason_is_still_none(output: str) -> None:
    example = load_task("nano_note", data="samples").examples("test")[0]
    answer = read_answer(TOON, example, output)
    assert answer.text == "" and answer.fault
