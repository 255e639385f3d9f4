"""The generated tasks, each answer worked out again from the question's own words."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

from slmbench.nano.words import COMPLAINTS, DRUGS, HISTORY, NAMES
from slmbench.task import Task, load_task

TASKS = ("nano_arithmetic", "nano_note", "nano_choice")
SPLITS = ("train", "validation", "test")
Splits = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    return {name: load_task(name) for name in TASKS}


@pytest.fixture(scope="module")
def rows(tasks: dict[str, Task]) -> dict[str, Splits]:
    return {name: {split: task.rows(split).rows for split in SPLITS} for name, task in tasks.items()}


def every(splits: Splits) -> list[dict[str, Any]]:
    return [row for part in splits.values() for row in part]


@pytest.mark.parametrize("name", TASKS)
def test_splits_have_their_declared_sizes(name: str, tasks: dict[str, Task], rows: dict[str, Splits]) -> None:
    sizes = {split: len(part) for split, part in rows[name].items()}
    assert sizes == tasks[name].dataset.spec.generated
    assert sizes["test"] >= 200 and sizes["train"] >= 1000


@pytest.mark.parametrize("name", TASKS)
def test_rows_depend_on_split_index_and_seed_alone(name: str, tasks: dict[str, Task], rows: dict[str, Splits]) -> None:
    plugin = load_task(name).plugin
    assert plugin is not None
    for split in SPLITS:
        for index in (199, 3, 0, 57):
            assert plugin.module.generate(split, index, 0) == rows[name][split][index]
        other_seed = [plugin.module.generate(split, index, 1) for index in range(50)]
        assert sum(row in rows[name][split] for row in other_seed) <= 5
    with pytest.raises(ValueError, match="unknown split"):
        plugin.module.generate("dev", 0, 0)


def arithmetic_essence(row: dict[str, Any]) -> tuple[Any, ...]:
    words = row["question"]
    kind = next(mark for mark in ("together", "in the end", "are left", "have now") if mark in words)
    return kind, tuple(int(n) for n in re.findall(r"\d+", words))


def note_essence(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["summary"],)


PLACES_OF = {
    "How old is the patient?": r"(\d+)-year-old",
    "How fast is the pulse?": r"Pulse (\d+)\.",
    "For how many days has it lasted?": r"for (\d+) days",
    "In how many weeks is the review?": r"in (\d+) weeks",
}


def said_in(note: str) -> dict[str, str]:
    """question -> the number that the note gives, by an independent reading."""
    found = {question: re.findall(pattern, note) for question, pattern in PLACES_OF.items()}
    assert all(len(numbers) == 1 for numbers in found.values()), note
    return {question: numbers[0] for question, numbers in found.items()}


def choice_essence(row: dict[str, Any]) -> tuple[Any, ...]:
    return (*said_in(row["note"]).items(), row["question"])


ESSENCES = {"nano_arithmetic": arithmetic_essence, "nano_note": note_essence, "nano_choice": choice_essence}


@pytest.mark.parametrize("name", TASKS)
def test_no_question_of_one_split_is_asked_in_another_however_it_is_dressed(name: str, rows: dict[str, Splits]) -> None:
    plugin = load_task(name).plugin
    assert plugin is not None
    of_split = {split: {ESSENCES[name](row) for row in part} for split, part in rows[name].items()}
    for split in SPLITS:  # Other seeds too: a recipe may train on any.
        of_split[split] |= {
            ESSENCES[name](plugin.module.generate(split, i, seed)) for i in range(300) for seed in (1, 2)
        }
    assert not of_split["train"] & of_split["test"]
    assert not of_split["train"] & of_split["validation"]
    assert not of_split["validation"] & of_split["test"]


def answer_from_words(question: str) -> int:
    """The answer of a word problem, by its words and not by the code that made it."""
    numbers = [int(n) for n in re.findall(r"\d+", question)]
    if "have together" in question:
        mine, more = numbers
        return mine + (mine + more)
    a, b, c = numbers
    if "buys" in question and "gives" in question:
        return a + b - c
    if "lost" in question and "found" in question:
        return a - b + c
    assert question.startswith("There are") and "takes" in question
    return a * b - c


def test_every_arithmetic_answer_follows_from_the_questions_words(rows: dict[str, Splits]) -> None:
    for row in every(rows["nano_arithmetic"]):
        assert row["answer"].rsplit("#### ")[1] == str(answer_from_words(row["question"])), row


def test_every_worked_solution_is_true_and_leads_to_its_answer(rows: dict[str, Splits]) -> None:
    operations = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    for row in every(rows["nano_arithmetic"]):
        work, answer = row["answer"].split("\n#### ")
        steps = re.fullmatch(r"(\d+)([-+*])(\d+)=(\d+)\. (\d+)([-+*])(\d+)=(\d+)\.", work)
        assert steps is not None, row
        a, op1, b, made, c, op2, d, last = steps.groups()
        assert operations[op1](int(a), int(b)) == int(made)
        assert operations[op2](int(c), int(d)) == int(last)
        assert made in (c, d)
        assert last == answer
        assert int(made) > 0 and int(last) >= 0
        asked = re.findall(r"\d+", row["question"])
        assert a in asked and b in asked


def test_people_of_a_problem_are_two(rows: dict[str, Splits]) -> None:
    for row in every(rows["nano_arithmetic"]):
        named = {word for word in re.findall(r"\w+", row["question"]) if word in NAMES}
        assert len(named) == (2 if "gives" in row["question"] or "together" in row["question"] else 1), row


def summary_from_note(note: str) -> str:
    who = re.search(r"a (?P<age>\d+)-year-old (?P<sex>man|woman)\.", note)
    who = who or re.search(r"is a (?P<sex>man|woman) of (?P<age>\d+)\.", note)
    assert who is not None
    age = who["age"]
    complaint, days = re.search(r"(?:Reports|There has been) (\w+) for (\d+) days\.", note).groups()  # type: ignore[union-attr]
    (past,) = re.search(r"(?:Known|History of) (\w+)\.", note).groups()  # type: ignore[union-attr]
    (drug,) = re.search(r"(?:Started on|Was given) (\w+)\.", note).groups()  # type: ignore[union-attr]
    (weeks,) = re.search(r"(?:Review|To be seen) in (\d+) weeks\.", note).groups()  # type: ignore[union-attr]
    assert complaint in COMPLAINTS and past in HISTORY and drug in DRUGS
    return f"Aged {age}, {complaint} for {days} days, {past}, {drug}, review in {weeks} weeks."


def test_every_summary_says_what_its_note_says(rows: dict[str, Splits]) -> None:
    for row in every(rows["nano_note"]):
        assert row["summary"] == summary_from_note(row["note"])
        assert len(re.findall(r"\.(?: |$)", row["note"])) == 6


def test_every_choice_is_among_the_notes_numbers_and_its_gold_is_the_one_asked_for(rows: dict[str, Splits]) -> None:
    golds = [0] * 4
    for row in every(rows["nano_choice"]):
        said = said_in(row["note"])
        assert len(set(said.values())) == len(set(row["choices"])) == 4
        assert {choice.removesuffix(".") for choice in row["choices"]} == set(said.values())
        assert row["choices"][row["label"]] == said[row["question"]] + "."
        golds[row["label"]] += 1
    assert min(golds) > 0.22 * sum(golds)  # No place is right more often than the others.


def test_no_rule_of_order_finds_the_choice(rows: dict[str, Splits]) -> None:
    # By which number of the note it is, in order of appearance: none is right more often than the others.
    at = [0] * 4
    for row in every(rows["nano_choice"]):
        numbers = re.findall(r"\d+", row["note"])
        at[numbers.index(row["choices"][row["label"]].removesuffix("."))] += 1
    assert all(0.22 < n / sum(at) < 0.28 for n in at)


@pytest.mark.parametrize("name", TASKS)
def test_few_test_items_repeat_another(name: str, rows: dict[str, Splits]) -> None:
    essences = [ESSENCES[name](row) for row in rows[name]["test"]]
    assert len(set(essences)) >= 0.97 * len(essences)


@pytest.mark.parametrize("name", TASKS)
def test_the_longest_target_fits_the_generation(name: str, tasks: dict[str, Task], nano_tokenizer: Any) -> None:
    task = tasks[name]
    if task.kind == "generate":
        longest = max(len(nano_tokenizer.encode(" " + task.answer(example))) for example in task.examples("test"))
        assert longest < task.spec.generation.max_tokens


def test_notes_state_their_facts_in_any_order(rows: dict[str, Splits]) -> None:
    orders = {
        min((row["note"].index(word), word) for word in (" for ", " in ", "ulse"))[1]
        for row in rows["nano_note"]["test"]
    }
    assert len(orders) == 3
    assert any(a["note"] != b["note"] for a, b in pairwise(rows["nano_note"]["test"]))
