from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slmbench.catalog import Catalog, default_catalog
from slmbench.errors import DataError, DeclarationError, HookError, UsageError
from slmbench.formats import load_format
from slmbench.task import Task, load_task, load_task_folder
from slmbench.values import Output, Prompt, Shot, Target

WriteTask = Callable[..., Path]

CHOICE = """\
summary: s
version: 1
dataset: {files: {test: test.jsonl}}
kind: choice
train_split: null
prompt: {user: "{{ question }}"}
choices: options
gold: "{{ gold }}"
metrics: [accuracy]
"""


def load(folder: Path) -> Task:
    return load_task_folder(str(folder), default_catalog())


def test_a_row_becomes_an_example_a_prompt_and_an_answer(write_task: WriteTask) -> None:
    task = load(write_task("sums"))
    first, second = task.examples("test")
    assert (first.id, second.id) == ("test-0", "test-1")
    assert task.prompt(first) == Prompt("Question: 1+1?", prefix="Answer:", inputs={"question": "1+1?"})
    assert task.target(second) == Target("4")
    assert task.answer(second) == "4"
    assert first.references == ("2",)
    assert [score.value for score in task.score(first, Output(text=" 2"))] == [1.0]
    assert [score.value for score in task.score(first, Output(text=" 3"))] == [0.0]
    assert task.examples("test", 1) == (first,)


def test_shots_are_the_first_rows_of_their_split_the_same_for_every_item(write_task: WriteTask, task_yaml: str) -> None:
    test = '{"question": "9+9?", "answer": "18"}\n{"question": "8+8?", "answer": "16"}\n'
    task = load(write_task("sums", task_yaml + "fewshot: {n: 2}\n", test=test))
    one = Shot("Question: 1+1?", Target("2"), {"question": "1+1?"})
    two = Shot("Question: 2+2?", Target("4"), {"question": "2+2?"})
    first, second = task.examples("test")
    assert task.prompt(first).shots == task.prompt(second).shots == (one, two)
    assert task.with_shots(1).shots(first) == (one,)
    assert task.with_shots(0).shots(first) == ()
    assert task.with_shots(2) is task.with_shots(None) is task
    with pytest.raises(DataError, match=r"^task 'sums': 3 shots are asked for, but split 'train' has 2 rows$"):
        task.with_shots(3).shots(first)


