"""What is written down of jobs: starts, ends, signs of life, logs, and who gives them out."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from slmbench.errors import SlmbenchError, UsageError
from slmbench.scheduling import (
    JobBook,
    JobResults,
    JobState,
    TooManyStarts,
    _book,
    _driver,
    _run,
    logged,
    only_driver,
    run_jobs,
)
from slmbench.training import checkpoint_pattern
from tests.scheduling.conftest import Counting, MakeJob


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


def test_the_reason_of_a_failure_is_one_line_that_is_safe_to_show(book: JobBook, make_job: MakeJob) -> None:
    with book.attempt(make_job("fails")) as attempt:
        outcome = attempt.failed("torn:  9 bytes\n\n  1 of 3 runs\tfailed \x1b[2J", {})
    assert outcome.reason == "torn: 9 bytes; 1 of 3 runs failed \u241b[2J"


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
