"""What a matrix's workers gain: 24 jobs by one worker and by two, and a group of adapters against separate commands.

    python benchmarks/matrix_throughput.py [--only jobs|group] [--limit 100] [--every 1] [--ray]

jobs: 24 copies of nano as bases of their own, one task each, are done by one worker and by two, each worker with one
thread and warm: it has done a job before. The share of the cores that nobody used just before stands beside each, as
two workers gain nothing where others have the cores. Overhead a job: its seconds in the driver's and the worker's
bookkeeping, model loading and data included, less the seconds that its run's record has.

group: nano and 8 adapters on it x 4 tasks, as one `slmbench matrix` and as 36 `slmbench eval` into one output folder,
each a process from its start to its end with the threads that it takes by itself. Scores and outputs have to be equal,
item by item. --every N does every Nth of the 36 commands alone and takes their mean for the others'.

--ray: the same 24 jobs by Ray on two nodes of one core each, on this machine, against the two local workers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _matrix import environment, idle_share, make_adapters, measured, slmbench

if TYPE_CHECKING:
    from slmbench.scheduling import Backend, JobBook

JOBS, GAIN, OVERHEAD_S, GROUP_GAIN, RAY_AT_MOST = 24, 1.8, 1.5, 2.5, 1.3
FREE = 0.95
ADAPTERS, TASKS = 8, ("nano_arithmetic", "nano_choice", "nano_code", "nano_note")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["jobs", "group"])
    parser.add_argument("--limit", type=int, default=100, help="items of each of the 24 jobs")
    parser.add_argument("--items", type=int, default=20, help="of each run of the group")
    parser.add_argument("--every", type=int, default=1, help="do every Nth of the separate commands alone")
    parser.add_argument("--ray", action="store_true", help="measure Ray on two nodes, too")
    parser.add_argument("--folder", type=Path, help="where all is made, in place of the system's temporary folder")
    parser.add_argument("--make", nargs=2, metavar=("WHAT", "PLACE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.make:
        make_adapters(Path(asked.make[1]) / "adapters", ADAPTERS)
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        place = Path(folder)
        os.environ.update(environment())
        if asked.only != "group":
            jobs(place / "jobs", asked.limit, asked.ray)
        if asked.only != "jobs":
            group(place / "group", asked.items, asked.every)


def told(what: str, value: str, held: bool | None = None) -> None:
    print(f"{what:46s} {value:58s} {({None: '', True: 'held', False: 'missed'})[held]}".rstrip(), flush=True)


def jobs(place: Path, limit: int, ray: bool) -> None:
    """24 jobs by one worker, by two, and perhaps by Ray."""
    from slmbench.scheduling import LocalPool, LocalResources
    from slmbench.workflow.matrix import RUNNER

    nano = Path(__file__).resolve().parent.parent / "slmbench" / "nano" / "model"
    for name in [f"n-{number:02}" for number in range(JOBS)] + ["w-0", "w-1"]:
        shutil.copytree(nano, place / name)
    took: dict[str, float] = {}

    def local(book: JobBook, workers: int) -> Backend:
        return LocalPool(book, RUNNER, LocalResources(workers=workers), environment=os.environ)

    for workers in (1, 2):
        idle = idle_share()
        seconds, overheads = done(place, f"local-{workers}", limit, workers, lambda book, n=workers: local(book, n))
        took[f"local-{workers}"] = seconds
        told(
            f"{JOBS} jobs of {limit} items, workers: {workers}",
            f"{seconds:.1f} s, {JOBS / seconds * 60:.0f} a minute; {idle:.0%} of the cores idle before",
        )
        told(
            "  overhead a job: median, most",
            f"{statistics.median(overheads):.2f} s, {max(overheads):.2f} s (at most {OVERHEAD_S} s)",
            statistics.median(overheads) <= OVERHEAD_S,
        )
        took[f"idle-{workers}"] = idle
    gain = took["local-1"] / took["local-2"]
    free = min(took["idle-1"], took["idle-2"]) >= FREE
    note = "" if free else f"; the cores weren't free ({FREE:.0%} idle asked for): says nothing"
    told("two workers over one", f"{gain:.2f} (at least {GAIN}){note}", gain >= GAIN if free else None)
    if ray:
        seconds = by_ray(place, limit)
        ratio = seconds / took["local-2"]
        told(
            "Ray on two nodes of a core over two workers",
            f"{ratio:.2f}, {seconds:.1f} s (at most {RAY_AT_MOST})",
            ratio <= RAY_AT_MOST,
        )


def done(place: Path, name: str, limit: int, workers: int, backend_of: Any) -> tuple[float, list[float]]:
    """(seconds from the first start to the last end of 24 jobs, the overhead of each). Every worker is warm before."""
    from slmbench.catalog import default_catalog
    from slmbench.scheduling import run_jobs
    from slmbench.workflow.matrix import MatrixPlan, ready_matrix

    def ready(models: list[str]) -> Any:
        grid = place / f"{name}-{models[0]}.yaml"
        listed = f"models: {json.dumps(models)}\ntasks: [nano_note]\nlimit: {limit}\n"
        grid.write_text(f"summary: Copies of nano.\n{listed}", encoding="utf-8")
        return ready_matrix(MatrixPlan(grid=str(grid), out=str(place / name)), default_catalog())

    warm, real = ready([f"w-{n}" for n in range(workers)]), ready([f"n-{n:02}" for n in range(JOBS)])
    backend = backend_of(real.book)
    for job in warm.missing:
        assert backend.fits(job)
        backend.start(job)
    left = len(warm.missing)
    while left:
        left -= len(backend.wait(1.0))
    begun = time.time()
    with contextlib.closing(backend):
        states = run_jobs(real.missing, real.book, backend)
    outcomes = [state.outcome for state in states if state.outcome is not None and state.state == "done"]
    assert len(outcomes) == JOBS, [state.reason for state in states if state.state != "done"]
    overheads = []
    for outcome in outcomes:
        own = [json.loads((place / name / run / "run.json").read_text()) for run in outcome.made.values()]
        overheads.append(outcome.seconds - sum(record["cost"]["seconds"] for record in own))
    return max(outcome.ended for outcome in outcomes) - begun, overheads


def by_ray(place: Path, limit: int) -> float:
    """Seconds of the same jobs on two nodes of one core each; the cluster and its workers' start are left out."""
    import ray
    from ray.cluster_utils import Cluster

    from slmbench.scheduling import RayBackend, RayResources
    from slmbench.workflow.matrix import RUNNER

    # Ray's own processes run at low priority, which beside other work would be measured in place of Ray.
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    node = {"num_cpus": 1, "memory": 4_000_000_000}
    short = tempfile.mkdtemp(prefix="slm")  # A socket's path has at most 107 characters.
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False, "temp_dir": short})
    cluster.add_node(**node)
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
        seconds, _ = done(
            place,
            "ray",
            limit,
            2,
            lambda book: RayBackend(book, RUNNER, RayResources(jobs=JOBS), environment={"HF_HUB_OFFLINE": "1"}),
        )
        return seconds
    finally:
        ray.shutdown()
        cluster.shutdown()
        shutil.rmtree(short, ignore_errors=True)


