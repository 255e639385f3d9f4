"""What tests can ask of a program, and that right programs pass: plain values, classes, iterators, errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slmbench.sandbox import Program, Sandbox, Verdict

Judge = Callable[..., Verdict]

PAIR = (
    "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\ndef total(ps): return sum(p.a + p.b for p in ps)"
)
NODE = "class Node:\n    def __init__(self, v): self.v, self.left = v, None\n"
NODE += "def depth(n): return 1 + depth(n.left) if n else 0"

RIGHT = {
    "a function": ("def add(a, b): return a + b", "assert add(1, 2) == 3\nassert add('a', b='b') == 'ab'"),
    "check(candidate)": (
        "def add(a, b): return a + b",
        "def check(candidate):\n    assert candidate(1, 2) == 3\ncheck(add)",
    ),
    "the tests name the function that they check": (
        "def twice(x): return x * 2",
        "def check(candidate):\n    assert candidate(1) == twice(1) == 2\ncheck(twice)",
    ),
    "two functions": (
        "def enc(s): return s[::-1]\ndef dec(s): return s[::-1]",
        "import random\nfor _ in range(50):\n    s = str(random.random())\n    assert dec(enc(s)) == s",
    ),
    "a class of the program": (PAIR, "assert total([Pair(5, 24), Pair(15, 25)]) == 69"),
    "attributes of its objects": (
        PAIR,
        "p = Pair(1, b=2)\nassert (p.a, p.b) == (1, 2)\np.a = 5\nassert total([p]) == 7",
    ),
    "objects that are joined": (
        NODE,
        "root = Node(1)\nroot.left = Node(2)\nassert depth(root) == 2\nassert root.left.v == 2",
    ),
    "an object set up by the program": (NODE + "\nroot = Node(1)", "assert depth(root) == 1"),
    "a constant of the program": ("LIMIT = (1, 'a')", "assert LIMIT == (1, 'a')"),
    "methods": ("class A:\n    def f(self, x): return x + 1", "assert A().f(1) == 2"),
    "the same object": ("a = object()\ndef f(): return a", "assert f() == f()\nassert f() is f()\nassert f() in [f()]"),
    "a generator": (
        "def f(n):\n    for i in range(n): yield i",
        "assert list(f(3)) == [0, 1, 2]\nassert next(f(1)) == 0",
    ),
    "an endless generator": (
        "import itertools\ndef f(): return itertools.count()",
        "import itertools\nassert list(itertools.islice(f(), 3)) == [0, 1, 2]",
    ),
    "map and dict views": (
        "def f(d): return d.keys()\ndef g(d): return map(str, d)",
        "assert sorted(f({1: 2})) == [1]\nassert list(g([1])) == ['1']",
    ),
    "a function that is returned": ("def f(n): return lambda x: x + n", "assert f(1)(2) == 3"),
    "Counter": (
        "import collections\ndef f(s): return collections.Counter(s)",
        "assert f('aab') == {'a': 2, 'b': 1}\nassert f('aab') == Counter('baa')",
    ),
    "defaultdict, OrderedDict and namedtuple": (
        "import collections as c\ndef f():\n    d = c.defaultdict(list)\n    d[1].append(2)\n    return d\n"
        "def g(): return c.OrderedDict(a=1), c.namedtuple('P', 'x y')(1, 2)",
        "assert f() == {1: [2]}\nassert g() == ({'a': 1}, (1, 2))",
    ),
    "a match": (
        "import re\ndef f(s): return re.match('a+', s)",
        "assert f('b') is None\nassert f('aab').group() == 'aa'",
    ),
    "a function called like a builtin": ("def sum(a, b): return 6", "assert sum(10, 15) == 6"),
    "a builtin type as an argument": (
        "def f(xs, t): return [x for x in xs if not isinstance(x, t)]",
        "assert f([1, 'a', 2.0], str) == [1, 2.0]",
    ),
    "a module that the tests did not import": (
        "import sys\ndef f(t): return sys.getsizeof(t)",
        "assert f((1, 2)) == sys.getsizeof((1, 2))",
    ),
    "an error that is expected": (
        "def f(x):\n    if x < 0: raise ValueError('negative')\n    raise KeyError(x)",
        "try:\n    f(-1)\n    assert False\nexcept ValueError as err:\n    assert str(err) == 'negative'\n"
        "try:\n    f(1)\n    assert False\nexcept LookupError:\n    pass",
    ),
    "an error of the program's own": (
        "class Mine(Exception): pass\ndef f(): raise Mine('x')",
        "try:\n    f()\n    assert False\nexcept RuntimeError as err:\n    assert str(err) == 'Mine: x'",
    ),
    "a recursive function": (
        "def f(n): return n * f(n - 1) if n else 1",
        "import math\nassert f(500) == math.factorial(500)",
    ),
    "a part for the command line": ("def f(): return 1\nif __name__ == '__main__':\n    f(input())", "assert f() == 1"),
    "a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\ndef f(x): return A(x).x",
        "assert f(3) == 3",
    ),
    "files of its own": (
        "import tempfile\ndef f():\n    open('a', 'w').write('x')\n"
        "    return open('a').read() + str(tempfile.gettempdir() != '')",
        "assert f() == 'xTrue'",
    ),
    "lazily loaded extension modules": (
        "def f():\n    import sqlite3, hashlib, zlib, decimal, unicodedata\n"
        "    return sqlite3.connect(':memory:').execute('select 1').fetchone()",
        "assert f() == (1,)",
    ),
    "CRLF and tabs": ("def f(x):\r\n\treturn x\r\n", "assert f(1) == 1"),
    "no test at all": ("x = 1", ""),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_passes(name: str, judge: Judge) -> None:
    verdict = judge(*RIGHT[name], timeout_s=30)
    assert (verdict.status, verdict.detail) == ("passed", "")


WRONG = {
    "a wrong value": ("def f(): return 1", "assert f() == 2", "AssertionError at `assert f() == 2`"),
    "an error": ("def f(): return {}['a']", "assert f() == 2", "KeyError: \"'a'\" at `assert f() == 2`"),
    "an error at the top": ("1 / 0", "assert True", "ZeroDivisionError: division by zero"),
    "no Python": ("def f(:", "assert f() == 2", "SyntaxError"),
    "tests that are no Python": ("def f(): return 1", "assert f( ==", "SyntaxError"),
    "None": ("def f(): pass", "assert f() == 2", "AssertionError"),
    "a tuple for a list": ("def f(): return (1,)", "assert f() == [1]", "AssertionError"),
    "nan": ("def f(): return float('nan')", "assert f() == f()", "AssertionError"),
    "True where the type counts": ("def f(): return True", "assert type(f()) is int", "AssertionError"),
    "a function as an argument": (
        "def f(g): return g()",
        "assert f(lambda: 1) == 1",
        "the tests hand over a function, which can't cross to the program",
    ),
    "an argument by name that is not there": ("def f(a): return a", "assert f(b=1) == 1", "TypeError"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_program_fails_and_says_why(name: str, judge: Judge) -> None:
    code, tests, detail = WRONG[name]
    verdict = judge(code, tests, timeout_s=30)
    assert verdict.status == "failed" and detail in verdict.detail, verdict


def test_tests_that_never_end_are_ended(judge: Judge) -> None:
    assert judge("x = 1", "while True: pass", timeout_s=0.5).status == "timed out"


def test_the_order_of_a_set_is_the_same_in_every_run(jail: Sandbox) -> None:
    code = "def f(): return ''.join({c * 3 for c in 'abcdefgh'})"
    other = jail.run([Program(code, "assert f() == ''")], workers=1)
    text = Program(code, "raise RuntimeError(f())")
    assert {jail.run([text], workers=1)[0].detail for _ in range(3)} == {jail.run([text])[0].detail}
    assert other[0].status == "failed"


def test_random_numbers_differ_between_programs(jail: Sandbox) -> None:
    program = Program("import random\ndef f(): return random.random()", "raise RuntimeError(f())")
    assert len({verdict.detail for verdict in jail.run([program] * 4, workers=1)}) == 4


def test_verdicts_come_in_the_programs_order_and_progress_counts_them(jail: Sandbox) -> None:
    programs = [
        Program(
            f"import time\ntime.sleep({0.2 if i % 3 == 0 else 0})\ndef f(): return {i}", f"assert f() != {i} or {i} % 2"
        )
        for i in range(12)
    ]
    ticks: list[int] = []
    verdicts = jail.run(programs, workers=3, timeout_s=30, progress=ticks.append)
    assert [v.status for v in verdicts] == ["failed", "passed"] * 6
    assert ticks == [1] * 12
    assert all(v.seconds >= 0.2 for v in verdicts[::3]) and jail.run([]) == []
