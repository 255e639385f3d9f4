"""The table of measures: what each line is of, what is blank and why, and the forms that it has."""

from __future__ import annotations

import json

import jsonschema
import pytest
from attrs import evolve

from slmbench.cli.schema import json_schema
from slmbench.leaderboard import Economy, build_leaderboard, load_runs, measures_of, render_text
from slmbench.leaderboard._measures import waiting_of
from slmbench.leaderboard._measures_forms import measure_texts, measure_views
from slmbench.leaderboard.writers import render_markdown

TASKS = ["notes", "codes"]
SCORES = {"rougeL": [0.2, 0.4, 0.6], "bertscore/roberta-large-L17-raw": [0.8, 0.9, 0.7]}
TOON = {"format": "toon"}


@pytest.fixture
def measured(write_run, tmp_path):
    """The leaderboard of a model with and without an adapter on two tasks; one of them was asked alone, too."""
    for name, adapter in (("base", None), ("tuned", "note")):
        write_run(f"{name}-notes", SCORES, task="notes", adapter=adapter, changes=TOON)
        write_run(f"{name}-codes", [0.0, 1.0, 1.0], task="codes", adapter=adapter, changes=TOON)
    samples = [{"latency_ms": 40.0}, {"latency_ms": 1000.0}, {"latency_ms": 60.0}]
    alone = TOON | {"latency": "single stream"}
    created = "2026-11-19T10:00:00+00:00"  # Before the others, so that no cell shows it.
    write_run("alone", SCORES, task="notes", adapter="note", samples=samples, created=created, changes=alone)
    runs, _ = load_runs(tmp_path)
    board = build_leaderboard(runs)
    known = {("nano", "notes", "toon"): Economy(90.0, 100.0, 88.0, 20), ("nano", "codes", "toon"): "no rows"}
    return evolve(board, measures=measures_of(board, runs, TASKS, known))


def test_a_line_over_all_tasks_comes_before_one_for_each(measured) -> None:
    found = [(line.row, line.task, line.tasks) for line in measured.measures]
    over, codes, notes = ("nano + note", "", 2), ("nano + note", "codes", 1), ("nano + note", "notes", 1)
    assert found[found.index(over) :][:3] == [over, codes, notes]
    assert [line.task for line in measured.measures] == ["", "codes", "notes"] * 2


def test_each_measure_is_that_of_its_own_runs_and_what_is_not_known_is_blank(measured) -> None:
    lines = {(line.row, line.task): line for line in measured.measures}
    notes, codes = lines["nano + note", "notes"], lines["nano + note", "codes"]
    assert (notes.rouge.value, notes.bert.value) == pytest.approx((0.4, 0.8))
    assert (notes.waiting.median, notes.waiting.n) == (60.0, 3) and notes.waiting.mean == pytest.approx(1100 / 3)
    assert notes.answer_tokens == 9 and notes.adapter_bytes == 1_130_000
    assert notes.economy.against_json == pytest.approx(-0.1) and notes.economy.against_plain > 0.02
    assert (notes.memory_bytes, notes.memory_of) == (512_000_000, "process")
    assert codes.rouge is None and codes.other[0] == "exact_match/strict" and codes.waiting is None
    assert (codes.economy, codes.why_no_economy) == (None, "no rows")
    assert lines["nano", "notes"].adapter_bytes is None and lines["nano", "notes"].waiting is None
    over = lines["nano + note", ""]
    assert over.rouge.value == pytest.approx(0.4) and over.scored == 1 and over.bert.value == pytest.approx(0.8)


def test_over_all_tasks_a_number_is_of_all_of_them_or_the_cell_says_of_how_many(measured) -> None:
    over = next(line for line in measured.measures if (line.row, line.task) == ("nano + note", ""))
    assert (over.waiting, over.economy) == (None, None) and over.answer_tokens == 9 and over.memory_of == "process"
    assert [(one.measure, one.tasks, one.of) for one in over.partly] == [("latency", 1, 2), ("economy", 1, 2)]
    content = next(line for line in measured.as_json()["measures"] if line["row"] == "nano + note")
    assert content["latency"] is content["economy"] is None
    assert content["partly"][0] == {"measure": "latency", "tasks": 1, "of": 2}
    page = [one for one in measure_views(measured.measures)["rows"] if one["over"] and "note" in one["whose"]]
    assert [[(at, text) for at, text in enumerate(one["texts"]) if "of" in text] for one in page] == [
        [(at, "1 of 2 tasks") for at in (0, 4, 5, 6)]
    ]
    for form in (render_text(measured, 400, color=False), render_markdown(measured)):
        [line] = [one for one in form.splitlines() if "nano + note" in one and "all 2 tasks" in one]
        assert line.count("1 of 2 tasks") == 4 and " ms" not in line


