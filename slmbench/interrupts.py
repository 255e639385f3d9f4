"""Ctrl-C and the polite kill (SIGINT, SIGTERM): at once where nothing is lost by it, after the step under way else."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from slmbench.console import current

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Whether the person has asked for an end. asked: how often."""

    def __init__(self) -> None:
        self.asked = 0

    def __bool__(self) -> bool:
        return self.asked > 0

    def taken(self) -> bool:
        """Whether it was asked for since this was called last."""
        asked, self.asked = self.asked, 0
        return asked > 0


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupt]:
    """For the length of the block SIGTERM does what Ctrl-C does: it raises KeyboardInterrupt.

    What is yielded says whether it came, also where a library made another error of it, as half-done imports do.
    """
    made = Interrupt()

    def raise_at_once(*_: object) -> None:
        made.asked += 1
        raise KeyboardInterrupt

    with _handled_by(raise_at_once):
        yield made


@contextlib.contextmanager
def stoppable() -> Iterator[Interrupt]:
    """For the length of the block Ctrl-C raises KeyboardInterrupt and is noted in what is yielded, and nowhere else.

    Whoever catches it takes the note (`taken`), and the program goes on; without a note the end was asked for in
    another way, as by SIGTERM.
    """
    made = Interrupt()

    def raise_at_once(*_: object) -> None:
        made.asked += 1
        raise KeyboardInterrupt

    with _handled_by(raise_at_once, (signal.SIGINT,)):
        yield made


class NotingHandler:
    """Of a signal: the first one is noted, and `first` is called; a second one raises KeyboardInterrupt at once."""

    def __init__(self, noted: Interrupt, first: Callable[[], object]) -> None:
        self.noted, self._first = noted, first

    def __call__(self, *_: object) -> None:
        self.noted.asked += 1
        if self.noted.asked > 1:
            raise KeyboardInterrupt
        self._first()


def is_noted(number: int) -> bool:
    """Whether a signal, or one that counts as it, was noted by what is ending now: one more would end that at once."""
    handler = signal.getsignal(number)
    return isinstance(handler, NotingHandler) and bool(handler.noted)


@contextlib.contextmanager
def deferred(noted: Interrupt, told: str, numbers: Sequence[int] = SIGNALS) -> Iterator[None]:
    """For the length of the block the first signal is noted and `told`; a second one raises KeyboardInterrupt at once.

    numbers: of the signals; what others do stays.

    The block looks at `noted` and ends itself. Where it has come to its own end instead, KeyboardInterrupt is raised
    after it. Outside the main thread, which alone gets signals, nothing is deferred.
    """
    console = current()

    def tell() -> None:
        # Not from here: the signal may have come in the middle of a write.
        threading.Thread(target=console.say, args=(told,), daemon=True).start()

    with _handled_by(NotingHandler(noted, tell), numbers):
        yield
    if noted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object], numbers: Sequence[int] = SIGNALS) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, kept in before.items():
            signal.signal(number, signal.SIG_DFL if kept is None else kept)
