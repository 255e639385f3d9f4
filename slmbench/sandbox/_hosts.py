"""The side of slmbench: starts the helpers, gives them programs, holds the clock, and makes verdicts."""

from __future__ import annotations

import functools
import math
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from attrs import field, frozen

from slmbench.console import advanced
from slmbench.errors import SlmbenchError
from slmbench.sandbox._jail import BOX
from slmbench.sandbox._view import HELPER, INSIDE, bubblewrap_command, interpreter, sources, view
from slmbench.sandbox._wire import MAX_PROGRAM_BYTES, BadFrame, Message, read_frame, write_frame
from slmbench.visible import visible

MEMORY_BYTES = 1 << 30
FILE_BYTES = 50 << 20
BOX_BYTES = 64 << 20
MAX_PROCESSES = 16
MAX_OPEN_FILES = 64
START_S = 30.0
ANSWER_S = 60.0
STOP_S = 10.0
LISTEN_S = 0.2
START_ATTEMPTS = 3
MAX_DETAIL_CHARS = 800
# All that a program finds in its environment: nothing of the caller's.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "TMPDIR": BOX, "HOME": BOX, "USER": "nobody"}


class HostFailed(SlmbenchError):
    """A helper could not be started, or ended."""


@frozen
class Host:
    """A helper process, the socket that it obeys, and what it wrote on its standard error."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    errors: IO[bytes]
    stopping: threading.Lock = field(factory=threading.Lock, eq=False)


@frozen
class Finding:
    """What became of one program: status, detail, and seconds from its start."""

    status: str
    detail: str
    seconds: float


def start_host(tier: str, timeout_s: float, bwrap: str | None) -> Host:
    """A helper of a tier, for programs that have timeout_s each. Raises HostFailed."""
    seen = view()
    limits = {
        "as": MEMORY_BYTES,
        "fsize": FILE_BYTES,
        "nproc": MAX_PROCESSES,
        "nofile": MAX_OPEN_FILES,
        "core": 0,
        "msgqueue": 0,
        # A second lock: the wall clock comes first, except for many threads or processes.
        "cpu": math.ceil(timeout_s) + 5,
    }
    if tier == "unsafe":
        del limits["nproc"]  # It would count everything that the user runs.
    config: dict[str, Any] = {
        "tier": tier,
        "view": [seen.binds, seen.masks, seen.hidden],
        "box_bytes": BOX_BYTES,
        "limits": {"worker": limits, "examiner": limits | {"as": 2 * MEMORY_BYTES}},
    }
    command = interpreter(HELPER)
    if bwrap:
        config |= {"bubblewrap": bubblewrap_command(bwrap, seen, BOX_BYTES), "interpreter": interpreter(INSIDE)}
        config["disable_userns"] = _disables_user_namespaces(bwrap)
    try:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the host
    except OSError as err:
        raise HostFailed(f"no temporary file can be made: {err}") from err
    ours, theirs = socket.socketpair()
    _give_up_after(ours, ANSWER_S)
    try:
        process = subprocess.Popen(
            command,
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=ENVIRONMENT | ({"TMPDIR": tempfile.gettempdir()} if tier == "unsafe" else {}),
            cwd="/",
            start_new_session=True,
        )
    except OSError as err:
        raise HostFailed(f"the sandbox's interpreter {command[0]} could not be started: {err}") from err
    finally:
        theirs.close()
    try:
        # Not by its arguments or its environment, which everything that it forks would have in memory.
        for message in (sources(), config):
            write_frame(ours.fileno(), message)
    except OSError:
        pass  # It ended, which the first command tells.
    return Host(process, ours, errors)


@functools.lru_cache
def _disables_user_namespaces(bwrap: str) -> bool:
    """Whether bubblewrap can take the means to make user namespaces away, which takes 0.8 and /proc/sys."""
    try:
        said = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
        version = tuple(int(part) for part in said.split()[-1].split(".")[:2])
        return version >= (0, 8) and not os.statvfs("/proc/sys/user").f_flag & os.ST_RDONLY
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return False


def _give_up_after(channel: socket.socket, seconds: float) -> None:
    """Reading or writing fails with BlockingIOError, an OSError, when nothing moves for that long."""
    limit = struct.pack("ll", int(seconds), 0)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def stop_host(host: Host) -> None:
    """Ends a helper and all that it started. Safe from another thread, and twice."""
    try:
        host.control.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    with host.stopping:
        if host.process.returncode is None:
            if not _ended(host.process, STOP_S):
                host.process.kill()
                _ended(host.process, STOP_S)
            # Before its id is given back: what a helper that was killed leaves is known by its session.
            _sweep(host.process.pid)
            host.process.wait()
    host.control.close()


def _ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a child ends within that time; it stays to be waited for where the system knows how."""
    deadline = time.monotonic() + seconds
    while True:
        if hasattr(os, "waitid"):
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        else:
            ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            return ended
        time.sleep(0.002)


def _sweep(session: int) -> None:
    """Kills what is left of a session whose leader ended, as far as the system tells.

    A jail ends with its helper, but for one moment: bubblewrap's process inside waits for the one outside before it
    asks to be killed with it, and waits for ever if that one is killed.
    """
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        try:
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3]) == session != int(pid):
                os.kill(int(pid), signal.SIGKILL)
        except (OSError, ValueError, IndexError):
            continue  # Gone meanwhile, or not a process of Linux.


