"""A small matrix done by real workers: trained, scored with the base loaded once, ranked; and done no second time."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.leaderboard import load_runs
from slmbench.scheduling import EndedJob, Job, JobBook, do_job
from slmbench.workflow import matrix_ranked
from slmbench.workflow.matrix import MatrixPlan, MatrixResult, matrix_states, ready_matrix, run_matrix
from slmbench.workflow.matrix_jobs import run_matrix_job

GRID = """
summary: Two seeds of one adapter, and its base.
recipes:
  - recipe: nano-quickstart
    only: [note]
    set: {adapters.note.steps: 2, rows: 8, optim.batch: 2}
  - recipe: nano-quickstart
    only: [choice]
    set: {adapters.choice.steps: 2, rows: 8, optim.batch: 2, optim.lr: 1.0e+30, optim.warmup_steps: 0}
tasks: [nano_choice, nano_note]
limit: 2
seeds: 2
"""


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    return tmp_path


class Here:
    """Jobs done by this process, one after another; `tests/scheduling` has those of others."""

    def __init__(self, book: JobBook) -> None:
        self.book = book
        self.begun: list[str] = []
        self.ended: list[EndedJob] = []

    def fits(self, job: Job) -> bool:
        return not self.ended

    def start(self, job: Job) -> None:
        self.begun.append(job.key)
        do_job(self.book, job, run_matrix_job)
        self.ended.append(EndedJob(job.key))

    def wait(self, timeout_s: float) -> list[EndedJob]:
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        pass


def test_a_matrix_is_done_as_far_as_it_can_be_and_only_once(
    matrix: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, plan = default_catalog(), MatrixPlan(grid="grid.yaml", out="out")

    def run() -> MatrixResult:
        ready = ready_matrix(plan, catalog)
        return run_matrix(ready, catalog, backend=Here(ready.book))

    # One recipe learns so fast that its loss is NaN. What needs it is blocked, all else is done, of the same base too.
    first = run()
    assert first.board is not None and {row.name for row in first.board.rows} == {"nano", "nano + note"}
    assert len(list((matrix / "out" / "runs").iterdir())) == 6
    settings = {
        tuple(sorted(run.record["adapter"]["settings"].items()))
        for run in load_runs(matrix / "out")[0]
        if run.record["adapter"]
    }
    assert len(settings) == 1 and {("steps", "2"), ("rows", "8"), ("batch", "2"), ("lr", "0.008")} <= {*settings.pop()}
    [evaluation] = [one.job for one in first.states if one.state == "blocked"]
    assert len(evaluation.makes) == 10 and JobBook("out/matrix").job(evaluation.key) == evaluation
    assert sorted(one.state for one in first.states) == ["blocked", "done", "done", "failed", "failed"]
    assert all("loss" in str(one.reason) for one in first.states if one.state == "failed")
    assert main(["matrix", "status", "out"]) == 0
    told = capsys.readouterr()
    assert "alone: slmbench matrix run-job train-nano-quickstart" in told.err
    assert "2 done" in told.out and "1 blocked" in told.out

    good = GRID.partition("  - recipe: nano-quickstart\n    only: [choice]")[0] + GRID[GRID.index("tasks:") :]
    (matrix / "grid.yaml").write_text(good, encoding="utf-8")
    assert [one.state for one in run().states] == ["done", "done", "done"]
    board = json.loads((matrix / "out" / "leaderboard" / "leaderboard.json").read_text(encoding="utf-8"))
    assert {row["name"] for row in board["rows"]} == {"nano", "nano + note"}
    held_to_what_is_there(matrix / "out", run, monkeypatch, capsys)
    [tuned] = [row for row in board["rows"] if row["name"] == "nano + note"]
    assert sorted(tuned["seeds"]) == [0, 1]
    runs = sorted((matrix / "out" / "runs").iterdir())
    before = [run.stat().st_mtime_ns for run in runs]
    assert len(runs) == 6

    # Nothing is done twice, but what is gone is made again, and past runs tell what that takes.
    assert ready_matrix(plan, catalog).missing == ()
    shutil.rmtree(runs[0])
    [left] = ready_matrix(plan, catalog).missing
    assert len(left.makes) == 1 and left.forecast.seconds is not None and left.forecast.memory_bytes is not None
    planned = ready_matrix(plan, catalog)
    assert [one.state for one in run().states] == ["done", "done", "done"]
    assert [run.stat().st_mtime_ns for run in runs[1:]] == before[1:] and runs[0].is_dir()
    # Nor is what another process has made since it was planned.
    late = Here(planned.book)
    assert [one.state for one in run_matrix(planned, catalog, backend=late).states] == ["done", "done", "done"]
    assert late.begun == []
    # What the job had made before is not forgotten by its second outcome, which is of one result.
    assert ready_matrix(plan, catalog).missing == ()


def held_to_what_is_there(
    out: Path, run: Callable[[], MatrixResult], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A leaderboard is made again if any file that it depends on, or that it is, was changed, and else it isn't."""
    page = out / "leaderboard" / "index.html"
    note = out / "matrix" / "ranked.json"
    note.unlink(missing_ok=True)
    monkeypatch.setattr(matrix_ranked, "_SETTLED_NS", 10**18)  # All was changed just now, and is noted nowhere.
    assert run().board is not None and not note.exists()
    monkeypatch.setattr(matrix_ranked, "_SETTLED_NS", 0)
    assert run().board is not None and note.exists()
    before = page.stat().st_mtime_ns
    again = run()
    assert again.board is None and again.page is not None and page.samefile(again.page)
    assert page.stat().st_mtime_ns == before
    samples = next(out.glob("runs/*/samples.jsonl"))
    kept = samples.read_bytes()
    for change in (
        lambda: samples.write_bytes(kept.replace(b"0", b"1", 1)),  # Of the same size: it is left out, and told.
        lambda: samples.write_bytes(kept),
        lambda: page.write_text("nothing", encoding="utf-8"),
        lambda: (out / "leaderboard" / "leaderboard.csv").unlink(),
        lambda: note.write_text("{", encoding="utf-8"),
    ):
        change()
        made = run()
        assert made.board is not None and (made.faulty is None) == (samples.read_bytes() == kept)
    assert "nano + note" in page.read_text(encoding="utf-8")
    samples.write_bytes(kept.replace(b"0", b"1", 1))
    capsys.readouterr()
    assert main(["matrix", "grid.yaml", "--out", str(out)]) == 1
    assert "these runs are left out" in capsys.readouterr().err
    samples.write_bytes(kept)


