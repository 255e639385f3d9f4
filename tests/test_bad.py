"""Every broken task below `bad/tasks` and the message that it must cause, in its `expected.txt`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import SlmbenchError
from slmbench.task import load_task_folder
from slmbench.yamlfile import MAX_BYTES

BAD = Path(__file__).resolve().parent / "bad"
CASES = sorted(path.name for path in (BAD / "tasks").iterdir())


def message_of(folder: str) -> str:
    """What a person is told who loads the task and asks for its prompts, answers and shots."""
    with pytest.raises(SlmbenchError) as caught:
        task = load_task_folder(folder, default_catalog())
        for example in task.examples(task.spec.split):
            task.prompt(example), task.answer(example)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_a_broken_task_causes_exactly_its_message(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    started = time.process_time()
    said = message_of(f"tasks/{case}")
    assert time.process_time() - started < 5
    expected = (BAD / "tasks" / case / "expected.txt").read_text(encoding="utf-8")
    assert said + "\n" == expected
    assert not [path for path in (BAD, BAD / "tasks" / case) if (path / "canary").exists()]


@pytest.mark.parametrize("case", CASES)
def test_a_message_names_its_file_or_its_task(case: str) -> None:
    for line in (BAD / "tasks" / case / "expected.txt").read_text(encoding="utf-8").splitlines():
        assert line.startswith((f"tasks/{case}/", f"task '{case}'", f"data set '{case}'")), line


def test_a_declaration_over_a_megabyte_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.makedirs("tasks/huge")
    Path("tasks/huge/task.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    assert message_of("tasks/huge") == "tasks/huge/task.yaml: 1,000,001 bytes; a declaration has at most 1,000,000"


def test_a_plugin_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.makedirs("tasks/linked")
    yaml = (BAD / "tasks" / "hook_exits" / "task.yaml").read_text(encoding="utf-8")
    Path("tasks/linked/task.yaml").write_text(yaml, encoding="utf-8")
    Path("outside.py").write_text("open('canary', 'w')\n", encoding="utf-8")
    os.symlink("../../outside.py", "tasks/linked/plugin.py")
    expected = "tasks/linked/plugin.py: 'plugin.py' leads out of tasks/linked; name a file inside it"
    assert message_of("tasks/linked") == expected
    assert not Path("canary").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"),
        lambda raw: b"---\n" + raw + b"...\n",
        lambda raw: raw.rstrip(b"\n"),
    ],
    ids=["byte order mark", "crlf", "both", "document marks", "no last line break"],
)
def test_harmless_habits_of_editors_are_fine(change: object, tmp_path: Path, task_yaml: str) -> None:
    folder = tmp_path / "fine"
    folder.mkdir()
    (folder / "task.yaml").write_bytes(change(task_yaml.encode()))  # type: ignore[operator]
    (folder / "test.jsonl").write_text('{"question": "q", "answer": "a"}\n', encoding="utf-8")
    task = load_task_folder(str(folder), default_catalog())
    assert [task.answer(example) for example in task.examples("test")] == ["a"]
