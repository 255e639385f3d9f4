"""The result is the number right behind the mark, whatever follows it, and no other."""

from __future__ import annotations

import pytest

from slmbench.metrics.exact_match import exact_match_decimal, exact_match_strict

RIGHT = [
    ("She has 9 * 2 = 18 left.\n#### 18", "18"),
    ("#### 18\n\nA farm has 3 barns of 7 cows. How many cows are there?\n3 * 7 = 21.\n#### 21", "18"),
    ("#### 18\nA farm has 3 barns of 7 cows. How many are there?\n#### 21", "18"),
    ("#### 18\nQuestion: 2 + 3?\n#### 5", "18"),
    ("#### 18 dollars for the 3 days", "18"),
    ("#### 18 (that is 9 * 2)", "18"),
    ("#### 10 hours and 30 minutes", "10"),
    ("#### 5 apples, 3 of them red", "5"),
    ("#### 3:30", "3"),
    ("#### 9 * 2 = 18", "18"),
    ("#### The answer is $18.00", "18"),
    ("#### **18** of 20", "18"),
    ("#### 1/2 of the 3 cakes", "0.5"),
    ("#### 1 1/2 cups", "1.5"),
    ("#### \\frac{1}{2}", "0.5"),
    ("#### 1½", "1.5"),
    ("#### 1.8e1", "18"),
    ("#### 1.8 x 10^3 m in 2 s", "1800"),
    ("#### 2^3", "8"),
    ("#### 18,5 kg", "18.5"),
    ("#### 1.200,50 €", "1200.5"),
    ("#### １８ yen", "18"),
    ("#### 1,200 for 3", "1200"),
]
WRONG = [
    ("#### 1/2", "2"),
    ("#### 1/2", "1"),
    ("The share is 1/2", "2"),
    ("#### 18,5", "18"),
    ("#### 18,5", "5"),
    ("#### 1.8e1", "1.8"),
    ("#### 10^3", "10"),
    ("#### 18 of 3", "3"),
    ("#### 18\n\nNext?\n#### 21", "21"),
]


@pytest.mark.parametrize(("text", "gold"), RIGHT)
def test_the_number_right_behind_the_mark_counts(text: str, gold: str) -> None:
    assert exact_match_decimal(text, [f"#### {gold}"]) == 1.0


@pytest.mark.parametrize(("text", "gold"), WRONG)
def test_a_part_of_a_number_or_what_follows_it_does_not(text: str, gold: str) -> None:
    assert exact_match_decimal(text, [f"#### {gold}"]) == 0.0


def test_decimal_is_as_forgiving_as_strict_where_a_text_runs_on() -> None:
    strict = [exact_match_strict(text, [gold]) for text, gold in RIGHT]
    assert 1.0 in strict and 0.0 in strict
    assert [exact_match_decimal(text, [gold]) for text, gold in RIGHT] == [1.0] * len(RIGHT)
