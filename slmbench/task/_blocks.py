"""Python in what a chat model wrote: fenced blocks, code without a fence, what a piece of code defines and needs."""

from __future__ import annotations

import ast
import builtins
import re
import warnings

from attrs import frozen

MAX_CHARS = 200_000
"""Of longer texts no syntax is looked at; a model that writes so much got stuck."""

_TRIES = 60
# Of a line on its own: indent, at least three marks, what language it is. Backticks in one line of prose open nothing.
_OPENING = re.compile(r"([ \t]*)(`{3,}|~{3,})([^`~\n]*)")
# Behind a text on its line: one run of backticks in it, and nothing after but a language.
_BEHIND_TEXT = re.compile(r"[^`\n]*[^`\s][^`\n]*()(`{3,})[ \t]*([\w+.#-]*)")
_CODE_LINE = re.compile(r"(?:import|from|def|class|async[ ]+def|@)\b|@\w")
_BEFORE_CODE = re.compile(r"#|\s*$|\w+ *(:[^=\n]+)?=[^=]")
_BUILTINS = frozenset(dir(builtins))


def blocks_of(text: str) -> list[tuple[str, str]]:
    """(language in lower case, code) of the fenced blocks of a Markdown text.

    A fence is a line of three or more backticks or tildes, indented or not, or ends a line of text. One with no more
    indent, the same mark and at least as many of them closes it, and so does the end of the text, or, where no line
    does, the end of a line. The fence's indent is taken off the code.
    """
    lines = text.split("\n")
    blocks: list[tuple[str, str]] = []
    at = 0
    while at < len(lines):
        line = lines[at].rstrip()
        opening = _OPENING.fullmatch(line) or _BEHIND_TEXT.fullmatch(line)
        at += 1
        if opening is None:
            continue
        indent, marks = opening[1], opening[2]
        end = next((i for i in range(at, len(lines)) if _closes(lines[i].rstrip(), indent, marks)), None)
        inside = lines[at : len(lines) if end is None else end]
        if end is None and (last := next((i for i, one in enumerate(inside) if one.rstrip().endswith(marks)), None)):
            inside = [*inside[:last], inside[last].rstrip().removesuffix(marks)]
            end = at + last
        language = "".join(re.findall(r"\w+", opening[3])[:1]).lower()
        blocks.append((language, "\n".join(one.removeprefix(indent) for one in inside)))
        at = len(lines) if end is None else end + 1
    return blocks


def _closes(line: str, indent: str, marks: str) -> bool:
    fence = line.lstrip()
    return len(line) - len(fence) <= len(indent) and len(fence) >= len(marks) and fence == marks[0] * len(fence)


@frozen
class Code:
    """What a piece of Python is. parses: False for what is none. defines, needs: the names that it makes at its top,
    and those that it reads and nothing in it makes. works: the functions at its top that do more than say what they
    are.
    """

    parses: bool
    defines: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    works: frozenset[str] = frozenset()


def look_at(code: str) -> Code:
    """What a piece of code is. Nothing is run."""
    tree = _parsed(code)
    if not isinstance(tree, ast.Module):
        return Code(False)
    defines = {name for node in tree.body for name in _made_by(node)}
    made = defines | {name for node in ast.walk(tree) for name in _made_by(node)}
    made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    works = {node.name for node in tree.body if isinstance(node, _FUNCTIONS) and _does_something(node)}
    return Code(True, frozenset(defines), frozenset(read - made - _BUILTINS), frozenset(works))


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _does_something(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    idle = (ast.Pass, ast.Expr)
    return any(
        not isinstance(node, idle) or (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant))
        for node in function.body
    )


def _made_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(name.asname or name.name).split(".")[0] for name in node.names}
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {one.id for target in targets if target for one in ast.walk(target) if isinstance(one, ast.Name)}


def definitions_of(code: str) -> str:
    """The imports, functions, classes and assignments at the top of a piece of code; nothing that is run for show."""
    tree = _parsed(code)
    if not isinstance(tree, ast.Module):
        return ""
    lines = code.split("\n")
    kept = []
    for node in tree.body:
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            kept.append("\n".join(lines[first - 1 : node.end_lineno]))
    return "\n".join(kept)


def up_to_prose(code: str) -> str:
    """The code up to the line at the margin where it stops to be Python; as it is where it is none from the start.

    What is broken within a function or class takes all of it along: half of a function is not an answer.
    """
    lines = code.split("\n")
    for _ in range(_TRIES):
        found = _parsed("\n".join(lines))
        if isinstance(found, ast.Module):
            return "\n".join(lines)
        keep = min(found if found is not None else 0, len(lines)) - 1
        while keep > 0 and (not lines[keep].strip() or lines[keep][0].isspace()):
            keep -= 1
        if keep < 1:
            break
        lines = lines[:keep]
    return code


def from_first_code(text: str) -> str | None:
    """A text without fences from its first line of code on, up to where it stops to be Python; None if it has none."""
    lines = text.split("\n")
    first = next((i for i, line in enumerate(lines) if _CODE_LINE.match(line)), None)
    if first is None:
        return None
    while first and _BEFORE_CODE.match(lines[first - 1]):  # Its constants and comments belong to it.
        first -= 1
    return up_to_prose("\n".join(lines[first:]))


def future_first(code: str) -> str:
    """The code with its `from __future__` lines before all else, where Python wants them."""
    pattern = re.compile(r"^from __future__ import (?:\([^)]*\)|[^\n]*)\n?", re.MULTILINE)
    found = [line.rstrip("\n") for line in pattern.findall(code)]
    return "\n".join([*found, pattern.sub("", code)]) if found else code


def _parsed(code: str) -> ast.Module | int | None:
    """The syntax tree; of what is not Python the line of the error, from 1, or None if that isn't known."""
    if len(code) > MAX_CHARS:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # Of a backslash too many in somebody else's text.
            return ast.parse(code)
    except SyntaxError as error:
        return error.lineno
    except (ValueError, RecursionError, MemoryError):
        return None
