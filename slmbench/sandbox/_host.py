"""One slot's helper: a small process that starts a jail for each program, and ends it.

It is started once and stays single-threaded, so that forking is cheap and safe. It never reads a program or a test:
they go through a socket that it only hands on, so nothing of them is in the memory that the next jail starts with.

Commands on the control socket, one byte each: "s" with a channel starts a jail, "k" ends it. Each is answered by a
frame, {} or {"error"}; of "k" also {"said"}, the last line that was written to the jail's standard error.

No process of a jail has a file of this one: bubblewrap's first process inside has the program's user id, so the program
can take what is open there.

In the jail an examiner is the parent of the worker. The worker is forked before the examiner has read anything. Under
a user other than root both have that user's id: the worker can end the examiner, and its own chances with it, but can't
look into it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from typing import NoReturn

from slmbench.sandbox import _jail
from slmbench.sandbox._examiner import examine
from slmbench.sandbox._inside import examine_inside
from slmbench.sandbox._wire import MAX_PROGRAM_BYTES, Message, read_frame, write_bytes, write_frame
from slmbench.sandbox._worker import serve

# What programs import most often, and what each jail is made with: paid once.
PRELOADED = (
    "array bisect cmath collections copy datetime fcntl fractions functools hashlib heapq itertools math operator "
    "random re statistics string sys typing"
).split()
END_S = 5.0


def main(modules: bytes) -> None:
    """Obeys the socket that is file 0 until it is closed. The first frame there is the config, see `start_host`.

    modules: those of the sandbox, compiled, for interpreters that are started in jails.
    """
    import socket  # Not at the top: an interpreter that is started in a jail has no use for it, and waits for it.

    config = read_frame(0)
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    if config["tier"] != "unsafe":
        _jail.prctl(_jail.PR_SET_CHILD_SUBREAPER, 1)
        _jail.new_keyring()
    if config["tier"] != "bubblewrap":
        for name in PRELOADED:
            __import__(name)
    gc.freeze()
    jail, errors, folder = None, None, None
    while True:
        try:
            command, channels, _, _ = socket.recv_fds(control, 1, 1)
        except OSError:
            # slmbench was killed with an answer of ours unread, which the kernel tells as a reset.
            command, channels = b"", []
        reply = {}
        try:
            if command != b"s":
                end(config, jail, folder)
                reply = {"said": _last_line(errors)}
                jail, errors, folder = None, None, None
            elif jail is not None:
                reply = {"error": "a jail is still there"}
            else:
                folder = _temporary_folder() if config["tier"] == "unsafe" else None
                jail, errors = start(config, channels[0], folder, modules)
        except OSError as err:
            reply = {"error": str(err)}
        for fd in channels:
            os.close(fd)
        if not command:
            return
        try:
            write_frame(control.fileno(), reply)
        except OSError:
            pass  # slmbench is gone, or was interrupted: the next command is the end of the stream.


def _last_line(errors: int | None) -> str:
    """The last line in a pipe, which is closed. What a program wrote there may be in it."""
    if errors is None:
        return ""
    os.set_blocking(errors, False)
    try:
        lines = os.read(errors, 1 << 16).decode("utf-8", "replace").strip().splitlines()
    except BlockingIOError:
        lines = []
    finally:
        os.close(errors)
    return lines[-1][:1000] if lines else ""


def _temporary_folder() -> str:
    import tempfile

    return tempfile.mkdtemp(prefix="slmbench-")


def start(config: Message, channel: int, folder: str | None, modules: bytes) -> tuple[int, int]:
    """(the id of a new process with a jail below it, whose examiner has the channel; a pipe of what it writes to its
    standard error). The process leads a group of its own. Raises OSError.
    """
    ours, theirs = os.pipe(), os.pipe()  # The new process reads the first and writes the second.
    errors = os.pipe()
    outside = user_namespace() if config["tier"] == "bubblewrap" and os.getuid() == 0 else None
    helper = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            os.dup2(0, 1)
            os.dup2(errors[1], 2)
            keep_only([channel, ours[0], theirs[1], outside])
            if config["tier"] != "unsafe":
                _jail.prctl(_jail.PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != helper:
                    os._exit(1)
                _jail.new_keyring()
            _jail.offer_to_oom_killer()
            if config["tier"] == "bubblewrap":
                os.close(ours[0])
                os.close(theirs[1])
                exec_bubblewrap(config, channel, outside, modules)
            elif config["tier"] == "namespaces":
                _jail.enter(ours[0], theirs[1], config["view"], config["box_bytes"], lambda: play(channel, config))
            os.chdir(folder or "/")
            play(channel, config)
        except BaseException:
            _report()
        finally:
            os._exit(1)
    for fd in (ours[0], theirs[1], errors[1], outside):
        if fd is not None:
            os.close(fd)
    try:
        os.setpgid(pid, pid)  # Whoever comes first, so that it has its group when it is to be ended.
    except OSError:
        pass  # It is there, and something else by now, or gone.
    try:
        if config["tier"] == "namespaces":
            if not os.read(theirs[0], 1):
                os.waitpid(pid, 0)
                raise OSError(f"the kernel refuses new namespaces ({_last_line(errors[0])})")
            _jail.map_ids(pid)
            os.write(ours[1], b"m")
    finally:
        os.close(ours[1])
        os.close(theirs[0])
    return pid, errors[0]


def keep_only(fds: list[int | None]) -> None:
    """Closes all files but the standard streams and these."""
    low = 3
    for fd in sorted(fd for fd in fds if fd is not None):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 16)


def play(channel: int, config: Message) -> NoReturn:
    """Splits into worker and examiner, each without what it must not have; the examiner's end is the jail's."""
    try:
        keep_only([channel])
        requests, ask = os.pipe()
        replies, answer = os.pipe()
        worker = os.fork()
        if worker == 0:
            keep_only([requests, answer])
            # A script's, as programs expect them; what this interpreter was started with is nobody's business.
            sys.argv, sys.orig_argv = ["program"], []
            _confine(config, _jail.NOBODY, "worker")
            serve(requests, answer)
        os.close(requests)
        os.close(answer)
        _confine(config, _jail.NOBODY - 1, "examiner")
        sys.argv = ["program"]
        read_frame(replies)  # The worker is confined, too.
        program = read_frame(channel, MAX_PROGRAM_BYTES)
        write_frame(channel, "go")
        judge = {"two_processes": examine, "in_process": examine_inside}[program["examine"]]
        status, detail = judge(program["code"], program["tests"], ask, replies)
        if status == "died":
            detail += _end_of(worker)
        write_frame(channel, [status, detail])
        os._exit(0)
    except BaseException:
        _report()
    os._exit(1)


def _confine(config: Message, uid: int, role: str) -> None:
    if config["tier"] != "unsafe":
        os.chdir(_jail.BOX)
        _jail.drop_privileges(uid)
    if sys.platform == "linux":
        # The worker ends with the examiner; and the examiner's memory is closed to other processes of its user.
        _jail.prctl(*((_jail.PR_SET_PDEATHSIG, signal.SIGKILL) if role == "worker" else (_jail.PR_SET_DUMPABLE, 0)))
    _jail.set_limits(config["limits"][role])
    _jail.silence()


def _end_of(worker: int) -> str:
    """How the worker's process ended; '' if it only closed its pipe."""
    for _ in range(100):
        pid, status = os.waitpid(worker, os.WNOHANG)
        if pid and os.WIFSIGNALED(status):
            return f": {signal.Signals(os.WTERMSIG(status)).name}"
        if pid:
            return f": exit code {os.waitstatus_to_exitcode(status)}"
        time.sleep(0.002)
    return ""


