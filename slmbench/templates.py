"""Jinja for prompts, cut down to what a prompt needs: no code, no unbounded loop, no giant string.

A template comes out of a YAML file that somebody sent; rendering it must not be able to do more than make text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from slmbench.errors import DataError, did_you_mean
from slmbench.prints import NOTED, Printed, note, note_prints
from slmbench.texts import AsWritten, NotText, as_text, to_date, to_int, to_json, to_string

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes
    from jinja2.runtime import Context

MAX_TEMPLATE_CHARS = 20_000
MAX_OUTPUT_CHARS = 2_000_000
MAX_LOOP_DEPTH = 2
MAX_LOOP_STEPS = 100_000
# Each of these can hold a text as long as the longest field, so that their number bounds the memory that is used.
MAX_EXPRESSIONS = 200
MAX_RENDER_S = 5.0
MAX_DIGITS = 20

_FILTERS = "capitalize date default first int join json last length lower replace round string title trim upper".split()
_METHODS = (
    "strip lstrip rstrip split splitlines replace lower upper title capitalize startswith endswith join get"
).split()
_LOOP_NODES = ("For",)
# No template can name these: names that begin with an underscore are refused.
_LIMITS = "_limits"
_TEXT = "_text"
_NODES = (
    "Template Output TemplateData Name Const Getattr Getitem Slice Filter Call Keyword If CondExpr And Or Not "
    "Compare Operand Concat Add Sub Neg List Tuple Test For"
).split()


class TemplateFault(ValueError):
    """A template that isn't allowed or isn't Jinja; the message says why."""


class Template:
    """A compiled prompt template."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.names_in_order, self._compiled = _compile(source)
        self.names = frozenset(self.names_in_order)

    def render(self, fields: Mapping[str, object]) -> str:
        """The text for one row's fields. Raises DataError for a field that the row lacks or a failing expression."""
        return self._rendered(self._compiled, fields, {})

    def printed(self, fields: Mapping[str, object]) -> list[Printed]:
        """What each `{{ }}` that names a field prints for one row, in order. Raises DataError as `render` does."""
        found: list[Printed] = []
        self._rendered(_compile_noting(self.source), fields, {NOTED: found})
        return found

    def _rendered(self, compiled: jinja2.Template, fields: Mapping[str, object], noted: Mapping[str, object]) -> str:
        from jinja2 import TemplateError, UndefinedError

        chunks: list[str] = []
        size = 0
        try:
            # One mapping, not keywords: a column may be named `self`.
            for chunk in compiled.generate({**fields, _LIMITS: _Limits(), **noted}):
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_OUTPUT_CHARS:
                    raise DataError(f"template {self._short()} makes more than {MAX_OUTPUT_CHARS:,} characters")
        except UndefinedError as error:
            missing = sorted(self.names - set(fields))
            if missing:
                hint = did_you_mean(missing[0], fields)
                raise DataError(f"template {self._short()} names {missing[0]!r}, which no row has{hint}") from error
            raise DataError(f"template {self._short()}: {error.message}") from error
        except NotText as error:
            raise DataError(f"template {self._short()}: {error}") from error
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise DataError(f"template {self._short()}: {type(error).__name__}: {error}") from error
        return "".join(chunks)

    def _short(self) -> str:
        text = self.source if len(self.source) <= 60 else self.source[:57] + "..."
        return repr(text)


@lru_cache(maxsize=512)
def _compile_noting(source: str) -> jinja2.Template:
    """The template, with a note of each value that it prints. Only for a source that `_compile` took."""
    from jinja2 import meta

    environment = _environment()
    tree = environment.parse(source)
    note_prints(tree, frozenset(meta.find_undeclared_variables(tree)))
    _guard(tree)
    return environment.from_string(tree)


