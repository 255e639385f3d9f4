from __future__ import annotations

import pytest

from slmbench.errors import DeclarationError
from slmbench.schema import TaskSpec, parse
from slmbench.yamlfile import parse_yaml

GENERATE = """\
summary: s
version: 1
dataset: gsm8k
kind: generate
prompt: {user: "{{ q }}"}
answer: "{{ a }}"
metrics: [exact_match]
"""
CHOICE = GENERATE.replace("kind: generate", "kind: choice").replace(
    'answer: "{{ a }}"', 'choices: options\ngold: "{{ g }}"'
)
CODE = GENERATE.replace("kind: generate", "kind: code").replace("exact_match", "pass@1") + 'code: {tests: "{{ t }}"}\n'
OF_CHOICE = "'choices', 'labels', 'gold' and 'continuation' belong to a task of kind choice"
FIELD = "name one, with dots into structs, as in `choices.text`"


def spec(text: str) -> TaskSpec:
    return parse(TaskSpec, parse_yaml(text.encode(), "task.yaml"))


def faults(text: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        spec(text)
    return [str(problem) for problem in caught.value.problems]


def test_what_is_left_out_has_the_documented_defaults() -> None:
    task = spec(GENERATE)
    assert (task.split, task.train_split, task.fewshot.n, task.generation.max_tokens) == ("test", "train", 0, 256)
    assert task.generation.stop == []
    assert (task.generation.samples, task.generation.temperature, task.generation.top_p) == (1, 0.0, 1.0)
    assert (task.prompt.delimiter, task.prompt.inputs) == (" ", None)
    assert (task.fewshot.skip, task.fewshot.same, task.fewshot.delimiter) == (0, None, "\n\n")
    choice = spec(CHOICE)
    assert (choice.choices, choice.labels, choice.continuation) == ("options", None, None)
    code = spec(CODE)
    assert code.code is not None
    assert (code.code.program, code.code.tests) == ("{{ completion }}", "{{ t }}")


@pytest.mark.parametrize(
    ("line", "mode"),
    [
        ("cot: {answer: x}", "few"),
        ("cot: {answer: x, mode: few}", "few"),
        ("cot: {answer: x, mode: off}", "off"),
        ("cot: {answer: x, mode: 'off'}", "off"),
        ("cot: {answer: x, mode: Off}", "off"),
        ("cot: {answer: x, mode: zero, instruction: Think.}", "zero"),
    ],
)
def test_a_chain_of_thought_stands_beside_the_answer_and_off_is_a_word(line: str, mode: str) -> None:
    task = spec(GENERATE + line + "\n")
    assert task.cot is not None
    assert (task.cot.mode, task.answer) == (mode, "{{ a }}")


def test_a_declaration_cannot_be_changed_after_reading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        spec(GENERATE).version = 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fewshots: {n: 5}", "task.yaml:8:1: unknown key 'fewshots'; did you mean 'fewshot'?"),
        ("fewshot: {n: 5, splt: a}", "task.yaml:8:17: unknown key 'splt'; did you mean 'split'?"),
        ("fewshot: {n: 101}", "task.yaml:8:11: fewshot.n: input should be less than or equal to 100, got int 101"),
        ("fewshot: {n: -1}", "task.yaml:8:11: fewshot.n: input should be greater than or equal to 0, got int -1"),
        ("fewshot: 5", "task.yaml:8:1: fewshot: expected keys and values, got int 5"),
        ("fewshot: {pick: random}", "task.yaml:8:11: fewshot.pick: expected 'first', got str 'random'"),
        (
            "generation: {max_tokens: 5.0}",
            "task.yaml:8:14: generation.max_tokens: expected a whole number, got float 5.0",
        ),
        ("generation: {stop: x}", "task.yaml:8:14: generation.stop: expected a list, got str 'x'"),
        (
            "split: ../../x",
            "task.yaml:8:1: a name has letters, digits, '.', '_' and '-' alone, and starts with a letter or digit",
        ),
        (
            "split: test.",
            "task.yaml:8:1: a name has letters, digits, '.', '_' and '-' alone, and starts with a letter or digit",
        ),
        ("train_split: test", "task.yaml:8:1: train_split is 'test', the split that is evaluated"),
        ("gold: x", f"task.yaml:8:1: {OF_CHOICE}"),
        ("labels: x", f"task.yaml:8:1: {OF_CHOICE}"),
        ("continuation: x", f"task.yaml:8:1: {OF_CHOICE}"),
        ("choices: [a, b]", f"task.yaml:8:1: {OF_CHOICE}"),
        ("code: {tests: x}", "task.yaml:8:1: 'code' belongs to a task of kind code"),
        ("cot: {reasoning: a}", "task.yaml:8:1: missing key 'answer'"),
        ("cot: {answer: b, mode: some}", "task.yaml:8:18: cot.mode: expected 'off', 'zero' or 'few', got str 'some'"),
        ("cot: {answer: b, mode: true}", "task.yaml:8:18: cot.mode: expected 'off', 'zero' or 'few', got bool True"),
        ("cot: {answer: b, mode: zero}", "task.yaml:8:18: mode zero asks by cot.instruction, which is empty"),
        (
            "cot: {answer: b, extract: 'a(b'}",
            "task.yaml:8:18: cot.extract is not a regular expression: missing ), unterminated subpattern at position 1",
        ),
        ("cot: {answer: b, extract: 'ab'}", "task.yaml:8:18: cot.extract needs one group, the answer; it has 0"),
        ("cot: {answer: b, extract: '(a)(b)'}", "task.yaml:8:18: cot.extract needs one group, the answer; it has 2"),
        (
            "cot: {answer: b, shots: []}",
            "task.yaml:8:18: cot.shots: list should have at least 1 item after validation, not 0, got list []",
        ),
        ("references: a b", f"task.yaml:8:1: 'a b' is not a field; {FIELD}"),
        ("references: answers.", f"task.yaml:8:1: 'answers.' is not a field; {FIELD}"),
        ("references: '{{ answers }}'", f"task.yaml:8:1: '{{{{ answers }}}}' is not a field; {FIELD}"),
        ("references: [a]", "task.yaml:8:1: references: expected a text, got list ['a']"),
        ("fewshot: {same: a b}", f"task.yaml:8:11: 'a b' is not a field; {FIELD}"),
        ("fewshot: {skip: -1}", "task.yaml:8:11: fewshot.skip: input should be greater than or equal to 0, got int -1"),
        (
            "fewshot: {delimiter: ''}",
            "task.yaml:8:11: fewshot.delimiter: string should have at least 1 character, got str ''",
        ),
        (
            "generation: {samples: 0}",
            "task.yaml:8:14: generation.samples: input should be greater than or equal to 1, got int 0",
        ),
        (
            "generation: {temperature: -1}",
            "task.yaml:8:14: generation.temperature: input should be greater than or equal to 0, got int -1",
        ),
        (
            "generation: {temperature: .nan}",
            "task.yaml:8:14: generation.temperature: input should be a finite number, got float nan",
        ),
        ("generation: {top_p: 0}", "task.yaml:8:14: generation.top_p: input should be greater than 0, got int 0"),
        ("cluster: [a]", "task.yaml:8:1: cluster: expected a text, got list ['a']"),
    ],
)
def test_one_wrong_line_is_one_message_at_its_place(line: str, message: str) -> None:
    assert faults(GENERATE + line + "\n") == [message]


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        ("version: 1", 'version: "1"', "task.yaml:2:1: version: expected a whole number, got str '1'"),
        ("version: 1", "version: true", "task.yaml:2:1: version: expected a whole number, got bool True"),
        ("version: 1", "version: -1", "task.yaml:2:1: version: input should be greater than or equal to 0, got int -1"),
        ("summary: s", "summary: 5", "task.yaml:1:1: summary: expected a text, got int 5"),
        (
            "kind: generate",
            "kind: generat",
            "task.yaml:4:1: kind: expected 'generate', 'choice' or 'code', got str 'generat'",
        ),
        ("kind: generate", "kind: code", "task.yaml:4:1: a code task needs 'code', as in `code: {tests: ...}`"),
        ("answer:", "# answer:", "task.yaml:4:1: a generate task needs 'answer', or 'cot' with reasoning and answer"),
        (
            'user: "{{ q }}"',
            'user: q, delimiter: ", "',
            "task.yaml:5:19: prompt.delimiter: expected ' ', '' or '\\n', got str ', '",
        ),
        (
            'user: "{{ q }}"',
            "user: q, inputs: {a b: x}",
            "task.yaml:5:28: a name has letters, digits, '.', '_' and '-' alone, and starts with a letter or digit",
        ),
        ('user: "{{ q }}"', "user: q, inputs: {a: 5}", "task.yaml:5:28: prompt.inputs.a: expected a text, got int 5"),
        (
            "metrics: [exact_match]",
            "metrics: exact_match",
            "task.yaml:7:1: metrics: expected a list, got str 'exact_match'",
        ),
        ("metrics: [exact_match]", "metrics: [rouge, rouge]", "task.yaml:7:1: a metric is listed twice"),
        ("dataset: gsm8k", "dataset: 5", "task.yaml:3:1: dataset: expected a text or keys and values, got int 5"),
        (
            "dataset: gsm8k",
            "dataset: a/b",
            "task.yaml:3:1: a name has letters, digits, '.', '_' and '-' alone, and starts with a letter or digit",
        ),
        ("dataset: gsm8k", "dataset: {fils: {test: x}}", "task.yaml:3:11: unknown key 'fils'; did you mean 'files'?"),
        (
            "dataset: gsm8k",
            "dataset: {files: {test: x}, columns: 5}",
            "task.yaml:3:29: dataset.columns: expected a list or keys and values, got int 5",
        ),
        (
            "dataset: gsm8k",
            "dataset: {files: {test: x}, columns: [5]}",
            "task.yaml:3:39: dataset.columns.0: expected a text, got int 5",
        ),
        (
            "dataset: gsm8k",
            "dataset: {hub: a, files: {test: x}}",
            "task.yaml:3:1: a data set has exactly one of 'hub', 'files', 'generated', 'local', 'loader'; got hub and "
            "files",
        ),
    ],
)
def test_one_wrong_value_is_one_message_at_its_key(line: str, wrong: str, message: str) -> None:
    assert faults(GENERATE.replace(line, wrong)) == [message]