def test_worked_solutions_are_reasoning_and_answer_in_two_lines(write_task: WriteTask) -> None:
    yaml = (
        "summary: s\nversion: 1\ndataset: {files: {train: train.jsonl, test: test.jsonl}}\nkind: generate\n"
        'prompt: {user: "{{ question }}"}\ncot: {reasoning: "as {{ question }}", answer: "#### {{ answer }}"}\n'
        "metrics: [exact_match/strict]\n"
    )
    task = load(write_task("sums", yaml))
    example = task.examples("test")[0]
    assert task.answer(example) == "as 1+1?\n#### 2"
    assert (example.reasoning, example.answer, example.references) == ("as 1+1?", "#### 2", ("as 1+1?\n#### 2",))
    assert task.score(example, Output(text="so\n#### 2"))[0].value == 1.0


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ('{"question": "q", "options": ["x", "y"], "gold": 1}', 1),
        ('{"question": "q", "options": ["x", "y"], "gold": "0"}', 0),
        ('{"question": "q", "options": ["x", "y"], "gold": " y "}', 1),
        ('{"question": "q", "options": ["3", "4", "5"], "gold": "4"}', 1),
        ('{"question": "q", "options": ["0", "1", "2"], "gold": 2}', 2),
        ('{"question": "q", "options": ["7", "8"], "gold": "1"}', 1),
    ],
)
def test_gold_is_an_index_or_the_text_of_one_choice(row: str, gold: int, write_task: WriteTask) -> None:
    example = load(write_task("c", CHOICE, test=row + "\n")).examples("test")[0]
    assert example.gold == gold
    assert example.answer == example.choices[gold]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            '{"question": "q", "options": ["1", "2"], "gold": "1"}',
            "gold: '1' is an index and, elsewhere, one of the choices",
        ),
        (
            '{"question": "q", "options": ["x", "y"], "gold": 2}',
            "gold: '2' is neither an index below 2 nor exactly one of the choices",
        ),
        ('{"question": "q", "options": ["x", "y"], "gold": -1}', "gold: '-1' is neither"),
        ('{"question": "q", "options": ["x", "y"], "gold": "²"}', "gold: '²' is neither"),
        ('{"question": "q", "options": ["x", "x", "y"], "gold": "x"}', "gold: 'x' is neither"),
        ('{"question": "q", "options": "xy", "gold": 0}', "choices: expected a list of texts, got the text 'xy'"),
        ('{"question": "q", "options": [[1], [2]], "gold": 0}', "choices: "),
        ('{"question": "q", "options": ["x"], "gold": 0}', "choices: expected at least two texts"),
        (
            '{"question": "q", "options": ["x", ""], "gold": 0}',
            "choices: expected at least two texts, none of them empty",
        ),
        (
            '{"question": "q", "option": ["x", "y"], "gold": 0}',
            "choices names 'options', which the row lacks; did you mean 'option'?",
        ),
        ('{"question": "q", "options": ["x", "y"], "gold": null}', "'gold' is null"),
    ],
)
def test_a_choice_row_that_makes_no_sense_is_told_by_task_split_and_row(
    row: str, message: str, write_task: WriteTask
) -> None:
    good = '{"question": "q", "options": ["x", "y"], "gold": 1}\n'
    with pytest.raises(DataError) as caught:
        load(write_task("c", CHOICE, test=good + row + "\n")).examples("test")
    assert str(caught.value).startswith("task 'c', split 'test', row 1: ")
    assert message in str(caught.value)


def test_a_field_that_no_row_has_is_named_with_those_it_has(write_task: WriteTask, task_yaml: str) -> None:
    task = load(write_task("sums", task_yaml.replace("{{ answer }}", "{{ anser }}")))
    with pytest.raises(DataError) as caught:
        task.examples("test")
    assert str(caught.value) == (
        "task 'sums', split 'test', row 0: template '{{ anser }}' names 'anser', which no row has; "
        "did you mean 'answer'?; the row's fields: answer, question"
    )


def test_a_hook_adds_fields_and_cannot_change_the_row_it_was_given(write_task: WriteTask, task_yaml: str) -> None:
    plugin = "def example(row):\n    row['question'] = 'gone'\n    return {'answer': row['answer'] * 2}\n"
    task = load(write_task("sums", task_yaml, plugin=plugin))
    example = task.examples("test")[0]
    assert example.fields == {"question": "1+1?", "answer": "22"}
    assert task.rows("test").rows[0] == {"question": "1+1?", "answer": "2"}


