"""Jobs done by processes of this machine, some of which fail, die, or are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from attrs import evolve

from slmbench.errors import UsageError
from slmbench.scheduling import (
    Job,
    JobBook,
    JobResults,
    JobState,
    LocalPool,
    LocalResources,
    _pool,
    do_job,
    in_order,
    job_from,
    run_jobs,
    slurm_script,
)
from slmbench.scheduling._waiting import LOOKED_AT
from tests.scheduling.conftest import Counting, MakeJob, run_alone

MakePool = Callable[..., LocalPool]


def made(tmp_path: Path, key: str) -> list[str]:
    """A line for each time that a result was made."""
    path = tmp_path / "made" / key
    return path.read_text().splitlines() if path.exists() else []


def test_what_is_needed_comes_first_then_the_longest(make_job: MakeJob) -> None:
    short, long = make_job("short", s=1), make_job("long", s=5)
    train = make_job("train", s=1)
    after = make_job("after", needs=[train], s=9)
    assert [job.name for job in in_order([after, short, long, train])] == ["train", "after", "long", "short"]
    assert [job.name for job in in_order([train, long, after, short])] == ["train", "after", "long", "short"]


def test_a_circle_and_a_job_that_is_not_there_are_refused(make_job: MakeJob) -> None:
    train = make_job("train")
    with pytest.raises(UsageError, match=r"needs evaluate-train-.* which isn't among the jobs"):
        in_order([make_job("after", needs=[train])])
    after = make_job("after", needs=[train])
    with pytest.raises(UsageError, match=rf"in a circle: {after.key}, {train.key}"):
        in_order([evolve(train, needs=(after.key,)), after])


def test_all_jobs_but_failed_ones_and_those_that_need_them_are_done(
    tmp_path: Path, book: JobBook, make_job: MakeJob, make_pool: MakePool
) -> None:
    raises = make_job("raises", ["r1", "r2"], raises="r2")
    breaks = make_job("breaks", breaks="breaks")
    dies = make_job("dies", dies=9)
    once = make_job("once", dies=1)
    goes_on = make_job("goes-on", ["g1", "g2", "g3"], dies_after="g2")
    blocked = make_job("blocked", needs=[dies])
    good = [make_job(f"good{n}") for n in range(4)]
    states = run_alone([raises, breaks, dies, once, goes_on, blocked, *good], book, make_pool())
    by_name = {state.job.name: state for state in states}
    assert {name: state.state for name, state in by_name.items()} == {
        "raises": "failed",
        "breaks": "failed",
        "dies": "failed",
        "blocked": "blocked",
        **dict.fromkeys(["once", "goes-on", "good0", "good1", "good2", "good3"], "done"),
    }
    assert by_name["raises"].reason == "the model has no such layer"
    assert by_name["raises"].outcome is not None and by_name["raises"].outcome.made == {"r1": "r1"}
    assert by_name["breaks"].reason == "KeyError: 'nothing'"
    assert any("KeyError" in line for line in by_name["breaks"].outcome.last_lines)  # type: ignore[union-attr]
    assert "begun 2 times and killed each time" in str(by_name["dies"].reason)
    assert len(made(tmp_path, "once")) == 1
    assert "begun dies for the 2 . time" in Path(book.log_path(dies.key)).read_text()
    threads = {line.split()[1] for state in states for key in state.job.makes for line in made(tmp_path, key)}
    assert threads == {"1"}
    # The same again: nothing is done twice, and a failure stays one until somebody says so.
    again = run_alone([raises, breaks, dies, once, goes_on, blocked, *good], book, make_pool())
    assert [state.state for state in again] == [state.state for state in states]
    assert all(len(made(tmp_path, f"good{n}")) == 1 for n in range(4))
    book.forget(dies.key)
    assert book.state(dies).state == "planned"


def test_a_worker_that_is_free_does_the_next_job(
    tmp_path: Path, book: JobBook, make_job: MakeJob, make_pool: MakePool
) -> None:
    jobs = [make_job(f"job{n}") for n in range(5)]
    run_alone(jobs, book, make_pool(workers=1))
    assert len({made(tmp_path, job.name)[0] for job in jobs}) == 1


def test_jobs_run_together_as_far_as_there_is_memory(book: JobBook, make_job: MakeJob, make_pool: MakePool) -> None:
    jobs = [make_job(f"job{n}", sleeps_s=0.05) for n in range(4)]
    most = [0]

    def watch(states: object) -> None:
        most[0] = max(most[0], sum(state.state == "running" for state in states))  # type: ignore[attr-defined]

    run_alone(jobs, book, make_pool(workers=4, memory_bytes=2), watch)
    assert most[0] == 2


def test_a_stop_puts_what_runs_back_and_leaves_what_is_done(
    tmp_path: Path, book: JobBook, make_job: MakeJob, make_pool: MakePool
) -> None:
    quick, slow = make_job("quick", s=99), make_job("slow", sleeps_s=60)

    def watch(states: object) -> None:
        if {state.state for state in states} == {"done", "running"} and book.is_running(slow.key):  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_alone([quick, slow], book, make_pool(), watch)
    assert book.state(quick).state == "done"
    assert (book.state(slow).state, book.state(slow).starts) == ("planned", 0)


def test_a_job_that_has_to_be_killed_at_a_stop_counts_as_never_begun(
    book: JobBook, make_job: MakeJob, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "STOP_S", 0.1)
    job = make_job("deaf", sleeps_s=60, deaf=True)
    pool = make_pool()
    pool.start(job)
    end = time.monotonic() + 30
    while not book.last_lines(job.key)[1:] and time.monotonic() < end:
        time.sleep(0.05)
    assert book.state(job).state == "running"
    pool.close()
    assert (book.state(job).state, book.state(job).starts) == ("planned", 0)


def test_a_stop_waits_until_a_training_has_kept_its_step_and_a_second_one_for_nothing(
    tmp_path: Path, book: JobBook, make_job: MakeJob, make_pool: MakePool, capsys: pytest.CaptureFixture[str]
) -> None:
    keeps, deaf = make_job("keeps", step_s=0.3), make_job("deaf", sleeps_s=60, deaf=True)
    pool = make_pool()
    for job in (keeps, deaf):
        pool.start(job)

    def wait_for(what: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not what() and time.monotonic() < end:
            time.sleep(0.05)

    wait_for(lambda: all(book.last_lines(job.key)[1:] for job in (keeps, deaf)))

    def stop_again() -> None:
        wait_for((tmp_path / "made" / "kept").exists)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop_again, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        pool.close()
    assert (tmp_path / "made" / "kept").exists()
    assert {(book.state(job).state, book.state(job).starts) for job in (keeps, deaf)} == {("planned", 0)}
    assert "stopping 2 jobs: each keeps the answers it has, and a training its current step" in capsys.readouterr().err


def test_a_worker_that_can_not_be_begun_is_not_begun_without_end(
    tmp_path: Path, book: JobBook, make_job: MakeJob, runners: dict[str, str]
) -> None:
    (tmp_path / "modules" / "sitecustomize.py").write_text("import os\nos._exit(3)\n")
    pool = LocalPool(book, "runners_of_tests:run", LocalResources(workers=1), environment=runners)
    job = make_job("never")
    [state] = run_alone([job], book, pool)
    assert (state.state, state.starts) == ("failed", 0)
    assert "3 processes, each of which ended before it began: its process ended with code 3" in str(state.reason)
    assert book.state(job).state == "planned"  # The next call tries it.


def test_a_worker_ends_with_its_parent(tmp_path: Path, book: JobBook, make_job: MakeJob, make_pool: MakePool) -> None:
    slow = make_job("slow", sleeps_s=60)
    pool = make_pool()
    pool.start(slow)
    end = time.monotonic() + 30
    while not book.is_running(slow.key) and time.monotonic() < end:
        time.sleep(0.05)
    pid = book.starts(slow.key)[0].pid
    worker = pool._workers[0]
    assert worker.process.stdin is not None
    worker.process.stdin.close()  # As if the parent had been killed.
    worker.process.wait(20)
    assert book.state(slow).state == "planned"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    worker.process.stdout.close()  # type: ignore[union-attr]


SBATCH = """#!/bin/bash
n=$(($(ls "$BATCHES" | wc -l) / 2 + 1))
echo "$@" > "$BATCHES/options$n"
cat > "$BATCHES/script$n"
echo $n
"""


def test_a_wave_that_is_too_long_for_one_array_is_several_that_the_next_wave_waits_for(
    tmp_path: Path, make_job: MakeJob
) -> None:
    for name, text in (("sbatch", SBATCH), ("do", '#!/bin/bash\necho "$@"\n')):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    batches = tmp_path / "batches"
    batches.mkdir()
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "BATCHES": str(batches)}
    first = [make_job(f"job{n}", s=9 - n) for n in range(5)]
    jobs = [*first, make_job("last", needs=first)]

    def run(script: str, **more: str) -> str:
        command = ["bash", "-c", script]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=True).stdout

    assert run(slurm_script(jobs, lambda key: ["do", key, "--out", "a b"], most=2)) == "the last arrays are 4\n"
    options = [(batches / f"options{n}").read_text() for n in (1, 2, 3, 4)]
    assert [line.split()[1] for line in options] == ["--array=0-1", "--array=0-1", "--array=0-0", "--array=0-0"]
    assert ["--dependency" in line for line in options] == [False, False, False, True]
    assert "--dependency=afterany:1:2:3" in options[3]
    script = (batches / "script2").read_text()
    assert [run(script, SLURM_ARRAY_TASK_ID=n) for n in "01"] == [f"{job.key} --out a b\n" for job in first[2:4]]
    assert slurm_script(jobs, lambda key: ["do", key]).count("sbatch ") == 2


@pytest.mark.parametrize(("sizes", "at_most"), [(1, 3), (1000, LOOKED_AT + 2)])
def test_what_a_job_costs_to_begin_does_not_grow_with_how_many_wait(
    book: JobBook, make_job: MakeJob, sizes: int, at_most: int
) -> None:
    count = 120
    jobs = [make_job(f"job{n}", s=n) for n in range(count)]
    sized = [evolve(job, forecast=evolve(job.forecast, memory_bytes=n % sizes)) for n, job in enumerate(jobs)]
    backend = Counting(book, room=1000)
    states = run_jobs(sized, book, backend)
    assert [state.job.key for state in states if state.state == "done"] == [job.key for job in in_order(sized)]
    assert backend.asked <= at_most * count


def test_a_job_that_needs_failed_ones_is_blocked_with_all_that_need_it_and_the_rest_goes_on(
    book: JobBook, make_job: MakeJob
) -> None:
    fails, good = make_job("fails", fails=True), make_job("good")
    both = make_job("both", needs=[good, fails])
    last, after = make_job("last", needs=[both]), make_job("after", needs=[good])
    states = run_jobs([last, both, after, fails, good], book, Counting(book))
    assert {state.job.name: state.state for state in states} == {
        "fails": "failed",
        "good": "done",
        "both": "blocked",
        "last": "blocked",
        "after": "done",
    }
    # Also of a failure that was there before, and as far as jobs may be begun at all.
    more = make_job("more", needs=[good])
    again = run_jobs([last, both, more, make_job("other"), fails, good], book, Counting(book), most=1)
    assert sorted(state.state for state in again) == ["blocked", "blocked", "done", "done", "failed", "planned"]


def test_a_job_without_room_waits_and_a_smaller_one_goes_first(book: JobBook, make_job: MakeJob) -> None:
    large, small = make_job("large", s=9), make_job("small", s=1)
    large = evolve(large, forecast=evolve(large.forecast, memory_bytes=5))
    states = run_jobs([large, small], book, Counting(book, room=2))
    assert {state.job.name: state.state for state in states} == {"large": "planned", "small": "done"}


def test_a_watcher_is_told_how_all_stand_at_the_end_however_long_it_takes(book: JobBook, make_job: MakeJob) -> None:
    seen: list[list[str]] = []

    def watch(states: Sequence[JobState]) -> None:
        seen.append([state.state for state in states])
        time.sleep(0.2)

    run_jobs([make_job(f"job{n}") for n in range(20)], book, Counting(book), watch)
    assert 2 <= len(seen) < 20 and seen[0].count("running") == 1 and set(seen[-1]) == {"done"}


def test_a_job_of_several_processes_takes_as_many_workers_and_the_cores_of_each(
    book: JobBook, make_job: MakeJob, make_pool: MakePool
) -> None:
    one, two, many = make_job("one"), make_job("two"), make_job("many")
    two, many = (evolve(job, forecast=evolve(job.forecast, processes=n)) for job, n in ((two, 2), (many, 9)))
    pool = make_pool(workers=3)
    try:
        assert pool.fits(one) and pool.fits(two) and pool.fits(many)  # With nothing beside it even too many.
        pool.start(two)
        assert pool.fits(one) and not pool.fits(two) and not pool.fits(many)
        pool.start(one)
        assert not pool.fits(one)
    finally:
        pool.close()
    assert job_from(json.loads(json.dumps(two.as_json())), "job.json").forecast.processes == 2
    script = slurm_script([one], lambda key: ["do", key, "--out", "/MONKEYS/a $b"])
    assert "exec do \\${keys[\\$SLURM_ARRAY_TASK_ID]} --out '/MONKEYS/a \\$b'\n" in script
    assert "--cpus-per-task=8 " in slurm_script([one, two], lambda key: ["do", key], cores=4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_makes_another_error_of_an_interrupt_has_not_failed(
    book: JobBook, make_job: MakeJob, number: signal.Signals
) -> None:
    def imports(job: Job, results: JobResults) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:  # As half-done imports do.
            raise ImportError("cannot load module more than once per process") from error

    job = make_job("stopped")
    with pytest.raises(KeyboardInterrupt):
        do_job(book, job, imports)
    assert (book.state(job).state, book.state(job).starts) == ("planned", 0)
