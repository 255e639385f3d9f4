from __future__ import annotations

import pytest

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
