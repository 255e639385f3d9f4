"""Which rows are shown before a question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slmbench.errors import DataError, UsageError
from slmbench.formats import load_format
from slmbench.task import Task

MakeTask = Callable[..., Task]

TRAIN = [{"question": f"{subject}{n}", "subject": subject, "answer": f"{n}"} for n in range(3) for subject in "ab"]
TEST = [{"question": "?", "subject": subject, "answer": "9"} for subject in "abz"]


def task_of(make_task: MakeTask, fewshot: str, **options: Any) -> Task:
    return make_task("generate", f"answer: '{{{{ answer }}}}'\nfewshot: {{{fewshot}}}", TEST, TRAIN, **options)


def shown(task: Task, number: int = 0) -> list[str]:
    return [shot.user for shot in task.shots(task.examples("test")[number])]


def test_skipped_rows_are_no_shots(make_task: MakeTask) -> None:
    assert shown(task_of(make_task, "n: 2, skip: 3")) == ["Q: b1", "Q: a2"]
    assert shown(task_of(make_task, "n: 2, skip: 3").with_shots(1)) == ["Q: b1"]
    # What is skipped is counted in rows of the split, shots or not.
    assert shown(task_of(make_task, "n: 0, skip: 3").with_shots(3)) == ["Q: b1", "Q: a2", "Q: b2"]


def test_too_few_rows_after_the_skipped_ones_are_told(make_task: MakeTask) -> None:
    task = task_of(make_task, "n: 3, skip: 4")
    with pytest.raises(
        DataError, match=r"^task 't': 3 shots are asked for, but split 'train' has 2 rows after the first 4$"
    ):
        shown(task)


def test_shots_of_the_same_group_are_its_first_rows(make_task: MakeTask) -> None:
    task = task_of(make_task, "n: 2, same: subject")
    assert shown(task, 0) == ["Q: a0", "Q: a1"]
    assert shown(task, 1) == ["Q: b0", "Q: b1"]
    # Asked for again, in another order.
    assert shown(task, 0) == ["Q: a0", "Q: a1"]


def test_skip_counts_within_a_group(make_task: MakeTask) -> None:
    task = task_of(make_task, "n: 1, skip: 2, same: subject")
    assert [shown(task, 0), shown(task, 1)] == [["Q: a2"], ["Q: b2"]]


def test_a_group_with_too_few_rows_is_told_by_its_name(make_task: MakeTask) -> None:
    task = task_of(make_task, "n: 1, same: subject")
    with pytest.raises(
        DataError, match=r"^task 't': 1 shots are asked for, but split 'train' has 0 rows with subject 'z'$"
    ):
        shown(task, 2)
    assert shown(task, 1) == ["Q: b0"]
    skipping = task_of(make_task, "n: 2, skip: 2, same: subject")
    with pytest.raises(DataError, match=r"split 'train' has 1 rows with subject 'a' after the first 2$"):
        shown(skipping)


def test_groups_matter_only_where_there_are_shots(make_task: MakeTask) -> None:
    rows = [{"question": "?", "answer": "9"}]
    yaml = "answer: '{{ answer }}'\nfewshot: {n: 1, same: subjct}"
    task = make_task("generate", yaml, rows, TRAIN)
    assert shown(task.with_shots(0)) == []
    with pytest.raises(DataError, match=r"^task 't', item 'test-0': fewshot\.same names 'subjct', which the row lacks"):
        shown(task)


def test_a_group_may_lie_in_a_struct_and_be_a_number(make_task: MakeTask) -> None:
    train = [{"question": f"q{n}", "meta": {"kind": n % 2}, "answer": "x"} for n in range(4)]
    test = [{"question": "?", "meta": {"kind": 1}, "answer": "x"}]
    task = make_task("generate", "answer: '{{ answer }}'\nfewshot: {n: 2, same: meta.kind}", test, train)
    assert shown(task) == ["Q: q1", "Q: q3"]


def test_the_delimiter_between_shots_is_the_declared_one(make_task: MakeTask) -> None:
    plain = load_format("plain")
    texts = []
    for delimiter in (r"\n\n", r"\n", " || "):
        task = task_of(make_task, f'n: 2, delimiter: "{delimiter}"')
        texts.append(plain.render(task.prompt(task.examples("test")[0]), None).text)
    first, second, question = "Q: a0\nA: 0", "Q: b0\nA: 0", "Q: ?\nA:"
    assert texts == [between.join([first, second, question]) for between in ("\n\n", "\n", " || ")]


def test_shots_are_counted_as_they_are_shown(make_task: MakeTask) -> None:
    task = task_of(make_task, "n: 2")
    assert (task.shot_count, task.shot_split) == (2, "train")
    assert (task.with_shots(0).shot_count, task.with_shots(0).shot_split) == (0, None)


def test_shots_from_a_split_that_is_not_there_are_refused(make_task: MakeTask) -> None:
    task = task_of(make_task, "n: 0, split: dev")
    assert shown(task) == []
    with pytest.raises(UsageError, match="task 't' has no split 'dev' to take shots from"):
        task.with_shots(1)


def test_golden_rows_serve_as_shots_too(make_task: MakeTask) -> None:
    assert shown(task_of(make_task, "n: 1, same: subject", data="samples"), 2) == ["Q: ?"]
