"""One training by several processes: the same adapter as by one, and what becomes of it if one of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from slmbench.catalog import default_catalog
from slmbench.console import watching
from slmbench.errors import DeclarationError, FileError, OfflineError, Problem, SlmbenchError, UsageError
from slmbench.machine import usable_cores
from slmbench.models import ModelSource, resolve_model
from slmbench.recipe import load_recipe
from slmbench.training import prepare_training
from slmbench.training._launch import Launched, TrainingCall, launch_training, outcome_of
from slmbench.training._mixing import plan_batches, shared_out

# 15 rows, 87 in all: the last of 15 steps has micro-batches of two rows and of one, of which one process has none.
RECIPE = (
    "optim.epochs=5.8",
    "rows=5",
    "optim.batch=3",
    "optim.accumulate=2",
    "optim.lr=5e-4",
    "optim.warmup_steps=1",
    "validation={rows: 2, every_steps: 4}",
    "checkpoint.every_steps=3",
    "log_every_steps=5",
)
needs_two_cores = pytest.mark.skipif(usable_cores() < 2, reason="two processes take a core each")


def _workers() -> dict[int, psutil.Process]:
    """rank -> process, of those that this one has started."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        if "slmbench.training" in child.cmdline():
            found[int(child.environ()["RANK"])] = child
    return found


def _tensors(folder):
    from safetensors.torch import load_file

    return load_file(Path(folder, "adapter_model.safetensors"))


def _train(out, *overrides, **options):
    from slmbench.training import train_adapter

    catalog = default_catalog()
    recipe = load_recipe("nano-quickstart", catalog, overrides)
    return train_adapter(recipe, "multi", catalog, resolve_model("nano", catalog), out=str(out), **options)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """What became of one training: by one process; by two of which one was killed, and which was asked for again."""
    top = tmp_path_factory.mktemp("launch")
    whole = _train(top / "one", *RECIPE)
    out, made, workers = top / "two", 0, {}

    def kill(what, n):
        nonlocal made
        made += n
        if made >= 4 and not workers:
            workers.update(_workers())
            workers[1].send_signal(signal.SIGKILL)

    with watching(kill), pytest.raises(SlmbenchError) as raised:
        _train(out, *RECIPE, "launch.processes=2")
    alive = [one for one in workers.values() if one.is_running()]
    left = sorted(re.sub(r"-\w{12}", "", str(path.relative_to(out))) for path in out.rglob("*/"))
    ended = _train(out, *RECIPE, "launch.processes=2")
    return {"whole": whole, "killed": raised.value, "pid": workers[1].pid, "alive": alive, "left": left, "ended": ended}


@needs_two_cores
def test_two_processes_give_the_adapter_of_one(story):
    one, two = _tensors(story["whole"]), _tensors(story["ended"])
    assert one.keys() == two.keys()
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    assert max(float(tensor.abs().max()) for name, tensor in one.items() if "lora_B" in name) > 1e-3


@needs_two_cores
def test_two_processes_have_the_curves_and_the_rows_of_one(story):
    one, two = (json.loads(Path(story[name], "training.json").read_text()) for name in ("whole", "ended"))
    assert (one["processes"], two["processes"], two["settings"]["launch"]) == (1, 2, {"processes": 2})
    assert two["mixture"] == one["mixture"] and two["identity_sha256"] == one["identity_sha256"]
    for kind in ("train", "validation"):
        assert len(one["curves"][kind]) == len(two["curves"][kind]) > 2
        for before, after in zip(one["curves"][kind], two["curves"][kind], strict=True):
            assert before["loss"] == pytest.approx(after["loss"], abs=1e-5)
            for task, part in before["tasks"].items():
                assert part["tokens"] == after["tasks"][task]["tokens"]
                assert part["loss"] == pytest.approx(after["tasks"][task]["loss"], abs=1e-5)


@needs_two_cores
def test_the_record_has_the_memory_of_each_process(story):
    memory = json.loads(Path(story["ended"], "training.json").read_text())["memory"]
    assert len(memory["processes"]) == 2
    assert memory["peak_ram_bytes"] == max(one["peak_ram_bytes"] for one in memory["processes"])
    assert all(one["peak_ram_bytes"] >= one["first_step_bytes"] > 100_000_000 for one in memory["processes"])


