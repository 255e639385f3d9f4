from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import slmbench
from slmbench.errors import DeclarationError, OfflineError, Problem, TrustError, UsageError, did_you_mean


@pytest.mark.parametrize(
    ("got", "known", "hint"),
    [
        ("gsm8", ["gsm8k", "hellaswag"], "; did you mean 'gsm8k'?"),
        ("nono", ["nano"], "; did you mean 'nano'?"),
        ("zzz", ["b", "a"], "; known: a, b"),
        ("zzz", [], "; there are none"),
        (
            "zzz",
            [f"name{i:02}" for i in range(15)],
            "; known: " + ", ".join(f"name{i:02}" for i in range(12)) + " and 3 more",
        ),
    ],
)
def test_the_nearest_name_is_offered_or_else_those_there_are(got: str, known: list[str], hint: str) -> None:
    assert did_you_mean(got, known) == hint


def test_a_declaration_error_is_all_of_its_problems_a_line_each() -> None:
    error = DeclarationError([Problem("a.yaml", 3, 5, "x"), Problem("b.yaml", 0, 0, "y")])
    assert str(error) == "a.yaml:3:5: x\nb.yaml: y"


def test_exit_codes_are_the_documented_ones() -> None:
    assert (
        DeclarationError([]).exit_code,
        UsageError().exit_code,
        TrustError().exit_code,
        OfflineError().exit_code,
    ) == (2, 2, 3, 4)


# What someone who writes plain English stumbles over, beside what to write. "words that are no ICD codes" and "so that
# it scores too high" are keys of records and stay.
AWKWARD = {
    r"(?<!there )(?<!words that )\b(is|are) no\b(?! (more|longer)\b)": "is not a",
    r"\b(become|became) no\b": "is NaN",
    r"\bis there (already|twice)\b": "already exists, appears twice",
    r"\b(can't be|could not be|to be) had\b": "is not available",
    r"\bso that (no|none|it (?!scores)|its|they|neither)\b": "so",
    r"\b(only|even) where\b|\bwhere (there|no|none) ": "if",
    r"\b(unless told|with commas between|gone on from|as was asked for|one's own|anew)\b": "a plainer word",
    r"\btake (it|them) (out|off|away)\b": "remove",
}


def test_what_people_read_is_plain_english() -> None:
    faults = []
    for path in sorted(Path(slmbench.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                faults += [
                    f"{path}:{node.lineno}: {found[0]!r}; write {better!r}"
                    for said, better in AWKWARD.items()
                    if (found := re.search(said, node.value))
                ]
    assert faults == []
