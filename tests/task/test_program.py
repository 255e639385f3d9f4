"""From what a model wrote to a program. What is run here was written for these tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.errors import DataError
from slmbench.task import Task, load_task, program_of
from slmbench.values import Example

MakeTask = Callable[..., Task]

PROMPT = '''import math


def half(x):
    return x / 2


def area(radius):
    """The area of a circle.

    def area(radius) has one argument.
    """
'''
ROW = {"prompt": PROMPT, "solution": "    return math.pi * radius**2\n", "tests": "assert 3.1 < area(1) < 3.2"}
WHOLE = "def area(radius):\n    return math.pi * radius * radius"


def code_task(make_task: MakeTask, row: dict[str, Any] | None = None, yaml: str = "") -> tuple[Task, Example]:
    task = make_task("code", yaml, [row or ROW])
    return task, task.examples("test")[0]


def passes(task: Task, example: Example, completion: str, *, fenced: bool = False) -> bool:
    program = program_of(task, example, completion, fenced=fenced)
    scope: dict[str, Any] = {}
    try:
        exec(program.code, scope)
        exec(program.tests, scope)
    except Exception:  # Whatever a program does.
        return False
    return True


def test_a_program_is_the_declared_template_with_the_output_in_it(make_task: MakeTask) -> None:
    task, example = code_task(make_task)
    program = program_of(task, example, "    return 3.14\n")
    assert (program.code, program.tests) == (PROMPT + "    return 3.14\n", "assert 3.1 < area(1) < 3.2")
    assert passes(task, example, task.answer(example))
    assert not passes(task, example, "    return 0\n")


def test_an_output_is_text_and_no_template(make_task: MakeTask) -> None:
    task, example = code_task(make_task)
    body = "    return '{{ 1/0 }}{% for x in y %}'"
    assert program_of(task, example, body).code == PROMPT + body


FENCED = [
    "```python\n" + WHOLE + "\n```",
    "```\n" + WHOLE + "\n```",
    "Sure! Here it is:\n\n```py\n" + WHOLE + "\n```\nIt squares the radius.\n\n```python\narea(2)\n```",
    # Cut off at the length limit.
    "```python\n" + WHOLE,
    "```python\nPI = 3.14\n\n\n" + WHOLE.replace("math.pi", "PI") + "\n```",
    "```python\nimport math\n" + WHOLE + "\n```",
    "The body:\n```python\n    return math.pi * radius**2\n```",
    "```python\ndef area(radius):\n    return half(2 * math.pi * radius**2)\n```",
    "```python\ndef  area(radius):\n    return 3.14\n```",
    "    return math.pi * radius**2\n",
]


@pytest.mark.parametrize("output", FENCED, ids=range(len(FENCED)))
def test_code_of_a_chat_model_is_what_stands_between_its_fences(output: str, make_task: MakeTask) -> None:
    task, example = code_task(make_task)
    assert passes(task, example, output, fenced=True)


SHELL = "First:\n```bash\npip install circle\n```\nThen:\n"
INDENTED = "".join(f"   {line}\n" for line in WHOLE.splitlines())
DOCUMENTED = WHOLE.replace(":\n", ":\n    '''\n    ```\n    area(1)\n    ```\n    '''\n", 1)
FENCES = {
    "indented, in a list": f"1. The code:\n\n   ```python\n{INDENTED}   ```\n2. Done.",
    "indented, closed at the margin": f"1. The code:\n   ```python\n{INDENTED}```\nDone.",
    "a shell's block first": f"{SHELL}```python\n{WHOLE}\n```",
    "a shell's block first, and one of no language": f"{SHELL}```\n{WHOLE}\n```",
    "a shell's block first, and a body": f"{SHELL}```python\n    return math.pi * radius**2\n```",
    "a block of use first": f"Use it so:\n```python\nprint(area(1))\n```\n```python\n{WHOLE}\n```",
    "output first, under no language": f"```\n3.14\n```\n```python\n{WHOLE}\n```",
    "fences in its docstring": f"```python\n{DOCUMENTED}\n```\nDone.",
    "four backticks": f"````python\n{WHOLE}\n```` \nDone.",
    "three backticks within four": f"````python\n{WHOLE}\n'''\n```\n'''\n````\nDone.",
    "more backticks at the end": f"```python\n{WHOLE}\n`````\nDone.",
    "tildes": f"~~~python\n{WHOLE}\n~~~\nDone.",
    "tildes with backticks in them": f"~~~ python\n{WHOLE}\n'''\n```\n'''\n~~~\nDone.",
    "backticks within prose": f"Call ```area``` so, or\n```area(1)``` so:\n```python\n{WHOLE}\n```\nDone.",
    "CRLF": f"Sure:\n```python\n{WHOLE}\n```\nDone.".replace("\n", "\r\n"),
    "attributes": f"```{{.python .numberLines}}\n{WHOLE}\n```\nDone.",
    "a capital": f"{SHELL}``` Python\n    return math.pi * radius**2\n```",
}


@pytest.mark.parametrize("name", FENCES)
def test_a_fence_is_found_as_markdown_has_it(name: str, make_task: MakeTask) -> None:
    task, example = code_task(make_task)
    assert passes(task, example, FENCES[name], fenced=True)


def test_fences_are_text_where_none_are_looked_for(make_task: MakeTask) -> None:
    task, example = code_task(make_task)
    assert not passes(task, example, FENCED[0])
    assert program_of(task, example, FENCED[0]).code == PROMPT + FENCED[0]


def test_prose_without_a_fence_is_run_as_it_stands_and_fails(make_task: MakeTask) -> None:
    task, example = code_task(make_task)
    assert not passes(task, example, "Sure, the area is pi times the square.", fenced=True)


def test_a_wrong_program_in_fences_is_wrong(make_task: MakeTask) -> None:
    task, example = code_task(make_task)
    assert not passes(task, example, "```python\ndef area(radius):\n    return 0\n```", fenced=True)
    # Of two answers the first counts.
    assert not passes(
        task, example, f"```python\ndef area(radius):\n    return 0\n```\n```python\n{WHOLE}\n```", fenced=True
    )
    assert not passes(task, example, "```python\ndef area_of(radius):\n    return 3.14\n```", fenced=True)


def test_a_function_of_a_longer_name_is_not_the_prompts_own(make_task: MakeTask) -> None:
    task, example = code_task(make_task)
    body = "    return area_of(radius)\n\n\ndef area_of(radius):\n    return 3.14"
    assert passes(task, example, f"```python\n{body}\n```", fenced=True)


@pytest.mark.parametrize("opening", ["async def", "async  def", "def "])
def test_however_the_prompt_opens_its_function_it_is_written_anew_whole(opening: str, make_task: MakeTask) -> None:
    prompt = f'K = 1\n\n\n{opening} area(radius):\n    """Doc."""\n'
    task, example = code_task(make_task, {**ROW, "prompt": prompt})
    assert passes(task, example, "```python\ndef area(radius):\n    return 3.14 * K\n```", fenced=True)


def test_a_program_without_the_prompt_is_the_fenced_text_alone(make_task: MakeTask) -> None:
    yaml = 'code: {tests: "{{ tests }}"}'
    task, example = code_task(make_task, yaml=yaml)
    program = program_of(task, example, "Here:\n```python\nimport math\n" + WHOLE + "\n```\nDone.", fenced=True)
    assert program.code == "import math\n" + WHOLE
    assert passes(task, example, "```\nimport math\n" + WHOLE + "\n```", fenced=True)


def test_a_row_that_lacks_a_field_of_the_tests_is_told(make_task: MakeTask) -> None:
    task, example = code_task(make_task, yaml='code: {tests: "{{ test }}"}')
    with pytest.raises(DataError, match=r"^task 't', item 'test-0': .* names 'test', .*did you mean 'tests'\?"):
        program_of(task, example, "x")


@given(st.text(max_size=60), st.booleans())
def test_any_output_becomes_a_program_with_the_same_tests(output: str, fenced: bool) -> None:
    task = load_task("human_eval", data="samples")
    example = task.examples("test")[0]
    program = program_of(task, example, output, fenced=fenced)
    assert program.tests == program_of(task, example, "").tests
    assert fenced or program.code == example.fields["prompt"] + output


@pytest.mark.parametrize("name", ["human_eval", "mbpp"])
def test_reference_solutions_in_fences_pass_as_they_do_bare(name: str) -> None:
    task = load_task(name, data="samples")
    for example in task.examples("test"):
        answer = task.answer(example).removesuffix("\n[DONE]")
        assert passes(task, example, answer)
        assert passes(task, example, f"Here you are:\n```python\n{answer}\n```\n", fenced=True)
        if name == "human_eval":
            whole = example.fields["prompt"] + answer
            assert passes(task, example, f"```python\n{whole}\n```", fenced=True)
