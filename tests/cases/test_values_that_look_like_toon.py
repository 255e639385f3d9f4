"""Answers and cells that look like numbers, lists or keys to a reader of Toon come back as the texts that they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmbench.datasets import read_rows
from slmbench.formats import load_format
from slmbench.formats.toon import decode_toon, encode_toon
from slmbench.values import Target

NUMBERS = ["007", ".622", "+861", "-01", "1e5", "1E-3", "5.", "0x1F", "1_000", "-0", "0", "1" * 20, "1.10", "100.0"]
WORDS = [
    "true",
    "null",
    "False",
    "NaN",
    "Infinity",
    "∞",
    "١٢٣",
    "１２",
    "12,5",
    "1,000",
    "$5",
    "5%",
    "12:30",
    "2024-01-01",
]
SIGNS = ["- x", "-", "--", "a: b", "[3]", "[2]: x,y", "{a}", "#x", '"q"', "x|y", "answer: 5", "key[2]{a,b}:"]
BLANKS = [
    "  x ",
    "",
    "x\ty",
    "x\ny",
    "a\r\nb",
    "\u2028 x",
    "\\n",
    "C:\\dir\\new",
    "日本: 語",
    "a\u00a0",
    "\ufeffx",
    "e\u0301",
]
VALUES = [*NUMBERS, *WORDS, *SIGNS, *BLANKS, "👩‍⚕️"]


@pytest.mark.parametrize("reasoning", [None, "because: x\n- y"], ids=["answer", "reasoned"])
def test_a_target_is_read_back_as_it_was_written(reasoning: str | None) -> None:
    toon = load_format("toon")
    wanted = [value if reasoning is None else f"{reasoning}\n{value}" for value in VALUES]
    assert [toon.read(" " + toon.write(Target(value, reasoning)), reasoning is not None) for value in VALUES] == wanted


def test_a_file_and_an_object_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [{"q": value, "a": value, "n": number} for number, value in enumerate(VALUES)]
    (tmp_path / "rows.toon").write_bytes(encode_toon({"rows": rows}).encode())
    assert read_rows(str(tmp_path / "rows.toon")) == rows
    assert [decode_toon(encode_toon({"q": value})) for value in VALUES] == [{"q": value} for value in VALUES]
