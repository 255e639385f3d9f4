"""The console: lines for a person are safe to look at, and a moving line is never broken by one."""

from __future__ import annotations

import io
import time

import pytest

from slmbench import console
from slmbench.console import Console, say, using

HOSTILE = "a\x1b[31mb\x07c\u202ed\ne"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def screen(written: str) -> list[str]:
    """What a terminal shows of what was written: each line as it stands after its carriage returns."""
    lines = []
    for line in written.split("\n"):
        cells: list[str] = []
        at = 0
        for character in line:
            if character == "\r":
                at = 0
                continue
            cells[at : at + 1] = [character]
            at += 1
        lines.append("".join(cells).rstrip())
    return lines


def test_say_works_where_no_console_is_set(capsys):
    say("all is well")
    assert capsys.readouterr() == ("", "all is well\n")


def test_nothing_that_is_said_moves_a_cursor_or_begins_a_line(capsys):
    say(HOSTILE)
    with using(Console(live=True)):
        say(HOSTILE)
    first, second, end = capsys.readouterr().err.split("\n")
    assert first == second and end == "" and first.isprintable() and "␛[31m" in first


def test_a_line_said_during_a_bar_leaves_both_whole(monkeypatch):
    monkeypatch.setattr(console, "SHOWN_AFTER_S", 0.0)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with using(Console(live=True)), console.bar("train a", 10, "steps") as bar:
        for step in range(10):
            bar.advance()
            console.current().refresh(at_once=True)
            if step == 4:
                say("step 5  loss 1.25")
    shown = screen(terminal.getvalue())
    assert shown[0] == "step 5  loss 1.25"
    assert "train a: 100%" in shown[1] and "10/10" in shown[1]
    assert shown[2:] == [""]


def test_a_silent_stage_is_told_in_a_log_within_seconds(monkeypatch, capsys):
    monkeypatch.setattr(console, "LOG_AFTER_S", 0.05)
    with using(Console(live=True)), console.phase("imports"):
        deadline = time.monotonic() + 10
        while not (told := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert told.startswith("imports 0 s")


def test_the_time_left_is_reckoned_without_what_was_done_before():
    stage = console.Stage(Console(), "train a", 1000, "steps", before=900)
    stage.started -= 10.0
    stage.advance(50)
    assert stage.remaining_s() == pytest.approx(10.0, rel=0.01)
    assert "950/1,000 steps in 10 s, about 10 s left" in stage.line()
    assert "00:10<00:10" in stage.line(100)


def test_a_library_call_shows_no_bar(capsys):
    with console.bar("train a", 2, "steps") as bar:
        bar.advance(2)
    assert capsys.readouterr() == ("", "")
