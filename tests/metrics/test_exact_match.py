"""Exact match: the table of known spellings, lm-eval as the judge of its own names, and the decimal variant."""

from __future__ import annotations

import json
import os
import random
import time
from decimal import Decimal
from pathlib import Path

import pytest

from slmbench.metrics.exact_match import (
    exact_match,
    exact_match_decimal,
    exact_match_flexible,
    exact_match_open,
    exact_match_strict,
    extract_flexible,
    extract_strict,
    final_number,
)

# output, gold, strict, flexible, decimal
SPELLINGS = [
    ("#### 1,200", "#### 1200", 1, 1, 1),
    ("#### 1200", "#### 1,200", 1, 1, 1),
    ("#### -7", "#### -7", 1, 1, 1),
    ("#### 18 apples", "#### 18", 1, 1, 1),
    ("#### 25%", "#### 25", 1, 1, 1),
    ("#### 18.", "#### 18", 1, 1, 1),
    ("#### $18", "#### 18", 0, 1, 1),
    ("####\n18", "#### 18", 0, 1, 1),
    ("**18**", "#### 18", 0, 1, 1),
    ("The answer is 18", "#### 18", 0, 1, 1),
    ("####18", "#### 18", 0, 1, 1),
    ("#### -$7", "#### -7", 0, 1, 1),
    ("#### 5.0", "#### 5", 0, 0, 1),
    ("#### 05", "#### 5", 0, 0, 1),
    ("#### 1 200", "#### 1200", 0, 0, 1),
    (r"\boxed{18}", "#### 18", 0, 1, 1),
    ("18. That took 3 steps.", "#### 18", 0, 0, 0),
    ("9 + 9 = 18\n#### 18\n\nQuestion: what is 2 + 3?\n2 + 3 = 5\n#### 5", "#### 18", 1, 0, 1),
    ("#### 17\nNo, that is wrong.\n#### 18", "#### 18", 0, 1, 1),
    ("17 or 18", "#### 18", 0, 1, 1),
]


@pytest.mark.parametrize(("output", "gold", "strict", "flexible", "decimal"), SPELLINGS, ids=repr)
def test_spellings_score_as_tabled(output: str, gold: str, strict: int, flexible: int, decimal: int) -> None:
    assert exact_match_strict(output, [gold]) == strict
    assert exact_match_flexible(output, [gold]) == flexible
    assert exact_match_decimal(output, [gold]) == decimal


