"""`slmbench check`: what is on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from slmbench.cli.check import command
from slmbench.errors import TrustError, UsageError
from slmbench.scaffold import new_task


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    """The folder of a sound task that is on no path."""
    new_task("findings", str(tmp_path))
    return tmp_path / "tasks" / "findings"


def _break(folder: Path) -> None:
    path = folder / "task.yaml"
    path.write_text(path.read_text().replace("license: apache-2.0", "licence: apache-2.0"))


def _columns(line: str) -> list[str]:
    return re.split(r"  +", line.strip())


def test_sound_tasks_print_a_table_with_its_caption_and_end_with_0(own_task: Path) -> None:
    result = CliRunner().invoke(command, ["nano_choice", str(own_task)])
    assert result.exit_code == 0, result.output
    caption, header, choice, findings, summary = result.stdout.splitlines()
    assert caption.endswith("in tokens of nano, which reads 1,024; > is longer than that.")
    assert header.split() == ("task kind rows from formats metrics p50 p99 max answer licence result").split()
    assert _columns(choice)[:6] == ["nano_choice", "choice", "404", "generated", "4/4", "3/3"]
    assert _columns(findings)[:6] == ["findings", "generate", "64", "file", "4/4", "1/1"]
    assert _columns(findings)[-2:] == ["apache-2.0", "ok"]
    assert re.fullmatch(r"2 tasks, 468 rows in \d+\.\d s: 2 ok", summary)


def test_one_task_alone_is_told_in_detail(own_task: Path) -> None:
    lines = CliRunner().invoke(command, [str(own_task)]).stdout.splitlines()
    assert lines[3:6] == [
        "rows      20 test, 40 train, 4 golden",
        "formats   plain, chat, toon, instruction",
        "metrics   exact_match",
    ]


def test_prompts_longer_than_the_models_context_are_marked(own_task: Path, tmp_path: Path) -> None:
    small = tmp_path / "registry" / "models" / "short.yaml"
    small.parent.mkdir(parents=True, exist_ok=True)
    small.write_text("summary: Nano with a short memory.\nbundled: nano\ncontext_tokens: 21\nlicense: mit\n")
    result = CliRunner(env={"SLMBENCH_PATH": str(tmp_path)}).invoke(command, [str(own_task), "--model", "short"])
    assert result.exit_code == 0, result.output
    caption, _, row, *rest = result.stdout.splitlines()
    assert "tokens of short, which reads 21" in caption
    assert re.fullmatch(r">\d+", _columns(row)[8])
    assert any(re.fullmatch(r"prompts   \d+ are longer than the 21 tokens of short", line) for line in rest)


def test_problems_follow_the_table_and_end_with_2(own_task: Path) -> None:
    _break(own_task)
    result = CliRunner().invoke(command, [str(own_task)])
    assert result.exit_code == 2
    _, _, row, problem, summary = result.stdout.splitlines()
    assert _columns(row) == ["findings", "-", "0", "-", "-", "-", "-", "-", "-", "-", "-", "1 problem"]
    assert problem.endswith("task.yaml:5:1: unknown key 'licence'; did you mean 'license'?")
    assert summary.endswith(": 0 ok, 1 with 1 problem")


def test_json_is_an_array_alone_on_stdout(own_task: Path) -> None:
    _break(own_task)
    result = CliRunner().invoke(command, [str(own_task), "gsm8k", "--json"])
    assert result.exit_code == 2
    broken, sound = json.loads(result.stdout)
    assert {key: sound[key] for key in ("task", "ok", "problems")} == {"task": "gsm8k", "ok": True, "problems": []}
    assert sound["source"] == "golden" and sound["tokens"]["model"] == "nano"
    assert (broken["task"], broken["ok"]) == ("findings", False)
    (problem,) = broken["problems"]
    assert set(problem) == {"path", "line", "message"} and problem["line"] == 5
    assert "note: gsm8k: splits 'test', 'train' are only on the hub" in result.stderr


def test_a_notice_of_several_tasks_is_told_once_with_their_names() -> None:
    result = CliRunner().invoke(command, ["arc_easy", "arc_challenge"])
    assert result.exit_code == 0
    note, way = result.stderr.splitlines()
    assert note.startswith("note: arc_easy, arc_challenge: splits 'test', 'train' are only on the hub")
    assert way.startswith("to have all rows here: ") and "`slmbench data pull arc_easy arc_challenge --to DIR`" in way
    assert result.stdout.splitlines()[-1].endswith(": 2 ok (2 with notes, *)")


def test_there_is_colour_for_a_terminal_alone(own_task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in CliRunner().invoke(command, [str(own_task)]).stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[32mok\x1b[0m" in CliRunner().invoke(command, [str(own_task)]).stdout
    quiet = CliRunner(env={"NO_COLOR": "1"}).invoke(command, [str(own_task)], color=True)
    assert "\x1b[" not in quiet.stdout


def test_the_hook_for_pre_commit_checks_each_task_of_changed_files_once(own_task: Path, tmp_path: Path) -> None:
    """As pre-commit calls it: the files that its pattern takes, behind its entry, in the repository's root."""
    (hook,) = yaml.safe_load((Path(__file__).resolve().parents[2] / ".pre-commit-hooks.yaml").read_text())
    (own_task / "rows").mkdir()
    (own_task / "rows" / "more.jsonl").write_text("")
    inside = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    others = ["README.md", "src/task.py", "registry/models/m.yaml", "plugins/p.py"]
    taken = [path for path in [*inside, *others] if re.search(hook["files"], path)]
    assert taken == ["registry/recipes/findings.yaml", *(path for path in inside if path.startswith("tasks/"))]
    assert hook.get("pass_filenames", True) and hook["require_serial"] is True
    program, name, *arguments = hook["entry"].split()
    assert (program, name) == ("slmbench", "check") and len(taken) > 4
    with contextlib.chdir(tmp_path):
        result = CliRunner(env={"SLMBENCH_PATH": str(tmp_path)}).invoke(command, [*arguments, *taken, "--json"])
        assert [(one["task"], one["ok"]) for one in json.loads(result.stdout)] == [("findings", True)] * 2
        _break(own_task)
        result = CliRunner().invoke(command, [*arguments, "tasks/findings/rows/more.jsonl"])
    assert result.exit_code == 2
    assert "tasks/findings/task.yaml:5:1: unknown key 'licence'; did you mean 'license'?" in result.stdout


