"""What `eval` and its like leave in a folder that others use too, and what they show."""

from __future__ import annotations

import json

import pytest

from slmbench.catalog import Catalog, default_catalog
from slmbench.errors import DeclarationError
from slmbench.leaderboard import RunProblems, build_leaderboard, load_runs
from slmbench.lengths import open_ruler
from slmbench.schema import SuiteSpec, parse
from slmbench.task import load_task
from slmbench.tokens import token_costs
from slmbench.workflow.rank import rank
from slmbench.yamlfile import read_yaml

MULTITASK = ["ropes", "web_search_summarization", "gsm8k"]


def read(path):
    return json.loads((path / "leaderboard.json").read_text())


def test_a_call_for_one_task_shows_that_task_and_leaves_the_page_of_all(write_run, tmp_path) -> None:
    write_run("note", [1, 0], task="nano_note")
    write_run("code", [1, 0], task="nano_code")
    board, _, _ = rank(
        [str(tmp_path)], str(tmp_path / "page"), default_catalog(), suite=None, tasks=["nano_code"], whole=str(tmp_path)
    )
    assert [column.task for column in board.columns] == ["nano_code"]
    assert [column["task"] for column in read(tmp_path / "page")["columns"]] == ["nano_code", "nano_note"]


@pytest.mark.parametrize(
    ("model", "tasks"), [("nano", MULTITASK), ("phi-3.5-mini-instruct", ["ropes"])], ids=["model", "tasks"]
)
def test_somebody_s_own_recipe_of_a_registry_s_name_has_none_of_its_published_numbers(
    write_run, tmp_path, model, tasks
) -> None:
    by_recipe = {"adapter.recipe": "phi35-multitask", "adapter.tasks": tasks}
    write_run("tuned", [0.0, 1.0], task="ropes", model=model, adapter="multitask", changes=by_recipe)
    place = str(tmp_path / "page")
    board, _, _ = rank([str(tmp_path)], place, default_catalog(), suite=None, tasks=None)
    assert board.published == ()


def test_published_numbers_of_a_registry_s_recipe_follow_its_adapters_to_any_leaderboard(write_run, tmp_path) -> None:
    by_recipe = {"adapter.recipe": "phi35-multitask", "format": "chat", "adapter.tasks": MULTITASK}
    write_run(
        "tuned", [0.0, 1.0] * 20, task="ropes", model="phi-3.5-mini-instruct", adapter="multitask", changes=by_recipe
    )
    place = str(tmp_path / "page")
    board, _, _ = rank([str(tmp_path)], place, default_catalog(), suite=None, tasks=None)
    assert [line.row for line in board.published if line.number.written == "75%"] == [""]  # It has no squad_em.
    assert {line.number.model for line in board.published} == {"phi-3.5-mini-instruct"}
    assert len(read(tmp_path / "page")["published"]) == len(board.published)
    none, _, _ = rank([str(tmp_path)], place, default_catalog(), suite=None, tasks=None, published=())
    assert none.published == ()


def test_a_suite_that_asks_for_measures_has_them_with_tokens_by_the_model_s_own_tokenizer(write_run, tmp_path) -> None:
    samples = {"format": "toon", "dataset.source": "samples"}
    write_run("qa", {"rougeL": [0.5, 0.7]}, task="medical_qa", changes=samples)
    write_run(
        "far", {"rougeL": [0.5, 0.7]}, task="medical_qa", model="of-nobody", changes=samples | {"model.id": "no/one"}
    )
    place = str(tmp_path / "page")
    board, _, _ = rank([str(tmp_path)], place, default_catalog(), suite="healthcare-toon", tasks=None)
    lines = {line["row"]: line for line in read(tmp_path / "page")["measures"]}
    assert len(lines) == len(board.measures) == 2
    economy = lines["nano"]["economy"]
    task = load_task("medical_qa", data="samples")
    costs = token_costs(task, open_ruler("nano", default_catalog()))
    expected = {"tokens": costs.toon, "json_tokens": costs.json, "plain_tokens": costs.plain, "rows": costs.rows}
    assert economy == pytest.approx(expected)
    assert (lines["of-nobody"]["economy"], lines["of-nobody"]["why_no_economy"]) == (None, "its tokenizer isn't here")
    other, _, _ = rank([str(tmp_path)], place, default_catalog(), suite="medical", tasks=None)
    assert other.measures == ()


