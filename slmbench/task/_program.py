"""From what a model wrote to a program that can be run, with the tests that judge it."""

from __future__ import annotations

import re

from slmbench.errors import DataError
from slmbench.sandbox import Program
from slmbench.task._task import Task
from slmbench.templates import Template
from slmbench.values import Example

# Of a line on its own: indent, at least three marks, what language it is. Backticks in one line of prose open nothing.
_OPENING = re.compile(r"([ \t]*)(`{3,}|~{3,})([^`~\n]*)")
_PYTHON = {"python", "py", "python3", "py3", "python2"}


def program_of(task: Task, example: Example, completion: str, *, fenced: bool = False) -> Program:
    """The program of one output of a code task.

    fenced: what stands in a fenced block is the output (chat models write prose around code). Of several it is the one
    that defines the function that the prompt began, else one that is marked as Python, else one that names no
    language, else the first. Where it defines that function, the prompt's own beginning of it is left out.
    Raises DataError where a template fails.
    """
    spec = task.spec.code
    assert spec is not None
    template = Template(spec.program)
    try:
        tests = Template(spec.tests).render(example.fields)
        blocks = blocks_of(completion) if fenced else []
        if blocks:
            opened = template.render({**example.fields, "completion": ""})
            begun = list(re.finditer(r"^(?:async +)?def +(\w+)", opened, re.MULTILINE))
            defines = re.compile(rf"^(?:async +)?def +{begun[-1][1]}\b" if begun else r"(?!)", re.MULTILINE)
            ranks = [(bool(defines.search(code)), language in _PYTHON, language == "") for language, code in blocks]
            _, completion = blocks[ranks.index(max(ranks))]
            if defines.search(completion):
                # The prompt's imports and helpers stay in front; its last function is written anew.
                before = opened[: begun[-1].start()]
                return Program(f"{before}\n{completion}" if before.strip() else completion, tests, spec.examine)
        return Program(template.render({**example.fields, "completion": completion}), tests, spec.examine)
    except DataError as error:
        raise DataError(f"task {task.name!r}, item {example.id!r}: {error}") from error


def blocks_of(text: str) -> list[tuple[str, str]]:
    """(language in lower case, code) of the fenced blocks of a Markdown text.

    A fence is a line of three or more backticks or tildes, indented or not. One with no more indent, the same mark and
    at least as many of them closes it, and so does the end of the text. The fence's indent is taken off the code.
    """
    blocks, opening, lines = [], None, []
    for line in [*text.split("\n"), None]:
        if opening is None:
            opening = None if line is None else _OPENING.fullmatch(line.rstrip())
            lines = []
        elif line is None or _closes(line.rstrip(), *opening.group(1, 2)):
            language = "".join(re.findall(r"\w+", opening[3])[:1]).lower()
            blocks.append((language, "\n".join(line.removeprefix(opening[1]) for line in lines)))
            opening = None
        else:
            lines.append(line)
    return blocks


def _closes(line: str, indent: str, marks: str) -> bool:
    fence = line.lstrip()
    return len(line) - len(fence) <= len(indent) and len(fence) >= len(marks) and fence == marks[0] * len(fence)
