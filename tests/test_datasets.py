from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import Catalog, default_catalog
from slmbench.datasets import (
    Dataset,
    count_rows,
    digest_rows,
    fetch_rows,
    load_dataset_spec,
    local_source,
    read_rows,
    sample_rows,
)
from slmbench.errors import DataError, DeclarationError, OfflineError, UsageError
from slmbench.paths import shown
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
    there = r"t\.jsonl: no column 'answer'; the columns are: label, question; "
    with pytest.raises(DataError, match=there + r"say which it is, as in `columns: {answer: NAME}`$"):
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
        (b'{"a": 1}\n{"a": "\\ud800"}\n', r":2: can't be read as JSON: holds half a character"),
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
    with pytest.raises(DataError, match=r"SLMBENCH_DATA names '.*no', which is not a folder"):
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
        "from slmbench.datasets import *; from slmbench.errors import OfflineError\n"
        "from slmbench.schema import DatasetSpec\n"
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


def test_generated_rows_are_made_once_and_again_if_the_file_or_the_seed_is_another(tmp_path: Path) -> None:
    def rows(seed: int = 7) -> list[Any]:
        spec = DatasetSpec(generated={"test": 2}, seed=seed)
        return fetch_rows(Dataset("g", spec, str(tmp_path), load_plugin(str(tmp_path))), "test").rows

    plugin = "calls = []\ndef generate(split, index, seed):\n    print('made')\n    return {'x': [index, seed]}\n"
    (tmp_path / "plugin.py").write_text(plugin)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        first = rows()
        first[0]["x"].clear()  # As a hook may: it has no part in what the next task sees.
        assert rows() == [{"x": [0, 7]}, {"x": [1, 7]}] and printed.getvalue().count("made") == 2
        assert rows(8) == [{"x": [0, 8]}, {"x": [1, 8]}]
        (tmp_path / "plugin.py").write_text(plugin.replace("index, seed]", "seed]"))
        assert rows() == [{"x": [7]}, {"x": [7]}]


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


ANIMALS = "".join(json.dumps({"n": n, "kind": "cat" if n % 3 else "dog", "flag": n % 2 == 0}) + "\n" for n in range(9))


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ({"kind": "dog"}, [0, 3, 6]),
        ({"kind": ["dog", "cat"]}, list(range(9))),
        ({"kind": ["dog", "cow"]}, [0, 3, 6]),
        ({"n": 4}, [4]),
        ({"n": [7, 1]}, [1, 7]),
        ({"flag": True}, [0, 2, 4, 6, 8]),
        ({"kind": "cat", "flag": False}, [1, 5, 7]),
        ({}, list(range(9))),
    ],
)
def test_where_keeps_the_rows_of_a_value_or_of_one_of_several(
    where: dict[str, object], numbers: list[int], tmp_path: Path
) -> None:
    rows = fetch_rows(of_files(tmp_path, ANIMALS, where=where), "test").rows
    assert [row["n"] for row in rows] == numbers


@pytest.mark.parametrize(("limit", "numbers"), [(1, [0]), (2, [0, 3]), (3, [0, 3, 6]), (9, [0, 3, 6])])
def test_a_limit_counts_the_rows_that_stay(limit: int, numbers: list[int], tmp_path: Path) -> None:
    made = of_files(tmp_path, ANIMALS, where={"kind": "dog"})
    assert [row["n"] for row in fetch_rows(made, "test", limit=limit).rows] == numbers


def test_where_names_our_columns(tmp_path: Path) -> None:
    made = of_files(tmp_path, ANIMALS, columns={"species": "kind", "n": "n"}, where={"species": "dog"})
    assert fetch_rows(made, "test").rows == [{"species": "dog", "n": n} for n in (0, 3, 6)]


def test_true_is_no_one(tmp_path: Path) -> None:
    text = '{"n": 1}\n{"n": true}\n{"n": 1.0}\n{"n": "1"}\n'
    assert fetch_rows(of_files(tmp_path, text, where={"n": 1}), "test").rows == [{"n": 1}, {"n": 1.0}]
    assert fetch_rows(of_files(tmp_path, text, where={"n": True}), "test").rows == [{"n": True}]


def test_a_value_that_no_row_has_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.jsonl: no row has kind 'cow' or 'bee'; there are: cat, dog$"):
        fetch_rows(of_files(tmp_path, ANIMALS, where={"kind": ["cow", "bee"]}), "test")
    with pytest.raises(DataError, match=r"where names 'sort', which the rows lack; the columns are: flag, kind, n$"):
        fetch_rows(of_files(tmp_path, ANIMALS, where={"sort": "dog"}), "test")


def test_a_row_without_the_column_is_another_row(tmp_path: Path) -> None:
    text = '{"n": 0, "kind": "dog"}\n{"n": 1}\n{"n": 2, "kind": "dog"}\n'
    assert [row["n"] for row in fetch_rows(of_files(tmp_path, text, where={"kind": "dog"}), "test").rows] == [0, 2]
    with pytest.raises(DataError, match="no row has kind 'cow'; there are: None, dog"):
        fetch_rows(of_files(tmp_path, text, where={"kind": "cow"}), "test")