def test_a_task_that_fails_in_one_format_leaves_its_job_failed_and_all_other_runs_made(
    matrix: Path, write_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_PATH", str(matrix))
    plugin = "def example(row):\n    raise ValueError('this row has no question')\n"
    write_task("broken", plugin=plugin, root=matrix)
    grid = "summary: One task fails.\nmodels: [nano]\ntasks: [broken, nano_choice]\nformats: [plain, chat]\nlimit: 2\n"
    (matrix / "grid.yaml").write_text(grid, encoding="utf-8")
    catalog = default_catalog()
    ready = ready_matrix(MatrixPlan(grid="grid.yaml", out="out"), catalog)
    result = run_matrix(ready, catalog, backend=Here(ready.book))
    [state] = result.failed
    assert str(state.reason).count("this row has no question") == 1
    assert "2 of 4 runs failed; `slmbench matrix` with `--rerun failed` tries them again" in str(state.reason)
    made = {(run.record["task"]["id"], run.record["format"]) for run in load_runs(matrix / "out")[0]}
    assert made == {("nano_choice", "plain"), ("nano_choice", "chat")}
    assert result.board is not None


def test_an_adapter_that_can_not_be_loaded_leaves_its_job_failed_and_all_other_runs_made(
    matrix: Path, nano: Any
) -> None:
    import peft

    for name in ("torn", "good"):
        config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
        model = peft.get_peft_model(nano.model, config)
        model.save_pretrained(matrix / name)
        model.unload()
        path = matrix / name / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "nano"}))
    grid = "summary: Two adapters.\nmodels: [nano]\nadapters: [torn, good]\ntasks: [nano_choice]\nlimit: 1\n"
    (matrix / "grid.yaml").write_text(grid, encoding="utf-8")
    catalog = default_catalog()
    ready = ready_matrix(MatrixPlan(grid="grid.yaml", out="out"), catalog)
    weights = matrix / "torn" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    [state] = run_matrix(ready, catalog, backend=Here(ready.book)).failed
    assert "nano_choice of nano + torn failed: " in str(state.reason)
    assert "1 of 3 runs failed" in str(state.reason)
    made = {(run.record["adapter"] or {"name": None})["name"] for run in load_runs(matrix / "out")[0]}
    assert made == {None, "good"}


