"""The generated functions: what their docstrings say, what they do and what their tests let through."""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.nano.corpus import CHARACTERS
from slmbench.recipe import load_recipe, suite_tasks
from slmbench.task import Task, load_task

SPLITS = ("train", "validation", "test")
Row = dict[str, str]
Splits = dict[str, list[Row]]

NUMBERS = range(-10, 210)
_LETTERS = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", k=135))
TEXTS = [_LETTERS[:length] for length in range(136)]
LISTS: list[list[int]] = [[], *([value] for value in NUMBERS), [*NUMBERS]]
PROBES: dict[str, Any] = {**dict.fromkeys("nxk", NUMBERS), **dict.fromkeys(("s", "text"), TEXTS)}
PROBES |= dict.fromkeys(("row", "xs"), LISTS)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("nano_code")


@pytest.fixture(scope="module")
def rows(task: Task) -> Splits:
    return {split: task.rows(split).rows for split in SPLITS}


def every(splits: Splits) -> list[Row]:
    return [row for part in splits.values() for row in part]


def function(row: Row, body: str | None = None) -> Callable[[Any], Any]:
    names: dict[str, Any] = {}
    exec(row["prompt"] + (row["canonical_solution"] if body is None else body), names)
    made: Callable[[Any], Any] = names[row["entry_point"]]
    return made


def passes(row: Row, body: str | None = None) -> bool:
    names: dict[str, Any] = {}
    exec(row["test"], names)
    try:
        names["check"](function(row, body))
    except (AssertionError, TypeError):
        return False
    return True


def behaviour(row: Row) -> str:
    """All that the function returns for a fixed set of inputs, which tells any two of the task's functions apart."""
    (parameter,) = re.findall(r"\((\w+)\):", row["prompt"].splitlines()[0])
    made = function(row)
    return repr([made(value) for value in PROBES[parameter]])


def test_canonical_solutions_pass_their_own_tests(rows: Splits) -> None:
    for row in [*rows["test"], *rows["validation"], *rows["train"][:400]]:
        assert passes(row), row


@pytest.mark.parametrize(
    "body", ["    pass\n", "    return 0\n", "    return []\n", "    return ''\n", "    return True\n"]
)
def test_a_body_that_does_no_work_fails(body: str, rows: Splits) -> None:
    for row in rows["test"]:
        assert not passes(row, body), row


def mutants(body: str) -> list[str]:
    """The body with one number, sign, comparison or method changed to the next one, each place in turn."""
    swaps = {">": "<", "<": ">", ">=": ">", "<=": "<", " + ": " - ", " - ": " + ", "upper": "lower", "lower": "upper"}
    found = []
    for match in re.finditer(r"\d+|[<>]=?| [-+] |upper|lower", body):
        text = match[0]
        others = [str(int(text) + 1), str(int(text) - 1)] if text.isdigit() else [swaps[text]]
        found += [body[: match.start()] + other + body[match.end() :] for other in others]
    return found


def test_the_tests_notice_every_constant_and_comparison(rows: Splits) -> None:
    for row in rows["test"]:
        made = mutants(row["canonical_solution"])
        assert len(made) >= 4
        for body in made:
            assert not passes(row, body), (row, body)


def test_another_functions_body_fails(rows: Splits) -> None:
    same_kind = [
        (row, other)
        for row in rows["test"]
        for other in rows["train"][:1000]
        if row["prompt"].splitlines()[0] == other["prompt"].splitlines()[0]
    ]
    assert len(same_kind) > 5000
    for row, other in same_kind:
        assert not passes(row, other["canonical_solution"]), (row, other)


BOUNDS = {"above": operator.gt, "below": operator.lt, "at least": operator.ge, "at most": operator.le}
STEPS = {"plus": operator.add, "minus": operator.sub, "times": operator.mul}
BOUND, STEP = f"({'|'.join(BOUNDS)}) (\\d+)", f"({'|'.join(STEPS)}) (\\d+)"