def judge(host: Host, code: str, tests: str, timeout_s: float, examine: str = "two_processes") -> Finding:
    """Runs one program. Raises HostFailed if worker or examiner did not come up."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            try:
                socket.send_fds(host.control, [b"s"], [theirs.fileno()])
            except OSError:
                raise HostFailed(f"the sandbox's helper ended{_said(host)}") from None
        _answer(host)
        _give_up_after(ours, START_S)
        try:
            ours.settimeout(None)
            write_frame(ours.fileno(), {"code": code, "tests": tests, "examine": examine}, MAX_PROGRAM_BYTES)
            _next(host, ours, time.monotonic() + START_S)
        except BadFrame:
            _tell(host, b"k")
            detail = f"the program is larger than {MAX_PROGRAM_BYTES >> 20} MiB, with its tests"
            return Finding("failed", detail, 0.0)
        except (EOFError, TimeoutError, OSError):
            said = visible(str(_tell(host, b"k").get("said", "")))
            raise HostFailed("a jail did not come up" + (f": {said}" if said else "")) from None
        started = time.monotonic()
        try:
            status, detail = _next(host, ours, started + timeout_s)
        except TimeoutError:
            status, detail = "timed out", f"no end after {timeout_s:g} s"
        except (EOFError, OSError, BadFrame):
            status, detail = "died", "the process that runs the tests ended"
        seconds = time.monotonic() - started
    _tell(host, b"k")
    return Finding(status, visible(detail)[:MAX_DETAIL_CHARS], seconds)


def _next(host: Host, channel: socket.socket, deadline: float) -> Any:
    """The next frame. The examiner, which is trusted, writes one at once: only its beginning is waited for.

    Raises EOFError if the jail ended, and if the helper did, which says nothing by itself; TimeoutError; OSError.
    """
    poll = select.poll()
    for socket_ in (channel, host.control):
        poll.register(socket_, select.POLLIN)
    ready = [fd for fd, _ in poll.poll(max(deadline - time.monotonic(), 0.001) * 1000)]
    if not ready:
        raise TimeoutError
    if channel.fileno() not in ready or not channel.recv(1, socket.MSG_PEEK):
        raise EOFError
    return read_frame(channel.fileno())


def _tell(host: Host, command: bytes) -> Message:
    try:
        host.control.send(command)
    except OSError:
        raise HostFailed(f"the sandbox's helper ended{_said(host)}") from None
    return _answer(host)


def _answer(host: Host) -> Message:
    """The helper's answer. Raises HostFailed for an error, or none in time: then the helper is to be stopped."""
    try:
        reply: dict[str, Any] = read_frame(host.control.fileno())
    except BlockingIOError:
        raise HostFailed(f"the sandbox's helper gave no answer for {ANSWER_S:g} s") from None
    except (EOFError, OSError, BadFrame):
        raise HostFailed(f"the sandbox's helper ended{_said(host)}") from None
    if "error" in reply:
        raise HostFailed(visible(reply["error"]))
    return reply


def _said(host: Host) -> str:
    host.errors.seek(0, os.SEEK_END)
    host.errors.seek(max(host.errors.tell() - 1000, 0))
    last = host.errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
    return f": {visible(last[0])}" if last else ""


def run_all(
    start: Callable[[], Host], programs: list[tuple[str, str, str]], timeout_s: float, workers: int
) -> list[Finding]:
    """Findings in the programs' order, from `workers` helpers at once; nothing is left running, come what may."""
    import queue

    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Finding | BaseException]] = queue.SimpleQueue()
    for index in range(len(programs)):
        todo.put(index)
    hosts: list[Host] = []
    stopping = threading.Event()
    starting = threading.Lock()  # No helper begins after the last look at which there are.

    def work() -> None:
        host = None
        try:
            while not stopping.is_set():
                try:
                    index = todo.get_nowait()
                except queue.Empty:
                    return
                for attempt in range(START_ATTEMPTS):
                    try:
                        if host is None:
                            with starting:
                                if stopping.is_set():
                                    return
                                host = start()
                                hosts.append(host)
                        code, tests, examine = programs[index]
                        finding = judge(host, code, tests, timeout_s, examine)
                        break
                    except HostFailed:
                        if host is not None:
                            stop_host(host)
                        host = None
                        if attempt == START_ATTEMPTS - 1 or stopping.is_set():
                            raise
                done.put((index, finding))
        except BaseException as err:
            done.put((-1, err))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(programs)))]
    findings: dict[int, Finding] = {}
    try:
        for thread in threads:
            thread.start()
        while len(findings) < len(programs):
            try:
                # A signal that comes just before a wait without an end is only seen when that is over.
                index, found = done.get(timeout=LISTEN_S)
            except queue.Empty:
                continue
            if isinstance(found, BaseException):
                raise found
            findings[index] = found
            advanced("programs")
    finally:
        stopping.set()
        with starting:
            begun = list(hosts)
        for host in begun:
            stop_host(host)
        for thread in threads:
            if thread.ident is not None:  # An interrupt can come before all of them were started.
                thread.join()
        for host in hosts:
            host.errors.close()
    return [findings[index] for index in range(len(programs))]
