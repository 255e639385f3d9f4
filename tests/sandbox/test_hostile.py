"""Programs that cheat, break out or break down: what each must come to, in every kind of jail."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attr
import attrs
import pytest

import slmbench
from slmbench.sandbox import Program, Sandbox, Verdict

Judge = Callable[..., Verdict]
Descendants = Callable[[], set[int]]

# name: (program, status, part of the detail); the tests are `assert f(2) == 4`.
PROGRAMS = {
    "endless loop": ("while True: pass", "timed out", ""),
    "endless loop in the function": ("def f(x):\n    while True: pass", "timed out", ""),
    "SIGTERM ignored": (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
        "timed out",
        "",
    ),
    "SIGALRM ignored": (
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nsignal.alarm(0)\nwhile True: pass",
        "timed out",
        "",
    ),
    "all signals blocked": (
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: pass",
        "timed out",
        "",
    ),
    "KeyboardInterrupt caught for ever": ("while True:\n  try:\n    while True: pass\n  except: pass", "timed out", ""),
    "huge integer in C": ("x = 9 ** (9 ** 9)", "timed out", ""),
    "sys.exit before the asserts": ("import sys\nsys.exit(0)", "failed", "SystemExit: 0"),
    "sys.exit in the function": ("import sys\ndef f(x): sys.exit(0)", "failed", "SystemExit: 0"),
    "os._exit": ("import os\nos._exit(0)", "died", "exit code 0"),
    "os._exit in the function": ("import os\ndef f(x): os._exit(0)", "died", "exit code 0"),
    "segfault": ("import ctypes\nctypes.string_at(0)", "died", "SIGSEGV"),
    "abort": ("import os\nos.abort()", "died", "SIGABRT"),
    "always equal": (
        "class A:\n    def __eq__(self, o): return True\ndef f(x): return A()",
        "failed",
        "AssertionError",
    ),
    "always equal, as a builtin's subclass": (
        "class A(int):\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__\ndef f(x): return A(5)",
        "failed",
        "AssertionError",
    ),
    "always equal, in a list": (
        "class A:\n    def __eq__(self, o): return True\n    __req__ = __eq__\ndef f(x): return [A()]",
        "failed",
        "AssertionError",
    ),
    "frame walk": (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
        "            if type(value) is list: value.append('passed')\n"
        "            if type(value) is dict: value['status'] = 'passed'\n"
        "        frame = frame.f_back\n    return 5",
        "failed",
        "AssertionError",
    ),
    "settrace": (
        "import sys\ndef trace(frame, event, arg):\n    for n in ('candidate', 'f', 'result', 'status'):\n"
        "        if n in frame.f_locals: frame.f_locals[n] = lambda *a: 4\n    return trace\n"
        "sys.settrace(trace)\ndef f(x): return 5",
        "failed",
        "AssertionError",
    ),
    "builtins replaced": (
        "import builtins, json, os\nbuiltins.AssertionError = type('A', (Exception,), {})\n"
        "builtins.exec = lambda *a: None\n"
        "json.dumps = lambda *a, **k: '[]'\ndef f(x): return 5",
        "failed",
        "",
    ),
    "1.5 GB": (
        "def f(x):\n    try: bytearray(1500 << 20)\n    except MemoryError: return x * 2\n    return 0",
        "passed",
        "",
    ),
    "300 MB printed": (
        "for _ in range(300): print('x' * (1 << 20))\ndef f(x): return x * 2",
        "passed",
        "",
    ),
    "300 MB to files 1 and 2": (
        "import os\nfor _ in range(150):\n    os.write(1, b'x' * (1 << 20))\n"
        "    os.write(2, b'x' * (1 << 20))\ndef f(x): return x * 2",
        "passed",
        "",
    ),
    "50 MB message": ("def f(x): raise ValueError('x' * (50 << 20))", "failed", "ValueError: xxx"),
    "message that raises": (
        "class E(Exception):\n    def __str__(self): raise self\ndef f(x): raise E",
        "failed",
        "E",
    ),
    "message with controls": ("def f(x): raise ValueError('\\x1b[2J\\n\\u202e')", "failed", "ValueError"),
    "60 MB file": (
        "import errno\ndef f(x):\n    try:\n        with open('big', 'wb') as file:\n"
        "            for _ in range(60): file.write(bytes(1 << 20))\n    except OSError as err:\n"
        "        return x * 2 if err.errno == errno.EFBIG else err.errno\n    return 0",
        "passed",
        "",
    ),
    "many files": (
        "import errno\ndef f(x):\n    try:\n        for i in range(10):\n"
        "            with open(f'big{i}', 'wb') as file:\n"
        "                for _ in range(20): file.write(bytes(1 << 20))\n    except OSError as err:\n"
        "        return x * 2 if err.errno == errno.ENOSPC else err.errno\n    return 0",
        "passed",
        "",
    ),
    "zip bomb": (
        "import zlib\npacker = zlib.compressobj(1)\n"
        "bomb = b''.join([packer.compress(bytes(1 << 20)) for _ in range(1500)] + [packer.flush()])\n"
        "def f(x):\n    try: return len(zlib.decompress(bomb))\n    except MemoryError: return x * 2",
        "passed",
        "",
    ),
    "zip bomb as the result": ("def f(x): return [[0] * 1000 for _ in range(3500)]", "failed", "at most"),
    "10,000 levels of recursion": ("def f(x, n=10000): return f(x, n - 1) if n else 4", "failed", "RecursionError"),
    "10,000 levels of recursion, allowed": (
        "import sys\nsys.setrecursionlimit(20000)\ndef f(x, n=10000): return f(x, n - 1) if n else 4",
        "passed",
        "",
    ),
    "10,000 levels of nesting as the result": (
        "def f(x):\n    r = []\n    for _ in range(10000): r = [r]\n    return r",
        "failed",
        "nested deeper",
    ),
    "a list in itself": ("def f(x):\n    r = []\n    r.append(r)\n    return r", "failed", "AssertionError"),
    "10,000 levels of nesting in the source": ("x = " + "(" * 10000 + ")" * 10000, "failed", ""),
    "huge integer to text": ("def f(x): return str(1 << 10 ** 8)", "failed", "ValueError"),
    "huge integer": ("def f(x): return 1 << 10 ** 6", "failed", "AssertionError"),
    "too large a result": ("def f(x): return 'x' * (50 << 20)", "failed", "at most"),
    "thread that never ends": (
        "import threading, time\nthreading.Thread(target=lambda: time.sleep(10 ** 6)).start()\ndef f(x): return x * 2",
        "passed",
        "",
    ),
    "busy thread that never ends": (
        "import threading\ndef g():\n    while True: pass\nthreading.Thread(target=g).start()\ndef f(x): return x * 2",
        "passed",
        "",
    ),
    "no UTF-8": ("def f(x): return '\\ud800'", "failed", "AssertionError"),
    "no program": ("\x00", "failed", ""),
    "surrogate in the source": ("'\ud800'", "failed", ""),
    "not defined": ("def g(x): return x * 2", "failed", "NameError"),
    "a standard name instead": ("import builtins\nabs = builtins.abs = lambda x: 0", "failed", "NameError"),
    "reads a standard input": ("input()", "failed", "EOFError"),
}
SLOW = {name for name, (_, status, _) in PROGRAMS.items() if status == "timed out"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_comes_to(name: str, judge: Judge) -> None:
    code, status, detail = PROGRAMS[name]
    verdict = judge(code, timeout_s=0.5 if name in SLOW else 30.0)
    assert (verdict.status, detail in verdict.detail) == (status, True), verdict
    assert len(verdict.detail) <= 1000 and (verdict.detail.isprintable() or verdict.detail == "")


def test_a_stack_that_overflows_ends_no_more_than_the_program(judge: Judge) -> None:
    code = "import sys\nsys.setrecursionlimit(10**9)\n"
    code += "class A:\n    def __getattr__(self, name): return getattr(self, name)"
    # Python 3.12 and later notice in time.
    assert judge(f"{code}\nA().x").status == ("died" if sys.version_info < (3, 12) else "failed")


# Each defines f so that f(2) is 4 exactly if what it tries is refused.
REFUSED = {
    "kill the parent": (
        "import os, errno\ndef f(x):\n    try: os.kill(os.getppid(), 9)\n    except OSError as err:\n"
        "        return x * 2 if err.errno == errno.EPERM else err.errno"
    ),
    "trace the parent": (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "def f(x): return x * 2 if libc.ptrace(16, os.getppid(), 0, 0) == -1 and ctypes.get_errno() == 1 else 0"
    ),
    "become root": (
        "import os\ndef f(x):\n    try: os.setuid(0)\n    except OSError: return x * 2 if os.getuid() == 65534 else 0"
    ),
    "make namespaces": (
        "import ctypes\nkinds = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)\n"
        "def f(x): return x * 2 if {ctypes.CDLL(None).unshare(kind) for kind in kinds} == {-1} else 0"
    ),
    "fork into a user namespace": (
        "import ctypes, os\nnumber = 56 if os.uname().machine == 'x86_64' else 220\ndef f(x):\n"
        "    pid = ctypes.CDLL(None).syscall(*map(ctypes.c_long, (number, 0x10000000 | 17, 0, 0, 0, 0)))\n"
        "    if pid == 0: os._exit(0)\n    return x * 2 if pid == -1 else pid"
    ),
    "take files out of other processes": (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n"
        "def call(*args): return libc.syscall(*map(ctypes.c_long, args))\n"
        "def f(x):\n    others = [p for p in range(1, 100) if p != os.getpid()]\n"
        "    seen = [pidfd for pidfd in (call(434, p, 0) for p in others) if pidfd >= 0]\n"
        "    taken = [call(438, pidfd, fd, 0) for pidfd in seen for fd in range(64)]\n"
        "    return x * 2 if seen and set(taken) == {-1} else [len(seen), taken]"
    ),
    "make memory that no limit counts": (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\ndef f(x):\n    try: os.memfd_create('m')\n"
        "    except OSError: x += 1\n    return x + (libc.shmget(0, ctypes.c_size_t(4096), 0o1600) == -1)"
    ),
    "talk to a hypervisor": (
        "import socket\ndef f(x):\n    try: socket.socket(40, socket.SOCK_STREAM)\n    except OSError: return x * 2"
    ),
    "mount": (
        "import ctypes\n"
        "def f(x): return x * 2 if ctypes.CDLL(None).mount(b't', b'/box', b'tmpfs', 0, None) == -1 else 0"
    ),
    "write a standard module": (
        "import os, json\ndef f(x):\n    try: open(json.__file__, 'a')\n    except OSError: return x * 2"
    ),
    "write below the root": (
        "import os\ndef f(x):\n    for path in ('/x', '/dev/x', '/lib/x', '/usr/lib/x'):\n"
        "        try: open(path, 'w')\n        except OSError: x += 0.5\n    return x"
    ),
    "read /etc, /proc, /home": (
        "import os\ndef f(x): return x * 2 if not any(map(os.path.exists, ('/etc', '/proc', '/sys', '/var'))) else 0"
    ),
    "read installed packages": (
        "import glob, os, sysconfig\ndef f(x):\n    paths = glob.glob(sysconfig.get_path('stdlib') + '/*-packages/*')\n"
        "    return x * 2 if not paths else 0"
    ),
    "raise a limit": (
        "import resource\ndef f(x):\n    try: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
        "    except ValueError: return x * 2"
    ),
    "keep more than 16 processes": (
        "import os, time\ndef f(x):\n    n = 0\n    try:\n        while n < 40:\n"
        "            if os.fork() == 0: time.sleep(100)\n"
        "            n += 1\n    except OSError: pass\n    return x * 2 if n < 16 else n"
    ),
    "see other processes": (
        "import os\ndef f(x):\n    seen = 0\n    for pid in range(1, 5000):\n        try: os.kill(pid, 0)\n"
        "        except ProcessLookupError: continue\n        except PermissionError: pass\n        seen += 1\n"
        "    return x * 2 if seen < 6 else seen"
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_program_is_refused_to(name: str, judge: Judge) -> None:
    if name == "kill the parent" and os.getuid():
        pytest.skip("both have one user id here; the parent is the examiner, and the program dies with it")
    assert judge(REFUSED[name]).status == "passed", judge(REFUSED[name])


OUTSIDER = """
import sys
sys.path.insert(0, sys.argv[1])
from slmbench.sandbox import Program, Sandbox
programs = [Program(sys.stdin.read(), "assert f(2) == 4")]
(verdict,) = Sandbox(sys.argv[2], sys.argv[3] or None).run(programs, timeout_s=10)
print(verdict.status, verdict.detail)
"""
# All that root's programs are refused is refused to others', where the jail's own processes have their user id.
OTHERS = [name for name in REFUSED if name not in ("kill the parent", "keep more than 16 processes")]
OTHER = {"user": 4321, "group": 4321, "extra_groups": [], "cwd": "/", "capture_output": True, "text": True}


@pytest.fixture(scope="module")
def others_python() -> Iterator[list[str]]:
    """What begins a command with which another user runs a program, from a copy of this package that it can read."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user, and the other tests run as one already")
    folder = Path(tempfile.mkdtemp())
    try:
        for package in (slmbench, attr, attrs):
            source = Path(package.__file__).parent
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", "registry"))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        for python in (sys.executable, getattr(sys, "_base_executable", ""), "/usr/bin/python3"):
            command = [python, "-P", "-c", OUTSIDER, str(folder)]
            try:
                if not subprocess.run([*command, "namespaces", ""], input="def f(x): return 4", **OTHER).returncode:
                    yield command
                    return
            except OSError:
                continue
        pytest.skip("another user can run no Python or make no user namespace here")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", OTHERS)
