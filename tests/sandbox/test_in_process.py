"""Tests in the program's own process: what they can ask there, what still holds, and what gets through."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slmbench.sandbox import Program, Sandbox, Verdict
from tests.sandbox.conftest import shared_out
from tests.sandbox.test_hostile import IMITATIONS, PROGRAMS, REFUSED, SLOW
from tests.sandbox.test_verdicts import RIGHT, WRONG

Judge = Callable[..., Verdict]


@pytest.fixture
def beside(jail: Sandbox) -> Judge:
    """beside(code, tests, timeout_s=...) -> the verdict on one program, its tests in its process."""

    def run(code: str, tests: str = "assert f(2) == 4", timeout_s: float = 10.0) -> Verdict:
        return jail.run([Program(code, tests, "in_process")], timeout_s=timeout_s, workers=1)[0]

    return run


def test_what_passes_in_two_processes_passes_in_one(jail: Sandbox) -> None:
    names = shared_out(jail, RIGHT)
    verdicts = jail.run([Program(*RIGHT[name], "in_process") for name in names], timeout_s=30)
    assert [(n, v) for n, v in zip(names, verdicts, strict=True) if v.status != "passed"] == []


BESIDE = {
    "functions as arguments, and identity": (
        "def f(g, x): return g(x)\ndef same(x): return x",
        "a = []\nassert f(lambda n: n + 1, 1) == 2 and same(a) is a",
    ),
    "what is patched": (
        "import sys\ndef ask(): return input('?') + sys.argv[1]",
        "import sys\nfrom unittest.mock import patch\nwith patch('builtins.input', return_value='a'), "
        "patch.object(sys, 'argv', ['x', 'b']):\n    assert ask() == 'ab'\n"
        "with patch('program.ask', lambda: 3):\n    import program\n    assert program.ask() == 3",
    ),
    "pickles and type hints": (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int",
        "import pickle, typing\nassert pickle.loads(pickle.dumps(P(1))) == P(1)\n"
        "assert typing.get_type_hints(P) == {'x': int}",
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_tests_in_the_programs_process_can_use(name: str, beside: Judge) -> None:
    verdict = beside(*BESIDE[name], timeout_s=30)
    assert (verdict.status, verdict.detail) == ("passed", "")


# Programs of the two-process tests that come to something else here: they cheat, and it gets through; or what stopped
# them was the crossing, and the tests themselves do.
THROUGH = {"always equal", "always equal, as a builtin's subclass"}
LATER = {
    "zip bomb as the result",
    "10,000 levels of nesting as the result",
    "too large a result",
}


def test_hostile_programs_come_to_what_they_do_in_two_processes_but_for_those_named(jail: Sandbox) -> None:
    names = [name for name in PROGRAMS if name not in SLOW and name not in THROUGH]
    verdicts = jail.run([Program(PROGRAMS[name][0], "assert f(2) == 4", "in_process") for name in names], timeout_s=60)
    wrong = []
    for name, verdict in zip(names, verdicts, strict=True):
        _, status, detail = PROGRAMS[name]
        detail = "AssertionError" if name in LATER else detail
        if (verdict.status, detail in verdict.detail) != (status, True):
            wrong.append((name, verdict))
    assert wrong == []


@pytest.mark.parametrize("name", sorted(SLOW))
def test_what_never_ends_is_ended(name: str, beside: Judge) -> None:
    assert beside(PROGRAMS[name][0], timeout_s=0.5).status == "timed out"


def test_the_jail_is_the_same(jail: Sandbox) -> None:
    names = [name for name in REFUSED if name != "kill the parent"]
    verdicts = jail.run([Program(REFUSED[name], "assert f(2) == 4", "in_process") for name in names], timeout_s=60)
    assert [(n, v) for n, v in zip(names, verdicts, strict=True) if v.status != "passed"] == []


def test_output_that_imitates_the_protocol_never_passes(jail: Sandbox) -> None:
    tests = ("assert f(2) == 4", "try:\n    f(2)\nexcept ValueError:\n    pass\nassert f(2) == 4")
    programs = [Program(code, test, "in_process") for code in IMITATIONS.values() for test in tests]
    assert {verdict.status for verdict in jail.run(programs, timeout_s=1)} <= {"failed", "died", "timed out"}


HELD = {
    "what runs the tests replaced": (
        "import builtins, json, os, slmbench.sandbox._inside as i, slmbench.sandbox._wire as w\n"
        "for where, name in ((builtins, 'exec'), (builtins, 'compile'), (builtins, 'BaseException'), (json, 'loads'),\n"
        "                    (os, 'read'), (i, 'detail_of'), (w, 'read_frame'), (i, 'standard_names')):\n"
        "    setattr(where, name, lambda *a, **k: None)\ndef f(x): return 5"
    ),
    "a trace that swaps what tests see": (
        "import sys\ndef trace(frame, event, arg):\n    if frame.f_code.co_filename == '<tests>':\n"
        "        frame.f_globals['f'] = lambda x: 4\n    return trace\n"
        "sys.settrace(trace)\nsys.setprofile(trace)\ndef f(x): return 5"
    ),
    "an exit at the end": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 5",
    "an exit in a thread": (
        "import os, threading\nthreading.Timer(0.1, os._exit, (0,)).start()\ndef f(x):\n    while True: pass"
    ),
    "the tests read before they are there": (
        "import gc\nfound = [o for o in gc.get_objects() if type(o) is dict and o.get('__name__') == 'tests']\n"
        "def f(x): return 4 if found else 5"
    ),
    "names of its own for those of Python": "abs = len = lambda *a: 4\nclass AssertionError(Exception): pass",
    "words that follow a guessed nonce": (
        "import os\nfor fd in range(3, 20):\n"
        "    try: os.write(fd, b'\\0\\0\\0\\3ran\\0\\0\\0\\x16' + bytes(16) + b'passed')\n"
        "    except OSError: pass\nos._exit(0)"
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_a_program_gains_nothing_by(name: str, beside: Judge) -> None:
    tests = "assert abs(f(2) - 4) < 1e-6" if "names" not in name else "assert abs(-2) == 2 and len('a') == 1 and 0"
    assert beside(HELD[name], tests).status in ("failed", "died")


# What the mode can't hold, by kind; in two processes none of it passes. The documentation names each.
CHEATS = {
    "an object that equals everything": (
        "class A:\n    def __eq__(self, o): return True\ndef f(x): return A()",
        "assert f(2) == 4",
    ),
    "an end of an iterator in the middle of a test": (
        "def f(x): raise StopIteration",
        "assert all(map(lambda c: f(c[0]) == c[1], [(2, 4)]))",
    ),
    "a module of the standard library changed": (
        "import math\nmath.isclose = lambda *a: True\ndef f(x): return 5",
        "import math\nassert math.isclose(f(2), 4)",
    ),
    "the expected value read in the tests": (
        "import sys\ndef f(x):\n    frame = sys._getframe(1)\n"
        "    return next(c for c in frame.f_code.co_consts if type(c) is int and c != x)",
        "assert f(2) == 4",
    ),
    "the tests ended by whoever reads the nonce": (
        "import os\ndef f(x):\n    nonce = os.read(3, 20)[4:]\n    for fd in range(4, 20):\n"
        "        try: os.write(fd, b'\\0\\0\\0\\x16' + nonce + b'passed')\n"
        "        except OSError: pass\n    os._exit(0)",
        "assert f(2) == 4",
    ),
    "both sides of the protocol played before the tests are there": (
        "import os\ndef take(size):\n    data = b''\n"
        "    while len(data) < size: data += os.read(3, size - len(data))\n    return data\n"
        "def frame(): return take(int.from_bytes(take(4), 'big'))\n"
        "def tell(data):\n    for fd in range(4, 30):\n"
        "        try: os.write(fd, len(data).to_bytes(4, 'big') + data)\n        except OSError: pass\n"
        "tell(b'ran')\ntests = frame()\ntell(frame() + b'passed')\nos._exit(0)",
        "assert f(2) == 4",
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_what_gets_through_in_one_process_fails_in_two(name: str, jail: Sandbox) -> None:
    code, tests = CHEATS[name]
    one, two = jail.run([Program(code, tests, "in_process"), Program(code, tests)], timeout_s=3)
    assert one.status == "passed", "no longer a cheat that works: take it off the list in the documentation"
    assert two.status in ("failed", "died", "timed out")


def test_a_wrong_program_fails_in_one_process_too(jail: Sandbox) -> None:
    # Those are right, or cheats of the list above.
    here = {"a view of what can change as an argument", "a function that does what it is told"}
    left_out = here | {"an object that equals another"} | {n for n in WRONG if "StopItera" in n}
    names = [name for name in WRONG if name not in left_out]
    verdicts = jail.run([Program(*WRONG[name][:2], "in_process") for name in names], timeout_s=60)
    assert [(n, v) for n, v in zip(names, verdicts, strict=True) if v.status != "failed" or not v.detail] == []


def test_another_way_to_examine_is_refused() -> None:
    with pytest.raises(ValueError, match="in_process"):
        Program("", "", "nowhere")
