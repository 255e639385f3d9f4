"""Rows that are too long are cut where evaluation cuts, and counted."""

from __future__ import annotations

import json

import pytest

from slmbench.catalog import default_catalog
from slmbench.formats import load_format
from slmbench.task import load_task, load_task_folder
from slmbench.training._rows import mixture, training_rows


def test_long_rows_lose_the_front_of_the_prompt_and_keep_answer_and_end(nano):
    task, style = load_task("nano_note"), load_format("plain")
    whole = training_rows(task, style, nano.tokenizer, limit=20, max_tokens=512)
    short = training_rows(task, style, nano.tokenizer, limit=20, max_tokens=48)
    assert mixture(whole)["nano_note"]["truncated_rows"] == 0
    assert mixture(short)["nano_note"]["truncated_rows"] == 20
    for a, b in zip(whole, short, strict=True):
        assert b.length == 48
        assert b.answer == a.answer
        assert b.answer[-1] == nano.tokenizer.eos_token_id
        assert a.prompt == a.prompt[: b.cut] + b.prompt


def test_answers_that_alone_are_too_long_are_cut_and_counted(nano):
    task, style = load_task("nano_note"), load_format("plain")
    (row,) = training_rows(task, style, nano.tokenizer, limit=1, max_tokens=10)
    assert row.length == 10
    assert len(row.prompt) == 1
    assert mixture([row])["nano_note"]["truncated_answers"] == 1


def test_rows_that_are_shots_are_not_trained_on(nano):
    style = load_format("plain")
    task = load_task("nano_note").with_shots(3)
    rows = training_rows(task, style, nano.tokenizer, limit=10, max_tokens=1024)
    assert [row.example.id for row in rows] == [f"train-{i}" for i in range(3, 13)]
    shown = {shot.target.text for shot in task.shots(rows[0].example)}
    assert shown.isdisjoint(task.answer(row.example) for row in rows)


HEAD = """\
summary: A task of the tests.
version: 1
dataset: {files: {train: train.jsonl, test: test.jsonl}}
"""
GENERATE = (
    HEAD
    + """\
kind: generate
prompt: {user: "{{ question }}", prefix: "A:"}
answer: "{{ answer }}"
metrics: [exact_match]
"""
)
ROWS = [{"question": f"{n} and {n}?", "answer": f"{2 * n}", "group": "ab"[n % 2], "why": "It is."} for n in range(9)]


@pytest.fixture
def rows_of(nano, write_task, tmp_path_factory):
    """rows_of(yaml, format, rows, cot) -> (task, its training rows)."""

    def make(yaml, format="plain", rows=ROWS, cot=None, limit=None):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        test = '{"question": "?", "answer": "0", "group": "a"}\n'
        folder = write_task("t", yaml, train=lines, test=test, root=tmp_path_factory.mktemp("root"))
        task = load_task_folder(str(folder), default_catalog()).with_cot(cot)
        return task, training_rows(task, load_format(format), nano.tokenizer, limit=limit, max_tokens=1024)

    return make


def test_skipped_rows_and_shots_are_not_trained_on(rows_of):
    _, rows = rows_of(GENERATE + "fewshot: {n: 2, skip: 3}\n", limit=3)
    assert [row.example.id for row in rows] == ["train-5", "train-6", "train-7"]


def test_all_rows_are_trained_on_where_shots_come_from_elsewhere(rows_of):
    own = "cot: {answer: '{{ answer }}', shots: [{question: q, answer: a, reasoning: r}]}\nfewshot: {n: 2}\n"
    for cot, first in (("few", 0), ("off", 2)):
        _, rows = rows_of(GENERATE + own, cot=cot)
        assert rows[0].example.id == f"train-{first}", cot


def test_no_shots_are_left_out_where_the_instruction_asks(rows_of):
    yaml = GENERATE + "cot: {answer: 'So {{ answer }}', reasoning: '{{ why }}', instruction: Think.}\nfewshot: {n: 2}\n"
    assert len(rows_of(yaml, cot="zero")[1]) == 9
    assert len(rows_of(yaml, cot="few")[1]) == 7


def test_rows_that_are_shots_of_their_own_group_are_not_trained_on(rows_of):
    task, rows = rows_of(GENERATE + "fewshot: {n: 2, same: group}\n")
    for row in rows:
        assert row.example.fields["question"] not in [shot.user for shot in task.shots(row.example)]


def text_of(nano, row):
    return nano.tokenizer.decode(row.prompt), nano.tokenizer.decode(row.answer)


def test_a_row_in_toon_ends_in_the_written_answer(nano, rows_of):
    rows = [{"question": "a: b?", "answer": 'say "x"\nor y'}, {"question": "1+1?", "answer": "2"}]
    _, (quoted, number) = rows_of(GENERATE, "toon", rows)
    end = nano.tokenizer.eos_token
    assert text_of(nano, quoted) == ('question: "a: b?"\nanswer:', f' "say \\"x\\"\\nor y"{end}')
    assert text_of(nano, number) == ("question: 1+1?\nanswer:", f" 2{end}")


def test_a_reasoned_row_is_trained_on_reasoning_and_answer(nano, rows_of):
    yaml = GENERATE + "cot: {answer: 'So {{ answer }}', reasoning: '{{ why }}', instruction: Think.}\n"
    end = nano.tokenizer.eos_token
    plain = rows_of(yaml, cot="zero")[1][1]
    assert text_of(nano, plain) == ("1 and 1?\nThink.\nA:", f" It is.\nSo 2{end}")
    toon = rows_of(yaml, "toon", cot="zero")[1][1]
    assert text_of(nano, toon) == (
        "question: 1 and 1?\nhow_to_answer: Think.\nreasoning:",
        f" It is.\nanswer: So 2{end}",
    )


@pytest.mark.parametrize(("delimiter", "between"), [("", ""), (r"\n", "\n"), (" ", " ")])
def test_the_delimiter_of_the_task_stands_before_what_is_trained_on(delimiter, between, nano, rows_of):
    yaml = GENERATE.replace('prefix: "A:"', f'prefix: "A:", delimiter: "{delimiter}"')
    prompt, answer = text_of(nano, rows_of(yaml)[1][1])
    assert (prompt, answer) == ("1 and 1?\nA:", f"{between}2{nano.tokenizer.eos_token}")


def test_a_continuation_is_trained_on_after_the_gold_choices_prompt(nano, rows_of):
    yaml = HEAD + (
        'kind: choice\nprompt: {user: "{{ question }} {{ choice }}"}\nchoices: [red, blue]\ngold: "{{ right }}"\n'
        'continuation: "{{ after }}"\nmetrics: [accuracy]\n'
    )
    _, (row,) = rows_of(yaml, rows=[{"question": "Is it?", "right": "blue", "after": "it is."}])
    assert text_of(nano, row) == ("Is it? blue", f" it is.{nano.tokenizer.eos_token}")


def test_a_code_task_is_trained_on_its_solution(nano, rows_of):
    yaml = HEAD + (
        'kind: code\nprompt: {user: "{{ question }}", delimiter: ""}\nanswer: "{{ answer }}"\n'
        'code: {tests: "pass"}\nmetrics: [pass@1]\n'
    )
    _, (row,) = rows_of(yaml, rows=[{"question": "def f():\n", "answer": "    return 1\n"}])
    prompt, answer = text_of(nano, row)
    assert (prompt, answer) == ("def f():\n", f"    return 1\n{nano.tokenizer.eos_token}")
