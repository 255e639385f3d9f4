"""Jobs on a Ray cluster of two nodes with a CPU each, both on this machine: some fail, die, lose node or driver."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slmbench.cli import main
from slmbench.errors import UsageError
from slmbench.scheduling import Job, JobBook, RayBackend, RayResources, StoreOptions
from tests.scheduling.conftest import RUNNERS, run_alone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs slmbench[ray]"),
]
MakeJob = Callable[..., Job]
MEMORY = 2_000_000_000
RAY_RUNNER = """
import ray
import runners_of_tests

def run(job, results):
    with open(job.work["to"] + "/asked-" + job.name, "a") as file:
        context = ray.get_runtime_context()
        file.write(f"{context.get_assigned_resources().get('memory', 0):.0f} {context.get_node_id()}\\n")
    runners_of_tests.run(job, results)

def run_below(job, results):
    import os
    import time
    out = os.path.dirname(results.folder)
    if job.work["reads"]:  # However busy the machine is, one doesn't end before the other begins.
        open(os.path.join(job.work["to"], f"{job.name}.here"), "w").close()
        until = time.monotonic() + 60
        while len([name for name in os.listdir(job.work["to"]) if name.endswith(".here")]) < 2:
            assert time.monotonic() < until, "the other job didn't begin"
            time.sleep(0.05)
    read = [open(f"{out}/runs/{name}/where").read() for name in job.work["reads"]]
    os.makedirs(f"{out}/runs/{job.name}")
    with open(f"{out}/runs/{job.name}/where", "w") as file:
        print(out, *read, file=file)
    results.made(job.name, f"runs/{job.name}")
"""
DRIVER = """
import contextlib, sys
from slmbench.scheduling import JobBook, RayBackend, RayResources, run_jobs

if __name__ == "__main__":
    book = JobBook(sys.argv[1])
    backend = RayBackend(book, "ray_runners:run", RayResources(jobs=9), environment={}, address=sys.argv[2])
    with contextlib.closing(backend):
        run_jobs(book.jobs(), book, backend)
"""
GRID = """
summary: An adapter, and its base.
recipes:
  - recipe: nano-quickstart
    only: [note]
    set: {adapters.note.steps: 2, rows: 8, optim.batch: 2}
