"""`slmbench chat` as people meet it: lines on a terminal or from a pipe, and Ctrl-C in the middle of an answer."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.models import load_model, read_adapter, resolve_model
from slmbench.routing import TaskTexts, fit_router, write_router
from tests.routing.conftest import _random_adapter

SUMS = [f"Ada has {n} marbles and buys {n + 2} more. How many marbles are there now?" for n in range(20)]
NOTES = [f"Review in {n} weeks: known asthma, takes salbutamol {n} mg, follow-up." for n in range(20)]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two random adapters of nano, and a router that sends sums to one and notes to the other."""
    top = tmp_path_factory.mktemp("chat")
    base = load_model(resolve_model("nano", default_catalog()))
    folders = {
        name: _random_adapter(base, top / name, seed, [task])
        for seed, (name, task) in enumerate({"sums": "nano_arithmetic", "notes": "nano_note"}.items())
    }
    texts = [
        TaskTexts(task, tuple(of[:12]), tuple(of[12:]), ())
        for task, of in {"nano_arithmetic": SUMS, "nano_note": NOTES}.items()
    ]
    infos = {name: read_adapter(str(folder)) for name, folder in folders.items()}
    router = fit_router(texts, infos, {"nano_arithmetic": "sums", "nano_note": "notes"}, base, head="tfidf")
    write_router(router, str(top / "router"))
    return {**folders, "router": top / "router"}


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """chat(lines, *arguments) -> (exit code, stdout, stderr), the lines from a pipe."""

    def run(lines: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
        code = main(["chat", "nano", "--max-tokens", "8", *map(str, arguments)])
        return (code, *capsys.readouterr())

    return run


def test_each_line_is_answered_on_stdout_and_all_else_is_told_on_stderr(chat: Any) -> None:
    code, out, err = chat("Hello\n\n/help\n/task nano_arithmetic\n2 + 2?\n/history\n/quit\nnever\n")
    assert code == 0 and len(out.splitlines()) == 2
    assert "nano alone answers; each message is a question of nano_arithmetic, in format plain" in err
    assert "/adapter NAME" in err and "you: Hello" in err and "never" not in err


def test_a_message_that_fails_is_told_and_the_next_is_answered(chat: Any) -> None:
    code, out, err = chat(f"/histroy\n{'dog ' * 3000}\nHello\n", "--json")
    assert code == 1
    lines = [json.loads(line) for line in out.splitlines()]
    assert ["error" in line for line in lines] == [True, True, False]
    assert "error: unknown command /histroy; did you mean 'history'?" in err
    assert "tokens long with its template, and 'nano' reads 1,024; shorten it" in err
    assert lines[2]["message"] == "Hello" and lines[2]["adapter"] is None and lines[2]["tokens_out"] > 0


def test_bytes_that_are_no_text_and_controls_in_answers_do_no_harm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slmbench.engines.streaming import StreamingWriter, TextSoFar

    def hostile(_: object, __: object, ids: object, wish: object, so_far: TextSoFar) -> Iterator[str]:
        so_far.text, so_far.reason = "a\x1b[2Jb\n\u202ec", "eos"
        yield so_far.text

    monkeypatch.setattr(StreamingWriter, "write", hostile)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\x00\x1b[31m?\n/history\n")))
    assert main(["chat", "nano"]) == 0
    out, err = capsys.readouterr()
    assert out == "a\u241b[2Jb\n\u27e8U+202E\u27e9c\n"
    assert "\x1b" not in err and "\u202e" not in err


def test_a_router_sends_each_message_to_an_adapter_and_says_which(chat: Any, adapters: dict[str, Path]) -> None:
    code, out, err = chat(
        f"{SUMS[0]}\n{NOTES[0]}\nqzx\n/adapter notes\n{SUMS[0]}\n/auto\n{SUMS[1]}\n",
        "--router",
        adapters["router"],
        "--json",
    )
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["adapter"] for line in lines] == ["sums", "notes", None, "notes", "sums"]
    assert [line["task"] for line in lines] == ["nano_arithmetic", "nano_note", None, None, "nano_arithmetic"]
    assert lines[3]["scores"] is None and lines[0]["scores"]["sums"] > 0.5
    assert "sums answers (" in err and "the base answers (nearest: " in err
    assert err.index("the router chooses who answers") < err.index("notes answers")


def test_the_first_adapter_answers_and_others_are_a_command_away(chat: Any, adapters: dict[str, Path]) -> None:
    two = ("--adapter", adapters["notes"], "--adapter", adapters["sums"], "--json")
    code, out, err = chat("Hi\n/adapter sums\nHi\n/base\nHi\n/adapter\n/adapter smus\n", *two)
    assert code == 1
    assert [json.loads(line).get("adapter", "error") for line in out.splitlines()] == ["notes", "sums", None, "error"]
    assert "unknown adapter 'smus'; did you mean 'sums'?" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--adapter", "auto"], "--adapter auto needs a router that chooses: give --router DIR"),
        (["--router", "nowhere"], "nowhere is not a router's folder"),
        (["--adapter", "nowhere"], "nowhere"),
        (["--temperature", "nan"], "nan is not a finite number from 0 on"),
        (["--adapter", "{notes}", "--adapter", "{notes}"], "two adapters of one name: "),
        (["--max-tokens", "0"], "Invalid value for '--max-tokens'"),
    ],
)
def test_what_cannot_be_opened_is_told(
    capsys: pytest.CaptureFixture[str], adapters: dict[str, Path], arguments: list[str], message: str
) -> None:
    given = [one.format(notes=adapters["notes"]) for one in arguments]
    assert main(["chat", "nano", *given]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


class Terminal:
    """`slmbench chat nano` on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        import pty

        self._end, child = pty.openpty()
        env = os.environ | {"TERM": "dumb"}
        words = [sys.executable, "-m", "slmbench", "chat", "nano", *arguments]
        # A session of its own, whose terminal this is: the keyboard's Ctrl-C is then a signal to the program.
        own = "os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        code = f"import fcntl, os, sys, termios; {own}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *words], stdin=child, stdout=child, stderr=child, env=env
        )
        os.close(child)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def until(self, text: str, seconds: float = 60) -> str:
        """What was shown up to a text; what is looked for next stands behind it."""
        import select

        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._end], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} wasn't shown: {self.seen!r}"
            try:
                self.seen += os.read(self._end, 65536).decode(errors="replace")
            except OSError:
                pytest.fail(f"{text!r} wasn't shown before the end: {self.seen!r}")
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> int:
        code = self.process.wait(timeout=30)
        os.close(self._end)
        return code


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of this kind are POSIX's")
def test_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    terminal = Terminal("--max-tokens", "900", "--temperature", "0")
    try:
        terminal.until("base> ")
        terminal.type("/task gsm8k\n")
        terminal.until("question of gsm8k")
        terminal.until("base> ")
        terminal.type("Hello\n")
        terminal.until("NedNed")
        terminal.type("\x03")
        told = terminal.until(", stopped")
        assert "Traceback" not in told and "interrupted" not in told
        terminal.until("base> ")
        terminal.type("/history\n")
        history = terminal.until("base> ")
        assert "you: Hello" in history and 0 < history.count("Ned") < 250
        terminal.type("half a line")
        terminal.until("half a line")
        # CPython's readline misses a signal that comes between its look for signals and its wait for a key: it then
        # waits for the next key. That is microseconds after the last one, which no person meets.
        time.sleep(0.3)
        terminal.type("\x03")  # Takes back what was typed, and does not count towards leaving.
        terminal.until("base> ")
        time.sleep(0.3)
        terminal.type("\x03")
        terminal.until("Ctrl-C once more, or Ctrl-D, leaves")
        terminal.until("base> ")
        time.sleep(0.3)
        terminal.type("\x03")
        assert terminal.close() == 0
    finally:
        terminal.process.kill()
