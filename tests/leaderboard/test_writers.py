from __future__ import annotations

import csv
import errno
import io
import json
import os
import threading
from pathlib import Path

import pytest
from attrs import evolve

from slmbench.errors import SlmbenchError
from slmbench.files import writer_in_turn
from slmbench.leaderboard import build_leaderboard, load_runs, write_leaderboard
from slmbench.leaderboard.spreadsheets import csv_text, render_csv
from slmbench.leaderboard.writers import markdown_text, render_markdown
from tests.leaderboard.conftest import read_page

NAMES = {"leaderboard.json", "leaderboard.csv", "notices.csv", "leaderboard.md", "index.html"}
HOSTILE = '=HYPERLINK("http://x","y")\x1b]0;owned\x07\u202e|<script>alert(1)</script>'


@pytest.fixture
def table(write_run, tmp_path):
    write_run("base", [0] * 30)
    write_run("tuned", [1] * 29 + [0], adapter="note")
    runs, notices = load_runs(tmp_path)
    return build_leaderboard(runs, "nano", notices=notices), runs


def test_five_files_are_written_and_nothing_else(table, tmp_path) -> None:
    written = write_leaderboard(*table, tmp_path / "leaderboard")
    assert {path.name for path in written} == NAMES
    assert set(os.listdir(tmp_path / "leaderboard")) == NAMES | {"data"}
    content = json.loads((tmp_path / "leaderboard" / "leaderboard.json").read_text())
    assert content == table[0].as_json()


