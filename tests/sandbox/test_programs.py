"""Right programs that pass in plain Python, of kinds that calls between two processes find hard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.sandbox import Program, Sandbox
from tests.sandbox.conftest import shared_out

# Blocks of `=== kind: name`, the program, `---`, its tests.
FILE = Path(__file__).with_name("programs.txt")
# What calls between two processes don't carry; such tests are declared `examine: in_process`.
NOT_CARRIED = {
    "async: a callback",
    "async: a context",
    "async: a generator",
    "async: a queue",
    "async: an error",
    "async: asked whether it is a coroutine function",
    "async: awaited in a coroutine of the tests",
    "async: gather",
    "async: gather inside",
    "async: run",
    "async: sleep",
    "async: timeout",
    "cache: docstring and name",
    "cache: signature",
    "command line: argparse",
    "command line: getpass patched",
    "function argument: a builtin",
    "function argument: a decorator keeps the name",
    "function argument: partial and method",
    "iterator argument: a class of the tests",
    "iterator argument: dict views",
    "len and truth: a context",
    "len and truth: contains",
    "len and truth: contextmanager",
    "len and truth: equality of its own",
    "len and truth: hash",
    "len and truth: isinstance",
    "len and truth: items",
    "len and truth: order of its own",
    "len and truth: subclass made by the tests",
    "len and truth: suppress",
    "memoryview: array",
    "memoryview: written through",
    "named result: dataclass compared",
    "named result: dataclass ordered",
    "named result: dataclasses in a list",
    "named result: divmod record with a method",
    "named result: frozen dataclass as a key",
    "output: input patched",
    "output: logging",
    "output: print patched",
    "output: warnings",
}
# Root's tests and programs have ids of their own, and no file in common; under another user they share one.
FILES_IN_COMMON = {"Path: a file", "Path: files of a folder", "Path: written by the program"}
CARRIED = ("StringIO", "one list twice", "identity", "generator argument")


def read_programs(examine: str) -> dict[str, Program]:
    found = {}
    for block in FILE.read_text(encoding="utf-8").split("=== ")[1:]:
        name, _, rest = block.partition("\n")
        code, _, tests = rest.partition("\n---\n")
        found[name] = Program(code + "\n", tests, examine)
    return found


PLAIN = """
import json, os, sys, types
failed = []
for name, code, tests in json.load(sys.stdin):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        module = sys.modules["program"] = types.ModuleType("program")
        exec(compile(code + tests, name, "exec", dont_inherit=True), module.__dict__)
        os._exit(0)
    failed += [name] if os.waitpid(pid, 0)[1] else []
print(json.dumps(failed))
"""


def test_every_program_passes_in_plain_python(tmp_path: Path) -> None:
    programs = read_programs("two_processes")
    assert len(programs) >= 126
    given = json.dumps([(name, program.code, program.tests) for name, program in programs.items()])
    done = subprocess.run(
        [sys.executable, "-c", PLAIN], input=given, capture_output=True, text=True, cwd=tmp_path, timeout=120,
        env={key: value for key, value in os.environ.items() if key != "APP_HOME"},
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == [], done.stderr[-3000:]


def test_every_program_passes_with_its_tests_in_its_process(jail: Sandbox) -> None:
    programs = dict(shared_out(jail, read_programs("in_process").items()))
    assert len(programs) > 30
    verdicts = jail.run(programs.values(), timeout_s=30)
    assert [(n, v) for n, v in zip(programs, verdicts, strict=True) if v.status != "passed"] == []


def test_programs_that_two_processes_carry_pass_and_the_others_say_why() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("jails need Linux")
    programs = read_programs("two_processes")
    verdicts = Sandbox("namespaces").run(programs.values(), timeout_s=30)
    whole = [(n, v) for n, v in zip(programs, verdicts, strict=True) if n.startswith(CARRIED)]
    assert len(whole) > 15 and [(n, v) for n, v in whole if v.status != "passed"] == []
    not_passed = {n for n, v in zip(programs, verdicts, strict=True) if v.status != "passed"}
    assert not_passed == NOT_CARRIED | (FILES_IN_COMMON if os.geteuid() == 0 else set())
    assert all(verdict.detail for verdict in verdicts if verdict.status != "passed")
