"""A training that is killed and started again ends with the adapter of one that was not, bit for bit."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

STEPS = 6
BASE = (
    f"optim.steps={STEPS}",
    f"adapters.multi.steps={STEPS}",
    f"adapters.note.steps={STEPS}",
    "evaluation.tasks=[nano_note]",
    "optim.batch=2",
    "optim.warmup_steps=2",
    "rows=16",
    "max_tokens=96",
    "checkpoint={every_steps: 2, keep: 2}",
    "log_every_steps=2",
    "lora.rank=4",
)
CASES = {
    "lora with dropout": ("lora.dropout=0.2", "optim.accumulate=2"),
    "dora, lora+, rslora, 8 bit states": (
        "lora.dora=true",
        "lora.rslora=true",
        "lora.lr_ratio=8",
        "lora.rank=32",
        "lora.dropout=0.1",
        "optim.optimizer=adamw_8bit",
    ),
    "qlora": ("method=qlora", "lora.dropout=0.1"),
    "full, 8 bit states": ("method=full", "optim.lr=1e-3", "optim.optimizer=adamw_8bit"),
    "mixed, packed, plateau": (
        "mixing={by: temperature, unit: tokens, temperature: 2}",
        "packing=true",
        "validation={rows: 4, every_steps: 2}",
        "optim.schedule=plateau",
        "optim.plateau_patience=0",
        "optim.gradient_checkpointing=true",
        "lora.dropout=0.1",
    ),
    "encoder-decoder": ("lora.targets=[q, v]", "optim.lr=1e-3", "lora.dropout=0.1"),
    "killed in a checkpoint": ("lora.dropout=0.2", "optim.accumulate=2"),
    "interrupted": ("lora.dropout=0.2", "optim.accumulate=2", "checkpoint.every_steps=100"),
    "disk full": ("lora.dropout=0.2", "optim.accumulate=2"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory, small_t5):
    top = tmp_path_factory.mktemp("killed")
    cases = []
    for number, (name, overrides) in enumerate(CASES.items()):
        rng = random.Random(f"kills {name}")
        # After a checkpoint; once before there is one, which has nothing to do with what is trained.
        kills = [*([1] if number == 0 else []), rng.randint(3, STEPS - 1)]
        at = {"killed in a checkpoint": "rename", "interrupted": "interrupt"}.get(name, "step")
        cases.append(
            {
                "name": name,
                "model": str(small_t5) if name == "encoder-decoder" else "nano",
                "adapter": "multi" if "mixed" in name else "note",
                "out": str(top / str(number)),
                "overrides": [*BASE, *overrides],
                "kills": {"rename": [4], "interrupt": [3]}.get(at, kills),
                "at": at,
                # Room for one checkpoint (about 560 kB), not for a second one beside it.
                "disk_kb": 900 if name == "disk full" else None,
            }
        )
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py"))],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [name for name in CASES if name != "disk full"])
def test_a_killed_training_ends_with_the_same_weights(results, name):
    whole, killed = results[name]["whole"], results[name]["killed"]
    assert killed["sha256"] == whole["sha256"]
    assert killed["curves"] == whole["curves"]
    assert killed["mixture"] == whole["mixture"]
    assert killed["resumed_from"] != [] and whole["resumed_from"] == []
    assert killed["left"] == whole["left"] and len(whole["left"]) == 1


def test_a_disk_that_is_full_at_a_checkpoint_is_an_error_that_loses_nothing(results):
    whole, full = results["disk full"]["whole"], results["disk full"]["killed"]
    if full is None:
        pytest.skip("needs the right to mount")
    assert "step-00000004: the disk is full; free some space and run the same command again" in full["said"]
    assert full["exit_code"] == 1
    # The checkpoint before is there, and nothing half written.
    (kept,) = [name for name in full["folders"] if "step" in name]
    assert re.fullmatch(r"adapters/\.note-\w+\.partial/checkpoints/step-00000002", kept)
    assert full["resumed_from"] == [2]
    assert full["sha256"] == whole["sha256"]
