"""Published numbers beside measured ones: which row is whose, what is compared, and what each form of it says."""

from __future__ import annotations

import json

import jsonschema
from attrs import evolve

from slmbench.cli.schema import json_schema
from slmbench.leaderboard import beside_text, build_leaderboard, load_runs, render_text, set_beside
from slmbench.leaderboard.writers import render_markdown
from slmbench.published import published_numbers
from slmbench.schema import PublishedSpec

GOOD, BAD = [1] * 90 + [0] * 10, [0] * 100
ENTRY = {
    "value": 0.9,
    "metric": "exact_match/strict",
    "task": "nano_note",
    "adapter": "note",
    "source": "README",
    "counted": "by hand",
}


def beside(path, *entries):
    """The leaderboard of a store, with entries beside it that differ from ENTRY."""
    runs, _ = load_runs(path)
    board = build_leaderboard(runs)
    numbers = published_numbers([PublishedSpec.model_validate({**ENTRY, **entry}) for entry in entries], "nano")
    return evolve(board, published=set_beside(board, {run.run_id: run for run in runs}, numbers))


def test_a_number_is_beside_its_own_row_and_told_where_it_is_against_the_interval(write_run, tmp_path) -> None:
    write_run("base", BAD)
    write_run("tuned", GOOD, adapter="note")
    board = beside(
        tmp_path, {}, {"value": 99, "unit": "percent"}, {"value": 0.5}, {"value": [0.5, 0.85]}, {"adapter": None}
    )
    assert [line.verdict for line in board.published] == [
        "in our interval",
        "above our interval",
        "below our interval",
        "in our interval",
        "above our interval",
    ]
    assert [line.row for line in board.published] == ["nano + note"] * 4 + ["nano"]
    assert board.published[0].written == "0.900 [0.826, 0.945], n 100"


def test_what_was_measured_under_other_conditions_is_shown_and_not_compared(write_run, tmp_path) -> None:
    settings = {"lr": "0.0002", "targets": "attention"}
    write_run("tuned", GOOD, adapter="note", changes={"adapter.settings": settings})
    write_run("few", GOOD[:50], adapter="few", limit=50)
    write_run("copy", GOOD, model="big-twin", adapter="note", changes={"model.twin": True})
    lines = beside(
        tmp_path,
        {"under": {"rank": 128, "lr": 2e-4, "shots": 5, "targets": "Attention"}},
        {"under": {"rank": 16, "lr": 2e-4, "shots": 0, "format": "plain", "cot": "off", "targets": "attention"}},
        {"under": {"steps": 60}},
        {"adapter": "few", "under": {"shots": 5}},
        {"model": "big"},
        {"fault": "the 1B's number"},
    ).published
    assert [line.told for line in lines] == [
        "not compared: shots 5 there, 0 here; rank 128 there, 16 here",
        "in our interval",
        "not compared: steps 60 there, unknown here",
        "not compared: ours is of limit 50; shots 5 there, 0 here",
        "not compared: ours is of a twin",
        "not compared: the published number can't be what it says",
    ]
    assert all(line.measured is not None for line in lines)


def test_what_nobody_measured_here_is_there_all_the_same(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    lines = beside(
        tmp_path,
        {"task": "other_task"},
        {"model": "big"},
        {"metric": "other", "called": "accuracy"},
        {"metric": "latency", "unit": "seconds"},
        {"metric": "rouge1"},
    ).published
    assert {line.written for line in lines} == {"not measured here"}
    assert [line.told for line in lines] == ["", "", "slmbench has no such metric", "", ""]


def test_seconds_are_those_of_runs_one_item_after_another_and_not_judged(write_run, tmp_path) -> None:
    write_run("base", BAD)
    write_run("alone", BAD, adapter="note", changes={"latency": "single stream"})
    [line, none] = beside(
        tmp_path, {"metric": "latency", "value": 80.9}, {"metric": "latency", "value": 80.9, "adapter": None}
    ).published
    assert line.written == "median 0.0 s, nine of ten within 2.0 s, n 100"
    assert line.told == "not compared: seconds compare on the same machine alone"
    assert none.measured is None


def test_a_whole_model_that_was_merged_or_trained_is_matched_by_its_own_name(write_run, tmp_path) -> None:
    write_run("merged", GOOD, model="soup")
    [line] = beside(tmp_path, {"adapter": "soup"}).published
    assert (line.row, line.verdict) == ("soup", "in our interval")


def test_each_way_that_a_task_was_asked_in_has_its_own_line(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    write_run("chat", BAD, adapter="note", key="chat", changes={"format": "chat"})
    lines = beside(tmp_path, {"under": {"format": "chat"}}).published
    assert [(line.condition, bool(line.verdict)) for line in lines] == [("plain", False), ("chat", True)]


def test_the_terminal_shows_what_is_measured_with_its_marks_and_counts_the_rest(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    board = beside(
        tmp_path,
        {"fault": "pass@10 printed\x1b[2J", "in_files": {"value": 0.25, "source": "a notebook"}},
        {"task": "elsewhere"},
        *({"under": {"shots": shots}} for shots in (5, 5, 0)),
    )
    text = render_text(board, 100, color=False)
    assert "2 more published numbers not compared (shots 5 there, 0 here): on the page" in text
    assert "published beside measured" in text and "\x1b" not in text
    line, other = [one for one in text.splitlines() if one.startswith("nano_note/exact_match/strict ")]
    assert "nano + note (shots 0); here nano + note: in our interval" in text and other.split()[1] == "0.9"
    assert line.split()[1:4] == ["0.9", "0.25", "0.900"]
    assert "  ! pass@10 printed\u241b[2J" in text
    assert "1 more published number with nothing measured beside: on the page" in text
    for width in (24, 60, 72, 100):
        shown = beside_text(board.published, width, lambda said, color: said, whole=True)
        assert any("counted: by hand" in one for one in shown)
        assert sum("elsewhere" in one for one in shown) == 1
        assert max(map(len, shown)) <= max(width, 50)


def test_json_and_markdown_hold_all_of_it_and_text_is_no_markup(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    board = beside(
        tmp_path,
        {"fault": "<b>|**", "in_files": {"value": 0.25, "source": "a notebook"}, "under": {"lr": 2e-4}},
        {"task": "elsewhere"},
    )
    content = board.as_json()
    jsonschema.Draft202012Validator(json_schema("leaderboard")).validate(content)
    first, second = json.loads(json.dumps(content))["published"]
    assert first["measured"]["ci_low"] < 0.9 < first["measured"]["ci_high"] and first["measured"]["n"] == 100
    assert (first["row"], first["verdict"], first["in_files"]["written"]) == ("nano + note", None, "0.25")
    assert first["under"] == {"lr": 0.0002} and first["fault"] == "<b>|**"
    assert (second["row"], second["measured"], second["why_not"]) == (None, None, "not measured here")
    lines = render_markdown(board).split("## Published beside measured")[1].splitlines()
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 4 and len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "**\\<b\\>\\|\\*\\***" in table[2] and "not measured here" in table[3]


def test_a_leaderboard_without_published_numbers_has_no_such_section(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    board = beside(tmp_path)
    assert board.as_json()["published"] == []
    assert "ublished" not in render_text(board, 100, color=False) + render_markdown(board)
