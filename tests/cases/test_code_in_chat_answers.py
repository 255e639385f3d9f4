"""A chat model's answer to a code task: no stop of bare completion cuts it, its program is the one it wrote."""

from __future__ import annotations

from typing import Any

import pytest

from slmbench.evaluation._harness import generation_kwargs
from slmbench.formats import load_format
from slmbench.task import Task, load_task, program_of
from slmbench.values import Example

CHAT, PLAIN, TOON = load_format("chat"), load_format("plain"), load_format("toon")
PROMPT = '''from typing import List


def largest(numbers: List[int]) -> int:
    """ The largest number of a list. """
'''
BODY = "    return max(numbers)\n"
WHOLE = PROMPT + BODY
SHORT = "def largest(numbers):\n    return max(numbers)"
HELPER = "def pick(a, b):\n    return a if a > b else b"
BY_HELPER = (
    "def largest(numbers):\n    best = numbers[0]\n    for n in numbers:\n        best = pick(best, n)\n    return best"
)
ANSWERS = {
    "a fence": f"```python\n{WHOLE}```",
    "prose around a fence": f"Sure! Here it is:\n\n```python\n{WHOLE}```\n\nIt takes the largest number.\n",
    "an import before it": f"import math\n\n\n{SHORT}\n",
    "an import and a constant, prose around": f"So:\n\nfrom math import inf\nLOW = -inf\n\n{SHORT}\n\nIt works.",
    "__future__ in a fence": f"```python\nfrom __future__ import annotations\nimport math\n\n{SHORT}\n```",
    "a fence behind text": f"Here is the code: ```python\n{SHORT}\n```\nDone.",
    "a fence that closes behind code": f"```python\n{SHORT}```\nDone.",
    "helper and function in two fences": f"A helper:\n```python\n{HELPER}\n```\nThen:\n```python\n{BY_HELPER}\n```\n",
    "function and helper in two fences": f"```python\n{BY_HELPER}\n```\nwith\n```python\n{HELPER}\nprint(pick(1))\n```",
    "thoughts before a fence": f"<think>\n```python\ndef largest(n):\n    pass\n```\n</think>\n```python\n{SHORT}\n```",
    "thoughts that a template began": f"I take max.\n</think>\n\n{SHORT}\n",
    "a body": BODY,
    "a body, prose after it": f"{BODY}\nThis returns the largest number.\n",
    "a body without its indent": "best = max(numbers)\nreturn best\n",
    "a body, then the function's use": f"{BODY}\n\nprint(largest([1]))\nassert largest([2]) == 2\n",
    "a body that closes the opened fence": f"{BODY}```\n\nIt takes the largest number.",
    "a body that closes the opened fence, and a use": f"{BODY}```\n\nSo:\n\n```python\nprint(largest([]))\n```\n",
    "a new fence within the first": f"```python\n{SHORT}\n```\n",
    "the opened fence closed, and a new one": f"```\n\nOr rather:\n\n```python\n{SHORT}\n```\n",
    "a second function, cut off": f"{BODY}\n\ndef test_largest():\n    assert largest([1, 2",
    "CRLF": f"Here:\r\n```python\r\n{SHORT.replace(chr(10), chr(13) + chr(10))}\r\n```\r\n",
}
WRONG = {
    "a wrong function": "```python\ndef largest(numbers):\n    return min(numbers)\n```",
    "a wrong answer before a right one": f"```python\ndef largest(n):\n    return 0\n```\n```python\n{SHORT}\n```",
    "half a function": "    best = numbers[0]\n    return max(numbers)\n    if (\n",
    "prose": "The largest number is the one that no other exceeds.",
    "thoughts alone": f"<think>\n{SHORT}\n",
    "nothing": "",
}


@pytest.fixture(scope="module")
def asked() -> tuple[Task, Example]:
    task = load_task("human_eval", data="samples")
    row = task.rows("test").rows[0] | {"prompt": PROMPT, "canonical_solution": BODY, "entry_point": "largest"}
    row["test"] = "def check(candidate):\n    assert candidate([3, 9, 2]) == 9\n    assert candidate([-1, -5]) == -1\n"
    return task, task.example(row, 0, "test")


def passes(task: Task, example: Example, output: str) -> bool:
    program = program_of(task, example, CHAT.read(output, False), fenced=True)
    scope: dict[str, Any] = {}
    try:
        exec(compile(program.code, "program", "exec", dont_inherit=True), scope)
        exec(program.tests, scope)
    except BaseException:
        return False
    return True


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("bound", [True, False], ids=["as asked", "unopened"])
def test_a_right_answer_passes_however_a_chat_model_writes_it(
    name: str, bound: bool, asked: tuple[Task, Example]
) -> None:
    task, example = asked
    if not bound and "opened" in name:
        pytest.skip("no fence was opened")
    assert passes(task.in_format(CHAT) if bound else task, example, ANSWERS[name])


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_fails(name: str, asked: tuple[Task, Example]) -> None:
    task, example = asked
    assert not passes(task.in_format(CHAT), example, WRONG[name])


@pytest.mark.parametrize("name", ["human_eval", "mbpp", "nano_code", "gsm8k", "ropes", "nq_open", "icd_coding"])
def test_stops_of_bare_completion_are_in_no_chat(name: str) -> None:
    task = load_task(name, data="samples")
    assert generation_kwargs(task, PLAIN)["until"] == task.spec.generation.stop != []
    assert generation_kwargs(task, CHAT)["until"] == []
    assert generation_kwargs(task, TOON)["until"] == ["\n\n"]
    assert task.digest(CHAT) != task.digest(PLAIN) != task.digest(TOON)


def test_mbpps_function_is_found_by_what_its_tests_call() -> None:
    task = load_task("mbpp", data="samples")
    for plain in task.examples("test"):
        bound = task.in_format(CHAT)
        code = plain.fields["code"].replace("\r\n", "\n")
        for output in (f"{code}\n```", f"```python\nprint(1)\n```\nand\n```python\n{code}\n```", f"{code}\n```\nDone."):
            assert program_of(bound, plain, output, fenced=True).code.strip() == code.strip()
