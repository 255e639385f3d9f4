"""Which tier is taken, when none is, what the unsafe one still holds, and that nothing is left behind."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

import slmbench
from slmbench.console import watching
from slmbench.errors import SlmbenchError, TrustError
from slmbench.sandbox import Program, Sandbox, _hosts, open_sandbox
from slmbench.sandbox._wire import read_frame

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="jails need Linux")


@linux
def test_bubblewrap_comes_first_and_namespaces_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert open_sandbox().tier == ("bubblewrap" if shutil.which("bwrap") else "namespaces")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert open_sandbox() == open_sandbox(allow_unsafe=True) == Sandbox("namespaces")


@linux
def test_a_bwrap_that_does_not_work_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert open_sandbox().tier == "namespaces"


@linux
def test_a_bwrap_that_jails_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # It skips to the interpreter and runs it as it is.
    (tmp_path / "bwrap").write_text('#!/bin/sh\nwhile [ "${1##*/python}" = "$1" ]; do shift; done\nexec "$@"\n')
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert open_sandbox().tier == "namespaces"


REFUSAL = """
import sys
from slmbench.errors import TrustError
from slmbench.sandbox import Program, open_sandbox
try:
    print(open_sandbox().tier)
except TrustError as err:
    print(err.exit_code, err)
sandbox = open_sandbox(allow_unsafe=True)
print(sandbox.tier, [v.status for v in sandbox.run([Program("def f(): return 1", "assert f() == 1")] * 2)])
"""


@linux
def test_without_any_tier_it_refuses_and_says_how_to_get_one(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    assert unshare, "util-linux is part of every Linux"
    # A user namespace in which no further one can be made, and no bwrap on the PATH.
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1"'
    done = subprocess.run(
        [unshare, "-Ur", "/bin/sh", "-c", script, sys.executable, REFUSAL],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    refusal, unsafe = done.stdout.splitlines()
    assert refusal.startswith("3 ")
    for part in (
        "no bwrap on the PATH",
        "namespaces: ",
        "apt install bubblewrap",
        "max_user_namespaces",
        "--allow-unsafe-code",
    ):
        assert part in refusal, part
    assert unsafe == "unsafe ['passed', 'passed']"


def test_a_system_other_than_linux_is_refused_unless_unsafe_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(TrustError, match="jails need Linux, this is darwin"):
        open_sandbox()
    assert open_sandbox(allow_unsafe=True).tier == "unsafe"


UNSAFE = {
    "right": ("def f(): return 1", "passed"),
    "wrong": ("def f(): return 2", "failed"),
    "always equal": ("class A:\n    def __eq__(self, o): return True\ndef f(): return A()", "failed"),
    "endless": ("while True: pass", "timed out"),
    "SIGTERM ignored": ("import signal\nsignal.signal(15, signal.SIG_IGN)\nwhile True: pass", "timed out"),
    "os._exit": ("import os\nos._exit(0)", "died"),
    "1.5 GB": ("def f():\n    try: bytearray(1500 << 20)\n    except MemoryError: return 1", "passed"),
    "60 MB file": ("def f():\n    try: open('x', 'wb').write(bytes(60 << 20))\n    except OSError: return 1", "passed"),
    "flood": ("for _ in range(50): print('x' * (1 << 20))\ndef f(): return 1", "passed"),
    "environment": ("import os\ndef f(): return len([k for k in os.environ if 'SECRET' in k]) + 1", "passed"),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_without_a_jail_clock_limits_and_the_second_process_still_hold(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THE_SECRET", "x")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, status = UNSAFE[name]
    timeout_s = 0.5 if status == "timed out" else 30.0
    verdict = Sandbox("unsafe").run([Program(code, "assert f() == 1")], timeout_s=timeout_s)[0]
    assert verdict.status == status, verdict
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"workers": 0}])
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        Sandbox("unsafe").run([Program("", "")], **arguments)  # type: ignore[arg-type]


ENDLESS = """
import sys
from slmbench.console import watching
from slmbench.sandbox import Program, Sandbox
sandbox = Sandbox(sys.argv[1], sys.argv[2] or None)
first = Program("def f(): return 1", "assert f() == 1")
programs = [first] + [Program("while True: pass", "")] * 4
with watching(lambda what, n: print(n, flush=True)):
    sandbox.run(programs, timeout_s=100, workers=3)
