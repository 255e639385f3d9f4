from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.catalog import Catalog, default_catalog
from slmbench.datasets import Dataset, digest_rows, fetch_rows, load_dataset_spec, read_rows, sample_rows
from slmbench.errors import DataError, DeclarationError, OfflineError, UsageError
from slmbench.plugins import load_plugin
from slmbench.schema import DatasetSpec


def dataset(folder: Path, name: str = "d", **spec: object) -> Dataset:
    return Dataset(name, DatasetSpec.model_validate(spec), str(folder))


def of_files(folder: Path, text: str, **spec: object) -> Dataset:
    (folder / "t.jsonl").write_text(text, encoding="utf-8")
    return dataset(folder, files={"test": "t.jsonl"}, **spec)


def test_rows_of_a_declared_file_are_read_in_order(tmp_path: Path) -> None:
    rows = fetch_rows(of_files(tmp_path, '{"a": 1}\n\n{"a": "ü"}'), "test")
    assert rows.rows == [{"a": 1}, {"a": "ü"}]
    assert (rows.source, rows.revision, rows.split) == ("file", None, "test")


def test_limit_takes_the_first_rows(tmp_path: Path) -> None:
    made = of_files(tmp_path, "".join(f'{{"a": {i}}}\n' for i in range(10)))
    assert fetch_rows(made, "test", limit=3).rows == [{"a": 0}, {"a": 1}, {"a": 2}]


def test_a_renaming_keeps_our_columns_alone(tmp_path: Path) -> None:
    made = of_files(tmp_path, '{"Q": 1, "A": 2, "junk": 3}\n', columns={"question": "Q", "answer": "A"})
    assert fetch_rows(made, "test").rows == [{"question": 1, "answer": 2}]


def test_a_missing_column_names_those_that_exist(tmp_path: Path) -> None:
    made = of_files(tmp_path, '{"question": 1, "label": 2}\n', columns=["question", "answer"])
    with pytest.raises(DataError, match=r"t\.jsonl: no column 'answer'; the columns are: label, question$"):
        fetch_rows(made, "test")


def test_a_later_row_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    made = of_files(tmp_path, '{"q": 1, "a": 1}\n{"q": 1}\n', columns=["q", "a"])
    with pytest.raises(DataError, match=r"row 1 lacks 'a'; it has: q$"):
        fetch_rows(made, "test")


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_split_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the split is empty; a split has at least one row"):
        fetch_rows(of_files(tmp_path, text), "test")


def test_an_unknown_split_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data set 'd' has no split 'tset'; did you mean 'test'\?"):
        fetch_rows(of_files(tmp_path, '{"a": 1}\n'), "tset")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"a": 1}\n{"a": \n', r":2:7: not JSON: Expecting value$"),
        (b'{"a": 1}\n[1]\n', r":2: expected a JSON object, got list$"),
        (b'{"a": 1}\n{"a": "\xff"}\n', r":2: not UTF-8 at byte 8 of the line"),
        (b'{"a": 1}\n{"a": "\\ud800"}\n', r":2: holds half a character"),
        (b"[" * 100_000 + b"\n", r":1: can't be read as JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}\n", r":1: can't be read as JSON"),
    ],
)
def test_a_damaged_line_is_told_by_its_number(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read_rows(str(path))


def test_whole_characters_as_escapes_byte_order_mark_and_crlf_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}\r\n{"a": "\\u00e9"}\r\n')
    assert read_rows(str(path)) == [{"a": "😀"}, {"a": "é"}]


def test_parquet_and_jsonl_of_the_same_rows_have_one_digest(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"q": "ä", "n": i, "options": ["a", "b"], "x": 0.1} for i in range(50)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    from_parquet, from_jsonl = read_rows(str(tmp_path / "a.parquet")), read_rows(str(tmp_path / "a.jsonl"))
    assert from_parquet == from_jsonl == rows
    assert read_rows(str(tmp_path / "a.parquet"), limit=3) == rows[:3]
    assert digest_rows(from_parquet) == digest_rows({key: row[key] for key in reversed(row)} for row in rows)


def test_the_digest_tells_rows_and_their_order_apart() -> None:
    a, b = {"x": 1}, {"x": "1"}
    assert len({digest_rows(rows) for rows in ([], [a], [b], [a, b], [b, a], [a, a])}) == 6


def test_a_damaged_parquet_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=r"a\.parquet: .*"):
        read_rows(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["../t.jsonl", "/etc/passwd", "link.jsonl"])
def test_files_out_of_the_folder_are_not_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n')
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.jsonl").symlink_to(tmp_path / "t.jsonl")
    with pytest.raises(DataError, match=r"files\.test: .*; name a file inside"):
        fetch_rows(dataset(folder, files={"test": name}), "test")


