"""What Ollama makes of a Modelfile and of its template: the part of both languages that the files written here need.

Ollama gives a template `.System` (all system messages, an empty line between) and `.Messages` (all messages, system
ones included). Source: ollama, template/template.go, parser/parser.go, docs/template.mdx and docs/modelfile.mdx.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_TOKEN = re.compile(r"\{\{((?:\"(?:[^\"\\]|\\.)*\"|[^\"}])*)\}\}")
_LAST = "$last := eq (len (slice $.Messages $i)) 1"


def parse_modelfile(text: str) -> list[tuple[str, str]]:
    """(command, value) of each instruction, by the rules of Ollama's parser; a parameter's command is its name."""
    found: list[tuple[str, str]] = []
    lines = text.split("\n")
    while lines:
        line = lines.pop(0)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        command, _, value = line.lstrip().partition(" ")
        command = command.lower()
        if command == "parameter":
            command, _, value = value.partition(" ")
        value = value.lstrip()
        while value.startswith('"') and _unquoted(value.strip()) is None and lines:
            value += "\n" + lines.pop(0)
        plain = _unquoted(value.strip())
        if plain is None:
            raise ValueError(f"Modelfile: the value of {command} is not ended")
        found.append((command, "".join(c for c in plain if c.isprintable() or c in "\n\t")))
    return found


def _unquoted(value: str) -> str | None:
    if value.startswith('"""'):
        return value[3:-3] if len(value) >= 6 and value.endswith('"""') else None
    if value.startswith('"'):
        return value[1:-1] if len(value) >= 2 and value.endswith('"') else None
    return value


def run_go_template(template: str, messages: Sequence[Mapping[str, str]]) -> str:
    """What Ollama's engine makes of a template of `go_template`'s kind. Raises ValueError for any other construct.

    messages: role and content each.
    """
    nodes, rest = _parse(_tokens(template), 0, ())
    assert rest == ()
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    return _run(nodes, {"System": system, "Messages": list(messages)}, {})


def _tokens(template: str) -> list[tuple[str, str]]:
    tokens, end = [], 0
    for match in _TOKEN.finditer(template):
        tokens.append(("text", template[end : match.start()]))
        tokens.append(("action", match.group(1).strip()))
        end = match.end()
    return [*tokens, ("text", template[end:])]


def _parse(tokens: list[tuple[str, str]], depth: int, ends: tuple[str, ...]) -> tuple[list[Any], tuple[str, ...]]:
    """Nodes up to one of `ends`, which is returned with its words; takes them off the list."""
    nodes: list[Any] = []
    while tokens:
        kind, body = tokens.pop(0)
        if kind == "text":
            nodes.append(("text", body))
            continue
        word = body.split(" ", 1)[0]
        if word in ("end", "else"):
            if not ends:
                raise ValueError(f"template: {{{{ {body} }}}} has nothing to end")
            return nodes, (body,)
        if word in ("if", "range"):
            nodes.append(_block(word, body[len(word) :].strip(), tokens, depth))
        else:
            nodes.append(("action", body))
    if ends:
        raise ValueError("template: a block is not ended")
    return nodes, ()


def _block(word: str, condition: str, tokens: list[tuple[str, str]], depth: int) -> Any:
    body, (closed,) = _parse(tokens, depth + 1, ("end",))
    other: list[Any] = []
    if closed.startswith("else if "):
        other = [_block("if", closed[len("else if ") :], tokens, depth + 1)]
    elif closed == "else":
        other, _ = _parse(tokens, depth + 1, ("end",))
    return (word, condition, body, other)


def _run(nodes: Sequence[Any], dot: Mapping[str, Any], variables: dict[str, Any]) -> str:
    out = []
    for node in nodes:
        if node[0] == "text":
            out.append(node[1])
        elif node[0] == "action":
            out.append(_act(node[1], dot, variables))
        elif node[0] == "if":
            out.append(_run(node[2] if _true(node[1], dot, variables) else node[3], dot, variables))
        else:
            if node[1] != "$i, $_ := .Messages":
                raise ValueError(f"template: range over {node[1]!r}")
            messages = dot["Messages"]
            for i, message in enumerate(messages):
                inner = {"Role": message["role"], "Content": message["content"]}
                out.append(_run(node[2], inner, {**variables, "$.Messages": messages, "$i": i}))
    return "".join(out)


def _act(body: str, dot: Mapping[str, Any], variables: dict[str, Any]) -> str:
    if body == _LAST:
        variables["$last"] = len(variables["$.Messages"][variables["$i"] :]) == 1
        return ""
    if body.startswith('"'):
        # Go's \U has eight digits; JSON has no such escape.
        plain = re.sub(r"\\U([0-9a-f]{8})", lambda match: chr(int(match.group(1), 16)), body)
        return str(json.loads(plain))
    if body in (".System", ".Content"):
        return str(dot[body[1:]])
    raise ValueError(f"template: {{{{ {body} }}}} is not of the kind that is written here")


def _true(condition: str, dot: Mapping[str, Any], variables: dict[str, Any]) -> bool:
    if condition == ".System":
        return bool(dot["System"])
    if condition in ("$last", "not $last"):
        return bool(variables["$last"]) == (condition == "$last")
    if match := re.fullmatch(r'eq \.Role "(\w+)"', condition):
        return bool(dot["Role"] == match.group(1))
    raise ValueError(f"template: {{{{ if {condition} }}}} is not of the kind that is written here")
