"""The code blocks of the docs: where they stand, and what is to be made of each line of a shell block."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs
import click

TOP = Path(__file__).resolve().parents[2]
PAGES = [
    *(TOP / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted(path for folder in ("examples", "tasks") for path in (TOP / folder).rglob("*.md")),
    *sorted((TOP / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^( *)```(.*)$")


@attrs.frozen
class Block:
    """A fenced block. place: page and line, as an editor takes it."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def path(self) -> str | None:
        """The file that the block's first line says it is."""
        found = re.match(r"# ([\w./-]+\.\w+)", self.text)
        return found[1] if found else None


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page in order. Raises ValueError for one that isn't closed, or is made by indentation alone."""
    name = page.relative_to(TOP).as_posix()
    start, language, held, before = 0, "", [], ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if start and fence:
            if fence[2]:
                raise ValueError(f"{name}:{number}: a block begins within the one of line {start}")
            yield Block(name, start, language, "\n".join(held) + "\n")
            start, before = 0, ""
        elif start:
            held.append(line)
        elif fence:
            start, language, held = number, fence[2].strip(), []
        else:
            if re.match(r" {4}\S", line) and not before.strip():
                raise ValueError(f"{name}:{number}: a block by indentation: write a fence, and its language")
            before = line
    if start:
        raise ValueError(f"{name}:{start}: a block without an end")


def commands(text: str) -> Iterator[str]:
    """The commands of a shell block, each with the lines that belong to it: after `\\` or `|`, or a here-document's."""
    lines = iter(text.splitlines())
    for line in lines:
        while line.endswith(("\\", "|")):
            line = line.removesuffix("\\") + next(lines).lstrip()
        if ends := re.search(r"<<-? *'?(\w+)'?", line):
            for below in lines:
                line += "\n" + below
                if below == ends[1]:
                    break
        if line.strip() and not line.startswith("#"):
            yield line


def parts(command: str) -> list[list[str]]:
    """The words of each program of a command, in its order, without redirections and variables that are set for it."""
    lexer = shlex.shlex(command.split("\n")[0], posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if set(word) <= set("|&;"):
            found.append([])
        elif set(word) <= set("<>"):
            next(words)
        elif found[-1] or not re.match(r"\w+=", word):
            found[-1].append(word)
    return [part for part in found if part]


def parsed(group: click.Group, words: list[str]) -> tuple[click.Context, dict[str, object]]:
    """(a command, what its parameters are given) of the words after `slmbench`; nothing runs, no path has to be there.

    Raises click's UsageError for a command, an option or a value that there isn't, an argument too many or too few.
    """
    context = click.Context(group, info_name="slmbench")
    command: click.Command = group
    while isinstance(command, click.Group):
        name, below, words = command.resolve_command(context, words)
        assert below is not None
        command, context = below, click.Context(below, info_name=name, parent=context)
    given, left, order = command.make_parser(context).parse_args(args=list(words))
    if left:
        raise click.UsageError(f"unexpected {left}", context)
    for parameter in command.params:
        value = given.get(parameter.name or "")
        if value is None or type(value).__name__ == "Sentinel" or value == ():  # Sentinel: click's own "not given".
            if parameter.required:
                raise click.MissingParameter(ctx=context, param=parameter)
            given[parameter.name or ""] = None
        elif parameter in order and not isinstance(parameter.type, click.Path | click.File):
            given[parameter.name or ""] = parameter.type_cast_value(context, value)
    return context, given