def test_a_column_whose_tests_ran_in_the_programs_process_says_so(write_run, tmp_path) -> None:
    write_run("a", [0, 1], task="strict", changes={"sandbox": {"tier": "bubblewrap", "timeout_s": 3.0}})
    weaker = {"tier": "namespaces", "timeout_s": 3.0, "examine": "in_process"}
    write_run("b", [0, 1], task="weaker", changes={"sandbox": weaker})
    runs, _ = load_runs(tmp_path)
    table = build_leaderboard(runs)
    assert [column.get("in_process") for column in table.as_json()["columns"]] == [None, True]
    write_leaderboard(table, runs, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    index, files = read_page(tmp_path / "out")
    assert [column["inProcess"] for column in index["columns"]] == [False, True]
    assert "namespaces, in_process" in json.dumps([file for name, file in files.items() if name.startswith("row-")])
    assert "in the process of the program that they judge" in page
    assert (tmp_path / "out" / "leaderboard.md").read_text().count("(in process)") == 1


def test_writing_again_gives_the_same_bytes(table, tmp_path) -> None:
    first = {path.name: path.read_bytes() for path in write_leaderboard(*table, tmp_path / "one")}
    second = {path.name: path.read_bytes() for path in write_leaderboard(*table, tmp_path / "two")}
    assert first == second


def test_a_full_disk_leaves_the_old_files_and_no_temporary_one(table, tmp_path, monkeypatch) -> None:
    out = tmp_path / "leaderboard"
    write_leaderboard(*table, out)
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    _, runs = table
    with pytest.raises(SlmbenchError, match=r"can't be written \(No space left"):
        write_leaderboard(build_leaderboard(runs[:1], "other"), runs, out)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before


def test_an_output_path_that_is_a_file_is_a_clear_error(table, tmp_path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(SlmbenchError, match="taken: the leaderboard can't be written"):
        write_leaderboard(*table, tmp_path / "taken")


def test_csv_has_one_line_a_score_and_numbers_stay_numbers(table) -> None:
    lines = list(csv.DictReader(io.StringIO(render_csv(table[0]))))
    assert [line["name"] for line in lines] == ["nano + note", "nano"]
    assert float(lines[0]["value"]) == pytest.approx(29 / 30)
    assert (lines[0]["rank_low"], lines[0]["rank_high"], lines[0]["n"]) == ("1", "1", "30")
    assert lines[0]["run_id"] == "tuned"
    assert lines[0]["adapter_parameters"] == "280000"
    assert lines[1]["adapter_parameters"] == ""


def test_a_negative_number_in_csv_is_not_taken_for_a_formula(write_run, tmp_path) -> None:
    write_run("base", {"gain": [-0.5, -0.25]})
    (line,) = csv.DictReader(io.StringIO(render_csv(build_leaderboard(load_runs(tmp_path)[0]))))
    assert float(line["value"]) == -0.375


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\n=x", "  =x", "\uff1dx"])
def test_csv_text_that_a_spreadsheet_would_run_is_quoted(start) -> None:
    assert csv_text(start).startswith("'")


def test_csv_text_that_is_harmless_stays_as_it_is() -> None:
    assert csv_text("nano + note") == "nano + note"


def test_markdown_shows_scores_ranks_and_cost(table) -> None:
    text = render_markdown(table[0])
    assert "| nano + note | **0.967** [0.833, 0.994] (1) |" in text
    assert "280k (25% of the model), 1.1 MB" in text


def test_costs_say_nothing_of_none_and_no_column_repeats_what_all_rows_have_alike(table, write_run, tmp_path) -> None:
    text = render_markdown(table[0])
    assert "All rows alike: parameters: 1.1M; evaluation: 5.0 s; peak memory: 512 MB; tokens in: 1.2k" in text
    assert "| model | adapter | training |\n" in text
    write_run("merged", [1] * 30, model="merged", changes={"model.parameters": 9})
    runs, _ = load_runs(tmp_path)
    board = build_leaderboard(runs)
    (merged,) = [row for row in board.rows if row.name == "merged"]
    rows = tuple(evolve(row, method="ties of a, b") if row is merged else row for row in board.rows)
    write_leaderboard(evolve(board, rows=rows), runs, tmp_path / "out")
    page, _ = read_page(tmp_path / "out")
    places = {cost[0]: place for place, cost in enumerate(page["costs"])}
    costs = {row["name"]: row["cost"] for row in page["rows"]}
    assert [costs["nano"][places[one]] for one in ("adapter_bytes", "adapter_parameters", "train_s")] == [0, 0, 0]
    assert (costs["merged"][places["train_s"]], costs["nano + note"][places["train_s"]]) == (None, 25.0)
    differs = {cost[0]: cost[4] for cost in page["costs"]}
    assert (differs["parameters"], differs["tokens_in"]) == (True, False)


def test_markdown_text_is_inert() -> None:
    assert markdown_text("a|b") == r"a\|b"
    assert markdown_text("[x](javascript:alert(1))") == r"\[x\](javascript:alert(1))"
    assert markdown_text("<img src=x onerror=y>") == r"\<img src=x onerror=y\>"
    assert markdown_text("x\x1b[2J\u202ey\n# z") == "x\u241b\\[2J\u27e8U+202E\u27e9y\u240a\\# z"


def test_hostile_names_are_inert_in_every_file(write_run, tmp_path) -> None:
    write_run("odd", [1, 0], model=HOSTILE, adapter="\ud800@sum", task=HOSTILE, limit=2)
    runs, notices = load_runs(tmp_path)
    leaderboard = build_leaderboard(runs, HOSTILE, notices=notices)
    for path in write_leaderboard(leaderboard, runs, tmp_path / "out"):
        text = path.read_bytes().decode("utf-8")
        assert "\x1b" not in text, path.name
        assert "\u202e" not in text, path.name
        assert "\x07" not in text, path.name
        if path.suffix in (".md", ".html"):
            assert "<script>alert" not in text.replace("\\<", "&lt;"), path.name
    content = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert content["rows"][0]["model"] == HOSTILE
    (line,) = csv.DictReader(io.StringIO((tmp_path / "out" / "leaderboard.csv").read_text()))
    assert line["model"].startswith("'=HYPERLINK")
    assert line["adapter"] == "\ufffd@sum"


def test_an_empty_table_is_written_too(write_run, tmp_path) -> None:
    write_run("started", [1], status="started")
    runs, notices = load_runs(tmp_path)
    out: Path = tmp_path / "out"
    write_leaderboard(build_leaderboard(runs, notices=notices), runs, out)
    assert "No finished runs" in (out / "leaderboard.md").read_text()
    assert "No finished runs" in (out / "index.html").read_text()
    assert "unfinished" in (out / "index.html").read_text()


def test_two_writers_of_one_folder_take_turns(table, tmp_path) -> None:
    out = tmp_path / "leaderboard"
    out.mkdir()
    other = threading.Thread(target=write_leaderboard, args=(*table, out))
    with writer_in_turn(str(out / ".leaderboard.lock")):
        other.start()
        other.join(0.3)
        assert other.is_alive() and not (out / "index.html").exists()
    other.join()
    assert set(os.listdir(out)) == NAMES | {"data"}
