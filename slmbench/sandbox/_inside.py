"""Tests in the program's own process, for those that two processes can't carry: weaker, as docs/code.md says.

The program is run before tests and nonce are sent, and what runs the tests was taken hold of before it: the program
may have replaced everything that is looked up by name. All of that holds against programs that don't know this
protocol, and against no other: worker and program share one process and its pipes. A program can say itself that it
ran, read tests and nonce from the pipe and answer with them, while it is loaded or while a test calls it.
"""

from __future__ import annotations

import builtins
import os
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from slmbench.sandbox._examiner import detail_of, names_used, namesakes, standard_names
from slmbench.sandbox._wire import MAX_PROGRAM_BYTES, BadFrame, Message, read_bytes, write_bytes, write_frame

NONCE_BYTES = 16
MAX_ANSWER_BYTES = 8192
RAN = b"ran"
UNREADABLE = ("failed", "the program's answer can't be read")


def examine_inside(code: str, tests: str, requests: int, replies: int) -> tuple[str, str]:
    """(status, detail) of a program whose worker runs the tests too. requests, replies: pipes to that worker."""
    try:
        free, standard = names_used(tests)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as err:
        return "failed", detail_of(err, tests)
    nonce = os.urandom(NONCE_BYTES)
    try:
        write_frame(requests, {"op": "beside", "code": code}, MAX_PROGRAM_BYTES)
        answer = read_bytes(replies, MAX_ANSWER_BYTES)
        if answer == RAN:
            names = " ".join(sorted(free or namesakes(code, tests, standard)))
            text = "\0".join([names, " ".join(sorted(standard)), tests]).encode("utf-8", "surrogatepass")
            write_bytes(requests, text)
            with suppress(BrokenPipeError):  # Tests that failed have answered, and don't want it.
                write_bytes(requests, nonce)
            answer = read_bytes(replies, MAX_ANSWER_BYTES)
    except (EOFError, OSError):
        return "died", "the program's process ended"
    except BadFrame:
        return UNREADABLE
    if answer == nonce + b"passed":
        return "passed", ""
    if answer[:6] == b"failed":
        return "failed", answer[6:].decode("utf-8", "replace")
    return UNREADABLE


def prepare(requests: int, replies: int) -> Callable[[str, types.ModuleType], NoReturn]:
    """run(code, module): a program in its module, then the tests beside it. To be called before the program is run."""
    read, write, end, run_code, build, build_standard = os.read, os.write, os._exit, exec, compile, standard_names
    trace, profile, describe, any_error, kind = sys.settrace, sys.setprofile, detail_of, BaseException, type
    own_builtins, whole, ran, most = dict(vars(builtins)), int.from_bytes, RAN, MAX_ANSWER_BYTES - 6

    def take() -> bytes:
        return exactly(whole(exactly(4), "big"))

    def exactly(size: int) -> bytes:
        parts = b""
        while len(parts) < size and (part := read(requests, size - len(parts))):
            parts += part
        return parts

    def put(data: bytes) -> None:
        data = len(data).to_bytes(4, "big") + data
        while data:
            data = data[write(replies, data) :]

    def attempt(code: str, name: str, scope: Message) -> bytes | None:
        """None if it ran to its end, else what to tell of it."""
        try:
            run_code(build(code, name, "exec", 0, True), scope)
        except any_error as err:
            try:
                told = describe(err, code if name == "<tests>" else "").encode("utf-8", "replace")
            except any_error:
                told = kind(err).__name__.encode("utf-8", "replace")
            return b"failed" + told[:most]
        return None

    def run(code: str, module: types.ModuleType) -> NoReturn:
        fault = attempt(code, "<program>", module.__dict__)
        put(ran if fault is None else fault)
        if fault is None:
            trace(None)
            profile(None)
            names, standard, tests = take().decode("utf-8", "surrogatepass").split("\0", 2)
            scope = build_standard(standard.split(), own_builtins)
            scope |= {name: module.__dict__[name] for name in names.split() if name in module.__dict__}
            # Its own builtins: the program's `abs` and `len` are not the tests'.
            scope |= {"__name__": "tests", "__builtins__": own_builtins}
            fault = attempt(tests, "<tests>", scope)
            put(take() + b"passed" if fault is None else fault)
        end(0)

    return run