def test_under_another_user_a_program_is_refused_to(name: str, jail: Sandbox, others_python: list[str]) -> None:
    command = [*others_python, jail.tier, jail.bwrap or ""]
    done = subprocess.run(command, input=REFUSED[name], timeout=60, **OTHER)
    assert done.stdout.strip() == "passed", done


KEYRING = """
import ctypes, os, sys
from slmbench.sandbox import Program, Sandbox
libc = ctypes.CDLL(None)
keyctl, add_key = (250, 248) if os.uname().machine == "x86_64" else (219, 217)
if libc.syscall(keyctl, 1, None) < 0 or libc.syscall(add_key, b"user", b"slm:secret", b"hunter2", 7, -3) < 0:
    sys.exit(77)
assert libc.syscall(keyctl, 10, -3, b"user", b"slm:secret", 0) > 0
code = (
    "import ctypes\\ndef f():\\n    libc = ctypes.CDLL(None)\\n"
    f"    found = libc.syscall({keyctl}, 10, -3, b'user', b'slm:secret', 0)\\n"
    f"    libc.syscall({add_key}, b'user', b'left', b'x', 1, -3)\\n    return found"
)
verdict = Sandbox(sys.argv[1], sys.argv[2] or None).run([Program(code, "assert f() == -1")])[0]
print(verdict.status, libc.syscall(keyctl, 10, -3, b"user", b"left", 0))
"""