class Told(Here):
    """Jobs that are done in no time, of which one recipe's trainings fail."""

    def start(self, job: Job) -> None:
        with self.book.attempt(job) as attempt:
            if job.work.get("only") == ["choice"]:
                attempt.failed("no", {})
            else:
                if job.kind == "train":
                    Path("out", job.key).mkdir(parents=True)
                attempt.done(dict.fromkeys(job.makes, job.key))
        self.ended.append(EndedJob(job.key))
        self.begun.append(job)

    def __init__(self, book: JobBook) -> None:
        super().__init__(book)
        self.begun: list[Job] = []
        self.is_open = True

    def fits(self, job: Job) -> bool:
        assert self.is_open
        return super().fits(job)

    def close(self) -> None:
        self.is_open = False


def test_of_a_base_all_is_scored_that_needs_no_training_that_failed(matrix: Path) -> None:
    catalog, plan = default_catalog(), MatrixPlan(grid="grid.yaml", out="out")
    ready = ready_matrix(plan, catalog)
    backend, seen = Told(ready.book), []
    result = run_matrix(ready, catalog, lambda states: seen.append(len(states)), backend)
    assert backend.is_open  # It is its giver's: what is done at the end needs it as well.
    [whole] = [one.job for one in result.states if one.state == "blocked"]
    [part] = [job for job in backend.begun if job.kind == "evaluate"]
    # Two tasks of the base and of two seeds; the other recipe's two have none.
    assert (part.key, len(part.makes), len(whole.makes)) == (whole.key, 6, 10) and set(seen) == {5}
    # It is planned as it was, and nothing is there of it that looks like an end.
    assert ready.book.job(whole.key) == whole and ready.book.outcome(whole.key) is None
    assert sorted(one.state for one in matrix_states("out")) == ["blocked", "done", "done", "failed", "failed"]


def test_a_matrix_as_a_script_has_a_line_a_job_by_waves(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "grid.yaml", "--emit", "shell", "--out", "the out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("# wave")] == ["# wave 1", "# wave 2"]
    commands = [line for line in lines if line.startswith("slmbench matrix run-job ")]
    assert len(commands) == 5 and all(line.endswith(f" --out '{matrix}/the out'") for line in commands)
    assert "run-job train-" in commands[0] and "run-job evaluate-" in commands[-1]
    assert main(["matrix", "grid.yaml", "--emit", "slurm", "--out", "o"]) == 0
    script = capsys.readouterr().out
    assert "--array=0-3" in script and "--dependency=afterany:$after" in script
    # What was written down there is done by its key alone, and after what it needs.
    key = next(name for name in os.listdir("o/matrix/jobs") if name.startswith("evaluate-"))
    assert main(["matrix", "run-job", key, "--out", "o"]) == 1
    told = capsys.readouterr().err.splitlines()
    first = re.escape("which isn't done yet; first: slmbench matrix run-job ")
    assert [bool(re.search(rf"{key} needs (train-\S+), {first}\1 --out o$", line)) for line in told[-4:]] == [True] * 4
    assert JobBook("o/matrix").outcome(key) is None
    assert main(["matrix", "run-job", "train-nothing", "--out", "o"]) == 2
    assert "no job 'train-nothing'" in capsys.readouterr().err


def test_a_dry_run_shows_many_seeds_of_a_recipe_as_one_row(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (matrix / "grid.yaml").write_text(GRID.replace("seeds: 2", "seeds: 6"), encoding="utf-8")
    assert main(["matrix", "grid.yaml", "--dry-run", "--out", "o"]) == 0
    said = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in said if line.startswith("train ")]
    assert [row[2:5] for row in rows] == [["6", "seeds", "6"]] * 2
    assert rows[0][1].startswith("nano-quickstart+choice(steps=2,rows=8,batch=2,lr=1e+30,")
    assert rows[1][1] == "nano-quickstart+note(steps=2,rows=8,batch=2),"
    assert [line.split()[1:4] for line in said if line.startswith("evaluate ")] == [["nano", "26", "52"]]
    assert said[-2:] == ["13 of 13 jobs, 38 results to make", "no past run tells of 13 jobs"]
    assert not (matrix / "o").exists()
