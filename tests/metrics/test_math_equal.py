"""Final answers of mathematics problems: found in solutions, equal however written, never equal if they are others."""

from __future__ import annotations

import importlib.util
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from slmbench.metrics import load_scorer
from slmbench.metrics._math_answers import same_answer
from slmbench.metrics.math_equal import final_answer, math_equal, math_equal_strict, same_spelling
from slmbench.values import Example, Output

PAIRS = Path(__file__).resolve().parents[2] / "benchmarks" / "math_answers.jsonl"
# Right answers that math_equal doesn't see; the file says why.
MISSED = {("0,111", "0.111"), ("x < 1", "-x > -1"), ("x <= 1", "-x >= -1"), ("1 = \\zzz = x = 0", "0")}


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, Any]]:
    return [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]


def test_real_answers_are_judged_as_by_hand_but_for_four_that_are_known(pairs: list[dict[str, Any]]) -> None:
    assert len(pairs) > 300
    odd = {(one["gold"], one["answer"]) for one in pairs if same_answer(one["gold"], one["answer"]) != one["right"]}
    assert odd == MISSED


def test_gold_and_answer_may_change_places(pairs: list[dict[str, Any]]) -> None:
    for one in pairs:
        assert same_answer(one["gold"], one["answer"]) == same_answer(one["answer"], one["gold"]), one


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{3}{4}", "0.75"),
        (r"\frac34", r"\dfrac{6}{8}"),
        ("1\\frac{3}{4}", "7/4"),
        ("2 1/2", "2.5"),
        (r"2\sqrt{8}", r"4\sqrt2"),
        (r"25\%", "0.25"),
        (r"90^\circ", "90 degrees"),
        ("12 cm", r"12\text{ centimeters}"),
        (r"\{1, 2, 3\}", r"\left\{3,2,1\right\}"),
        ("3, 5", "5 and 3"),
        (r"(-\infty, 2]", r"x \le 2"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}"),
        ("x^2-1", "(x-1)(x+1)"),
        (r"\binom{5}{2}", "10"),
        ("5!", "120"),
        ("e^{i\\pi}", "-1"),
        (r"\log_2 8", "3"),
        (r"\sqrt[3]{-8}", "-2"),
        ("y = 2x + 1", "2x+1"),
        (r"\text{Monday}", "monday"),
    ],
)
def test_what_is_written_otherwise_is_the_same(gold: str, answer: str) -> None:
    assert math_equal(f"So it is $\\boxed{{{answer}}}$.", [f"... $\\boxed{{{gold}}}$."]) == 1


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{3}", "0.33"),
        (r"\frac{1}{12}", "0.0833333333333333"),
        ("(1,2)", "(2,1)"),
        ("[0,9)", "(0,9)"),
        ("(0,9)", "0.9"),
        (r"\{1,2\}", r"\{1,2,2\}"),
        ("12 cm", r"12\text{ m}"),
        ("x > -1", "x < 1"),
        ("10_2", "10_8"),
        ("1000000007", "1000000009"),
        ("x+2n+1", "x+1"),
        ("A", "a"),
        (r"\text{yes}", r"\text{no}"),
        (r"\infty", r"-\infty"),
        ("7", ""),
        ("2x+1", "y = 2x - 1"),
        ("1,234", "1234.5"),
    ],
)
def test_another_answer_is_never_the_same(gold: str, answer: str) -> None:
    assert not same_answer(gold, answer)
    assert not same_answer(answer, gold)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"First \boxed{3}. No: $\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"Final Answer: The final answer is $[2,5)$. I hope it is correct.", "[2,5)"),
        (r"so \boxed{4}. The final answer is $5$.", "5"),
        ("The answer is 42.\nProblem: What else?", "42"),
        ("**Final answer:** 7", "7"),
        ("Final Answer: The largest $n$ is 34.", "34"),
        (r"The solutions are $\boxed{-2}$ and $\boxed{1}$.", "-2, 1"),
        (r"\boxed 5$ is it", "5"),
        (r"\fbox{9}", "9"),
        (r"\boxed{\frac{1}{", None),
        ("3/4", "3/4"),
        ("I think.\nIt is 3.", None),
        ("", None),
    ],
)
def test_the_final_answer_is_found(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_a_text_without_an_answer_scores_0_and_a_reference_without_one_is_an_error() -> None:
    assert math_equal("I don't know.\nReally.", ["5"]) == math_equal_strict("", ["5"]) == 0
    with pytest.raises(ValueError, match="no answer in the reference"):
        math_equal("5", [r"so \boxed{"])
    scored = load_scorer("math_equal").score(Example("a", {}, "5", references=("5",)), Output(text=" 5"))
    assert scored == {"math_equal": 1.0}


@pytest.fixture(scope="module")
def hendrycks() -> Any:
    import lm_eval.tasks

    path = Path(lm_eval.tasks.__file__).parent / "hendrycks_math" / "utils.py"
    spec = importlib.util.spec_from_file_location("hendrycks", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_strict_spelling_is_lm_evals_own(hendrycks: Any, pairs: list[dict[str, Any]]) -> None:
    texts = [text for one in pairs for text in (one["gold"], one["answer"])]
    pieces = [
        *(r"\frac", r"\dfrac", r"\sqrt", r"\text{ ", r"\left(", r"\%", r"\$", "\\\\", r"^\circ", "0.5", "=", "."),
        *("{", "}", "1", "2", "/", " ", "x", "-", "\n", "1_0", "$"),
    ]
    rng = random.Random(0)
    texts += ["".join(rng.choices(pieces, k=rng.randint(0, 7))) for _ in range(2000)]
    seen = []
    for _ in range(6000):
        one = rng.choice(texts)
        other = rng.choice(texts) if rng.random() < 0.5 else one.replace(" ", "").replace("dfrac", "frac")
        theirs = hendrycks.is_equiv(one, other)
        assert same_spelling(one, other) == theirs, (one, other)
        seen.append(theirs)
    assert 0.2 < sum(seen) / len(seen) < 0.8


def test_strict_is_lm_evals_score_of_a_bare_answer(hendrycks: Any, pairs: list[dict[str, Any]]) -> None:
    for one in pairs:
        doc = {"solution": f"... \\boxed{{{one['gold']}}}"}
        if "\\boxed" not in one["gold"] and "$" not in one["answer"]:
            theirs = hendrycks.process_results(doc, [f"${one['answer']}$"])["exact_match"]
            assert math_equal_strict(f"\\boxed{{{one['answer']}}}", [doc["solution"]]) == theirs, one


def test_no_output_takes_long_or_raises() -> None:
    begun = time.perf_counter()
    bombs = [
        *(
            "9^" * 130 + "9",
            "2^{2^{2^{2^{2^{2}}}}}",
            "9" * 350 + "!",
            r"\binom{4000}{2000}",
            "(" * 400,
            "-" * 399 + "1",
        ),
        *(
            "x" * 400,
            "1+" * 199 + "1",
            r"\frac" * 80,
            r"\sqrt" * 79 + "2",
            ",".join("1" * 190),
            r"a\pm " * 60,
            "|" * 300,
        ),
        *(r"\boxed{" * 3000, "{" * 100_000, "answer is " * 10_000, "$" * 50_000, r"\cup (1,2)" * 40, "1/0", "0^{-1}"),
        *("\\begin{pmatrix}" + "1&" * 150 + "\\end{pmatrix}", "\ud800", "\x00", "\\", "1" * 100_000, " " * 50_000),
    ]
    for bomb in bombs:
        for text in (bomb, f"\\boxed{{{bomb}}}", f"the final answer is {bomb}"):
            assert math_equal(text, ["7"]) == math_equal_strict(text, ["7"]) == 0
    assert time.perf_counter() - begun < 20
