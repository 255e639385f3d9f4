"""Rows lie in files of many kinds: the same rows are read from each, or the message names the kind and the way."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from slmbench.datasets import Dataset, fetch_rows, read_rows
from slmbench.errors import DataError
from slmbench.schema import DatasetSpec, ReadSpec

ROWS = [
    {"instruction": 'Say "hi",\nplease \u2028now', "input": "", "output": "hi"},
    {"instruction": "Zähle bis drei", "input": "007", "output": "1 2 3"},
    {"instruction": "End", "input": "NA", "output": "bye; or not"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def table(delimiter: str = ",", quoting: Any = csv.QUOTE_MINIMAL) -> str:
    written = io.StringIO()
    writer = csv.DictWriter(written, list(ROWS[0]), delimiter=delimiter, quoting=quoting)
    writer.writeheader()
    writer.writerows(ROWS)
    return written.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue().to_pybytes())


def excel(text: str) -> bytes:
    return b"\xef\xbb\xbf" + text.encode()


def pandas_csv() -> bytes:
    import pandas

    return pandas.DataFrame(ROWS).to_csv(index=False).encode()


SAME: dict[str, bytes] = {
    "lines.jsonl": LINES.encode(),
    "lines.json": LINES.encode(),
    "upper.JSONL": LINES.encode(),
    "array.json": json.dumps(ROWS, indent=1).encode(),
    "array.jsonl": json.dumps(ROWS).encode(),
    "pretty.jsonl": "".join(json.dumps(row, indent=2) + "\n" for row in ROWS).encode(),
    "crlf.jsonl": LINES.replace("\n", "\r\n").encode(),
    "cr_only.jsonl": LINES.replace("\n", "\r").encode(),
    "blank_lines.jsonl": LINES.replace("\n", "\n\n \n").encode(),
    "mark.jsonl": b"\xef\xbb\xbf" + LINES.encode(),
    "utf16.jsonl": LINES.encode("utf-16"),
    "utf32.jsonl": LINES.encode("utf-32"),
    "lines.jsonl.gz": gzip.compress(LINES.encode()),
    "packed_but_named.jsonl": gzip.compress(LINES.encode()),
    "rows.parquet": parquet(ROWS),
    "table.csv": table().encode(),
    "excel.csv": excel(table()),
    "german_excel.csv": excel(table(";")),
    "sep.csv": excel("sep=;\r\n" + table(";")),
    "bars.csv": table("|").encode(),
    "quoted.csv": table(quoting=csv.QUOTE_ALL).encode(),
    "utf16.csv": table("\t").encode("utf-16"),
    "trailing.csv": (table() + ",,\r\n\r\n").encode(),
    "table.tsv": table("\t").encode(),
    "table.csv.gz": gzip.compress(table().encode()),
    "pandas.csv": pandas_csv(),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_rows_come_from_every_kind_of_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(SAME[name])
    made = Dataset("d", DatasetSpec(files={"test": name}, columns=list(ROWS[0])), str(tmp_path))
    rows = fetch_rows(made, "test")
    assert rows.rows == ROWS
    assert rows.content_sha256 == fetch_rows(of_lines(tmp_path), "test").content_sha256
    assert fetch_rows(made, "test", limit=2).rows == ROWS[:2]


def of_lines(folder: Path) -> Dataset:
    (folder / "digest.jsonl").write_text(LINES, encoding="utf-8")
    return Dataset("d", DatasetSpec(files={"test": "digest.jsonl"}), str(folder))


def test_what_pandas_and_the_datasets_library_write_is_read_as_they_read_it(tmp_path: Path) -> None:
    import datasets
    import pandas

    path = tmp_path / "t.csv"
    path.write_bytes(SAME["table.csv"])
    assert pandas.read_csv(path, dtype=str, keep_default_na=False).to_dict("records") == read_rows(str(path)) == ROWS
    made = datasets.Dataset.from_list(ROWS)
    for name, write in (("a.parquet", made.to_parquet), ("a.jsonl", made.to_json), ("a.csv", made.to_csv)):
        write(str(tmp_path / name))
        assert read_rows(str(tmp_path / name)) == ROWS


OTHERS: dict[str, tuple[bytes, str]] = {
    "workbook.csv": (
        b"PK\x03\x04\x14\x00",
        r"workbook\.csv: is a ZIP archive or an Excel workbook .*save its sheet as CSV",
    ),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1", r"old\.xls: is an old Excel workbook"),
    "packed.jsonl": (b"\x28\xb5\x2f\xfd\x00", r"packed\.jsonl: is packed with zstd; unpack it, or pack it with gzip"),
    "rows.pkl": (b"\x80\x04\x95\x00", r"rows\.pkl: is a pickle, which runs code"),
    "latin.jsonl": (
        '{"a": "Zähle"}\n'.encode("latin-1"),
        r"latin\.jsonl:1: not UTF-8 at byte 9 of the line, which is 'ä' if",
    ),
    "windows.csv": ("a,b\nx,–\n".encode("cp1252"), r"windows\.csv:2: not UTF-8 at byte 3 .*`read: {encoding: cp1252}`"),
    "utf16_unmarked.csv": ("a,b\n1,2\n".encode("utf-16-le"), r"unmarked\.csv:1: holds a NUL .*{encoding: utf-16-le}"),
    "python.jsonl": (
        b"{'a': 1}\n",
        r"python\.jsonl:1:2: not JSON: .*Python's own notation; write rows with json\.dumps",
    ),
    "commas.jsonl": (b'{"a": 1},\n{"a": 2},\n', r"commas\.jsonl:1:9: not JSON: .*\(a comma after the row"),
    "comment.jsonl": (b'// rows\n{"a": 1}\n', r"comment\.jsonl:1:1: not JSON: .*JSON has no comments"),
    "nul.jsonl": (b'{"a": 1}\n\0\0\n', r"nul\.jsonl:2:1: not JSON: .*NUL characters; the file is damaged"),
    "csv.jsonl": (b"a,b\n1,2\n", r"csv\.jsonl:1:1: not JSON: .*a CSV file's name ends in \.csv or \.tsv"),
    "twice.jsonl": (b'{"a": 1}\n{"a": 1, "a": 2}\n', r'twice\.jsonl:2: .*has the key "a" twice'),
    "half.jsonl": (b'{"a": 1}\n{"\\ud800": 1}\n', r"half\.jsonl:2: .*half a character"),
    "half_array.json": (b'[{"a": 1},\n{"b": "\\udc00"}]', r"half_array\.json:2: .*half a character"),
    "deep.jsonl": (b'{"a": ' + b"[" * 9000 + b"]" * 9000 + b"}\n", r"deep\.jsonl:1: .*nested more than 60 levels deep"),
    "deep.json": (b"[" * 100_000, r"deep\.json:1: .*nested more than 60 levels deep"),
    "digits.jsonl": (b'{"a": 1}\n{"a": ' + b"7" * 9000 + b"}\n", r"digits\.jsonl:2: .*a number of 9,000 digits"),
    "infinite.jsonl": (b'{"a": Infinity}\n', r"infinite\.jsonl:1: .*Infinity, which is not a JSON number"),
    "beyond.jsonl": (b'{"a": 1e999}\n', r"beyond\.jsonl:1: .*beyond the numbers of float64"),
    "open.json": (b'[{"a": 1}\n', r"open\.json:2:1: expecting , or \]"),
    "more.json": (b'[{"a": 1}]\n[{"a": 2}]', r"more\.json:2:1: extra data after the array"),
    "short.csv": (b"a,b\n1,2\n3\n", r"short\.csv:3: 1 cells, but 2 columns; a cell with ','"),
    "long.csv": (b"a,b\n1,2\n3,4,5\n", r"long\.csv:3: 3 cells, but 2 columns"),
    "quote.csv": (b'a,b\n1,"2\n3,4\n', r"quote\.csv:\d: no CSV: a quote is opened and never closed"),
    "columns.csv": (b"a,b,a\n1,2,3\n", r"columns\.csv:1: the column 'a' appears twice"),
    "cut.jsonl.gz": (gzip.compress(LINES.encode())[:-12], r"cut\.jsonl\.gz: can't be unpacked: .*cut off or damaged"),
    "cut.parquet": (parquet(ROWS)[:-20], r"cut\.parquet: not a readable Parquet file"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_is_none_of_these_is_told_by_place_kind_and_way(name: str, tmp_path: Path) -> None:
    data, message = OTHERS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=f"(?s){message}"):
        read_rows(str(tmp_path / name))


def test_what_a_file_does_not_say_itself_is_declared(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_bytes(table(";").replace("\u2028", "").encode("cp1252"))
    wanted = [{**ROWS[0], "instruction": 'Say "hi",\nplease now'}, *ROWS[1:]]
    assert read_rows(str(tmp_path / "w.csv"), read=ReadSpec(encoding="cp1252")) == wanted
    (tmp_path / "tildes.txt").write_text("a~b\n1,5~2\n")
    assert read_rows(str(tmp_path / "tildes.txt"), read=ReadSpec(delimiter="~")) == [{"a": "1,5", "b": "2"}]
    (tmp_path / "data.json").write_text(json.dumps({"version": 2, "data": ROWS}))
    assert read_rows(str(tmp_path / "data.json"), read=ReadSpec(field="data")) == ROWS
    with pytest.raises(
        DataError, match=r"`read: {field: rows}` does not name a list of rows in this file; it has: data, ver"
    ):
        read_rows(str(tmp_path / "data.json"), read=ReadSpec(field="rows"))
    (tmp_path / "key.jsonl").write_text(json.dumps({"data": ROWS}))
    made = Dataset("d", DatasetSpec(files={"test": "key.jsonl"}, columns=["instruction"]), str(tmp_path))
    with pytest.raises(DataError, match=r"'data' is a list of rows: declare `read: {field: data}`"):
        fetch_rows(made, "test")


def test_shards_are_read_in_the_order_of_their_names_and_a_missing_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number, row in enumerate(ROWS):
        (tmp_path / "data" / f"test-0000{number}-of-00003.parquet").write_bytes(parquet([row]))

    def made(files: Any) -> Dataset:
        return Dataset("d", DatasetSpec(files={"test": files}), str(tmp_path))

    assert fetch_rows(made("data/test-*.parquet"), "test").rows == ROWS
    assert fetch_rows(made("data/test-*.parquet"), "test", limit=2).rows == ROWS[:2]
    listed = ["data/test-00002-of-00003.parquet", "data/test-0000[01]-*.parquet"]
    assert fetch_rows(made(listed), "test").rows == [ROWS[2], *ROWS[:2]]
    with pytest.raises(DataError, match="a file is named twice"):
        fetch_rows(made([*listed, listed[0]]), "test")
    (tmp_path / "data" / "test-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match=r"files\.test: .*lacks 1 of its 3 parts: number 1$"):
        fetch_rows(made("data/test-*.parquet"), "test")
    with pytest.raises(DataError, match=r"files\.test: no file matches 'x\*\.csv'"):
        fetch_rows(made("x*.csv"), "test")
    with pytest.raises(DataError, match=r"leads out of"):
        fetch_rows(made("../*.csv"), "test")


def test_a_cell_may_be_as_long_as_a_patients_record(tmp_path: Path) -> None:
    long = "Note. " * 50_000
    (tmp_path / "t.csv").write_text(f"id,note\n1,{long}\n")
    before = csv.field_size_limit()
    assert read_rows(str(tmp_path / "t.csv")) == [{"id": "1", "note": long}]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl.gz"])
def test_data_that_is_never_fetched_may_lie_in_any_of_these(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / f"test.{ending}").write_bytes(
        SAME[{"csv": "table.csv", "json": "array.json"}.get(ending, "lines.jsonl.gz")]
    )
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path))
    made = Dataset("mine", DatasetSpec(local=["test"], columns=list(ROWS[0])), str(tmp_path))
    assert fetch_rows(made, "test").rows == ROWS
