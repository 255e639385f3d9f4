"""Jobs done by processes of this machine, some of which fail, die, or are stopped."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from attrs import evolve

from slmbench.errors import SlmbenchError, UsageError
from slmbench.scheduling import (
    EndedJob,
    Job,
    JobBook,
    JobResults,
    JobState,
    LocalPool,
    LocalResources,
    TooManyStarts,
    _book,
    _driver,
    _pool,
    _run,
    do_job,
    in_order,
    job_from,
    logged,
    only_driver,
    run_jobs,
    slurm_script,
)
from slmbench.scheduling._waiting import LOOKED_AT
from slmbench.training import checkpoint_pattern
from tests.scheduling.conftest import run_alone

MakeJob = Callable[..., Job]
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


def test_jobs_that_a_matrix_has_no_more_are_left_out(book: JobBook, make_job: MakeJob) -> None:
    old, kept, other = make_job("old"), make_job("kept"), make_job("other")
    for job in (old, kept, other):
        book.plan(job)
    assert len(book.jobs()) == 3  # As an earlier version left it.
    book.settle("one", [old.key, kept.key])
    book.settle("two", [other.key])
    assert {job.name for job in book.jobs()} == {"old", "kept", "other"}
    book.settle("one", [kept.key, "evaluate-never-planned"])
    assert {job.name for job in book.jobs()} == {"kept", "other"}
    assert book.job(old.key) == old  # A script that names it still finds it.


def test_jobs_that_were_begun_are_those_with_an_end_or_a_death(book: JobBook, make_job: MakeJob) -> None:
    never, done, killed, put_back = make_job("never"), make_job("done"), make_job("killed"), make_job("put-back")
    book.plan(never)
    with book.attempt(done) as attempt:
        attempt.done({})
    with contextlib.suppress(RuntimeError), book.attempt(killed):
        raise RuntimeError
    with contextlib.suppress(KeyboardInterrupt), book.attempt(put_back):
        raise KeyboardInterrupt
    assert [job.name for job in book.begun()] == ["done", "killed"]


def test_one_process_at_a_time_does_a_job(book: JobBook, make_job: MakeJob) -> None:
    job = make_job("once")
    with book.attempt(job), pytest.raises(SlmbenchError, match="another process is writing"), book.attempt(job):
        pass


def test_a_job_of_another_machine_runs_while_it_gives_signs_of_life(book: JobBook, make_job: MakeJob) -> None:
    job = make_job("far")
    book.plan(job)
    place = Path(book.place(job.key))
    line = {"at": time.time(), "host": f"not-{socket.gethostname()}", "pid": 1}
    (place / "starts.jsonl").write_text(json.dumps(line) + "\n")
    (place / ".lock").touch()
    assert book.state(job).state == "running"
    os.utime(place / "starts.jsonl", (time.time() - 1000,) * 2)
    assert (book.state(job).state, book.state(job).starts) == ("planned", 1)


@contextlib.contextmanager
def touched(path: Path, at: float) -> Iterator[None]:
    """For the length of the block a file's time of change goes on, by a clock that is elsewhere."""
    ended = threading.Event()

    def touch() -> None:
        for n in itertools.count():
            os.utime(path, (at + n,) * 2)
            if ended.wait(0.05):
                return

    thread = threading.Thread(target=touch)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.parametrize("clock_s", [-1000, 1000])
def test_a_job_of_a_machine_with_a_wrong_clock_is_begun_once_no_sign_comes_any_more(
    book: JobBook, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, clock_s: float
) -> None:
    for module in (_book, _run):
        monkeypatch.setattr(module, "LOST_S", 0.4)
        monkeypatch.setattr(module, "POLL_S", 0.05)
    job = make_job("far")
    book.plan(job)
    starts = Path(book.place(job.key)) / "starts.jsonl"
    starts.write_text(json.dumps({"at": 1.0, "host": "far-away", "pid": 7}) + "\n")
    starts.with_name(".lock").touch()
    with touched(starts, time.time() + clock_s):
        with pytest.raises(SlmbenchError, match=r"far-away \(process 7\) does it"), JobBook(book.folder).attempt(job):
            pass
        seen: list[JobState] = []
        with pytest.raises(KeyboardInterrupt):
            run_jobs([job], book, Counting(book), stopped_after(seen, 1.0))
        assert {one.state for one in seen} == {"running"}
    assert [one.state for one in run_jobs([job], book, Counting(book))] == ["done"]


def stopped_after(seen: list[JobState], s: float) -> Callable[[Sequence[JobState]], None]:
    """A watcher that notes what it sees, and stops the work after a while."""
    end = time.monotonic() + s

    def watch(states: Sequence[JobState]) -> None:
        seen.extend(states)
        if time.monotonic() > end:
            raise KeyboardInterrupt

    return watch