def group(place: Path, items: int, every: int) -> None:
    """A base and 8 adapters x 4 tasks, as one matrix and as separate commands."""
    place.mkdir()
    making = [sys.executable, __file__, "--make", "adapters", str(place)]
    subprocess.run(making, check=True, stderr=subprocess.DEVNULL)
    env, log = dict(os.environ), place / "log.txt"
    grid = place / "grid.yaml"
    listed = f'adapters: ["adapters/*"]\ntasks: {json.dumps(TASKS)}\nlimit: {items}\n'
    grid.write_text(f"summary: A base and adapters on it.\n{listed}", encoding="utf-8")
    measured(slmbench("eval", "nano", "--tasks", TASKS[3], "--limit", "2", "--out", str(place / "warm")), env, log)
    idle = idle_share()
    one = measured(slmbench("matrix", str(grid), "--out", str(place / "matrix")), env, log)
    told(
        f"one matrix of {(ADAPTERS + 1) * len(TASKS)} runs of {items} items",
        f"{one.seconds:.1f} s ({one.cpu_s:.1f} s CPU) with its leaderboard; {idle:.0%} of the cores idle before",
    )
    idle = idle_share()
    subjects: list[str | None] = [None, *sorted(str(path) for path in (place / "adapters").iterdir())]
    asked = [(who, task) for who in subjects for task in TASKS]
    seconds, cpu = [], []
    for number, (who, task) in enumerate(asked):
        # The bases' runs are there for the adapters' commands: without them each would make its own.
        if who is None or number % every == 0:
            adapter = ["--adapter", who] if who else []
            command = ["eval", "nano", *adapter, "--tasks", task, "--limit", str(items), "--out", str(place / "eval")]
            alone = measured(slmbench(*command), env, log)
            seconds.append(alone.seconds)
            cpu.append(alone.cpu_s)
    whole = statistics.fmean(seconds) * len(asked)
    whole_cpu = statistics.fmean(cpu) * len(asked)
    some = "" if len(seconds) == len(asked) else f", from the mean of {len(seconds)} of them"
    told(
        f"{len(asked)} separate commands",
        f"{whole:.1f} s ({whole_cpu:.1f} s CPU){some}; {idle:.0%} of the cores idle before",
    )
    ours, theirs = results(place / "matrix"), results(place / "eval")
    assert len(ours) == len(asked) and len(theirs) == len(seconds), (len(ours), len(theirs))
    odd = [key for key in theirs if ours[key] != theirs[key]]
    told("their results, item by item", f"{len(theirs) - len(odd)} of {len(theirs)} equal", not odd)
    told(
        "commands over matrix", f"{whole / one.seconds:.2f} (at least {GROUP_GAIN})", whole / one.seconds >= GROUP_GAIN
    )


def results(out: Path) -> dict[tuple[str, str], list[Any]]:
    """(adapter, task) -> each item's output and scores."""
    found = {}
    for path in sorted((out / "runs").iterdir()):
        record = json.loads((path / "run.json").read_text())
        lines = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
        key = (record["adapter"]["name"] if record["adapter"] else "", record["task"]["id"])
        found[key] = [[line["item_id"], line["output"], line["scores"]] for line in lines]
    return found


if __name__ == "__main__":
    main()