def test_golden_rows_are_held_to_where_too(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(ANIMALS)
    made = dataset(tmp_path, hub="a/b", splits={"test": "test"}, where={"kind": "dog"})
    assert [row["n"] for row in sample_rows(made, str(path), "test").rows] == [0, 3, 6]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, Any]]], None]:
    """hub(rows): from then on the hub answers with these rows, whatever it is asked for."""
    import datasets

    monkeypatch.setattr("slmbench.datasets._hub.hub_is_offline", lambda: True)

    def answer(rows: list[dict[str, Any]]) -> None:
        monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: [dict(row) for row in rows])

    return answer


Hub = Callable[[list[dict[str, Any]]], None]


def held(folder: Path, rows: int = 5, seed: int = 0, **spec: Any) -> Dataset:
    splits = {"train": "train", "test": "train"}
    return dataset(
        folder, hub="a/b", splits=splits, holdout={"split": "test", "of": "train", "rows": rows, "seed": seed}, **spec
    )


def numbers(made: Dataset, split: str, limit: int | None = None) -> list[int]:
    return [row["n"] for row in fetch_rows(made, split, limit=limit).rows]


def test_held_out_rows_are_those_of_the_seed_and_in_no_other_split(tmp_path: Path, hub: Hub) -> None:
    hub([{"n": n} for n in range(40)])
    test, train = numbers(held(tmp_path), "test"), numbers(held(tmp_path), "train")
    assert len(test) == 5
    assert sorted(test + train) == list(range(40))
    assert (test, train) == (sorted(test), sorted(train))
    assert numbers(held(tmp_path), "test") == test
    assert numbers(held(tmp_path, seed=1), "test") != test
    # Drawn over the whole split, not taken from its beginning.
    assert max(test) > 20


def test_a_limit_takes_the_first_of_the_parted_rows(tmp_path: Path, hub: Hub) -> None:
    hub([{"n": n} for n in range(40)])
    for split in ("train", "test"):
        assert numbers(held(tmp_path), split, 3) == numbers(held(tmp_path), split)[:3]


def test_a_row_that_is_the_same_as_a_held_out_one_is_not_trained_on(tmp_path: Path, hub: Hub) -> None:
    hub([{"n": n // 2, "other": n} for n in range(40)])
    made = held(tmp_path, columns=["n"])  # Over the columns that tasks see, each row is there twice.
    test, train = numbers(made, "test"), numbers(made, "train")
    assert not set(test) & set(train)
    assert len(test) == 5
    assert len(train) == 40 - len({n for n in test}) * 2
    assert set(test) | set(train) == set(range(20))


def test_rows_are_drawn_from_those_that_where_keeps(tmp_path: Path, hub: Hub) -> None:
    hub([{"n": n, "kind": "dog" if n % 2 else "cat"} for n in range(40)])
    made = held(tmp_path, where={"kind": "dog"})
    test, train = numbers(made, "test"), numbers(made, "train")
    assert sorted(test + train) == list(range(1, 40, 2))
    assert len(test) == 5
    # Where the rows of another kind lie makes no difference.
    hub([{"n": n, "kind": "dog"} for n in range(1, 40, 2)] + [{"n": n, "kind": "cat"} for n in range(3)])
    assert numbers(made, "test") == test


def test_a_split_that_is_not_parted_stays_whole(tmp_path: Path, hub: Hub) -> None:
    hub([{"n": n} for n in range(10)])
    splits = {"train": "all", "test": "all", "validation": "validation"}
    made = dataset(tmp_path, hub="a/b", splits=splits, holdout={"split": "test", "of": "train", "rows": 3})
    assert numbers(made, "validation") == list(range(10))


def test_a_holdout_that_leaves_nothing_is_an_error(tmp_path: Path, hub: Hub) -> None:
    hub([{"n": n} for n in range(5)])
    for split in ("train", "test"):
        with pytest.raises(DataError, match=f"data set 'd', split '{split}': holdout takes 5 rows of 5; declare fewer"):
            fetch_rows(held(tmp_path), split)
    hub([{"n": 1} for _ in range(6)])
    assert numbers(held(tmp_path), "test") == [1] * 5
    with pytest.raises(DataError, match="every row is the same as one that holdout takes; nothing is left"):
        fetch_rows(held(tmp_path), "train")


def test_a_mirrors_parted_files_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mirror" / "d"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(7)))
    (folder / "test.jsonl").write_text('{"n": 8}\n{"n": 9}\n')
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path / "mirror"))
    assert numbers(held(tmp_path), "test") == [8, 9]
    assert numbers(held(tmp_path), "train") == list(range(7))
    assert fetch_rows(held(tmp_path), "test").source == "mirror"


LOCAL: dict[str, Any] = {"local": ["train", "test"], "columns": {"text": "TEXT", "codes": "CODES"}}


def test_local_rows_are_read_from_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(tmp_path, "mine", **LOCAL)
    folder = tmp_path / "mirror" / "mine"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text('{"TEXT": "a", "CODES": ["x"], "more": 1}\n')
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path / "mirror"))
    rows = fetch_rows(made, "test")
    assert (rows.rows, rows.source, rows.revision) == ([{"text": "a", "codes": ["x"]}], "mirror", None)
    assert fetch_rows(made, "test", use_mirror=False).rows == rows.rows
    assert (local_source(made, "test"), local_source(made, "train")) == ("mirror", None)


