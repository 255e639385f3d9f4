"""A value that is no text goes into no prompt or target: an error says column, type and way, unless it is declared."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.datasets import Dataset, fetch_rows
from slmbench.errors import DataError
from slmbench.schema import DatasetSpec
from slmbench.task import Task, load_task_folder
from slmbench.templates import Template

N = 3


def columns() -> dict[str, Any]:
    import pyarrow as pa

    days = [datetime.datetime(2024, 5, i + 1, 8, 30) for i in range(N)]
    return {
        "answers": pa.array([["red", "crimson"], ["blue"], ["green"]]),
        "meta": pa.array([{"unit": "kg", "values": [1]}] * N),
        "raw": pa.array([b"red", b"blue", "grün".encode()]),
        "year": pa.array([1999.0, None, 2010.0], pa.float64()),
        "nan": pa.array([1999.0, float("nan"), 2010.0], pa.float64()),
        "score": pa.array([0.1, 0.2, 0.7], pa.float32()),
        "scores": pa.array([[0.1], [0.2, None], [0.7]], pa.list_(pa.float32())),
        "half": pa.array([{"x": 0.1}] * N, pa.struct([("x", pa.float32())])),
        "day": pa.array(days, pa.timestamp("us")),
        "date": pa.array([day.date() for day in days], pa.date32()),
        "price": pa.array([decimal.Decimal("1.50")] * N, pa.decimal128(8, 2)),
        "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
        "flag": pa.array([True, False, True]),
        "code": pa.array(["007", "NA", "1e5"]),
        "count": pa.array([3, 4, 5]),
    }


@pytest.fixture
def table(tmp_path: Path, write_task: Callable[..., Path]) -> Callable[..., Task]:
    """table(answer template, dataset keys) -> a task over all of these columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def make(answer: str, keys: str = "") -> Task:
        yaml = (
            f"summary: s\nversion: 1\nlicense: mit\ntrain_split: null\ndataset: {{files: {{test: t.parquet}}{keys}}}\n"
            f'kind: generate\nprompt: {{user: "Tell."}}\nanswer: "{answer}"\nmetrics: [exact_match]\n'
        )
        folder = write_task("t", yaml, root=tmp_path / str(len(list(tmp_path.iterdir()))))
        pq.write_table(pa.table(columns()), folder / "t.parquet")
        return load_task_folder(str(folder), default_catalog())

    return make


@pytest.mark.parametrize(
    ("column", "row", "said"),
    [
        ("answers", 0, r"'answers' is a list of str; take one, as in {{ answers[0] }}, or join them"),
        ("meta", 0, r"'meta' is a struct (unit, values); take a part of it, as in {{ meta.unit }}"),
        ("raw", 0, r"'raw' is bytes; declare `types: {raw: text}` in the data set"),
        (
            "year",
            0,
            r"'year' is 1999.0, a whole number as a float; write {{ year | int }}, or declare `types: {year: int}`",
        ),
        ("year | int", 1, r"int: null is not a number"),
        ("nan | int", 1, r"int: null is not a number"),
        ("nan or 'none'", 0, r"is 1999.0, a whole number as a float"),
        (
            "day",
            0,
            r"'day' is a time stamp (2024-05-01 08:30:00); say how it is written, as in {{ day | date('%Y-%m-%d') }}",
        ),
        ("date", 0, r"'date' is a date (2024-05-01)"),
        ("price", 0, r"'price' is a decimal (1.50); write {{ price | string }}"),
        ("flag", 0, r"'flag' is true; say what to write, as in {{ 'yes' if flag else 'no' }}"),
        ("'It is ' ~ year", 0, r"'year' is 1999.0, a whole number"),
        ("answers | lower", 0, r"the value is a list of str"),
        ("scores | join(', ') if scores[1] is defined else ''", 1, r"is null"),
    ],
)
def test_a_value_without_one_text_is_told_by_row_column_and_type(
    column: str, row: int, said: str, table: Callable[..., Task]
) -> None:
    with pytest.raises(DataError) as caught:
        table(f"{{{{ {column} }}}}").examples("test")
    assert f"split 'test', row {row}: template" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "keys", "texts"),
    [
        ("{{ kind }}", "", ["a", "b", "a"]),
        ("{{ code }}", "", ["007", "NA", "1e5"]),
        ("{{ count }}", "", ["3", "4", "5"]),
        ("{{ score }}", "", ["0.1", "0.2", "0.7"]),
        ("{{ scores[0] }}", "", ["0.1", "0.2", "0.7"]),
        ("{{ half.x }}", "", ["0.1"] * N),
        ("{{ answers | join(' or ') }}", "", ["red or crimson", "blue", "green"]),
        ("{{ meta | json }}", "", ['{"unit":"kg","values":[1]}'] * N),
        ("{{ meta.values[0] }} {{ meta.unit }}", "", ["1 kg"] * N),
        ("{{ raw }}", ", types: {raw: text}", ["red", "blue", "grün"]),
        ("{{ year | int if year is not none else '' }}", "", ["1999", "", "2010"]),
        ("{{ nan | int(0) }}", "", ["1999", "0", "2010"]),
        ("{{ year or 'none' }}", ", types: {year: int}", ["1999", "none", "2010"]),
        ("{{ day | date('%d.%m.%Y, %H h') }}", "", [f"0{i}.05.2024, 08 h" for i in (1, 2, 3)]),
        ("{{ date }}", ", types: {date: text}", [f"2024-05-0{i}" for i in (1, 2, 3)]),
        ("{{ price | string }}", "", ["1.50"] * N),
        ("{{ price }}", ", types: {price: text}", ["1.50"] * N),
        ("{{ 'yes' if flag else 'no' }}", "", ["yes", "no", "yes"]),
        ("{{ flag }}", ", types: {flag: text}", ["true", "false", "true"]),
        ("{{ score | round(0) }}", "", ["0.0", "0.0", "1.0"]),
    ],
)
def test_a_declared_text_is_written_as_declared(
    answer: str, keys: str, texts: list[str], table: Callable[..., Task]
) -> None:
    task = table(answer, keys)
    assert [example.answer for example in task.examples("test")] == texts


