"""Options and gold answers in many forms: read where they have one meaning, else told what to declare."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import DataError
from slmbench.task import load_task_folder
from slmbench.values import Example

WriteTask = Callable[..., Path]
RGB = ["red", "blue", "green"]


def example_of(write_task: WriteTask, row: dict[str, Any], keys: str) -> Example:
    yaml = f'summary: s\nversion: 1\nkind: choice\nprompt: {{user: "Which?"}}\nmetrics: [accuracy]\n{keys}\n'
    yaml += "" if "dataset:" in keys else "dataset: {files: {train: train.jsonl, test: test.jsonl}}\n"
    folder = write_task("t", yaml, test=json.dumps(row) + "\n")
    return load_task_folder(str(folder), default_catalog()).examples("test")[0]


def bound(write_task: WriteTask, options: Any, gold: Any, keys: str, choices: str) -> tuple[tuple[str, ...], int]:
    row = {"g": gold, **(options if choices != "c" else {"c": options})}
    example = example_of(write_task, row, f'choices: {choices}\ngold: "{{{{ g }}}}"\n{keys}')
    assert example.gold is not None and example.answer == example.choices[example.gold]
    return example.choices, example.gold


COLUMNS = '["{{ a }}", "{{ b }}", "{{ x }}"]'
AB = "labels: [A, B, C]"
TEXT_AND_LABEL = {"text": RGB, "label": ["A", "B", "C"]}


@pytest.mark.parametrize(
    ("options", "gold", "keys", "choices", "wanted"),
    [
        (RGB, 1, "", "c", (RGB, 1)),
        (RGB, 2.0, "", "c", (RGB, 2)),
        (RGB, "2.0", "", "c", (RGB, 2)),
        (RGB, "blue", "", "c", (RGB, 1)),
        (RGB, " Blue. ", "", "c", (RGB, 1)),
        (json.dumps(RGB), 1, "", "c", (RGB, 1)),
        (json.dumps(TEXT_AND_LABEL), "B", "", "c", (RGB, 1)),
        (TEXT_AND_LABEL, "C", "", "c", (RGB, 2)),
        (TEXT_AND_LABEL, "(c)", "", "c", (RGB, 2)),
        ({"text": RGB, "label": ["1", "2", "3"]}, "1", "", "c", (RGB, 0)),
        ({"text": RGB, "label": [1, 2, 3]}, 1.0, "", "c", (RGB, 0)),
        ({"text": RGB}, 1, "", "c", (RGB, 1)),
        ({"A": "red", "B": "blue"}, "B", "", "c", (RGB[:2], 1)),
        ({"A": "red", "B": None, "C": "green"}, "C", "", "c", (["red", "green"], 1)),
        ([{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}], "B", "", "c", (RGB[:2], 1)),
        ([{"key": "A", "text": "red"}, {"key": "B", "text": "blue"}], "blue", "", "c", (RGB[:2], 1)),
        ([10, 20, 30], 1, "", "c", (["10", "20", "30"], 1)),
        ([10, 20, 30], 20, "", "c", (["10", "20", "30"], 1)),
        ([0.5, 1.5], "1.5", "", "c", (["0.5", "1.5"], 1)),
        (RGB, "a", AB, "c", (RGB, 0)),
        (RGB, "(B)", AB, "c", (RGB, 1)),
        (RGB, "C.", AB, "c", (RGB, 2)),
        (RGB, "[c]", AB, "c", (RGB, 2)),
        (["red", "blue", None], "B", AB, "c", (RGB[:2], 1)),
        (["red", "blue", ""], 1, "", "c", (RGB[:2], 1)),
        ({"a": "red", "b": "blue", "x": None}, "B", AB, COLUMNS, (RGB[:2], 1)),
        ({"a": "red", "b": "blue", "x": ""}, "B", AB, COLUMNS, (RGB[:2], 1)),
        ({"a": "red", "b": "blue", "x": "green"}, "C", AB, COLUMNS, (RGB, 2)),
        ([" red", " blue"], 1, "", "c", ([" red", " blue"], 1)),
        (["Red", "red"], "red", "", "c", (["Red", "red"], 1)),
    ],
)
def test_what_has_one_meaning_is_read(
    options: Any, gold: Any, keys: str, choices: str, wanted: tuple[list[str], int], write_task: WriteTask
) -> None:
    assert bound(write_task, options, gold, keys, choices) == (tuple(wanted[0]), wanted[1])


@pytest.mark.parametrize(
    ("options", "gold", "keys", "choices", "said"),
    [
        (["red", "", "green"], 0, "", "c", "choices: number 2 of 3 is null or empty, and others follow"),
        (["red", None, "green"], 0, "", "c", "choices: number 2 of 3 is null or empty, and others follow"),
        ({"a": "red", "b": None, "x": "green"}, "A", AB, COLUMNS, "choices: number 2 of 3 is null or empty"),
        (["red", " ", "green"], 0, "", "c", "choices: number 2 of 3 is only white space (' ')"),
        (["red\n", "\n"], 0, "", "c", "choices: number 2 of 2 is only white space"),
        (["red"], 0, "", "c", "choices: expected at least two texts, none of them empty, got ['red']"),
        ([1.0, 2.0], 0, "", "c", "choices: 'c[0]' is 1.0, a whole number as a float"),
        (["1", "2", "3"], "2", "", "c", "gold: '2' is an index and, elsewhere, one of the choices; declare 'labels'"),
        ([1, 2, 3], 1, "", "c", "gold: '1' is an index and, elsewhere, one of the choices; declare 'labels'"),
        (["red", "red", "green"], "red", "", "c", "gold: 'red' is neither an index below 3 nor exactly one"),
        ("['red', 'blue']", 1, "", "c", "is not JSON; if it is Python's notation, declare `types: {c: python}`"),
        ("red|blue", 1, "", "c", "got the text 'red|blue'; write the list as JSON"),
        ("[" * 99, 1, "", "c", "got the text"),
        ({"x": {"y": 1}}, 1, "", "c", "choices: expected a list of texts, got a struct (x)"),
        ([{"a": 1}, {"a": 2}], 1, "", "c", "got a list of structs (a)"),
        (None, 1, "", "c", "choices: expected a list of texts, got null"),
        (RGB, None, "", "c", "'g' is null; say what to write instead"),
        (RGB, None, "", "c", "a row without one can't be scored: leave it out with `filled`"),
        (RGB, "", "", "c", "gold: is empty; a row without one can't be scored"),
        (RGB, -1, "", "c", "; -1 stands for labels that are kept secret: evaluate a split that has them"),
        (RGB, -1, AB, "c", "; -1 stands for labels that are kept secret"),
        (RGB, 4, "", "c", "gold: '4' is neither an index below 3 nor exactly one of the choices;"),
        (RGB, 3, "", "c", "; if it counts from 1, declare `labels: ['1', '2', '3']`"),
        (RGB, "B", "", "c", "; if it is a letter, declare `labels: [A, B, C]`"),
        (RGB, True, "", "c", "'g' is true; say what to write, as in {{ 'yes' if g else 'no' }}"),
        (RGB, 1.5, "", "c", "gold: '1.5' is neither an index below 3"),
        (["Red", "RED"], "red", "", "c", "gold: 'red' is neither an index below 2 nor exactly one of the choices"),
        ({"text": RGB, "label": ["A"]}, "A", "", "c", "choices: 1 labels for 3 texts"),
    ],
)
def test_what_has_several_meanings_or_none_is_told(
    options: Any, gold: Any, keys: str, choices: str, said: str, write_task: WriteTask
) -> None:
    with pytest.raises(DataError) as caught:
        bound(write_task, options, gold, keys, choices)
    assert said in str(caught.value)
    assert str(caught.value).startswith("task 't', split 'test', row 0: ")


def test_a_list_in_pythons_notation_is_read_where_it_is_declared(write_task: WriteTask) -> None:
    keys = 'dataset: {files: {train: train.jsonl, test: test.jsonl}, types: {c: python}}\nchoices: c\ngold: "{{ g }}"'
    example = example_of(write_task, {"c": "['red', 'blue']", "g": 1}, keys)
    assert (example.choices, example.gold) == (("red", "blue"), 1)