def test_a_row_that_lacks_a_task_or_a_score_that_others_have_says_so(write_run, tmp_path) -> None:
    for task in ("notes", "letters", "codes"):
        write_run(f"base-{task}", SCORES if task == "notes" else [0.0, 1.0, 1.0], task=task)
    write_run("tuned-notes", {"rougeL": SCORES["rougeL"]}, task="notes", adapter="note")
    write_run("tuned-letters", [0.0, 1.0, 1.0], task="letters", adapter="note")
    runs, _ = load_runs(tmp_path)
    board = build_leaderboard(runs)
    lines = {line.row: line for line in measures_of(board, runs, [*TASKS, "letters"], {}) if not line.task}
    told = {row: (task, texts) for row, line in lines.items() for _, task, texts in measure_texts([line])}
    (task, texts), (all_tasks, whole) = told["nano + note"], told["nano"]
    assert (all_tasks, task) == ("all 3 tasks", "2 of 3 tasks")
    assert whole[1] == texts[1] and whole[1].startswith("0.4"), "ROUGE-L is of the one task that has it, in both"
    assert whole[2].startswith("0.8") and texts[2] == "\u2013"
    assert (texts[3], texts[7]) == ("2 of 3 tasks", "2 of 3 tasks") and whole[3] == "9.0"


def test_a_median_has_an_interval_of_order_statistics_from_six_items_on() -> None:
    assert waiting_of([1.0, 2.0, 3.0, 4.0, 5.0]).low is None
    made = waiting_of([float(ms) for ms in range(1, 101)])
    # scipy.stats.binom.ppf([.025, .975], 100, .5) is [40, 60].
    assert (made.median, made.low, made.high) == (50.5, 41.0, 61.0)
    even = waiting_of([1.0] * 3 + [9.0] * 3)
    assert (even.median, even.low, even.high) == (5.0, 1.0, 9.0)


def test_every_form_says_the_same_and_why_something_is_not_there(measured) -> None:
    content = measured.as_json()
    jsonschema.Draft202012Validator(json_schema("leaderboard")).validate(content)
    lines = json.loads(json.dumps(content))["measures"]
    [notes] = [line for line in lines if (line["row"], line["task"]) == ("nano + note", "notes")]
    assert notes["latency"] == {"median_ms": 60.0, "ci_low_ms": None, "ci_high_ms": None, "n": 3} | {
        "mean_ms": pytest.approx(1100 / 3)
    }
    assert notes["economy"]["json_tokens"] == 100 and notes["rouge_l"]["value"] == pytest.approx(0.4)
    text = render_text(measured, 100, color=False)
    for part in ("measures", "60 ms, mean 367 ms", "\u221210%", "+2%", "all 2 tasks", "1.1 MB"):
        assert part in text and part in render_markdown(measured).replace("## Measures", "measures"), part
    for said in (
        "latency: not measured; run with --latency (codes, nano on notes)",
        "in its column is codes by exact_match/strict",
        "tokens a record: no rows (codes)",
    ):
        assert said in " ".join(text.split()), said
    assert max(len(line) for line in text.splitlines()) <= 100


def test_seconds_are_written_as_seconds(measured) -> None:
    slow = evolve(measured.measures[-1], waiting=waiting_of([80_900.0] * 6))
    [(_, _, texts)] = measure_texts([slow])
    assert texts[0] == "81 s [81 s, 81 s], mean 81 s"


def test_a_leaderboard_that_does_not_ask_for_it_has_no_such_table(write_run, tmp_path) -> None:
    write_run("base", SCORES, task="notes")
    runs, _ = load_runs(tmp_path)
    board = build_leaderboard(runs)
    assert measures_of(board, runs, [], {}) == () and board.as_json()["measures"] == []
    assert "easures" not in render_text(board, 100, color=False) + render_markdown(board)
