"""What every bundled task must hold to, whoever wrote it. A new folder below `tasks/` is tested without a line here."""

from __future__ import annotations

import os
from typing import Any

import pytest

from slmbench.catalog import FORMAT_SUMMARIES, default_catalog
from slmbench.datasets import read_rows
from slmbench.formats import load_format, training_ids
from slmbench.task import Task, load_task
from slmbench.values import Example, Output

NAMES = sorted(default_catalog().files("tasks"))


@pytest.fixture(scope="module", params=NAMES)
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param, data="samples")


@pytest.fixture(scope="module")
def examples(task: Task) -> tuple[Example, ...]:
    return task.examples(task.spec.split)


def test_declaration_says_what_where_from_and_under_which_terms(task: Task) -> None:
    assert task.spec.summary.endswith(".")
    assert task.spec.source
    assert task.spec.license or task.dataset.spec.license
    assert task.version >= 1


def test_golden_rows_have_exactly_the_data_sets_columns(task: Task) -> None:
    rows = read_rows(task.samples_path)
    columns = task.dataset.spec.columns
    theirs = set(columns.values() if isinstance(columns, dict) else columns)
    assert len(rows) >= 4
    for row in rows:
        assert theirs <= set(row)
    assert len({str(row) for row in rows}) == len(rows)


def test_golden_rows_become_examples(task: Task, examples: tuple[Example, ...]) -> None:
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        assert example.answer.strip()
        assert task.answer(example) in example.references or example.references
        assert (example.gold is not None) == (task.kind == "choice")
        if task.kind == "choice":
            assert len(set(example.choices)) == len(example.choices) >= 2


@pytest.mark.parametrize("name", sorted(FORMAT_SUMMARIES))
def test_prompts_are_written_down_in_every_format(
    name: str, task: Task, examples: tuple[Example, ...], nano_tokenizer: Any
) -> None:
    style = load_format(name)
    texts = set()
    for example in examples:
        rendered = style.render(task.prompt(example), nano_tokenizer)
        prompt, target = training_ids(style, nano_tokenizer, rendered, task.answer(example))
        assert nano_tokenizer.decode(prompt + target).startswith(
            rendered.text + rendered.delimiter + task.answer(example)
        )
        assert rendered.text == rendered.text.rstrip() or name == "chat"
        assert target[-1] == nano_tokenizer.eos_token_id
        texts.add(rendered.text)
    assert len(texts) == len(examples)


def right(task: Task, example: Example) -> Output:
    if task.kind == "choice":
        return Output(loglikelihoods=tuple(0.0 if i == example.gold else -1e6 for i in range(len(example.choices))))
    text = " " + task.answer(example)
    for stop in task.spec.generation.stop:  # What generation would be cut at.
        text = text.split(stop)[0]
    return Output(text=text)


def wrong(task: Task, example: Example) -> Output:
    if task.kind == "choice":
        return Output(loglikelihoods=tuple(-1e6 if i == example.gold else 0.0 for i in range(len(example.choices))))
    return Output(text=" zzz")


def test_the_gold_answer_scores_the_most_and_a_wrong_one_nothing(task: Task, examples: tuple[Example, ...]) -> None:
    for example in examples:
        gold = {score.metric: score.value for score in task.score(example, right(task, example))}
        assert gold and all(value == pytest.approx(1.0) for value in gold.values()), (example.id, gold)
        missed = {score.metric: score.value for score in task.score(example, wrong(task, example))}
        assert missed.keys() == gold.keys()
        assert not any(missed.values()), (example.id, missed)


def test_the_folder_holds_nothing_but_a_task(task: Task) -> None:
    known = {"task.yaml", "plugin.py", "samples.jsonl", "README.md"}
    assert {name for name in os.listdir(task.folder) if not name.startswith((".", "__"))} <= known
