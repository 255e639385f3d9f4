"""`slmbench runs` on runs that a test wrote, and on what may lie beside them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slmbench.cli import main
from slmbench.seal import sealed
from tests.leaderboard.conftest import make_run, rewrite


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two finished runs, one that is under way, one that was invalidated."""
    make_run(tmp_path, "nano__nano_note__0123456789", [1, 0, 1, 1], clusters=["a", "a", None, "b"])
    make_run(tmp_path, "nano+note__nano_note__0123999999", [1, 1, 1, 1], adapter="note", created="2026-11-21T10:00:00Z")
    make_run(tmp_path, "gone", [1, 0], status="invalidated")
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "runs" / "begun" / "responses.jsonl").write_text("")
    return tmp_path


def seal_again(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "run.json").read_text()) | changes
    (folder / "run.json").write_text(json.dumps(sealed({k: v for k, v in record.items() if k != "record_sha256"})))


def faults(out: Path, capsys: pytest.CaptureFixture[str], name: str = "nano__nano_note__0123456789") -> list[str]:
    """The messages of the one run that is at fault."""
    assert main(["runs", "verify", str(out), "--json"]) == 1
    found = {one["run_id"]: one["problems"] for one in json.loads(capsys.readouterr().out) if not one["ok"]}
    assert found.keys() <= {name, "nano__nano_note__0123456789"} and len(found) == 1, found
    return [problem["message"] for problems in found.values() for problem in problems]


