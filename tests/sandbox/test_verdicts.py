"""What tests can ask of a program, and that right programs pass: plain values, classes, iterators, errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slmbench.console import watching
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
        "try:\n    f()\n    assert False\nexcept Exception as err:\n"
        "    assert (str(err), type(err).__name__) == ('x', 'Mine')",
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
    "annotations that are evaluated": (
        "def g(a: 1 + 1): pass\ndef f(x): return g.__annotations__['a'] + x",
        "def g(a: 3): pass\nassert f(2) == 4\nassert g.__annotations__ == {'a': 3}",
    ),
    "singledispatch on annotations": (
        "import functools\n@functools.singledispatch\ndef f(x): return 0\n@f.register\ndef _(x: int): return x * 2",
        "assert f(2) == 4",
    ),
    "annotations that the program itself puts off": (
        "from __future__ import annotations\ndef f(x: Later) -> Never: return x",
        "assert f(2) == 2",
    ),
    "errors of the standard library": (
        "import json, statistics\ndef f(x): return json.loads(x) if isinstance(x, str) else statistics.mean(x)",
        "import unittest\nfor x in ('{', []):\n    unittest.TestCase().assertRaises(ValueError, f, x)\n"
        "try:\n    f('{')\nexcept ValueError as err:\n    assert 'line 1 column 2' in str(err)",
    ),
    "errors with their own bases and texts": (
        "class Base(LookupError): pass\nclass E(Base):\n    def __init__(self, n): self.n = n\n"
        "    def __str__(self): return f'no {self.n}'\ndef f(n): raise E(n)",
        "try:\n    f(3)\n    assert False\nexcept LookupError as err:\n"
        "    assert (str(err), err.args) == ('no 3', (3,))",
    ),
    "the arguments of errors": (
        "def f(x): return {}[x]\ndef g(x): return x.decode()\ndef h(): open('nowhere')\n"
        "def k(): raise ValueError(1, k)",
        "try:\n    f('a')\nexcept KeyError as err:\n    assert err.args == ('a',)\n"
        "try:\n    g(b'a\\xff')\nexcept UnicodeDecodeError as err:\n    assert (err.start, err.end) == (1, 2)\n"
        "try:\n    h()\nexcept FileNotFoundError as err:\n    assert err.errno == 2\n"
        "try:\n    k()\nexcept ValueError as err:\n    assert '(1, ' in str(err)",
    ),
    "changes in place": (
        "def rev(a): a.reverse()\ndef put(d, *, s): d['x'] = 1; d.pop('y'); s |= {3}\ndef fill(b): b[0] = 7",
        "x = [1, 2, 3]\nassert rev(x) is None and x == [3, 2, 1]\nd, s = {'y': 0}, {1}\nput(d, s=s)\n"
        "assert d == {'x': 1} and s == {1, 3}\nb = bytearray(2)\nfill(b)\nassert b == b'\\x07\\0'",
    ),
    "changes in place, deep down": (
        "def f(m):\n    m[1].append(m[0])\n    m[0]['k'][0] = 5\n    m.reverse()\ndef g(m): m[:] = [[0]]",
        "a, b = {'k': [1]}, [2]\nm = [a, b]\nf(m)\nassert m[0] is b and m[1] is a and b[1] is a and a == {'k': [5]}\n"
        "kept = m\ng(m)\nassert kept == [[0]] and b == [2, a]",
    ),
    "changes in place before an error": (
        "def f(a):\n    a.clear()\n    raise ValueError",
        "x = [1]\ntry:\n    f(x)\nexcept ValueError:\n    assert x == []",
    ),
    "one list in many places": (
        "def f(g): g[0].append(1)",
        "g = [[]] * 3\nf(g)\nassert g == [[1], [1], [1]]",
    ),
    "changes of what collections has": (
        "def f(c, d, q): c['a'] += 1; d['b'] = [1]; q.rotate(1)",
        "c, d, q = Counter(), defaultdict(list), deque([1, 2], 2)\nf(c | {'a': 0}, d, q)\nf(c2 := Counter('a'), d, q)\n"
        "assert c2 == Counter('aa') and type(c2) is Counter and d['b'] == [1] and d['c'] == []\n"
        "assert q == deque([1, 2]) and q.maxlen == 2",
    ),
    "objects moved about in a list": (
        PAIR + "\ndef f(ps): ps.sort(key=lambda p: p.a)",
        "p, q = Pair(2, 0), Pair(1, 0)\nps = [p, q]\nf(ps)\nassert ps[0] is q and ps == [q, p]",
    ),
    "an argument left alone": (
        "def f(x): return sorted(x)",
        "x = [3, 1, 2]\nassert f(x) == [1, 2, 3]\nassert x == [3, 1, 2]",
    ),
    "a parameter of the function's own name": (
        "def f(x): return x * 2",
        "def check(f):\n    assert f(2) == 4\ncheck(f)",
    ),
    "variables of the function's own name": (
        "def f(x): return x * 2",
        "def check():\n    f = 1\n    return f\nassert [f for f in [1]] == [1] and (lambda f: f)(3) == 3\n"
        "assert check() == 1 and f(2) == 4",
    ),
    "a function called like a builtin, handed over": (
        "def abs(x): return -1\ndef max(a, b): return abs(a) + 3",
        "def check(candidate):\n    assert abs(candidate(1, 2) - 2) < 1e-6\ncheck(max)",
    ),
    "numbers and dates": (
        "from decimal import Decimal as D\nfrom fractions import Fraction as F\nimport datetime as t\n"
        "def f(): return [D('-1.10'), F(1, 3), t.date(2020, 2, 29), t.datetime(2020, 1, 1, 2), t.timedelta(-1, 5)]\n"
        "def g(x): return x * 2",
        "from decimal import Decimal\nfrom fractions import Fraction\nfrom datetime import date, datetime, timedelta\n"
        "assert f() == [Decimal('-1.10'), Fraction(1, 3), date(2020, 2, 29), "
        "datetime(2020, 1, 1, 2), timedelta(-1, 5)]\n"
        "assert str(f()[0]) == '-1.10' and g(Fraction(1, 2)) == 1 and g(Decimal('1.5')) == 3",
    ),
    "a deque": (
        "from collections import deque\ndef f(x): return deque([x], 3)",
        "assert f(1) == deque([1]) and f(1)[0] == 1 and f(1).maxlen == 3",
    ),
    "the truth of an object": (
        "import re, array\nclass A: pass\ndef f(x): return re.match('a', x)\ndef g(x): return array.array('i', x)",
        "assert f('a') and not f('b') and A() and g([1]) and not g([])",
    ),
    "no test at all": ("x = 1", ""),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_program_passes(name: str, judge: Judge) -> None:
    verdict = judge(*RIGHT[name], timeout_s=30)
    assert (verdict.status, verdict.detail) == ("passed", "")


WRONG = {
    "a wrong value": ("def f(): return 1", "assert f() == 2", "AssertionError at `assert f() == 2`"),
    "an error": ("def f(): return {}['a']", "assert f() == 2", "KeyError: 'a' at `assert f() == 2`"),
    "an error at the top": ("1 / 0", "assert True", "ZeroDivisionError: division by zero"),
    "no Python": ("def f(:", "assert f() == 2", "SyntaxError"),
    "tests that are no Python": ("def f(): return 1", "assert f( ==", "SyntaxError"),
    "None": ("def f(): pass", "assert f() == 2", "AssertionError"),
    "a tuple for a list": ("def f(): return (1,)", "assert f() == [1]", "AssertionError"),
    "nan": ("def f(): return float('nan')", "assert f() == f()", "AssertionError"),
    "True where the type counts": ("def f(): return True", "assert type(f()) is int", "AssertionError"),
    "a view of what can change as an argument": (
        "def f(v): return v[0]",
        "assert f(memoryview(bytearray(b'a'))) == 97",
        "the tests hand over a memoryview, which can't cross to the program",
    ),
    "a function that does what it is told": (
        "def f(g): return g('1')",
        "assert f(lambda s: eval(s)) == 1",
        "the tests hand over a function, which can't cross to the program",
    ),
    "an annotation of an unknown name": ("def f(x: List[int]): return x", "assert f(1) == 1", "NameError: name 'List'"),
    "a StopIteration that would end map()": (
        "def f(x): raise StopIteration",
        "assert all(map(lambda c: f(c[0]) == c[1], [(2, 4)]))",
        "RuntimeError: StopIteration at",
    ),
    "a StopIteration of its own": (
        "class S(StopIteration): pass\nclass A:\n    def __getattr__(self, name): raise S(name)\na = A()",
        "for _ in zip([1], map(lambda n: getattr(a, 'x'), [1])): assert False",
        "RuntimeError: StopIteration: x at",
    ),
    "its argument changed": (
        "def f(x):\n    x.sort()\n    return x",
        "x = [3, 1, 2]\nassert f(x) == [1, 2, 3]\nassert x == [3, 1, 2]",
        "AssertionError at `assert x == [3, 1, 2]`",
    ),
    "the wrong place changed": ("def f(x): x = x[::-1]", "x = [1, 2]\nf(x)\nassert x == [2, 1]", "AssertionError"),
    "too large a change": ("def f(x): x.append('x' * (9 << 20))", "x = []\nf(x)\nassert not x", "at most"),
    "too deep a change": (
        "def f(x):\n    for _ in range(200): x[:] = [x[:]]",
        "x = []\nf(x)\nassert not x",
        "nested deeper",
    ),
    "a namesake of abs beside that of max": (
        "def max(a, b): return 7\ndef abs(x): return 0",
        "def check(candidate):\n    assert abs(candidate(1, 2) - 2) < 1e-6\ncheck(max)",
        "AssertionError",
    ),
    "two namesakes": (
        "def sum(a, b): return 7\ndef abs(x): return 0",
        "assert abs(sum(1, 2) - 3) < 1e-6",
        "TypeError",
    ),
    "a namesake that is no function at the top": (
        "abs = lambda x: 0\nif True:\n    def max(a, b): return 2",
        "assert abs(max(1, 3) - 2) < 1e-6",
        "AssertionError",
    ),
    "an object that equals another": (
        "class A:\n    def __eq__(self, other): return True\ndef f(): return A()",
        "assert f() == 1",
        "an object of the program that has no plain value was compared",
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
            f"import time\ntime.sleep({0.6 if i % 3 == 0 else 0})\ndef f(): return {i}", f"assert f() != {i} or {i} % 2"
        )
        for i in range(12)
    ]
    ticks: list[tuple[str, int]] = []
    with watching(lambda what, n: ticks.append((what, n))):
        verdicts = jail.run(programs, workers=3, timeout_s=30)
    assert [v.status for v in verdicts] == ["failed", "passed"] * 6
    assert ticks == [("programs", 1)] * 12
    # The clock starts when this process hears of the program's start, which a busy machine delays.
    assert all(v.seconds >= 0.2 for v in verdicts[::3])
    assert jail.run([]) == []


# A program can replace the worker's own functions; what it says then must be refused, or be a value like any other.
FORGED = {
    "a list that became a dict": ("changes", "[[0, {'dict': []}]]", "a list can't become a dict"),
    "an argument that became an object": ("changes", "[[0, {'opaque': 0}]]", "a list can't become a Opaque"),
    "a change of what was not handed over": ("changes", "[[7, []]]", "can't be read"),
    "a reference to what was not handed over": ("changes", "[[0, [{'ref': 7}]]]", "can't be read"),
    "a change of what has no number": ("changes", "[['x', []]]", "can't be read"),
    "changes that are no list": ("changes", "5", "can't be read"),
    "the wrong contents": ("changes", "[[0, [2]]]", "AssertionError"),
    "an error of no name": ("raised", "[]", "can't be read"),
    "an error with no bases": ("raised", "['ValueError', 5, '', None]", "can't be read"),
    "an error that is none": ("raised", "['print', ['print', 'object'], 'x', None]", "print: x"),
    "an error with a name that is no name": ("raised", "['\\ud800\\0', ['ValueError'], 'x', None]", "x"),
    "an error about bytes that are not there": (
        "raised",
        "['UnicodeDecodeError', ['UnicodeDecodeError'], 'x', ['u', {'bytes': ''}, 1 << 40, 1 << 41, 'r']]",
        "UnicodeDecodeError: x",
    ),
    "an end of an iterator": ("raised", "['A', ['StopIteration'], 'x', [{'list': []}]]", "can't be read"),
    "an end of an iterator with an object": (
        "raised",
        "['A', ['StopIteration'], 'x', [{'opaque': 0}]]",
        "RuntimeError: StopIteration: x",
    ),
}


LENT = {
    "does what a function can't": ("ask('close', 0, (), {})", "what is lent can't do that"),
    "asks for what was not lent": ("ask('call', 7, (), {})", "an object has a number"),
    "asks by no number": ("ask('call', 'x', (), {})", "an object has a number"),
    "gives what can't be read": (
        "borrowed._write({'back': 'call', 'of': 0, 'args': {'x': 1}, 'kwargs': {'dict': []}})",
        "can't be read",
    ),
    "gives no arguments": ("borrowed._write({'back': 'call', 'of': 0})", "can't be read"),
    "hands back what was not lent": (
        "borrowed._numbers[id(f)] = 9\n    return f",
        "an object has a number",
    ),
}


@pytest.mark.parametrize("name", LENT)
def test_a_program_gets_no_more_of_a_lent_function_than_calls_when_it(name: str, judge: Judge) -> None:
    step, detail = LENT[name]
    code = "import gc, slmbench.sandbox._calls as calls\n"
    code += "(borrowed,) = [o for o in gc.get_objects() if type(o) is calls.Borrowed]\nask = borrowed._ask\n"
    code += f"def f(g):\n    {step}\n    return 1"
    verdict = judge(code, "assert f(lambda: 1) == 1", timeout_s=30)
    assert verdict.status == "failed" and detail in verdict.detail, verdict


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_answer_never_passes(name: str, judge: Judge) -> None:
    function, answer, detail = FORGED[name]
    code = f"import slmbench.sandbox._worker as worker\nworker.{function} = lambda *a: {answer}\n"
    code += f"def f(x): {'x.append(2)' if function == 'changes' else '1 / 0'}"
    verdict = judge(code, "x = [1]\nfor _ in map(f, [x]): assert x == [1, 2]\nassert x == [1, 2]", timeout_s=30)
    assert verdict.status == "failed" and detail in verdict.detail, verdict