@needs_two_cores
def test_a_process_that_is_killed_ends_the_training_with_an_error_that_says_where_it_goes_on(story):
    said, worker = str(story["killed"]), story["pid"]
    assert story["killed"].exit_code == 1 and story["alive"] == []
    expected = (
        rf"multi: process 1 of 2 \(pid {worker}\) was killed by SIGKILL, as by a system that runs out of memory; "
    )
    expected += (
        r"the others were ended too, and the same command goes on from step (\d+) of 15, whose checkpoint is kept"
    )
    step = int(re.match(expected, said)[1])
    assert f"adapters/.multi.partial/checkpoints/step-{step:08d}" in story["left"]
    assert "adapters/multi" not in story["left"]
    resumed = json.loads(Path(story["ended"], "training.json").read_text())["resumed_from"]
    assert resumed == [step]
    assert sorted(os.listdir(Path(story["ended"]).parent)) == ["multi"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            [f"launch.processes={usable_cores() + 1}"],
            rf"launch.processes: is {usable_cores() + 1}, but this machine has {usable_cores()} cores?, and each "
            rf"process takes one; `--set launch.processes={usable_cores()}`",
        ),
        (["WORLD_SIZE"], "WORLD_SIZE: is 4, but slmbench starts the processes of a training itself"),
        pytest.param(
            ["launch.processes=2", "optim.batch=1", "optim.accumulate=6"],
            "optim.batch: 2 processes can't share a micro-batch of 1; the same step in larger ones: "
            "`--set optim.batch=2 --set optim.accumulate=3`",
            marks=needs_two_cores,
        ),
        pytest.param(
            ["launch.processes=2", "optim.batch=1", "optim.accumulate=1"],
            "launch.processes: is 2, but a step has 1 row; `--set launch.processes=1`",
            marks=needs_two_cores,
        ),
    ],
)
def test_what_several_processes_can_not_do_is_refused_before_any_is_started(overrides, said, tmp_path, monkeypatch):
    if overrides == ["WORLD_SIZE"]:
        monkeypatch.setenv("WORLD_SIZE", "4")
        overrides = ["launch.processes=2"]
    with pytest.raises(UsageError, match=said):
        _train(tmp_path, *RECIPE, *overrides)
    assert os.listdir(tmp_path) == []


def test_a_number_of_processes_is_held_to_its_schema(tmp_path):
    with pytest.raises(DeclarationError, match=r"launch\.processes"):
        load_recipe("nano-quickstart", default_catalog(), ["launch.processes=0"])
    recipe = load_recipe("nano-quickstart", default_catalog(), ["processes=3"])
    assert recipe.spec.launch.processes == 3
    assert recipe.digest_of("multi") == load_recipe("nano-quickstart", default_catalog()).digest_of("multi")


@needs_two_cores
def test_each_process_has_to_fit_into_its_share_of_the_memory():
    catalog = default_catalog()

    def prepare(*overrides):
        recipe = load_recipe("nano-quickstart", catalog, (*RECIPE, "launch.processes=2", *overrides))
        return prepare_training(recipe, "multi", catalog, resolve_model("nano", catalog))

    forecast = prepare().forecast
    largest = forecast.as_json()["largest_batch"]
    assert (largest["rows"], forecast.total_bytes > 100_000_000) == (2, True)
    with pytest.raises(UsageError) as raised:
        # Well above what one needs; how much this process itself holds by then differs between the two forecasts.
        prepare(f"memory_limit_gb={1.8 * forecast.total_bytes / 1e9}")
    assert re.match(r"each of the 2 processes of this training needs \d+\.\d+ GB \(", str(raised.value))
    assert f" {0.9 * forecast.total_bytes / 1e9:.2f} GB are allowed" in str(raised.value)  # Its half.
    assert " are allowed (memory_limit_gb) for it; " in str(raised.value)
    prepare(f"memory_limit_gb={2.5 * forecast.total_bytes / 1e9}")


class _Row(NamedTuple):
    length: int
    task: str = "a"


def test_rows_are_shared_out_whole_and_evenly():
    rows = [_Row(length) for length in (9, 1, 1, 1, 1, 1, 8, 3, 5)]
    parts = shared_out(range(9), rows, 3)
    assert sorted(place for part in parts for place in part) == list(range(9))
    assert sorted(sum(rows[place].length for place in part) for part in parts) == [10, 10, 10]
    assert all(list(part) == sorted(part) for part in parts)
    assert shared_out([4], rows, 3) == [(4,), (), ()]


def test_every_process_has_its_part_of_every_micro_batch():
    rows = [_Row(1 + 7 * number % 5) for number in range(11)]
    plan = plan_batches(rows, mixing=None, batch=4, accumulate=2, steps=5, epochs=None, seed=0)
    parts = [plan.part(rows, rank, 3) for rank in range(3)]
    assert plan.part(rows, 0, 1) == plan.batches
    for number, batch in enumerate(plan.batches):
        assert sorted(batch) == sorted(row for part in parts for row in part[number])
    largest = max(sum(rows[i].length for i in part[number]) for part in parts for number in range(10))
    assert sum(rows[i].length for i in plan.largest(rows, 3)) == largest


