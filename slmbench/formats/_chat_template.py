"""A model's own chat template, rendered as transformers renders it, but within limits and on one fixed day.

The template comes with the model, from anybody. transformers bounds neither its time nor the text that it makes, and
tells it today's date, so that the same command would send another prompt tomorrow.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import GeneratorType
from typing import TYPE_CHECKING

from slmbench.formats._limits import Beyond, RenderLimits, check_chars, check_operands

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes
    from jinja2.parser import Parser
    from jinja2.runtime import Context

DAY = datetime.datetime(2024, 7, 26)
"""What a template that asks for the date is told."""

MAX_TEMPLATE_CHARS = 200_000
# They draw at random, or take quadratic time; no template of a model needs them.
_LEFT_OUT_FILTERS = ("random", "urlize", "xmlattr", "striptags", "pprint")
_LEFT_OUT_GLOBALS = ("lipsum",)

# No template can name these.
_LIMITS, _COUNT, _MADE, _CONCAT = "0limits", "0count", "0made", "0concat"


class ChatTemplateFault(ValueError):
    """A chat template that is not Jinja, fails, or takes too much; the message says why."""


def render_chat_template(source: str, variables: Mapping[str, object]) -> str:
    """What transformers' `apply_chat_template` makes of a template, with DAY for its `strftime_now`.

    variables: messages, add_generation_prompt, special tokens and the like, of plain dicts, lists and texts.
    Raises ChatTemplateFault; jinja2.TemplateError if the template itself refuses what it is given.
    """
    from jinja2 import TemplateError

    compiled = _compiled(source)
    try:
        return "".join(compiled.generate({**variables, _LIMITS: RenderLimits()}))
    except TemplateError:
        raise
    except Beyond as error:
        raise ChatTemplateFault(str(error)) from None
    except RecursionError:
        raise ChatTemplateFault("it calls itself too deeply") from None
    except Exception as error:  # Expressions of anyone's, on values of any type.
        said = " ".join(str(error).split())[:200]
        raise ChatTemplateFault(f"{type(error).__name__}: {said}") from error


def asks_for_the_date(source: str) -> bool:
    """Whether a template has a way to write today's date."""
    return "strftime_now" in source or "date_string" in source


@lru_cache(maxsize=32)
def _compiled(source: str) -> jinja2.Template:
    from jinja2 import TemplateError, TemplateSyntaxError, nodes

    if len(source) > MAX_TEMPLATE_CHARS:
        raise ChatTemplateFault(f"it has {len(source):,} characters, and at most {MAX_TEMPLATE_CHARS:,} are read")
    environment = _environment()
    try:
        tree = environment.parse(source)
        for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            raise ChatTemplateFault(
                f"it has `{type(node).__name__.lower()}` (line {node.lineno}), and there is no other file"
            )
        return environment.from_string(_bounded(tree))
    except TemplateSyntaxError as error:
        raise ChatTemplateFault(f"Jinja syntax: {error.message} (line {error.lineno} of the template)") from error
    except (RecursionError, MemoryError, SyntaxError):  # Python's own limits, met while it is compiled.
        raise ChatTemplateFault("its expressions or blocks are nested too deeply") from None
    except (TemplateError, ValueError, OverflowError) as error:  # As a number of more digits than Python reads.
        raise error if isinstance(error, ChatTemplateFault) else ChatTemplateFault(str(error)[:200]) from None


