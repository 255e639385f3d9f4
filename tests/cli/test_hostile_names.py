"""Whatever a name holds, no command sends a control character to the terminal, and none begins a line of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from slmbench.cli import main

TAIL = "forged line"
HOSTILE = f"a\x1b[31m\x07\x9b2J\u202eb\u2028\n{TAIL}"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NAMED = [
    [HOSTILE],
    [f"--{HOSTILE}"],
    ["list", HOSTILE],
    ["list", f"--{HOSTILE}"],
    ["schema", HOSTILE],
    *(["show", kind, HOSTILE] for kind in ("task", "model", "dataset", "recipe", "suite", HOSTILE)),
    ["show", "task", "nano_note", "--format", HOSTILE],
    ["show", "task", "nano_note", "--model", HOSTILE],
    ["check", HOSTILE],
    ["check", "nano_note", "--model", HOSTILE],
    ["new", "task", HOSTILE],
    ["new", HOSTILE],
    ["data", HOSTILE],
    ["data", "verify", HOSTILE],
    ["data", "pull", HOSTILE, "--to", HOSTILE],
    ["data", "export", HOSTILE, "--format", "jsonl", "--out", HOSTILE],
    ["data", "export", "nano_note", "--format", HOSTILE, "--out", HOSTILE],
    ["data", "export", "nano_note", "--format", "jsonl", "--split", HOSTILE, "--out", HOSTILE],
    ["data", "export", "nano_note", "--format", "jsonl", "--limit", "2", "--out", f"{HOSTILE}.jsonl"],
    ["data", "tokens", HOSTILE],
    ["eval", HOSTILE, "--tasks", "nano_choice"],
    ["eval", f"./{HOSTILE}", "--tasks", "nano_choice"],
    ["eval", "nano", HOSTILE, "--tasks", "nano_choice"],
    ["eval", "nano", f"--{HOSTILE}"],
    ["eval", "nano", "--tasks", HOSTILE],
    ["eval", "nano", "--suite", HOSTILE],
    ["eval", "nano", "--tasks", "nano_choice", "--adapter", HOSTILE],
    ["compare", HOSTILE, HOSTILE],
    ["compare", HOSTILE, HOSTILE, "--in", HOSTILE],
    ["plan", HOSTILE, "--against", HOSTILE],
    *(["eval", "nano", "--tasks", "nano_choice", f"--{one}", HOSTILE] for one in ("metrics", "batch", "cot", "limit")),
    *([command, HOSTILE] for command in ("train", "run", "sweep", "export", "leaderboard")),
    ["train", "nano-quickstart", "--dry-run", "--adapter", HOSTILE],
    ["train", "nano-quickstart", "--dry-run", "--variant", HOSTILE],
    ["train", "nano-quickstart", "--dry-run", "--set", f"{HOSTILE}=1"],
    ["train", "nano-quickstart", "--dry-run", "--data", HOSTILE],
    ["sweep", "nano-quickstart", "--over", f"{HOSTILE}=1"],
    ["sweep", "nano-quickstart", "--seeds", HOSTILE],
    ["export", HOSTILE, "--to", "ollama", "--model", HOSTILE],
]


def _held(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    for text in said:
        assert CONTROL.search(text) is None, ascii(text)
        assert not [line for line in text.splitlines() if line.startswith(TAIL)], ascii(text)
    assert "Traceback" not in said.err
    return said.out + said.err


@pytest.mark.parametrize("arguments", NAMED, ids=lambda arguments: ascii(" ".join(arguments)[:40]))
def test_a_hostile_name_on_the_command_line_is_shown_and_not_sent(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(arguments)
    assert "forged line" in _held(capsys)


def _declare(top: Path) -> None:
    """A task, a model, a data set and a recipe that are called, and say, what they shouldn't."""
    quoted = json.dumps(HOSTILE)
    for kind, text in {
        "tasks": f"summary: {quoted}\nversion: 1\nlicense: {quoted}\nkind: {quoted}\n",
        "registry/models": f"summary: {quoted}\nhub: {quoted}\n",
        "registry/datasets": f"summary: {quoted}\nhub: {quoted}\nlicense: {quoted}\n",
        "registry/recipes": f"summary: {quoted}\nmodel: {quoted}\nadapters: {{{quoted}: {{tasks: [{quoted}]}}}}\n",
        "registry/suites": f"summary: {quoted}\ntasks: [{quoted}]\n",
    }.items():
        if kind == "tasks":
            folder = top / kind / HOSTILE
            folder.mkdir(parents=True)
            (folder / "task.yaml").write_text(text)
        else:
            (top / kind).mkdir(parents=True)
            (top / kind / f"{HOSTILE}.yaml").write_text(text)


def test_hostile_names_of_what_is_there_are_shown_and_not_sent(tmp_path, monkeypatch, capsys):
    top = tmp_path / HOSTILE
    top.mkdir()
    _declare(top)
    monkeypatch.setenv("SLMBENCH_PATH", str(top))
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["list"],
        *(["list", kind] for kind in ("tasks", "models", "datasets", "recipes", "suites")),
        *(["show", kind, HOSTILE] for kind in ("task", "model", "dataset", "recipe", "suite")),
        ["check", HOSTILE],
        ["check", str(top / "tasks" / HOSTILE), "--trust"],
        ["eval", "nano", "--tasks", HOSTILE],
        ["eval", HOSTILE, "--tasks", "nano_choice"],
        ["train", HOSTILE, "--dry-run"],
        ["train", str(top / "registry" / "recipes" / f"{HOSTILE}.yaml")],
        ["data", "tokens", HOSTILE],
        ["data", "pull", HOSTILE, "--to", "mirror"],
    ):
        main(arguments)
        assert "forged line" in _held(capsys), arguments


def test_a_hostile_mirror_is_shown_and_not_sent(tmp_path, capsys):
    for name in (HOSTILE, "gsm8k"):
        (tmp_path / HOSTILE / name).mkdir(parents=True)
        (tmp_path / HOSTILE / name / "test.jsonl").write_text(json.dumps({HOSTILE: HOSTILE}) + "\n{")
        (tmp_path / HOSTILE / name / f"{HOSTILE}.jsonl").write_text("{")
    assert main(["data", "verify", str(tmp_path / HOSTILE)]) == 2
    assert "forged line" in _held(capsys)


def test_results_in_a_hostile_folder_are_shown_and_not_sent(tmp_path, capsys):
    out = tmp_path / HOSTILE
    assert main(["eval", "nano", "--tasks", "nano_choice", "--limit", "1", "--out", str(out)]) == 0
    assert "page: " in _held(capsys)
    (record,) = out.glob("runs/*/run.json")
    run = json.loads(record.read_text())
    run["model"]["name"] = run["run_id"] = HOSTILE
    del run["record_sha256"]  # Else it is refused.
    record.write_text(json.dumps(run))
    main(["leaderboard", str(out), "--out", str(out / "board")])
    assert "forged line" in _held(capsys)
