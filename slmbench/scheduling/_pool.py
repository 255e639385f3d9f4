"""Workers on this machine: processes that stay, so that what they imported is there for the next job."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from attrs import define, frozen

from slmbench.console import say
from slmbench.errors import SlmbenchError
from slmbench.scheduling._book import JobBook
from slmbench.scheduling._job import Job

THREAD_NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
STOP_S = 600.0
"""So long a job that is stopped may take to finish a training's step and write its checkpoint."""
GRACE_S = 10.0
"""So long a worker that has no job may take to end."""
LOST_BEFORE_BEGUN = 3
"""After so many losses without a start in the book, as of a process that can't be begun, a job isn't given again."""


@frozen(kw_only=True)
class LocalResources:
    """What jobs may take of this machine. workers: at once. threads: of each. gpus: their numbers, one job each.

    memory_bytes: of all jobs together; None if it can't be known, and then it doesn't bound them.
    """

    workers: int
    threads: int = 1
    memory_bytes: int | None = None
    gpus: tuple[str, ...] = ()


@frozen
class EndedJob:
    """A job whose worker is free again. said: why it wasn't done, by the worker; died: how the worker ended instead."""

    key: str
    said: str | None = None
    died: str | None = None


@define(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    gpus: tuple[str, ...]
    job: Job | None = None
    buffer: bytes = b""

    @property
    def slots(self) -> int:
        return 0 if self.job is None else self.job.forecast.processes


class LocalPool:
    """Jobs on this machine, each in a process that does one at a time.

    A job that needs more memory than there is, or more processes than there are workers, runs alone. A worker that dies
    costs its own job alone.
    """

    def __init__(
        self, book: JobBook, runner: str, resources: LocalResources, *, environment: Mapping[str, str]
    ) -> None:
        self._book, self._runner, self._resources = book, runner, resources
        self._environment = {**environment, **dict.fromkeys(THREAD_NAMES, str(resources.threads))}
        self._workers: list[_Worker] = []
        self._losses: dict[str, int] = {}
        self._selector = selectors.DefaultSelector()

    def fits(self, job: Job) -> bool:
        """Whether a job can be begun now."""
        busy = [worker for worker in self._workers if worker.job is not None]
        if busy and sum(worker.slots for worker in busy) + job.forecast.processes > self._slots:
            return False
        limit = self._resources.memory_bytes
        if limit is None or not busy:
            return True
        taken = sum(self._memory(worker.job) for worker in busy if worker.job is not None)
        return taken + self._memory(job) <= limit

    @property
    def _slots(self) -> int:
        gpus = len(self._resources.gpus)
        return min(self._resources.workers, gpus) if gpus else self._resources.workers

    def _memory(self, job: Job) -> int:
        if job.forecast.memory_bytes is not None:
            return job.forecast.memory_bytes
        return (self._resources.memory_bytes or 0) // self._resources.workers

    def start(self, job: Job) -> None:
        """Gives a job to a free worker, or to a new one."""
        self._book.plan(job)
        worker = next((one for one in self._workers if one.job is None), None) or self._hire(job.forecast.processes)
        worker.job = job
        assert worker.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # It died while it was idle: `wait` tells.
            worker.process.stdin.write(f"{job.key}\n".encode())
            worker.process.stdin.flush()

    def _hire(self, processes: int) -> _Worker:
        taken = {gpu for worker in self._workers for gpu in worker.gpus}
        gpus = tuple(one for one in self._resources.gpus if one not in taken)[:processes]
        environment = {**self._environment, "CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else self._environment
        process = subprocess.Popen(
            [sys.executable, "-m", "slmbench.scheduling", self._book.folder, self._runner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            # Ctrl-C goes to a terminal's whole group: what becomes of the jobs is decided here.
            start_new_session=True,
        )
        worker = _Worker(process, gpus)
        self._workers.append(worker)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def wait(self, timeout_s: float) -> list[EndedJob]:
        """The jobs that ended since the last call, after at most so many seconds."""
        ended: list[EndedJob] = []
        for found, _ in self._selector.select(timeout_s):
            worker: _Worker = found.data
            data = os.read(found.fd, 65_536)
            if not data:
                ended += self._lost(worker)
                continue
            worker.buffer += data
            *lines, worker.buffer = worker.buffer.split(b"\n")
            for line in lines:
                key, _, said = line.decode("utf-8", "replace").partition(" ")
                worker.job = None
                ended.append(EndedJob(key, said or None))
                if worker.gpus:  # What CUDA holds goes with its process alone.
                    self._dismiss(worker)
        return ended

    def _lost(self, worker: _Worker) -> list[EndedJob]:
        self._dismiss(worker)
        if worker.job is None:
            return []
        key, code = worker.job.key, worker.process.returncode
        died = f"its process ended with code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                died = f"it was killed by {signal.Signals(-code).name}"
        if not self._book.starts(key) and self._book.outcome(key) is None:
            self._losses[key] = self._losses.get(key, 0) + 1
            if self._losses[key] >= LOST_BEFORE_BEGUN:
                said = f"it was given to {self._losses[key]} processes, each of which ended before it began: {died}"
                return [EndedJob(key, said)]
        return [EndedJob(key, died=died)]

    def _dismiss(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None and worker.process.stdin is not None
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.process.stdout)
        with contextlib.suppress(OSError):
            worker.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(GRACE_S)
        if worker.process.returncode is None:
            _kill(worker.process)
        worker.process.stdout.close()
        if worker in self._workers:
            self._workers.remove(worker)

    def close(self) -> None:
        """Ends all workers. Jobs that run are asked to put themselves back, and killed after STOP_S.

        A training finishes its step and writes a checkpoint first. A KeyboardInterrupt meanwhile kills them at once.
        """
        try:
            self._stop()
        finally:
            for worker in self._workers:
                if worker.process.poll() is None:
                    _kill(worker.process)
                    if worker.job is not None:
                        put_back(self._book, worker.job.key)
                for stream in (worker.process.stdin, worker.process.stdout):
                    if stream is not None:
                        with contextlib.suppress(OSError):
                            stream.close()
            self._workers = []
            self._selector.close()

    def _stop(self) -> None:
        """Asks all workers to end, and waits until they have, as long as what each does is worth."""
        for worker in self._workers:
            with contextlib.suppress(OSError):
                if worker.job is not None:
                    worker.process.terminate()
                elif worker.process.stdin is not None:
                    worker.process.stdin.close()
        begun = time.monotonic()
        if running := len(self.running):
            say(told_of_stop(running))
        for worker in self._workers:
            wait_s = GRACE_S if worker.job is None else STOP_S
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, begun + wait_s - time.monotonic()))

    @property
    def running(self) -> Sequence[str]:
        """Keys of the jobs under way."""
        return [worker.job.key for worker in self._workers if worker.job is not None]


def told_of_stop(running: int) -> str:
    """What a person who waits for a stop should know."""
    jobs, each = ("job", "it") if running == 1 else ("jobs", "each")
    return (
        f"stopping {running} {jobs}: {each} keeps the answers it has, and a training its current step, within "
        f"{STOP_S / 60:.0f} minutes; Ctrl-C again ends at once"
    )


def put_back(book: JobBook, key: str) -> None:
    """Of a job that was killed as it didn't stop in time, which says nothing of the job: as if it had never begun."""
    with contextlib.suppress(SlmbenchError):
        if book.outcome(key) is None:
            book.forget(key)


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Its children too, as programs of a sandbox: it has a session of its own.
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