def test_a_failing_hook_names_its_row(
    write_task: WriteTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_yaml: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_task("sums", task_yaml, plugin="def example(row):\n    return {'n': 1 / (4 - int(row['answer']))}\n")
    with pytest.raises(
        HookError, match=r"^tasks/sums/plugin\.py:2: example\(\): ZeroDivisionError division by zero \(row 1\)$"
    ):
        load_task_folder("tasks/sums", default_catalog()).examples("test")


def test_a_declaration_can_be_read_without_running_its_plugin(write_task: WriteTask, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    folder = write_task("sums", plugin=f"open({str(canary)!r}, 'w')\n")
    assert load_task_folder(str(folder), default_catalog(), run_plugin=False).name == "sums"
    assert not canary.exists()


def test_the_bundled_tasks_are_sound() -> None:
    for path in default_catalog().files("tasks").values():
        load_task_folder(os.path.dirname(path), default_catalog(), run_plugin=False)


def test_an_unknown_task_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown task 'gsm8'; did you mean 'gsm8k'\?"):
        load_task("gsm8")


def test_faults_of_the_named_data_set_are_told_with_the_tasks_own(
    tmp_path: Path, write_task: WriteTask, task_yaml: str
) -> None:
    folder = tmp_path / "registry" / "datasets"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("hub: a/b\n")
    lines = [line for line in task_yaml.splitlines() if not line.startswith("dataset")]
    path = write_task("sums", "\n".join([*lines, "dataset: broken"]).replace("exact_match]", "exact_mach]"))
    with pytest.raises(DeclarationError) as caught:
        load_task_folder(str(path), Catalog([str(tmp_path)]))
    assert "unknown metric 'exact_mach'" in str(caught.value)
    assert "broken.yaml:1:1: a data set of the hub needs 'splits'" in str(caught.value)


def test_samples_stand_in_for_every_split(write_task: WriteTask) -> None:
    folder = write_task("sums")
    (folder / "samples.jsonl").write_text('{"question": "5+5?", "answer": "10"}\n')
    task = load_task_folder(str(folder), default_catalog(), data="samples")
    assert [example.answer for example in task.examples("train")] == ["10"]
    assert task.rows("test").source == "samples"


def test_shots_from_the_evaluated_split_are_refused(write_task: WriteTask, task_yaml: str) -> None:
    task = load(write_task("sums", task_yaml + "fewshot: {split: test}\n"))
    with pytest.raises(UsageError, match="declares no few-shot split apart from the one that is evaluated"):
        task.with_shots(2)


def test_the_digest_changes_with_all_that_a_score_depends_on(
    write_task: WriteTask, tmp_path: Path, task_yaml: str
) -> None:
    plain, chat = load_format("plain"), load_format("chat")
    plugin = "def example(row):\n    return {}\n"
    base = load(write_task("sums", task_yaml, root=tmp_path / "0"))
    same = load(write_task("sums", task_yaml, root=tmp_path / "1"))
    others = [
        load(write_task("sums", task_yaml + "# a comment\n", root=tmp_path / "2")),
        load(write_task("sums", task_yaml, plugin=plugin, root=tmp_path / "3")),
        load(write_task("sums", task_yaml, plugin=plugin + "\n", root=tmp_path / "4")),
        base.with_shots(1),
    ]
    assert base.digest(plain) == same.digest(plain)
    assert len({base.digest(plain), base.digest(chat), *(task.digest(plain) for task in others)}) == 6


def test_the_digest_changes_with_the_named_data_sets_declaration(
    write_task: WriteTask, tmp_path: Path, task_yaml: str
) -> None:
    lines = [line for line in task_yaml.splitlines() if not line.startswith("dataset")]
    folder = write_task("sums", "\n".join([*lines, "dataset: d\n"]))
    declared = tmp_path / "registry" / "datasets" / "d.yaml"
    declared.parent.mkdir(parents=True)
    hub = "hub: a/b\nsplits: {train: train, test: train}\ncolumns: [question, answer]\n"
    digests = set()
    for rest in (
        "holdout: {split: test, of: train, rows: 5}\n",
        "holdout: {split: test, of: train, rows: 5, seed: 1}\n",
        "holdout: {split: test, of: train, rows: 5}\nwhere: {answer: x}\n",
        "holdout: {split: test, of: train, rows: 5}\nrevision: v2\n",
    ):
        declared.write_text(hub + rest)
        digests.add(load_task_folder(str(folder), Catalog([str(tmp_path)])).digest(load_format("plain")))
    assert len(digests) == 4


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "split"), [("gsm8k", "test"), ("gsm8k", "train"), ("hellaswag", "validation")])
def test_every_real_record_becomes_an_example_whose_gold_answer_scores_one(name: str, split: str) -> None:
    task = load_task(name)
    for example in task.examples(split):
        assert task.prompt(example).user == task.prompt(example).user.rstrip()
        if task.kind == "choice":
            output = Output(
                loglikelihoods=tuple(0.0 if i == example.gold else -1e6 for i in range(len(example.choices)))
            )
        else:
            output = Output(text=task.answer(example))
        # Of bits per byte none are left.
        best = {score.metric: 0.0 if score.metric == "bits_per_byte" else 1.0 for score in task.score(example, output)}
        assert {score.metric: score.value for score in task.score(example, output)} == best, example
