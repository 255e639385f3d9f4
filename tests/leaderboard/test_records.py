from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slmbench.cli import main
from slmbench.errors import SlmbenchError, UsageError
from slmbench.leaderboard import load_runs, read_runs
from slmbench.leaderboard._records import RunProblems
from slmbench.runs import item_hash

SPOILT = [
    (lambda data, out: data[:-9], "sha256 is"),
    (lambda data, out: (out / "runs" / "other" / "item_scores.parquet").read_bytes(), "sha256 is"),
    (lambda data, out: b"", "sha256 is"),
]


def messages(path: Path) -> str:
    with pytest.raises(RunProblems) as caught:
        load_runs(path)
    return str(caught.value)


def test_runs_are_found_from_the_output_folder_the_runs_folder_the_run_and_its_record(write_run, tmp_path) -> None:
    folder = write_run("first", [1, 0])
    for path in (tmp_path, tmp_path / "runs", folder, folder / "run.json", str(tmp_path)):
        runs, notices = load_runs(path)
        assert [run.run_id for run in runs] == ["first"]
        assert notices == []


def test_a_folder_given_twice_counts_once(write_run, tmp_path) -> None:
    folder = write_run("first", [1, 0])
    runs, _ = load_runs([tmp_path, folder])
    assert len(runs) == 1


def test_runs_come_oldest_first_and_times_without_a_zone_are_utc(write_run, tmp_path) -> None:
    write_run("b", [1], created="2026-11-20T10:00:00")
    write_run("a", [1], created="2026-11-20T13:00:00+02:00")
    write_run("c", [1], created="2026-11-20T09:00:00Z")
    runs, _ = load_runs(tmp_path)
    assert [run.run_id for run in runs] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("status", "said"), [("started", "unfinished run"), ("error", "failed run"), ("invalidated", "invalidated run")]
)
def test_a_run_that_is_not_finished_is_left_out_with_a_notice(write_run, tmp_path, status, said) -> None:
    write_run("good", [1, 0])
    write_run("other", [1, 0], status=status)
    runs, notices = load_runs(tmp_path)
    assert [run.run_id for run in runs] == ["good"]
    assert len(notices) == 1
    assert "other" in notices[0]
    assert said in notices[0]


def test_samples_without_a_record_are_an_unfinished_run(write_run, tmp_path) -> None:
    folder = write_run("died", [1, 0])
    (folder / "run.json").unlink()
    runs, notices = load_runs(tmp_path)
    assert runs == []
    assert "unfinished" in notices[0]


