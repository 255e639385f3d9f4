from __future__ import annotations

import json

import pytest

from slmbench.leaderboard import build_leaderboard, load_runs
from slmbench.leaderboard._records import RunProblems
from slmbench.statistics.estimate import estimate

KEY = "nano_note/exact_match/strict"
GOOD, BAD = [1] * 90 + [0] * 10, [0] * 100


def build(path, **options):
    runs, notices = load_runs(path)
    return build_leaderboard(runs, notices=notices, **options)


def row(leaderboard, name):
    return next(row for row in leaderboard.rows if row.name == name)


def test_json_has_the_documented_shape(write_run, tmp_path) -> None:
    write_run("base", BAD, chance=0.25)
    write_run("tuned", GOOD, adapter="note", chance=0.25)
    content = build(tmp_path, suite="nano").as_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert list(content) == ["schema", "suite", "columns", "rows"]
    assert content["suite"] == "nano"
    assert content["columns"] == [
        {
            "key": KEY,
            "task": "nano_note",
            "metric": "exact_match/strict",
            "higher_is_better": True,
            "chance": 0.25,
        }
    ]
    tuned, base = content["rows"]
    assert list(tuned) == ["name", "model", "adapter", "badges", "scores", "cost"]
    assert list(base) == ["name", "model", "badges", "scores", "cost"]
    assert (tuned["name"], tuned["model"], tuned["adapter"]) == ("nano + note", "nano", "note")
    made = estimate(GOOD)
    assert tuned["scores"][KEY] == {
        "value": 0.9,
        "stderr": made.stderr,
        "ci_low": made.ci_low,
        "ci_high": made.ci_high,
        "n": 100,
        "rank_low": 1,
        "rank_high": 1,
        "run_id": "tuned",
    }
    assert (base["scores"][KEY]["rank_low"], base["scores"][KEY]["rank_high"]) == (2, 2)
    assert tuned["cost"] == {
        "parameters": 1_100_000,
        "adapter_bytes": 1_130_000,
        "adapter_parameters": 280_000,
        "train_s": 25.0,
        "seconds": 5.0,
        "ram_peak_B": 512_000_000,
        "tokens_in": 4000,
        "tokens_out": 900,
    }


def test_a_column_without_a_known_chance_has_no_chance(write_run, tmp_path) -> None:
    write_run("base", BAD)
    assert "chance" not in build(tmp_path).as_json()["columns"][0]


