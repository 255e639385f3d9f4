"""Jobs on the nodes of a Ray cluster: a task each, on a node that was looked at before.

Ray is told to retry nothing: it would begin a job that was killed for memory again without end, and with the same
request. What dies is told to whoever gave the job, who looks into the book and gives it again, or doesn't.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from attrs import define, field, frozen

from slmbench.console import phase, say
from slmbench.errors import SlmbenchError, UsageError
from slmbench.scheduling._book import JobBook
from slmbench.scheduling._job import Job
from slmbench.scheduling._pool import LOST_BEFORE_BEGUN, STOP_S, EndedJob, put_back, told_of_stop
from slmbench.scheduling._ray_cluster import RayNode, RayNodes
from slmbench.scheduling._ray_node import do_on_node
from slmbench.scheduling._stored import StoredJobs, StoreOptions

INSTALL = "pip install 'slmbench[ray]'"
KILL_S = 5.0
SEEN_S = 60.0
"""So long the end of a job may take to be seen here, on a network's folder."""
NO_NODE_S = 60.0
"""So long a cluster may be without any node for a job before that is an error."""
MARGIN = 1.25
"""Memory that is asked for, by what past runs took."""


@frozen(kw_only=True)
class RayResources:
    """What jobs may take of a cluster. jobs: how many there are; fewer than CPUs get several each. most: at once.

    jobs_a_process: on a CPU, so that torch isn't imported for each; on a GPU a process always does one.
    """

    jobs: int
    most: int | None = None
    jobs_a_process: int = 16


@define(eq=False)
class _Given:
    """A job that was given to a node, and what was asked for it."""

    job: Job
    node: RayNode
    cpus: int
    gpus: int
    memory_bytes: int
    said: str | None = None
    seen_by: float = field(init=False, default=0.0)