def _report() -> None:
    """Writes the exception to standard error, which slmbench reads until the streams are silenced."""
    import traceback

    traceback.print_exc()


def exec_bubblewrap(config: Message, channel: int, outside: int | None, modules: bytes) -> NoReturn:
    """Becomes bubblewrap, around an interpreter that plays."""
    command = list(config["bubblewrap"])
    # In a file without a name: arguments stay in a process's memory, and a pipe holds less.
    handed = os.memfd_create("handed", 0)
    write_bytes(handed, modules)
    write_frame(handed, [channel, {"tier": config["tier"], "limits": config["limits"]}])
    os.lseek(handed, 0, os.SEEK_SET)
    os.dup2(handed, 0)
    os.close(handed)
    os.set_inheritable(channel, True)
    if outside is None:
        command += ["--unshare-user", "--uid", str(_jail.NOBODY), "--gid", str(_jail.NOBODY)]
        command += ["--disable-userns"] if config["disable_userns"] else []
    else:
        command += ["--userns", str(outside)]
        os.set_inheritable(outside, True)
    os.execv(command[0], [*command, *config["interpreter"]])


def play_inside() -> NoReturn:
    """What an interpreter in bubblewrap runs; in file 0 come the channel's number and what of the config it needs."""
    play(*read_frame(0))


def user_namespace() -> int:
    """A new user namespace with all of root's ids, as an open file, for bubblewrap to be in.

    The one that it makes itself knows one id, which for root is root's, and the kernel does not count root's processes.
    """
    ours, theirs = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours[1])
            _jail.new_user_namespace()
            os.write(theirs[1], b"u")
            if os.read(ours[0], 1):
                _jail.forbid_user_namespaces()
                os.write(theirs[1], b"f")
        finally:
            os._exit(0)
    os.close(theirs[1])
    os.close(ours[0])
    try:
        if not os.read(theirs[0], 1):
            raise OSError("the kernel refuses a new user namespace")
        _jail.map_ids(pid)
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        os.write(ours[1], b"m")
        os.read(theirs[0], 1)
        return namespace
    finally:
        os.close(ours[1])
        os.close(theirs[0])
        os.waitpid(pid, 0)


def end(config: Message, jail: int | None, folder: str | None) -> None:
    """Ends what `start` began, and waits until nothing of it is left. Raises OSError if something is after END_S."""
    left = True
    deadline = time.monotonic() + END_S
    while jail is not None and left:
        try:
            # All of a jail that is only half built: what it has made may not yet be bound to end with it.
            os.killpg(jail, signal.SIGKILL)
        except OSError:
            pass
        # What was inside comes to this process when its parents are gone.
        for pid in {jail, *_children()} if config["tier"] != "unsafe" else {jail}:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        left = _reap(min(deadline, time.monotonic() + 0.2))
        if left and time.monotonic() > deadline:
            raise OSError(f"processes that were killed are still there after {END_S:g} s")
    if folder is not None:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except (OSError, ValueError):
        return []  # Not every kernel has this file.


def _reap(deadline: float) -> bool:
    """Takes the ends of children until there are none; whether there are some at the deadline."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return False
        if time.monotonic() > deadline:
            return True
        time.sleep(0.0005)
