"""Text that a stranger wrote, made safe to look at: nothing in it may move a cursor, hide, or turn the line around."""

from __future__ import annotations

import re

# C0 and C1 controls, line and paragraph separators, everything that turns the direction of text, and lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, keep: str = "") -> str:
    """text with every control, direction and surrogate character replaced by a sign that shows which one it was.

    keep: characters that stay as they are (`\\n\\t` inside preformatted text).
    """

    def sign(match: re.Match[str]) -> str:
        character = match.group()
        if character in keep:
            return character
        code = ord(character)
        if code < 0x20:
            return chr(0x2400 + code)  # the "control pictures" block: U+241B shows ESC
        return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"

    return _UNSAFE.sub(sign, text)
