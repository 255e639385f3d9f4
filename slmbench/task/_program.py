"""From what a model wrote to a program that can be run, with the tests that judge it."""

from __future__ import annotations

import re

from slmbench.errors import DataError
from slmbench.sandbox import Program
from slmbench.task._task import Task
from slmbench.templates import Template
from slmbench.values import Example

_FENCE = re.compile(r"```[^\n]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


def program_of(task: Task, example: Example, completion: str, *, fenced: bool = False) -> Program:
    """The program of one output of a code task.

    fenced: what stands between the first ``` fences is the output (chat models write prose around code); where it
    defines the function that the prompt began, the prompt's own beginning of it is left out.
    Raises DataError where a template fails.
    """
    spec = task.spec.code
    assert spec is not None
    template = Template(spec.program)
    try:
        tests = Template(spec.tests).render(example.fields)
        found = _FENCE.search(completion) if fenced else None
        if found is not None:
            completion = found[1]
            opened = template.render({**example.fields, "completion": ""})
            begun = list(re.finditer(r"^(?:async +)?def +(\w+)", opened, re.MULTILINE))
            if begun and re.search(rf"^(?:async +)?def +{begun[-1][1]}\b", completion, re.MULTILINE):
                # The prompt's imports and helpers stay in front; its last function is written anew.
                before = opened[: begun[-1].start()]
                return Program(f"{before}\n{completion}" if before.strip() else completion, tests)
        return Program(template.render({**example.fields, "completion": completion}), tests)
    except DataError as error:
        raise DataError(f"task {task.name!r}, item {example.id!r}: {error}") from error
