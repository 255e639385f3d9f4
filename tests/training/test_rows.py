"""Rows that are too long are cut where evaluation cuts, and counted."""

from __future__ import annotations

from slmbench.formats import load_format
from slmbench.task import load_task
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
    shown = {shot.answer for shot in task.shots()}
    assert shown.isdisjoint(task.answer(row.example) for row in rows)
