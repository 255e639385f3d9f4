"""A sweep's points are data: what one process plans, another can do."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
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
import json, pickle, sys
ready, work, out = pickle.load(open(sys.argv[1], "rb"))
folders = work.train(ready.points[-1].recipe, out)
print(json.dumps([run.run_id for run in work.evaluate(ready.points[-1].recipe, folders)]))
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
    done = subprocess.run([sys.executable, "-c", CHILD, str(sent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout.splitlines()[-1])
    point = ready.points[-1]
    here = work.evaluate(point.recipe, work.train(point.recipe, str(tmp_path / "here")))
    assert [one.run_id for one in here] == there
    assert [one.record["adapter"] and one.record["adapter"]["rank"] for one in here] == [None, 4]