def test_an_empty_stop_string_which_would_stop_at_once_is_refused() -> None:
    (fault,) = faults(GENERATE + 'generation: {stop: ["a", ""]}\n')
    assert fault.startswith("task.yaml:8:26: generation.stop.1: ")


def test_a_missing_key_is_told_at_the_block_that_lacks_it() -> None:
    assert faults(GENERATE.replace("summary: s\n", "").replace('user: "{{ q }}"', 'system: "x"')) == [
        "task.yaml:1:1: missing key 'summary'",
        "task.yaml:4:1: missing key 'user'",
    ]


def test_every_fault_of_the_whole_file_is_told() -> None:
    text = GENERATE.replace("version: 1", "version: x").replace("kind: generate", "kind: nope") + "zzz: 1\nsplit: 5\n"
    assert [fault.split(": ")[0] for fault in faults(text)] == [f"task.yaml:{n}:1" for n in (2, 4, 8, 9)]


def test_everything_that_does_not_fit_together_is_told_at_its_own_line() -> None:
    assert faults(GENERATE.replace("kind: generate", "kind: choice") + "fewshot: {n: 1, split: test}\n") == [
        "task.yaml:4:1: a choice task needs 'choices' (a list field, or a list of templates) and 'gold'",
        "task.yaml:6:1: a choice task has no 'answer': its answer is the gold choice",
        "task.yaml:8:17: fewshot.split is 'test', the split that is evaluated: shots would show the answers",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("labels: [A, B]", None),
        ("labels: options.label", None),
        ("continuation: x", None),
        ("labels: a b", f"task.yaml:9:1: 'a b' is not a field; {FIELD}"),
        ("labels: 5", "task.yaml:9:1: labels: expected a text or a list, got int 5"),
        ("labels: [1]", "task.yaml:9:10: labels.0: expected a text, got int 1"),
        ("answer: x", "task.yaml:9:1: a choice task has no 'answer': its answer is the gold choice"),
        ("references: x", "task.yaml:9:1: a choice task has no 'references': its answer is the gold choice"),
        ("cot: {answer: x}", "task.yaml:9:1: a choice task has no 'cot': its answer is the gold choice"),
        (
            "generation: {samples: 2, temperature: 1}",
            "task.yaml:9:14: a choice task scores its choices and writes nothing, so it has no samples",
        ),
    ],
)
def test_what_a_choice_task_may_say(line: str, message: str | None) -> None:
    if message is None:
        assert spec(CHOICE + line + "\n").kind == "choice"
    else:
        assert faults(CHOICE + line + "\n") == [message]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("generation: {samples: 10, temperature: 0.2, top_p: 0.95}", None),
        (
            "generation: {samples: 2}",
            "task.yaml:9:1: 2 samples at temperature 0 are all the same; set a temperature",
        ),
        ("cot: {answer: x}", "task.yaml:9:1: a code task has no 'cot': what it writes is run as it stands"),
        ("choices: x", f"task.yaml:9:1: {OF_CHOICE}"),
    ],
)
def test_what_a_code_task_may_say(line: str, message: str | None) -> None:
    if message is None:
        assert spec(CODE + line + "\n").generation.samples == 10
    else:
        assert faults(CODE + line + "\n") == [message]


def test_a_choice_task_without_choices_or_gold_is_told_once() -> None:
    needs = "task.yaml:4:1: a choice task needs 'choices' (a list field, or a list of templates) and 'gold'"
    assert faults(CHOICE.replace("choices: options\n", "")) == [needs]
    assert faults(CHOICE.replace('gold: "{{ g }}"\n', "")) == [needs]


@pytest.mark.parametrize("text", ["[]", "5", "- a", "just text"])
def test_a_file_that_holds_no_keys_is_refused(text: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith("task.yaml:1:1: expected keys and values, got ")


def test_an_empty_file_is_called_empty() -> None:
    assert faults("# nothing\n") == ["task.yaml:1:1: expected keys and values, got an empty file"]
