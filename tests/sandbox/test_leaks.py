"""What of the host a program could find, and doesn't: its environment, paths, names, mounts, files that set ids."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import slmbench
from slmbench.sandbox import Program, Sandbox, Verdict
from slmbench.sandbox._view import view

Judge = Callable[..., Verdict]

SECRET = "hunter2-of-the-host-7741"
# Reads its own memory without /proc, by way of a pipe that the kernel refuses to fill from unmapped pages: the
# stack up to the strings of its arguments and environment, and the heap. What it looks for is in it only backwards.
SCAN = """
import ctypes, os, resource
libc = ctypes.CDLL(None)
r, w = os.pipe()
def pages(start, step, most):
    missing = 0
    for page in range(start, start + step * most, step):
        if libc.write(w, ctypes.c_void_p(page), ctypes.c_size_t(4096)) == 4096:
            missing = 0
            yield os.read(r, 4096)
        else:
            missing += 1
            if missing > 512: return
def f(*backwards):
    first = ctypes.c_void_p.in_dll(libc, "environ").value & ~0xFFF
    text = b"".join(reversed(list(pages(first, -4096, 64)))) + b"".join(pages(first + 4096, 4096, 64))
    seen = len(text)
    for about in (id(object()), id(backwards), id(os)):
        text += b"".join(pages((about & ~0xFFFFF) - (4 << 20), 4096, 2048))
    return [seen > 4096, b"PYTHONHASHSEED" in text, [b in text for b in map(bytes, map(reversed, backwards))]]