def test_a_list_has_every_run_and_a_line_that_tells_who_what_how_and_how_well(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # Fewer leave columns out.
    assert main(["runs", "list", str(out)]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert re.search(r"^0123456789  nano +nano_note  plain +exact_match/strict 0.750 \[", told.out, re.M)
    assert "nano + note" in next(line for line in lines if line.startswith("0123999999"))
    assert any("invalidated" in line for line in lines) and any("unfinished" in line for line in lines)
    assert "4 runs" in told.err
    for flags, names in (
        (["--model", "NOTE"], {"nano+note__nano_note__0123999999"}),
        (["--status", "unfinished"], {"begun"}),
        (["--task", "nosuch"], set()),
    ):
        assert main(["runs", "list", str(out), "--json", *flags]) == 0
        assert {run["run_id"] for run in json.loads(capsys.readouterr().out)} == names


def test_a_run_is_shown_by_its_folder_its_id_or_a_part_of_it(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = out / "runs" / "nano+note__nano_note__0123999999"
    for name in (str(folder), str(folder / "run.json"), folder.name, "0123999999", "01239", "+note"):
        assert main(["runs", "show", name, "--in", str(out), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == json.loads((folder / "run.json").read_text())
    assert main(["runs", "show", "0123", "--in", str(out)]) == 2
    assert "is 2 runs" in capsys.readouterr().err
    assert main(["runs", "show", "0123999998", "--in", str(out)]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["runs", "show", "01239", "--in", str(out)]) == 0
    told = capsys.readouterr().out
    assert "nano + note on nano_note: ok" in told and "adapter.rank" in told and "cost.tokens_out" in told


def test_an_item_is_shown_with_its_prompt_answer_and_scores(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["runs", "show", "01239", "--in", str(out)]
    assert main([*command, "--item", "item-0002"]) == 0
    told = capsys.readouterr().out
    assert "  Note 2: shuffled words" in told and "  output 2" in told and "'exact_match/strict': 1.0" in told
    assert main([*command, "--item", "item-2"]) == 2
    assert "no item 'item-2'; did you mean 'item-0002'?" in capsys.readouterr().err


def test_runs_as_they_were_written_are_what_they_claim(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "verify", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out.count("ok  ") == 2 and "2 of 4 runs are what they claim; 8 samples were read" in told.err


def test_the_first_mismatch_of_a_sample_is_named_even_if_all_is_digested_anew(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = out / "runs" / "nano__nano_note__0123456789"
    path = folder / "samples.jsonl"
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)

    def spoilt(changed: bytes) -> list[str]:
        path.write_bytes(changed)
        seal_again(folder, samples_sha256=hashlib.sha256(changed).hexdigest())
        return faults(out, capsys)

    edited = spoilt(data.replace(b'"exact_match/strict": 0.0', b'"exact_match/strict": 1.0'))
    assert "says 0.75, the mean of its samples' scores is 1.0" in edited[0]
    doubled = spoilt(data + lines[1])
    assert doubled[0] == "item_id 'item-0001' appears more than once; an item counts once"
    missing = spoilt(b"".join([lines[0], *lines[2:]]))
    assert "n = 4, samples.jsonl has 3 scores" in missing[0]
    # Two scores that change places leave every mean as it was.
    swapped = spoilt(
        lines[0].replace(b'strict": 1.0', b'strict": 0.0')
        + lines[1].replace(b'strict": 0.0', b'strict": 1.0')
        + b"".join(lines[2:])
    )
    assert swapped == ["item 'item-0000' has 1.0 of 'exact_match/strict', samples.jsonl gives 0.0"]
    order = spoilt(b"".join([lines[1], lines[0], *lines[2:]]))
    assert order == ["row 1 is of 'item-0000', and of 'item-0001' in samples.jsonl"]
    asked = spoilt(data.replace(b"Note 3: shuffled", b"Note 3: sorted"))
    assert asked[0].startswith("item 'item-0003': sha256 of its prompt is")
    moved = spoilt(data.replace(b'"cluster_id": null', b'"cluster_id": "b"'))
    assert moved[0] == "item 'item-0002' is in another cluster than in samples.jsonl"
    cut = spoilt(data[:-20])
    assert cut[0].startswith("is not valid JSON")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limit": None}, "the digest of the other fields: one of them was changed"),
        ({"model": {"name": "better"}}, "the digest of the other fields"),
        ({"comparability_key": "another"}, "the digest of the other fields"),
        ({"cost": {"seconds": 0.1}}, "the digest of the other fields"),
        ({"record_sha256": None}, "which was removed"),
    ],
)
def test_an_edit_of_any_field_is_seen_by_verify_and_by_the_leaderboard(
    changes: dict[str, Any], said: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(out, "edited", [1, 0], limit=2)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | changes))
    assert said in faults(out, capsys, "edited")[0]
    assert main(["leaderboard", str(out), "--out", str(out / "board")]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cost.tokens_out": 1}, "field cost.tokens_out is 1, has to be 36, the sum over samples.jsonl"),
        ({"dataset.n": 5}, "field dataset.n is 5, has to be 4, the items of samples.jsonl"),
        ({"limit": 2}, "field limit is 2, has to be 4 or more, the items of samples.jsonl"),
        ({"dataset.item_ids_sha256": "f" * 64}, "of the ids in samples.jsonl in their order"),
    ],
)
def test_what_a_record_says_beside_its_values_is_held_to_the_samples(
    changes: dict[str, Any], said: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(out / "runs" / "nano__nano_note__0123456789", changes)
    assert said in faults(out, capsys)[0]


@pytest.mark.parametrize(
    ("package", "engine", "is_held"),
    [
        ("2.13.0", "2.13.0+cu130", True),  # torch's wheel for CUDA leaves its build out of its metadata.
        ("2.13.0+cpu", "2.13.0+cpu", True),
        ("2.13.0+cpu", "2.13.0+cu130", False),
        ("2.13.1", "2.13.0+cu130", False),
    ],
)
def test_a_package_is_of_the_version_that_the_engine_says_with_its_build_as_far_as_both_tell(
    package: str, engine: str, is_held: bool, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {
        "code": {"version": "0.1", "commit": None, "dirty": None},
        "packages": {"torch": package},
        "engine_version": f"lm-eval-0.4.13/torch-{engine}",
    }
    rewrite(out / "runs" / "nano__nano_note__0123456789", facts)
    said = f"field packages.torch is \"{package}\", has to be as engine_version says, 'torch-{engine}'"
    assert any(said in fault for fault in faults(out, capsys)) != is_held


def test_item_scores_that_disagree_are_named_by_item(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = out / "runs" / "nano__nano_note__0123456789"
    path = folder / "item_scores.parquet"
    whole = path.read_bytes()
    frame = pd.read_parquet(path)
    path.write_bytes(whole[:-1])
    assert faults(out, capsys)[0].startswith("sha256 is")

    def digested(changed: pd.DataFrame) -> list[str]:
        changed.to_parquet(path, index=False)
        seal_again(folder, item_scores_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        return faults(out, capsys)

    scores = frame["exact_match/strict"].to_numpy()
    assert digested(frame.assign(**{"exact_match/strict": scores[[1, 0, 2, 3]]})) == [
        "item 'item-0000' has 0.0 of 'exact_match/strict', samples.jsonl gives 1.0"
    ]
    assert digested(frame.iloc[[0, 1, 3, 2]])[0] == "row 3 is of 'item-0003', and of 'item-0002' in samples.jsonl"
    assert "n = 4, item_scores.parquet has 3 scores" in digested(frame.iloc[:3])[0]