def test_nothing_to_load_says_what_was_expected(tmp_path) -> None:
    with pytest.raises(UsageError, match="no runs here"):
        load_runs(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        load_runs(tmp_path / "nowhere")


def test_an_edited_score_is_found_by_hash_and_by_mean(write_run, tmp_path) -> None:
    folder = write_run("edited", [1, 0, 0])
    path = folder / "samples.jsonl"
    path.write_text(path.read_text().replace('{"exact_match/strict": 0.0}', '{"exact_match/strict": 1.0}'))
    found = messages(tmp_path)
    assert "sha256 is" in found
    assert "the mean of its samples' scores is 1.0" in found


def test_an_edited_value_in_the_record_is_found(write_run, tmp_path) -> None:
    write_run("edited", [1, 0, 0], changes={"metrics.0.value": 0.99})
    assert "says 0.99, the mean of its samples' scores is 0.333" in messages(tmp_path)


def test_an_edited_record_can_be_off_by_rounding_only(write_run, tmp_path) -> None:
    write_run("close", [1, 0, 0], changes={"metrics.0.value": 1 / 3 + 1e-10})
    assert len(load_runs(tmp_path)[0]) == 1


def test_a_torn_samples_file_is_found(write_run, tmp_path) -> None:
    folder = write_run("torn", [1, 0, 1])
    path = folder / "samples.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    found = messages(tmp_path)
    assert "samples.jsonl:3:1: is not valid JSON" in found
    assert "sha256" in found


def test_a_torn_record_is_found(write_run, tmp_path) -> None:
    folder = write_run("torn", [1, 0, 1])
    (folder / "run.json").write_bytes((folder / "run.json").read_bytes()[:100])
    assert "run.json: is not valid JSON" in messages(tmp_path)


def test_a_missing_samples_file_is_found(write_run, tmp_path) -> None:
    (write_run("bare", [1]) / "samples.jsonl").unlink()
    assert "samples.jsonl: can't be read: No such file" in messages(tmp_path)


def test_an_item_that_counts_twice_is_found(write_run, tmp_path) -> None:
    write_run("padded", [1, 1, 0], samples=[{}, {"item_id": "item-0000"}])
    assert "item_id 'item-0000' appears more than once" in messages(tmp_path)


def test_an_item_may_run_in_several_epochs_and_counts_once(write_run, tmp_path) -> None:
    samples = [{"item_id": f"item-{position % 2}", "epoch": position // 2} for position in range(4)]
    write_run("epochs", [1, 0, 0, 0], samples=samples)
    (run,), _ = load_runs(tmp_path)
    assert run.items.items.tolist() == [item_hash("item-0"), item_hash("item-1")]
    assert run.items.scores["exact_match/strict"].tolist() == [0.5, 0.0]


def test_an_item_with_more_epochs_than_the_others_is_found(write_run, tmp_path) -> None:
    write_run("padded", [1, 1, 0], samples=[{}, {"item_id": "item-0000", "epoch": 1}])
    assert "same epochs" in messages(tmp_path)


def test_an_item_without_a_score_needs_an_error_in_the_record(write_run, tmp_path) -> None:
    scored = {"scores": {"exact_match/strict": 1.0}}
    changes = {"metrics.0.n": 1, "metrics.0.value": 1.0, "metrics.0.ci_hi": 1.0}
    write_run("gamed", [1, 0], samples=[scored, {"scores": {}}], changes=changes)
    assert "1 samples have no score, but n_error is 0" in messages(tmp_path)
    write_run("honest", [1, 0], samples=[scored, {"scores": {}}], changes={**changes, "metrics.0.n_error": 1})
    assert [run.run_id for run in load_runs(tmp_path / "runs" / "honest")[0]] == ["honest"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "holds NaN, which is not a JSON number"),
        (float("inf"), "holds Infinity, which is not a JSON number"),
        (True, "field scores.exact_match/strict is true, has to be a number"),
        ("1", 'field scores.exact_match/strict is "1", has to be a number'),
        ([], "field scores.exact_match/strict is an empty list, has to be a number"),
        (1e301, "field scores.exact_match/strict is 1e+301, has to be less than 1e+300"),
        (10**400, "holds a number of 401 digits"),
    ],
)
def test_a_score_that_is_no_finite_number_is_found(write_run, tmp_path, value, said) -> None:
    write_run("odd", [1, 0], samples=[{"scores": {"exact_match/strict": value}}])
    assert f"samples.jsonl:1:1: {said}" in messages(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "1"),
        ("status", "fine"),
        ("run_id", ""),
        ("created", "yesterday"),
        ("model", "nano"),
        ("adapter", "note"),
        ("task", None),
        ("dataset", []),
        ("metrics", []),
        ("metrics", [7]),
        ("limit", -1),
        ("limit", True),
        ("cost", "free"),
        ("comparability_key", 5),
        ("samples_sha256", None),
    ],
)
def test_a_malformed_record_is_a_problem_that_names_the_field(write_run, tmp_path, field, value) -> None:
    write_run("odd", [1, 0], changes={field: value})
    assert f"field {field}" in messages(tmp_path)


def test_all_problems_of_all_runs_come_at_once_and_say_what_to_do(write_run, tmp_path) -> None:
    write_run("good", [1, 0])
    write_run("bad-one", [1, 0], changes={"metrics.0.value": 1.0})
    write_run("bad-two", [1, 0], changes={"samples_sha256": "f" * 64, "metrics.0.n": 7})
    with pytest.raises(SlmbenchError) as caught:
        load_runs(tmp_path)
    found = str(caught.value)
    assert found.count("bad-one") == 2
    assert "field metrics.0.ci_lo is 0.09" in found and "one end of an interval around the value" in found
    assert found.count("bad-two") == 2
    assert "nothing was ranked" in found


