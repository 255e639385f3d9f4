"""Formats that are declared as data: blocks of text, found like every other format, and refused with their lines."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from slmbench.blocks import blocks_of
from slmbench.catalog import default_catalog
from slmbench.errors import DeclarationError, UsageError
from slmbench.formats import Format, load_format, training_ids
from slmbench.plugins import load_plugins
from slmbench.task import formats_of, load_task
from slmbench.values import Prompt, Shot, Target


@pytest.fixture
def instruction() -> Format:
    return load_format("instruction", load_plugins(default_catalog()))


def of_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str = "mine") -> Path:
    path = tmp_path / "registry" / "formats" / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    return path


def test_instruction_blocks_are_those_of_the_published_text_files(instruction: Format, nano_tokenizer: Any) -> None:
    prompt = Prompt("How many?", "Be brief.", (Shot("One?", Target("1")),), "", " ", {}, False, "\n\n")
    rendered = instruction.render(prompt, nano_tokenizer)
    assert (rendered.text, rendered.delimiter) == (
        "Be brief.\n\n### Instruction:\nOne?\n\n### Response:\n1\n\n### End\n\n"
        "### Instruction:\nHow many?\n\n### Response:\n",
        "",
    )


def test_a_tasks_prefix_opens_the_answer_of_shots_and_question(instruction: Format, nano_tokenizer: Any) -> None:
    rendered = instruction.render(Prompt("a", "", (Shot("b", Target("c")),), "Answer:", " "), nano_tokenizer)
    assert "### Response:\nAnswer: c\n\n### End" in rendered.text
    assert (rendered.text.endswith("### Response:\nAnswer:"), rendered.delimiter) == (True, " ")


def test_an_answer_ends_in_the_end_mark_and_then_eos(instruction: Format, nano_tokenizer: Any) -> None:
    task = load_task("nano_arithmetic").in_format(instruction)
    example = task.examples("test", 1)[0]
    rendered = task.render(instruction, nano_tokenizer, example)
    prompt, answer = training_ids(instruction, nano_tokenizer, rendered, task.answer(example))
    assert answer[-1] == nano_tokenizer.eos_token_id
    whole = nano_tokenizer.decode([*prompt, *answer[:-1]])
    assert whole == f"{rendered.text}{rendered.delimiter}{task.answer(example)}\n\n### End"
    assert instruction.stop(["Question:"]) == ["\n### End", "\n### Instruction:", "Question:"]


def test_every_task_can_be_asked_in_a_declared_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nano_tokenizer: Any
) -> None:
    of_root(tmp_path, monkeypatch, 'summary: Mine\nversion: 3\nkind: completion\nprompt: "Q {{ user }}\\nA:"\n')
    catalog = default_catalog()
    task = load_task("nano_note", catalog)
    mine = load_format("mine", formats_of([task, load_task("nano_choice", catalog)], catalog))
    assert mine.version.startswith("3-")
    assert mine.render(Prompt("x"), nano_tokenizer).text == "Q x\nA:"
    assert [entry.name for entry in catalog.entries("formats")] == ["plain", "chat", "toon", "instruction", "mine"]


def test_another_text_of_the_declaration_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = of_root(tmp_path, monkeypatch, 'summary: Mine\nversion: 1\nprompt: "{{ user }}"\n')
    one = load_format("mine", load_plugins(default_catalog()))
    path.write_text('summary: Mine\nversion: 1\nprompt: "{{ user }}:"\n', encoding="utf-8")
    assert load_format("mine", load_plugins(default_catalog())).version != one.version


def test_all_faults_of_a_declared_format_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = of_root(
        tmp_path, monkeypatch, 'summary: Mine\nversion: 1\nsystem: "{{ system"\nprompt: "{{ question }}"\n', "plain"
    )
    with pytest.raises(DeclarationError) as caught:
        blocks_of(str(path))
    name, system, prompt = str(caught.value).splitlines()[:3]
    assert "format 'plain' is slmbench's own (plain.py); rename the file" in name
    assert ".yaml:3:" in system and "system: " in system
    assert prompt.endswith("prompt names question, and has to name {{ user }} alone") and ".yaml:4:" in prompt


def test_a_broken_declared_format_stops_nothing_but_what_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    of_root(tmp_path, monkeypatch, "summary: Mine\nversion: 1\nprompts: x\n")
    with heard() as lines:
        plugins = load_plugins(default_catalog())
    assert any("unknown key 'prompts'" in line and "mine.yaml:3" in line for line in lines)
    assert load_format("instruction", plugins).name == "instruction"
    with pytest.raises(DeclarationError, match="unknown key 'prompts'"):
        load_format("mine", plugins)


def test_an_answer_that_nothing_would_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nano_tokenizer: Any
) -> None:
    of_root(tmp_path, monkeypatch, 'summary: Mine\nversion: 1\nprompt: "{{ user }}"\n')
    mine = load_format("mine", load_plugins(default_catalog()))

    class WithoutEos:
        eos_token_id = None

        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return list(nano_tokenizer.encode(text, add_special_tokens=add_special_tokens))

    with pytest.raises(UsageError, match="no EOS token, and the format no end mark"):
        mine.ends_turn(WithoutEos())