def test_the_keyring_of_the_caller_is_not_there(jail: Sandbox) -> None:
    command = [sys.executable, "-c", KEYRING, jail.tier, jail.bwrap or ""]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("this kernel has no keyrings")
    assert done.stdout.split() == ["passed", "-1"], done


def test_what_a_program_puts_in_place_of_a_module_is_not_what_tests_import(judge: Judge) -> None:
    code = "import sys, math\nmath.isclose = lambda *a: True\nsys.modules['cmath'] = math\n"
    code += "def f(x): return math.isclose(1, 2)"
    tests = "import math, cmath\nassert f(2) is True\nassert not math.isclose(1, 2)\nassert not cmath.isclose(1, 2)"
    assert judge(code, tests).status == "passed"
    assert judge(code, tests.replace("not math", "math")).status == "failed"


def test_the_environment_of_the_caller_is_not_there(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMBENCH_SECRET", "hunter2")
    code = (
        "import ctypes, os\ndef f(x):\n    text = repr(os.environ)\n"
        "    for pid in ('self', *range(1, 100), os.getppid()):\n"
        "        try: text += open(f'/proc/{pid}/environ').read()\n        except OSError: pass\n"
        "    return [sorted(os.environ), 'hunter2' in text]"
    )
    tests = "assert f(0)[1] is False\nassert 'SLMBENCH_SECRET' not in f(0)[0] and 'PYTHONHASHSEED' in f(0)[0]"
    assert judge(code, tests).status == "passed"


def test_no_server_of_the_host_can_be_reached(judge: Judge) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = (
            "import socket\ndef f(port):\n    try: socket.create_connection(('127.0.0.1', port), 2)\n"
            "    except OSError: return 'refused'\n    return 'connected'"
        )
        assert judge(code, f"assert f({port}) == 'refused'").status == "passed"
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


def test_abstract_sockets_of_the_host_can_not_be_reached(judge: Judge) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(b"\0slmbench-" + str(os.getpid()).encode())
        server.listen()
        code = (
            "import socket\ndef f(name):\n    try: socket.socket(socket.AF_UNIX).connect(name)\n"
            "    except OSError: return 'refused'\n    return 'connected'"
        )
        assert judge(code, f"assert f({server.getsockname()!r}) == 'refused'").status == "passed"


def test_files_of_the_host_are_neither_seen_nor_lost(judge: Judge, tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    victim.chmod(0o666)
    tmp_path.chmod(0o777)
    code = (
        "import os, posix\ndef f(path):\n    seen = [os.path.exists(path)]\n    os.symlink(path, 'link')\n"
        "    for attempt in (lambda: posix.unlink(path), lambda: open(path, 'w'), lambda: open('link', 'w'),\n"
        "                    lambda: open('../' * 20 + path[1:], 'w'), lambda: os.listdir(os.path.dirname(path))):\n"
        "        try: attempt(); seen.append(True)\n        except OSError: seen.append(False)\n    return seen"
    )
    verdict = judge(code, f"assert f({str(victim)!r}) == [False] * 6")
    assert verdict.status == "passed", verdict
    assert victim.read_text() == "precious" and [path.name for path in tmp_path.iterdir()] == ["victim.txt"]


def test_programs_do_not_see_each_others_files(jail: Sandbox) -> None:
    writer = Program("open('left', 'w').write('x')\ndef f(): return 1", "assert f() == 1")
    reader = Program("import os\ndef f(): return os.listdir('.')", "assert f() == []")
    assert [v.status for v in jail.run([writer, reader, writer, reader], workers=1)] == ["passed"] * 4


FORKS = {
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "posix.fork": (
        "import posix, time\nfor _ in range(10):\n    if posix.fork() == 0: time.sleep(1000)\ndef f(x): return x * 2"
    ),
    "daemon": (
        "import os, time, signal\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        if os.fork(): os._exit(0)\n        [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]\n"
        "        time.sleep(1000)\ndef f(x): return x * 2"
    ),
    "reload(os)": (
        "import importlib, os, time\nimportlib.reload(os)\nif os.fork() == 0: time.sleep(1000)\ndef f(x): return x * 2"
    ),
    "posix_spawn": (
        "import posix, sys\n"
        "posix.posix_spawn(sys.executable, [sys.executable, '-c', 'import time; time.sleep(1000)'], {})\n"
        "def f(x): return x * 2"
    ),
}


@pytest.mark.parametrize("name", FORKS)
def test_nothing_that_a_program_started_survives_it(name: str, judge: Judge, descendants: Descendants) -> None:
    verdict = judge(FORKS[name], timeout_s=0.5 if name == "fork bomb" else 10.0)
    assert verdict.status == ("timed out" if name == "fork bomb" else "passed"), verdict
    assert descendants() == set()


def test_survivors_would_be_seen(descendants: Descendants) -> None:
    verdict = Sandbox("unsafe").run([Program(FORKS["daemon"].replace("1000", "20"), "assert f(2) == 4")], workers=1)
    left = descendants()
    for pid in left:
        os.kill(pid, 9)
    assert verdict[0].status == "passed" and left


HIDDEN = "SECRET_EXPECTATION_7351"


def test_expected_values_are_nowhere_in_the_programs_memory(judge: Judge) -> None:
    code = (
        "import gc, sys\ndef f(x):\n    needle = 'SECRET_' + 'EXPECTATION_'\n    frame, seen = sys._getframe(), []\n"
        "    while frame:\n        seen.append(repr(frame.f_locals) + repr(frame.f_globals))\n"
        "        frame = frame.f_back\n"
        "    seen += [repr(o) for o in gc.get_objects() if type(o) in (dict, list, tuple, str)]\n"
        "    return any(needle + '7351' in text for text in seen)"
    )
    assert judge(code, f"expected = '{HIDDEN}'\nassert f(1) is False", timeout_s=60).status == "passed"


def test_expected_values_of_earlier_programs_are_not_in_the_heap(jail: Sandbox) -> None:
    # Searches the process's own writable memory, by way of a pipe that the kernel refuses to fill from unmapped pages.
    # What it looks for is never in it whole, only backwards.
    code = (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\ndef found(page):\n    parts = page.split(b'SECRET_')[1:]\n"
        "    return any(part[:16][::-1] == b'1537_NOITATCEPXE' for part in parts)\n"
        "def f():\n    start, hits = id(object()) & ~0xFFFFF, 0\n    r, w = os.pipe()\n"
        "    for page in range(start - (8 << 20), start + (8 << 20), 4096):\n"
        "        if libc.write(w, ctypes.c_void_p(page), ctypes.c_size_t(4096)) == 4096:\n"
        "            hits += found(os.read(r, 4096))\n    return hits"
    )
    other = Program("def g(): return 1", f"expected = '{HIDDEN}'\nassert g() == 1")
    verdicts = jail.run(
        [other, Program(code, f"expected = '{HIDDEN}'\nassert f() == 0"), other], workers=1, timeout_s=30
    )
    assert [v.status for v in verdicts] == ["passed"] * 3, verdicts


IMITATIONS = {
    "prints the verdict": 'print(\'["passed", ""]\')\nimport os\nos._exit(0)',
    "writes the verdict to every file": (
        'import os\nfor fd in range(3, 64):\n    for text in (b\'["passed", ""]\', b\'"go"\'):\n'
        "        try: os.write(fd, len(text).to_bytes(4, 'big') + text)\n        except OSError: pass\nos._exit(0)"
    ),
    "answers before it is asked": (
        "import os\ntext = b'{\"value\": true}'\nfor fd in range(3, 64):\n    for _ in range(20):\n"
        "        try: os.write(fd, len(text).to_bytes(4, 'big') + text)\n        except OSError: pass\n"
        "def f(x): return 5"
    ),
    "answers with nonsense": (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'\\x00\\x00\\x00\\x05nonse' * 50)\n"
        "    except OSError: pass"
    ),
    "answers with a huge length": (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'\\xff' * 100)\n    except OSError: pass"
    ),
    "answers with deep JSON": (
        "import os\ntext = b'[' * 60000\nfor fd in range(3, 64):\n"
        "    try: os.write(fd, len(text).to_bytes(4, 'big') + text)\n"
        "    except OSError: pass"
    ),
    "answers with unknown tags": (
        'import os\ntext = b\'{"value": {"eval": "passed"}}\'\nfor fd in range(3, 64):\n'
        "    try: os.write(fd, len(text).to_bytes(4, 'big') + text)\n    except OSError: pass"
    ),
    "raises what ends tests quietly": "def f(x): raise type('SystemExit', (BaseException,), {})(0)",
    "raises StopIteration": "def f(x): raise StopIteration",
    "raises a forged exception": "def f(x): raise type('__import__', (Exception,), {})('os')",
}