def _lm_eval_scores(outputs: list[str], golds: list[str]) -> dict[str, list[float]]:
    """Each output's score by lm-eval's own filters and metric, as its gsm8k task declares them."""
    import lm_eval
    import lm_eval.filters.extraction  # registers the filters
    import yaml
    from lm_eval.api.metrics import exact_match_fn
    from lm_eval.api.registry import get_filter

    declared = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks" / "gsm8k" / "gsm8k.yaml").read_text())
    (metric,) = declared["metric_list"]
    options = {key: metric[key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}
    scores = {}
    for pipeline in declared["filter_list"]:
        regex = dict(pipeline["filter"][0])
        extract = get_filter(regex.pop("function"))(**regex).apply
        extracted = extract([[output] for output in outputs], [{}] * len(outputs))
        scores[pipeline["name"]] = [
            float(exact_match_fn(predictions=[answer], references=[gold], **options)["exact_match"])
            for (answer,), gold in zip(extracted, golds, strict=True)
        ]
    return scores


def _generated(n: int) -> tuple[list[str], list[str]]:
    rng = random.Random(20240229)
    pieces = ["#### ", "####", "\n", " ", ". ", "$", "-", ",", ".", "%", "**", r"\boxed{", "}", "So ", "É "]
    pieces += ["18", "1,200", "1 200", "-7", "5.0", "0.5", "1200.", "[invalid]", "١٨", "\u00a0", "$.", ",,"]
    golds = ["#### 18", "9*2=<<9*2=18>>18\n#### 18", "18", "#### 1,200", "1200", "#### -7", "#### $5.0", "18\n"]
    golds += ["[INVALID]", "", "0.5.", "#### 18\n#### -7", "####  18"]
    outputs = ["".join(rng.choices(pieces, k=rng.randint(0, 7))) for _ in range(n)]
    return outputs, [rng.choice(golds) for _ in range(n)]


def test_strict_and_flexible_equal_lm_eval_on_generated_outputs() -> None:
    outputs, golds = _generated(1500)
    theirs = _lm_eval_scores(outputs, golds)
    pairs = list(zip(outputs, golds, strict=True))
    assert [exact_match_strict(output, [gold]) for output, gold in pairs] == theirs["strict-match"]
    assert [exact_match_flexible(output, [gold]) for output, gold in pairs] == theirs["flexible-extract"]
    # Both outcomes have to occur for the comparison to mean something.
    assert 20 < sum(theirs["strict-match"]) < 1000
    assert 20 < sum(theirs["flexible-extract"]) < 1000


def test_strict_and_flexible_equal_lm_eval_on_the_table() -> None:
    theirs = _lm_eval_scores([row[0] for row in SPELLINGS], [row[1] for row in SPELLINGS])
    assert theirs == {"strict-match": [row[2] for row in SPELLINGS], "flexible-extract": [row[3] for row in SPELLINGS]}


def test_extraction_without_a_match_is_lm_evals_invalid() -> None:
    assert extract_strict("no number") == extract_flexible("no number") == "[invalid]"
    assert exact_match_strict("no number", ["[Invalid]"]) == 1.0


def test_strict_reads_the_first_anchor_and_flexible_the_last_number() -> None:
    assert extract_strict("#### 3, then #### 4 and 5") == "3,"
    assert extract_flexible("#### 3, then #### 4 and 5") == "5"


@pytest.mark.parametrize(
    "measure", [exact_match, exact_match_strict, exact_match_flexible, exact_match_decimal, exact_match_open]
)
def test_any_reference_is_enough_and_none_is_an_error(measure) -> None:
    assert measure("#### 18", ["#### 17", "#### 18"]) == 1.0
    assert measure("#### 18", ["#### 17", "#### 19"]) == 0.0
    with pytest.raises(ValueError, match="no references"):
        measure("#### 18", [])
    with pytest.raises(ValueError, match="must be a list of texts"):
        measure("#### 18", "#### 18")


def test_plain_exact_match_forgives_spacing_only() -> None:
    assert exact_match("  a\u00a0tidy\n\n summary\u2003", ["a tidy summary"]) == 1.0
    assert exact_match("A tidy summary", ["a tidy summary"]) == 0.0
    assert exact_match("a tidy summary.", ["a tidy summary"]) == 0.0
    assert exact_match("", [" \n"]) == 1.0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5.0", "5"),
        ("05", "5"),
        ("-0", "0"),
        (".5", "0.5"),
        ("1,234,567.80", "1234567.8"),
        ("1\u202f234\u202f567 km", "1234567"),
        ("1\u2009200", "1200"),
        (r"\boxed{1{,}200}", "1200"),
        (r"\$18", "18"),
        ("$-7", "-7"),
        ("-$7", "-7"),
        ("€ 12.50", "12.5"),
        ("\u22127", "-7"),
        ("25 %", "25"),
        ("**18**.", "18"),
        ("20 - 2 = 18", "18"),
        ("20-2", "2"),
        ("(17)-18", "18"),
        ("17\u201318", "18"),
        ("1 200", "1200"),
        ("#### 1 200 apples", "1200"),
        ("the winners are 17 200 times", "200"),
        ("12,34", "12.34"),
        ("1,2345", "1.2345"),
        ("1234,567", "567"),
        ("#### 18\n####", "18"),
        ("#### Step 1\nadd\n#### Answer: 18", "18"),
        ("#### 18 apples in 3 boxes", "18"),
    ],
)
def test_final_number_reads(text: str, number: str) -> None:
    assert final_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "####", "eighteen", "...", "$,.", "١٨"])
def test_final_number_of_text_without_digits_is_none(text: str) -> None:
    assert final_number(text) is None
    assert exact_match_decimal(text, ["18"]) == 0.0


def test_decimal_compares_exactly_and_never_as_floats() -> None:
    assert exact_match_decimal("0.1000000000000000000001", ["0.1"]) == 0.0
    assert exact_match_decimal("9007199254740993", ["9007199254740992"]) == 0.0
    assert exact_match_decimal("12345678901234567890123456789012345", ["12345678901234567890123456789012346"]) == 0.0