def _bounded(tree: nodes.Template) -> nodes.Template:
    """The template with each loop, list, slice and text in the hands of a filter that counts."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    def through(node: nodes.Node, name: str) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)

    class Bounding(NodeTransformer):
        def visit_For(self, node: nodes.For) -> nodes.Node:
            self.generic_visit(node)
            node.iter = through(node.iter, _COUNT)
            return node

        def visit_Output(self, node: nodes.Output) -> nodes.Node:
            self.generic_visit(node)
            # Jinja writes the template's own text past `finalize`, which counts.
            node.nodes = [
                nodes.Const(one.data, lineno=one.lineno) if isinstance(one, nodes.TemplateData) else one
                for one in node.nodes
            ]
            return node

        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
            self.generic_visit(node)
            return through(nodes.List(node.nodes, lineno=node.lineno), _CONCAT)

        def visit_List(self, node: nodes.Node) -> nodes.Node:
            self.generic_visit(node)
            return through(node, _MADE)

        visit_Dict = visit_List

        def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
            self.generic_visit(node)
            return through(node, _MADE) if node.ctx == "load" else node

        def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
            self.generic_visit(node)
            return through(node, _MADE) if isinstance(node.arg, nodes.Slice) else node

    bounded: nodes.Template = Bounding().visit(tree)
    return bounded


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    import jinja2
    from jinja2 import pass_context
    from jinja2.ext import Extension, loopcontrols
    from jinja2.runtime import LoopContext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`, which marks what an assistant says; nothing is made of it here."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Callable[[], str]) -> str:
            return caller()

    class BoundedEnvironment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def call(self, context: Context, function: object, *args: object, **named: object) -> object:
            limits = context[_LIMITS]
            args = limits.check_call(function, args, named)
            if isinstance(function, LoopContext) and args:  # `loop(children)` of a recursive loop.
                args = (limits.count(args[0]), *args[1:])
            return limits.take(super().call(context, function, *args, **named))

        def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
            limits = context[_LIMITS]
            check_operands(operator, left, right)
            return limits.take(super().call_binop(context, operator, left, right))

    environment = BoundedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,
        extensions=[Generation, loopcontrols],
        finalize=pass_context(lambda context, value: context[_LIMITS].write(context[_LIMITS].take(value))),
    )
    for name in _LEFT_OUT_FILTERS:
        environment.filters.pop(name, None)
    for name in _LEFT_OUT_GLOBALS:
        environment.globals.pop(name, None)
    environment.filters["tojson"] = _as_json
    for name, function in list(environment.filters.items()):
        environment.filters[name] = _counted(name, function)
    environment.filters[_COUNT] = pass_context(lambda context, items: context[_LIMITS].count(items))
    environment.filters[_MADE] = pass_context(lambda context, value: context[_LIMITS].take(value))
    environment.filters[_CONCAT] = pass_context(_concat)
    environment.globals |= {
        "raise_exception": _refuse,
        "strftime_now": _date,
        "dict": _Dict(),
        "namespace": _namespace_class(),
    }
    return environment


def _counted(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """A filter of Jinja's behind the limits."""
    from jinja2 import pass_context

    wants = getattr(getattr(function, "jinja_pass_arg", None), "name", "")

    def run(context: Context, value: object, *args: object, **named: object) -> object:
        limits: RenderLimits = context[_LIMITS]
        value = list(limits.count(value)) if isinstance(value, GeneratorType) and name == "join" else limits.take(value)
        limits.check_filter(name, value, args, named)
        wanted = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        first = [wanted[wants]] if wants in wanted else []
        return limits.take(function(*first, value, *args, **named))

    return pass_context(run)


def _concat(context: Context, parts: list[object]) -> str:
    texts = [str(context[_LIMITS].take(part)) for part in parts]
    check_chars(sum(map(len, texts)))
    return str(context[_LIMITS].take("".join(texts)))


def _date(form: object) -> str:
    if re.search(r"[0-9]{3}", str(form)):  # The C library would pad to any width.
        raise Beyond("it writes the date in a width of more than two digits")
    return DAY.strftime(str(form))


def _refuse(message: object = "") -> None:
    from jinja2 import TemplateError

    raise TemplateError(str(message)[:300])


def _as_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own would write characters of HTML in another way.
    if isinstance(indent, int | str) and (len(indent) if isinstance(indent, str) else indent) > 16:
        raise Beyond("it indents JSON by more than 16")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Dict:
    """`dict(...)`, without what hangs on Python's class."""

    def __call__(self, pairs: Iterable[tuple[str, object]] = (), /, **named: object) -> dict[str, object]:
        return dict(pairs, **named)

    def fromkeys(self, keys: Iterable[object], value: object = None, /) -> dict[object, object]:
        return dict.fromkeys(keys, value)


@lru_cache(maxsize=1)
def _namespace_class() -> type:
    from jinja2.exceptions import SecurityError
    from jinja2.utils import Namespace

    class PlainNamespace(Namespace):
        def __init__(*args: object, **named: object) -> None:  # So that a name may be `self`.
            self, *rest = args
            Namespace.__init__(self, *rest, **named)
            for name in dict(*rest, **named):
                PlainNamespace._check(name)

        def __setitem__(self, name: str, value: object) -> None:
            PlainNamespace._check(name)
            Namespace.__setitem__(self, name, value)

        def __repr__(self) -> str:
            return "<namespace>"  # Jinja's own writes out what is in it, which may be itself.

        @staticmethod
        def _check(name: object) -> None:
            if isinstance(name, str) and name.startswith("_"):
                raise SecurityError(f"a namespace has no place for {name!r}")

    return PlainNamespace