def test_a_mirror_is_asked_before_anything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "d").mkdir(parents=True)
    (mirror / "d" / "validation.jsonl").write_text('{"a": "mirrored"}\n')
    monkeypatch.setenv("SLMBENCH_DATA", str(mirror))
    rows = fetch_rows(dataset(tmp_path, hub="no/such", revision="abc", splits={"test": "validation"}), "test")
    assert (rows.rows, rows.source, rows.revision) == ([{"a": "mirrored"}], "mirror", "abc")


def test_a_mirror_that_is_no_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path / "no"))
    with pytest.raises(DataError, match=r"SLMBENCH_DATA names '.*no', which is no folder"):
        fetch_rows(dataset(tmp_path, hub="no/such", splits={"test": "test"}), "test")


def test_a_tasks_own_files_are_not_shadowed_by_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = of_files(tmp_path, '{"a": 1}\n')
    mirrored = tmp_path / "mirror" / own.name
    mirrored.mkdir(parents=True)
    (mirrored / "test.jsonl").write_text('{"a": 2}\n')
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path / "mirror"))
    rows = fetch_rows(own, "test")
    assert (rows.rows, rows.source) == ([{"a": 1}], "file")


def test_offline_and_not_cached_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(OfflineError) as caught:
        fetch_rows(dataset(tmp_path, "nowhere", hub="slmbench-tests/nowhere", splits={"test": "test"}), "test")
    assert caught.value.exit_code == 4
    for part in (
        "'nowhere'",
        "HF_HUB_OFFLINE is set",
        "slmbench data pull nowhere --to DIR",
        "SLMBENCH_DATA=DIR",
        "--data samples",
    ):
        assert part in str(caught.value)


def test_an_unreachable_hub_says_what_to_do(tmp_path: Path) -> None:
    code = (
        "from slmbench.datasets import *; from slmbench.schema import DatasetSpec\n"
        "spec = DatasetSpec.model_validate({'hub': 'slmbench-tests/nowhere', 'splits': {'test': 'test'}})\n"
        "try: fetch_rows(Dataset('nowhere', spec, '.'), 'test')\n"
        "except OfflineError as error: print('caught', error.exit_code, error)\n"
    )
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    # A port that nobody listens on: refused at once.
    surroundings |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "NO_PROXY": "*"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=surroundings, timeout=100)
    assert done.stdout.startswith("caught 4 "), done.stderr[-2000:]
    assert (
        "the hub can't be reached from here; pull it on a connected machine with `slmbench data pull nowhere"
        in done.stdout
    )


def test_generated_rows_come_from_the_hook_by_split_index_and_seed(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(
        "def generate(split, index, seed):\n    return {'x': f'{split}-{index}-{seed}'}\n"
    )
    made = Dataset("g", DatasetSpec(generated={"test": 3}, seed=7), str(tmp_path), load_plugin(str(tmp_path)))
    rows = fetch_rows(made, "test")
    assert [row["x"] for row in rows.rows] == ["test-0-7", "test-1-7", "test-2-7"]
    assert (rows.source, rows.revision) == ("generated", "seed-7")


def test_generated_rows_without_a_hook_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"plugin\.py has no generate\(split, index, seed\)"):
        fetch_rows(dataset(tmp_path, generated={"test": 1}), "test")


def test_the_registry_holds_no_generated_data_sets(tmp_path: Path) -> None:
    folder = tmp_path / "registry" / "datasets"
    folder.mkdir(parents=True)
    (folder / "g.yaml").write_text("summary: s\ngenerated: {test: 3}\n")
    with pytest.raises(DeclarationError, match=r"g\.yaml:2:1: generated rows need a task's plugin"):
        load_dataset_spec(Catalog([str(tmp_path)]), "g")


def test_golden_rows_stand_in_for_any_split_with_the_same_columns(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"Q": 1}\n')
    made = dataset(tmp_path, files={"test": "t.jsonl"}, columns={"q": "Q"})
    assert sample_rows(made, str(path), "anything").rows == [{"q": 1}]
    with pytest.raises(DataError, match=r"missing; golden rows are what `--data samples` runs on"):
        sample_rows(made, str(tmp_path / "no.jsonl"), "test")


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "split", "n"), [("gsm8k", "train", 400), ("gsm8k", "test", 200), ("hellaswag", "validation", 200)]
)
def test_real_records_fit_the_bundled_declarations(name: str, split: str, n: int) -> None:
    rows = fetch_rows(load_dataset_spec(default_catalog(), name), split)
    assert (rows.source, len(rows.rows)) == ("mirror", n)
