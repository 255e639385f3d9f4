"""The console: lines for a person are safe to look at, and a moving line is never broken by one."""

from __future__ import annotations

import io
import re
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


def rows_of(written: str, columns: int = 200) -> list[str]:
    """What a terminal of so many columns shows of what was written, with the escapes of a table that moves."""
    rows, at, row = [""], 0, 0
    for part in re.split(r"(\x1b\[\d*[A-Za-z]|\r|\n)", written):
        if part == "\r":
            at = 0
        elif part == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif part.endswith("A") and part.startswith("\x1b"):
            row = max(0, row - int(part[2:-1]))
        elif part == "\x1b[K":
            rows[row] = rows[row][:at]
        elif part == "\x1b[J":
            rows[row:] = [rows[row][:at]]
        else:
            assert at + len(part) <= columns
            rows[row] = rows[row].ljust(at)[:at] + part + rows[row][at + len(part) :]
            at += len(part)
    return [line.rstrip() for line in rows]


class Table:
    """A table of so many lines, each with how often it was drawn."""

    def __init__(self, n: int) -> None:
        self.n, self.drawn = n, 0

    def words(self) -> str:
        return f"{self.n} lines"

    def lines(self, width: int, height: int) -> list[str]:
        self.drawn += 1
        return [f"line {number} of drawing {self.drawn}" for number in range(self.n)]


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


def test_a_table_is_drawn_in_place_below_what_is_said_and_is_gone_at_the_end(monkeypatch):
    monkeypatch.setattr(console, "SHOWN_AFTER_S", 0.0)
    monkeypatch.setattr(console, "TICK_S", 60.0)  # It is drawn when the test says so.
    terminal, table = Terminal(), Table(3)
    monkeypatch.setattr("sys.stderr", terminal)
    with using(Console(live=True)), console.board("matrix", table):
        seen = []
        for said, lines in ((None, 3), ("job 1: done", 3), (None, 1), (None, 4), ("job 2: done", 2)):
            table.n = lines
            if said:
                say(said)
            console.current().refresh(at_once=True)
            seen.append([line for line in rows_of(terminal.getvalue()) if line])
            assert seen[-1][-lines:] == [f"line {n} of drawing {table.drawn}" for n in range(lines)]
        assert [len(lines) for lines in seen] == [3, 4, 2, 5, 4]
    assert rows_of(terminal.getvalue()) == ["job 1: done", "job 2: done", ""]


def test_a_table_is_no_higher_than_its_terminal_and_wrapped_rows_of_a_narrower_one_are_taken_away_too(monkeypatch):
    monkeypatch.setattr(console, "SHOWN_AFTER_S", 0.0)
    monkeypatch.setattr(console, "TICK_S", 60.0)
    terminal, table = Terminal(), Table(30)
    monkeypatch.setattr("sys.stderr", terminal)
    size = [40, 6]
    for module in (console, console._drawing):
        monkeypatch.setattr(module, "terminal_size", lambda: tuple(size))
    with using(Console(live=True)), console.board("matrix", table):
        console.current().refresh(at_once=True)
        assert len(rows_of(terminal.getvalue(), 40)) == 5
        written = len(terminal.getvalue())
        size[:] = [12, 20]  # Each of its lines of some 20 cells takes two rows of 13 now.
        say("so far")
        assert terminal.getvalue()[written:].startswith("\r\x1b[9A\x1b[J")


def test_a_table_is_a_line_of_words_in_a_log(monkeypatch, capsys):
    monkeypatch.setattr(console, "LOG_AFTER_S", 0.0)
    with using(Console(live=True)), console.board("matrix", Table(3)):
        console.current().refresh(at_once=True)
    assert capsys.readouterr().err.splitlines()[0] == "matrix, 0 s: 3 lines"


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
