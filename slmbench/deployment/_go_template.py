"""A layout of turns as a Go template, as Ollama runs it, and the part of that language that such a template needs.

Ollama gives a template `.System` (all system messages, an empty line between) and `.Messages` (all messages, system
ones included). Source: ollama, template/template.go and docs/template.mdx.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from slmbench.deployment._turns import Turns
from slmbench.errors import SlmbenchError

_TOKEN = re.compile(r"\{\{((?:\"(?:[^\"\\]|\\.)*\"|[^\"}])*)\}\}")
_LAST = "$last := eq (len (slice $.Messages $i)) 1"


def go_template(turns: Turns) -> str:
    """The template. The last message is left open where it is an answer, so that one can be begun by hand."""
    opening = _text(turns.opening)
    if turns.system is not None:
        before, after = map(_text, turns.system)
        other = "{{ else }}" + opening if opening else ""
        opening = "{{ if .System }}" + before + "{{ .System }}" + after + other + "{{ end }}"
    reply = _text(turns.reply)
    if turns.reply != turns.generation:
        reply = "{{ if $last }}" + _text(turns.generation) + "{{ else }}" + reply + "{{ end }}"
    closing = "{{ if not $last }}" + _text(turns.closing) + "{{ end }}" if turns.closing else ""
    return (
        f"{opening}{{{{ range $i, $_ := .Messages }}}}{{{{ {_LAST} }}}}"
        f'{{{{ if eq .Role "user" }}}}{_text(turns.user)}{{{{ .Content }}}}{reply}'
        f'{{{{ else if eq .Role "assistant" }}}}{{{{ .Content }}}}{closing}{{{{ end }}}}{{{{ end }}}}'
    )


def _text(text: str) -> str:
    """A literal text inside a template, and inside the three quotes of a Modelfile.

    The Modelfile's parser drops what Go calls not printable, and three quotes end the value.
    """
    parts = []
    for piece in re.split(r"(\{+|\"{3,}|[^\n -~]+)", text):
        odd = piece.startswith(("{", '"""')) or any(not c.isprintable() and c != "\n" for c in piece)
        parts.append("{{ " + _quoted(piece) + " }}" if odd else piece)
    return "".join(parts)


def _quoted(text: str) -> str:
    # A Go string constant has JSON's escapes, but for surrogate pairs; what is printable needs none.
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else _escape(c) for c in text) + '"'


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def run_go_template(template: str, messages: Sequence[Mapping[str, str]]) -> str:
    """What Ollama's engine makes of a template of `go_template`'s kind. Raises SlmbenchError for any other construct.

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
                raise SlmbenchError(f"template: {{{{ {body} }}}} has nothing to end")
            return nodes, (body,)
        if word in ("if", "range"):
            nodes.append(_block(word, body[len(word) :].strip(), tokens, depth))
        else:
            nodes.append(("action", body))
    if ends:
        raise SlmbenchError("template: a block is not ended")
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
                raise SlmbenchError(f"template: range over {node[1]!r}")
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
    raise SlmbenchError(f"template: {{{{ {body} }}}} is not of the kind that is written here")


def _true(condition: str, dot: Mapping[str, Any], variables: dict[str, Any]) -> bool:
    if condition == ".System":
        return bool(dot["System"])
    if condition in ("$last", "not $last"):
        return bool(variables["$last"]) == (condition == "$last")
    if match := re.fullmatch(r'eq \.Role "(\w+)"', condition):
        return bool(dot["Role"] == match.group(1))
    raise SlmbenchError(f"template: {{{{ if {condition} }}}} is not of the kind that is written here")