def test_a_call_goes_to_other_processes_and_back():
    catalog = default_catalog()
    recipe = load_recipe("task-adapters", catalog, ["launch.processes=2"], variant="qlora")
    source = ModelSource("a", "b", "c", lora_targets=("q", "v"), notices=("n",))
    call = TrainingCall(recipe, "gsm8k", catalog, source, out="o", data="samples", resume=False)
    back = TrainingCall.of_json(json.loads(json.dumps(call.as_json())))
    assert (back.recipe, back.source, back.name, back.out) == (recipe, source, "gsm8k", "o")
    assert (back.data, back.resume, back.catalog.roots) == ("samples", False, catalog.roots)
    assert back.catalog.plugin_modules == catalog.plugin_modules


def test_the_result_is_known_also_if_no_word_of_it_could_be_left(tmp_path, monkeypatch):
    monkeypatch.setattr(Launched, "run", lambda self: None)  # As if the folder of words had been on a full disk.
    catalog = default_catalog()
    recipe = load_recipe("nano-quickstart", catalog, ["launch.processes=2"])
    call = TrainingCall(recipe, "multi", catalog, ModelSource("a", "b", "c"), out=str(tmp_path))
    assert launch_training(call) == str(tmp_path / "adapters" / "multi")


# Stand-ins for the processes of a training: what these do is the launcher's to see, and takes no torch.
STAND_IN = """
import json, os, signal, sys, time
folder, rank = sys.argv[1], int(os.environ["RANK"])
def leave(value): open(os.path.join(folder, f"outcome-{rank}.json"), "w").write(json.dumps(value))
def stop(*_):
    leave({"interrupted": True})
    sys.exit(0)
signal.signal(signal.SIGINT, stop)
open(os.path.join(folder, f"there-{rank}"), "w").write(os.environ["OMP_NUM_THREADS"])
print("one line", file=sys.stderr, flush=True)
"""


def _launch(tmp_path, *lines):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN + "\n".join(lines))
    Launched("note", str(tmp_path), 2, "cpu", (str(script), str(tmp_path))).run()


def test_processes_share_the_cores_and_end_well(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    _launch(tmp_path)
    assert {(tmp_path / f"there-{rank}").read_text() for rank in (0, 1)} == {str(max(1, usable_cores() // 2))}


def test_an_interrupt_goes_to_all_processes_and_ends_here_when_they_have_ended(tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def interrupt():
        while not all((tmp_path / f"there-{rank}").exists() for rank in (0, 1)):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        _launch(tmp_path, "time.sleep(60)")
    assert all(json.loads((tmp_path / f"outcome-{rank}.json").read_text())["interrupted"] for rank in (0, 1))
    assert signal.getsignal(signal.SIGINT) == before


def test_an_error_that_is_no_refusal_is_told_with_the_last_lines_of_its_process(tmp_path):
    word = {"time": 1.0, "ours": False, "kind": "RuntimeError", "exit_code": 1, "said": "RuntimeError: it broke"}
    after = {**word, "time": 2.0, "said": "RuntimeError: Connection closed by peer"}
    with pytest.raises(SlmbenchError) as raised:
        _launch(tmp_path, f"leave(({after!r}, {word!r})[rank])", "sys.exit(1)")
    first, *lines = str(raised.value).splitlines()
    assert re.fullmatch(
        r"note: process 1 of 2 \(pid \d+\) failed: RuntimeError: it broke; .* begins from the start", first
    )
    assert lines == ["the last lines of its log:", "  one line"]


def test_a_refusal_of_a_process_is_raised_as_it_is(tmp_path):
    word = outcome_of(OfflineError("not here"), 1.0)
    with pytest.raises(OfflineError, match=r"^not here$") as raised:
        _launch(tmp_path, f"leave({word!r})", "time.sleep(60 * rank)", "sys.exit(4)")
    assert raised.value.exit_code == 4
    unlike = outcome_of(FileError([Problem("a.json", 0, 0, "broken")]), 1.0)
    with pytest.raises(UsageError, match=r"^a.json: broken$"):
        _launch(tmp_path, f"leave({unlike!r})", "sys.exit(2)")


def test_a_process_ends_when_the_one_that_started_it_is_gone_before_it_could_look(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (tmp_path / "call.json").write_text("{}")
    command = [sys.executable, "-m", "slmbench.training", str(tmp_path), gone.stdout.strip()]
    ended = subprocess.run(command, env={**os.environ, "RANK": "0"}, capture_output=True, timeout=60)
    assert ended.returncode == -signal.SIGKILL
