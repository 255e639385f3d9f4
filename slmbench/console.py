"""What a person sees: the one writer of all output, and a moving line that tells what is under way.

Data goes to stdout, everything else to stderr. A stage (a phase such as loading, or a bar with a total) is shown on a
terminal as one line that moves, and that other lines don't break; in a log as a line now and then. The console is
found through a context variable, so that no call has to hand it on; where none is set, lines are written and stages
are silent, as a library should be.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TextIO

from slmbench.visible import visible

TICK_S = 0.25
SHOWN_AFTER_S = 0.3
"""So long a terminal shows nothing: what is done by then needs no line."""
LOG_AFTER_S = 1.0
LOG_EVERY_S = 15.0
TOLD_FROM_S = 2.0
"""A phase that took so long leaves a line that says so."""
WIDTH = 100


class Stage:
    """Something under way. total: of `unit`s, None for a phase; before: those that an earlier process did."""

    def __init__(self, console: Console, name: str, total: int | None = None, unit: str = "", before: int = 0) -> None:
        self._console = console
        self.name, self.total, self.unit = visible(name), total, unit
        self.done = self.before = before
        self.started = self.logged = time.monotonic()
        self.is_logged = False

    def advance(self, n: int = 1) -> None:
        """n units more are done."""
        self.done += n
        self._console.refresh()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started

    def remaining_s(self) -> float | None:
        """How long what is left takes at the rate of what this process did; None where nothing tells."""
        new = self.done - self.before
        if self.total is None or new <= 0:
            return None
        return max(0, self.total - self.done) * self.seconds / new

    def line(self, width: int | None = None) -> str:
        """As one line; with a width, as a bar of at most so many columns."""
        if self.total is None:
            return f"{self.name} {self.seconds:.0f} s"
        if width is not None:
            return self._meter(width)
        left = self.remaining_s()
        text = f"{self.name}: {self.done:,}/{self.total:,} {self.unit} in {self.seconds:.0f} s"
        return text if not left or self.done >= self.total else f"{text}, about {_duration(left)} left"

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


class Console:
    """Writes to stdout and stderr. live: whether stages are shown; without, only lines are written."""

    def __init__(self, *, live: bool = False) -> None:
        self._live = live
        self._lock = threading.RLock()
        self._stages: list[Stage] = []
        self._drawn = 0
        self._redrawn = 0.0
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None

    def say(self, text: str) -> None:
        """A line for the person, on stderr."""
        self._write(sys.stderr, visible(text))

    def show(self, text: str) -> None:
        """A line of data, on stdout."""
        self._write(sys.stdout, visible(text, keep="\n\t"))

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "", before: int = 0) -> Iterator[Stage]:
        """Something is under way for the length of the block."""
        made = Stage(self, name, total, unit, before)
        with self._lock:
            self._stages.append(made)
        self._tick(made)
        finished = False
        try:
            yield made
            finished = True
        finally:
            with self._lock:
                self._stages.remove(made)
            if self._live and finished:
                self._close(made)
            self.refresh(at_once=True)

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
            if _moves():
                self._clear()
                if stage is not None and now - self._began >= SHOWN_AFTER_S:
                    self._draw(stage)
            elif stage is not None and now - stage.logged >= (LOG_EVERY_S if stage.is_logged else LOG_AFTER_S):
                stage.logged, stage.is_logged = now, True
                self._write(sys.stderr, stage.line())

    def _close(self, stage: Stage) -> None:
        told = stage.total is not None or stage.is_logged or stage.seconds >= TOLD_FROM_S
        if told:
            self._write(sys.stderr, stage.line(_width() if _moves() else None))

    def _draw(self, stage: Stage) -> None:
        width = _width()
        text = stage.line(width)[:width]
        self._drawn = len(text)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()

    def _clear(self) -> None:
        if self._drawn:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write("\r" + " " * self._drawn + "\r")
                sys.stderr.flush()
            self._drawn = 0

    def _write(self, stream: TextIO, text: str) -> None:
        with self._lock:
            self._clear()
            try:
                stream.write(text + "\n")
            except UnicodeEncodeError:  # A locale that lacks a character of the text.
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            stream.flush()


_CURRENT: ContextVar[Console | None] = ContextVar("console", default=None)


def current() -> Console:
    """The console of this context; where none is set, one that writes lines and shows no stages."""
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


def show(text: str) -> None:
    """A line of data on stdout, safe to look at."""
    current().show(text)


def phase(name: str) -> contextlib.AbstractContextManager[Stage]:
    """For the length of the block, `name` is what is under way, with the seconds since it began."""
    return current().stage(name)


def bar(title: str, total: int, unit: str, *, before: int = 0) -> contextlib.AbstractContextManager[Stage]:
    """For the length of the block, a bar of `total` units, which the block advances. before: of an earlier process."""
    return current().stage(title, total, unit, before)


def _moves() -> bool:
    """Whether stderr is a terminal that can move its cursor."""
    try:
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # It is closed.
        return False


def _width() -> int:
    try:
        return max(20, os.get_terminal_size(sys.stderr.fileno()).columns - 1)
    except (OSError, ValueError, AttributeError):
        return WIDTH


def _duration(seconds: float) -> str:
    whole: Any = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole / 60:.0f} min" if whole < 7200 else f"{whole / 3600:.1f} h"
