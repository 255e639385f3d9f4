"""What is refused when a declaration is read, each fault at its own line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import DeclarationError
from slmbench.task import Task, load_task_folder, templates_of

MakeTask = Callable[..., Task]

ROWS = [{"question": "q", "answer": "a"}]
BLANK = "ends in white space, which changes the tokens of what follows; remove it"


def faults(make_task: MakeTask, kind: str, yaml: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        make_task(kind, yaml, ROWS, ROWS)
    return [problem.message for problem in caught.value.problems]


@pytest.mark.parametrize(
    "prompt",
    [
        'user: "{{ question }}:\\n", delimiter: ""',
        'user: "{{ question }}: ", delimiter: ""',
        'user: "{{ question }}\\n", prefix: "A:"',
        'user: "{{ question }}", delimiter: "\\n"',
        'user: "{{ question }}", prefix: "A:", delimiter: ""',
        'user: " {{ question }}", prefix: " A:", system: "\\nx"',
    ],
)
def test_white_space_may_end_a_prompt_where_nothing_stands_between_it_and_the_answer(
    prompt: str, make_task: MakeTask
) -> None:
    make_task("generate", f"prompt: {{{prompt}}}\nanswer: x", ROWS)


@pytest.mark.parametrize(
    ("prompt", "keys"),
    [
        ('user: "{{ question }} "', ["user"]),
        ('user: "{{ question }}\\n", delimiter: "\\n"', ["user"]),
        ('user: "{{ question }}", prefix: "A: "', ["prefix"]),
        ('user: "{{ question }}", prefix: "A:\\n", delimiter: ""', ["prefix"]),
        ('user: "{{ question }}", system: "Be brief. "', ["system"]),
        ('user: "{{ question }}\\n", system: "x\\n", prefix: "A: "', ["system", "prefix"]),
    ],
)
def test_white_space_before_a_delimiter_is_refused(prompt: str, keys: list[str], make_task: MakeTask) -> None:
    assert faults(make_task, "generate", f"prompt: {{{prompt}}}\nanswer: x") == [
        f"prompt.{key} {BLANK}" for key in keys
    ]


@pytest.mark.parametrize(
    ("kind", "yaml", "message"),
    [
        (
            "choice",
            "choices: [a, b]\ngold: '0'\ncontinuation: x",
            "prompt.user never names {{ choice }}, so every choice would have the same prompt",
        ),
        (
            "code",
            'code: {program: "{{ prompt }}", tests: x}',
            "code.program never names {{ completion }}, so no output would be run",
        ),
        (
            "generate",
            "answer: x\nmetrics: [accuracy]",
            "metric 'accuracy' scores choice outputs; a task of kind generate",
        ),
        ("generate", "answer: x\nmetrics: [pass@1]", "metric 'pass@1' scores code outputs; a task of kind generate"),
        ("code", "metrics: [rouge]", "metric 'rouge' scores text outputs; a task of kind code has code outputs"),
        ("code", "metrics: [pass@10]", "metric 'pass@10' needs 10 samples an item; generation.samples is 1"),
        ("generate", "answer: x\nprompt: {user: q, system: '{{ x'}", "prompt.system: Jinja syntax: "),
        ("generate", "answer: x\nprompt: {user: q, inputs: {a: '{{ x'}}", "prompt.inputs.a: Jinja syntax: "),
        ("generate", "answer: x\ncot: {answer: '{{ x'}", "cot.answer: Jinja syntax: "),
        ("generate", "answer: x\ncot: {answer: y, reasoning: '{{ x'}", "cot.reasoning: Jinja syntax: "),
        ("code", "code: {tests: '{{ x'}", "code.tests: Jinja syntax: "),
        ("code", "code: {tests: x, program: '{{ x'}", "code.program: Jinja syntax: "),
        (
            "choice",
            "prompt: {user: '{{ choice }}'}\nchoices: [a, b]\ngold: '0'\ncontinuation: '{{ x'",
            "continuation: Jinja syntax: ",
        ),
        ("choice", "choices: [a, '{{ x']\ngold: '0'", "choices.1: Jinja syntax: "),
        ("generate", "answer: x\nfewshot: {n: 1, split: dev}", "fewshot.split: data set 't' has no split 'dev'"),
    ],
)
def test_one_fault_is_one_message(kind: str, yaml: str, message: str, make_task: MakeTask) -> None:
    (fault,) = faults(make_task, kind, yaml)
    assert fault.startswith(message)


def test_worked_shots_of_the_declaration_need_no_split(make_task: MakeTask) -> None:
    yaml = "answer: x\nfewshot: {n: 0, split: dev}\ncot: {answer: y, shots: [{question: q, answer: a}]}"
    task = make_task("generate", yaml, ROWS)
    assert len(task.shots(task.examples("test")[0])) == 1


def test_every_template_of_a_declaration_is_looked_at(make_task: MakeTask) -> None:
    yaml = (
        "prompt: {user: u, system: s, inputs: {a: i}}\nanswer: a\ncluster: c\n"
        "cot: {reasoning: r, answer: m, instruction: fixed, extract: '(x)'}"
    )
    spec = make_task("generate", yaml, ROWS).spec
    assert sorted(source for _, source in templates_of(spec)) == sorted("usiacrm")
    code = make_task("code", "code: {program: 'p{{ completion }}', tests: t}", ROWS).spec
    assert {"p{{ completion }}", "t"} <= {source for _, source in templates_of(code)}


def test_a_task_of_local_data_is_read_without_its_rows(tmp_path: Path) -> None:
    folder = tmp_path / "tasks" / "mine"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(
        "summary: s\nversion: 1\ndataset: {local: [train, test], columns: [q, a]}\nkind: generate\n"
        'prompt: {user: "{{ q }}"}\nanswer: "{{ a }}"\nmetrics: [exact_match]\n'
    )
    (folder / "samples.jsonl").write_text('{"q": "x", "a": "y"}\n')
    task = load_task_folder(str(folder), default_catalog(), data="samples")
    assert [example.answer for example in task.examples("test")] == ["y"]
