from __future__ import annotations

import json

import jsonschema
import pytest
from scipy.special import stdtrit

from slmbench.cli.schema import json_schema
from slmbench.leaderboard import build_leaderboard, load_runs
from slmbench.leaderboard._records import RunProblems
from slmbench.statistics.estimate import estimate

KEY = "nano_note/exact_match/strict"
GOOD, BAD = [1] * 90 + [0] * 10, [0] * 100


def build(path, **options):
    runs, notices = load_runs(path)
    return build_leaderboard(runs, notices=notices, **options)


def texts(leaderboard):
    return [text for notice in leaderboard.notices for text in (notice.text, *notice.details)]


def row(leaderboard, name):
    return next(row for row in leaderboard.rows if row.name == name)


def test_json_has_the_documented_shape(write_run, tmp_path) -> None:
    write_run("base", BAD, chance=0.25)
    write_run("tuned", GOOD, adapter="note", chance=0.25)
    content = build(tmp_path, suite="nano").as_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    jsonschema.Draft202012Validator(json_schema("leaderboard")).validate(content)
    assert list(content) == list(json_schema("leaderboard")["properties"])
    assert (content["schema"], content["suite"]) == (2, "nano")
    key = "nano_note-key-a"
    assert content["conditions"] == [
        {"key": key, "task": "nano_note", "label": "", "slug": "", "format": "plain", "shots": 0, "version": 1}
        | {"source": "generated", "n": 100}
    ]
    assert content["columns"] == [
        {
            "key": KEY,
            "task": "nano_note",
            "metric": "exact_match/strict",
            "higher_is_better": True,
            "condition": key,
            "primary": True,
            "chance": 0.25,
            "worst": 0.25,
            "best": 1.0,
            "ranked": 2,
            "detectable": pytest.approx((stdtrit(99, 0.975) + stdtrit(99, 0.8)) * 0.3 / 99**0.5),
        }
    ]
    tuned, base = content["rows"]
    assert (tuned["name"], tuned["model"], tuned["adapter"], tuned["rank"]) == ("nano + note", "nano", "note", 16)
    assert "adapter" not in base
    made = estimate(GOOD)
    assert tuned["scores"][KEY] == {
        "value": 0.9,
        "stderr": made.stderr,
        "ci_low": made.ci_low,
        "ci_high": made.ci_high,
        "method": "wilson",
        "n": 100,
        "rank_low": 1,
        "rank_high": 1,
        "claim": "best",
        "badges": [],
        "run_id": "tuned",
    }
    assert (base["scores"][KEY]["rank_low"], base["scores"][KEY]["rank_high"]) == (2, 2)
    assert "claim" not in base["scores"][KEY]
    assert tuned["aggregate"]["value"] == pytest.approx((0.9 - 0.25) / 0.75)
    assert base["aggregate"]["value"] == pytest.approx(-1 / 3)  # Worse than guessing, and not clipped.
    assert content["aggregate"]["columns"] == [KEY]
    assert content["runs"]["tuned"]["cost"]["tokens_in"] == 4000
    assert tuned["cost"] == {
        "parameters": 1_100_000,
        "adapter_bytes": 1_130_000,
        "adapter_parameters": 280_000,
        "train_s": 25.0,
        "seconds": 5.0,
        "latency_p50_ms": None,
        "ram_peak_B": 512_000_000,
        "vram_peak_B": None,
        "prefill_tokens_per_s": None,
        "decode_tokens_per_s": None,
        "load_s": None,
        "model_B": None,
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


def test_rows_of_one_limit_are_ranked_among_themselves_in_columns_of_their_own(write_run, tmp_path) -> None:
    write_run("base", BAD)
    write_run("other", GOOD, model="other")
    for name, values in (("base-20", BAD[:20]), ("note-20", GOOD[:20])):
        adapter = "note" if name == "note-20" else None
        write_run(name, values, adapter=adapter, limit=20, key="limited")
    leaderboard = build(tmp_path)
    limited = "nano_note@limit-20/exact_match/strict"
    assert [(column.key, column.condition.label, column.ranked) for column in leaderboard.columns] == [
        (KEY, "all items", 2),
        (limited, "limit 20", 2),
    ]
    tuned = row(leaderboard, "nano + note")
    assert tuned.badges == ("limit 20",)
    assert (tuned.cells[limited].rank_low, tuned.cells[limited].claim, tuned.cells[limited].badges) == (
        1,
        "best",
        ("limit 20",),
    )
    assert row(leaderboard, "nano").cells[limited].rank_low == 2
    assert row(leaderboard, "nano").cells[KEY].badges == ()
    # A row that has the limited column alone has no part in the mean of the others, and stands below them.
    assert [shown.aggregate is None for shown in leaderboard.rows] == [False, False, True]


def test_a_limit_that_all_runs_have_is_the_usual_condition(write_run, tmp_path) -> None:
    write_run("base", BAD[:20], limit=20)
    write_run("tuned", GOOD[:20], adapter="note", limit=20)
    leaderboard = build(tmp_path)
    assert [column.key for column in leaderboard.columns] == [KEY]
    assert [(shown.name, shown.cells[KEY].rank_low) for shown in leaderboard.rows] == [("nano + note", 1), ("nano", 2)]
    assert texts(leaderboard) == ["the first items alone, ranked among themselves (limit 20): all runs"]


def test_sample_rows_are_badged_and_never_ranked(write_run, tmp_path) -> None:
    write_run("base", [1, 0], source="samples", limit=2)
    shown = build(tmp_path).rows[0]
    assert shown.badges == ("limit 2", "samples")
    assert shown.cells[KEY].rank_low is None


def test_what_keeps_runs_out_of_the_ranks_is_told_once(write_run, tmp_path) -> None:
    write_run("base", [1, 0], source="samples", limit=2)
    write_run("tuned", [1, 0], source="samples", limit=2, adapter="note")
    write_run("other", [1, 0], source="samples", limit=2, task="nano_choice")
    write_run("whole", [1, 0], task="nano_code")
    assert [str(told) for told in build(tmp_path).notices if told.kind != "mean"] == [
        "not ranked (limit 2, samples): nano on nano_choice, nano_note; nano + note on nano_note"
    ]


def test_a_full_run_goes_before_a_newer_limited_one(write_run, tmp_path) -> None:
    write_run("full", GOOD, created="2026-11-20T10:00:00Z")
    write_run("peek", GOOD[:5], limit=5, created="2026-11-20T12:00:00Z")
    leaderboard = build(tmp_path)
    assert leaderboard.rows[0].cells[KEY].run_id == "full"
    assert "full is shown (the newest that has no badge), not peek (limit 5" in texts(leaderboard)[0]


def test_the_newest_of_two_runs_is_shown_and_the_other_is_named(write_run, tmp_path) -> None:
    write_run("older", BAD, created="2026-11-20T10:00:00Z", changes={"seed": 7})
    write_run("newer", GOOD, created="2026-11-20T11:00:00Z")
    leaderboard = build(tmp_path)
    assert len(leaderboard.rows) == 1
    assert leaderboard.rows[0].cells[KEY].run_id == "newer"
    assert tuple(texts(leaderboard)) == (
        "nano on nano_note: 2 finished runs; newer is shown (the newest), not older (seed 7)",
    )


def test_each_condition_has_columns_of_its_own_and_is_ranked_on_its_own(write_run, tmp_path) -> None:
    for name, values in (("one", BAD), ("two", GOOD)):
        write_run(f"{name}-plain", values, model=name)
    for name, values in (("one", GOOD), ("two", BAD), ("three", BAD)):
        write_run(f"{name}-chat", values, model=name, key="chat", changes={"format": "chat", "fewshot.n": 5})
    write_run("one-v2", GOOD, model="one", key="new", changes={"task.version": 2})
    leaderboard = build(tmp_path)
    labels = {column.key: column.condition.label for column in leaderboard.columns}
    assert labels == {
        KEY: "chat, 5 shots, version 1",
        "nano_note@plain,0-shots/exact_match/strict": "plain, 0 shots, version 1",
        "nano_note@plain,0-shots,version-2/exact_match/strict": "plain, 0 shots, version 2",
    }
    one, two = row(leaderboard, "one"), row(leaderboard, "two")
    plain = "nano_note@plain,0-shots/exact_match/strict"
    assert (one.cells[KEY].rank_low, two.cells[KEY].rank_low) == (1, 2)
    assert (one.cells[plain].rank_low, two.cells[plain].rank_low) == (2, 1)
    (told,) = [text for text in texts(leaderboard) if "asked in 3 ways" in text]
    assert told.endswith("chat, 5 shots, version 1; plain, 0 shots, version 1; plain, 0 shots, version 2")


def test_where_programs_ran_is_in_the_name_of_a_condition(write_run, tmp_path) -> None:
    for name, sandbox in (("jail", {"tier": "bubblewrap"}), ("open", {"tier": "unsafe", "timeout_s": 9.0})):
        write_run(name, GOOD, model=name, key=name, changes={"sandbox": {"timeout_s": 3.0} | sandbox})
    labels = {column.condition.label for column in build(tmp_path).columns}
    assert labels == {"", "no jail, 9 s"}


def test_conditions_that_no_name_tells_apart_are_told_by_their_key(write_run, tmp_path) -> None:
    write_run("old", GOOD, model="old", key="key-z", created="2026-11-20T10:00:00Z")
    write_run("new", BAD, model="new", key="key-a", created="2026-11-21T10:00:00Z")
    leaderboard = build(tmp_path)
    assert [column.condition.slug for column in leaderboard.columns] == ["", "key-nano_note-key-z"]
    assert row(leaderboard, "new").cells.keys() == {KEY}  # Of two conditions as common, the newer one.


def test_two_versions_of_a_metric_are_two_columns_of_one_condition(write_run, tmp_path) -> None:
    for name, version in (("one", "1"), ("two", "1"), ("three", "2")):
        write_run(name, GOOD, model=name, changes={"metrics.0.version": version})
    leaderboard = build(tmp_path)
    assert [(column.key, column.metric_label, column.ranked) for column in leaderboard.columns] == [
        (KEY, "exact_match/strict (version 1)", 2),
        (f"{KEY}@version-2", "exact_match/strict (version 2)", 1),
    ]
    assert [column.primary for column in leaderboard.columns] == [True, False]


def test_an_older_run_still_shows_a_metric_that_the_newest_lacks(write_run, tmp_path) -> None:
    write_run("older", {"exact_match/strict": BAD, "rouge1": BAD}, created="2026-11-20T10:00:00Z")
    write_run("newer", {"exact_match/strict": GOOD}, created="2026-11-21T10:00:00Z")
    leaderboard = build(tmp_path)
    assert {key: cell.run_id for key, cell in leaderboard.rows[0].cells.items()} == {
        KEY: "newer",
        "nano_note/rouge1": "older",
    }
    assert leaderboard.notices == ()


def test_two_adapters_under_one_name_are_two_rows(write_run, tmp_path) -> None:
    write_run("seed-0", GOOD, adapter="mine", changes={"adapter.sha256": "d" * 64})
    write_run("seed-1", BAD, adapter="mine", changes={"adapter.sha256": "e" * 64})
    assert {row.name for row in build(tmp_path).rows} == {"nano + mine (dddddd)", "nano + mine (eeeeee)"}


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
    assert cost["tokens_in"] is None  # One of the two didn't say: a sum of the rest would be too small.
    assert cost["tokens_out"] == 1800
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
    assert "not in this table: runs of b" in texts(leaderboard)
    assert "d: no finished run" in texts(leaderboard)


def test_rows_are_in_the_order_of_their_mean_over_tasks(write_run, tmp_path) -> None:
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
    assert "unfinished" in texts(leaderboard)[0]
    content = leaderboard.as_json()
    assert (content["columns"], content["rows"], content["aggregate"]) == ([], [], None)


def test_json_has_no_lone_surrogates(write_run, tmp_path) -> None:
    write_run("odd", GOOD, model="m\ud800", adapter="a", changes={"cost.seconds": None})
    text = json.dumps(build(tmp_path).as_json(), ensure_ascii=False, allow_nan=False)
    assert text.encode("utf-8")
    assert "m\ufffd" in text
    assert json.loads(text)["rows"][0]["cost"]["seconds"] is None
