"""The data files of a page: named by what is in them, so that an index and its data always belong together."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slmbench.files import writer_in_turn
from slmbench.leaderboard.pages import script_json
from slmbench.visible import visible

DATA = "data"
Put = Callable[[str, str], None]
"""Takes a data file: its name, its content."""

_NAME = re.compile(r"[a-z]+-[0-9a-f]{16}\.js")


def shown_json(value: object) -> object:
    """value with numbers that JSON has, and texts whose every control or direction mark is visible."""
    if isinstance(value, str):
        return visible(value, keep="\n\t")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: shown_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown_json(part) for part in value]
    return value


def put_data(put: Put, kind: str, value: object) -> str:
    """Hands a data file over, and returns the name that the page loads it by. kind: small letters.

    The file is one call of the page's `slmbenchData`, by which a script element hands its value over. The name has the
    content's digest: a file is the same for as long as its value is, and another index never reads it for its own.
    value: lists, and dicts whose keys are fixed here; a key that a run chose could be `__proto__`.
    """
    content = script_json(shown_json(value))
    name = f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    put(f"{name}.js", f'slmbenchData("{name}",{content});\n')
    return name


class DataFolder:
    """`out/data`, filled before its index is in place.

    With `with`, which waits for another process that writes there: if it is left before `settle`, what was put and was
    not there before is removed. The index that is in place keeps all of its files then, and nothing half-written is
    left.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / DATA
        self._turn = writer_in_turn(str(out / ".leaderboard.lock"))
        self._before: set[str] | None = None
        self._put: set[str] = set()
        self._settled = False

    def __enter__(self) -> DataFolder:
        self._turn.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if not self._settled and self._before is not None:
                with suppress(OSError):
                    for name in self._put - self._before:
                        (self._folder / name).unlink(missing_ok=True)
                    self._folder.rmdir()  # Only if nothing else is in it.
        finally:
            self._turn.__exit__(None, None, None)

    def put(self, name: str, content: str) -> None:
        """Writes a file; one of that name is there already if its content was. Raises OSError."""
        if self._before is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._before = {path.name for path in self._folder.iterdir()}
        if name in self._put:
            return
        self._put.add(name)
        place = self._folder / name
        if name in self._before and place.stat().st_size == len(content):
            return
        beside = self._folder / f".{name}.{os.getpid()}.tmp"
        try:
            beside.write_text(content, encoding="ascii", newline="\n")
            beside.replace(place)
        finally:
            with suppress(OSError):
                beside.unlink()

    def settle(self) -> None:
        """The index that needs these files is in place: those of earlier ones go, whatever else is there stays."""
        self._settled = True
        with suppress(OSError):
            for path in self._folder.iterdir():
                if _NAME.fullmatch(path.name) and path.name not in self._put:
                    path.unlink(missing_ok=True)
            if not self._put:
                self._folder.rmdir()