def test_samples_only(own_task: Path) -> None:
    (own_task / "test.jsonl").unlink()
    assert CliRunner().invoke(command, [str(own_task)]).exit_code == 2
    result = CliRunner().invoke(command, [str(own_task), "--data", "samples"])
    assert result.exit_code == 0 and "  4  golden" in result.stdout


def test_a_plugin_outside_the_path_needs_trust(own_task: Path, tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    (own_task / "plugin.py").write_text(f"open({str(flag)!r}, 'w').close()\n")
    result = CliRunner().invoke(command, ["nano_choice", str(own_task)])
    assert isinstance(result.exception, TrustError) and result.exception.exit_code == 3
    assert not flag.exists() and result.stdout == ""
    assert CliRunner().invoke(command, [str(own_task), "--trust"]).exit_code == 0
    assert flag.exists()


def test_a_folder_of_the_path_is_trusted(own_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_task / "plugin.py").write_text("def example(row):\n    return {}\n")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    assert CliRunner().invoke(command, ["findings"]).exit_code == 0
    assert CliRunner().invoke(command, [str(own_task)]).exit_code == 0


def test_all_checks_the_bundled_tasks_and_ones_own(
    own_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    result = CliRunner().invoke(command, ["--all", "--json", "--data", "samples"])
    assert result.exit_code == 0, result.output
    names = [report["task"] for report in json.loads(result.stdout)]
    assert {"findings", "gsm8k", "hellaswag", "nano_note"} <= set(names) and names == sorted(names)


def test_nothing_named_is_a_usage_error_that_names_all() -> None:
    result = CliRunner().invoke(command, [])
    assert isinstance(result.exception, UsageError) and "--all" in str(result.exception)


def test_an_unknown_name_is_a_usage_error_with_the_nearest() -> None:
    result = CliRunner().invoke(command, ["gsm9k"])
    assert isinstance(result.exception, UsageError) and "did you mean 'gsm8k'?" in str(result.exception)


def test_the_table_of_all_tasks_fits_a_wide_terminal() -> None:
    result = CliRunner().invoke(command, ["--all", "--data", "samples"])
    table = [line for line in result.stdout.splitlines()[1:-1] if ".yaml" not in line]
    assert len(table) > 30 and max(map(len, table)) <= 120