def of_csv(folder: Path, text: str, **spec: Any) -> list[dict[str, Any]]:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return fetch_rows(Dataset("d", DatasetSpec(files={"test": "t.csv"}, **spec), str(folder)), "test").rows


def test_cells_of_csv_are_texts_until_a_type_is_declared(tmp_path: Path) -> None:
    text = 'id,n,x,ok,tags,old,day\n007,5,0.5,yes,"[""a"", ""b""]","[\'a\', \'b\']",2024-05-31\n008,,,,,,\n'
    assert of_csv(tmp_path, text)[0] == {
        **{"id": "007", "n": "5", "x": "0.5", "ok": "yes", "tags": '["a", "b"]', "old": "['a', 'b']"},
        "day": "2024-05-31",
    }
    types = {"n": "int", "x": "float", "ok": "bool", "tags": "json", "old": "python", "day": "date"}
    first, second = of_csv(tmp_path, text, types=types)
    assert first == {
        **{"id": "007", "n": 5, "x": 0.5, "ok": True, "tags": ["a", "b"], "old": ["a", "b"]},
        "day": datetime.date(2024, 5, 31),
    }
    assert second == {"id": "008"} | dict.fromkeys(types)
    # What is typed already stays, as golden rows in JSON are.
    again = Dataset("d", DatasetSpec(files={"test": "t.csv"}, types=types), str(tmp_path))
    from slmbench.datasets._types import with_types

    assert with_types([first], again.spec.types, "here") == [first]


@pytest.mark.parametrize(
    ("kind", "cell", "said"),
    [
        ("int", "5.5", "'5.5' (str) is not a whole number"),
        ("int", "9" * 9000, "(str) is not a whole number"),
        ("int", "1e99999999", "(str) is not a whole number"),
        ("float", "abc", "'abc' (str) is not a number"),
        ("float", "1e999", "'1e999' (str) is not a number"),
        ("bool", "maybe", "'maybe' (str) is not true or false"),
        ("json", "['a']", "is not JSON"),
        ("json", "[" * 5000, "nested more than 60 levels deep"),
        ("python", "['a' 'b']", "texts without a comma between, as numpy prints arrays"),
        ("python", "__import__('os')", "is not a literal of Python"),
        ("python", "(" * 5000, "is not a literal of Python"),
        ("date", "31.05.2024", "is not a date of ISO 8601"),
    ],
)
def test_a_cell_of_another_type_is_told_by_row_and_column(kind: str, cell: str, said: str, tmp_path: Path) -> None:
    cell = cell.replace('"', '""')
    with pytest.raises(DataError) as caught:
        of_csv(tmp_path, f'a,b\n1,\n2,"{cell}"\n', types={"b": kind})
    assert "t.csv: row 1, column 'b': " in str(caught.value)
    assert said in str(caught.value)


def test_nan_is_null_wherever_it_comes_from(tmp_path: Path, write_task: Callable[..., Path]) -> None:
    import pandas

    (tmp_path / "t.jsonl").write_text('{"a": NaN, "b": [1.5, NaN], "c": {"d": NaN}}\n')
    frame = pandas.DataFrame({"a": [float("nan")], "b": [[1.5, float("nan")]], "c": [{"d": float("nan")}]})
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        made = Dataset("d", DatasetSpec(files={"test": name}), str(tmp_path))
        assert fetch_rows(made, "test").rows == [{"a": None, "b": [1.5, None], "c": {"d": None}}]
    plugin = (
        "import numpy, pandas\n"
        "def example(row):\n"
        "    more = {'n': numpy.int64(3), 'v': numpy.array([1, 2])}\n"
        "    return {'x': float('nan'), 'y': pandas.NaT, 'z': [pandas.NA], **more}\n"
    )
    task = load_task_folder(str(write_task(plugin=plugin)), default_catalog())
    fields = task.examples("test")[0].fields
    assert {key: fields[key] for key in "xyznv"} == {"x": None, "y": None, "z": [None], "n": 3, "v": [1, 2]}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ x | date('%1000000000d') }}", "date: '%1000000000d' has codes other than %Y, %m, %d"),
        ("{{ x | date('%Y%m') }}", "date: "),
        ("{{ x | int }}", "int: a text of 5,000 characters is not a number"),
    ],
)
def test_conversions_of_hostile_values_end_in_an_error(source: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Template(source).render({"x": "9" * 5000})


def test_a_key_of_a_row_is_read_before_a_method_of_its_name() -> None:
    row = {"meta": {"items": 3, "values": ["x"], "get": "g", "keys": "k"}}
    assert Template("{{ meta.items }} {{ meta.values[0] }} {{ meta.get }}").render(row) == "3 x g"
    with pytest.raises(DataError, match=r"a method is named without being called; add \(\)"):
        Template("{{ name.strip }}").render({"name": "x"})
