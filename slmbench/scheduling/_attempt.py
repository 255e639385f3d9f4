"""One start of a job: the line that says so, signs of life while it goes on, and how it ended."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from attrs import asdict, evolve, frozen
from pydantic import Field

from slmbench.errors import FileError, SlmbenchError
from slmbench.files import write_atomically, write_json
from slmbench.foreign import Amount, Count, Foreign, SchemaOne, decode_json, parse, plain_lines
from slmbench.scheduling._job import Job
from slmbench.visible import visible

SIGN_S = 20.0
LOST_S = 90.0
"""After that long without a sign of life a process of another machine is taken for dead."""
LAST_LINES = 20
_STARTS = "starts.jsonl"


class JobOutcome(Foreign, extra="forbid"):
    """How a job ended.

    made: key of a result -> where it is; of a failed job too, as far as it came. reason: why it failed, one line.
    last_lines: of what it said. seconds: of the whole job. peaks: None where they can't be known.
    """

    version: SchemaOne = Field(default=1, alias="schema")
    status: Literal["done", "failed"]
    made: dict[str, str]
    reason: str | None = None
    last_lines: list[str] = Field(default_factory=list)
    seconds: Amount
    started: Amount
    ended: Amount
    host: str
    peak_memory_bytes: Count | None = None
    peak_gpu_bytes: Count | None = None


@frozen
class JobStart:
    """One start of a job. at: seconds since 1970; host: the machine's name; pid: the process.

    made: how many results it has by now, those that it found included. keeps: a pattern, below the output folder, of
    what the next one leaves as it goes on, as a training's checkpoints; '' for nothing. reached: the last of that, by
    name, that this start found. lost: whether another machine has waited for a sign of it in vain.
    """

    at: float
    host: str
    pid: int
    made: int = 0
    keeps: str = ""
    reached: str = ""
    lost: bool = False

    @property
    def progress(self) -> tuple[int, str]:
        """What is more if a job has come further."""
        return self.made, self.reached


class _StartLine(Foreign):
    at: Amount
    host: str
    pid: Count
    made: Count = 0
    keeps: str = ""
    reached: str = ""
    lost: bool = False


def starts_path(place: str) -> str:
    """The file of a job's starts. place: the job's folder."""
    return os.path.join(place, _STARTS)


def starts_in(place: str) -> list[JobStart]:
    """Every start of a job that had no end and that counts. A line that is cut off counts: it was begun."""
    try:
        lines = list(plain_lines(starts_path(place)))
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(JobStart(**parse(_StartLine, decode_json(line.rstrip(), place), place).model_dump()))
        except FileError:
            found.append(JobStart(0.0, "?", 0))
    return found


def counting(folder: str, starts: Sequence[JobStart]) -> list[JobStart]:
    """Those of a job's starts that count towards its being given up: of those before the last none if it came further.

    folder: of the bookkeeping. A start that was killed can't say itself how far it came; what it has kept does.
    """
    if len(starts) < 2 or not starts[-1].keeps:
        return list(starts)
    now = _last_kept(folder, starts[-1].keeps)
    further = (starts[-1].made, now) > max(one.progress for one in starts)
    return [evolve(starts[-1], reached=now)] if further else list(starts)


def _last_kept(folder: str, keeps: str) -> str:
    """The last name of what a pattern finds; '' if that is nothing."""
    out = os.path.dirname(os.path.abspath(folder))
    return max((os.path.basename(path) for path in glob.iglob(os.path.join(glob.escape(out), keeps))), default="")


def lines_of(starts: Sequence[JobStart]) -> bytes:
    """Starts as their file has them."""
    return b"".join(json.dumps(asdict(start)).encode() + b"\n" for start in starts)


def start_now() -> JobStart:
    """A start by this process at this moment."""
    return JobStart(time.time(), socket.gethostname(), os.getpid())


def last_lines(path: str) -> list[str]:
    """The last lines of a log, safe to show."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    # A moving line is redrawn after a carriage return: what stood last is what was seen.
    lines = [visible(line.rpartition("\r")[2])[:500] for line in text.rstrip().split("\n")]
    return [line for line in lines if line.strip()][-LAST_LINES:]


@contextlib.contextmanager
def giving_signs(sign: Callable[[], None]) -> Iterator[None]:
    """For the length of the block a thread gives a sign of life every SIGN_S. One that can't be given is left out."""
    ended = threading.Event()

    def give() -> None:
        while not ended.wait(SIGN_S):
            with contextlib.suppress(OSError, SlmbenchError):
                sign()

    signs = threading.Thread(target=give, daemon=True)
    signs.start()
    try:
        yield
    finally:
        ended.set()
        signs.join()


class JobAttempt:
    """A start of a job. It ends with `done` or `failed`; one that ends with neither was killed, and counts as that."""

    def __init__(self, folder: str, place: str, job: Job, earlier: Sequence[JobStart] = ()) -> None:
        """folder: of the bookkeeping. place: the job's folder. earlier: starts that count."""
        self.folder, self.place, self.job = folder, place, job
        self._mine, self._earlier = start_now(), list(earlier)

    @property
    def starts(self) -> int:
        """How often the job was begun since it last came further, this time included."""
        return len(self._earlier) + 1

    def begin(self) -> None:
        write_atomically(self._path, lines_of([*self._earlier, self._mine]))

    def went_on(self, made: int) -> None:
        """By now so many results are there, made or found."""
        self._comes_to(evolve(self._mine, made=made, keeps="", reached=""))

    def goes_on_from(self, keeps: str) -> None:
        """The next result may be there in part. keeps: as in `JobStart`."""
        self._comes_to(evolve(self._mine, keeps=keeps, reached=_last_kept(self.folder, keeps)))

    def _comes_to(self, mine: JobStart) -> None:
        """Writes down how far the job is. Starts that found it less far weren't in vain, and don't count any more."""
        self._mine = mine
        if self._mine.progress > max((one.progress for one in self._earlier), default=(0, "")):
            self._earlier = []
        write_atomically(self._path, lines_of([*self._earlier, self._mine]))

    @property
    def _path(self) -> str:
        return starts_path(self.place)

    def done(self, made: Mapping[str, str], **peaks: int | None) -> JobOutcome:
        return self._end("done", made, None, peaks)

    def failed(self, reason: str, made: Mapping[str, str], **peaks: int | None) -> JobOutcome:
        lines = [" ".join(line.split()) for line in reason.splitlines()]
        return self._end("failed", made, visible("; ".join(filter(None, lines)))[:2000], peaks)

    def _end(
        self,
        status: Literal["done", "failed"],
        made: Mapping[str, str],
        reason: str | None,
        peaks: Mapping[str, int | None],
    ) -> JobOutcome:
        ended = time.time()
        outcome = JobOutcome(
            status=status,
            made=dict(made),
            reason=reason,
            last_lines=last_lines(os.path.join(self.place, "log.txt")) if status == "failed" else [],
            seconds=max(0.0, ended - self._mine.at),
            started=self._mine.at,
            ended=ended,
            host=socket.gethostname(),
            peak_memory_bytes=peaks.get("peak_memory_bytes"),
            peak_gpu_bytes=peaks.get("peak_gpu_bytes"),
        )
        self.ended(outcome)
        return outcome

    def ended(self, outcome: JobOutcome) -> None:
        """Writes down how it ended, as this process or the one that did it has found."""
        write_json(os.path.join(self.place, "outcome.json"), outcome.model_dump(by_alias=True))
        with contextlib.suppress(OSError):
            os.unlink(self._path)