"""


def test_a_secret_in_the_callers_environment_is_not_in_the_programs_memory(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_TOKEN", SECRET)
    needles = [text.encode()[::-1] for text in (SECRET, "SLMBENCH_TOKEN", str(Path(slmbench.__file__).parent))]
    verdict = judge(SCAN, f"assert f(*{needles}) == [True, True, [False] * 3]", timeout_s=60)
    assert verdict.status == "passed", verdict


def test_nothing_of_the_caller_is_in_the_memory_of_worker_and_examiner(
    jail: Sandbox, descendants: Callable[[], set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_TOKEN", SECRET)
    verdicts: list[Verdict] = []
    program = Program("MARK = 'the program ' + 'itself'\nimport time\ntime.sleep(3)", "")
    thread = threading.Thread(target=lambda: verdicts.extend(jail.run([program], timeout_s=30, workers=1)))
    thread.start()
    memories: dict[int, bytes] = {}
    try:
        # Whenever a slow machine begins the program: looked at again and again until it is there, or all is over.
        while thread.is_alive() and not any(b"the program itself" in memory for memory in memories.values()):
            time.sleep(0.2)
            for pid in [pid for pid in descendants() if nobodys(pid)]:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    memories[pid] = memory_of(pid)
    except PermissionError:
        pytest.skip("this user can't read the memory of the jail's processes")
    finally:
        thread.join()
    assert any(b"the program itself" in memory for memory in memories.values()), "the worker was found"
    for text in (SECRET, "SLMBENCH_TOKEN", str(Path(slmbench.__file__).parent)):
        assert not [pid for pid, memory in memories.items() if text.encode() in memory], text
    assert verdicts[0].status == "passed"


def nobodys(pid: int) -> bool:
    """Whether it is a process of nobody or of the examiner."""
    try:
        return bool(re.search(r"Uid:\s+6553[34]\s", Path(f"/proc/{pid}/status").read_text())) or os.getuid() != 0
    except OSError:
        return False


def memory_of(pid: int) -> bytes:
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if "rw" in line.split()[1]:
                memory.seek(start)
                found.append(memory.read(end - start))
    return b"".join(found)


# Each defines f so that f() is what a program may know.
ASKED = {
    "its arguments": ("import sys\ndef f(): return sys.argv, sys.orig_argv", "(['program'], [])"),
    "its environment": (
        "import os\ndef f(): return sorted({*os.environ} - {'PWD', 'LD_LIBRARY_PATH', 'LC_CTYPE'})",
        "['HOME', 'LANG', 'PYTHONHASHSEED', 'TMPDIR', 'USER']",
    ),
    "names": (
        "import getpass, os, socket\n"
        "def f(): return socket.gethostname(), os.uname().nodename, getpass.getuser(), os.path.expanduser('~')",
        "('box', 'box', 'nobody', '/box')",
    ),
    "the time zone and the language": (
        "import locale, time\ndef f(): return time.timezone, time.tzname[0], locale.getlocale()",
        "(0, 'UTC', ('en_US', 'UTF-8'))",
    ),
    "open files": (
        "import os, stat\ndef f():\n    kinds = []\n    for fd in range(1024):\n"
        "        try: kinds.append(stat.S_IFMT(os.fstat(fd).st_mode))\n        except OSError: pass\n"
        "    return kinds == [stat.S_IFCHR] * 3 + [stat.S_IFIFO] * 2 or kinds",
        "True",
    ),
    "files that set ids": (
        "import os\ndef f():\n    found = []\n    for folder, _, names in os.walk('/'):\n"
        "        for name in names:\n            mode = os.lstat(f'{folder}/{name}').st_mode\n"
        "            if mode & 0o6000: found.append(f'{folder}/{name}')\n    return found",
        "[]",
    ),
    "mounts that heed such files": (
        "import os\ndef f(): return [p for p, _, _ in os.walk('/') if not os.statvfs(p).f_flag & os.ST_NOSUID]",
        "[]",
    ),
    "what the kernel tells of mounts and of itself": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nroom = ctypes.create_string_buffer(4096)\n"
        "request = (ctypes.c_uint64 * 3)(24, (1 << 64) - 1, 0)\n"
        "log = {'x86_64': 103}.get(os.uname().machine, 116)\n"
        "def f():\n    listed = libc.syscall(458, request, room, ctypes.c_size_t(512), 0)\n"
        "    stated = libc.syscall(457, request, room, ctypes.c_size_t(4096), 0)\n"
        "    return listed, stated, libc.syscall(log, 3, room, 4096)",
        "(-1, -1, -1)",
    ),
    "semaphores without a limit": (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
        "def f(): return libc.semget(0, 1, 0o1600), libc.msgget(0, 0o1600), "
        "libc.shmget(0, ctypes.c_size_t(4096), 0o1600)",
        "(-1, -1, -1)",
    ),
    "message queues": (
        "import ctypes\nlibc = ctypes.CDLL(None)\ndef f(): return libc.mq_open(b'/q', 0o102, 0o600, None)",
        "-1",
    ),
    "shared memory beyond the box": (
        "import errno, os\nfrom multiprocessing import shared_memory\ndef f():\n    made, size = [], 0\n    try:\n"
        "        while size < 200:\n            fd = os.open(f'/dev/shm/{size}', os.O_CREAT | os.O_RDWR)\n"
        "            os.posix_fallocate(fd, 0, 8 << 20)\n            size += 8\n"
        "    except OSError as err:\n        return size <= 64 and err.errno == errno.ENOSPC\n    return size",
        "True",
    ),
    "a core of its memory": (
        "import os, resource\ndef f():\n    pid = os.fork()\n    if not pid: os.abort()\n"
        "    return resource.getrlimit(resource.RLIMIT_CORE), os.WCOREDUMP(os.waitpid(pid, 0)[1]), os.listdir('.')",
        "((0, 0), False, [])",
    ),
    "the paths of this package": (
        "import sys, slmbench.sandbox._worker as w\n"
        "def f(): return w.serve.__code__.co_filename, [p for p in sys.path if 'slmbench' in p]",
        "('/sandbox/_worker.py', [])",
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_program_that_asks_for_what_the_host_has_gets(
    name: str, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    code, expected = ASKED[name]
    verdict = judge(code, f"value = f()\nif value != {expected}: raise ValueError(value)", timeout_s=30)
    assert verdict.status == "passed", verdict


def test_a_program_has_a_loopback_of_its_own(judge: Judge) -> None:
    code = (
        "import socket, threading\ndef f(text):\n    with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "        def echo():\n            with server.accept()[0] as peer: peer.sendall(peer.recv(100))\n"
        "        threading.Thread(target=echo).start()\n"
        "        with socket.create_connection(server.getsockname(), 5) as client:\n"
        "            client.sendall(text)\n            return client.recv(100)"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        reach = f"\ndef g(): socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        tests = "assert f(b'x') == b'x'\ntry:\n    g()\n    assert False, 'connected'\nexcept OSError: pass"
        assert judge(code + reach, tests).status == "passed"


def test_packages_of_every_python_are_shown_empty() -> None:
    seen = view()
    for bind in seen.binds:
        for found in [*Path(bind).glob("*-packages"), *Path(bind).glob("python*/*-packages")]:
            assert str(found) in seen.masks or found.is_symlink()
