"""From what a model wrote to a program that can be run, with the tests that judge it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from slmbench.errors import DataError
from slmbench.sandbox import Program
from slmbench.task._blocks import blocks_of, definitions_of, from_first_code, future_first, look_at, up_to_prose
from slmbench.task._task import Task
from slmbench.templates import Template
from slmbench.values import Example

_PYTHON = {"python", "py", "python3", "py3", "python2"}
_DEFINED = re.compile(r"^(?:async +)?def +(\w+)", re.MULTILINE)
_CALLED = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\s*\(")


def program_of(task: Task, example: Example, completion: str, *, fenced: bool = False) -> Program:
    """The program of one output of a code task.

    fenced: the output is a chat's, with prose around its code. What stands in a fenced block is the code, a block that
    the prompt opened among them. Of several it is the one that writes out the function that the prompt began or that
    the tests call, else one that is marked as Python, else one that names no language, else the first; what it needs of
    the others comes before it. Where it defines the prompt's function, the prompt's own beginning of it is left out.
    Without a fence it is the text from its first line of code on, or a body that goes on with the prompt; either ends
    where it stops to be Python. Raises DataError if a template fails.
    """
    spec = task.spec.code
    assert spec is not None
    template = Template(spec.program)
    try:
        tests = Template(spec.tests).render(example.fields)
        if not fenced:
            return Program(template.render({**example.fields, "completion": completion}), tests, spec.examine)
        opened = template.render({**example.fields, "completion": ""})
        prompt = task.prompt_opening(example)
        pieces = _Pieces(template, example, opened, frozenset(_CALLED.findall(tests)))
        return Program(pieces.program(completion, prompt), tests, spec.examine)
    except DataError as error:
        raise DataError(f"task {task.name!r}, item {example.id!r}: {error}") from error


class _Pieces:
    """The readings of a chat's answer as a program. opened: the program of an empty answer. called: by the tests."""

    def __init__(self, template: Template, example: Example, opened: str, called: frozenset[str]) -> None:
        self.template, self.example, self.opened = template, example, opened
        begun = list(_DEFINED.finditer(opened))
        self.before = opened[: begun[-1].start()] if begun else opened
        self.wanted = frozenset([begun[-1][1]]) if begun else called

    def program(self, answer: str, opening: str) -> str:
        """The first reading that writes out what is wanted, is Python, and has all that it needs; else the first that
        comes nearest to it. opening: what the prompt wrote of the answer."""
        answer = answer.replace("\r\n", "\n")
        readings = [future_first(one) for one in dict.fromkeys(self._readings(answer, opening))]
        looks = [look_at(one) for one in readings]
        ranks = [(bool(look.works & self.wanted), look.parses, not look.needs) for look in looks]
        return readings[ranks.index(max(ranks))]

    def _readings(self, answer: str, opening: str) -> Iterator[str]:
        # The first fence of an answer that was opened closes it, unless it names a language: then it begins anew.
        is_open = _is_open(opening) and not (blocks_of(answer) and blocks_of(answer)[0][0])
        if is_open:
            yield self._of_blocks(blocks_of(opening + answer))
            if _is_open(opening + answer):
                yield self._of_blocks(_without_loose_end(blocks_of(opening + answer)))
        own = blocks_of(answer)
        if own:
            yield self._of_blocks(own)
            if _is_open(answer):
                yield self._of_blocks(_without_loose_end(own))
            if not is_open:
                return
        yield up_to_prose(self._continued(answer))
        if (code := from_first_code(answer)) is not None:
            yield self._whole(code)
        if answer.strip() and not answer[:1].isspace():
            # A body alone, that a chat wrote without its indent.
            yield up_to_prose(self._continued("\n".join(f"    {line}" for line in answer.split("\n"))))

    def _of_blocks(self, blocks: list[tuple[str, str]]) -> str:
        looks = [look_at(code) for _, code in blocks]
        ranks = []
        for (language, code), look in zip(blocks, looks, strict=True):
            defined = bool(self.wanted & set(_DEFINED.findall(code)))
            ranks.append((bool(self.wanted & look.works), defined, language in _PYTHON, language == ""))
        which = ranks.index(max(ranks))
        chosen = self._whole(blocks[which][1])
        needed = set(look_at(chosen).needs)
        helpers = []
        for number, ((language, code), look) in enumerate(zip(blocks, looks, strict=True)):
            if number != which and language in (*_PYTHON, "") and needed & look.defines:
                helpers.append(definitions_of(code))
        return "\n".join([*helpers, chosen])

    def _whole(self, code: str) -> str:
        """A program of a piece of code: the prompt's imports and helpers stay in front of a function written anew."""
        if self.wanted & set(_DEFINED.findall(code)):
            before = self.before if self.opened != self.before else ""
            return f"{before}\n{code}" if before.strip() else code
        return self._continued(code)

    def _continued(self, completion: str) -> str:
        return self.template.render({**self.example.fields, "completion": completion})


def _without_loose_end(blocks: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The blocks, the last of them up to where it stops to be Python: nothing closed it, and prose or half a function
    may be at its end."""
    *others, (language, code) = blocks
    return [*others, (language, up_to_prose(code))]


def _is_open(opening: str) -> bool:
    """Whether the prompt left a fence open: a closing one makes no block more, but an opening one would."""
    return bool(blocks_of(opening)) and len(blocks_of(opening + "\n```\n")) == len(blocks_of(opening))
