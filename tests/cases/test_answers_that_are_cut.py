"""An answer that was cut is counted as such, and what there is of it is scored."""

from __future__ import annotations

import csv

import pytest

from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.evaluation._judge import read_answer
from slmbench.formats import load_format
from slmbench.leaderboard import build_leaderboard, load_runs, render_text, write_leaderboard
from slmbench.task import load_task, load_task_folder
from slmbench.values import Target

TOON = load_format("toon")
TEXT = 'He said: "no\\no"\nand left: 5%, é.'


def test_a_toon_answer_cut_anywhere_is_read_as_far_as_it_goes() -> None:
    example = load_task("nano_note", data="samples").examples("test")[0]
    written = TOON.write(Target(TEXT))
    for end in range(2, len(written) + 1):
        answer = read_answer(TOON, example, f" {written[:end]}")
        assert answer.fault == ""
        assert TEXT.startswith(answer.text.rstrip()) and len(answer.text) >= (end - 1) / 1.5 - 5
    assert read_answer(TOON, example, f" {written}").text == TEXT


@pytest.mark.parametrize("output", ['{"answer": "x', "x\nother: y", 'x\nother: "y'])
def test_what_is_no_toon_for_another_reason_is_still_none(output: str) -> None:
    example = load_task("nano_note", data="samples").examples("test")[0]
    answer = read_answer(TOON, example, output)
    assert answer.text == "" and answer.fault


def test_cut_and_stopped_answers_are_counted_in_record_csv_and_on_every_page(
    nano, tmp_path, write_task, task_yaml
) -> None:
    note = load_task("nano_note").with_max_tokens(9)
    stopped = write_task("stopped", task_yaml + 'generation: {max_tokens: 40, stop: ["e", "0", "1", "2"]}\n')
    tasks = [note, load_task_folder(str(stopped), default_catalog())]
    runs = evaluate_tasks(nano, tasks, EvaluationOptions(limit=6, out=str(tmp_path)))
    counts = []
    for run in runs:
        reasons = [row["finish_reason"] for row in run.samples()]
        told = [run.record["remarks"].get(f"{what}", 0) for what in ("cut at max_tokens", "ended by a stop string")]
        assert told == [reasons.count("length"), reasons.count("stop")]
        counts.append(told)
    assert counts[0][0] > 0 and sum(stopped for _, stopped in counts) > 0
    loaded, notices = load_runs([tmp_path])
    board = build_leaderboard(loaded, suite=None, tasks=None, notices=notices)
    write_leaderboard(board, loaded, tmp_path / "board")
    line = f"nano on nano_note: {counts[0][0]} of 6 answers were cut at max_tokens"
    assert line in render_text(board, width=200, color=False)
    for page in ("index.html", "leaderboard.md"):
        assert line in (tmp_path / "board" / page).read_text(encoding="utf-8")
    with open(tmp_path / "board" / "leaderboard.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for (cut, stopped), task in zip(counts, ("nano_note", "stopped"), strict=True):
        of_task = [row for row in rows if row["task"] == task]
        assert of_task and {(row["n_cut_at_max_tokens"], row["n_ended_by_stop"]) for row in of_task} == {
            (str(cut), str(stopped))
        }