def test_negative_numbers_are_compared_exactly_too() -> None:
    # Unary minus would round to the 28 digits of the default decimal context.
    assert exact_match_decimal("-12345678901234567890123456789012345", ["-12345678901234567890123456789012346"]) == 0.0


@pytest.mark.parametrize("stuck", ["9" * 200_000, "1," * 100_000, "1,234" * 40_000, "- $" * 60_000, "#### " * 40_000])
def test_a_model_that_got_stuck_costs_little_and_scores_nothing(stuck: str) -> None:
    started = time.perf_counter()
    assert exact_match_decimal(stuck, ["18"]) == 0.0
    assert exact_match_strict(stuck, ["18"]) == 0.0
    assert exact_match_flexible(stuck, ["18"]) == 0.0
    assert time.perf_counter() - started < 2.0


def test_decimal_needs_a_number_in_the_reference() -> None:
    with pytest.raises(ValueError, match="no number in the reference 'yes'"):
        exact_match_decimal("18", ["yes"])


@pytest.fixture(scope="module")
def nq_open():
    """score(prediction, golds) of lm-eval's nq_open, by its own declaration, filter and `process_results`."""
    import lm_eval
    import lm_eval.filters.transformation  # registers the filters
    import yaml
    from datasets import Dataset
    from lm_eval.api.registry import get_filter
    from lm_eval.api.task import ConfigurableTask

    folder = Path(lm_eval.__file__).parent / "tasks" / "nq_open"
    declared = yaml.safe_load((folder / "nq_open.yaml").read_text())
    for key in ("dataset_path", "training_split", "metadata", "filter_list"):
        filters = declared.pop(key)
    rows = [{"question": "?", "answer": ["a", "b"]}]
    task = ConfigurableTask(config=declared | {"custom_dataset": lambda **_: {"validation": Dataset.from_list(rows)}})
    assert [step["function"] for step in filters[0]["filter"]] == ["remove_whitespace", "take_first"]
    strip = get_filter("remove_whitespace")().apply

    def score(prediction: str, golds: list[str]) -> float:
        document = {"question": "?", "answer": golds}
        ((stripped,),) = strip([[prediction]], [document])
        return float(task.process_results(document, [stripped])["exact_match"])

    return score


def test_open_equals_lm_evals_nq_open_on_generated_texts(nq_open) -> None:
    rng = random.Random(11)
    pieces = [
        "The ",
        "the ",
        "THE ",
        "A ",
        "a ",
        "An ",
        "an",
        "Paris",
        "paris",
        "Par is",
        ".",
        ", ",
        "-",
        " ",
        "\n",
        "É",
    ]
    pieces += ["é", "Athe ", "(", "$", "1,000", "1000", "\u2019", "ß", "_the "]
    right = 0
    for _ in range(3000):
        golds = ["".join(rng.choices(pieces, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 3))]
        gold = rng.choice(golds)
        prediction = rng.choice(
            [
                "".join(rng.choices(pieces, k=rng.randint(0, 4))),
                f" {rng.choice(pieces)}{gold}{rng.choice(pieces)}",
                gold.swapcase(),
            ]
        )
        theirs = nq_open(prediction, golds)
        assert exact_match_open(prediction, golds) == theirs, (prediction, golds)
        right += theirs
    assert 500 < right < 2500


@pytest.mark.realdata
def test_open_equals_lm_evals_nq_open_on_real_answers(nq_open) -> None:
    path = Path(os.environ["SLMBENCH_DATA"]) / "nq_open" / "validation.jsonl"
    right = n = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        golds = json.loads(line)["answer"]
        first = golds[0]
        for prediction in (first, f" The {first}.", first.upper(), f"{first} , ", first[1:], f"It is {first}", ""):
            theirs = nq_open(prediction, golds)
            assert exact_match_open(prediction, golds) == theirs, (prediction, golds)
            right += theirs
            n += 1
    assert n // 4 < right < n


def test_open_forgives_articles_case_and_punctuation_only() -> None:
    assert exact_match_open(" the U.S. Senate", ["US senate"]) == 1.0
    assert exact_match_open("us senates", ["US senate"]) == 0.0
    # The article goes with its space, and only before the text is put in lower case.
    assert exact_match_open("THE end", ["end"]) == 0.0
    # A space before a full stop stays, as in lm-eval.
    assert exact_match_open("Paris .", ["Paris"]) == 0.0
