"""YAML as data alone, with the line and column of everything in it, and limits that no bomb gets past."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import yaml

from slmbench.errors import DeclarationError, Problem
from slmbench.paths import shown

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 50_000

Location = tuple[str | int, ...]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# YAML 1.1, which PyYAML reads, takes 5e-3 for text; everyone who writes a learning rate means a number.
_OLD_NUMBER = re.compile(r"[-+]?0[\d_]+|[^:]*(:[^:]*)+")
_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_PRINTABLE = re.compile("[\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MAX_DIGITS = 100
_TAG = "tag:yaml.org,2002:"


class Document(NamedTuple):
    """A parsed file. data: plain dicts, lists, strings, numbers, booleans, None. marks: location -> (line, column)."""

    path: str
    data: Any
    marks: dict[Location, tuple[int, int]]

    def problem(self, location: Location, message: str) -> Problem:
        """A problem at the location, or at the nearest enclosing place that has a mark."""
        location = tuple(location)
        while location and location not in self.marks:
            location = location[:-1]
        line, column = self.marks.get(location, (1, 1))
        return Problem(shown(self.path), line, column, message)


def read_yaml(path: str | os.PathLike[str]) -> Document:
    """Reads one YAML file. Raises DeclarationError holding every fault that its syntax has."""
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise DeclarationError([Problem(shown(path), 0, 0, f"can't be read: {error.strerror}")]) from error
    return parse_yaml(raw, path)


def read_text(path: str, key: str) -> str | None:
    """The text of a key at the top of a file, which is read no further; None if there is none, or a fault before it.

    Of a list of files this costs a hundredth of what reading them whole does.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            loader = _Loader(file.read(MAX_BYTES))
        node = _value_at_top(loader, key)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    builder = _Builder(path)
    value = builder.build(node, (), 0) if node is not None else None
    return value if isinstance(value, str) and not builder.problems else None


def _value_at_top(loader: Any, key: str) -> yaml.Node | None:
    """The scalar that a document's mapping has at a key."""
    depth, name = 0, None
    # Where a key is not a scalar, keys and values can't be told apart here.
    while not isinstance(event := loader.get_event(), yaml.DocumentEndEvent | yaml.StreamEndEvent):
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            no_keys = depth == 0 and (event.tag or isinstance(event, yaml.SequenceStartEvent))
            if no_keys or (depth == 1 and name is None):
                return None
            depth += 1
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            depth -= 1
            name = None if depth == 1 else name
        elif depth == 1 and isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
            if name is not None and name != key:
                name = None
            elif isinstance(event, yaml.AliasEvent):
                return None
            elif name is None:
                name = event.value
            else:
                tag = event.tag
                if tag in (None, "!"):
                    tag = loader.resolve(yaml.ScalarNode, event.value, event.implicit)
                marks: tuple[Any, Any] = event.start_mark, event.end_mark
                return yaml.ScalarNode(tag, event.value, *marks, event.style)
    return None


def parse_yaml(raw: bytes, path: str) -> Document:
    """Parses YAML bytes; path is for messages. Raises DeclarationError with all problems found."""
    where = shown(path)
    if len(raw) > MAX_BYTES:
        raise DeclarationError([Problem(where, 0, 0, f"{len(raw):,} bytes; a declaration has at most {MAX_BYTES:,}")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DeclarationError([Problem(where, line, 1, "not UTF-8; save the file as UTF-8")]) from error
    try:
        _check_depth(text, where)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        message = " ".join(part for part in (error.problem, error.context) if part) or "not valid YAML"
        raise DeclarationError([Problem(where, line, column, f"YAML syntax: {message}")]) from error
    except yaml.YAMLError as error:  # A character that YAML doesn't have; its position counts characters or bytes.
        character = next((c for c in text if not _PRINTABLE.match(c)), "")
        before = text.partition(character)[0]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        message = f"character {character!r} is not allowed; write it as an escape inside double quotes"
        raise DeclarationError([Problem(where, line, column, f"YAML syntax: {message}")]) from error
    if root is None:
        return Document(path, None, {})
    builder = _Builder(where)
    data = builder.build(root, (), 0)
    if builder.problems:
        raise DeclarationError(builder.problems)
    return Document(path, data, builder.marks)


def _check_depth(text: str, where: str) -> None:
    # The composer recurses; the event stream does not, so depth is measured on it first.
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_DEPTH:
                mark = event.start_mark
                line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
                raise DeclarationError([Problem(where, line, column, f"nested more than {MAX_DEPTH} levels deep")])
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


class _Builder:
    """Turns composed nodes into plain data, counting nodes as aliases expand, and keeping all faults."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[Problem] = []
        self.marks: dict[Location, tuple[int, int]] = {}
        self.nodes = 0

    def _fault(self, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(self.where, node.start_mark.line + 1, node.start_mark.column + 1, message))

    def build(self, node: yaml.Node, location: Location, depth: int) -> object:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            if self.nodes <= MAX_NODES + 1 or depth > MAX_DEPTH:
                self._fault(node, f"aliases expand to more than {MAX_NODES:,} nodes or {MAX_DEPTH} levels")
            raise DeclarationError(self.problems)
        self.marks.setdefault(location, (node.start_mark.line + 1, node.start_mark.column + 1))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            if node.tag != _TAG + "seq":
                self._fault(node, _tag_message(node.tag))
                return None
            return [self.build(child, (*location, i), depth + 1) for i, child in enumerate(node.value)]
        if node.tag != _TAG + "map":
            self._fault(node, _tag_message(node.tag))
            return None
        return self._mapping(node, location, depth)

    def _mapping(self, node: yaml.Node, location: Location, depth: int) -> dict[str, object]:
        built: dict[str, object] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _TAG + "merge":
                self._fault(key_node, "a key must be plain text (merge keys '<<' are not supported)")
                continue
            key = key_node.value
            if key in built:
                self._fault(key_node, f"duplicate key {key!r}; it is on line {first_line[key]} already")
                continue
            first_line[key] = key_node.start_mark.line + 1
            # An error about a key's value is best shown at the key.
            self.marks[(*location, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            built[key] = self.build(value_node, (*location, key), depth + 1)
        return built

    def _scalar(self, node: yaml.ScalarNode) -> object:
        tag, value = node.tag, node.value
        if tag in (_TAG + "str", _TAG + "timestamp"):
            if tag == _TAG + "str" and not node.style and _FLOAT.fullmatch(value):
                return float(value)
            return value
        if tag == _TAG + "null":
            return None
        if tag == _TAG + "bool":
            return value.lower() in ("yes", "true", "on")
        if tag in (_TAG + "value", _TAG + "merge"):  # A lone `=` or `<<`, which YAML 1.1 gave meanings long forgotten.
            return value
        try:
            if len(value) > _MAX_DIGITS and tag in (_TAG + "int", _TAG + "float"):
                raise ValueError
            if tag in (_TAG + "int", _TAG + "float") and _OLD_NUMBER.fullmatch(value):
                said = "an octal number" if ":" not in value else "a number in base 60"
                self._fault(node, f"{value[:60]!r}: YAML 1.1 reads {said} here; write a plain number, or quote it")
                return None
            if tag == _TAG + "int":
                return yaml.SafeLoader("").construct_yaml_int(node)
            if tag == _TAG + "float":
                return yaml.SafeLoader("").construct_yaml_float(node)
        except ValueError:
            self._fault(node, f"not a number: {value[:60]!r}")
            return None
        self._fault(node, _tag_message(tag))
        return None


def _tag_message(tag: str) -> str:
    return f"tag {tag.replace(_TAG, '!!')!r} is not allowed; declarations are data and run no code"