@pytest.mark.parametrize("name", IMITATIONS)
def test_output_that_imitates_the_protocol_never_passes(name: str, judge: Judge) -> None:
    for tests in ("assert f(2) == 4", "try:\n    f(2)\nexcept ValueError:\n    pass\nassert f(2) == 4"):
        assert judge(IMITATIONS[name], tests, timeout_s=3).status in ("failed", "died")


def test_a_program_that_died_does_not_pass_tests_that_catch_everything(judge: Judge) -> None:
    verdict = judge("import os\ndef f(): os._exit(0)", "try:\n    f()\nexcept BaseException:\n    pass")
    assert verdict.status == "died"


def test_a_program_can_not_bring_its_own_abs_or_counter(judge: Judge) -> None:
    code = "abs = set = len = lambda *a: 0\nclass Counter(dict):\n    pass\nmath = Counter()\n"
    code += "math.isclose = lambda *a: True\ndef f(x): return 5"
    for tests in (
        "assert abs(f(2) - 4) < 1e-6",
        "assert set([f(2)]) == set([4])",
        "assert Counter([f(2)]) == Counter([4])",
        "assert math.isclose(f(2), 4)",
    ):
        assert judge(code, tests).status == "failed", tests


def test_an_opaque_object_is_neither_equal_nor_ordered(judge: Judge) -> None:
    code = (
        "class A:\n    def yes(self, *a): return True\n"
        "    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __contains__ = __instancecheck__ = yes\n"
        "    def __hash__(self): return hash(4)\n    def __len__(self): return 4\n    def __index__(self): return 4\n"
        "def f(x): return A()"
    )
    for tests in (
        "assert f(2) == 4",
        "assert 4 == f(2)",
        "assert f(2) in [4]",
        "assert 4 in {f(2): 1}",
        "assert f(2) < 5",
        "assert f(2) > 3",
        "assert isinstance(f(2), int)",
        "assert [1, 2, 3, 4, 5][f(2)] == 5",
        "assert f(2) == f(2)",
        "assert not f(2) != 4",
    ):
        assert judge(code, tests).status == "failed", tests