# What a docstring means, read by its words alone: pattern -> function of its groups and the input.
MEANINGS: dict[str, Callable[..., Any]] = {
    r"Add (\d+) to \w+, then multiply by (\d+)\.": lambda a, b, n: (n + int(a)) * int(b),
    r"Take (\d+) from \w+, then multiply by (\d+)\.": lambda a, b, n: (n - int(a)) * int(b),
    r"Multiply \w+ by (\d+), then add (\d+)\.": lambda a, b, n: n * int(a) + int(b),
    r"Multiply \w+ by (\d+), then take away (\d+)\.": lambda a, b, n: n * int(a) - int(b),
    r"Keep \w+ between (\d+) and (\d+)\.": lambda a, b, n: sorted((int(a), n, int(b)))[1],
    r"Say whether \w+ is from (\d+) to (\d+)\.": lambda a, b, n: n >= int(a) and not n > int(b),
    rf"If \w+ is {BOUND}, return (\d+), else (\d+)\.": lambda how, limit, a, b, n: int(
        a if BOUNDS[how](n, int(limit)) else b
    ),
    r"Join the first (\d+) letters of \w+ and the last (\d+)\.": lambda a, b, s: (
        "".join(c for i, c in enumerate(s) if i < int(a)) + "".join(c for i, c in enumerate(s) if len(s) - i <= int(b))
    ),
    r"Drop the first (\d+) letters of \w+ and the last (\d+), then use (upper|lower) case\.": lambda a, b, case, s: (
        "".join(getattr(c, case)() for i, c in enumerate(s) if i >= int(a) and len(s) - i > int(b))
    ),
    rf"Return v {STEP} for each v in \w+ that is {BOUND}\.": lambda step, by, how, limit, row: [
        STEPS[step](v, int(by)) for v in row if BOUNDS[how](v, int(limit))
    ],
    rf"Sum what is {BOUND} in \w+, {STEP}\.": lambda how, limit, step, by, row: STEPS[step](
        sum(v for v in row if BOUNDS[how](v, int(limit))), int(by)
    ),
    r"Count the numbers of \w+ from (\d+) to (\d+)\.": lambda a, b, row: sum(
        v >= int(a) and not v > int(b) for v in row
    ),
}


def test_every_function_does_what_its_docstring_says(rows: Splits) -> None:
    read = set()
    for row in [*rows["test"], *rows["train"][:600]]:
        head, docstring = row["prompt"].splitlines()
        name, parameter = re.fullmatch(r"def (\w+)\((\w+)\):", head).groups()  # type: ignore[union-attr]
        says = docstring.strip().strip('"')
        (pattern,) = [pattern for pattern in MEANINGS if re.fullmatch(pattern, says)]
        groups = re.fullmatch(pattern, says).groups()  # type: ignore[union-attr]
        made = function(row)
        for value in PROBES[parameter]:
            assert made(value) == MEANINGS[pattern](*groups, value), (row, value)
        assert name == row["entry_point"]
        assert re.search(rf"\b{parameter}\b", says), row
        read.add(pattern)
    assert read == set(MEANINGS)  # Each kind comes up.


def test_no_function_of_one_split_is_in_another_however_it_is_worded(task: Task, rows: Splits) -> None:
    assert task.plugin is not None
    of_split = {split: {behaviour(row) for row in part} for split, part in rows.items()}
    for split in SPLITS:  # Other seeds too: a recipe may train on any.
        of_split[split] |= {
            behaviour(task.plugin.module.generate(split, index, seed)) for index in range(300) for seed in (1, 2)
        }
    assert len(of_split["test"]) > 700
    assert not of_split["train"] & of_split["test"]
    assert not of_split["train"] & of_split["validation"]
    assert not of_split["validation"] & of_split["test"]


def test_few_test_functions_are_the_same(rows: Splits) -> None:
    assert len({behaviour(row) for row in rows["test"]}) >= 0.97 * len(rows["test"])


def test_rows_depend_on_split_index_and_seed_alone(task: Task, rows: Splits) -> None:
    plugin = load_task("nano_code").plugin
    assert plugin is not None
    assert {split: len(part) for split, part in rows.items()} == task.dataset.spec.generated
    for split in SPLITS:
        for index in (199, 3, 0, 57):
            assert plugin.module.generate(split, index, 0) == rows[split][index]
    assert plugin.module.generate("test", 0, 1) != rows["test"][0]
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        plugin.module.generate("dev", 0, 0)


def test_nano_has_met_every_character_and_every_position(task: Task, rows: Splits, nano_tokenizer: Any) -> None:
    longest = 0
    for row in every(rows):
        text = row["prompt"] + row["canonical_solution"]
        assert set(text) <= {*CHARACTERS, " ", "\n"}, row
        assert nano_tokenizer.decode(nano_tokenizer.encode(text)) == text
        longest = max(longest, len(nano_tokenizer.encode(text)))
    assert longest < 130  # Positions beyond were never trained.
    answers = [len(nano_tokenizer.encode(row["canonical_solution"])) for row in every(rows)]
    assert max(answers) < task.spec.generation.max_tokens


def test_no_solution_is_cut_by_a_stop(task: Task, rows: Splits) -> None:
    for row in every(rows):
        assert not [stop for stop in task.spec.generation.stop if stop in row["canonical_solution"]], row


def test_the_suite_has_the_task_and_the_quickstart_leaves_it_out() -> None:
    catalog = default_catalog()
    assert "nano_code" in suite_tasks(catalog, "nano")
    assert load_recipe("nano-code", catalog).evaluation_tasks(catalog) == ["nano_code"]
    quickstart = load_recipe("nano-quickstart", catalog).evaluation_tasks(catalog)
    assert quickstart == ["nano_arithmetic", "nano_note", "nano_choice"]  # Two minutes, and no sandbox needed.
