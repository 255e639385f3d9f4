"""Which fields a template prints, by their paths: `{{ qa.question }}` prints a part of `qa`, and no more of it.

A template is not a query: it may cut a text, choose turns of a conversation, or print under a condition. So its own
rendering is listened to, in place of guessing from the names in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.runtime import Context

NOTED = "_noted"  # No template can name it: names that begin with an underscore are refused.
LOOPED = "*"
"""The part of a path that stands for an item of a loop."""

Path = tuple[str | int, ...]


@frozen
class Printed:
    """A value that was printed. path: of the field, `*` for a loop's item; of several, the paths of all, one after
    another. whole: it is the field as it is, not what a filter, a method, a slice or an operator made of it.
    """

    path: Path
    value: object
    whole: bool


def note(context: Context, value: object, path: Path, whole: bool) -> object:
    """The filter that tells of a printed value, and changes nothing."""
    from jinja2 import Undefined

    if not isinstance(value, Undefined):
        context[NOTED].append(Printed(path, value, whole))
    return value


def note_prints(tree: nodes.Node, fields: frozenset[str]) -> None:
    """Puts `note` around every printed expression of a Jinja tree that reads one of the fields."""
    _walk(tree, fields, {})


def _walk(node: nodes.Node, fields: frozenset[str], bound: Mapping[str, Path]) -> None:
    from jinja2 import nodes

    if isinstance(node, nodes.Output):
        node.nodes = [_noting(part, fields, bound) for part in node.nodes]
        return
    inner = bound
    if isinstance(node, nodes.For):
        path, _ = _path(node.iter, fields, bound)
        targets = [target.name for target in node.target.find_all(nodes.Name)]
        targets += [node.target.name] if isinstance(node.target, nodes.Name) else []
        inner = {**bound, **dict.fromkeys(targets, (*path, LOOPED) if path else ()), "loop": ()}
    for child in node.iter_child_nodes():
        _walk(child, fields, inner)


def _noting(part: nodes.Expr, fields: frozenset[str], bound: Mapping[str, Path]) -> nodes.Expr:
    from jinja2 import nodes

    path, whole = _path(part, fields, bound)
    if isinstance(part, nodes.TemplateData) or not path:
        return part
    arguments = [nodes.Const(path, lineno=part.lineno), nodes.Const(whole, lineno=part.lineno)]
    return nodes.Filter(part, NOTED, arguments, [], None, None, lineno=part.lineno)


def _path(node: nodes.Node | None, fields: frozenset[str], bound: Mapping[str, Path]) -> tuple[Path, bool]:
    """(the path that an expression reads, whether it is that field as it is); () where it reads none."""
    from jinja2 import nodes

    if node is None:
        return (), False
    if isinstance(node, nodes.Name):
        return bound.get(node.name, (node.name,) if node.name in fields else ()), True
    if isinstance(node, nodes.Getattr | nodes.Getitem):
        path, whole = _path(node.node, fields, bound)
        key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", LOOPED)
        if not path or not whole or (isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)):
            return path, False
        return (*path, key if isinstance(key, str | int) else LOOPED), True
    if isinstance(node, nodes.Call):  # Of a method alone.
        return _path(getattr(node.node, "node", None), fields, bound)[0], False
    if isinstance(node, nodes.Filter):
        return _path(node.node, fields, bound)[0], False
    parts = [node.expr1, node.expr2] if isinstance(node, nodes.CondExpr) else list(node.iter_child_nodes())
    paths = [_path(part, fields, bound)[0] for part in parts]
    return tuple(part for path in dict.fromkeys(paths) for part in path), False
