"""The untrusted side: runs a program and answers calls to its names. It is never shown a test.

Requests: {"op": "program", "code"}, {"op": "get", "name"}, {"op": "call", "of", "args", "kwargs"},
{"op": "attr", "of", "name"}, {"op": "set", "of", "name", "to"}, {"op": "iter" | "next", "of"}. Replies: {"value"} or
{"raised": [type name, message]}. Whatever the program does here, or writes to its pipe, is a reply and no more.
"""

from __future__ import annotations

import os
import sys
import types
from typing import Any

from slmbench.sandbox._wire import MAX_PROGRAM_BYTES, decode, encode, read_frame, write_frame

MAX_MESSAGE_CHARS = 1000


def serve(requests: int, replies: int) -> None:
    """Answers until the stream of requests ends."""
    module = types.ModuleType("program")  # Not "__main__": a script's own part is not to run.
    sys.modules["program"] = module
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
            exec(compile(request["code"], "<program>", "exec"), module.__dict__)
            return None
        if op == "get":
            return module.__dict__[request["name"]]
        of = kept[request["of"]]
        if op == "call":
            args = decode(request["args"], kept.__getitem__)
            return of(*args, **decode(request["kwargs"], kept.__getitem__))
        if op == "attr":
            return getattr(of, request["name"])
        if op == "set":
            return setattr(of, request["name"], decode(request["to"], kept.__getitem__))
        return {"iter": iter, "next": next}[op](of)

    write_frame(replies, {"value": "ready"})
    while True:
        try:
            request = read_frame(requests, MAX_PROGRAM_BYTES)
        except EOFError:
            os._exit(0)
        try:
            write_frame(replies, {"value": encode(answer(request), opaque)})
        except BaseException as err:
            write_frame(replies, {"raised": [type(err).__name__[:100], message_of(err)]})


def message_of(err: BaseException) -> str:
    try:
        return str(err)[:MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()
    except BaseException:
        return ""
