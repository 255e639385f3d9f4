from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.task import Task, load_task_folder

GENERATE = """\
summary: A task of the tests.
version: 1
dataset: {files: {train: train.jsonl, test: test.jsonl}}
kind: generate
prompt: {user: "Q: {{ question }}", prefix: "A:"}
metrics: [exact_match]
"""
CHOICE = """\
summary: A task of the tests.
version: 1
dataset: {files: {train: train.jsonl, test: test.jsonl}}
kind: choice
prompt: {user: "{{ question }}"}
metrics: [accuracy, accuracy_norm]
"""
CODE = """\
summary: A task of the tests.
version: 1
dataset: {files: {train: train.jsonl, test: test.jsonl}}
kind: code
prompt: {user: "{{ prompt }}", delimiter: ""}
answer: "{{ solution }}"
code: {program: "{{ prompt }}{{ completion }}", tests: "{{ tests }}"}
metrics: [pass@1]
"""
START = {"generate": GENERATE, "choice": CHOICE, "code": CODE}
Row = Mapping[str, Any]
MakeTask = Callable[..., Task]


@pytest.fixture
def make_task(write_task: Callable[..., Path], tmp_path: Path) -> MakeTask:
    """make_task(kind, yaml, test rows, train rows) -> the task; the yaml's keys replace those of a sound one."""
    made = 0

    def make(
        kind: str, yaml: str, test: Sequence[Row], train: Sequence[Row] = ({},), *, data: str = "auto", name: str = "t"
    ) -> Task:
        nonlocal made
        made += 1
        keys = {line.split(":")[0] for line in yaml.splitlines() if line[:1].isalpha()}
        kept = [line for line in START[kind].splitlines() if line.split(":")[0] not in keys]
        folder = write_task(
            name, "\n".join([*kept, yaml]), train=lines(train), test=lines(test), root=tmp_path / str(made)
        )
        if data == "samples":
            (folder / "samples.jsonl").write_text(lines(test), encoding="utf-8")
        return load_task_folder(str(folder), default_catalog(), data=data)

    return make


def lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
