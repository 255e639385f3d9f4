"""Runs that ended because they were decided: shown under their condition, badged, and ranked against nobody."""

import json
from pathlib import Path

from slmbench.leaderboard import build_leaderboard, load_runs
from tests.leaderboard.conftest import make_run

STOPPED = {
    "n": 12,
    "total": 40,
    "seed": 0,
    "order_sha256": "d" * 64,
    "metric": "exact_match/strict",
    "against": "base",
    "against_sha256": "e" * 64,
    "verdict": "better",
    "by": "sequence",
    "wins": 11,
    "losses": 0,
    "ties": 1,
    "e_value": 100.0,
    "p": 0.01,
    "difference": 0.9,
    "ci_lo": 0.1,
    "ci_hi": 1.0,
    "whole": "other-whole",
    "whole_key": "nano_note-key-a",
}


def test_a_stopped_run_stands_under_its_condition_and_is_not_ranked(tmp_path: Path) -> None:
    make_run(tmp_path, "base", [0.0, 1.0] * 20)
    make_run(tmp_path, "tuned", [0.0, 1.0, 1.0, 1.0] * 10, adapter="tuned")
    make_run(tmp_path, "quick", [1.0] * 12, adapter="quick", key="prefix", changes={"stopped": STOPPED})
    board = build_leaderboard(*load_runs(tmp_path)[:1])
    assert [column.key for column in board.columns] == ["nano_note/exact_match/strict"]
    assert board.columns[0].ranked == 2 and board.columns[0].condition.n == 40
    cells = {row.name: row.cells["nano_note/exact_match/strict"] for row in board.rows}
    (quick,) = (cell for name, cell in cells.items() if "quick" in name)
    assert quick.badges == ("stopped at 12 (decided)",)
    assert (quick.rank_low, quick.claim, quick.estimate.n) == (None, None, 12)
    assert quick.estimate.method == "none"  # An interval of 12 items isn't one where the 12 said when to stop.
    rows = {row.name: row for row in board.rows}
    # Its mean is no place in the order, and what its items took is no cost of the task.
    last = board.rows[-1]
    assert "quick" in last.name and last.aggregate is None and last.cost["seconds"] is None
    assert rows["nano"].aggregate is not None and rows["nano"].cost["seconds"] is not None


def test_a_whole_run_is_shown_before_the_stopped_one_of_its_row(tmp_path: Path) -> None:
    make_run(tmp_path, "base", [0.0, 1.0] * 20)
    make_run(
        tmp_path, "quick", [1.0] * 12, key="prefix", created="2026-11-22T10:00:00+00:00", changes={"stopped": STOPPED}
    )
    (row,) = build_leaderboard(*load_runs(tmp_path)[:1]).rows
    assert row.cells["nano_note/exact_match/strict"].run_id == "base"


def test_the_rest_of_a_stopped_run_is_left_out_without_a_word(tmp_path: Path) -> None:
    make_run(tmp_path, "base", [0.0, 1.0] * 20)
    rest = tmp_path / "runs" / "rest"
    rest.mkdir()
    (rest / "run.json").write_text(json.dumps({"schema": 1, "status": "paused"}))
    assert load_runs(tmp_path)[1] == []
    # A finished run can't be hidden by that word.
    path = tmp_path / "runs" / "base" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "paused"}))
    assert "left out" in load_runs(tmp_path)[1][0]


def test_an_undecided_run_says_so(tmp_path: Path) -> None:
    make_run(tmp_path, "quick", [1.0] * 12, changes={"stopped": STOPPED | {"verdict": "undecided"}})
    (run,) = load_runs(tmp_path)[0]
    assert run.badges == ("stopped at 12 (undecided)",)
