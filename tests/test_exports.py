"""Exports: what is written reads back the same, in every form, whatever the rows hold."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.catalog import Catalog, default_catalog
from slmbench.datasets import local_source, read_rows
from slmbench.errors import DataError, UsageError
from slmbench.exports import (
    FORMS,
    export_task,
    json_lines,
    refuse_path,
    toon_table,
    with_same_columns,
    write_export,
)
from slmbench.formats import load_format
from slmbench.task import Task, load_task, load_task_folder

NAMES = sorted(default_catalog().files("tasks"))
ODD = [
    "line\nbreak\r\nand tab\t.",
    'quotes " and \\ backslash',
    "a, b, c",
    "007",
    "true",
    "-5",
    "",
    "1e5",
    " blanks around ",
    "- item",
    "[3]: x",
    "key: value",
    "発熱 é ñ \U0001f600",
    "\u2028\x0b\x85\x1b",
    "x" * 100_000,
]


def _round_trip(task: Task, split: str, folder: Path, limit: int | None = None) -> dict[str, list[Any]]:
    back = {}
    for form in FORMS:
        export = export_task(task, form, split, limit)
        path = str(folder / f"{form}{export.ending}")
        write_export(export, path)
        assert Path(path).read_bytes() == export.data
        back[form] = read_rows(path)
        assert len(back[form]) == export.rows > 0
    return back


FIXED_OPTIONS = {"boolq", "commonsense_qa", "mmlu", "pubmed_qa"}
"""Choice tasks whose options are the same in every row: letters, yes and no."""


def _expected(task: Task, split: str, limit: int | None = None) -> list[dict[str, Any]]:
    """What a record has to hold, from the prompts and choices themselves."""
    bare = task.with_shots(0)
    expected = []
    for example in bare.examples(split, limit):
        target = bare.target(example)
        parts = {} if target.reasoning is None else {"reasoning": target.reasoning}
        choices = () if task.name in FIXED_OPTIONS else example.choices
        options = {f"choice_{i}": choice for i, choice in enumerate(choices, 1)}
        expected.append({**bare.prompt(example).inputs, **options, **parts, "answer": target.answer})
    return expected


def _same(task: Task, split: str, folder: Path, limit: int | None = None) -> None:
    back = _round_trip(task, split, folder, limit)
    assert back["toon"] == back["jsonl"]
    assert len({tuple(record) for record in back["toon"]}) == 1
    for record, wanted in zip(back["toon"], _expected(task, split, limit), strict=True):
        assert {key: record[key] for key in wanted} == wanted
        assert not any(value for key, value in record.items() if key not in wanted)
        assert [key for key in record if key in ("reasoning", "answer")] == list(record)[
            -len(record.keys() & {"reasoning", "answer"}) :
        ]
    for value in back["chat"]:
        roles = [message["role"] for message in value["messages"]]
        assert list(value) == ["messages"] and roles[-2:] == ["user", "assistant"] and roles[:-2] in ([], ["system"])


@pytest.mark.parametrize("name", NAMES)
def test_golden_rows_of_every_task_read_back_the_same(name: str, tmp_path: Path) -> None:
    task = load_task(name, data="samples")
    modes = ["off"] if task.spec.cot is None else ["off", "few"] + ["zero"] * bool(task.spec.cot.instruction)
    for mode in modes:
        folder = tmp_path / mode
        folder.mkdir()
        _same(task.with_cot(mode) if task.spec.cot is not None else task, task.spec.split, folder)


@pytest.mark.realdata
@pytest.mark.parametrize("name", NAMES)
def test_real_records_of_every_task_read_back_the_same(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    if local_source(task.dataset, task.spec.split) is None:
        pytest.skip("its evaluated split is not in the mirror")
    _same(task, task.spec.split, tmp_path, 60)


@pytest.fixture
def odd_task(write_task: Callable[..., Path]) -> Task:
    rows = "".join(json.dumps({"question": f"Q{i} {text}", "answer": text}) + "\n" for i, text in enumerate(ODD))
    return load_task_folder(str(write_task(train=rows, test=rows)), default_catalog())


def test_odd_texts_read_back_the_same(odd_task: Task, tmp_path: Path) -> None:
    back = _round_trip(odd_task, "train", tmp_path)
    assert [record["answer"] for record in back["toon"]] == ODD
    assert [record["question"] for record in back["toon"]] == [f"Q{i} {text}" for i, text in enumerate(ODD)]
    assert back["toon"] == back["jsonl"]
    assert [value["messages"][-1]["content"] for value in back["chat"]] == [f"Answer: {text}" for text in ODD]


def test_lines_of_an_export_are_rows_for_any_json_reader(odd_task: Task) -> None:
    for form in ("chat", "jsonl"):
        lines = export_task(odd_task, form, "train").data.split(b"\n")
        assert lines.pop() == b"" and len([json.loads(line) for line in lines]) == len(ODD)


def test_a_toon_export_is_one_table_that_the_library_itself_reads(odd_task: Task) -> None:
    from toon_format import decode

    text = export_task(odd_task, "toon", "train").data.decode()
    assert text.startswith(f"rows[{len(ODD)}]{{question,answer}}:\n  ")
    assert [row["answer"] for row in decode(text)["rows"]] == ODD


def test_an_assistants_turn_is_that_of_the_chat_format(nano_tokenizer: Any) -> None:
    task = load_task("gsm8k", data="samples").with_shots(0)
    (value, *_) = [json.loads(line) for line in export_task(task, "chat", "test").data.splitlines()]
    example = task.examples("test")[0]
    rendered = load_format("chat").render(task.prompt(example), nano_tokenizer)
    written = rendered.text + rendered.delimiter + task.answer(example)
    whole = nano_tokenizer.apply_chat_template(value["messages"], tokenize=False)
    assert whole.startswith(written) and "Answer: " in written


def test_a_system_prompt_is_a_turn_of_its_own() -> None:
    task = load_task("nq_open", data="samples")
    first = json.loads(export_task(task, "chat", "validation").data.splitlines()[0])
    assert first["messages"][0] == {"role": "system", "content": "Answer these questions:"}


def test_the_answer_of_a_choice_is_its_right_option() -> None:
    task = load_task("arc_easy", data="samples")
    records = [json.loads(line) for line in export_task(task, "jsonl", "test").data.splitlines()]
    golds = [example.choices[example.gold or 0] for example in task.examples("test")]
    assert [record["answer"] for record in records] == golds


CHOICE = """\
summary: A choice of the tests.
version: 1
license: mit
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, options, label]}
kind: choice
prompt: {user: "{{ question }}"}
choices: options
gold: "{{ label }}"
metrics: [accuracy]
"""
CHOICE_ROWS = [
    {"question": "1+1?", "options": ["2", "3, or so"], "label": 0},
    {"question": "2+2?", "options": ["3", "4", "5"], "label": 1},
]


def _choice_records(write_task: Callable[..., Path], yaml: str, form: str = "jsonl") -> list[dict[str, Any]]:
    rows = "".join(json.dumps(row) + "\n" for row in CHOICE_ROWS)
    task = load_task_folder(str(write_task(yaml=yaml, train=rows, test=rows)), default_catalog())
    return [json.loads(line) for line in export_task(task, form, "train").data.splitlines()]


def test_options_that_differ_from_row_to_row_are_columns_empty_where_a_row_has_fewer(
    write_task: Callable[..., Path],
) -> None:
    assert [list(record.items()) for record in _choice_records(write_task, CHOICE)] == [
        [("question", "1+1?"), ("choice_1", "2"), ("choice_2", "3, or so"), ("choice_3", ""), ("answer", "2")],
        [("question", "2+2?"), ("choice_1", "3"), ("choice_2", "4"), ("choice_3", "5"), ("answer", "4")],
    ]


def test_options_of_templates_that_name_a_field_are_columns(write_task: Callable[..., Path]) -> None:
    yaml = CHOICE.replace("choices: options", 'choices: ["{{ options[0] }}", "{{ options[1] }}", "none"]')
    first, second = _choice_records(write_task, yaml)
    assert list(first) == list(second) == ["question", "choice_1", "choice_2", "choice_3", "answer"]
    assert [second[f"choice_{i}"] for i in (1, 2, 3)] == ["3", "4", "none"]


def test_options_that_every_row_has_are_no_columns(write_task: Callable[..., Path]) -> None:
    records = _choice_records(write_task, CHOICE.replace("choices: options", 'choices: ["first", "second"]'))
    assert records == [{"question": "1+1?", "answer": "first"}, {"question": "2+2?", "answer": "second"}]


def test_an_input_with_the_name_of_an_option_is_refused(write_task: Callable[..., Path]) -> None:
    inputs = 'prompt: {user: "{{ question }}", inputs: {choice_2: "{{ question }}"}}'
    yaml = CHOICE.replace('prompt: {user: "{{ question }}"}', inputs)
    with pytest.raises(DataError, match="an input is called 'choice_2', as a column of the options is; declare prompt"):
        _choice_records(write_task, yaml)


def test_reasoning_is_a_column_where_the_mode_has_it() -> None:
    task = load_task("gsm8k", data="samples")
    for mode, columns in (("few", ["question", "reasoning", "answer"]), ("off", ["question", "answer"])):
        first = json.loads(export_task(task.with_cot(mode), "jsonl", "train").data.splitlines()[0])
        assert list(first) == columns


def test_records_get_the_columns_of_them_all_with_the_target_last() -> None:
    records = [{"a": 1, "answer": "x"}, {"b": 2, "reasoning": "r", "answer": "y"}]
    assert [list(record.items()) for record in with_same_columns(records)] == [
        [("a", 1), ("b", ""), ("reasoning", ""), ("answer", "x")],
        [("a", ""), ("b", 2), ("reasoning", "r"), ("answer", "y")],
    ]


VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
COLUMNS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(st.lists(COLUMNS, min_size=1, max_size=4, unique=True), st.data())
def test_any_table_of_json_values_reads_back_the_same(columns: list[str], data: st.DataObject) -> None:
    from slmbench.formats.toon import decode_toon

    records = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(columns, VALUES)), min_size=1, max_size=5))
    assert decode_toon(toon_table(records).encode().decode())["rows"] == records
    assert [json.loads(line) for line in json_lines(records).encode().split(b"\n")[:-1]] == records


@pytest.mark.parametrize(("value", "said"), [("nan", "is null; say what to"), ("inf", "is inf"), ("-inf", "is -inf")])
@pytest.mark.parametrize("form", FORMS)
def test_a_number_that_is_none_is_refused_with_its_row_and_column(
    form: str, value: str, said: str, write_task: Callable[..., Path]
) -> None:
    plugin = f"def example(row):\n    return {{'question': float('{value}') if row['answer'] == '4' else 1.5}}\n"
    task = load_task_folder(str(write_task(plugin=plugin)), default_catalog())
    with pytest.raises(DataError, match=f"task 'sums', item 'train-1': .*'question' {said}"):
        export_task(task, form, "train")


@pytest.mark.parametrize("form", FORMS)
def test_half_a_character_is_refused_with_its_row(form: str, write_task: Callable[..., Path]) -> None:
    plugin = "def example(row):\n    return {'answer': '\\ud800' if row['answer'] == '4' else 'x'}\n"
    task = load_task_folder(str(write_task(plugin=plugin)), default_catalog())
    with pytest.raises(DataError, match=r"row 1, column '(answer|assistant)': half a character"):
        export_task(task, form, "train")


@pytest.mark.parametrize("form", ["toon", "jsonl"])
def test_an_input_called_answer_is_refused(form: str, write_task: Callable[..., Path], task_yaml: str) -> None:
    folder = write_task(yaml=task_yaml.replace("{{ question }}", "{{ answer }}"))
    with pytest.raises(DataError, match="an input is called 'answer'"):
        export_task(load_task_folder(str(folder), default_catalog()), form, "train")


def test_limit_takes_the_first_rows(odd_task: Task) -> None:
    assert export_task(odd_task, "toon", "train", 3).rows == 3
    with pytest.raises(UsageError, match="no split 'trian'; did you mean 'train'"):
        export_task(odd_task, "toon", "trian")
    with pytest.raises(UsageError, match="unknown form 'csv'"):
        export_task(odd_task, "csv", "train")


def test_a_file_that_is_there_stays_unless_forced(odd_task: Task, tmp_path: Path) -> None:
    export = export_task(odd_task, "toon", "train")
    path = tmp_path / "rows.toon"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"rows\.toon already exists; add --force"):
        write_export(export, str(path))
    assert path.read_text() == "mine"
    write_export(export, str(path), force=True)
    assert path.read_bytes() == export.data
    assert sorted(os.listdir(tmp_path)) == ["rows.toon", "tasks"]


def test_a_file_is_known_again_by_its_ending(tmp_path: Path) -> None:
    for path, form, said in (("rows.txt", "toon", "ends in .toon"), ("rows.toon", "chat", "ends in .jsonl")):
        with pytest.raises(UsageError, match=said):
            refuse_path(str(tmp_path / path), form)
    with pytest.raises(UsageError, match="is a folder"):
        refuse_path(str(tmp_path), "toon")


def test_an_exported_table_can_be_the_file_of_a_task(
    odd_task: Task, write_task: Callable[..., Path], task_yaml: str
) -> None:
    folder = write_task("again", task_yaml.replace("train.jsonl", "train.toon"))
    write_export(export_task(odd_task, "toon", "train"), str(folder / "train.toon"))
    again = load_task_folder(str(folder), Catalog([]))
    assert [(e.answer, e.fields["question"]) for e in again.examples("train")] == [
        (e.answer, e.fields["question"]) for e in odd_task.examples("train")
    ]
    assert len(again.examples("train", 2)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"rows[2]{a,b}:\n  1,2\n", "not Toon"),
        (b'{"a": 1}', "expected a table of rows"),
        (b"rows[2]: 1,2\n", "expected a table of rows"),
        (b"a: 1\nb: 2\n", "expected a table of rows"),
        (b"rows[1]{a}:\n  \xff\n", "not UTF-8 at byte 3 of the line"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_name(text: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "rows.toon").write_bytes(text)
    with pytest.raises(DataError, match=rf"rows\.toon(:2)?: .*{said}"):
        read_rows(str(tmp_path / "rows.toon"))
