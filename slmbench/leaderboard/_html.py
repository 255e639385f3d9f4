"""HTML that can't be injected into: every string is text until it was built here."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

from slmbench.leaderboard._text import json_ready
from slmbench.visible import visible

_VOID = frozenset({"meta", "wbr", "br"})


class Html(str):
    """Markup made by this module; a plain str is never taken for it."""

    __slots__ = ()


def text(value: str, keep: str = "") -> Html:
    """value as a text node: markup escaped, controls and direction marks visible (except those in keep)."""
    return Html(escape(visible(value, keep), quote=True))


def tag(name: str, /, *children: str, **attributes: str | int | float | None) -> Html:
    """One element. children: Html stays, other strings become text. attributes: `class_` is class, `data_v` is data-v;
    None leaves one out, "" writes it bare."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            shown = "" if value == "" else f'="{text(str(value))}"'
            parts.append(f" {key.rstrip('_').replace('_', '-')}{shown}")
    parts.append(">")
    if name not in _VOID:
        parts.extend(child if isinstance(child, Html) else text(child) for child in children)
        parts.append(f"</{name}>")
    return Html("".join(parts))


def preformatted(value: str, **attributes: str | int | None) -> Html:
    """A `<pre>` that keeps lines and tabs of value; every other control character is visible."""
    # The parser drops one newline after <pre>; this one is meant for it.
    return tag("pre", Html("\n"), text(value.replace("\r\n", "\n"), keep="\n\t"), **attributes)


def breakable(value: str) -> Html:
    """An identifier that may break after `/` and `_` in a narrow column."""
    marked = str(text(value))
    for mark in "/_":
        marked = marked.replace(mark, f"{mark}<wbr>")
    return Html(marked)


def json_script(element_id: str, value: Any) -> Html:
    """value as an inert data block; no character of it can end the block or open a comment in it."""
    content = json.dumps(json_ready(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        content = content.replace(character, f"\\u{ord(character):04x}")
    # ensure_ascii has escaped U+2028 and U+2029 too.
    return Html(f'<script type="application/json" id="{text(element_id)}">{content}</script>')


def csp_hash(content: str) -> str:
    """The source expression of a content security policy that allows exactly this inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
