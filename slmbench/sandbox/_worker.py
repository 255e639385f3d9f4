"""The untrusted side: runs a program and answers calls to its names. It is never shown a test.

Requests: {"op": "program", "code"}, {"op": "beside", "code"} (the tests come after it, see `_inside`),
{"op": "get", "name"}, {"op": "call", "of", "args", "kwargs"}, {"op": "attr", "of", "name"},
{"op": "set", "of", "name", "to"}, {"op": "iter" | "next" | "truth", "of"}.
Replies: {"value"} or {"raised": [type name, names of its builtin bases, message, arguments or null]}; of a call also
{"changed": [[number, value], ...]}, the mutable arguments that have other contents now, numbered as `decode` met them.
Whatever the program does here, or writes to its pipe, is a reply and no more.
"""

from __future__ import annotations

import json
import operator
import os
import sys
import types
from typing import Any

from slmbench.sandbox._inside import prepare
from slmbench.sandbox._wire import MAX_PROGRAM_BYTES, BadFrame, decode, encode, read_frame, write_frame

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
        return {"iter": iter, "next": next, "truth": truth}[op](of)

    def call(request: dict[str, Any]) -> dict[str, Any]:
        met: list[Any] = []
        args = decode(request["args"], kept.__getitem__, met)
        kwargs = decode(request["kwargs"], kept.__getitem__, met)
        mutables = tuple(met)
        before = tuple(map(contents, mutables))
        try:
            reply = {"value": encode(kept[request["of"]](*args, **kwargs), opaque)}
        except BaseException as err:
            reply = {"raised": raised(err)}
        changed = changes(mutables, before, opaque)
        return {**reply, "changed": changed} if changed else reply

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
    """A copy of what is in a list, dict, set, byte array or deque."""
    if type(value) is bytearray:
        return bytes(value)
    return [*value.keys(), *value.values()] if type(value) is dict else list(value)


def changes(mutables: tuple[Any, ...], before: tuple[Any, ...], opaque: Any) -> list[Any]:
    """[number, value] of each that has other contents than before; what was in the arguments goes as a reference."""
    known = {id(value): i for i, value in enumerate(mutables)}
    found = []
    for i, (value, old) in enumerate(zip(mutables, before, strict=True)):
        new = contents(value)
        same = new == old if type(old) is bytes else len(new) == len(old) and all(map(operator.is_, new, old))
        if not same:
            found.append([i, encode(value, opaque, known=known)])
    return found


def truth(value: Any) -> bool:
    """Whether an object is true. Raises TypeError where its class says so itself, in Python: that could be a lie."""
    for name in ("__bool__", "__len__"):
        method = getattr(type(value), name, None)
        if method is not None and type(method) is not types.WrapperDescriptorType:
            raise TypeError("the test asks for the truth of an object that is no plain value")
    return bool(value)


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