"""


@linux
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_the_end_of_the_caller_ends_all_children(
    end: signal.Signals, jail: Sandbox, descendants: Callable[[], set[int]]
) -> None:
    command = [sys.executable, "-c", ENDLESS, jail.tier, jail.bwrap or ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as caller:
        assert caller.stdout is not None and caller.stdout.readline() == b"1\n"
        time.sleep(0.3)
        assert len(descendants()) > 4
        began = time.monotonic()
        caller.send_signal(end)
        caller.wait(20)
        assert time.monotonic() - began < 15
    for _ in range(100):
        if not descendants():
            break
        time.sleep(0.1)
    assert descendants() == set()


@linux
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
@pytest.mark.parametrize("delay_s", [0.05, 0.08, 0.11, 0.14, 0.17, 0.2])
def test_the_end_of_the_caller_ends_jails_that_are_being_made(
    delay_s: float, end: signal.Signals, jail: Sandbox, descendants: Callable[[], set[int]]
) -> None:
    early = ENDLESS.replace("sandbox.run", "print('go', flush=True)\nsandbox.run").replace("workers=3", "workers=8")
    command = [sys.executable, "-c", early.replace("* 4", "* 40"), jail.tier, jail.bwrap or ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as caller:
        assert caller.stdout is not None and caller.stdout.readline() == b"go\n"
        time.sleep(delay_s)
        began = time.monotonic()
        caller.send_signal(end)
        caller.wait(20)
    while descendants() and time.monotonic() - began < 6:
        time.sleep(0.02)
    assert descendants() == set()


def helper_among(pids: set[int]) -> int:
    (pid,) = (pid for pid in pids if os.getpid() == parent_of(pid))
    return pid


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@linux
def test_a_helper_that_dies_between_programs_is_replaced(jail: Sandbox, descendants: Callable[[], set[int]]) -> None:
    killed: list[int] = []

    def kill(what: str, n: int) -> None:
        if len(killed) < 3:
            killed.append(helper_among(descendants()))
            os.kill(killed[-1], signal.SIGKILL)

    right = Program("import time\ntime.sleep(0.2)\ndef f(): return 1", "assert f() == 1")
    with watching(kill):
        verdicts = jail.run([right] * 4, workers=1)
    assert [verdict.status for verdict in verdicts] == ["passed"] * 4 and len(set(killed)) > 2


@linux
def test_a_helper_whose_answer_nobody_read_ends_as_usual(jail: Sandbox, descendants: Callable[[], set[int]]) -> None:
    host = _hosts.start_host(jail.tier, 5.0, jail.bwrap)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(host.control, [b"s"], [theirs.fileno()])
        assert select.select([host.control], [], [], 20)[0]
        host.control.close()  # Its peer reads ECONNRESET, and not the end of the stream.
        assert host.process.wait(20) == 0
        assert _hosts._said(host) == "" and descendants() == set()
    host.errors.close()


@linux
def test_what_a_killed_helper_leaves_half_built_is_swept(tmp_path: Path, descendants: Callable[[], set[int]]) -> None:
    # As bubblewrap, for a moment: its child is not yet bound to end with it.
    bwrap = tmp_path / "bwrap"
    bwrap.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 1\nsleep 1000 &\nwait\n')
    bwrap.chmod(0o755)
    host = _hosts.start_host("bubblewrap", 5.0, str(bwrap))
    killed: list[int] = []

    def kill() -> None:
        while not any(b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants()):
            time.sleep(0.01)
        os.kill(host.process.pid, signal.SIGKILL)
        killed.append(host.process.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    began = time.monotonic()
    with pytest.raises(_hosts.HostFailed):
        _hosts.judge(host, "", "", 5.0)
    thread.join()
    assert killed and time.monotonic() - began < _hosts.START_S / 2, "its end is noticed, not waited for"
    assert descendants()
    _hosts.stop_host(host)
    _hosts.stop_host(host)
    host.errors.close()
    while descendants() and time.monotonic() - began < 20:
        time.sleep(0.01)
    assert descendants() == set()


@linux
def test_a_helper_that_gives_no_answer_is_replaced(
    jail: Sandbox, descendants: Callable[[], set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hosts, "ANSWER_S", 1.0)
    monkeypatch.setattr(_hosts, "STOP_S", 0.5)
    stopped: list[int] = []

    def stop_once(what: str, n: int) -> None:
        if not stopped:
            stopped.append(helper_among(descendants()))
            os.kill(stopped[0], signal.SIGSTOP)

    right = Program("import time\ntime.sleep(0.2)\ndef f(): return 1", "assert f() == 1")
    with watching(stop_once):
        verdicts = jail.run([right] * 3, workers=1)
    assert [verdict.status for verdict in verdicts] == ["passed"] * 3
    for _ in range(100):
        if not descendants():
            break
        time.sleep(0.05)
    assert descendants() == set() and stopped


def test_a_helper_starts_no_jail_beside_another(jail: Sandbox, descendants: Callable[[], set[int]]) -> None:
    host = _hosts.start_host(jail.tier, 3.0, jail.bwrap)
    ours, theirs = socket.socketpair()
    with host.errors, ours, theirs:
        for expected in ({}, {"error": "a jail is still there"}):
            socket.send_fds(host.control, [b"s"], [theirs.fileno()])
            assert read_frame(host.control.fileno()) == expected
        _hosts.stop_host(host)
    assert descendants() == set()


@linux
@pytest.mark.skipif(os.getuid() != 0, reason="only root's programs run as somebody else")
def test_a_python_that_only_root_can_read_is_passed_over_and_named(tmp_path: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}))
    copy = tmp_path / "lib" / stdlib.name
    left_out = shutil.ignore_patterns("test", "tests", "*-packages", "__pycache__", "idlelib", "ensurepip", "config-*")
    shutil.copytree(stdlib, copy, ignore=left_out)
    for library in Path(sys.base_prefix, "lib").glob("libpython*"):
        shutil.copy2(library, tmp_path / "lib")
    (tmp_path / "bin").mkdir()
    python = shutil.copy2(os.path.realpath(sys.executable), tmp_path / "bin")
    copy.chmod(0o700)
    folders = [str(Path(package.__file__).parents[1]) for package in (slmbench, attrs)]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(folders), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", REFUSAL], env=environment, capture_output=True, text=True, timeout=100)
    refusal = done.stdout.splitlines()[0]
    assert refusal.startswith("3 ") and f"can other users read the standard library in {tmp_path}?" in refusal
    copy.chmod(0o755)
    done = subprocess.run([python, "-c", REFUSAL], env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines()[0] in ("bubblewrap", "namespaces"), done


def test_a_program_too_large_to_be_handed_over_fails_alone(jail: Sandbox) -> None:
    right = Program("def f(): return 1", "assert f() == 1")
    large = Program("#" * (65 << 20), right.tests)
    verdicts = jail.run([right, large, right], workers=1)
    assert [verdict.status for verdict in verdicts] == ["passed", "failed", "passed"]
    assert "larger than 64 MiB" in verdicts[1].detail


def test_a_temporary_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(TrustError, match=r"no temporary file can be made.*gone"):
        open_sandbox()
    with pytest.raises(SlmbenchError, match="gone"):
        Sandbox("unsafe").run([Program("", "")])


def test_an_error_of_the_progress_bar_ends_all_children(jail: Sandbox, descendants: Callable[[], set[int]]) -> None:
    def fail(what: str, n: int) -> None:
        raise RuntimeError("bar")

    with pytest.raises(RuntimeError, match="bar"), watching(fail):
        jail.run([Program("", "")] + [Program("while True: pass", "")] * 3, timeout_s=100, workers=2)
    assert descendants() == set()


HOSTILE = (
    "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: os.fork()",
    "import os\nfor i in range(3000):\n    open(f'{i}', 'w').write('x')\nos._exit(1)",
    "import ctypes\nctypes.string_at(0)",
    "x = [bytearray(1 << 20) for _ in range(5000)]",
    "def f(): raise ValueError('x' * (5 << 20))",
    "import threading, time\nthreading.Thread(target=lambda: time.sleep(1000)).start()",
    "import os\nfor fd in range(64):\n    try: os.write(fd, b'x' * 5000)\n    except OSError: pass",
    "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while True: pass'])",
    "import os\nos.kill(-1, 9)",
    "import socket\ns = [socket.socketpair() for _ in range(1000)]",
)


@linux
@pytest.mark.slow
def test_a_hundred_hostile_programs_leave_nothing_behind(
    jail: Sandbox, descendants: Callable[[], set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    n = 60
    programs = [Program(HOSTILE[i % len(HOSTILE)], "assert f() == 1") for i in range(n)]
    programs[::20] = [Program("while True: pass", "")] * (n // 20)
    jail.run(programs[:40], timeout_s=0.3)  # What is loaded once is loaded.
    before = rss_bytes(), set(os.listdir("/proc/self/fd")), Path("/proc/self/mountinfo").read_text()
    verdicts = jail.run(programs, timeout_s=0.5)
    assert {v.status for v in verdicts} == {"failed", "timed out", "died"}
    assert descendants() == set()
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) == before[1] and Path("/proc/self/mountinfo").read_text() == before[2]
    assert rss_bytes() - before[0] < 1 << 20


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
