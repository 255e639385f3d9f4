"""HTML that can't be injected into: every string is text until it was built here."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
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


def page_head(title: str, style: str, script: str | None = None) -> Html:
    """A page's head: its policy lets it load nothing, and lets the given style and script run by their hashes."""
    runs = "" if script is None else f"script-src {csp_hash(script)}; "
    policy = f"default-src 'none'; style-src {csp_hash(style)}; {runs}base-uri 'none'; form-action 'none'"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("meta", name_="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Html(style)),
    )


def notice_box(notices: Sequence[str]) -> Html:
    """What a reader has to know before the numbers."""
    shown = [tag("li", notice) for notice in notices]
    return tag("aside", tag("h2", "Before you read on"), tag("ul", *shown), class_="notices")