def test_a_suite_names_the_page_only_if_it_has_no_other_tasks(write_run, tmp_path) -> None:
    write_run("note", [1, 0], task="nano_note")
    wanted = ["nano_arithmetic", "nano_note", "nano_choice", "nano_code"]
    for task, title in (("nano_code", "nano"), ("boolq", None)):
        write_run(task, [1, 0], task=task)
        place = str(tmp_path / "page")
        board, _, _ = rank([str(tmp_path)], place, default_catalog(), suite="nano", tasks=wanted, whole=str(tmp_path))
        assert (board.suite, read(tmp_path / "page")["suite"]) == ("nano", title)


def test_a_call_shows_its_own_runs_and_others_of_the_folder_are_on_the_page(write_run, tmp_path) -> None:
    own = write_run("own", [1, 0], adapter="new")
    write_run("other", [1, 0], adapter="old")
    board, _, _ = rank(
        [str(own)], str(tmp_path / "page"), default_catalog(), suite=None, tasks=None, whole=str(tmp_path)
    )
    assert [row.name for row in board.rows] == ["nano + new"]
    assert {row["name"] for row in read(tmp_path / "page")["rows"]} == {"nano + new", "nano + old"}


def test_faults_of_own_runs_and_of_others_leave_those_out_and_are_told(write_run, tmp_path) -> None:
    own, other = write_run("own", [1, 0]), write_run("other", [1, 0])
    options = {"suite": None, "tasks": None, "whole": str(tmp_path)}
    (other / "samples.jsonl").write_text("{}\n")
    board, _, faulty = rank([str(own)], str(tmp_path / "page"), default_catalog(), **options)
    assert len(board.rows) == 1 and "other/samples.jsonl" in str(faulty) and "left out" in str(faulty)
    assert any("other: left out" in notice["text"] for notice in read(tmp_path / "page")["notices"])
    (own / "samples.jsonl").write_text("{}\n")
    with pytest.raises(RunProblems):
        rank([str(own)], str(tmp_path / "page"), default_catalog(), **options)


def test_a_task_declares_its_primary_metric(write_run, tmp_path) -> None:
    folder = tmp_path / "root" / "tasks" / "mine"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(TASK)
    write_run("one", {"rouge1": [1, 0], "exact_match": [1, 1]}, task="mine")
    write_run("two", {"rouge1": [1, 0], "exact_match": [1, 1]}, task="unknown")
    catalog = Catalog([str(tmp_path / "root")])
    board, _, _ = rank([str(tmp_path)], str(tmp_path / "page"), catalog, suite=None, tasks=None)
    assert [column.key for column in board.columns if column.primary] == ["mine/exact_match", "unknown/rouge1"]
    (folder / "task.yaml").write_text(TASK.replace("primary: exact_match", "primary: 5"))
    board, _, _ = rank([str(tmp_path)], str(tmp_path / "page"), catalog, suite=None, tasks=None)
    assert [column.key for column in board.columns if column.primary] == ["mine/rouge1", "unknown/rouge1"]


TASK = """summary: One.
version: 1
dataset: {columns: [question, answer], files: {test: rows.jsonl}}
kind: generate
prompt: {user: "{{ question }}"}
answer: "{{ answer }}"
metrics: [rouge, exact_match]
primary: exact_match
"""


def test_a_suite_declares_which_tasks_its_rows_are_ordered_by(write_run, tmp_path) -> None:
    for task in ("nano_note", "nano_code"):
        write_run(f"one-{task}", [1, 0] if task == "nano_note" else [0, 0], model="one", task=task)
        write_run(f"two-{task}", [0, 0] if task == "nano_note" else [1, 1], model="two", task=task)
    runs, _ = load_runs(tmp_path)
    assert [row.name for row in build_leaderboard(runs).rows] == ["two", "one"]
    board = build_leaderboard(runs, aggregate=["nano_note"])
    assert [row.name for row in board.rows] == ["one", "two"]
    assert board.aggregate is not None and board.aggregate.columns == ("nano_note/exact_match/strict",)
    with pytest.raises(DeclarationError, match=r"aggregate: not among the suite's tasks: boolq"):
        parse(SuiteSpec, read_yaml_text("summary: s\ntasks: [squad]\naggregate: [boolq]\n", tmp_path))


def read_yaml_text(text, folder):
    (folder / "suite.yaml").write_text(text)
    return read_yaml(str(folder / "suite.yaml"))
