"""What both sides of a call do: tell what it changed and what it raised, and lend functions and iterators."""

from __future__ import annotations

import builtins
import collections
import json
import operator
import types
from collections.abc import Callable, Generator, Sequence
from typing import Any

from slmbench.sandbox._wire import FILES, BadFrame, Message, decode, encode

MAX_MESSAGE_CHARS = 1000
MAX_ARGUMENTS_CHARS = 100_000
MUTABLE = (list, dict, set, bytearray, collections.deque, *FILES.values())
# A function that does these things with what it is given would do them for the program, beside the tests.
NEVER_LENT = {"eval", "exec", "compile", "__import__", "open", "getattr", "globals", "locals", "vars", "setattr"}


def contents(value: Any) -> bytes | list[object]:
    """A copy of what is in a list, dict, set, byte array, deque or file in memory."""
    if type(value) is bytearray:
        return bytes(value)
    if type(value) in FILES.values():
        return [None, 0] if value.closed else [value.getvalue(), value.tell()]
    return [*value.keys(), *value.values()] if type(value) is dict else list(value)


def changes(
    mutables: Sequence[object], before: Sequence[bytes | list[object]], opaque: Callable[[object], object]
) -> list[object]:
    """[number, value] of each that has other contents than before; what was in the arguments goes as a reference."""
    known = {id(value): i for i, value in enumerate(mutables)}
    found: list[object] = []
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


def raised(err: BaseException) -> list[object]:
    """What is told of an exception; its arguments only if all of them are plain and short."""
    try:
        arguments = encode(list(err.args), _refuse)
        if len(json.dumps(arguments)) > MAX_ARGUMENTS_CHARS:
            arguments = None
    except BaseException:
        arguments = None
    bases = [base.__name__ for base in type(err).__mro__ if base.__module__ == "builtins"]
    return [type(err).__name__[:100], bases, message_of(err), arguments]


def _refuse(value: object) -> object:
    raise BadFrame("no plain value")


def message_of(err: BaseException) -> str:
    try:
        return str(err)[:MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()
    except BaseException:
        return ""


class Lender:
    """The tests' functions and iterators that were handed to the program, and what it may do with them."""

    def __init__(self, opaque: Callable[[object], object], object_of: Callable[[object], object]) -> None:
        self._lent: list[tuple[str, Any]] = []
        self._numbers: dict[int, int] = {}
        self._opaque, self._object_of = opaque, object_of

    def lend(self, value: object) -> Message | None:
        """What stands for it on the way to the program; None if it is not to be had there."""
        if type(value) is types.BuiltinFunctionType and getattr(builtins, name := value.__name__, None) is value:
            return {"builtin": name}
        kind = _kind_of(value)
        if kind is None:
            return None
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._lent)
            self._lent.append((kind, value))
        return {"lent": self._numbers[id(value)], "kind": kind, "name": getattr(value, "__name__", kind)}

    def lent(self, body: object) -> object:
        """What the program hands back. Raises BadFrame."""
        if type(body) is not dict or type(body.get("lent")) is not int or not 0 <= body["lent"] < len(self._lent):
            raise BadFrame("an object has a number")
        return self._lent[body["lent"]][1]

    def serve(self, request: Message) -> Message:
        """The answer to what the program asks of one. Raises BadFrame, and what is not an Exception."""
        value: Any = self.lent({"lent": request["of"]})
        kind, op = self._lent[request["of"]][0], request["back"]
        if op not in {"function": ("call",), "iterator": ("send",), "generator": ("send", "close")}[kind]:
            raise BadFrame("what is lent can't do that")
        met: list[Any] = []
        args = decode(request["args"], self._object_of, met)
        kwargs = decode(request["kwargs"], self._object_of, met)
        mutables = tuple(met)
        before = tuple(map(contents, mutables))
        try:
            if op == "call":
                result = value(*args, **kwargs)
            elif op == "close":
                result = value.close()
            else:
                result = next(value) if kind == "iterator" or args == [None] else value.send(*args)
            known = {id(one): i for i, one in enumerate(mutables)}
            reply = {"value": encode(result, self._opaque, list(mutables), known)}
        except Exception as err:
            reply = {"raised": raised(err)}
        return reply | {"changed": changes(mutables, before, self._opaque)}


def _kind_of(value: object) -> str | None:
    function = value.__func__ if type(value) is types.MethodType else value
    if type(function) is types.FunctionType:
        return None if _names_in(function.__code__) & NEVER_LENT else "function"
    if type(value) is types.BuiltinFunctionType:
        return "function" if type(value.__self__) in (*MUTABLE, str) else None
    if type(value) is types.GeneratorType:
        return "generator"
    iterates = type(value).__module__ in ("builtins", "itertools") and hasattr(type(value), "__next__")
    return "iterator" if iterates else None


def _names_in(code: types.CodeType) -> set[str]:
    inner = [_names_in(part) for part in code.co_consts if type(part) is types.CodeType]
    return {*code.co_names, *code.co_freevars}.union(*inner)


class Borrowed:
    """Stand-ins, in the program's process, for what the tests have lent it."""

    def __init__(
        self,
        write: Callable[[Message], None],
        wait: Callable[[], Message],
        opaque: Callable[[object], object],
        object_of: Callable[[object], object],
    ) -> None:
        self._write, self._wait, self._opaque, self._object_of = write, wait, opaque, object_of
        self._made: dict[int, object] = {}
        self._numbers: dict[int, int] = {}

    def number_of(self, value: object) -> int | None:
        return self._numbers.get(id(value))

    def stand_in(self, body: Message) -> object:
        if "builtin" in body:
            return getattr(builtins, body["builtin"])
        number = body["lent"]
        if number not in self._made:
            made = {"function": self._function, "generator": self._generator, "iterator": self._iterator}
            self._made[number] = made[body["kind"]](number, body["name"])
            self._numbers[id(self._made[number])] = number
        return self._made[number]

    def _ask(self, op: str, number: int, args: Sequence[object], kwargs: Message) -> object:
        from slmbench.sandbox._examiner import change, error_of

        met: list[object] = []
        known: dict[int, int] = {}
        given = [encode(part, self._opaque, met, known) for part in (list(args), kwargs)]
        self._write({"back": op, "of": number, "args": given[0], "kwargs": given[1]})
        reply = self._wait()
        for i, value in reply.get("changed", ()):
            change(met[i], decode(value, self._object_of, refs=met))
        if "value" in reply:
            return decode(reply["value"], self._object_of, met)
        name, bases, message, arguments = reply["raised"]
        raise error_of(name, bases, message, None if arguments is None else decode(arguments, self._object_of))

    def _function(self, number: int, name: str) -> object:
        def lent(*args: object, **kwargs: object) -> object:
            return self._ask("call", number, args, kwargs)

        lent.__name__ = lent.__qualname__ = name
        return lent

    def _generator(self, number: int, name: str) -> Generator[object, object, object]:
        sent: object = None
        while True:
            try:
                value = self._ask("send", number, (sent,), {})
            except StopIteration as end:
                return end.value
            try:
                sent = yield value
            except GeneratorExit:
                self._ask("close", number, (), {})
                raise

    def _iterator(self, number: int, name: str) -> object:
        return _Lent(lambda: self._ask("send", number, (None,), {}))


class _Lent:
    def __init__(self, following: Callable[[], object]) -> None:
        self._following = following

    def __iter__(self) -> _Lent:
        return self

    def __next__(self) -> object:
        return self._following()
