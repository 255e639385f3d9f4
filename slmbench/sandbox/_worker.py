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
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from slmbench.sandbox._calls import Borrowed, changes, contents, raised
from slmbench.sandbox._inside import prepare
from slmbench.sandbox._wire import MAX_PROGRAM_BYTES, Message, decode, encode, read_frame, write_frame


def serve(requests: int, replies: int) -> None:
    """Answers until the stream of requests ends."""
    module = types.ModuleType("program")  # Not "__main__": a script's own part is not to run.
    sys.modules["program"] = module
    run_beside = prepare(requests, replies)
    kept: list[Any] = []
    number: dict[int, int] = {}

    def opaque(value: object) -> object:
        if (lent := borrowed.number_of(value)) is not None:
            return {"lent": lent}
        if id(value) not in number:
            number[id(value)] = len(kept)
            kept.append(value)
        return number[id(value)]

    def object_of(body: Any) -> object:
        return kept[body] if type(body) is int else borrowed.stand_in(body)

    def wait() -> Message:
        """The answer to what a stand-in has asked; the tests may call the program before they give it."""
        while True:
            message: dict[str, Any] = read_frame(requests, MAX_PROGRAM_BYTES)
            if "op" not in message:
                return message
            respond(message)

    def respond(request: Message) -> None:
        try:
            is_call = request["op"] == "call"
            write_frame(replies, call(request) if is_call else {"value": encode(answer(request), opaque)})
        except BaseException as err:
            write_frame(replies, {"raised": raised(err)})

    borrowed = Borrowed(lambda message: write_frame(replies, message), wait, opaque, object_of)

    def answer(request: Message) -> object:
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
            setattr(of, request["name"], decode(request["to"], object_of))
            return None
        if op == "item":
            return of[decode(request["key"], object_of)]
        ways: dict[str, Callable[[Any], object]] = {"iter": iter, "next": next, "truth": bool, "len": len}
        return (ways | {"str": str, "repr": repr})[op](of)

    def call(request: Message) -> Message:
        met: list[object] = []
        args = decode(request["args"], object_of, met)
        kwargs = decode(request["kwargs"], object_of, met)
        stdin = decode(request["stdin"], object_of, met) if "stdin" in request else None
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
        respond(request)


@contextlib.contextmanager
def surroundings(request: Message, stdin: object) -> Iterator[tuple[tuple[str, io.StringIO], ...]]:
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
