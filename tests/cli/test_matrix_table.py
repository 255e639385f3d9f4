"""What is shown of a matrix while its jobs run, and what `status` says of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from slmbench.cli._matrix_table import MatrixTable, progress_words
from slmbench.console.columns import display_width
from slmbench.scheduling import Job, JobBook, JobForecast, JobOutcome, JobState, State, job_of, progress_of

NOW = 1_000_000.0


def state_of(name: str, state: State, *, s: float | None = None, took: float | None = None, made: int = 0) -> JobState:
    job = job_of("evaluate", name, {"name": name}, [f"{name}{n}" for n in range(4)], forecast=JobForecast(seconds=s))
    outcome = None
    if took is not None:
        results = {key: key for key in job.makes}
        outcome = JobOutcome(status="done", made=results, seconds=took, started=0.0, ended=took, host="here")
    return JobState(job, state, 1, NOW - 10.0, outcome, made=made)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., MatrixTable]:
    return lambda moves=True: MatrixTable(JobBook(str(tmp_path)), (), 2, moves=moves)


def plain(lines: list[str]) -> list[str]:
    return [re.sub(r"\x1b\[\d+m", "", line) for line in lines]


def test_what_is_left_is_told_by_how_far_jobs_are_then_by_forecasts_then_by_those_that_are_done() -> None:
    half = state_of("half", "running", s=1000.0, made=2)  # In 10 s: 10 s more, whatever was forecast.
    begun = state_of("begun", "running", s=40.0)
    planned = state_of("planned", "planned")
    progress = progress_of([half, begun, planned], 2, now=NOW)
    assert (progress.seconds_left, progress.unknown) == (30.0, 1)
    done = state_of("done", "done", took=100.0)
    progress = progress_of([half, begun, planned, done], 1, now=NOW)
    assert (progress.seconds_left, progress.unknown) == (100.0, 0)  # One job is no faster with two workers.
    progress = progress_of([half, begun, planned, done, state_of("other", "planned")], 1, now=NOW)
    assert progress.seconds_left == (10.0 + 30.0 + 100.0 + 100.0) / 2
    assert progress_words(progress) == "2 planned, 2 running, 1 done; about 2 min left"
    assert progress_of([state_of("a", "planned")], 2, now=NOW).seconds_left is None
    assert progress_of([done], 2, now=NOW).seconds_left == 0.0
    assert progress_words(progress_of([done], 2, now=NOW)) == "1 done"


def test_what_needs_another_job_comes_after_it() -> None:
    train = state_of("train", "running", s=70.0)
    job: Job = job_of("evaluate", "x", {}, ["x"], needs=[train.job.key], forecast=JobForecast(seconds=5.0))
    assert progress_of([train, JobState(job, "planned")], 8, now=NOW).seconds_left == 65.0


@pytest.mark.parametrize("width", [1, 9, 24, 38, 60, 120])
def test_the_table_is_as_wide_and_high_as_it_may_be(table: Callable[..., MatrixTable], width: int) -> None:
    shown = table()
    names = ["a-model-of-a-long-name", "模型模型模型模型模型", "x"]
    states = [state_of(f"{name}{n}", "running", made=n % 4) for n in range(5) for name in names]
    shown.tell([*states, state_of("done", "done", took=8.0), state_of("bad", "failed"), state_of("next", "planned")])
    for height in (2, 3, 5, 9, 40):
        lines = shown.lines(width, height)
        assert all(display_width(line) <= width for line in plain(lines))
        assert len(lines) < height
    if width == 120:
        text = plain(shown.lines(width, 9))
        assert text[0].startswith("1 planned  15 running  1 done  1 failed  about ")
        assert text[1].split() == ["running", "of", "results", "for"] and text[-1] == "and 10 more"


def test_how_far_a_job_is_is_looked_up_in_its_folder(tmp_path: Path, table: Callable[..., MatrixTable]) -> None:
    book, state = JobBook(str(tmp_path)), state_of("far", "running")
    shown = table()
    shown.tell([state])
    with book.attempt(state.job) as attempt:
        attempt.went_on(3)
        assert plain(shown.lines(80, 24))[-1].split()[:3] == ["evaluate", "far", "3/4"]
        assert book.state(state.job).made == 3
        attempt.done({})


def test_lines_of_beginnings_are_for_logs(
    table: Callable[..., MatrixTable], capsys: pytest.CaptureFixture[str]
) -> None:
    for moves in (True, False):
        shown = table(moves)
        shown.tell([state_of("a", "running"), state_of("b", "planned")])
        shown.tell([state_of("a", "done", took=3.0), state_of("b", "blocked")])
        said = capsys.readouterr().err.splitlines()
        assert said[-2:] == ["evaluate a: done in 3 s", "evaluate b: blocked"]
        assert said[:-2] == ([] if moves else ["evaluate a: begun"])
