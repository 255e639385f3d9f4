"""Question and answer in one column: no prompt, no export shows the answer, and the check looks for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.checks import check_task
from slmbench.exports import export_task
from slmbench.formats import load_format
from slmbench.lengths import Ruler
from slmbench.task import load_task_folder


def _case(i: int) -> tuple[str, str]:
    return f"Which drug for case {i}?", f"drug {i * 7 % 13} of {i}"


def _turns(i: int) -> list[dict[str, str]]:
    question, answer = _case(i)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


COLUMNS: dict[str, tuple[Callable[[int], dict[str, Any]], str, str]] = {
    "struct": (
        lambda i: {"qa": dict(zip(("question", "answer"), _case(i), strict=True))},
        "{{ qa.question }}",
        "{{ qa['answer'] }}",
    ),
    "turns": (lambda i: {"messages": _turns(i)}, "{{ messages[0].content }}", "{{ messages[-1].content }}"),
    "pair": (lambda i: {"pair": list(_case(i))}, "{{ pair[0] }}", "{{ pair[1] }}"),
    "loop": (
        lambda i: {"messages": _turns(i)},
        "{% for turn in messages if turn.role == 'user' %}{{ turn.content }}{% endfor %}",
        "{{ messages[1].content }}",
    ),
    "text": (lambda i: {"text": " => ".join(_case(i))}, "{{ text.split(' => ')[0] }}", "{{ text.split(' => ')[1] }}"),
}


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[..., Path]:
    def write(row: Callable[[int], dict[str, Any]], user: str, answer: str, **prompt: Any) -> Path:
        folder = tmp_path / "drugs"
        folder.mkdir()
        for name, start in (("train", 0), ("test", 20), ("samples", 40)):
            rows = "".join(json.dumps(row(i)) + "\n" for i in range(start, start + 4))
            (folder / f"{name}.jsonl").write_text(rows)
        declared = {
            "summary": "Drugs.",
            "version": 1,
            "license": "mit",
            "dataset": {"files": {"train": "train.jsonl", "test": "test.jsonl"}},
            "kind": "generate",
            "prompt": {"user": user, **prompt},
            "answer": answer,
            "generation": {"max_tokens": 32},
            "metrics": ["exact_match"],
        }
        (folder / "task.yaml").write_text(json.dumps(declared))
        return folder

    return write


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_part_of_a_column_is_all_that_any_format_or_export_shows(
    kind: str, folder_of: Callable[..., Path], nano_tokenizer: Any
) -> None:
    task = load_task_folder(str(folder_of(*COLUMNS[kind])), default_catalog())
    for example in task.examples("test"):
        question, answer = _case(int(example.id.removeprefix("test-")) + 20)
        for name in ("plain", "chat", "toon"):
            text = task.render(load_format(name), nano_tokenizer, example).text
            assert question in text
            assert answer not in text
    rows = export_task(task, "toon", "test").data.decode().splitlines()
    assert len(rows) == 5
    assert all(row.count(" of ") == 1 for row in rows[1:])


@pytest.mark.parametrize(("kind", "inputs"), [("struct", {"all": "{{ qa.question }} {{ qa.answer }}"}), ("pair", {})])
def test_the_check_finds_the_answer_in_the_prompt_of_a_format(
    kind: str, inputs: dict[str, str], folder_of: Callable[..., Path], nano_tokenizer: Any
) -> None:
    folder = folder_of(*COLUMNS[kind], **({"inputs": inputs} if inputs else {}))
    report = check_task(str(folder), default_catalog(), ruler=Ruler("nano", nano_tokenizer, 1024))
    told = [problem.message for problem in report.problems]
    if not inputs:
        assert told == []
        return
    assert told == [
        "format 'toon': the prompt shows the gold answer, which the plain one doesn't: 'drug 10 of 20' "
        "(test-0; 11 more rows alike)"
    ]
    assert report.formats == {"plain": "ok", "chat": "ok", "toon": "failed", "instruction": "ok"}


def test_an_answer_in_every_format_is_the_authors_own_and_is_said(
    folder_of: Callable[..., Path], nano_tokenizer: Any
) -> None:
    row, _, answer = COLUMNS["pair"]
    folder = folder_of(row, "{{ pair[0] }} {{ pair[1] }}", answer)
    report = check_task(str(folder), default_catalog(), ruler=Ruler("nano", nano_tokenizer, 1024))
    assert report.ok
    assert [notice.split(",")[0] for notice in report.notices] == [
        f"4 of 4 prompts of split {split!r} print their gold answer as it is" for split in ("test", "train")
    ]