tasks: [nano_choice]
limit: 2
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes, and this process connected to them."""
    import ray
    from ray.cluster_utils import Cluster

    modules = tmp_path_factory.mktemp("modules")
    (modules / "runners_of_tests.py").write_text(RUNNERS)
    (modules / "ray_runners.py").write_text(RAY_RUNNER)
    (modules / "driver.py").write_text(DRIVER)
    short = tempfile.mkdtemp(prefix="slm")  # A socket's path has at most 107 characters.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(modules))
        # Ray's processes run at low priority, and beside other tests would take a minute to begin.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 1, "memory": MEMORY}
        head = {**node, "include_dashboard": False, "temp_dir": short}
        found = Cluster(initialize_head=True, head_node_args=head)
        # What a node has for itself lies below its TMPDIR: two nodes, as two machines, have two.
        (Path(short) / "second").mkdir()
        node["env_vars"] = {"TMPDIR": str(Path(short) / "second")}
        found.add_node(**node)
        found.driver = str(modules / "driver.py")
        found.more = node
        try:
            ray.init(found.address, log_to_driver=False, logging_level="ERROR")
            yield found
        finally:
            ray.shutdown()
            found.shutdown()
            shutil.rmtree(short, ignore_errors=True)


@pytest.fixture
def make_backend(book: JobBook, cluster: Any) -> Callable[..., RayBackend]:
    def make(most: int | None = None) -> RayBackend:
        return RayBackend(book, "ray_runners:run", RayResources(jobs=9, most=most), environment={})

    return make


def made(tmp_path: Path, key: str) -> list[str]:
    path = tmp_path / "made" / key
    return path.read_text().splitlines() if path.exists() else []


def until(what: Callable[[], bool], s: float = 60) -> None:
    end = time.monotonic() + s
    while not what() and time.monotonic() < end:
        time.sleep(0.05)
    assert what()


def test_all_jobs_but_failed_ones_are_done_whatever_dies(
    tmp_path: Path, book: JobBook, make_job: MakeJob, make_backend: Callable[..., RayBackend]
) -> None:
    raises = make_job("raises", ["r1", "r2"], raises="r2")
    dies = make_job("dies", dies=9)
    once = make_job("once", dies=1)
    goes_on = make_job("goes-on", ["g1", "g2", "g3"], dies_after="g2")
    blocked = make_job("blocked", needs=[dies])
    good = [make_job(f"good{n}") for n in range(3)]
    jobs = [raises, dies, once, goes_on, blocked, *good]
    states = run_alone(jobs, book, make_backend())
    by_name = {state.job.name: state for state in states}
    assert {name: state.state for name, state in by_name.items()} == {
        **{"raises": "failed", "dies": "failed", "blocked": "blocked"},
        **dict.fromkeys(["once", "goes-on", "good0", "good1", "good2"], "done"),
    }
    assert by_name["raises"].reason == "the model has no such layer"
    assert "begun 2 times and killed each time" in str(by_name["dies"].reason)
    assert "begun dies for the 2 . time" in Path(book.log_path(dies.key)).read_text()
    # Each once, and by one thread where it has one CPU. (The runner of these tests makes again what it made before a
    # death; that of a matrix doesn't.)
    for key in ["once", "g3", "good0", "good1", "good2"]:
        assert [line.split()[1] for line in made(tmp_path, key)] == ["1"], key
    # Processes stay for the next job; a death that may have been for memory asks for twice as much.
    assert len({made(tmp_path, job.name)[0].split()[0] for job in good}) <= 2
    first, second = (int(line.split()[0]) for line in made(tmp_path, "asked-once"))
    assert second == 2 * first
    again = run_alone(jobs, book, make_backend())
    assert [state.state for state in again] == [state.state for state in states]
    assert len(made(tmp_path, "asked-once")) == 2


def test_a_job_whose_node_is_killed_is_done_on_another(
    tmp_path: Path, book: JobBook, cluster: Any, make_job: MakeJob, make_backend: Callable[..., RayBackend]
) -> None:
    # A process ends within a second or two of its node.
    jobs = [make_job(f"job{n}", [f"{n}a", f"{n}b"], sleeps_s=3) for n in range(2)]
    [node] = cluster.worker_nodes
    killed: list[str] = []

    def watch(states: object) -> None:
        here = [job for job in jobs if book.is_running(job.key) and on(job)[-1:] == [node.node_id]]
        if here and made(tmp_path, here[0].makes[0]) and not killed:
            cluster.remove_node(node, allow_graceful=False)
            killed.append(here[0].name)

    def on(job: Job) -> list[str]:
        return [line.split()[1] for line in made(tmp_path, f"asked-{job.name}")]

    try:
        states = run_alone(jobs, book, make_backend(), watch)
    finally:
        cluster.add_node(**cluster.more)
    assert killed and [state.state for state in states] == ["done"] * 2
    for job in jobs:
        assert len(on(job)) == 1 + (job.name in killed)
        assert len(made(tmp_path, job.makes[1])) == 1


def test_a_stop_puts_what_runs_back(book: JobBook, make_job: MakeJob, make_backend: Callable[..., RayBackend]) -> None:
    quick, slow = make_job("quick", s=99), make_job("slow", sleeps_s=60)

    def watch(states: object) -> None:
        if {state.state for state in states} == {"done", "running"} and book.is_running(slow.key):  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_alone([quick, slow], book, make_backend(), watch)
    assert book.state(quick).state == "done"
    assert (book.state(slow).state, book.state(slow).starts) == ("planned", 0)


def test_a_driver_that_is_killed_and_begun_again_does_nothing_twice(
    tmp_path: Path, book: JobBook, cluster: Any, make_job: MakeJob, make_backend: Callable[..., RayBackend]
) -> None:
    dies = make_job("dies-once", dies=1, s=9)
    jobs = [dies, *(make_job(f"job{n}", needs=[dies] if n else [], sleeps_s=1.2) for n in range(4))]
    for job in jobs:
        book.plan(job)
    command = [sys.executable, cluster.driver, book.folder, cluster.address]
    with open(tmp_path / "stdout", "wb") as stdout, open(tmp_path / "stderr", "wb") as stderr:
        driver = subprocess.Popen(command, stdout=stdout, stderr=stderr)
    until(lambda: book.outcome(dies.key) is not None)  # Before that, the driver's end would be its second death.
    until(lambda: any(book.is_running(job.key) for job in jobs))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    states = run_alone(jobs, book, make_backend())
    assert [state.state for state in states] == ["done"] * len(jobs)
    assert all(len(made(tmp_path, job.name)) == 1 for job in jobs)
    # A process died, which Ray tells in many words on the driver's stdout; here that is for data alone.
    assert (tmp_path / "stdout").read_bytes() == b""
    assert "died or was killed" in (Path(book.folder) / "ray.log").read_text()
    assert not list(Path(book.folder).glob(".probe-*-*"))


def test_a_node_with_another_slmbench_or_another_folder_gets_no_jobs(
    book: JobBook, make_backend: Callable[..., RayBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    from slmbench.scheduling import _ray_cluster

    own = _ray_cluster.own_facts()
    others = {**own, "versions": {**own["versions"], "torch": "1.0"}}
    monkeypatch.setattr(_ray_cluster, "own_facts", lambda: others)
    with pytest.raises(UsageError, match=r"node \S+ \(.*\): it has other packages: torch \S+ there, 1.0 here"):
        make_backend()
    monkeypatch.setattr(_ray_cluster, "own_facts", lambda: {**own, "digest": "0"})
    with pytest.raises(UsageError, match="has other files than the one here; install the same there"):
        make_backend()
    # There is one machine here, so what no node sees is a probe that was never written.
    monkeypatch.setattr(_ray_cluster, "own_facts", lambda: own)
    monkeypatch.setattr(_ray_cluster, "write_atomically", lambda path, data: None)
    monkeypatch.setattr(_ray_cluster, "PROBE_S", 0.0)
    with pytest.raises(UsageError, match=r"it doesn't see .*matrix, which all nodes have to share"):
        make_backend()


def test_a_matrix_is_done_on_a_cluster(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    assert main(["matrix", "grid.yaml", "--on", "ray", "--out", "out", "--json"]) == 0
    assert [job["state"] for job in json.loads(capfd.readouterr().out)["jobs"]] == ["done"] * 2
    board = json.loads((tmp_path / "out" / "leaderboard" / "leaderboard.json").read_text(encoding="utf-8"))
    assert {row["name"] for row in board["rows"]} == {"nano", "nano + note"}
    assert len(os.listdir(tmp_path / "out" / "runs")) == 2
    # There is nothing left to do, and nothing is looked for to do it.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main(["matrix", "grid.yaml", "--on", "ray", "--out", "out", "--json"]) == 0


def test_nodes_that_share_no_folder_hand_results_over_in_a_store(
    tmp_path: Path, cluster: Any, make_job: MakeJob
) -> None:
    is_read = make_job("is_read", reads=[])
    # Both begin when it is done, one on each node: one of them on another node than that which made it.
    reading = [make_job(f"reads{n}", needs=[is_read], reads=["is_read"]) for n in range(2)]
    book = JobBook(str(tmp_path / "out" / "matrix"))
    options = StoreOptions(
        url=f"file://{tmp_path}/store", reads=lambda job: [f"runs/{name}" for name in job.work["reads"]]
    )
    resources = RayResources(jobs=9)
    backend = RayBackend(book, "ray_runners:run_below", resources, environment={}, store=options)
    states = run_alone([is_read, *reading], book, backend)
    assert [state.reason for state in states] == [None] * 3
    [made_in] = (tmp_path / "out" / "runs" / "is_read" / "where").read_text().split()
    where = [(tmp_path / "out" / "runs" / job.name / "where").read_text().split() for job in reading]
    assert [read for _, read in where] == [made_in] * 2
    folders = {own for own, _ in where}
    assert len(folders) == 2 and made_in in folders and not any(one.startswith(str(tmp_path)) for one in folders)
    assert all(job.key in Path(book.log_path(job.key)).read_text() for job in reading)
    assert sorted(os.listdir(tmp_path / "store")) == ["jobs"]
    for folder in folders:
        shutil.rmtree(folder)


def test_where_jobs_are_done_is_known_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    assert main(["matrix", "grid.yaml", "--on", "rya"]) == 2
    assert "--on rya: expected local, ray, or ray://HOST:PORT" in capsys.readouterr().err
    for more, said in [
        (["--store", "s3://a/b"], "--store is for --on ray: workers of this machine share its disk"),
        (["--on", "ray", "--store", "a/b"], "--store a/b: expected a URL, as file:///shared/store"),
        (["--scratch", "a"], "--scratch is for --store"),
    ]:
        assert main(["matrix", "grid.yaml", *more]) == 2
        assert said in capsys.readouterr().err
