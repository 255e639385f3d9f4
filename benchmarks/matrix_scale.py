"""A matrix of ten thousand runs: its expansion with a dry run, and a restart when all of it is done.

    python benchmarks/matrix_scale.py [--adapters 199] [--rounds 3] [--folder DIR]

200 subjects (nano and adapters on it) x 25 tasks x 2 formats. The finished runs are made of one real run of nano, ten
items long: its record with each one's own adapter, task and format, sealed, its samples and its item scores as they
are. Each command is a process of its own as a person runs it; of the rounds the fastest counts, the slowest stands
beside it. A restart is told in two: deciding that nothing is missing (`--dry-run`), and the whole command, which also
holds the leaderboard to what is there: when none was written yet, and when one was. The peer of deciding is GNU make,
which looks at as many files that are there and knows nothing of what is in them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from _matrix import best, environment, make_adapters, measured, slmbench

DRY_S, DRY_MB, RESTART_S = 3.0, 300.0, 5.0
TASKS = (
    "arc_challenge, arc_easy, boolq, commonsense_qa, gsm8k, hellaswag, human_eval, mbpp, mmlu, nano_arithmetic, "
    "nano_choice, nano_code, nano_note, nq_open, openbookqa, piqa, pubmed_qa, ropes, squad, winogrande, "
    "legal_summarization, medical_qa, medquad, icliniq, sumpubmed"
)
GRID = f"""
summary: Many adapters on many tasks.
models: [nano]
adapters: ["adapters/*"]
tasks: [{TASKS}]
formats: [plain, toon]
limit: 10
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=199)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where all is made, in place of the system's temporary folder")
    parser.add_argument("--make", nargs=2, metavar=("WHAT", "PLACE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        what, place = asked.make
        make_adapters(Path(place) / "adapters", asked.adapters) if what == "adapters" else make_finished(Path(place))
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        compare(Path(folder), asked.adapters, asked.rounds)


def compare(place: Path, adapters: int, rounds: int) -> None:
    env, log = environment(), place / "log.txt"
    grid, out = place / "grid.yaml", place / "out"
    grid.write_text(GRID, encoding="utf-8")

    def make(what: str) -> None:
        made = [sys.executable, __file__, "--make", what, str(place), "--adapters", str(adapters)]
        subprocess.run(made, check=True, env=env, stderr=subprocess.DEVNULL)

    def matrix(*more: str) -> list[str]:
        return slmbench("matrix", str(grid), "--out", str(out), *more)

    make("adapters")
    measured(matrix("--dry-run"), env, log)  # Bytecode is written.
    runs = (adapters + 1) * len(TASKS.split(", ")) * 2
    dry, slowest = best(rounds, matrix("--dry-run"), env, log)
    assert f"{runs} results to make" in dry.said, dry.said
    told(f"expansion and dry run of {runs:,} runs", f"{dry}, slowest {slowest:.2f} s", dry.seconds <= DRY_S)
    told("  its peak memory", f"{dry.peak_mb:.0f} MB (at most {DRY_MB:.0f})", dry.peak_mb <= DRY_MB)

    real = ["eval", "nano", "--adapter", str(place / "adapters" / "a-000"), "--tasks", "nano_note", "--limit", "10"]
    measured(slmbench(*real, "--out", str(place / "real")), env, log)
    make("finished")
    deciding, slowest = best(rounds, matrix("--dry-run"), env, log)
    assert "jobs, 0 results to make" in deciding.said, deciding.said
    told(
        f"restart over {runs:,} finished runs, deciding alone",
        f"{deciding}, slowest {slowest:.2f} s",
        deciding.seconds <= RESTART_S,
    )
    if make_path := shutil.which("make"):
        (place / "Makefile").write_text(makefile(out / "runs"), encoding="utf-8")
        peer, _ = best(rounds, [make_path, "-r", "-q", "-f", str(place / "Makefile"), "all"], env, log)
        told("  GNU make -q of as many files", f"{peer}; ours over it {deciding.seconds / peer.seconds:.1f}")
    first = measured(matrix(), env, log)
    told("restart, the leaderboard written for the first time", str(first))
    again, slowest = best(rounds, matrix(), env, log)
    told("restart, the whole command", f"{again}, slowest {slowest:.2f} s", again.seconds <= RESTART_S)
    board = json.loads((out / "leaderboard" / "leaderboard.json").read_text())
    assert len(board["rows"]) >= adapters + 1, len(board["rows"])


def told(what: str, value: str, held: bool | None = None) -> None:
    said = {None: "", True: "held", False: "missed"}[held]
    print(f"{what:58s} {value:52s} {said}".rstrip(), flush=True)


def makefile(runs: Path) -> str:
    return f"all: $(wildcard {runs}/*/run.json)\n"


def make_finished(place: Path) -> None:
    """The runs of the whole matrix, and the outcome of its job, in place/out."""
    from slmbench.catalog import default_catalog
    from slmbench.workflow.matrix import MatrixPlan, ready_matrix

    out = place / "out"
    ready = ready_matrix(MatrixPlan(grid=str(place / "grid.yaml"), out=str(out)), default_catalog())
    [real] = [path for path in (place / "real" / "runs").iterdir() if "+" in path.name]
    record = json.loads((real / "run.json").read_text())
    beside = {path.name: path.read_bytes() for path in real.iterdir() if path.name != "run.json"}
    made: dict[str, str] = {}
    for cell in ready.grid.cells:
        own = record_of(record, cell.subject.name, cell.task, cell.asking.format or "plain")
        folder = out / "runs" / own["run_id"]
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(own, indent=1), encoding="utf-8")
        for name, data in beside.items():
            (folder / name).write_bytes(data)
        made[cell.key] = f"runs/{own['run_id']}"
    for job in ready.jobs:
        outcomes(ready.book, job, [key for key in job.makes if key in made], made)


def outcomes(book: Any, job: Any, keys: Iterable[str], made: dict[str, str]) -> None:
    with book.attempt(job) as attempt:
        attempt.done({key: made[key] for key in keys})


def record_of(real: dict[str, Any], adapter: str, task: str, format: str) -> dict[str, Any]:
    """A real run's record as that of another adapter, task and format would be."""
    from slmbench.runs import RunIdentity, comparability_keys
    from slmbench.seal import canonical_sha256, sealed

    own = json.loads(json.dumps(real))
    if adapter:
        own["adapter"] |= {"name": adapter, "sha256": canonical_sha256(adapter)}
    else:
        own["adapter"] = None
    own["task"] |= {"id": task, "digest": canonical_sha256(task)}
    own["format"] = format
    own["dataset"] |= {"id": task, "items_sha256": canonical_sha256([task, "items"])}
    identity = {key: own.get(key) for key in RunIdentity.model_fields}
    own["comparability_key"] = comparability_keys(identity)[0]
    who = own["model"]["name"] + (f"+{adapter}" if adapter else "")
    own["run_id"] = f"{who}__{task}__{canonical_sha256([who, task, format])[:10]}"
    return sealed({key: value for key, value in own.items() if key != "record_sha256"})


if __name__ == "__main__":
    main()
