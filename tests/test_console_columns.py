"""Tables stand in line by the cells that a terminal gives their texts."""

from __future__ import annotations

import pytest

from slmbench.console.columns import Cell, column_blocks, display_width, shortened, table_lines, wrapped

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("text", "cells"),
    [("plain", 5), ("\u4e2d\u6587", 4), ("e\u0301", 1), ("a\u200bb", 2), (FAMILY, 2), ("\u2026", 1), ("", 0)],
)
def test_a_text_is_as_wide_as_a_terminal_shows_it(text: str, cells: int) -> None:
    assert display_width(text) == cells


def test_columns_of_wide_characters_and_combining_marks_stand_under_each_other() -> None:
    names = ["ab", "\u4e2d\u6587", "e\u0301e\u0301e\u0301", FAMILY]
    lines = table_lines(["name", "n"], [[Cell(name), Cell("1")] for name in names], right=["n"])
    assert {display_width(line[: line.rindex("1")]) for line in lines[1:]} == {6}


def test_a_text_is_cut_to_cells_and_no_wide_character_is_halved() -> None:
    assert shortened("\u4e2d\u6587\u4e2d", 4) == "\u4e2d\u2026"
    assert shortened("\u4e2d\u6587", 4) == "\u4e2d\u6587"
    assert all(display_width(line) <= 5 for line in wrapped("\u4e2d\u6587\u4e2d\u6587 ab cd", 5))


def test_columns_that_fit_beside_each_other_are_one_table() -> None:
    assert column_blocks([4, 5, 6, 7], 19, kept=1) == [[0, 1, 2], [0, 3]]
    assert column_blocks([4, 5, 6, 7], 18, kept=1) == [[0, 1], [0, 2], [0, 3]]
    assert column_blocks([30, 5], 19) == [[0], [1]]
