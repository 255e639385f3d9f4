"""The trusted side: runs the tests, and alone decides. The program's names are stand-ins that ask the worker."""

from __future__ import annotations

import ast
import builtins
import collections
import os
import re
import symtable
import sys
from collections.abc import Callable, Container, Iterable, Sequence
from io import BytesIO, StringIO
from typing import Any

from slmbench.sandbox._calls import MUTABLE, Lender
from slmbench.sandbox._wire import FILES, MAX_PROGRAM_BYTES, BadFrame, Message, decode, encode, read_frame, write_frame

MAX_DETAIL_CHARS = 500
COMPARED = " (an object of the program that has no plain value was compared: it equals only itself)"
# What tests may name without importing it. They get the real ones; a program could bring its own `Counter` or `abs`.
STANDARD = set(dir(builtins)) | set(collections.__all__)


OF_FUNCTIONS = {"__name__", "__qualname__", "__module__", "__wrapped__", "__annotations__"}


class Gone(BaseException):
    """The worker ended, or answered what is not an answer. Not an Exception, which tests may expect."""


class Opaque:
    """An object of the program that has no plain value: it is called, iterated, handed back, and equals itself."""

    __slots__ = ("_ask", "_compared", "_number")  # Not annotated: its `__annotations__` are the program's.

    def __init__(self, number: int, ask: Callable[..., object], compared: list[bool]) -> None:
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_compared", compared)

    def __eq__(self, other: object) -> bool:
        # Its own __eq__ may lie.
        if self is other:
            return True
        self._compared.append(True)
        return NotImplemented

    __hash__ = object.__hash__

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._ask("call", of=self, args=list(args), kwargs=kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in OF_FUNCTIONS:
            raise AttributeError(name)
        return self._ask("attr", of=self, name=name)

    def __setattr__(self, name: str, value: object) -> None:
        self._ask("set", of=self, name=name, to=value)

    def __iter__(self) -> object:
        return self._ask("iter", of=self)

    def __next__(self) -> object:
        return self._ask("next", of=self)

    # What it says of itself is a value for the tests to look at, as one that is returned.
    def __bool__(self) -> bool:
        return self._ask("truth", of=self) is True

    def __len__(self) -> int:
        length: int = self._ask("len", of=self)
        return length

    def __getitem__(self, key: object) -> object:
        return self._ask("item", of=self, key=key)

    def __str__(self) -> str:
        text: str = self._ask("str", of=self)
        return text

    def __repr__(self) -> str:
        text: str = self._ask("repr", of=self)
        return text


def names_used(tests: str) -> tuple[set[str], set[str]]:
    """(names that tests read and neither define nor take from Python, the standard names that they read).

    A parameter or a variable of a function hides a name in that function alone. A module of the standard library
    counts as Python's where an attribute of it is read. Raises SyntaxError.
    """
    read, own = set(), set()
    tables = [symtable.symtable(tests, "<tests>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if (top or symbol.is_global()) and symbol.is_referenced():
                read.add(symbol.get_name())
            if (top or symbol.is_declared_global()) and symbol.is_assigned():
                own.add(symbol.get_name())
    nodes = ast.walk(ast.parse(tests))
    standard = STANDARD | {name for node in nodes if (name := _module_read(node))}
    return read - own - standard, (read - own) & standard


def namesakes(code: str, tests: str, standard: set[str]) -> set[str]:
    """The one standard name that the program's function under test has; none if that is not plain.

    It is defined at the top of the program; of several it is the one that tests hand to a function, as `check(max)`.
    """
    defined = {name for name in standard if re.search(rf"^(?:async +)?def +{name}\b", code, re.MULTILINE)}
    tree = ast.parse(tests)
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    tested = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in own]
    handed = {arg.id for call in tested for arg in call.args if isinstance(arg, ast.Name)}
    found = defined & handed if handed & standard else defined
    return found if len(found) == 1 else set()


def standard_names(names: Iterable[str], known: Container[str] = frozenset(dir(builtins))) -> Message:
    """What names of the standard library, which tests read without importing them, stand for; builtins are `known`."""
    found = {name: getattr(collections, name) for name in names if name in collections.__all__}
    return found | {name: __import__(name) for name in names if name not in found and name not in known}


def _module_read(node: ast.AST) -> str:
    """The standard module that an attribute is read of; '' for any other node."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return ""
    return node.value.id if node.value.id in sys.stdlib_module_names else ""


def examine(code: str, tests: str, requests: int, replies: int) -> tuple[str, str]:
    """(status, detail) of a program. requests, replies: pipes to a worker that is ready."""
    lost: list[tuple[str, str]] = []
    started_with = [*sys.argv], dict(os.environ), sys.stdout, sys.stderr
    opaques: dict[int, Opaque] = {}
    compared: list[bool] = []

    def opaque_of(number: object) -> object:
        if type(number) is not int:
            return lender.lent(number)
        return opaques.setdefault(number, Opaque(number, ask, compared))

    def number_of(value: object) -> object:
        if type(value) is not Opaque:
            if (lent := lender.lend(value)) is not None:
                return lent
            raise TypeError(f"the tests hand over a {type(value).__name__}, which can't cross to the program")
        return object.__getattribute__(value, "_number")

    lender = Lender(number_of, opaque_of)

    def ask(op: str, **request: Any) -> object:
        if lost:
            raise Gone
        if "of" in request:
            request["of"] = number_of(request["of"])
        compared.clear()
        mutables: list[object] = []
        known: dict[int, int] = {}
        if op == "call":
            request |= set_by_tests(started_with)
        for key in ("args", "kwargs", "stdin", "to", "key"):
            if key in request:
                request[key] = encode(request[key], number_of, mutables, known)
        try:
            write_frame(requests, {"op": op, **request}, MAX_PROGRAM_BYTES)
            while type(reply := read_frame(replies)) is dict and "back" in reply:
                write_frame(requests, lender.serve(reply), MAX_PROGRAM_BYTES)
            if type(reply) is not dict:
                raise BadFrame("a reply is an object")
            for number, value in reply.get("changed", ()):
                change(mutables[number], decode(value, opaque_of, refs=mutables))
            for name, text in reply.get("printed", {}).items():
                if name not in request["printed"]:
                    raise BadFrame("what was not asked for was printed")
                getattr(sys, name).write(decode(text, opaque_of))
            if "value" in reply:
                return decode(reply["value"], opaque_of, mutables)
            name, bases, message, arguments = reply["raised"]
            if arguments is not None:
                arguments = decode(arguments, opaque_of)
            raised = error_of(str(name)[:100], list(bases), str(message)[:1000], arguments)
            # A call that raises it would quietly end a map() or a zip() of the tests.
            if op != "next" and isinstance(raised, StopIteration):
                raised = RuntimeError(f"StopIteration: {message}" if message else "StopIteration")
        except (EOFError, OSError):
            lost.append(("died", "the program's process ended"))
            raise Gone from None
        except (BadFrame, LookupError, TypeError, ValueError, RecursionError, MemoryError) as err:
            lost.append(("failed", f"the program's answer can't be read: {err}"))
            raise Gone from None
        raise raised

    try:
        free, standard = names_used(tests)
        ask("program", code=code)
        names: dict[str, object] = {"__name__": "tests", **standard_names(standard)}
        # Only a function called like a builtin is left to be tested: MBPP/126 asks for a `sum` of its own.
        for name in free or namesakes(code, tests, standard):
            try:
                names[name] = ask("get", name=name)
            except KeyError:
                pass
        exec(compile(tests, "<tests>", "exec", dont_inherit=True), names)
    except BaseException as err:
        note = COMPARED if compared and isinstance(err, AssertionError) else ""
        return lost[0] if lost else ("failed", detail_of(err, tests) + note)
    return lost[0] if lost else ("passed", "")


def set_by_tests(started_with: tuple[list[str], dict[str, str], object, object]) -> Message:
    """What of arguments, environment and standard streams tests have set, for the program to find."""
    argv, environ, *streams = started_with
    around: Message = {}
    if sys.argv != argv:
        around["argv"] = [str(part) for part in sys.argv]
    if dict(os.environ) != environ:
        around["environ"] = dict(os.environ)
    if type(sys.stdin) in FILES.values():
        around["stdin"] = sys.stdin
    caught = [name for name, own in zip(("stdout", "stderr"), streams, strict=True) if getattr(sys, name) is not own]
    return around | ({"printed": caught} if caught else {})


def change(target: Any, new: object) -> None:
    """Gives a mutable argument the contents that it has in the program. Raises BadFrame if types differ."""
    fits = type(new) in MUTABLE and isinstance(target, type(new))
    if not fits:
        raise BadFrame(f"a {type(target).__name__} can't become a {type(new).__name__}")
    if isinstance(new, list | bytearray):
        target[:] = new
        return
    if isinstance(new, StringIO | BytesIO):
        if new.closed:
            target.close()
            return
        target.seek(0)
        target.truncate()
        target.write(new.getvalue())
        target.seek(new.tell())
        return
    target.clear()
    (target.extend if isinstance(new, collections.deque) else target.update)(new)


def error_of(name: str, bases: Sequence[object], message: str, arguments: Sequence[object] | None) -> BaseException:
    """The builtin exception of a name, or one of that name under the first of its builtin bases that can be made.

    arguments: what it was raised with, if that is plain; else it gets the message.
    """
    ways: list[Sequence[object]] = [[message]] if arguments is None else [arguments, [message]]
    for base in [*bases[:20], "RuntimeError"]:
        kind = getattr(builtins, base, None) if isinstance(base, str) else None
        if not isinstance(kind, type) or not issubclass(kind, (Exception, SystemExit)):
            continue
        for given in ways:
            try:
                if kind.__name__ != name:
                    kind = type(name, (kind,), {"__str__": lambda self: message})
                made: BaseException = kind(*given)
                if _has_a_safe_range(made):
                    return made
            except (TypeError, ValueError, OverflowError):
                pass
    return RuntimeError(f"{name}: {message}")


def _has_a_safe_range(err: BaseException) -> bool:
    """False for a Unicode error about characters that its text lacks; some versions of Python crash showing it."""
    if not isinstance(err, UnicodeDecodeError | UnicodeEncodeError | UnicodeTranslateError):
        return True
    _, text, start, end, *_ = ("", *err.args) if isinstance(err, UnicodeTranslateError) else err.args
    return bool(0 <= start < end <= len(text))


def detail_of(err: BaseException, tests: str) -> str:
    """One line on what went wrong; of a failed assert its source."""
    try:
        text = f"{type(err).__name__}: {err}" if str(err) else type(err).__name__
    except BaseException:  # What it holds may be an object of a program that is gone.
        text = type(err).__name__
    line, trace = 0, err.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            line = trace.tb_lineno
        trace = trace.tb_next
    lines = tests.splitlines()
    where = f" at `{lines[line - 1].strip()[:200]}`" if 0 < line <= len(lines) else ""
    return (text[:MAX_DETAIL_CHARS] + where).encode("utf-8", "replace").decode()
