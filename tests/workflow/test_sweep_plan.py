"""A sweep's points are data: what one process plans, another can do."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.sweeps import run_point
from slmbench.workflow.recipes import RecipeOptions
from slmbench.workflow.run import RunPlan
from slmbench.workflow.sweep import PointWork, SweepPlan, ready_sweep

RECIPE = """summary: A few steps.
model: nano
adapters: {note: {tasks: [nano_note]}}
rows: 16
optim: {steps: 2, batch: 4}
evaluation: {tasks: [nano_choice], limit: 2}
"""
CHILD = """
import pickle, sys
from slmbench.sweeps import run_point
ready, work, out = pickle.load(open(sys.argv[1], "rb"))
pickle.dump(run_point(ready.points[-1], work, out), open(sys.argv[2], "wb"))
"""


@pytest.mark.slow
def test_a_point_worked_on_in_another_process_gives_the_same_runs(tmp_path: Path) -> None:
    recipe = tmp_path / "few.yaml"
    recipe.write_text(RECIPE)
    run = RunPlan(recipe=str(recipe), out=str(tmp_path / "out"), options=RecipeOptions())
    ready = ready_sweep(SweepPlan(run=run, over=("lora.rank=2,4",)), default_catalog())
    work = PointWork(plan=run, seed=ready.recipe.spec.seed, catalog=default_catalog())
    sent = tmp_path / "sent"
    sent.write_bytes(pickle.dumps((ready, work, str(tmp_path / "there"))))
    back = tmp_path / "back"
    done = subprocess.run([sys.executable, "-c", CHILD, str(sent), str(back)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there = pickle.loads(back.read_bytes())
    here = run_point(ready.points[-1], work, str(tmp_path / "here"))
    assert here.reason is None and there.point == here.point == ready.points[-1]
    runs = [[*one.base, *one.trained[0].runs] for one in (here, there)]
    assert [run.run_id for run in runs[0]] == [run.run_id for run in runs[1]]
    assert [run.record["adapter"] and run.record["adapter"]["rank"] for run in runs[0]] == [None, 4]
