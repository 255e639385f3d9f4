"""A layout of turns as a Go template, as Ollama runs it.

Ollama gives a template `.System` (all system messages, an empty line between) and `.Messages` (all messages, system
ones included). Source: ollama, template/template.go and docs/template.mdx.
"""

from __future__ import annotations

import re

from slmbench.deployment._turns import Turns

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
