"""The trusted side: runs the tests, and alone decides. The program's names are stand-ins that ask the worker."""

from __future__ import annotations

import ast
import builtins
import collections
import sys
from collections.abc import Callable
from typing import Any

from slmbench.sandbox._wire import MAX_PROGRAM_BYTES, BadFrame, decode, encode, read_frame, write_frame

MAX_DETAIL_CHARS = 500
# What tests may name without importing it. They get the real ones; a program could bring its own `Counter` or `abs`.
STANDARD = set(dir(builtins)) | set(collections.__all__)


class Gone(BaseException):
    """The worker ended, or answered what is no answer. Not an Exception, which tests may expect."""


class Opaque:
    """An object of the program that has no plain value: it is called, iterated, handed back, and equals itself."""

    __slots__ = ("_ask", "_number")

    def __init__(self, number: int, ask: Callable[..., Any]) -> None:
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_ask", ask)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask("call", of=self, args=list(args), kwargs=kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("attr", of=self, name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", of=self, name=name, to=value)

    def __iter__(self) -> Any:
        return self._ask("iter", of=self)

    def __next__(self) -> Any:
        return self._ask("next", of=self)

    def __bool__(self) -> bool:
        # Its own __bool__ may lie, and Python's default would call it true.
        raise TypeError("the test asks for the truth of an object that is no plain value")


def names_used(tests: str) -> tuple[set[str], set[str]]:
    """(names that tests read and neither define nor take from Python, the standard names that they read).

    A module of the standard library counts as Python's where an attribute of it is read. Raises SyntaxError.
    """
    nodes = list(ast.walk(ast.parse(tests)))
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    own = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    own |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    own |= {n.name for n in nodes if isinstance(n, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and n.name}
    own |= {(n.asname or n.name).split(".")[0] for n in nodes if isinstance(n, ast.alias)}
    standard = STANDARD | ({n.value.id for n in nodes if _is_module_attribute(n)})
    return read - own - standard, (read - own) & standard


def _is_module_attribute(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in sys.stdlib_module_names
    )


def examine(code: str, tests: str, requests: int, replies: int) -> tuple[str, str]:
    """(status, detail) of a program. requests, replies: pipes to a worker that is ready."""
    lost: list[tuple[str, str]] = []
    opaques: dict[int, Opaque] = {}

    def opaque_of(number: Any) -> Opaque:
        if type(number) is not int:
            raise BadFrame("an object has a number")
        return opaques.setdefault(number, Opaque(number, ask))

    def number_of(value: Any) -> int:
        if type(value) is not Opaque:
            raise TypeError(f"the tests hand over a {type(value).__name__}, which can't cross to the program")
        return object.__getattribute__(value, "_number")

    def ask(op: str, **request: Any) -> Any:
        if lost:
            raise Gone
        if "of" in request:
            request["of"] = number_of(request["of"])
        for key in request.keys() & {"args", "kwargs", "to"}:
            request[key] = encode(request[key], number_of)
        try:
            write_frame(requests, {"op": op, **request}, MAX_PROGRAM_BYTES)
            reply = read_frame(replies)
            if type(reply) is not dict or len(reply) != 1:
                raise BadFrame("a reply has one key")
            if "value" in reply:
                return decode(reply["value"], opaque_of)
            name, message = reply["raised"]
            raised = error_of(str(name)[:100], str(message)[:1000])
        except (EOFError, OSError):
            lost.append(("died", "the program's process ended"))
            raise Gone from None
        except (BadFrame, KeyError, TypeError, ValueError, RecursionError, MemoryError) as err:
            lost.append(("failed", f"the program's answer can't be read: {err}"))
            raise Gone from None
        raise raised

    try:
        free, standard = names_used(tests)
        ask("program", code=code)
        names: dict[str, Any] = {"__name__": "tests"}
        for name in standard:
            if name in collections.__all__:
                names[name] = getattr(collections, name)
            elif not hasattr(builtins, name):
                names[name] = __import__(name)
        # Only a function called like a builtin is left to be tested: MBPP/126 asks for a `sum` of its own.
        for name in free or standard:
            try:
                names[name] = ask("get", name=name)
            except KeyError:
                pass
        exec(compile(tests, "<tests>", "exec"), names)
    except BaseException as err:
        return lost[0] if lost else ("failed", detail_of(err, tests))
    return lost[0] if lost else ("passed", "")


def error_of(name: str, message: str) -> Exception:
    """The builtin exception of a name; RuntimeError with the name in its text for others."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except TypeError:
            pass
    return RuntimeError(f"{name}: {message}")


def detail_of(err: BaseException, tests: str) -> str:
    """One line on what went wrong; of a failed assert its source."""
    text = f"{type(err).__name__}: {err}" if str(err) else type(err).__name__
    if type(err) is RuntimeError:
        text = str(err)
    line, trace = 0, err.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            line = trace.tb_lineno
        trace = trace.tb_next
    lines = tests.splitlines()
    where = f" at `{lines[line - 1].strip()[:200]}`" if 0 < line <= len(lines) else ""
    return (text[:MAX_DETAIL_CHARS] + where).encode("utf-8", "replace").decode()