class RayBackend:
    """Jobs on a cluster's nodes, which share the book's folder with this process, or a store.

    A job's memory is what past runs took and a quarter more, or, where nothing tells, its node's memory by its share of
    the CPUs; after a death that may have been for memory it is twice that. Where nodes have GPUs, every job gets one.
    """

    def __init__(
        self,
        book: JobBook,
        runner: str,
        resources: RayResources,
        *,
        environment: Mapping[str, str],
        address: str | None = None,
        store: StoreOptions | None = None,
    ) -> None:
        """address: as `ray.init` takes it; None for RAY_ADDRESS, else a cluster of this machine, else one begun here.

        environment: what jobs are told of this process's. store: None if nodes share the book's folder.

        Raises UsageError if Ray isn't installed, no cluster answers, or none of its nodes can do jobs; why not is told
        of each. Raises SlmbenchError if another process gives out jobs with the store.
        """
        self._book = JobBook(os.path.abspath(book.folder))
        self._runner, self._resources, self._environment = runner, resources, dict(environment)
        self._given: dict[Any, _Given] = {}
        self._unseen: list[_Given] = []
        self._memory_bytes: dict[str, int] = {}
        self._losses: dict[str, int] = {}
        self._life = contextlib.ExitStack()
        self._stored = None if store is None else StoredJobs(self._book, store)
        try:
            if self._stored is not None:
                self._life.enter_context(self._stored.held())
            self._ray = self._life.enter_context(_connected(address, self._book.folder))
            self._nodes = self._life.enter_context(
                RayNodes(self._ray, self._book.folder, None if store is None else store.url)
            )
            with phase("looking at the cluster's nodes"):
                self._nodes.look_at_all()
            self._remote = {
                gpu: self._ray.remote(max_retries=0, max_calls=1 if gpu else resources.jobs_a_process)(do_on_node)
                for gpu in (False, True)
            }
        except BaseException:
            self._life.close()
            raise

    def fits(self, job: Job) -> bool:
        """Whether a job can be begun now. Raises SlmbenchError if the cluster has had no node for jobs for a minute."""
        end = time.monotonic() + NO_NODE_S
        while True:
            self._nodes.refresh()
            if self._place(job) is not None:
                return True
            if self._given or self._unseen:
                return False
            if time.monotonic() > end:
                raise SlmbenchError(
                    f"for {NO_NODE_S:.0f} s no node of the cluster could be given a job; what is done stays, and "
                    "the same command goes on when there are nodes again"
                )
            time.sleep(0.5)

    def _place(self, job: Job) -> _Given | None:
        """The job on the node that has the most left, with what it takes there; None if it fits nowhere."""
        if self._resources.most is not None and len(self._given) + len(self._unseen) >= self._resources.most:
            return None
        nodes = self._nodes.for_jobs
        share = self._cpus(nodes)
        given: dict[int, list[_Given]] = {}
        for one in self._given.values():
            given.setdefault(id(one.node), []).append(one)
        found: list[tuple[float, _Given]] = []
        for node in nodes:
            here = given.get(id(node), [])
            # One with more processes than there is room for gets the whole node as well.
            gpus = min(node.gpus, job.forecast.processes)
            each = node.cpus // node.gpus if gpus else share
            cpus = max(1, min(each * job.forecast.processes, node.cpus))
            left = node.cpus - sum(one.cpus for one in here)
            # A job that needs more than there is gets the whole node.
            memory = min(node.memory_bytes, self._memory(job, node, cpus))
            enough = (
                left >= cpus
                and node.gpus - sum(one.gpus for one in here) >= gpus
                and node.memory_bytes - sum(one.memory_bytes for one in here) >= memory
            )
            if enough:
                found.append((left / node.cpus, _Given(job, node, cpus, gpus, memory)))
        return max(found, key=lambda one: one[0], default=(0.0, None))[1]

    def _cpus(self, nodes: Sequence[RayNode]) -> int:
        together = sum(node.cpus for node in nodes)
        at_once = min(self._resources.most or together, self._resources.jobs, together)
        return max(1, together // max(1, at_once))

    def _memory(self, job: Job, node: RayNode, cpus: int) -> int:
        if job.key in self._memory_bytes:
            return self._memory_bytes[job.key]
        if job.forecast.memory_bytes is not None:
            return int(job.forecast.memory_bytes * MARGIN)
        return node.memory_bytes * cpus // node.cpus

    def start(self, job: Job) -> None:
        """Gives a job to a node that it fits on."""
        given = self._place(job)
        assert given is not None
        threads = max(1, given.cpus // job.forecast.processes)
        where: tuple[str, str, str | None] | None = None
        if self._stored is None:
            self._book.plan(job)
        else:
            attempt = self._stored.begin(job)
            if attempt is None:  # A process that was killed gave it out, and it is done.
                self._unseen.append(given)
                return
            where = (self._stored.store.url, attempt, self._stored.scratch)
        task = self._remote[given.gpus > 0].options(
            name=job.key,
            num_cpus=given.cpus,
            num_gpus=given.gpus,
            memory=given.memory_bytes,
            scheduling_strategy=self._nodes.only(given.node),
        )
        folder = self._book.folder if where is None else ""
        reference = task.remote(folder, job.key, self._runner, threads, self._environment, where)
        self._given[reference] = given

    def wait(self, timeout_s: float) -> list[EndedJob]:
        """The jobs that ended since the last call, after at most so many seconds."""
        ended: list[EndedJob] = []
        if self._given:
            timeout_s = min(timeout_s, 0.2) if self._unseen else timeout_s
            ready, rest = self._ray.wait(list(self._given), num_returns=1, timeout=timeout_s)
            if ready and rest:
                ready += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0]
            for reference in ready:
                given = self._given.pop(reference)
                died = self._outcome(reference, given)
                if died is not None:
                    if self._stored is not None:
                        self._stored.died(given.job.key)
                    ended.append(died)
                else:
                    given.seen_by = time.monotonic() + SEEN_S
                    self._unseen.append(given)
        elif self._unseen:
            time.sleep(min(timeout_s, 0.2))
        for given in list(self._unseen):
            # A folder of a network may not show yet what its node has written.
            if given.said or self._seen(given.job.key) or time.monotonic() > given.seen_by:
                self._unseen.remove(given)
                if self._stored is not None:
                    self._stored.died(given.job.key)  # Unless it has an end.
                ended.append(EndedJob(given.job.key, given.said))
        return ended

    def _seen(self, key: str) -> bool:
        """Whether the end of a job is to be seen here."""
        return self._book.outcome(key) is not None if self._stored is None else self._stored.collect(key)

    def _outcome(self, reference: Any, given: _Given) -> EndedJob | None:
        """How a job's process ended, if it did not come to the job's own end."""
        errors = self._ray.exceptions
        try:
            given.said = self._ray.get(reference)
            return None
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            self._memory_bytes[given.job.key] = min(given.node.memory_bytes, 2 * given.memory_bytes)
            full = isinstance(error, errors.OutOfMemoryError)
            said = (
                "Ray killed it, as its node's memory was nearly full" if full else "it was killed, perhaps for memory"
            )
            died = f"{said} ({given.node.name}; {given.memory_bytes / 1e9:.1f} GB were asked for)"
        except (errors.NodeDiedError, errors.TaskUnschedulableError):
            self._nodes.lost(given.node)
            return EndedJob(given.job.key, died=f"{given.node.name} is gone")
        except errors.TaskCancelledError:
            died = f"it was cancelled ({given.node.name})"
        except errors.RayTaskError as error:
            died = f"its process on {given.node.name} failed: {_line(error.cause)}"
        except errors.RayError as error:
            died = f"Ray lost it on {given.node.name}: {_line(error)}"
        key = given.job.key
        if not self._book.starts(key):
            self._losses[key] = self._losses.get(key, 0) + 1
            if self._losses[key] >= LOST_BEFORE_BEGUN:
                return EndedJob(key, f"it was given to nodes {self._losses[key]} times, and never began: {died}")
        return EndedJob(key, died=died)

    def close(self) -> None:
        """Stops whatever still runs, as `LocalPool.close` does."""
        try:
            if self._given:
                self._stop()
        finally:
            self._given = {}
            try:
                if self._stored is not None:
                    self._stored.close()
            finally:
                self._life.close()

    def _stop(self) -> None:
        left = list(self._given)
        try:
            for reference in left:
                self._ray.cancel(reference)
            say(told_of_stop(len(left)))
            _, left = self._ray.wait(left, num_returns=len(left), timeout=STOP_S)
        finally:  # Also at a second Ctrl-C.
            for reference in left:
                self._ray.cancel(reference, force=True)
            if left:
                for reference in self._ray.wait(left, num_returns=len(left), timeout=KILL_S)[0]:
                    put_back(self._book, self._given[reference].job.key)

    @property
    def running(self) -> Sequence[str]:
        """Keys of the jobs under way."""
        return [given.job.key for given in self._given.values()]


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


@contextlib.contextmanager
def _connected(address: str | None, folder: str) -> Iterator[Any]:
    """The module `ray`, connected to a cluster for the length of the block; a connection that was there stays."""
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"--on ray needs Ray, which can't be imported ({error}): {INSTALL}") from None
    if ray.is_initialized():
        yield ray
        return
    shown = address or os.environ.get("RAY_ADDRESS") or "this machine"
    with _aside(os.path.join(folder, "ray.log")):
        # Ray puts a handler of its own there, which ends the process at once.
        kept = signal.getsignal(signal.SIGTERM)
        try:
            with phase(f"connecting to Ray at {shown}"):
                ray.init(address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises whatever its parts do: no address, no answer, other versions.
            raise UsageError(
                f"no Ray cluster answers at {shown}: {_line(error)}; begin one with `ray start --head`, name it with "
                "--on ray://HOST:PORT or RAY_ADDRESS, or leave both out for one on this machine alone"
            ) from error
        finally:
            with contextlib.suppress(ValueError):  # Outside the main thread Ray has set none.
                signal.signal(signal.SIGTERM, kept)
        try:
            yield ray
        finally:
            ray.shutdown()


class _Aside:
    """A stdout on which one thread alone is heard; what others write, as those of Ray do, goes into a log."""

    def __init__(self, stdout: TextIO, log: TextIO) -> None:
        self._stdout, self._log = stdout, log
        self._heard = threading.get_ident()

    def write(self, text: str) -> int:
        return (self._stdout if threading.get_ident() == self._heard else self._log).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


@contextlib.contextmanager
def _aside(path: str) -> Iterator[None]:
    """For the length of the block what Ray's threads print is appended to a file: stdout is for data alone."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    before = sys.stdout
    with open(path, "a", encoding="utf-8", buffering=1) as log:
        aside: Any = _Aside(before, log)
        sys.stdout = aside
        try:
            yield
        finally:
            sys.stdout = before