def test_one_process_gives_out_jobs_and_one_that_was_killed_is_in_nobodys_way(
    book: JobBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_driver, "LOST_S", 0.4)
    path, here = Path(book.folder) / "driver.json", socket.gethostname()
    with only_driver(book):
        said = (
            rf"another process gives out its jobs \({here}, process {os.getpid()}\); `slmbench matrix status \S+` tells"
        )
        with pytest.raises(SlmbenchError, match=said):
            only_driver(book).__enter__()
        left = json.loads(path.read_text())
    assert not path.exists()
    path.write_text(json.dumps({**left, "pid": 2**22 + 1}))  # Killed: its lock is gone.
    with only_driver(book):
        pass
    path.write_text(json.dumps({**left, "host": "far-away", "pid": 7}))
    with touched(path, 5000.0), pytest.raises(SlmbenchError, match=r"\(far-away, process 7\)"):
        only_driver(book).__enter__()
    with only_driver(book):  # It gives no sign any more.
        assert json.loads(path.read_text())["host"] == here


def test_damaged_bookkeeping_costs_a_job_done_again_and_no_more(book: JobBook, make_job: MakeJob) -> None:
    job = make_job("damaged")
    with book.attempt(job) as attempt:
        attempt.done({"damaged": "damaged"})
    path = Path(book.place(job.key)) / "outcome.json"
    whole = path.read_bytes()
    for cut in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:cut])
        assert book.state(job).state == "planned"
    (Path(book.place(job.key)) / "job.json").write_text("{")
    book.plan(job)
    assert book.job(job.key) == job
    with pytest.raises(UsageError, match=r"no job 'evaluate-damage'.*did you mean"):
        book.job("evaluate-damage")


def test_a_log_shows_no_escapes_and_what_stood_last_on_a_moving_line(book: JobBook, make_job: MakeJob) -> None:
    job = make_job("log")
    book.plan(job)
    Path(book.log_path(job.key)).write_bytes(b"10%\r50%\rdone\n\x1b]0;title\x07\xff\n\n")
    assert book.last_lines(job.key)[0] == "done"
    assert "\x1b" not in "".join(book.last_lines(job.key))


def test_a_log_that_is_shown_has_all_and_shows_it(book: JobBook, capfd: pytest.CaptureFixture[str]) -> None:
    with logged(book, "before"):
        os.write(1, b"not shown\n")
    with logged(book, "key", shown=True):
        os.write(1, b"of a library\n")
        os.write(2, b"said")
    os.write(2, b" and after\n")
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "of a library\nsaid and after\n")
    assert Path(book.log_path("key")).read_text().partition("\n")[2] == "of a library\nsaid"


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


class Counting:
    """One job at a time, done at once by this process; counts how often it is asked what fits."""

    def __init__(self, book: JobBook, room: int = 1) -> None:
        self.book, self.room = book, room
        self.asked = 0
        self.ended: list[EndedJob] = []

    def fits(self, job: Job) -> bool:
        self.asked += 1
        return len(self.ended) < 1 and (job.forecast.memory_bytes or 0) <= self.room

    def start(self, job: Job) -> None:
        with self.book.attempt(job) as attempt:
            attempt.failed("no", {}) if job.work.get("fails") else attempt.done(dict.fromkeys(job.makes, "here"))
        self.ended.append(EndedJob(job.key))

    def wait(self, timeout_s: float) -> list[EndedJob]:
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        pass


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


def test_the_reason_of_a_failure_is_one_line_that_is_safe_to_show(book: JobBook, make_job: MakeJob) -> None:
    with book.attempt(make_job("fails")) as attempt:
        outcome = attempt.failed("torn:  9 bytes\n\n  1 of 3 runs\tfailed \x1b[2J", {})
    assert outcome.reason == "torn: 9 bytes; 1 of 3 runs failed \u241b[2J"


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


def test_a_death_counts_only_if_the_job_came_no_further_since_the_one_before(book: JobBook, make_job: MakeJob) -> None:
    job = make_job("far", ["a", "b"])
    checkpoints = Path(book.folder).parent / "trained" / "adapters" / f".far-{'0' * 12}.partial" / "checkpoints"

    def dies(*made: str, at: int = 0) -> tuple[str, int]:
        """What becomes of a job that finds results, goes on, and is killed when it has kept so many steps."""
        with contextlib.suppress(RuntimeError), book.attempt(job) as attempt:
            results = JobResults(attempt)
            for key in made:
                results.made(key, key)
            results.goes_on_from(checkpoint_pattern("trained", "far"))
            if at:
                (checkpoints / f"step-{at:08}").mkdir(parents=True)
            raise RuntimeError  # As if it were killed: it has no end.
        state = book.state(job)
        return state.state, state.starts

    assert dies() == ("planned", 1)
    for step in (20, 40, 60):  # Each keeps more than the one before.
        assert dies(at=step) == ("planned", 1)
    assert dies("a") == ("planned", 1)  # A result.
    assert dies("a", at=90) == ("planned", 1)
    assert dies("a") == ("failed", 2)  # What is found is no news, or it would go on without end.
    with pytest.raises(TooManyStarts, match="begun 2 times and killed each time"):
        dies("a", at=99)
