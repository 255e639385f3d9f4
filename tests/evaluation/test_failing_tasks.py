"""A task that fails ends no other: their runs are there, and what failed is told with its reason at the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import EngineError, HookError, SlmbenchError
from slmbench.evaluation import (
    EvaluationOptions,
    TaskFailure,
    TasksFailed,
    _evaluate,
    evaluate_tasks,
    told_if_cut_short,
)
from slmbench.leaderboard import load_runs
from slmbench.task import load_task, load_task_folder


@pytest.fixture
def broken(write_task: Any) -> Any:
    """A task whose plugin fails on each row."""
    plugin = "def example(row):\n    raise ValueError('this row has no question')\n"
    return write_task("broken", plugin=plugin)


def test_tasks_beside_one_whose_hook_fails_are_scored(nano: Any, broken: Path, tmp_path: Path) -> None:
    tasks = [load_task("nano_choice"), load_task_folder(str(broken), default_catalog()), load_task("nano_note")]
    with pytest.raises(TasksFailed) as caught:
        evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path / "out"), limit=2))
    assert [run and run.record["task"]["id"] for run in caught.value.placed] == ["nano_choice", None, "nano_note"]
    [failure] = caught.value.failures
    assert (failure.who, failure.task) == ("nano", "broken")
    assert "this row has no question" in str(failure.error)
    assert caught.value.exit_code == 1


def test_a_hook_that_finds_no_file_is_its_tasks_affair_as_any_other(nano: Any, write_task: Any, tmp_path: Path) -> None:
    folder = write_task("fileless", plugin="def example(row):\n    return {'x': open('/nowhere/x').read()}\n")
    tasks = [load_task_folder(str(folder), default_catalog()), load_task("nano_choice")]
    with pytest.raises(TasksFailed, match="FileNotFoundError") as caught:
        evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path / "out"), limit=1))
    assert [run and run.record["task"]["id"] for run in caught.value.placed] == [None, "nano_choice"]


def test_what_is_wrong_with_a_model_is_told_once_and_not_for_each_of_its_tasks() -> None:
    nan, other = SlmbenchError("the model computes NaN"), SlmbenchError("no such column")
    failures = [TaskFailure("nano", "a", nan), TaskFailure("nano", "b", nan), TaskFailure("tuned", "b", other)]
    assert str(TasksFailed([None, None, None], failures)).splitlines() == [
        "a, b of nano failed: the model computes NaN",
        "b of tuned failed: no such column",
        "3 of 3 runs failed; the same command tries them again, and keeps the others",
    ]


@pytest.mark.parametrize("engine", ["hf", "shared"])
def test_a_model_of_nan_is_refused_by_every_engine_where_it_writes_too(engine: str, tmp_path: Path) -> None:
    from slmbench.models import load_model, resolve_model

    loaded = load_model(resolve_model("nano", default_catalog()))
    loaded.model.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(SlmbenchError, match="computes NaN"):
        evaluate_tasks(loaded, [load_task("nano_note")], EvaluationOptions(out=str(tmp_path), limit=2, engine=engine))
    assert load_runs(tmp_path)[0] == []


def test_of_one_task_alone_its_own_error_is_raised(nano: Any, broken: Path, tmp_path: Path) -> None:
    with pytest.raises(HookError, match="this row has no question"):
        task = load_task_folder(str(broken), default_catalog())
        evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "out"), limit=2))


def test_eval_ranks_what_is_there_and_says_last_what_failed(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    damaged = tmp_path / "out" / "runs" / "damaged"
    damaged.mkdir(parents=True)
    (damaged / "run.json").write_text("{}", encoding="utf-8")
    what = ["eval", "nano", "--tasks", "broken,nano_choice", "--limit", "2", "--out", str(tmp_path / "out")]
    assert main(what) == 1
    shown = capsys.readouterr()
    assert "nano_choice" in shown.out
    told = shown.err.splitlines()
    assert any(line.startswith("error: broken of nano failed: ") and "no question" in line for line in told)
    assert any("run.json" in line and "damaged" in line for line in told)  # A run that is left out is told as well.
    assert told[-1].startswith("error: 1 of 2 runs failed; the same command tries them again")
    shutil.rmtree(damaged)
    assert [run.record["task"]["id"] for run in load_runs(tmp_path / "out")[0]] == ["nano_choice"]
    assert main([*what, "--json"]) == 1
    assert [record["task"]["id"] for record in json.loads(capsys.readouterr().out)] == ["nano_choice"]
    what[3] = "broken"  # Alone: what was made is nothing, and nothing is an array too.
    assert main([*what, "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "[]\n" and "error: broken of nano failed: " in shown.err


def test_what_failed_is_told_also_if_something_else_ends_the_call(
    nano: Any,
    broken: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_engine(*_: object, **__: object) -> None:
        raise EngineError("the device is gone")

    monkeypatch.setattr(_evaluate, "build_engine", no_engine)
    tasks = [load_task_folder(str(broken), default_catalog()), load_task("nano_choice")]
    with pytest.raises(EngineError, match="the device is gone"):
        evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path / "out"), limit=1))
    assert "broken of nano failed: " in capsys.readouterr().err
    failures = [TaskFailure("nano", "a", SlmbenchError("no such column"))]
    with pytest.raises(KeyboardInterrupt), told_if_cut_short(failures):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "a of nano failed: no such column\n"


def test_an_adapter_that_can_not_be_loaded_ends_no_other(
    nano: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import peft

    for name, rank in (("torn", 2), ("good", 2), ("misfit", 4)):
        config = peft.LoraConfig(r=rank, target_modules=["q_proj"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(nano.model, config)
        model.save_pretrained(tmp_path / name)
        model.unload()
    shutil.copy(tmp_path / "misfit" / "adapter_config.json", tmp_path / "torn")
    shutil.copy(tmp_path / "good" / "adapter_config.json", tmp_path / "misfit")
    weights = tmp_path / "torn" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])

    def scored(*names: str) -> tuple[int, str, list[str]]:
        given = [part for name in names for part in ("--adapter", str(tmp_path / name))]
        what = ["--tasks", "nano_choice", "--limit", "1", "--out", str(tmp_path / "out"), "--json"]
        code = main(["eval", "nano", *given, *what])
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    code, out, told = scored("torn", "good", "misfit")
    assert code == 1
    assert [(record["adapter"] or {"name": None})["name"] for record in json.loads(out)] == [None, "good"]
    for name in ("torn", "misfit"):  # At once, and at the end.
        assert any(line.startswith(f"nano + {name} is left out: ") for line in told)
        assert any(f"nano_choice of nano + {name} failed: " in line for line in told)
    assert told[-1].startswith("error: 2 of 4 runs failed; the same command tries them again")
    # One alone is as any wrong argument: nothing is scored before it comes to light.
    shutil.rmtree(tmp_path / "out")
    code, out, told = scored("torn")
    assert (code, out) == (2, "") and "adapter_model.safetensors" in told[-1]
    assert not (tmp_path / "out").exists()


def test_an_answer_that_is_none_fails_its_task_and_no_other(
    nano: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slmbench.engines.shared_prefix import SharedPrefix

    write, asked = SharedPrefix.write, []

    def broken(self: Any, requests: Any) -> Any:
        asked.append([one.item for one in requests])
        for at, answer in write(self, requests):
            if requests[at].item[0] == "nano_note":
                raise SlmbenchError("task 'nano_note', item 0: its weights are NaN")
            yield at, answer

    monkeypatch.setattr(SharedPrefix, "write", broken)
    names = ("nano_note", "nano_arithmetic", "nano_choice")
    with pytest.raises(TasksFailed) as caught:
        evaluate_tasks(nano, [load_task(name) for name in names], EvaluationOptions(out=str(tmp_path), limit=2))
    assert [run and run.record["task"]["id"] for run in caught.value.placed] == [None, "nano_arithmetic", "nano_choice"]
    assert [(one.task, str(one.error)) for one in caught.value.failures] == [
        ("nano_note", "task 'nano_note', item 0: its weights are NaN")
    ]


def test_a_full_disk_ends_all_as_no_task_is_at_fault(
    nano: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from slmbench.files import disk_errors
    from slmbench.journal import Journal

    def full(self: Any, key: str, value: object) -> None:
        with disk_errors(str(tmp_path)):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    tasks = [load_task("nano_choice"), load_task("nano_note")]
    with pytest.raises(SlmbenchError, match="the disk is full") as caught:
        evaluate_tasks(nano, tasks, EvaluationOptions(out=str(tmp_path), limit=2))
    assert not isinstance(caught.value, TasksFailed)
