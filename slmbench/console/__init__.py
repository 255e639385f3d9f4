"""What a person sees: the one writer of all output, and a moving line that tells what is under way.

Data goes to stdout, everything else to stderr. A stage (a phase such as loading, or a bar with a total) is shown on a
terminal as one line that moves, and that other lines don't break; in a log as a line now and then. The console is
found through a context variable, so that no call has to hand it on; if none is set, lines are written and stages
are silent, as a library should be.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol, TextIO

from slmbench.console._drawing import Drawing, terminal_size
from slmbench.visible import visible

TICK_S = 0.25
SHOWN_AFTER_S = 0.3
"""So long a terminal shows nothing: what is done by then needs no line."""
LOG_AFTER_S = 0.7
LOG_EVERY_S = 15.0
TOLD_FROM_S = 2.0
"""A phase that took so long leaves a line that says so."""
COLORS = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
_PAINT = re.compile(r"(\x1b\[(?:0|1|2|31|32|33|36)m)")


class StageTable(Protocol):
    """What a stage is shown as if one line doesn't tell it."""

    def words(self) -> str:
        """How far it is, for a log."""

    def lines(self, width: int, height: int) -> list[str]:
        """How far it is, as painted lines of at most so many columns, at most so many of them."""


class Stage:
    """Something under way for the length of a `with` block.

    total: how many `unit`s it has, None for a phase; before: those of them that an earlier process did. told: whether
    it may leave a line when it is over. heads: stages inside it are called after it.
    """

    def __init__(
        self,
        console: Console,
        name: str,
        total: int | None = None,
        unit: str = "",
        before: int = 0,
        told: bool = True,
        heads: bool = False,
    ) -> None:
        self._console = console
        self.told, self.heads = told, heads
        self.name, self.total, self.unit = visible(name), total, unit
        self.done = self.before = before
        self.started = self.logged = time.monotonic()
        self.is_logged = False
        self.table: StageTable | None = None

    def __enter__(self) -> Stage:
        self.started = self.logged = time.monotonic()
        self._console.begin(self)
        if self.before:
            _tell(self.unit, self.before)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._console.end(self, finished=kind is None)

    def expect(self, n: int) -> None:
        """n units more are to be done than was known."""
        self.total = (self.total or 0) + n
        self._console.refresh()

    def advance(self, n: int = 1) -> None:
        """n units more are done."""
        self.done += n
        self._console.refresh()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started

    def remaining_s(self) -> float | None:
        """How long what is left takes at the rate of what this process did; None if nothing tells."""
        new = self.done - self.before
        if self.total is None or new <= 0:
            return None
        return max(0, self.total - self.done) * self.seconds / new

    def line(self, width: int | None = None) -> str:
        """As one line; with a width, as a bar of at most so many columns."""
        if self.table is not None:
            return f"{self.name}, {duration(self.seconds)}: {self.table.words()}"
        if self.total is None:
            return f"{self.name} {self.seconds:.0f} s"
        if width is not None:
            return self._meter(width)
        left = self.remaining_s()
        text = f"{self.name}: {self.done:,}/{self.total:,} {self.unit} in {self.seconds:.0f} s"
        return text if not left or self.done >= self.total else f"{text}, about {duration(left)} left"

    def lines(self, width: int, height: int) -> list[str]:
        """As it is drawn on a terminal: painted lines of at most so many columns."""
        if self.table is not None:
            return self.table.lines(width, height)
        return [self.line(width)[:width]]

    def _meter(self, width: int) -> str:
        from tqdm import tqdm

        # tqdm counts what was there before neither in the rate nor in the time that is left.
        return str(
            tqdm.format_meter(
                min(self.done, self.total or 0),
                self.total,
                self.seconds,
                ncols=width,
                prefix=self.name,
                unit=f" {self.unit}",
                unit_scale=(self.total or 0) >= 10_000,
                initial=self.before,
            )
        )


class TakenBack(KeyboardInterrupt):
    """A Ctrl-C that takes back a line which was being typed."""


