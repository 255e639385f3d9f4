"""The untrusted side: runs a program and answers calls to its names. It is never shown a test.

Requests: {"op": "program", "code"}, {"op": "beside", "code"} (the tests come after it, see `_inside`),
{"op": "get", "name"}, {"op": "call", "of", "args", "kwargs"}, {"op": "attr", "of", "name"},
{"op": "set", "of", "name", "to"}, {"op": "item", "of", "key"}, {"op": "iter" | "next" | "truth" | "len" | "str" |
"repr", "of"}. A call can have "argv", "environ", "stdin" and "printed", what of the streams is to come back.
Replies: {"value"} or {"raised": [type name, names of its builtin bases, message, arguments or null]}; of a call also
{"changed": [[number, value], ...]}, the mutable arguments that have other contents now, numbered as `decode` met them.
Whatever the program does here, or writes to its pipe, is a reply and no more.
"""

from __future__ import annotations

import contextlib
import io
import json
import operator
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from slmbench.sandbox._inside import prepare
from slmbench.sandbox._wire import FILES, MAX_PROGRAM_BYTES, BadFrame, decode, encode, read_frame, write_frame

MAX_MESSAGE_CHARS = 1000
MAX_ARGUMENTS_CHARS = 100_000


def serve(requests: int, replies: int) -> None:
    """Answers until the stream of requests ends."""
    module = types.ModuleType("program")  # Not "__main__": a script's own part is not to run.
    sys.modules["program"] = module
    run_beside = prepare(requests, replies)
    kept: list[Any] = []
    number: dict[int, int] = {}

    def opaque(value: Any) -> int:
        if id(value) not in number:
            number[id(value)] = len(kept)
            kept.append(value)
        return number[id(value)]

    def answer(request: dict[str, Any]) -> Any:
        op = request["op"]
        if op == "program":
            exec(compile(request["code"], "<program>", "exec", dont_inherit=True), module.__dict__)
            return None
        if op == "get":
            return module.__dict__[request["name"]]
        of = kept[request["of"]]
        if op == "attr":
            return getattr(of, request["name"])
        if op == "set":
            return setattr(of, request["name"], decode(request["to"], kept.__getitem__))
        if op == "item":
            return of[decode(request["key"], kept.__getitem__)]
        return {"iter": iter, "next": next, "truth": bool, "len": len, "str": str, "repr": repr}[op](of)

    def call(request: dict[str, Any]) -> dict[str, Any]:
        met: list[Any] = []
        args = decode(request["args"], kept.__getitem__, met)
        kwargs = decode(request["kwargs"], kept.__getitem__, met)
        stdin = decode(request["stdin"], kept.__getitem__, met) if "stdin" in request else None
        mutables = tuple(met)
        before = tuple(map(contents, mutables))
        with surroundings(request, stdin) as printed:
            try:
                value = kept[request["of"]](*args, **kwargs)
                known = {id(one): i for i, one in enumerate(mutables)}
                reply = {"value": encode(value, opaque, list(mutables), known)}
            except BaseException as err:
                reply = {"raised": raised(err)}
        changed = changes(mutables, before, opaque)
        if changed:
            reply["changed"] = changed
        if printed:
            reply["printed"] = {name: encode(out.getvalue(), opaque) for name, out in printed}
        return reply

    write_frame(replies, {"value": "ready"})
    while True:
        try:
            request = read_frame(requests, MAX_PROGRAM_BYTES)
        except EOFError:
            os._exit(0)
        if request["op"] == "beside":
            run_beside(request["code"], module)
        try:
            is_call = request["op"] == "call"
            write_frame(replies, call(request) if is_call else {"value": encode(answer(request), opaque)})
        except BaseException as err:
            write_frame(replies, {"raised": raised(err)})


def contents(value: Any) -> Any:
    """A copy of what is in a list, dict, set, byte array, deque or file in memory."""
    if type(value) is bytearray:
        return bytes(value)
    if type(value) in FILES.values():
        return [None, 0] if value.closed else [value.getvalue(), value.tell()]
    return [*value.keys(), *value.values()] if type(value) is dict else list(value)


def changes(mutables: tuple[Any, ...], before: tuple[Any, ...], opaque: Any) -> list[Any]:
    """[number, value] of each that has other contents than before; what was in the arguments goes as a reference."""
    known = {id(value): i for i, value in enumerate(mutables)}
    found = []
    for i, (value, old) in enumerate(zip(mutables, before, strict=True)):
        new = contents(value)
        same = (
            new == old
            if type(old) is bytes or type(value) in FILES.values()
            else len(new) == len(old) and all(map(operator.is_, new, old))
        )
        if not same:
            found.append([i, encode(value, opaque, known=known)])
    return found


@contextlib.contextmanager
def surroundings(request: dict[str, Any], stdin: Any) -> Iterator[tuple[tuple[str, io.StringIO], ...]]:
    """Arguments, environment and standard input that tests have set, for a call; what is printed, where they look."""
    printed = tuple((name, io.StringIO()) for name in request.get("printed", ()))
    kept = sys.argv, sys.stdin, sys.stdout, sys.stderr
    sys.argv = request.get("argv", sys.argv)
    sys.stdin = sys.stdin if stdin is None else stdin
    for name, out in printed:
        setattr(sys, name, out)
    if "environ" in request:
        environ = dict(os.environ)
        os.environ.clear()
        os.environ.update(request["environ"])
    try:
        yield printed
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr = kept
        if "environ" in request:
            os.environ.clear()
            os.environ.update(environ)


def raised(err: BaseException) -> list[Any]:
    """What is told of an exception; its arguments only if all of them are plain and short."""
    try:
        arguments = encode(list(err.args), _refuse)
        if len(json.dumps(arguments)) > MAX_ARGUMENTS_CHARS:
            arguments = None
    except BaseException:
        arguments = None
    bases = [base.__name__ for base in type(err).__mro__ if base.__module__ == "builtins"]
    return [type(err).__name__[:100], bases, message_of(err), arguments]


def _refuse(value: Any) -> Any:
    raise BadFrame("no plain value")


def message_of(err: BaseException) -> str:
    try:
        return str(err)[:MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()
    except BaseException:
        return ""
