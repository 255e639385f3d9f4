"""What a row is: adapters told apart by what differs, seeds of one recipe together, costs that can be compared."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from slmbench.cli import main
from slmbench.leaderboard import _aggregate, build_leaderboard, load_runs, render_text, write_leaderboard
from slmbench.leaderboard.spreadsheets import render_csv
from slmbench.leaderboard.writers import render_markdown
from slmbench.statistics.aggregate import seeds_estimate
from slmbench.statistics.columns import ScoredTask, compare_aggregate
from tests.leaderboard.conftest import read_page

KEY = "nano_note/exact_match/strict"
SEEDS = {0: [1] * 30 + [0] * 10, 1: [1] * 20 + [0] * 20, 2: [0, 1] * 20}


def adapters(write_run, **varied):
    """Runs of one adapter name, a field of its record another in each."""
    for position, (run_id, changes) in enumerate(varied.items()):
        digest = {"adapter.sha256": f"{position:06}" + "f" * 58}
        write_run(run_id, [1, 0, position % 2], adapter="note", changes=digest | changes)


def names(tmp_path):
    return sorted(row.name for row in build_leaderboard(load_runs(tmp_path)[0]).rows)


def test_adapters_of_one_name_are_told_apart_by_what_differs(write_run, tmp_path) -> None:
    adapters(write_run, a={"adapter.rank": 8}, b={"adapter.rank": 16})
    assert names(tmp_path) == ["nano + note (rank 8)", "nano + note (rank 16)"][::-1]


def test_what_does_not_differ_is_not_in_the_name(write_run, tmp_path) -> None:
    both = {"adapter.recipe": "mine", "adapter.train_seed": 3}
    adapters(write_run, a=both | {"adapter.method": "lora"}, b=both | {"adapter.method": "dora"})
    assert names(tmp_path) == ["nano + note (dora)", "nano + note (lora)"]


def test_seeds_of_other_recipes_are_rows_that_say_their_seed(write_run, tmp_path) -> None:
    adapters(write_run, a={"adapter.train_seed": 0}, b={"adapter.train_seed": 1})
    assert names(tmp_path) == ["nano + note (seed 0)", "nano + note (seed 1)"]


def test_a_digest_tells_apart_what_nothing_else_does(write_run, tmp_path) -> None:
    adapters(write_run, a={"adapter.rank": 8}, b={}, c={})
    assert names(tmp_path) == ["nano + note (rank 16, 000001)", "nano + note (rank 16, 000002)", "nano + note (rank 8)"]


def test_how_they_were_trained_tells_apart_what_has_one_name_and_recipe(write_run, tmp_path) -> None:
    told = {"lr": "0.001", "steps": "20", "batch": "8"}
    given = [told, told | {"lr": "0.01"}, told | {"lr": "0.01", "variant": "long"}, {}]
    adapters(write_run, **{f"r{n}": {"adapter.recipe": "mine", "adapter.settings": one} for n, one in enumerate(given)})
    words = "steps 20, batch 8"
    assert names(tmp_path) == [
        "nano + note",
        f"nano + note (lr 0.001, {words})",
        f"nano + note (lr 0.01, {words})",
        f"nano + note (lr 0.01, {words}, variant long)",
    ]


@pytest.fixture
def seeds(write_run, tmp_path):
    write_run("base", [0] * 40)
    for seed, values in SEEDS.items():
        changes = {"adapter.train_seed": seed, "adapter.sha256": str(seed) * 64, "adapter.setting_sha256": "a" * 64}
        folder = f"note-seed{seed}"
        write_run(f"seed-{seed}", values, adapter=folder, changes=changes, created=f"2026-11-2{seed}T10:00:00Z")
    return load_runs(tmp_path)[0]


def test_seeds_of_one_recipe_are_one_row_with_a_mean_over_seeds_and_items(seeds) -> None:
    board = build_leaderboard(seeds)
    assert [row.name for row in board.rows] == ["nano + note", "nano"]
    row = board.rows[0]
    cell = row.cells[KEY]
    assert (row.seeds, cell.seeds, cell.run_ids) == ((0, 1, 2), (2, 1, 0), ("seed-2", "seed-1", "seed-0"))
    assert cell.values == (0.5, 0.5, 0.75)
    assert cell.estimate.value == pytest.approx(np.mean(list(SEEDS.values())))
    scores = np.array([SEEDS[seed] for seed in (2, 1, 0)], dtype=float)
    assert cell.estimate == seeds_estimate(scores, None, (0.0, 1.0))
    assert (cell.rank_low, cell.rank_high) == (1, 1)
    assert board.notices == ()  # No seed is passed over.


def test_seeds_are_in_every_form(seeds, tmp_path) -> None:
    board = build_leaderboard(seeds)
    content = board.as_json()
    score = content["rows"][0]["scores"][KEY]
    assert (score["seeds"], score["values"]) == ([2, 1, 0], [0.5, 0.5, 0.75])
    assert set(score["run_ids"]) <= set(content["runs"])
    assert content["runs"]["seed-1"]["train_seed"] == 1
    assert "seed-2 seed-1 seed-0,2 1 0" in render_csv(board)
    assert ", 3 seeds)" in render_markdown(board)
    assert "nano + note: means of several seeds, up to 3" in " ".join(render_text(board, 100, color=False).split())


def test_the_newer_of_two_trainings_with_one_seed_is_in_the_row(write_run, seeds, tmp_path) -> None:
    same = {"adapter.train_seed": 2, "adapter.sha256": "e" * 64, "adapter.setting_sha256": "a" * 64}
    write_run("again", [0] * 40, adapter="note", changes=same, created="2026-11-29T10:00:00Z")
    rows = {row.name: row for row in build_leaderboard(load_runs(tmp_path)[0]).rows}
    assert rows["nano + note"].cells[KEY].run_ids == ("again", "seed-1", "seed-0")
    assert rows["nano + note-seed2"].cells[KEY].run_ids == ("seed-2",)


def test_evaluations_with_several_seeds_are_one_score_if_answers_are_drawn(write_run, tmp_path) -> None:
    drawn = {"generation": {"do_sample": True, "temperature": 0.8}}
    for seed in (0, 1):
        write_run(f"drawn-{seed}", [seed, 1, 0], model="drawn", changes=drawn | {"seed": seed}, key="drawn")
        write_run(
            f"greedy-{seed}", [1, 1, 0], model="greedy", changes={"seed": seed}, created=f"2026-11-2{seed}T10:00Z"
        )
    board = build_leaderboard(load_runs(tmp_path)[0])
    cells = {row.name: next(iter(row.cells.values())) for row in board.rows}
    assert set(cells["drawn"].run_ids) == {"drawn-0", "drawn-1"}
    assert cells["greedy"].run_ids == ("greedy-1",)  # The other one is the same again.


def test_costs_are_of_the_tasks_that_all_rows_have_and_of_batches(write_run, tmp_path) -> None:
    write_run("a-note", [1, 0], model="a")
    write_run("b-note", [1, 0], model="b", created="2026-11-20T10:00:00Z")
    alone = {"latency": "single stream", "cost.seconds": 70.0, "cost.latency_p50_ms": 35.0}
    write_run("b-alone", [1, 0], model="b", changes=alone, created="2026-11-21T10:00:00Z")
    write_run("a-code", [1, 0], model="a", task="nano_code")
    board = build_leaderboard(load_runs(tmp_path)[0])
    assert board.cost_tasks == ("nano_note",)
    costs = {row.name: row.cost for row in board.rows}
    assert (costs["a"]["seconds"], costs["b"]["seconds"]) == (5.0, 5.0)
    assert (costs["a"]["latency_p50_ms"], costs["b"]["latency_p50_ms"]) == (None, 35.0)


def test_a_score_no_better_than_chance_claims_nothing(write_run, tmp_path) -> None:
    for name, values in (("zero", [0] * 40), ("nil", [0] * 40)):
        write_run(name, values, model=name)
        write_run(f"{name}-choice", [1, 0, 0, 0] * 10, model=name, task="nano_choice", chance=0.25)
        write_run(f"{name}-half", [1, 0] * 20, model=name, task="nano_code", chance=0.25)
    claims = {key: cell.claim for key, cell in build_leaderboard(load_runs(tmp_path)[0]).rows[0].cells.items()}
    assert claims == {
        KEY: None,
        "nano_choice/exact_match/strict": None,
        "nano_code/exact_match/strict": "not told apart",
    }


def test_old_runs_by_the_hundred_are_one_notice(write_run, tmp_path) -> None:
    for position in range(12):
        for minute in (10, 11):
            name = f"m{position}"
            write_run(f"{name}-{minute}", [1, 0], model=name, created=f"2026-11-20T10:{minute}:00Z")
    board = build_leaderboard(load_runs(tmp_path)[0])
    (notice,) = board.notices
    assert (notice.kind, len(notice.details)) == ("not shown", 12)
    assert notice.text == "12 finished runs aren't shown: newer ones of the same model and task are"


def test_tasks_are_in_the_order_that_people_count_in(write_run, tmp_path) -> None:
    for number in (10, 2, 0, 1):
        write_run(f"run-{number}", [1, 0], task=f"task-{number}")
    assert [column.task for column in build_leaderboard(load_runs(tmp_path)[0]).columns] == [
        "task-0", "task-1", "task-2", "task-10",
    ]  # fmt: skip


def test_rows_that_share_no_task_stand_with_those_that_have_their_tasks(write_run, tmp_path) -> None:
    for name, task, values in (
        ("a", "nano_note", [1, 0, 0]),
        ("b", "nano_note", [1, 1, 1]),
        ("c", "nano_code", [1, 1, 1]),
        ("d", "nano_note", [1, 1, 0]),
    ):
        write_run(name, values, model=name, task=task)
    board = build_leaderboard(load_runs(tmp_path)[0])
    assert board.aggregate is None
    assert [row.name for row in board.rows] == ["b", "d", "a", "c"]


def test_the_mean_has_ranks_and_claims_of_its_own(write_run, tmp_path, monkeypatch) -> None:
    drawn = np.random.default_rng(3)
    hard = {task: drawn.random(60) for task in ("nano_note", "nano_code")}
    for name, skill in (("a", 0.9), ("b", 0.85), ("c", 0.3)):
        for task in hard:
            write_run(f"{name}-{task}", [int(value < skill) for value in hard[task]], model=name, task=task)
    write_run("zero", [0] * 60, model="d", task="nano_note")
    write_run("zero2", [0] * 60, model="d", task="nano_code")
    runs, _ = load_runs(tmp_path)
    board = build_leaderboard(runs)
    means = {row.name: (row.mean_rank_low, row.mean_rank_high, row.mean_claim) for row in board.rows}
    assert list(means) == ["a", "b", "c", "d"]
    assert (means["c"], means["d"]) == ((3, 3, None), (4, 4, None))
    scores = {task: np.array([values < skill for skill in (0.9, 0.85, 0.3, 0)], float) for task, values in hard.items()}
    tests = compare_aggregate([ScoredTask(one, 0.0, 1.0) for one in scores.values()])
    assert [(one.low, one.high) for one in tests.ranks] == [found[:2] for found in means.values()]
    assert [found[2] is not None for found in means.values()] == list(tests.best)
    in_json = board.as_json()["rows"]
    assert in_json[0]["aggregate"]["rank_low"] == 1
    write_leaderboard(board, runs, tmp_path / "out")
    page, _ = read_page(tmp_path / "out")
    names = {"low": "ci_low", "high": "ci_high"}
    for row, shown in zip(in_json, page["rows"], strict=True):
        told = {one: row["aggregate"].get(names.get(one, one)) for one in shown["mean"]}
        numbers = {one: pytest.approx(told[one], rel=1e-5) for one in ("value", "low", "high")}
        assert shown["mean"] == told | numbers
    assert (page["aggregate"]["tasks"], page["aggregate"]["ranked"]) == (2, 4)
    plain = (tmp_path / "out" / "index.html").read_text().split("<tbody>")[1].split("</td>")[0]
    monkeypatch.setattr(_aggregate, "MOST_SCORES", 100)
    (told,) = build_leaderboard(runs).notices
    assert told.text == "the mean has no ranks: there are too many scores to hold them all at once"
    assert re.search(r"\u25c6 0\.\d+ \(0\.\d+\u20130\.\d+\) rank\u00a01$", plain)


def test_a_damaged_run_takes_its_task_from_no_mean_without_a_word(write_run, tmp_path, capsys) -> None:
    tasks = [f"task_{number}" for number in range(5)]
    for task in tasks:
        for model in ("a", "b", "c"):
            write_run(f"{model}-{task}", [1, 0, 1, 0], model=model, task=task)
    record = tmp_path / "runs" / "b-task_3" / "run.json"
    record.write_text(record.read_text().replace('"source": "generated"', '"source": "samples"'))
    out = [str(tmp_path), "--out", str(tmp_path / "board")]
    assert main(["leaderboard", *out]) == 1
    told = capsys.readouterr()
    assert "b-task_3/run.json: field record_sha256 is" in told.err and "one of them was changed after" in told.err
    text = " ".join(told.out.split())
    assert "mean: over 4 of 5 tasks" in text and "b-task_3: left out, as it is not what it claims" in text
    assert "the mean is over 4 of 5 tasks, those that all rows have: b lacks task_3. Run what is missing with" in text
    assert "(`slmbench leaderboard ... --without b`): the mean is over 5 of 5 tasks then" in text
    for name in ("index.html", "leaderboard.md", "leaderboard.json"):
        assert "b lacks" in (tmp_path / "board" / name).read_text()
    main(["leaderboard", *out, "--without", "b"])
    text = capsys.readouterr().out
    assert "mean: over 5 tasks" in text and "left out, as asked for: b" in text and " lacks " not in text
    assert main(["leaderboard", *out, "--without", "nobody"]) == 2
    assert "--without: no row is 'nobody'; known: a, b, c" in capsys.readouterr().err


def test_a_row_that_lacks_most_tasks_is_named_with_what_it_costs_the_mean(write_run, tmp_path) -> None:
    tasks = [f"task_{number}" for number in range(5)]
    lacking = {"a": {0}, "b": {0}, "c": {0}, "d": {0}, "poor": {0, 2, 3, 4}, "whole": set()}
    for model, without in lacking.items():
        for number, task in enumerate(tasks):
            if number not in without:
                write_run(f"{model}-{task}", [1, 0], model=model, task=task)
    runs, _ = load_runs(tmp_path)
    board = build_leaderboard(runs)
    (told,) = [notice for notice in board.notices if notice.kind == "mean"]
    assert told.text.startswith("the mean is over 1 of 5 tasks, those that all rows have: 5 rows lack others.")
    assert told.text.endswith("--without poor`): the mean is over 4 of 5 tasks then")
    assert "poor lacks task_0, task_2, task_3, task_4" in told.details and "a lacks task_0" in told.details
    aggregate = board.as_json()["aggregate"]
    assert aggregate == {"name": "mean", "columns": ["task_1/exact_match/strict"], "tasks": tasks}
    assert "5 rows lack others" in (text := " ".join(render_text(board, 100, color=False).split()))
    assert "tasks then (which: on the page)" in text and "mean: over 1 of 5 tasks" in text
    declared = build_leaderboard(runs, aggregate=tasks[:2])
    (told,) = [notice for notice in declared.notices if notice.kind == "mean"]
    assert [row.name for row in declared.rows if row.aggregate] == ["whole"] and "--without" not in told.text
    assert told.text.startswith("a row that lacks a task that the suite's mean counts has no mean: 5 rows lack others")
    apart = [run for run in runs if run.run_id in ("a-task_1", "poor-task_1", "whole-task_0")]
    (told,) = [notice for notice in build_leaderboard(apart).notices if notice.kind == "mean"]
    assert told.text.startswith("there is no mean, as no task is one that all rows have: a lacks task_0; ")


def test_what_else_keeps_a_task_from_the_mean_is_said(write_run, tmp_path) -> None:
    for task in ("one", "two", "open"):
        for model in ("a", "b"):
            values = {"perplexity": [3.0, 4.0]} if task == "open" else {"exact_match": [1, 0]}
            write_run(f"{model}-{task}", values, model=model, task=task)
    chat = write_run("c-one", {"exact_match": [1, 0]}, model="c", task="one", key="chat", changes={"format": "chat"})
    write_run("c-two", {"exact_match": [1, 0]}, model="c", task="two")
    write_run("c-open", {"perplexity": [3.0, 4.0]}, model="c", task="open")
    told = [str(notice) for notice in build_leaderboard(load_runs(tmp_path)[0]).notices if notice.kind == "mean"]
    assert told[0].startswith("the mean is over 1 of 2 tasks, those that all rows have: c lacks one (only as chat).")
    shutil.rmtree(chat)
    write_run("c-one-too", {"exact_match": [1, 0]}, model="c", task="one")
    told = [str(notice) for notice in build_leaderboard(load_runs(tmp_path)[0]).notices if notice.kind == "mean"]
    assert told == ["open: not in the mean, as perplexity has no best score"]
