"""The author of a task package: task, recipe and model in a wheel, installed, checked, trained, scored and ranked."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import slmbench
from slmbench.cli import main
from slmbench.paths import bundled_root
from tests.journeys.steps import board_of, runs_of, slmbench_offline

ENTRY_POINTS = "[slmbench.tasks]\ngreetings = slm_greetings\nbroken = slm_greetings.not_there\n"


def build_wheel(source: Path, to: Path) -> Path:
    """A wheel of a folder that holds a package, as a build tool writes it."""
    info = "slm_greetings-0.3.dist-info"
    files = {str(path.relative_to(source)): path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()}
    files |= {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: slm-greetings\nVersion: 0.3\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": ENTRY_POINTS.encode(),
    }
    lines = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in files.items()
    ]
    path = to / "slm_greetings-0.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{info}/RECORD", "".join(lines) + f"{info}/RECORD,,\n")
    return path


@pytest.mark.slow
def test_a_package_with_task_recipe_and_model_from_the_wheel_to_the_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], offline: list[str]
) -> None:
    package, site, out = tmp_path / "source" / "slm_greetings", tmp_path / "site", tmp_path / "out"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('a package is not imported to find its tasks')\n")
    assert main(["new", "task", "greet", "--to", str(package)]) == 0
    recipe = package / "registry" / "recipes" / "greet.yaml"
    recipe.write_text(recipe.read_text().replace("model: nano", "model: greeter"))
    (package / "registry" / "models").mkdir()
    shutil.copy(Path(bundled_root()) / "registry" / "models" / "nano.yaml", package / "registry/models/greeter.yaml")

    wheel = build_wheel(package.parent, tmp_path)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(site))
    capsys.readouterr()

    assert main(["list", "--json"]) == 0
    shown = capsys.readouterr()
    listed = {(entry["kind"], entry["name"]): entry["path"] for entry in json.loads(shown.out)}
    for kind, name in (("tasks", "greet"), ("recipes", "greet"), ("models", "greeter")):
        assert listed[kind, name].startswith(str(site / "slm_greetings"))
    assert ("tasks", "nano_note") in listed
    broken = "warning: package slm-greetings 0.3: entry point 'broken = slm_greetings.not_there' of slmbench.tasks"
    assert broken in shown.err

    assert main(["check", "greet", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["problems"] == [] and set(report["formats"].values()) == {"ok"}
    settings = ["--set", "optim.steps=3", "--set", "optim.warmup_steps=1"]
    assert main(["train", "greet", "--out", str(out), *settings]) == 0
    adapter = out / "adapters" / "greet"
    training = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
    assert (training["steps"], training["base"]["name"], list(training["tasks"])) == (3, "greeter", ["greet"])
    capsys.readouterr()

    def run(*words: str) -> str:
        places = os.pathsep.join([str(site), str(Path(slmbench.__file__).parents[1])])
        return slmbench_offline(offline, *words, PYTHONPATH=places).stdout

    words = ("eval", "greeter", "--adapter", str(adapter), "--tasks", "greet", "--limit", "3", "--out", str(out))
    records: list[dict[str, Any]] = json.loads(run(*words, "--json"))
    assert [record["task"]["package"] for record in records] == [{"name": "slm-greetings", "version": "0.3"}] * 2
    assert [record["adapter"] and record["adapter"]["name"] for record in records] == [None, "greet"]
    runs = runs_of(out)
    assert sorted(runs) == ["greeter", "greeter + greet"]
    board = {row["name"]: row for row in json.loads(run("leaderboard", str(out), "--json"))["rows"]}
    assert board == board_of(out / "leaderboard") and sorted(board) == sorted(runs)
    for name, record in runs.items():
        assert (record["dataset"]["n"], record["status"]) == (3, "ok")
        (cell,) = board[name]["scores"].values()
        (metric,) = record["samples"][0]["scores"]
        values = [sample["scores"][metric] for sample in record["samples"]]
        assert values == [float(sample["output"].strip() == sample["target"]) for sample in record["samples"]]
        assert (cell["n"], cell["value"]) == (3, pytest.approx(sum(values) / 3))