def _guard(tree: nodes.Template) -> None:
    """Counts the steps of loops, and holds what is printed or joined to be a text."""
    from jinja2 import nodes

    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, _LIMITS, [], [], None, None, lineno=loop.lineno)
    places: list[nodes.Output | nodes.Concat] = [*tree.find_all(nodes.Output), *tree.find_all(nodes.Concat)]
    for place in places:
        place.nodes = [one if isinstance(one, nodes.TemplateData) else _as_text(one) for one in place.nodes]


@lru_cache(maxsize=512)
def _compile(source: str) -> tuple[tuple[str, ...], jinja2.Template]:
    from jinja2 import TemplateSyntaxError, meta, nodes

    if len(source) > MAX_TEMPLATE_CHARS:
        raise TemplateFault(f"a template has at most {MAX_TEMPLATE_CHARS:,} characters, this one {len(source):,}")
    environment = _environment()
    try:
        tree = environment.parse(source)
        _check(tree)
        undeclared = meta.find_undeclared_variables(tree)
        read = (name.name for name in tree.find_all(nodes.Name))
        names = tuple(dict.fromkeys(name for name in read if name in undeclared))
        _guard(tree)
        return names, environment.from_string(tree)
    except TemplateSyntaxError as error:
        raise TemplateFault(f"Jinja syntax: {error.message} (line {error.lineno} of the template)") from error
    except (RecursionError, MemoryError, SyntaxError) as error:  # Python's own limits, met while it is compiled.
        raise TemplateFault("expressions are nested too deeply; write it in plugin.py instead") from error
    except TemplateFault:
        raise
    except ValueError as error:  # A number of more digits than Python reads.
        raise TemplateFault(str(error)) from error


def _as_text(node: nodes.Expr) -> nodes.Expr:
    """An expression whose value goes into a text, held to be one; what it names is said where it is none."""
    from jinja2 import nodes

    name = nodes.Const(_named(node), lineno=node.lineno)
    return nodes.Filter(node, _TEXT, [name], [], None, None, lineno=node.lineno)


def _named(node: object) -> str:
    """A field as a template writes it, `meta.unit` or `answers[0]`; '' for any other expression."""
    from jinja2 import nodes

    if isinstance(node, nodes.Name):
        return str(node.name)
    if isinstance(node, nodes.Getattr | nodes.Getitem):
        inner = _named(node.node)
        if inner and isinstance(node, nodes.Getattr):
            return f"{inner}.{node.attr}"
        if inner and isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            return f"{inner}[{node.arg.value!r}]"
    return ""


def _check(tree: nodes.Template) -> None:
    from jinja2 import nodes

    expressions = sum(1 for _ in tree.find_all((nodes.Name, nodes.Call, nodes.Filter)))
    if expressions > MAX_EXPRESSIONS:
        raise TemplateFault(f"a template has at most {MAX_EXPRESSIONS} names, calls and filters; got {expressions}")
    _check_nodes(tree, 0)
    for name in tree.find_all(nodes.Name):
        if name.name.startswith("_") or name.name == "self":  # `self` is Jinja's word for the template.
            raise TemplateFault(f"{name.name!r} can't be named in a template; rename it in plugin.py")
    for call in tree.find_all(nodes.Call):
        if not isinstance(call.node, nodes.Getattr) or call.node.attr not in _METHODS:
            raise TemplateFault(f"only text methods may be called here: {', '.join(_METHODS)}")
    for node in tree.find_all(nodes.Filter):
        if node.name not in _FILTERS:
            raise TemplateFault(f"unknown filter {node.name!r}{did_you_mean(node.name, _FILTERS)}")
    for read in tree.find_all(nodes.Getattr):
        if read.attr.startswith("_"):
            raise TemplateFault(f"attribute {read.attr!r} is not allowed")


def _check_nodes(node: nodes.Node, loops: int) -> None:
    kind = type(node).__name__
    if kind not in _NODES:
        raise TemplateFault(f"{kind} is not allowed in a template; write it in plugin.py instead")
    if kind in _LOOP_NODES:
        loops += 1
        if loops > MAX_LOOP_DEPTH or getattr(node, "recursive", False):
            raise TemplateFault(f"loops nest at most {MAX_LOOP_DEPTH} deep; write it in plugin.py instead")
    for child in node.iter_child_nodes():
        _check_nodes(child, loops)


