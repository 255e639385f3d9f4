"""What a Python file registers and what it imports, read from its text: nothing of it is run.

This module stays with the standard library's cheapest parts, as `slmbench list` imports it.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from slmbench.errors import DeclarationError, Problem
from slmbench.paths import package_dir, shown

if TYPE_CHECKING:
    import ast

KINDS = {
    "metric": "metrics",
    "format": "formats",
    "loader": "loaders",
    "engine": "engines",
    "merge_method": "merge_methods",
}
"""What a decorator registers, and what `slmbench list` calls all of them."""
FOLDERS = {**KINDS, "merge_method": "merging/methods"}
"""Where slmbench's own ones lie: a file each in a folder of the package."""

_MAX_BYTES = 1_000_000
# What can still be seen of a file that is not Python.
_MARKED = re.compile(rf"""^@(?:\w+\.)*({"|".join(KINDS)})\(\s*(?:name\s*=\s*)?["']([^"']+)["']""", re.MULTILINE)


class Header(NamedTuple):
    """What is said of a thing at its definition. path: the file, as it is shown to a person."""

    kind: str
    name: str
    summary: str
    version: str
    path: str
    line: int


def headers(path: str) -> list[Header]:
    """What a module registers, from its text alone; nothing of it is run. Of a file that is not Python, what is wrong
    stands in place of each summary.

    A decorator counts where its name is one of KINDS, or such an attribute (`slmbench.metric`), and its first argument
    is a literal text.
    """
    text = _read(path)
    if b"summary" not in text:
        return []
    import ast

    try:
        tree = _parsed(path, text)
    except DeclarationError as error:
        lines = text.decode(errors="replace")
        places = [(one[1], one[2], lines.count("\n", 0, one.start()) + 1) for one in _MARKED.finditer(lines)]
        return [Header(kind, name, f"(broken: {error})", "", path, line) for kind, name, line in places]
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for call in node.decorator_list:
            if not isinstance(call, ast.Call):
                continue
            called = call.func
            kind = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            told = {key.arg: _literal(key.value) for key in call.keywords}
            name = _named(call)
            if kind in KINDS and name:
                summary = told.get("summary") or "(its summary is made by code)"
                found.append(Header(kind, name, summary, told.get("version") or "", path, node.lineno))
    return found


def definition(header: Header) -> tuple[str, dict[str, str], str]:
    """(signature, the decorator's other arguments as they are written, docstring) of what a header is of; not run.

    Raises DeclarationError for a file that is not Python.
    """
    import ast

    for node in ast.walk(_parsed(header.path, _read(header.path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.lineno == header.line:
            told = [key for call in node.decorator_list if _named(call) == header.name for key in call.keywords]  # type: ignore[attr-defined]
            facts = {key.arg: ast.unparse(key.value) for key in told if key.arg}
            for key in ("name", "summary", "version"):
                facts.pop(key, None)
            if isinstance(node, ast.ClassDef):
                return node.name, facts, ast.get_docstring(node) or ""
            returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
            return f"{node.name}({ast.unparse(node.args)}){returns}", facts, ast.get_docstring(node) or ""
    raise LookupError(f"{header.path}:{header.line}: {header.kind} {header.name!r}")


def _parsed(path: str, text: bytes) -> ast.Module:
    import ast

    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise DeclarationError([no_python(path, error)]) from error


def no_python(path: str, error: Exception) -> Problem:
    """What is wrong with a file that Python can't read, and where."""
    if isinstance(error, SyntaxError):
        return Problem(shown(path), error.lineno or 0, error.offset or 0, f"Python syntax: {error.msg}")
    return Problem(shown(path), 0, 0, f"Python can't read it: {error}")


def _named(call: ast.expr) -> str | None:
    """The name that a decorator gives; None for one that gives none."""
    import ast

    if not isinstance(call, ast.Call):
        return None
    named = [*call.args[:1], *(key.value for key in call.keywords if key.arg == "name")]
    return _literal(named[0]) if named else None


class Promises(NamedTuple):
    """What a file that hasn't been run says that it registers. open: it imports from elsewhere, so that there may be
    more than its own text shows."""

    headers: list[Header]
    open: bool

    def has(self, kind: str, name: str) -> bool:
        """Whether it registers a name, as far as its text shows; True for every name of an open one."""
        return self.open or name in self.names(kind)

    def names(self, kind: str) -> list[str]:
        return [header.name for header in self.headers if header.kind == kind]


def promises(path: str) -> Promises:
    """What a plugin's file registers, from its text."""
    found = re.findall(rb"^[ \t]*from[ \t]+([A-Za-z_]\w*)[\w.]*[ \t]+import", _read(path), re.MULTILINE)
    others = {name.decode() for name in found} - sys.stdlib_module_names - {"slmbench"}
    return Promises(headers(path), bool(others))


def _literal(node: ast.expr) -> str | None:
    import ast

    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, str) else None


@cache
def own_headers(kind: str) -> tuple[Header, ...]:
    """What slmbench itself registers of a kind, by name."""
    folder = os.path.join(package_dir(), *FOLDERS[kind].split("/"))
    public = (
        [name for name in os.listdir(folder) if name.endswith(".py") and name[0] != "_"]
        if os.path.isdir(folder)
        else []
    )
    found = [header for name in sorted(public) for header in headers(os.path.join(folder, name)) if header.kind == kind]
    return tuple(sorted(found, key=lambda header: header.name))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return b""


def source_sha256(path: str) -> str:
    """The digest of a plugin's file; of one in a package, with the files of the package that it imports, and they."""
    import hashlib

    files = [os.path.realpath(path)]
    for file in files:  # It grows on the way.
        files += _of_its_package(file) - {*files}
    digests = []
    for file in files:
        with open(file, "rb") as opened:
            digests.append(hashlib.sha256(opened.read()))
    first, *others = (one.digest() for one in digests)
    return hashlib.sha256(b"".join([first, *sorted(others)])).hexdigest() if others else first.hex()


def _of_its_package(path: str) -> set[str]:
    """The files that a file imports of packages that it lies in itself."""
    found = set()
    for name, _ in imports_of(path):
        level = len(name) - len(name.lstrip("."))
        top, *rest = name[level:].split(".")
        folder = os.path.dirname(path)
        if level:
            folder, rest = os.path.normpath(os.path.join(folder, *[".."] * (level - 1))), [top, *rest]
        while not level and os.path.basename(folder) not in (top, ""):
            folder = os.path.dirname(folder)
        for depth in range(len(rest) + 1) if os.path.basename(folder) and top != "slmbench" else ():
            stem = os.path.join(folder, *rest[:depth])
            found |= {file for file in (f"{stem}.py", os.path.join(stem, "__init__.py")) if os.path.isfile(file)}
    return found


def imports_of(path: str) -> list[tuple[str, int]]:
    """(name, line) of what a file imports, wherever it does, relative names with their dots; [] if it is not Python.

    `from a import b` is a.b, as b may be a module.
    """
    import ast

    found: list[tuple[str, int]] = []
    try:
        tree = _parsed(path, _read(path))
    except DeclarationError:
        return []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            of = "." * node.level + (f"{node.module}." if node.module else "")
            found += ((of + alias.name, node.lineno) for alias in node.names)
    return found