@pytest.mark.parametrize("mirror", [True, False])
def test_local_rows_that_are_not_there_are_never_fetched(
    mirror: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("local data was asked for on the hub")

    monkeypatch.setattr(datasets, "load_dataset", never)
    if mirror:
        monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path))
    with pytest.raises(OfflineError) as caught:
        fetch_rows(dataset(tmp_path, "mine", **LOCAL), "train")
    assert caught.value.exit_code == 4
    place = shown(str(tmp_path)) if mirror else "the folder that SLMBENCH_DATA names and set SLMBENCH_DATA to it"
    assert str(caught.value) == (
        "data set 'mine' is never fetched: its rows are a file of your own; put mine/train.jsonl (or .csv, .parquet) "
        f"with the columns TEXT, CODES into {place}, or try the task's golden rows with `--data samples`"
    )


def test_a_command_on_local_data_that_is_not_there_ends_with_exit_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    from slmbench.cli import main

    assert main(["show", "task", "icd_coding", "--n", "1"]) == 4
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith(
        "error: data set 'mimic_icd' is never fetched: its rows are a file of your own; "
    )
    assert "mimic_icd/test.jsonl" in said.err
    assert said.out == ""


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "split", "n"), [("gsm8k", "train", 400), ("gsm8k", "test", 200), ("hellaswag", "validation", 200)]
)
def test_real_records_fit_the_bundled_declarations(name: str, split: str, n: int) -> None:
    rows = fetch_rows(load_dataset_spec(default_catalog(), name), split)
    assert (rows.source, len(rows.rows)) == ("mirror", n)


def test_golden_rows_stay_readable_where_another_declaration_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slmbench.task import load_task

    folder = tmp_path / "registry" / "datasets"
    folder.mkdir(parents=True)
    mine = (
        "replaces: true\nfiles: {train: train.jsonl, test: test.jsonl}\ncolumns: {question: Frage, answer: Antwort}\n"
    )
    (folder / "medquad.yaml").write_text(mine)
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text('{"Frage": "Warum?", "Antwort": "Darum."}\n')
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    assert load_task("medquad").examples("test")[0].answer == "Darum."
    golden = load_task("medquad", data="samples").examples("test")
    assert len(golden) >= 4 and all(example.answer != "Darum." for example in golden)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_rows_of_a_file_are_counted_by_its_lines(tmp_path: Path, n: int) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * n, encoding="utf-8")
    (tmp_path / "u.jsonl").write_text("\n".join(['{"a": 1}'] * n), encoding="utf-8")
    assert count_rows(dataset(tmp_path, files={"test": "t.csv"}), "test") == n
    assert count_rows(dataset(tmp_path, files={"test": ["t.csv", "u.jsonl"]}), "test") == 2 * n


def test_rows_of_a_large_file_are_counted_by_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = of_files(tmp_path, '{"a": "of the same length"}\n' * 1000)
    monkeypatch.setattr("slmbench.datasets._counted.LOOKED_AT_BYTES", 300)
    counted = count_rows(made, "test")
    assert counted is not None and 900 <= counted <= 1100


def test_rows_are_counted_as_far_as_that_is_cheap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2, 3]}), tmp_path / "t.parquet")
    assert count_rows(dataset(tmp_path, files={"test": "t.parquet"}), "test") == 3
    assert count_rows(dataset(tmp_path, files={"test": "t.parquet"}, where={"a": 1}), "test") is None
    assert count_rows(dataset(tmp_path, files={"test": "gone.parquet"}), "test") is None
    assert count_rows(dataset(tmp_path, generated={"test": 5}), "test") == 5
    assert count_rows(dataset(tmp_path, local=["test"]), "test") is None
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.jsonl").write_text("".join(f'{{"a": {n}}}\n' for n in range(12)), encoding="utf-8")
    made = dataset(tmp_path, local=["train"], holdout={"share": 0.25})
    counts = [count_rows(made, split) for split in ("train", "test")]
    assert counts == [len(fetch_rows(made, split).rows) for split in ("train", "test")]
    # What the hub's client has noted of its cache.
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    of_hub = dataset(tmp_path, hub="owner/name", config="main", splits={"test": "validation"})
    assert count_rows(of_hub, "test") is None
    info = tmp_path / "cache" / "owner___name" / "main" / "0.0.0" / "0123" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.write_text(json.dumps({"splits": {"validation": {"num_examples": 1319}}}), encoding="utf-8")
    assert count_rows(of_hub, "test") == 1319
