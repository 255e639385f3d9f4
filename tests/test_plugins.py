from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slmbench.errors import DeclarationError, HookError
from slmbench.plugins import inside_folder, load_plugin

WriteTask = Callable[..., Path]


@pytest.fixture
def plugin_of(write_task: WriteTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    monkeypatch.chdir(tmp_path)
    return lambda source: load_plugin(os.path.relpath(write_task("foo", plugin=source)))


def test_a_folder_without_a_plugin_has_none(write_task: WriteTask) -> None:
    assert load_plugin(str(write_task())) is None


def test_hooks_are_called_with_what_they_are_given(plugin_of: Callable) -> None:
    plugin = plugin_of("def example(row):\n    return {'double': row['n'] * 2}\n")
    assert plugin.has("example") and not plugin.has("generate")
    assert plugin.call("example", {"n": 3}, row=0) == {"double": 6}


def test_a_hook_that_raises_is_told_by_file_line_hook_error_and_row(plugin_of: Callable) -> None:
    source = "\n" * 15 + "def example(row):\n    return {'gold': row['answer']}\n"
    with pytest.raises(HookError) as caught:
        plugin_of(source).call("example", {}, row=12)
    assert str(caught.value) == "tasks/foo/plugin.py:17: example(): KeyError 'answer' (row 12)"
    assert isinstance(caught.value.__cause__, KeyError)


def test_the_line_is_the_innermost_one_of_the_plugin_itself(plugin_of: Callable) -> None:
    source = "import json\ndef _read(text):\n    return json.loads(text)\ndef example(row):\n    return _read('nope')\n"
    with pytest.raises(HookError, match=r"^tasks/foo/plugin\.py:3: example\(\): JSONDecodeError Expecting value"):
        plugin_of(source).call("example", {}, row=0)


@pytest.mark.parametrize("made", ["['a']", "None", "'text'", "{1: 2}", "(x for x in ())"])
def test_a_hook_that_returns_no_dict_with_text_keys_is_told_at_its_first_line(plugin_of: Callable, made: str) -> None:
    plugin = plugin_of(f"\ndef example(row):\n    return {made}\n")
    with pytest.raises(
        HookError, match=r"^tasks/foo/plugin\.py:2: example\(\): expected a dict with text keys, got .* \(row 4\)$"
    ):
        plugin.call("example", {}, row=4)


def test_a_hook_that_ends_the_interpreter_is_only_a_failing_hook(plugin_of: Callable) -> None:
    with pytest.raises(HookError, match=r"plugin\.py:3: example\(\): SystemExit 5 \(row 0\)"):
        plugin_of("import sys\ndef example(row):\n    sys.exit(5)\n").call("example", {}, row=0)


def test_a_plugin_that_ends_the_interpreter_while_loading_is_told(plugin_of: Callable) -> None:
    with pytest.raises(HookError, match=r"plugin\.py:2: while loading: SystemExit: 0"):
        plugin_of("import sys\nsys.exit(0)\n")


def test_ctrl_c_inside_a_hook_is_not_swallowed(plugin_of: Callable) -> None:
    with pytest.raises(KeyboardInterrupt):
        plugin_of("def example(row):\n    raise KeyboardInterrupt\n").call("example", {}, row=0)


def test_endless_recursion_in_a_hook_is_a_failing_hook(plugin_of: Callable) -> None:
    with pytest.raises(HookError, match=r"plugin\.py:2: example\(\): RecursionError"):
        plugin_of("def example(row):\n    return example(row)\n").call("example", {}, row=0)


def test_a_syntax_error_is_told_with_line_and_column(plugin_of: Callable) -> None:
    with pytest.raises(DeclarationError) as caught:
        plugin_of("x = 1\ndef example(row:\n    return {}\n")
    assert str(caught.value).startswith("tasks/foo/plugin.py:2:12: Python syntax: ")


def test_a_plugin_that_fails_to_import_is_told_with_its_line(plugin_of: Callable) -> None:
    before = set(sys.modules)
    with pytest.raises(HookError, match=r"^tasks/foo/plugin\.py:2: while loading: ModuleNotFoundError: "):
        plugin_of("import os\nimport no_such_module_anywhere\n")
    assert not [name for name in set(sys.modules) - before if name.startswith("slmbench_plugin")]


def test_a_misspelt_hook_is_told_and_other_functions_are_left_alone(plugin_of: Callable) -> None:
    with pytest.raises(DeclarationError, match=r"plugin\.py:1:1: exampel\(\) is not a hook; did you mean 'example'\?"):
        plugin_of("def exampel(row):\n    return {}\n")


def test_functions_that_look_like_no_hook_are_helpers(plugin_of: Callable) -> None:
    assert not plugin_of("from os.path import join\ndef tidy(text):\n    return text\nclass Thing: pass\n").has(
        "example"
    )


def test_loading_leaves_no_compiled_file_behind(plugin_of: Callable, tmp_path: Path) -> None:
    plugin_of("def example(row):\n    return {}\n")
    assert sorted(os.listdir(tmp_path / "tasks" / "foo")) == ["plugin.py", "task.yaml", "test.jsonl", "train.jsonl"]


def test_dataclasses_work_in_a_plugin(plugin_of: Callable) -> None:
    source = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass P:\n    x: int\ndef example(row):\n    return {'x': P(1).x}\n"
    )
    assert plugin_of(source).call("example", {}, row=0) == {"x": 1}


def test_a_plugin_that_is_a_link_out_of_its_folder_is_not_run(write_task: WriteTask, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    outside = tmp_path / "outside.py"
    outside.write_text(f"open({str(canary)!r}, 'w')\n")
    folder = write_task()
    (folder / "plugin.py").symlink_to(outside)
    with pytest.raises(DeclarationError, match=r"plugin\.py: 'plugin\.py' leads out of .*; name a file inside it"):
        load_plugin(str(folder))
    assert not canary.exists()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "link", "linked/secret", "\0"])
def test_names_that_leave_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "folder2").mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    with pytest.raises(ValueError):
        inside_folder(str(folder), name)
    with pytest.raises(ValueError):
        inside_folder(str(folder), "../folder2/x")


def test_names_inside_the_folder_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    real = os.path.realpath(tmp_path)
    assert inside_folder(str(tmp_path), "sub/../x.jsonl") == os.path.join(real, "x.jsonl")
    assert inside_folder(str(tmp_path), "link/x.jsonl") == os.path.join(real, "sub", "x.jsonl")
