"""What runs on the nodes of a Ray cluster: a job, and what tells whether a node may be given any."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from slmbench.console import Console, using
from slmbench.errors import SlmbenchError
from slmbench.interrupts import interruptible, is_noted
from slmbench.machine import code, code_digest, packages
from slmbench.scheduling._book import JobBook
from slmbench.scheduling._do import do_job, logged, runner_of
from slmbench.scheduling._pool import THREAD_NAMES
from slmbench.scheduling._store import facts_of_store
from slmbench.scheduling._stored import do_stored
from slmbench.values import JsonObject

LOOK_S = 0.5
WAKE_S = 1.5
"""So long after an interrupt a job that goes on is sent a signal, and again."""


def do_on_node(
    folder: str,
    key: str,
    runner: str,
    threads: int,
    environment: Mapping[str, str],
    store: tuple[str, str, str | None] | None = None,
) -> str | None:
    """Does a job in a Ray process. Returns why it couldn't be tried, or None; how it ended is in the book's folder.

    store: (URL, attempt, where scratch folders go); how it ended is in that store then, and `folder` is not read.
    environment: of the process that gives out jobs; what the node itself has been told stays. An interrupt, as
    `ray.cancel` sends one, puts the job back.
    """
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    _use_threads(threads)
    book = JobBook(folder)
    with using(Console()), interruptible(), _woken():
        try:
            if store is not None:
                url, attempt, scratch = store
                do_stored(url, key, attempt, scratch, runner)
                return None
            with logged(book, key):
                do_job(book, book.job(key), runner_of(runner))
        except SlmbenchError as error:
            return " ".join(str(error).split())
    return None


@contextlib.contextmanager
def _woken() -> Iterator[None]:
    """For the length of the block `ray.cancel` ends a wait too; alone it is heard at the next step of Python."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    main, ended = threading.get_ident(), threading.Event()

    def pass_on() -> None:
        # More than once: an import that is interrupted may make another error of it, which somebody catches.
        if ours.recv(1):
            while not ended.wait(WAKE_S):
                if is_noted(signal.SIGTERM):  # It finishes its step, and would leave that at one more.
                    continue
                signal.pthread_kill(main, signal.SIGTERM)  # Ray's processes are begun with SIGINT blocked.

    thread = threading.Thread(target=pass_on, daemon=True)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        theirs.close()
        thread.join()
        ours.close()


def _use_threads(threads: int) -> None:
    # Without it a job of one CPU takes all cores of its node.
    os.environ.update(dict.fromkeys(THREAD_NAMES, str(threads)))
    if "torch" in sys.modules:  # A process that did a job before has read those.
        import torch

        torch.set_num_threads(threads)


def node_facts(probe: str, mark: str, wait_s: float) -> JsonObject:
    """What a node says of itself: its code and packages, and whether it reads `probe` and can write `mark` beside it.

    wait_s: how long it looks for the probe, as a network's folder may show a new file only after a while. A probe
    that is a URL lies in a store, which shows what is there at once.
    """
    if "://" in probe:
        return {**own_facts(), **facts_of_store(probe, mark), "host": socket.gethostname()}
    end = time.monotonic() + wait_s
    while not (sees := _reads(probe)) and time.monotonic() < end:
        time.sleep(LOOK_S)
    unwritable = None
    if sees:
        try:
            with open(os.path.join(os.path.dirname(probe), mark), "w") as file:
                file.write(mark)
        except OSError as error:
            unwritable = str(error.strerror)
    return {**own_facts(), "sees": sees, "unwritable": unwritable, "host": socket.gethostname()}


def _reads(probe: str) -> bool:
    try:
        with open(probe, encoding="utf-8") as file:
            return file.read() == os.path.basename(probe)
    except OSError:
        return False


def own_facts() -> JsonObject:
    """What has to be equal on all nodes for a run to be the same: Python, slmbench's files, the packages below it."""
    own = {"slmbench": str(code()["version"]), "Python": ".".join(platform.python_version_tuple()[:2])}
    # What stands after a + says for which device a package was built, and a driver may well have another.
    versions = {name: version.partition("+")[0] for name, version in packages().items()}
    return {"versions": own | versions, "digest": code_digest()}


def facts_function() -> Callable[[str, str, float], JsonObject]:
    """`node_facts` as a function that a node without slmbench can run as well: it goes there by value, not by name."""

    def facts(probe: str, mark: str, wait_s: float) -> JsonObject:
        try:
            from slmbench.scheduling import node_facts

            return node_facts(probe, mark, wait_s)
        except ImportError as error:
            return {"lacks": str(error)}

    return facts