class Console:
    """Writes to stdout and stderr. live: whether stages are shown; without, only lines are written."""

    def __init__(self, *, live: bool = False) -> None:
        self._live = live
        self._lock = threading.RLock()
        self._stages: list[Stage] = []
        self._drawing = Drawing()
        self._redrawn = self._spoke = 0.0
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    @property
    def is_live(self) -> bool:
        return self._live

    def say(self, text: str) -> None:
        """A line for the person, on stderr."""
        self._write(sys.stderr, visible(text))

    def aside(self, text: str) -> None:
        """A line for the person that matters less, on stderr; on a terminal less bright."""
        self._write(sys.stderr, paint(text, "dim") if _colors(sys.stderr) else visible(text))

    def stream(self, text: str, keep: str = "") -> None:
        """A piece of a line of data, on stdout; what is written there next goes on where it ends."""
        self._write(sys.stdout, visible(text, keep), end="")

    def ask(self, prompt: str) -> str | None:
        """The next line of stdin without its line break, None at the end. On a terminal `prompt` stands before it.

        Bytes that are no text become signs. Raises KeyboardInterrupt, `TakenBack` where a line was being typed.
        """
        with self._lock:
            self._clear()
        if isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin.errors != "replace":
            sys.stdin.reconfigure(errors="replace")
        if is_typed() and sys.stdout.isatty():
            return self._ask_typed(visible(prompt))
        if is_typed():
            self._write(sys.stderr, visible(prompt), end="")
        line = sys.stdin.readline() if sys.stdin is not None else ""
        return line.rstrip("\r\n") if line else None

    def _ask_typed(self, prompt: str) -> str | None:
        typed = _line_editor()
        try:
            return input(prompt)
        except EOFError:
            self._write(sys.stderr, "")
            return None
        except KeyboardInterrupt:
            self._write(sys.stderr, "")
            if typed():
                raise TakenBack from None
            raise

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """For the length of the block no stage is shown: a person types where it would be drawn."""
        with self._lock:
            self._clear()
        live, self._live = self._live, False
        try:
            yield
        finally:
            self._live = live

    def show(self, text: str, keep: str = "", *, painted: bool = False) -> None:
        """A line of data, on stdout. painted: `paint` has made it; its colours go where nobody sees them."""
        if not painted:
            self._write(sys.stdout, visible(text, keep))
            return
        self._write(sys.stdout, _painted(text, keep, _colors(sys.stdout)))

    def show_json(self, value: object) -> None:
        """A value as JSON on stdout, in ASCII. Raises ValueError for NaN."""
        import json

        self._write(sys.stdout, json.dumps(value, indent=1, allow_nan=False))

    def begin(self, stage: Stage) -> None:
        """A stage is under way; the innermost one is shown."""
        with self._lock:
            head = next((one.name for one in reversed(self._stages) if one.heads), None)
            stage.name = stage.name if head is None else f"{head}: {stage.name}"
            self._stages.append(stage)
        self._tick(stage)

    def end(self, stage: Stage, *, finished: bool) -> None:
        """A stage is over; one that took its time, and came to its end, leaves a line."""
        with self._lock:
            self._stages.remove(stage)
        if self._live and finished:
            self._close(stage)
        self.refresh(at_once=True)

    def advanced(self, unit: str, n: int) -> None:
        """n more of a unit are done: the innermost bar that counts it moves."""
        with self._lock:
            counted = next((one for one in reversed(self._stages) if one.unit == unit), None)
        if counted is not None:
            counted.advance(n)

    def refresh(self, *, at_once: bool = False) -> None:
        """Draws what is under way, unless it was drawn just now."""
        now = time.monotonic()
        if self._live and (at_once or now - self._redrawn >= TICK_S / 2):
            with self._lock:
                self._tick(self._stages[-1] if self._stages else None)

    def __enter__(self) -> Console:
        if self._live:
            self._ticker = threading.Thread(target=self._run, name="console", daemon=True)
            self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        with self._lock:
            self._clear()

    def _run(self) -> None:
        while not self._ended.wait(TICK_S):
            self.refresh(at_once=True)

    def _tick(self, stage: Stage | None) -> None:
        if not self._live:
            return
        with self._lock:
            now = self._redrawn = time.monotonic()
            if moves():
                if stage is not None and now - self._began >= SHOWN_AFTER_S:
                    self._draw(stage)
                else:
                    self._clear()
            elif stage is not None and now - max(stage.logged, self._spoke) >= self._log_every_s(stage):
                stage.logged, stage.is_logged = now, True
                self._write(sys.stderr, stage.line())

    def _log_every_s(self, stage: Stage) -> float:
        """What stands around all else is told where nothing was, for a sign within seconds."""
        return LOG_AFTER_S if not stage.is_logged and (stage.told or not self._spoke) else LOG_EVERY_S

    def _close(self, stage: Stage) -> None:
        if stage.told and (stage.total is not None or stage.seconds >= TOLD_FROM_S):
            self._write(sys.stderr, stage.line(terminal_size()[0] if moves() else None))

    def _draw(self, stage: Stage) -> None:
        width, height = terminal_size()
        lines = stage.lines(width, height)[: max(1, height - 1)]
        self._drawing.draw([(_painted(line, "", False), _painted(line, "", _colors(sys.stderr))) for line in lines])

    def _clear(self) -> None:
        self._drawing.clear()

    def _write(self, stream: TextIO, text: str, end: str = "\n") -> None:
        with self._lock:
            self._clear()
            try:
                stream.write(text + end)
            except UnicodeEncodeError:  # A locale that lacks a character of the text.
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + end)
            stream.flush()
            if stream is sys.stderr:
                self._spoke = time.monotonic()