def test_one_id_with_two_records_is_a_problem_and_a_copy_is_not(write_run, tmp_path) -> None:
    write_run("same", [1, 0], out=tmp_path / "one")
    write_run("same", [1, 0], out=tmp_path / "two")
    runs, notices = load_runs([tmp_path / "one", tmp_path / "two"])
    assert len(runs) == 1
    assert "counts once" in notices[0]
    write_run("same", [1, 1], out=tmp_path / "three")
    with pytest.raises(RunProblems, match=r"which have other scores of .*: the same evaluation came out in two ways"):
        load_runs([tmp_path / "one", tmp_path / "three"])


def test_a_deeply_nested_record_is_a_problem_and_not_a_crash(write_run, tmp_path) -> None:
    (write_run("deep", [1]) / "run.json").write_text("[" * 200_000)
    assert "run.json: is nested more than 40 levels deep" in messages(tmp_path)


def test_a_record_of_a_newer_version_is_refused_by_name(write_run, tmp_path) -> None:
    write_run("new", [1, 0], changes={"schema": 2, "status": "splendid", "metrics": "elsewhere"})
    assert "run.json: has schema 2, and this slmbench reads 1: a newer one wrote it" in messages(tmp_path)


def test_problems_show_terminal_escapes_as_signs(write_run, tmp_path) -> None:
    write_run("odd", [1], changes={"schema": "\x1b]0;owned\x07"})
    assert "\x1b" not in messages(tmp_path)


def test_a_run_that_is_not_what_it_claims_is_left_out_and_the_others_are_ranked(write_run, tmp_path, capsys) -> None:
    write_run("good", [1, 0, 1], model="good")
    write_run("bad", [1, 0, 0], model="bad", changes={"metrics.0.value": 0.99})
    torn = write_run("torn", [1, 1, 0], model="torn") / "run.json"
    torn.write_bytes(torn.read_bytes()[:100])
    board = str(tmp_path / "board")
    assert main(["leaderboard", str(tmp_path), "--out", board, "--json"]) == 1
    told = capsys.readouterr()
    assert [row["name"] for row in json.loads(told.out)["rows"]] == ["good"]
    assert "says 0.99" in told.err and "torn/run.json: is not valid JSON" in told.err
    assert "these runs are left out" in told.err
    assert "bad: left out" in (tmp_path / "board" / "index.html").read_text()
    shutil.rmtree(board)
    assert main(["leaderboard", str(tmp_path), "--out", board, "--strict"]) == 1
    assert "nothing was ranked" in capsys.readouterr().err and not (tmp_path / "board").exists()


@pytest.mark.parametrize(("spoil", "said"), SPOILT)
def test_item_scores_that_are_not_those_of_the_run_are_found(write_run, tmp_path, spoil, said) -> None:
    folder = write_run("odd", [1, 0, 0, 1])
    write_run("other", [1, 0, 0, 0])
    path = folder / "item_scores.parquet"
    path.write_bytes(spoil(path.read_bytes(), tmp_path))
    loaded = read_runs(tmp_path)
    assert [run.run_id for run in loaded.runs] == ["other"] and loaded.left_out == (folder,)
    assert f"item_scores.parquet: {said}" in str(loaded.problems[0])


def test_item_scores_that_are_not_there_are_read_from_the_samples(write_run, tmp_path) -> None:
    (write_run("bare", [1, 0, 0, 1], clusters=["a", "a", None, "b"]) / "item_scores.parquet").unlink()
    write_run("whole", [1, 0, 0, 1], clusters=["a", "a", None, "b"])
    runs, notices = load_runs(tmp_path)
    bare, whole = (run.items for run in runs)
    assert bare.items.tolist() == whole.items.tolist() and bare.clusters.tolist() == whole.clusters.tolist()
    assert bare.scores["exact_match/strict"].tolist() == whole.scores["exact_match/strict"].tolist() == [1, 0, 0, 1]
    assert "item_scores.parquet is not there; its run was read from its samples" in notices[0]
