"""What a router sees of a row: no word of a template, and no row twice."""

from __future__ import annotations

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import DataError, UsageError
from slmbench.routing import texts_of, user_text
from slmbench.task import load_task

YAML = """\
summary: A task of the tests.
version: 1
license: mit
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, answer]}
kind: generate
prompt: {user: "%s", system: "Be brief.", prefix: "Answer:"}
answer: "{{ answer }}"
metrics: [exact_match]
"""


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Question: {{ question }}", "Why? So"),
        ("Q: {{ question.split(' ')[0] }} then {{ question }}", "Why? So"),
        ("{{ question }} and again {{ question }}", "Why? So"),
        ("{% if question %}Solve{% endif %} {{ 'by hand' }}", ""),
        ("{% for word in question.split(' ') %}- {{ word }} {% endfor %}", "Why?\nSo"),
        ("{{ question | upper }}: {{ answer }}", "WHY? SO\n42"),
    ],
)
def test_words_of_the_template_are_left_out_and_what_it_inserts_stays(
    write_task, monkeypatch, tmp_path, template, text
):
    rows = '{"question": "Why? So", "answer": "42"}\n'
    write_task("why", YAML % template, train=rows, test=rows)
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    task = load_task("why", default_catalog())
    assert user_text(task, task.examples("test")[0]) == text


def test_of_prompts_by_choice_the_choice_is_left_out():
    task = load_task("winogrande", data="samples")
    example = task.examples("validation")[0]
    text = user_text(task, example)
    assert text and text in task.prompt(example).user
    assert not any(text.endswith(choice) for choice in example.choices)


@pytest.mark.parametrize("name", ["gsm8k", "medquad", "squad", "mbpp", "icliniq", "code_alpaca", "pubmed_qa", "boolq"])
def test_each_task_of_the_registry_gives_a_text_without_its_template(name):
    task = load_task(name, data="samples")
    example = task.examples(task.spec.split)[0]
    text, prompt = user_text(task, example), task.prompt(example).user
    assert text and len(text) < len(prompt)
    assert all(line in prompt for line in text.split("\n"))
    assert not text.startswith(("Question:", "Instruction:", "Patient:", "Title:", "Abstract:", "You are"))


def test_rows_to_fit_and_to_choose_by_share_no_text_and_no_cluster(write_task, monkeypatch, tmp_path):
    rows = "".join(f'{{"question": "q{i % 30} of {i % 6}", "answer": "c{i % 6}"}}\n' for i in range(60))
    write_task("grouped", YAML % "{{ question }}" + 'cluster: "{{ answer }}"\n', train=rows)
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    task = load_task("grouped", default_catalog())
    made = texts_of(task, rows=20, validation_rows=5, seed=1)
    assert len(made.validation) == 5 and len(made.examples) == 5
    assert [user_text(task, example) for example in made.examples] == list(made.validation)
    group = {text: text.split(" of ")[1] for text in (*made.fit, *made.validation)}
    assert not {group[text] for text in made.fit} & {group[text] for text in made.validation}
    assert len({*made.fit, *made.validation}) == len(made.fit) + 5 <= 30


def test_the_seed_draws_and_the_same_seed_draws_the_same():
    task = load_task("nano_note")
    first, again, other = (texts_of(task, 50, 20, seed) for seed in (0, 0, 1))
    assert first == again and first.fit != other.fit
    assert len(first.fit) == 50 and len(first.validation) == 20


def test_too_few_rows_are_an_error_that_counts_them(write_task, monkeypatch, tmp_path):
    write_task("few", YAML % "{{ question }}")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"task 'few': split 'train' has 2 different user texts.* 4 or more"):
        texts_of(load_task("few", default_catalog()))


def test_a_task_without_a_train_split_is_refused_by_name():
    with pytest.raises(UsageError, match="task 'human_eval' declares no train_split"):
        texts_of(load_task("human_eval", data="samples"))
