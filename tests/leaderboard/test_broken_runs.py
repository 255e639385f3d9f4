"""Runs that were cut, edited or swapped: each is told with its file, and no command that reads runs traces back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.cli import main
from slmbench.errors import SlmbenchError
from slmbench.runs import OpenRun, read_record
from slmbench.seal import sealed

ITEM_SCORES = "item_scores.parquet"
Rows = list[dict[str, Any]]


@pytest.fixture
def runs(write_run: Callable[..., Path], tmp_path: Path) -> Path:
    """Two sound runs of one task; `bad` is what the tests break."""
    for model in ("bad", "good"):
        write_run(model, {"exact_match": [1.0, 0.0, 1.0]}, model=model, task="gsm8k")
    return tmp_path


@pytest.fixture
def told(runs: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, tuple[int, str]]]:
    """Command -> (exit code, what it says) of all commands that read runs; none of them may trace back."""

    def call() -> dict[str, tuple[int, str]]:
        found = {}
        for name, more in (
            ("leaderboard", ["--out", str(runs / "board")]),
            ("score", ["--metrics", "exact_match/open", "--out", str(runs / "scored")]),
            ("runs verify", []),
            ("runs list", []),
        ):
            code = main([*name.split(), str(runs), *more])
            printed = capsys.readouterr()
            said = printed.out + printed.err
            assert "Traceback" not in said, (name, said)
            found[name] = code, said
        return found

    return call


def _rows(run: Path) -> Rows:
    return [json.loads(line) for line in (run / "samples.jsonl").read_bytes().splitlines()]


def _write(run: Path, data: bytes) -> None:
    """Other samples, their digests mended: what stands in them alone can tell."""
    (run / "samples.jsonl").write_bytes(data)
    (run / ITEM_SCORES).unlink(missing_ok=True)
    record = {
        key: value for key, value in read_record(run).items() if key not in ("record_sha256", "item_scores_sha256")
    }
    record["samples_sha256"] = hashlib.sha256(data).hexdigest()
    (run / "run.json").write_text(json.dumps(sealed(record)))


def _change(run: Path, change: Callable[[Rows], Any]) -> None:
    rows = _rows(run)
    change(rows)
    _write(run, "".join(json.dumps(row) + "\n" for row in rows).encode())


def test_sound_runs_are_ranked_scored_and_verified(told: Callable[[], dict[str, tuple[int, str]]]) -> None:
    assert {name: code for name, (code, _) in told().items()} == dict.fromkeys(
        ("leaderboard", "score", "runs verify", "runs list"), 0
    )


def test_samples_that_are_cut_at_any_byte_of_the_last_line_are_told(runs: Path, capsys: Any) -> None:
    run = runs / "runs" / "bad"
    whole, record = (run / "samples.jsonl").read_bytes(), (run / "run.json").read_bytes()
    columns = (run / ITEM_SCORES).read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    verify, score = ["runs", "verify"], ["score", "--metrics", "exact_match", "--out", str(runs / "out")]
    for cut in range(last, len(whole)):
        for mended in (True,) if cut % 16 else (True, False):
            (run / "run.json").write_bytes(record)
            (run / ITEM_SCORES).write_bytes(columns)
            (run / "samples.jsonl").write_bytes(whole[:cut])
            if mended:
                _write(run, whole[:cut])
            harmless = mended and cut == len(whole) - 1  # Only the line's end is gone.
            for call in (verify,) if cut % 16 and not harmless else (verify, score):
                code = main([*call, str(run)])
                printed = capsys.readouterr()
                said = printed.out + printed.err
                assert "Traceback" not in said
                assert (code == 0) is harmless, (cut, mended, said)
                assert harmless or "samples.jsonl" in said
    assert main(["leaderboard", str(runs), "--out", str(runs / "board")]) == 0


@pytest.mark.parametrize("name", ["run.json", ITEM_SCORES])
def test_a_record_or_columns_that_are_cut_are_told(
    runs: Path, name: str, told: Callable[[], dict[str, tuple[int, str]]]
) -> None:
    path = runs / "runs" / "bad" / name
    whole = path.read_bytes()
    for cut in range(0, len(whole), len(whole) // 4):
        path.write_bytes(whole[:cut])
        found = told()
        for command in ("leaderboard", "runs verify"):
            assert found[command][0] == 1
            assert name in found[command][1]
    assert "good" in found["leaderboard"][1]  # The other one is ranked all the same.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.append(dict(rows[0])), "appears more than once; an item counts once"),
        (lambda rows: rows.pop(), "says n = 3, samples.jsonl has 2 scores"),
        (lambda rows: rows.clear(), "says n = 3, samples.jsonl has 0 scores"),
        (lambda rows: rows[0]["scores"].update(exact_match=0.0), "the mean of its samples' scores is"),
        (lambda rows: rows[0]["scores"].update(exact_match=float("nan")), "holds NaN, which is not a JSON number"),
        (lambda rows: rows[0].update(epoch=1), "not every item was run in the same epochs"),
        (lambda rows: rows[0].update(output="x" * 17_000_000), "has more than 16,000,000 bytes"),
    ],
    ids=["doubled", "missing", "empty", "edited", "nan", "epoch", "17 MB"],
)
def test_samples_whose_digest_was_mended_are_told_by_what_they_hold(
    runs: Path, change: Callable[[Rows], Any], said: str, told: Callable[[], dict[str, tuple[int, str]]]
) -> None:
    _change(runs / "runs" / "bad", change)
    found = told()
    for command in ("leaderboard", "score", "runs verify"):
        assert found[command][0] == 1
        assert said in found[command][1]
        assert "scores is nan" not in found[command][1]
    assert "good" in found["leaderboard"][1]


def test_texts_that_are_odd_and_sound_are_read(runs: Path, told: Callable[[], dict[str, tuple[int, str]]]) -> None:
    odd = "\ud800</script>\u202e\x1b]0;x\x07"
    _change(runs / "runs" / "bad", lambda rows: rows[0].update(output=odd, target=odd, references=[odd], prompt=None))
    _change(runs / "runs" / "bad", lambda rows: rows[1].update(output="x" * 10_000_000))
    _change(runs / "runs" / "bad", lambda rows: [row.pop("cluster_id") for row in rows])
    found = told()
    assert [found[command][0] for command in ("leaderboard", "score")] == [0, 0]
    assert all(sign not in said for _, said in found.values() for sign in ("\x1b]", "\u202e", "\ud800"))


@pytest.mark.parametrize("name", ["../../outside", "a\0b", "x" * 400, "..", "\ud800", "\x1b]0;x"])
def test_a_run_of_any_name_is_scored_into_the_folder_that_was_named(
    runs: Path, name: str, told: Callable[[], dict[str, tuple[int, str]]]
) -> None:
    run = runs / "runs" / "bad"
    record = {key: value for key, value in read_record(run).items() if key != "record_sha256"}
    (run / "run.json").write_text(json.dumps(sealed({**record, "run_id": name})))
    before = {path for path in runs.parent.rglob("*") if "scored" not in path.parts}
    assert told()["score"][0] == 0
    assert len(list((runs / "scored" / "runs").iterdir())) == 2
    new = {path for path in runs.parent.rglob("*") if "scored" not in path.parts} - before
    assert all("board" in path.parts for path in new)


def test_columns_of_another_run_are_told(runs: Path, told: Callable[[], dict[str, tuple[int, str]]]) -> None:
    good = runs / "runs" / "good"
    _change(good, lambda rows: rows[0].update(output="other"))  # Its columns are gone; the other's take their place.
    shutil.copy(runs / "runs" / "bad" / ITEM_SCORES, good / ITEM_SCORES)
    assert told()["leaderboard"][0] == 0  # The record doesn't name them, so they count for nothing.
    path = runs / "runs" / "bad" / ITEM_SCORES
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    found = told()
    assert found["runs verify"][0] == 1
    assert ITEM_SCORES in found["runs verify"][1]


def test_two_writers_of_one_run_do_not_mix(runs: Path) -> None:
    folder = runs / "runs" / "third"
    folder.mkdir()
    record = {key: value for key, value in read_record(runs / "runs" / "bad").items() if key not in ("metrics", "cost")}
    first = OpenRun(str(folder), record)
    with pytest.raises(SlmbenchError, match="another process"):
        OpenRun(str(folder), record)
    first.close()


def test_a_folder_that_can_not_be_written_is_told(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "file").write_text("")
    assert main(["score", str(runs), "--metrics", "exact_match", "--out", str(runs / "file" / "x")]) == 1
    assert "Traceback" not in capsys.readouterr().err
    if os.geteuid():  # Nothing is read-only to root.
        closed = runs / "closed"
        closed.mkdir(mode=0o500)
        assert main(["score", str(runs), "--metrics", "exact_match", "--out", str(closed)]) == 1
        assert "Traceback" not in capsys.readouterr().err