def test_models_that_the_data_cannot_tell_apart_share_their_ranks(write_run, tmp_path) -> None:
    for step, name in enumerate(("one", "two", "three")):
        write_run(name, [float(position // 2**step % 2) for position in range(64)], model=name)
    for shown in build(tmp_path).rows:
        assert (shown.cells[KEY].rank_low, shown.cells[KEY].rank_high) == (1, 3)


def test_a_limited_run_keeps_its_score_and_badge_but_no_rank(write_run, tmp_path) -> None:
    write_run("base", BAD)
    write_run("tuned", GOOD[:20], adapter="note", limit=20)
    leaderboard = build(tmp_path)
    content = leaderboard.as_json()["rows"]
    tuned = next(entry for entry in content if entry["name"] == "nano + note")
    assert tuned["badges"] == ["limit 20"]
    assert tuned["scores"][KEY]["value"] == 1.0
    assert "rank_low" not in tuned["scores"][KEY]
    assert row(leaderboard, "nano").cells[KEY].rank_high == 1
    assert "not ranked (limit 20): nano + note on nano_note" in leaderboard.notices


def test_sample_rows_are_badged_and_never_ranked(write_run, tmp_path) -> None:
    write_run("base", [1, 0], source="samples", limit=2)
    shown = build(tmp_path).rows[0]
    assert shown.badges == ("limit 2", "samples")
    assert shown.cells[KEY].rank_low is None


def test_what_keeps_runs_out_of_the_ranks_is_told_once(write_run, tmp_path) -> None:
    write_run("base", [1, 0], source="samples", limit=2)
    write_run("tuned", [1, 0], source="samples", limit=2, adapter="note")
    write_run("other", [1, 0], source="samples", limit=2, task="nano_choice")
    assert build(tmp_path).notices == (
        "not ranked (limit 2, samples): nano on nano_choice, nano_note; nano + note on nano_note",
    )


def test_a_full_run_goes_before_a_newer_limited_one(write_run, tmp_path) -> None:
    write_run("full", GOOD, created="2026-11-20T10:00:00Z")
    write_run("peek", GOOD[:5], limit=5, created="2026-11-20T12:00:00Z")
    leaderboard = build(tmp_path)
    assert leaderboard.rows[0].cells[KEY].run_id == "full"
    assert "full is shown (the newest that ranks), not peek (limit 5" in leaderboard.notices[0]


def test_the_newest_of_two_runs_is_shown_and_the_other_is_named(write_run, tmp_path) -> None:
    write_run("older", BAD, created="2026-11-20T10:00:00Z", changes={"seed": 7})
    write_run("newer", GOOD, created="2026-11-20T11:00:00Z")
    leaderboard = build(tmp_path)
    assert len(leaderboard.rows) == 1
    assert leaderboard.rows[0].cells[KEY].run_id == "newer"
    assert leaderboard.notices == (
        "nano on nano_note: 2 finished runs; newer is shown (the newest), not older (seed 7)",
    )


def test_runs_that_are_not_comparable_are_never_ranked_together(write_run, tmp_path) -> None:
    write_run("one", BAD, model="one")
    write_run("two", GOOD, model="two")
    write_run("odd", [1] * 100, model="odd", key="key-b", created="2026-11-21T10:00:00Z")
    leaderboard = build(tmp_path)
    odd = row(leaderboard, "odd")
    assert odd.badges == ("not comparable",)
    assert odd.cells[KEY].rank_low is None
    assert row(leaderboard, "two").cells[KEY].rank_high == 1
    assert row(leaderboard, "one").cells[KEY].rank_high == 2
    assert any("odd on nano_note: not ranked" in notice for notice in leaderboard.notices)


def test_of_two_equally_large_groups_the_newer_one_is_ranked(write_run, tmp_path) -> None:
    write_run("old", GOOD, model="old", key="key-z", created="2026-11-20T10:00:00Z")
    write_run("new", BAD, model="new", key="key-a", created="2026-11-21T10:00:00Z")
    leaderboard = build(tmp_path)
    assert row(leaderboard, "new").badges == ()
    assert row(leaderboard, "old").badges == ("not comparable",)


def test_a_row_shows_the_run_that_can_be_ranked_with_the_others(write_run, tmp_path) -> None:
    write_run("one", BAD, model="one")
    write_run("two-old", GOOD, model="two", created="2026-11-20T10:00:00Z")
    write_run("three", GOOD, model="three")
    write_run("two-new", GOOD, model="two", key="key-b", created="2026-11-22T10:00:00Z")
    leaderboard = build(tmp_path)
    assert row(leaderboard, "two").cells[KEY].run_id == "two-old"
    assert "two-old is shown (the newest that ranks), not two-new (not comparable)" in leaderboard.notices[0]


def test_two_adapters_under_one_name_are_two_rows(write_run, tmp_path) -> None:
    write_run("seed-0", GOOD, adapter="mine", changes={"adapter.sha256": "d" * 64})
    write_run("seed-1", BAD, adapter="mine", changes={"adapter.sha256": "e" * 64})
    assert {row.adapter for row in build(tmp_path).rows} == {"mine@dddddd", "mine@eeeeee"}


def test_a_row_of_two_models_under_one_name_says_so(write_run, tmp_path) -> None:
    write_run("note", GOOD)
    write_run("code", GOOD, task="nano_code", changes={"model.weights_sha256": "e" * 64})
    assert build(tmp_path).rows[0].badges == ("mixed weights",)


def test_costs_are_summed_over_runs_and_memory_is_the_peak(write_run, tmp_path) -> None:
    write_run("note", {"exact_match/strict": GOOD, "rouge/rougeL": [0.5] * 99 + [0.25]})
    write_run("code", BAD, task="nano_code", changes={"cost.ram_peak_B": 700_000_000, "cost.tokens_in": None})
    cost = build(tmp_path).rows[0].cost
    assert cost["seconds"] == 10.0
    assert cost["ram_peak_B"] == 700_000_000
    assert cost["tokens_in"] == 4000
    assert cost["train_s"] is None


def test_clusters_of_the_samples_widen_the_interval(write_run, tmp_path) -> None:
    values = [float(position // 10 % 2) for position in range(100)]
    write_run("base", values, clusters=[str(position // 10) for position in range(100)])
    made = build(tmp_path).rows[0].cells[KEY].estimate
    assert made.method == "wilson-cr2"
    assert made.stderr > 2 * estimate(values).stderr


def test_the_recorded_interval_is_not_believed(write_run, tmp_path) -> None:
    write_run("base", GOOD, changes={"metrics.0.ci_lo": 0.8999, "metrics.0.ci_hi": 0.9001, "metrics.0.se": 0.0})
    made = build(tmp_path).rows[0].cells[KEY].estimate
    assert made.ci_low == estimate(GOOD).ci_low


def test_an_interval_that_cannot_be_made_is_null(write_run, tmp_path) -> None:
    write_run("base", {"rouge/rougeL": [0.4]})
    score = build(tmp_path).as_json()["rows"][0]["scores"]["nano_note/rouge/rougeL"]
    assert (score["stderr"], score["ci_low"], score["ci_high"], score["n"]) == (None, None, None, 1)


def test_tasks_choose_and_order_the_columns_and_the_rest_is_named(write_run, tmp_path) -> None:
    for task in ("a", "b", "c"):
        write_run(task, GOOD, task=task)
    leaderboard = build(tmp_path, tasks=["c", "a", "d"])
    assert [column.task for column in leaderboard.columns] == ["c", "a"]
    assert "not in this table: runs of b" in leaderboard.notices
    assert "d: no finished run" in leaderboard.notices


def test_rows_that_lead_most_columns_come_first(write_run, tmp_path) -> None:
    for task in ("a", "b"):
        write_run(f"best-{task}", GOOD, model="z-best", task=task)
        write_run(f"base-{task}", BAD, model="a-base", task=task)
    write_run("half-a", GOOD, model="half", task="a")
    write_run("half-b", [0] * 80 + [1] * 20, model="half", task="b")
    assert [shown.name for shown in build(tmp_path).rows] == ["z-best", "half", "a-base"]


def test_comparable_runs_that_disagree_which_way_is_up_are_a_problem(write_run, tmp_path) -> None:
    write_run("one", GOOD, model="one")
    write_run("two", BAD, model="two", higher_is_better=False)
    with pytest.raises(RunProblems, match="higher_is_better is False"):
        build(tmp_path)


def test_lower_is_better_ranks_the_lower_value_first(write_run, tmp_path) -> None:
    write_run("one", GOOD, model="one", higher_is_better=False)
    write_run("two", BAD, model="two", higher_is_better=False)
    assert row(build(tmp_path), "two").cells[KEY].rank_low == 1


def test_notices_of_loading_come_first_and_no_run_at_all_is_an_empty_table(write_run, tmp_path) -> None:
    write_run("started", [1], status="started")
    leaderboard = build(tmp_path)
    assert leaderboard.rows == ()
    assert "unfinished" in leaderboard.notices[0]
    assert leaderboard.as_json() == {"schema": 1, "suite": None, "columns": [], "rows": []}


def test_json_has_no_lone_surrogates(write_run, tmp_path) -> None:
    write_run("odd", GOOD, model="m\ud800", adapter="a", changes={"cost.seconds": None})
    text = json.dumps(build(tmp_path).as_json(), ensure_ascii=False, allow_nan=False)
    assert text.encode("utf-8")
    assert "m\ufffd" in text
    assert json.loads(text)["rows"][0]["cost"]["seconds"] is None
