"""The command line as a whole: what it imports, where it writes, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slmbench.cli import COMMANDS, main
from slmbench.machine import processors

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "lm_eval",
    "pydantic",
    "trl",
    "peft",
    "evaluate",
    "click",
    "attrs",
)


def _python(code, *args, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("arguments", [["list", "tasks"], ["list"], ["list", "models", "--json"]])
def test_listing_imports_nothing_heavy(arguments):
    done = _python(
        "import sys; from slmbench.cli import main; code = main(sys.argv[2:]);"
        "print([name for name in sys.argv[1].split(',') if name in sys.modules], code, file=sys.stderr)",
        ",".join(HEAVY),
        *arguments,
    )
    assert done.stderr.strip() == "[] 0"
    assert "nano" in done.stdout


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/kfd"), reason="torch tells a GPU's name")
def test_a_dry_run_of_a_matrix_imports_no_torch_also_where_past_runs_tell_what_it_takes(tmp_path):
    (tmp_path / "grid.yaml").write_text("summary: A base.\nmodels: [nano]\ntasks: [nano_note]\n")
    run = tmp_path / "past" / "runs" / "nano__nano_note__0123456789"
    run.mkdir(parents=True)
    record = {
        "model": {"name": "nano"},
        "dataset": {"n": 200},
        "hardware": {"cpu": processors()[0], "gpu": None},
        "status": "ok",
        "cost": {"seconds": 20.0, "tokens_in": 500, "tokens_out": 130},
    }
    (run / "run.json").write_text(json.dumps(record))
    done = _python(
        "import sys; from slmbench.cli import main; code = main(sys.argv[2:]);"
        "print([name for name in sys.argv[1].split(',') if name in sys.modules], code, file=sys.stderr)",
        ",".join(name for name in HEAVY if name not in ("click", "attrs", "pydantic", "yaml", "jinja2")),
        *["matrix", str(tmp_path / "grid.yaml"), "--dry-run", "--past", str(tmp_path / "past")],
        *["--out", str(tmp_path / "out")],
    )
    assert done.stderr.splitlines()[-1] == "[] 0", done.stderr
    assert "about 24 s of one worker" in done.stdout and "630" in done.stdout


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, {"GOMP_SPINCOUNT": "10000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_threads_sleep_soon_unless_the_person_has_said_how_they_wait(given, then, monkeypatch, capsys):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert main(["list", "formats"]) == 0
    found = {name: os.environ[name] for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY") if name in os.environ}
    os.environ.pop("GOMP_SPINCOUNT", None)  # Undone below, where it was set before.
    assert found == then


def test_help_imports_no_command():
    done = _python(
        "import sys; from slmbench.cli import main; code = main(['--help']);"
        "print([name for name in sys.modules if name.startswith('slmbench.cli.')], file=sys.stderr)"
    )
    assert done.stderr.strip() == "['slmbench.cli._group']"
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"Usage: slmbench {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["lst"], 2, "error: unknown command 'lst'; did you mean 'list'?"),
        (["list", "taks"], 2, "'taks' is not one of 'tasks'"),
        (["eval", "nono", "--tasks", "nano_note"], 2, "error: unknown model 'nono'; did you mean 'nano'?"),
        (["eval", "nano", "--tasks", "nano_notes"], 2, "error: unknown task 'nano_notes'; did you mean 'nano_note'?"),
        (["eval", "nano", "--suite", "nanno"], 2, "error: unknown suite 'nanno'; did you mean 'nano'?"),
        (["eval", "nano"], 2, "error: give either --tasks a,b or --suite NAME"),
        (
            ["eval", "nano", "--tasks", "nano_note", "--format", "chatt"],
            2,
            "unknown format 'chatt'; did you mean 'chat'?",
        ),
        (["train", "nano-quikstart"], 2, "error: unknown recipe 'nano-quikstart'; did you mean 'nano-quickstart'?"),
        (["train", "nano-quickstart", "--set", "optim.lrr=1"], 2, "unknown key 'lrr'; did you mean 'lr'?"),
        (["train", "nano-quickstart", "--adapter", "nope"], 2, "has no adapter 'nope'"),
        (["eval", "nano", "--tasks", "gsm8k"], 4, "data set 'gsm8k' (openai/gsm8k, split"),
        (["eval", "someone/some-model", "--tasks", "nano_note"], 4, "model 'some-model' (someone/some-model)"),
        (["leaderboard", "nowhere"], 2, "nowhere"),
    ],
)
def test_what_cannot_work_says_so_and_ends_with_its_code(arguments, code, said, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    done = capfd.readouterr()
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert list(tmp_path.rglob("*.json*")) == []


def test_offline_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = _python(
        "import sys; from slmbench.cli import main; sys.exit(main(sys.argv[1:]))", "eval", "nano", "--tasks", "gsm8k"
    )
    assert done.returncode == 4, done.stderr
    assert "slmbench data pull gsm8k --to DIR" in done.stderr
    assert "SLMBENCH_DATA" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_ctrl_c_ends_with_130_and_keeps_finished_samples(tmp_path):
    arguments = ["eval", "nano", "--tasks", "nano_arithmetic", "--batch", "1", "--out", str(tmp_path)]
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; from slmbench.cli import main; sys.exit(main(sys.argv[1:]))", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    journal: list[Path] = []
    while time.monotonic() < deadline and child.poll() is None:
        journal = [path for path in tmp_path.glob("runs/*/responses.jsonl") if path.read_bytes().count(b"\n") >= 3]
        if journal:
            break
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "answers are kept in" in errors and errors.endswith("interrupted\n")
    assert "Traceback" not in errors
    assert journal and journal[0].read_bytes().count(b"\n") >= 3


def test_eval_json_is_alone_on_stdout(tmp_path):
    done = _python(
        "import sys; from slmbench.cli import main; sys.exit(main(sys.argv[1:]))",
        *["eval", "nano", "--tasks", "nano_choice,nano_note", "--limit", "3", "--json", "--out", str(tmp_path)],
    )
    records = json.loads(done.stdout)
    assert [record["task"]["id"] for record in records] == ["nano_choice", "nano_note"]
    assert "--limit 3" in done.stderr


def test_show_prints_real_prompts_and_the_answer(capsys):
    assert main(["show", "task", "nano_choice", "--n", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    (prompt,) = shown["prompts"]
    assert prompt["prompt"].endswith("\nAnswer:")
    assert prompt["answer"] in prompt["choices"]
    assert len(prompt["prompt_ids"]) == prompt["prompt_tokens"] == len(prompt["tokens"])
    assert shown["spec"]["kind"] == "choice"


def test_dry_run_says_what_would_be_trained_and_writes_nothing(tmp_path, capsys):
    few = ["--adapter", "note", "--set", "rows=40", "--out", str(tmp_path / "x")]
    assert main(["train", "nano-quickstart", "--dry-run", *few]) == 0
    assert "nano_note, 240 steps" in capsys.readouterr().out
    assert not (tmp_path / "x").exists()


def test_a_small_recipe_runs_whole_and_again_at_once(tmp_path, capsys, monkeypatch):
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "summary: A recipe in a file.\nmodel: nano\nadapters:\n  note: {tasks: [nano_note]}\n"
        "optim: {lr: 5e-3, batch: 4, steps: 3}\nrows: 20\nmax_tokens: 256\n"
        "evaluation: {tasks: [nano_note, nano_choice], limit: 6}\n"
    )
    arguments = ["run", str(recipe), "--out", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 0
    board = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in board["rows"]} == {"nano", "nano + note"}
    assert all("limit 6" in row["badges"] for row in board["rows"])
    for name in ("leaderboard.json", "leaderboard.csv", "leaderboard.md", "index.html"):
        assert (tmp_path / "out" / "leaderboard" / name).stat().st_size > 0
    started = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*")}
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == board["rows"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*")} == started


@pytest.mark.realdata
def test_gsm8k_nano_runs_on_real_records(tmp_path, capsys):
    arguments = ["run", "gsm8k-nano", "--out", str(tmp_path), "--json"]
    for override in ("optim.epochs=null", "optim.steps=2", "rows=40", "evaluation.limit=3"):
        arguments += ["--set", override]
    assert main(arguments) == 0
    board = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in board["rows"]} == {"nano", "nano + gsm8k"}
    assert {column["task"] for column in board["columns"]} == {"gsm8k", "hellaswag"}
    record = json.loads((tmp_path / "adapters" / "gsm8k" / "training.json").read_text())
    assert record["tasks"]["gsm8k"]["rows"] == 40
    assert record["tasks"]["gsm8k"]["parity_rows"] == 24
    sources = {json.loads(path.read_text())["dataset"]["source"] for path in tmp_path.glob("runs/*/run.json")}
    assert sources == {"mirror"}


def test_terminal_escapes_in_a_summary_are_shown_and_not_sent(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "tasks" / "evil"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text('summary: "\\e]0;pwn\\a\\e[31mred"\nversion: 1\n')
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    assert main(["list", "tasks"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out
    assert "\u241b]0;pwn" in out


@pytest.mark.parametrize("arguments", [["list"], ["show", "task", "nano_note", "--n", "0"]])
def test_a_closed_pipe_is_no_failure(arguments):
    code = "import sys; from slmbench.cli import main; sys.exit(main(sys.argv[1:]))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-u", "-c", code, *arguments], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_adapter_comes_to_light_before_anything_is_scored(tmp_path, capsys):
    arguments = ["eval", "nano", "--adapter", str(tmp_path / "nowhere"), "--tasks", "nano_choice"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_dry_run_knows_the_adapters(capsys):
    assert main(["train", "nano-quickstart", "--dry-run", "--adapter", "nope"]) == 2
    assert "has no adapter 'nope'" in capsys.readouterr().err


def test_a_dry_run_of_a_whole_recipe_writes_nothing_and_says_how_long_it_takes(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["run", "nano-quickstart", "--dry-run", "--adapter", "note", "--limit", "3", "--set", "rows=40"]
    assert main([*arguments, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "nano_note, 240 steps" in said and "choice" not in said.split("evaluation of")[0].replace("nano_choice", "")
    assert "time, steps alone: about" in said
    assert "evaluation of the base and 1 trained, each on 9 items" in said
    assert "time: at most about" in said
    assert not out.exists()


def test_a_run_takes_fewer_adapters_metrics_and_items_as_its_parts_do(tmp_path, capsys):
    few = ["--adapter", "note", "--metrics", "exact_match,accuracy", "--limit", "2"]
    small = ["--set", "rows=20", "--set", "adapters.note.steps=2", "--json"]
    assert main(["run", "nano-quickstart", *few, *small, "--out", str(tmp_path)]) == 0
    board = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in board["rows"]].count("nano") == 1 and len(board["rows"]) == 2
    metrics = {key.split("/")[1] for row in board["rows"] for key in row["scores"]}
    assert metrics == {"exact_match", "accuracy"}
    assert {score["n"] for row in board["rows"] for score in row["scores"].values()} == {2}


def test_a_dry_run_has_no_json(capsys):
    assert main(["run", "nano-quickstart", "--dry-run", "--json"]) == 2
    assert "--json prints the leaderboard" in capsys.readouterr().err
