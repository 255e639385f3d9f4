"""Chat data as tuning tools take it, and columns named as methods or words of Python: each part is read as itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.formats import load_format
from slmbench.task import Task, load_task_folder


def turns(i: int, system: bool = True) -> list[dict[str, str]]:
    said = [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"It is {i}."}]
    return [{"role": "system", "content": "Be short."}] * system + said


def shared(i: int) -> list[dict[str, str]]:
    return [{"from": "human", "value": f"What is {i}?"}, {"from": "gpt", "value": f"It is {i}."}]


META = {"values": ["x"], "items": 3, "keys": "k", "get": "g", "count": 5, "copy": "c"}
# name -> row of a number, prompt, answer; what both are of the number 1
KINDS: dict[str, tuple[Callable[[int], dict[str, Any]], str, str, str, str]] = {
    "by place": (
        lambda i: {"messages": turns(i)},
        "{{ messages[1].content }}",
        "{{ messages[-1].content }}",
        *("What is 1?", "It is 1."),
    ),
    "by role": (
        lambda i: {"messages": turns(i, i % 2 == 0)},
        "{% for x in messages %}{% if x.role == 'user' %}{{ x.content }}{% endif %}{% endfor %}",
        "{{ messages[-1].content }}",
        *("What is 1?", "It is 1."),
    ),
    "of several turns": (
        lambda i: {"messages": turns(i) + turns(i + 1, False)},
        "{% for x in messages[:-1] %}{{ x.role }}: {{ x.content }}\n{% endfor %}",
        "{{ messages[-1]['content'] }}",
        *("system: Be short.\nuser: What is 1?\nassistant: It is 1.\nuser: What is 2?", "It is 2."),
    ),
    "from and value": (
        lambda i: {"conversations": shared(i), "id": i},
        "{% for c in conversations if c.from == 'human' %}{{ c.value }}{% endfor %}",
        "{{ conversations[1].value }}",
        *("What is 1?", "It is 1."),
    ),
    "names of methods": (
        lambda i: {"q": str(i), "meta": META},
        "{{ q }} {{ meta['items'] }} {{ meta['values'][0] }}",
        "{{ meta.items }} {{ meta.values[0] }} {{ meta.count }}",
        *("1 3 x", "3 x 5"),
    ),
    "words of Python": (
        lambda i: {"self": "s", "loop": "l", "range": f"r{i}", "class": "c", "with": "w", "answer": "so it is"},
        "{{ class }} {{ range }}",
        "{{ answer }}",
        *("c r1", "so it is"),
    ),
}


@pytest.fixture
def task_of(tmp_path: Path) -> Callable[[str], Task]:
    def make(kind: str) -> Task:
        row, user, answer, *_ = KINDS[kind]
        folder = tmp_path / "talk"
        folder.mkdir()
        for name in ("test", "samples"):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row(i)) + "\n" for i in range(4)))
        declared = {
            "summary": "s",
            "version": 1,
            "license": "mit",
            "train_split": None,
            "dataset": {"files": {"test": "test.jsonl"}},
            "kind": "generate",
            "prompt": {"user": user},
            "answer": answer,
            "generation": {"max_tokens": 8},
            "metrics": ["exact_match"],
        }
        (folder / "task.yaml").write_text(json.dumps(declared))
        return load_task_folder(str(folder), default_catalog())

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_a_conversation_is_the_prompt_and_another_the_answer(
    kind: str, task_of: Callable[[str], Task], nano_tokenizer: Any
) -> None:
    task = task_of(kind)
    example = task.examples("test")[1]
    *_, asked, answer = KINDS[kind]
    assert task.answer(example) == answer
    for style in ("plain", "chat"):
        assert asked in task.render(load_format(style), nano_tokenizer, example).text
    toon = task.render(load_format("toon"), nano_tokenizer, example).text
    assert answer not in toon or kind == "of several turns"