_CURRENT: ContextVar[Console | None] = ContextVar("console", default=None)


def current() -> Console:
    """The console of this context; if none is set, one that writes lines and shows no stages."""
    return _CURRENT.get() or Console()


@contextlib.contextmanager
def using(console: Console) -> Iterator[Console]:
    """For the length of the block, `console` is the current one."""
    token = _CURRENT.set(console)
    try:
        with console:
            yield console
    finally:
        _CURRENT.reset(token)


def say(text: str) -> None:
    """A line for the person, on stderr, safe to look at; a line that moves there is not broken."""
    current().say(text)


def show(text: str = "", keep: str = "", *, painted: bool = False) -> None:
    """A line of data on stdout, safe to look at. keep: control characters that stay. painted: see `paint`."""
    current().show(text, keep, painted=painted)


def show_json(value: object) -> None:
    """A value as JSON on stdout, in ASCII. Raises ValueError for NaN."""
    current().show_json(value)


def paint(text: str, *codes: str, keep: str = "") -> str:
    """text made safe to look at, in colour, for `show(..., painted=True)`. codes: names in `COLORS`."""
    return "".join(f"\x1b[{COLORS[code]}m" for code in codes) + visible(text, keep) + ("\x1b[0m" if codes else "")


def _painted(text: str, keep: str, colors: bool) -> str:
    """Painted text made safe to look at, with its colours or without."""
    # Every second part is an escape that `paint` writes; others are none of ours.
    parts = _PAINT.split(text)
    parts[::2] = [visible(part, keep) for part in parts[::2]]
    parts[1::2] = [part if colors else "" for part in parts[1::2]]
    return "".join(parts)


def phase(name: str, *, told: bool = True, heads: bool = False) -> Stage:
    """For the length of a `with` block, `name` is what is under way, with the seconds since it began."""
    return Stage(current(), name, told=told, heads=heads)


def bar(title: str, total: int, unit: str, *, before: int = 0, told: bool = True) -> Stage:
    """For the length of a `with` block, a bar of `total` units, which the block advances."""
    return Stage(current(), title, total, unit, before, told)


def board(title: str, table: StageTable) -> Stage:
    """For the length of a `with` block, a table is what is under way: drawn in place, in a log a line of its words."""
    stage = Stage(current(), title)
    stage.table = table
    return stage


def colored() -> bool:
    """Whether colours are seen on stdout."""
    return _colors(sys.stdout)


def _colors(stream: TextIO) -> bool:
    """Whether colours are seen there, or asked for."""
    return bool((stream.isatty() or os.environ.get("FORCE_COLOR")) and not os.environ.get("NO_COLOR"))


def _line_editor() -> Callable[[], str]:
    """Has lines edited, and come back with the arrow keys, where Python can do that; says what of one is typed."""
    try:
        import readline
    except ImportError:
        return str
    return readline.get_line_buffer


def is_typed() -> bool:
    """Whether stdin is a terminal, on which a person types."""
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError):  # It is closed, or not there.
        return False


def moves() -> bool:
    """Whether stderr is a terminal that can move its cursor."""
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # It is closed.
        return False


def duration(seconds: float) -> str:
    """Seconds as a person says them: `40 s`, `12 min`, `3.5 h`."""
    whole: Any = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole / 60:.0f} min" if whole < 7200 else f"{whole / 3600:.1f} h"


_WATCHER: ContextVar[Callable[[str, int], object] | None] = ContextVar("slmbench_watcher", default=None)


@contextlib.contextmanager
def watching(callback: Callable[[str, int], object]) -> Iterator[None]:
    """Has a callback told of progress inside: (what, how many more), as ("answers", 1); whatever it raises, ends it.

    what: answers of a model, steps of a training, programs of a sandbox; those that an earlier process did count too.
    """
    token = _WATCHER.set(callback)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def advanced(what: str, n: int = 1) -> None:
    """n more are done: moves the bar that counts them, and tells who is watching."""
    current().advanced(what, n)
    _tell(what, n)


def _tell(what: str, n: int) -> None:
    if (callback := _WATCHER.get()) is not None:
        callback(what, n)
