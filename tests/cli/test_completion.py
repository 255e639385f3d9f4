"""What the tab key is answered: names by their headers, in the place where they fit, and quick."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from slmbench.cli import COMMANDS, _completion, main
from tests.cli.test_main import HEAVY

NANO = ("arithmetic", "code", "note")


@pytest.fixture
def asked(monkeypatch, capfd):
    """asked(words) -> what the shell is told of the last of them, as (type, value)."""

    def ask(*words):
        monkeypatch.setenv("_SLMBENCH_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(("slmbench", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        assert main([]) == 0
        done = capfd.readouterr()
        assert done.err == ""
        return [tuple(line.split(",", 1)) for line in done.out.split()]

    return ask


@pytest.mark.parametrize(
    ("words", "then"),
    [
        (["comp"], ["completion", "compare"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["eval", "nan"], ["nano"]),
        (["eval", "nano", "--suite", "medi"], ["medical"]),
        (["eval", "nano", "--tasks", "nano_choice,nano_"], [f"nano_choice,nano_{it}" for it in NANO]),
        (["eval", "nano", "--metrics", "rouge/"], ["rouge/stemmed"]),
        (["eval", "nano", "--format", "pl"], ["plain"]),
        (["eval", "nano", "--engine", "sh"], ["shared"]),
        (["check", "nano_no"], ["nano_note"]),
        (["check", "nano-q"], ["nano-quickstart"]),
        (["train", "nano-q"], ["nano-quickstart"]),
        (["merge", "nano-m"], ["nano-merge"]),
        (["data", "pull", "gsm8k", "hella"], ["hellaswag"]),
        (["data", "export", "gsm"], ["gsm8k"]),
        (["show", "task", "gsm"], ["gsm8k"]),
        (["show", "merge_method", "dare"], ["dare_linear", "dare_ties"]),
        (["show", "model", "gsm"], []),
        (["list", "merge"], ["merge_methods"]),
        (["runs", "list", "--task", "gsm"], ["gsm8k"]),
    ],
)  # fmt: skip
def test_a_shell_is_told_the_names_that_fit(words, then, asked):
    assert asked(*words) == [("plain", name) for name in then]


@pytest.mark.parametrize("words", [["eval", "./ad"], ["compare", "quick/r"], ["check", "./mine"], ["train", "my.y"]])
def test_where_no_name_fits_the_shell_completes_files(words, asked):
    assert asked(*words) == [("file", words[-1])]


def test_names_of_a_persons_own_folder_are_there_and_broken_or_strange_ones_break_nothing(asked, tmp_path, monkeypatch):
    for name in ("mine_good", "mine_bad", "mine\nline"):
        (tmp_path / "tasks" / name).mkdir(parents=True)
        (tmp_path / "tasks" / name / "task.yaml").write_text("summary: {" if name == "mine_bad" else "summary: Mine.\n")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    assert asked("show", "task", "mine") == [("plain", "mine_bad"), ("plain", "mine_good")]
    again = tmp_path / "registry" / "models"
    again.mkdir(parents=True)
    (again / "nano.yaml").write_text("summary: Twice.\n")
    assert asked("eval", "na") == [("file", "na")]
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path / "nowhere"))
    monkeypatch.setenv("COMP_WORDS", "slmbench eval na")
    assert main([]) == 1


def test_every_parameter_that_takes_a_name_or_a_path_is_completed():
    """A new command's too: its texts are in NAMED, PATHS or FREE of slmbench/cli/_completion.py."""
    group = _completion.CompletingGroup("slmbench")
    left = []

    def walk(command, path):
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{path} {name}")
        left.extend((path, param.name) for param in command.params if param.type is click.STRING)

    for name in COMMANDS:
        walk(group.get_command(click.Context(group), name), name)
    assert [(path, name) for path, name in left if name not in _completion.FREE and path != "new task"] == []


def test_completing_imports_nothing_heavy():
    code = (
        "import sys, click; from slmbench.cli import COMMANDS, _completion as c; g = c.CompletingGroup('slmbench');"
        "[g.get_command(click.Context(g), name) for name in COMMANDS]; [*c._names(('tasks', 'metrics'))];"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "['click', 'attrs']", done.stderr


@pytest.mark.parametrize("shell", _completion.SHELLS)
def test_a_real_shell_completes(shell, tmp_path, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    asks = {
        "bash": f". {script}; COMP_WORDS=(slmbench eval nano --tasks nano_choice,nano_n); COMP_CWORD=4;"
        '_slmbench_completion slmbench; echo "${COMPREPLY[@]}"',
        "fish": f"source {script}; complete -C 'slmbench eval nano --tasks nano_choice,nano_n'",
        "zsh": f"autoload -U compinit; compinit -u -D; . {script}; [[ $_comps[slmbench] = _slmbench_completion ]] &&"
        "words=(slmbench eval nano --tasks nano_choice,nano_n); CURRENT=5;"
        "_describe() { echo ${(P)3} }; compadd() { echo $* }; _slmbench_completion",
    }
    quiet = {"bash": ["--noprofile", "--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    found = Path(sys.executable).parent
    done = subprocess.run(
        [shell, *quiet, "-c", asks[shell]],
        capture_output=True, text=True, env={"PATH": f"{found}:/usr/bin:/bin", "HOME": str(tmp_path)}
    )  # fmt: skip
    assert "nano_choice,nano_note" in done.stdout, done.stderr