class _Limits:
    """How far the loops of one rendering may go, all of them together."""

    def __init__(self) -> None:
        self.steps = 0
        self.ends_at_s = time.monotonic() + MAX_RENDER_S

    def count(self, items: Iterable[object]) -> Iterator[object]:
        for item in items:
            self.steps += 1
            if self.steps > MAX_LOOP_STEPS or time.monotonic() > self.ends_at_s:
                raise ValueError(f"its loops go on for more than {MAX_LOOP_STEPS:,} steps or {MAX_RENDER_S:.0f} s")
            yield item


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    from jinja2 import StrictUndefined, pass_context
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class BoundedEnvironment(ImmutableSandboxedEnvironment):
        # A chain of replace() calls multiplies a text's length each time; it is measured before it is made.
        def call(self, context: Context, function: object, *args: object, **kwargs: object) -> object:
            text = getattr(function, "__self__", None)
            if isinstance(text, str):
                _bound(text, args)
            return super().call(context, function, *args, **kwargs)

        # `meta.items` is the row's key of that name and not the dict's method.
        def getattr(self, obj: object, attribute: str) -> object:
            if isinstance(obj, Mapping) and attribute in obj:
                return obj[attribute]
            return super().getattr(obj, attribute)

    environment = BoundedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals.clear()
    for name in set(environment.filters) - set(_FILTERS):
        del environment.filters[name]
    for name in ("capitalize", "lower", "title", "trim", "upper"):
        environment.filters[name] = _of_text(environment.filters[name])
    environment.filters |= {
        "date": to_date,
        "int": _int,
        "join": _join,
        "json": to_json,
        "replace": _replace,
        "round": _round,
        "string": to_string,
        _TEXT: _text,
        NOTED: pass_context(note),
    }
    environment.filters[_LIMITS] = pass_context(lambda context, items: context[_LIMITS].count(items))
    return environment


def _bound(text: str, args: tuple[object, ...]) -> None:
    lists = [arg if isinstance(arg, (list, tuple)) else (arg,) for arg in args]
    longest = max((len(str(part)) for parts in lists for part in parts), default=0)
    if (len(text) + 1) * max(1, longest) * max(map(len, lists), default=1) > MAX_OUTPUT_CHARS:
        raise ValueError(f"would make a text of more than {MAX_OUTPUT_CHARS:,} characters")


def _text(value: object, name: str = "") -> str:
    from jinja2 import Undefined

    if isinstance(value, Undefined):
        return str(value)  # Raises what is missing.
    if callable(value):
        raise ValueError("a method is named without being called; add ()")
    return as_text(value, name)


def _of_text(filter: Callable[..., object]) -> Callable[..., object]:
    """A filter of texts that takes nothing else for one."""
    return lambda value, *args, **kwargs: filter(_text(value), *args, **kwargs)


def _int(value: object, default: int | None = None) -> int:
    # Jinja's own makes 0 of whatever is not a number.
    try:
        return to_int(value)
    except ValueError:
        if default is None:
            raise
        return default


def _round(value: float, digits: int = 0) -> AsWritten:
    # A power of ten is made of the digits: round(5, -10**9) would not come back.
    if abs(digits) > MAX_DIGITS:
        raise ValueError(f"round: at most {MAX_DIGITS} digits")
    return AsWritten(round(value, digits))


def _replace(value: object, old: str, new: str) -> str:
    text = _text(value)
    _bound(text, (old, new))
    return text.replace(old, new)


def _join(parts: Iterable[object], between: str = "") -> str:
    if isinstance(parts, str):
        raise ValueError("join: is a text, not a list of texts")
    texts = [_text(part) for part in parts]
    if sum(map(len, texts)) + len(between) * len(texts) > MAX_OUTPUT_CHARS:
        raise ValueError(f"would make a text of more than {MAX_OUTPUT_CHARS:,} characters")
    return between.join(texts)
