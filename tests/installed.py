"""Run by tests/test_wheel.py: the installed wheel, away from the checkout, does without it, and what README shows runs.

python tests/installed.py EMPTY_FOLDER [--without-quickstart]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests" / "docs"))

from blocks import blocks_of  # noqa: E402


def check_quickstart(folder: Path, run: Callable[..., str]) -> None:
    """README's first command, whole: its adapters beat the base."""
    run("quickstart")
    quick = folder / "slmbench-quickstart" / "leaderboard"
    board = json.loads((quick / "leaderboard.json").read_text())
    scores = {row.get("adapter"): {key: cell["value"] for key, cell in row["scores"].items()} for row in board["rows"]}
    base = scores.pop(None)
    for adapters, column, floor in (
        (("arithmetic", "multi"), "nano_arithmetic/exact_match/strict", 0.90),
        (("note", "multi"), "nano_note/exact_match", 0.80),
        (("choice", "multi"), "nano_choice/accuracy", base["nano_choice/accuracy"] + 0.30),
    ):
        for adapter in adapters:
            assert scores[adapter][column] >= floor, (adapter, column, scores[adapter][column], floor)
    assert base["nano_arithmetic/exact_match/strict"] <= 0.05
    assert (quick / "index.html").stat().st_size > 10_000
    print(f"quickstart: {len(board['rows'])} rows, the adapters beat the base")


def main() -> None:
    folder = Path(sys.argv[1]) / "away"
    folder.mkdir(parents=True, exist_ok=True)
    command = str(Path(sys.executable).parent / "slmbench")
    # As a person has it: with other threads sums are made in another order, and what is trained is another adapter.
    ours = ("PYTHONPATH", "SLMBENCH_PATH", "SLMBENCH_CACHE", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")
    environment = {key: value for key, value in os.environ.items() if key not in ours}

    def run(*arguments: str) -> str:
        done = subprocess.run([command, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"slmbench {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}"
        return done.stdout

    def readme(words: str) -> None:
        """Runs the block of README that has these words, as a shell does."""
        (block,) = (one for one in blocks_of(CHECKOUT / "README.md") if words in one.text)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        command = ["bash", "-eu", "-c", block.text]
        done = subprocess.run(command, cwd=folder, env=environment | {"PATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, f"{block.place} ended with {done.returncode}:\n{done.stderr}"

    listed = json.loads(run("list", "--json"))
    paths = [Path(entry["path"]).resolve() for entry in listed if entry["path"]]
    names = {(entry["kind"], entry["name"]) for entry in listed}
    wanted = {("tasks", "gsm8k"), ("tasks", "nano_note"), ("recipes", "nano-quickstart"), ("models", "nano")}
    assert wanted <= names, wanted - names
    assert paths and not any(path.is_relative_to(CHECKOUT / part) for path in paths for part in ("tasks", "registry"))
    assert all("_bundled" in path.parts for path in paths)

    records = json.loads(run("eval", "nano", "--tasks", "nano_choice", "--limit", "4", "--json"))
    assert [record["status"] for record in records] == ["ok"]
    assert (folder / "slmbench-out" / "runs" / records[0]["run_id"] / "samples.jsonl").is_file()

    environment["HF_HUB_OFFLINE"] = "1"
    if "--without-quickstart" not in sys.argv:
        check_quickstart(folder, run)
        readme("slmbench compare nano nano+note --in slmbench-quickstart")
    readme("slmbench new task my_task")
    board = json.loads((folder / "slmbench-out" / "leaderboard" / "leaderboard.json").read_text())
    assert [row.get("adapter") for row in board["rows"]].count("my_task") == 1
    print(
        f"installed wheel: {len(listed)} entries, evaluation, a new task trained and ranked, all away from the checkout"
    )
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
