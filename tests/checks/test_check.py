"""Every rule of `slmbench check` holds for the bundled tasks and is broken here once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from slmbench.catalog import Catalog, default_catalog
from slmbench.checks import CheckReport, check_task
from slmbench.checks._findings import Findings
from slmbench.checks._formats import Reading, Written
from slmbench.checks._scores import check_scores
from slmbench.contamination import normalised
from slmbench.errors import DataError, TrustError, UsageError
from slmbench.lengths import Ruler
from slmbench.metrics import Scorer
from slmbench.paths import bundled_root
from slmbench.task import load_task
from slmbench.values import Example
from slmbench.yamlfile import parse_yaml

GENERATE = """\
summary: A task of the tests.
version: 1
license: mit
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, answer]}
kind: generate
prompt: {user: "Question: {{ question }}", prefix: "Answer:"}
answer: "{{ answer }}"
metrics: [exact_match]
"""
CHOICE = """\
summary: A choice of the tests.
version: 1
license: mit
dataset: {files: {train: train.jsonl, test: test.jsonl}, columns: [question, options, label]}
kind: choice
prompt: {user: "{{ question }}"}
choices: options
gold: "{{ label }}"
metrics: [accuracy, accuracy_norm]
"""


def _sums(start: int, n: int = 4) -> list[dict[str, Any]]:
    return [{"question": f"{i}+1?", "answer": f"{i + 1}"} for i in range(start, start + n)]


def _options(start: int, n: int = 4) -> list[dict[str, Any]]:
    return [
        {"question": f"{i}+1 is", "options": [f"{i}, as it was", f"{i + 1}!", f"{i + 2} and more"], "label": 1}
        for i in range(start, start + n)
    ]


Check = Callable[..., CheckReport]


def _only(report: CheckReport) -> tuple[str, int, str]:
    """File name, line and message of the one problem of a report."""
    assert len(report.problems) == 1, report.problems
    assert not report.ok
    problem = report.problems[0]
    return os.path.basename(problem.path), problem.line, problem.message


def test_a_sound_task_has_no_problems(check: Check) -> None:
    report = check()
    assert report.problems == () and report.ok
    assert (report.task, report.kind, report.source, report.rows) == ("sums", "generate", "file", 12)
    assert set(report.formats.values()) == {"ok"} and report.metrics == {"exact_match": "ok"}
    assert report.splits == {"test": 4, "train": 4, "golden": 4} and report.license == "mit"
    value = report.as_json()
    assert {key: value[key] for key in ("task", "ok", "problems")} == {"task": "sums", "ok": True, "problems": []}


def test_lengths_are_those_of_the_evaluated_rows_prompts_and_answers(check: Check, nano_ruler: Ruler) -> None:
    rows = [{"question": f"{'very ' * i}long?", "answer": f"{i * 37}"} for i in range(1, 31)]
    encode = nano_ruler.tokenizer.encode
    prompts = sorted(len(encode(f"Question: {row['question']}\nAnswer:")) for row in rows)
    answers = sorted(len(encode(f" {row['answer']}", add_special_tokens=False)) for row in rows)
    lengths = check(test=rows, ruler=Ruler("nano", nano_ruler.tokenizer, 20)).lengths
    assert lengths is not None and lengths.model == "nano"
    assert (lengths.prompt_p50, lengths.prompt_p99, lengths.prompt_max) == (prompts[14], prompts[29], prompts[29])
    assert lengths.answer_p99 == answers[29]
    assert (lengths.context, lengths.over) == (20, sum(n > 20 for n in prompts)) and lengths.over > 0


BUNDLED = sorted(os.listdir(os.path.join(bundled_root(), "tasks")))
RUNS_PROGRAMS = {"human_eval", "mbpp", "nano_code"}


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_tasks_pass(name: str, nano_ruler: Ruler) -> None:
    report = check_task(name, default_catalog(), ruler=nano_ruler, rows=12 if name in RUNS_PROGRAMS else 30)
    assert report.problems == ()
    assert report.rows >= 4 and report.source in ("generated", "golden")


@pytest.mark.realdata
@pytest.mark.parametrize("name", [name for name in BUNDLED if not name.startswith("nano_")])  # Whose rows are made.
def test_bundled_tasks_pass_on_real_records(name: str, nano_ruler: Ruler) -> None:
    report = check_task(name, default_catalog(), ruler=nano_ruler, rows=16 if name in RUNS_PROGRAMS else 50)
    assert report.problems == ()
    assert report.source == "mirror" or any("only the golden rows" in note for note in report.notices)


def test_all_schema_problems_come_at_once_with_lines_and_the_missing_golden_rows(check: Check) -> None:
    report = check(GENERATE.replace("version: 1", "version: '1'") + "metric: [x]\n", samples="absent")
    told = [(os.path.basename(one.path), one.line, one.message) for one in report.problems]
    assert [line for _, line, _ in told] == [2, 9, 0]
    assert "version" in told[0][2] and "did you mean 'metrics'?" in told[1][2]
    assert told[2][0] == "samples.jsonl"


def test_faults_of_template_and_metric_are_told_at_their_lines(check: Check) -> None:
    report = check(GENERATE.replace("{{ answer }}", "{{ answer").replace("[exact_match]", "[exact_mach]"))
    assert [one.line for one in report.problems] == [7, 8]
    assert "did you mean 'exact_match'?" in report.problems[1].message


def test_a_template_that_names_no_column_is_told_at_the_template(check: Check) -> None:
    report = check(GENERATE.replace("{{ question }}", "{{ qestion }}"))
    file, line, message = _only(report)
    assert (file, line) == ("task.yaml", 6)
    assert "did you mean 'question'?" in message and "11 more rows alike" in message


def test_a_missing_column_is_told_with_file_and_line(check: Check) -> None:
    report = check(test='{"question": "1+1?", "answer": "2"}\n{"question": "2+2?"}\n')
    file, line, message = _only(report)
    assert (file, line) == ("test.jsonl", 2) and "'answer'" in message


def test_a_row_that_is_no_json_is_told_with_its_line(check: Check) -> None:
    assert _only(check(test='{"question": "1", "answer": "2"}\n{oops\n'))[:2] == ("test.jsonl", 2)


def test_missing_golden_rows_are_a_problem(check: Check) -> None:
    file, line, message = _only(check(samples="absent"))
    assert (file, line) == ("samples.jsonl", 0) and "at least 4" in message


def test_three_golden_rows_are_too_few(check: Check) -> None:
    file, _, message = _only(check(samples=_sums(90, 3)))
    assert file == "samples.jsonl" and "3 golden rows" in message


def test_golden_rows_are_enough_for_the_shots(check: Check) -> None:
    yaml = GENERATE + "fewshot: {n: 6, split: train}\n"
    assert "at least 6" in _only(check(yaml, train=_sums(0, 8)))[2]


def test_golden_rows_without_a_column_are_a_problem_at_their_line(check: Check) -> None:
    rows = _sums(90)
    del rows[2]["answer"]
    assert _only(check(samples=rows))[:2] == ("samples.jsonl", 3)


def test_a_licence_has_to_be_named(check: Check) -> None:
    file, _, message = _only(check(GENERATE.replace("license: mit\n", "")))
    assert file == "task.yaml" and "license" in message


def test_the_data_sets_licence_is_enough(check: Check) -> None:
    yaml = GENERATE.replace("license: mit\n", "").replace("dataset: {", "dataset: {license: mit, ")
    assert check(yaml).ok


@pytest.mark.parametrize("own", ["license: '  '\n", ""])
def test_a_blank_licence_is_none(check: Check, own: str) -> None:
    yaml = GENERATE.replace("license: mit\n", own).replace("dataset: {", "dataset: {license: ' ', ")
    report = check(yaml)
    assert "license" in _only(report)[2] and report.license == ""


def test_a_blank_licence_leaves_the_data_sets_own(check: Check) -> None:
    yaml = GENERATE.replace("license: mit", "license: ' '").replace("dataset: {", "dataset: {license: ' cc0 ', ")
    report = check(yaml)
    assert report.ok and report.license == "cc0"


def test_golden_rows_that_are_the_same_are_told_at_their_lines(check: Check) -> None:
    first, second, *others = (json.dumps(row) for row in _sums(90))
    again = '{"answer": "91", "question":   "90+1?"}'
    report = check(samples="\n".join([first, "", second, again, *others, second]) + "\n")
    assert [(os.path.basename(one.path), one.line) for one in report.problems] == [
        ("samples.jsonl", 4),
        ("samples.jsonl", 7),
    ]
    assert [one.message.split(";")[0] for one in report.problems] == [
        "the same row as line 1",
        "the same row as line 3",
    ]


def test_golden_rows_are_the_same_if_the_declared_columns_are(check: Check) -> None:
    rows = [row | {"id": i} for i, row in enumerate([*_sums(90), *_sums(93, 1)])]
    assert _only(check(samples=rows))[:2] == ("samples.jsonl", 5)


def test_a_folder_whose_name_no_declaration_could_use_is_a_problem(check: Check) -> None:
    assert "rename the folder" in _only(check(name="my sums"))[2]


def test_a_failing_hook_is_told_at_its_line_once(check: Check) -> None:
    report = check(plugin="def example(row):\n    return {'gold': row['gold']}\n")
    file, line, message = _only(report)
    assert (file, line) == ("plugin.py", 2)
    assert "KeyError 'gold'" in message and message.endswith("(row 0 of file 'test'; 11 more rows alike)")


def test_a_plugin_that_cannot_be_loaded_is_told_at_its_line(check: Check) -> None:
    assert _only(check(plugin="import os\n1/0\n"))[:2] == ("plugin.py", 2)


def test_a_generator_that_does_not_repeat_itself_is_a_problem(check: Check) -> None:
    yaml = GENERATE.replace("files: {train: train.jsonl, test: test.jsonl}", "generated: {train: 5, test: 5}")
    plugin = (
        "from itertools import count\n_n = count()\n\n\ndef generate(split, index, seed):\n"
        "    i = next(_n)\n    return {'question': f'{i}?', 'answer': f'{i}'}\n"
    )
    file, line, message = _only(check(yaml, plugin=plugin))
    assert (file, line) == ("plugin.py", 5) and "different rows" in message


@pytest.mark.parametrize(
    "made",
    [
        "{'question': row['question'] + str(next(_n))}",
        "{f'hint{next(_n)}': 'x'}",
        # The very list of the row grows with each call.
        "{'question': row['question'] + str(row['more'].append(1) or len(row['more']))}",
    ],
)
def test_an_example_hook_that_does_not_repeat_itself_is_told_at_its_line(check: Check, made: str) -> None:
    yaml = GENERATE.replace("[question, answer]", "[question, answer, more]")
    rows = {
        name: [row | {"more": []} for row in _sums(start)]
        for name, start in (("train", 0), ("test", 50), ("samples", 90))
    }
    plugin = f"from itertools import count\n_n = count()\n\n\ndef example(row):\n    return {made}\n"
    report = check(yaml, plugin=plugin, **rows)
    told = {(os.path.basename(one.path), one.line) for one in report.problems}
    assert told == {("plugin.py", 5)}
    assert all("of the same row when called again" in one.message for one in report.problems)


def test_an_example_hook_that_repeats_itself_is_sound_whatever_it_returns(check: Check) -> None:
    plugin = (
        "import random\n\n\ndef example(row):\n    row['question'] += '!'\n    pick = random.Random(row['answer'])\n"
        "    return {**row, 'hint': pick.random(), 'nothing': float('nan'), 'parts': {1: {'a', 'b'}, 'x': None}}\n"
    )
    assert check(plugin=plugin).problems == ()


def test_an_example_hook_that_fails_the_second_time_is_told(check: Check) -> None:
    yaml = GENERATE.replace("[question, answer]", "[question, answer, more]")
    rows = {
        name: [row | {"more": [1]} for row in _sums(start)]
        for name, start in (("train", 0), ("test", 50), ("samples", 90))
    }
    report = check(yaml, plugin="def example(row):\n    return {'last': row['more'].pop()}\n", **rows)
    assert {(os.path.basename(one.path), one.line) for one in report.problems} == {("plugin.py", 2)}
    assert all("pop from empty list" in one.message for one in report.problems)


def test_an_empty_prompt_is_a_problem_of_the_plain_format(check: Check) -> None:
    yaml = GENERATE.replace('user: "Question: {{ question }}", prefix: "Answer:"', 'user: "{{ hint }}"')
    report = check(yaml, plugin="def example(row):\n    return {'hint': ''}\n")
    # Where all prompts are alike, equal answers make equal items too; those are other rows here.
    assert _only(report)[1] == 6 and "format 'plain': the prompt is empty" in report.problems[0].message


def test_a_tokenizer_without_eos_is_a_problem_of_every_format(check: Check, nano_tokenizer: Any) -> None:
    import copy

    tokenizer = copy.deepcopy(nano_tokenizer)
    tokenizer.chat_template = None
    tokenizer.eos_token = None
    report = check(ruler=Ruler("mute", tokenizer))
    # Blocks have an end mark that stops a generation by itself.
    assert {name for name, state in report.formats.items() if state == "failed"} == {"plain", "chat", "toon"}
    assert [name for name in report.formats if any(f"format '{name}'" in str(one) for one in report.problems)] == [
        "plain",
        "chat",
        "toon",
    ]


def test_a_gold_answer_that_its_metric_does_not_reward_is_a_problem(check: Check) -> None:
    file, line, message = _only(check(GENERATE.replace("[exact_match]", "[exact_match, exact_match/strict]")))
    assert (file, line) == ("task.yaml", 8)
    assert message.startswith("exact_match/strict of the gold answer is 0, not 1") and "11 more rows" in message


def test_a_gold_answer_that_its_metric_cannot_read_is_a_problem(check: Check) -> None:
    rows = [row | {"answer": "none"} for row in _sums(50)]
    message = _only(check(GENERATE.replace("[exact_match]", "[exact_match/decimal]"), test=rows))[2]
    assert "can't be computed" in message and "no number" in message


def test_a_stop_string_that_cuts_the_gold_answer_is_named(check: Check) -> None:
    yaml = GENERATE.replace('answer: "{{ answer }}"', 'answer: "so\\n{{ answer }}"')
    assert check(yaml, name="uncut").ok
    message = _only(check(yaml + 'generation: {stop: ["\\n"]}\n'))[2]
    assert "the stop string '\\n' cuts it off" in message


def test_an_empty_answer_is_a_problem_because_an_empty_output_scores(check: Check) -> None:
    message = _only(check(test=[*_sums(50), {"question": "?", "answer": ""}]))[2]
    assert "exact_match of an empty output is 1, not 0" in message and "test-4" in message


def test_a_wrong_answer_that_scores_is_a_problem(check: Check) -> None:
    # "[invalid]" is what the strict reading makes of any text without a number.
    yaml = GENERATE.replace("[exact_match]", "[exact_match/strict]").replace("{{ answer }}", "[invalid]")
    report = check(yaml, plugin=None)
    assert any("of an empty output is 1, not 0" in one.message for one in report.problems)


def test_rouge_of_one_word_passes_although_its_rouge2_is_zero(check: Check) -> None:
    rows = [{"question": f"word {i}?", "answer": f"word{i}"} for i in range(50, 54)]
    assert check(GENERATE.replace("[exact_match]", "[rouge]"), test=rows).ok


def test_rouge_of_an_answer_that_it_reads_nothing_of_is_a_problem(check: Check) -> None:
    rows = [{"question": f"{i}?", "answer": "発熱と咳"} for i in range(50, 54)]
    message = _only(check(GENERATE.replace("[exact_match]", "[rouge]"), test=rows))[2]
    assert "rouge of the gold answer is 0 at most: it reads nothing in '発熱と咳'" in message


def test_rouge_of_an_answer_that_a_stop_string_cuts_is_a_problem(check: Check) -> None:
    yaml = GENERATE.replace("[exact_match]", "[rouge]") + 'generation: {stop: ["+"]}\n'
    rows = [{"question": f"{i}?", "answer": f"one {i} + two {i}"} for i in range(50, 54)]
    assert "cuts it off" in _only(check(yaml, test=rows))[2]


def test_a_sound_choice_task_has_no_problems(check: Check) -> None:
    assert check(CHOICE).problems == ()


def test_choices_that_are_the_same_text_are_a_problem(check: Check) -> None:
    rows = [*_options(50), {"question": "q", "options": ["yes", " yes", "no"], "label": 2}]
    file, line, message = _only(check(CHOICE, test=rows))
    assert (file, line) == ("task.yaml", 7) and "'yes' appears twice" in message


def test_a_gold_that_is_no_choice_is_told_at_gold(check: Check) -> None:
    rows = [*_options(50), {"question": "q", "options": ["yes", "no"], "label": 2}]
    file, line, message = _only(check(CHOICE, test=rows))
    assert (file, line) == ("task.yaml", 8) and "row 4 of file 'test'" in message


def test_choices_that_are_no_list_are_told_at_choices(check: Check) -> None:
    rows = [*_options(50), {"question": "q", "options": "yes", "label": 0}]
    assert _only(check(CHOICE, test=rows))[1] == 7


def _scored(values: Callable[..., dict[str, float]], kind: Any, example: Example) -> list[str]:
    scorer = Scorer("broken", "1", kind, ("broken",), values, "A metric of the tests.", binary=True)
    found = Findings(parse_yaml(b"metrics: [broken]\n", "task.yaml"))
    task = evolve(load_task("nano_note"), scorers=(scorer,))
    row = Written(example, "", " b", (Reading("plain", " b", "", " b"),))
    check_scores(task, [row], "", "", found)
    return [problem.message for problem in found.all()]


def test_a_choice_metric_that_rewards_a_wrong_choice_is_a_problem() -> None:
    example = Example("e", {}, "b", choices=("a", "b"), gold=1)
    told = _scored(lambda example, output: {"broken": 1.0}, "choice", example)
    assert told == ["broken is 1, not 0, with a wrong choice likeliest: choice 0, gold 1 (e)"]


def test_a_choice_metric_that_does_not_reward_the_gold_choice_is_a_problem() -> None:
    example = Example("e", {}, "b", choices=("a", "b"), gold=1)
    told = _scored(lambda example, output: {"broken": 0.0}, "choice", example)
    assert told == ["broken is 0, not 1, with the gold choice likeliest: choice 1, gold 1 (e)"]


def test_a_text_metric_that_rewards_everything_is_a_problem() -> None:
    told = _scored(lambda example, output: {"broken": 1.0}, "text", Example("e", {}, "b"))
    assert [message.split(" is ")[0] for message in told] == ["broken of an empty output", "broken of a wrong output"]


def test_a_shot_that_is_evaluated_is_a_problem(check: Check) -> None:
    yaml = GENERATE.replace("test.jsonl}", "test.jsonl, shots: train.jsonl}").replace("train: train.jsonl, ", "")
    yaml += "train_split: null\nfewshot: {n: 1, split: shots}\n"
    report = check(yaml, train=_sums(52))
    file, line, message = _only(report)
    assert (file, line) == ("task.yaml", 10) and "shot 'shots-0' is the evaluated item 'test-2'" in message


def test_a_shot_with_an_evaluated_question_and_other_fields_is_a_problem(check: Check) -> None:
    train = [{"question": "51+1?", "answer": "fifty-two"}, *_sums(0)]
    message = _only(check(GENERATE + "fewshot: {n: 2, split: train}\n", train=train))[2]
    assert "shot 'train-0' is the evaluated item 'test-1'" in message


def test_rows_that_are_trained_on_and_evaluated_are_counted_with_the_first(check: Check) -> None:
    file, line, message = _only(check(train=[*_sums(0), *_sums(52, 2)]))
    assert (file, line) == ("task.yaml", 4)
    assert message.startswith("2 of 4 rows of split 'test' are in split 'train' too; the first is 'test-2'")
    assert "'train-4'" in message


@pytest.mark.parametrize(
    ("asked", "trained", "answer"),
    [(" 51+1?", "52+1?\t", "53 "), ("51 +1 ?!", "(52+\n1)", "53."), ("51+1", "\uff15\uff12+1?", "\u201c53\u201d")],
)
def test_white_space_and_punctuation_make_no_other_shot_and_no_other_row(
    check: Check, asked: str, trained: str, answer: str
) -> None:
    shot = {"question": asked, "answer": "fifty-two"}
    row = {"question": trained, "answer": answer}
    report = check(GENERATE + "fewshot: {n: 1, split: train}\n", train=[shot, *_sums(0), row])
    leak, shared = sorted(report.problems, key=lambda one: -one.line)
    assert "shot 'train-0' is the evaluated item 'test-1'" in leak.message
    assert shared.message.startswith("1 of 4 rows of split 'test' are in split 'train' too; the first is 'test-2'")


def test_a_sign_before_a_number_makes_another_row_and_so_do_signs_that_are_all_there_is(check: Check) -> None:
    assert check(train=[*_sums(0), {"question": "52-1?", "answer": "53"}, {"question": "52+1?", "answer": "-53"}]).ok
    assert not {normalised("??"), normalised("=="), ""} & {normalised("!"), normalised("= ==")}
    assert normalised("! ?") == normalised(" !\n?")


def test_white_space_and_case_in_choices_make_no_other_row(check: Check) -> None:
    train = [*_options(0), {**_options(51, 1)[0], "options": ["51,  As it was", "52! ", "53\nand more"]}]
    (problem,) = check(CHOICE, train=train).problems
    assert problem.message.startswith("1 of 4 rows of split 'test' are in split 'train' too; the first is 'test-1'")
    shot = {**_options(51, 1)[0], "options": ["51,  as it was", "52! ", "53\nand more"]}
    report = check(CHOICE + "fewshot: {n: 1, split: train}\n", train=[shot, *_options(0)], name="shown")
    assert any("shot 'train-0' is the evaluated item 'test-1'" in one.message for one in report.problems)


def test_overlap_is_found_beyond_the_rows_that_are_scored(check: Check) -> None:
    message = _only(check(train=_sums(0, 60), test=_sums(59, 30), samples=_sums(90), rows=5))[2]
    assert message.startswith("1 of 30 rows")


def test_fewer_rows_than_shots_are_a_problem_at_fewshot(check: Check) -> None:
    message = _only(check(GENERATE + "fewshot: {n: 4, split: train}\n", train=_sums(0, 2)))[2]
    assert message == "task 'sums': 4 shots are asked for, but split 'train' has 2 rows"


def test_many_kinds_of_problems_are_all_told(check: Check) -> None:
    report = check(
        GENERATE.replace("license: mit\n", ""),
        train=_sums(50),
        test=[*_sums(50), {"question": "?", "answer": ""}],
        samples=_sums(90, 2),
    )
    text = " ".join(one.message for one in report.problems)
    assert len(report.problems) == 4
    for part in ("license", "golden rows", "an empty output", "are in split 'train' too"):
        assert part in text


def test_golden_rows_stand_in_for_a_data_set_that_is_on_the_hub_alone(nano_ruler: Ruler) -> None:
    report = check_task("gsm8k", default_catalog(), ruler=nano_ruler)
    assert (report.source, report.rows, report.ok) == ("golden", 6, True)
    assert any("only on the hub" in notice for notice in report.notices)


def test_a_mirror_is_read_where_there_is_one(
    nano_ruler: Ruler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gsm8k").mkdir()
    rows = [{"question": f"{i}?", "answer": f"Well.\n#### {i}"} for i in range(9)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "gsm8k" / "test.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path))
    report = check_task("gsm8k", default_catalog(), ruler=nano_ruler)
    assert (report.source, report.rows, report.ok) == ("mirror", 15, True)
    assert report.notices == ("split 'train' is only on the hub (see `slmbench data pull`)",)


def test_samples_only_leaves_files_alone(check: Check) -> None:
    report = check(test="{oops\n", data="samples")
    assert report.ok and report.source == "golden" and report.rows == 4


def test_a_path_with_a_plugin_is_refused_without_trust(check: Check, tmp_path: Path) -> None:
    flag = tmp_path / "ran"
    with pytest.raises(TrustError, match="--trust"):
        check(plugin=f"open({str(flag)!r}, 'w')\n", trust=False)
    assert not flag.exists()


def test_without_the_plugin_a_path_needs_no_trust(check: Check) -> None:
    report = check(plugin="1/0\n", trust=False, run_plugin=False)
    assert report.ok and report.rows == 0 and "was not run" in report.notices[0]


def test_a_path_without_a_plugin_needs_no_trust(check: Check) -> None:
    assert check(trust=False).ok


def test_a_path_into_a_trusted_folder_needs_no_trust(tmp_path: Path, nano_ruler: Ruler) -> None:
    folder = os.path.join(bundled_root(), "tasks", "nano_note")
    assert check_task(folder, default_catalog(), ruler=nano_ruler, rows=5).ok
    assert check_task(os.path.join(folder, "task.yaml"), default_catalog(), ruler=nano_ruler, rows=5).ok


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'gsm8k'"):
        check_task("gsm9k", default_catalog())


def test_a_folder_without_a_declaration_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no task\.yaml"):
        check_task(str(tmp_path), Catalog([]))


def test_the_fault_of_a_registry_data_set_is_told_with_the_tasks_own(tmp_path: Path, nano_ruler: Ruler) -> None:
    (tmp_path / "registry" / "datasets").mkdir(parents=True)
    (tmp_path / "registry" / "datasets" / "rows.yaml").write_text("hub: a/b\nrevison: main\nsplits: {test: test}\n")
    folder = tmp_path / "tasks" / "t"
    folder.mkdir(parents=True)
    yaml = GENERATE.replace("{files: {train: train.jsonl, test: test.jsonl}, columns: [question, answer]}", "rows")
    (folder / "task.yaml").write_text(yaml.replace("[exact_match]", "[exact]"))
    report = check_task("t", Catalog([str(tmp_path), bundled_root()]), ruler=nano_ruler)
    files = [os.path.basename(one.path) for one in report.problems]
    assert files == ["task.yaml", "rows.yaml", "samples.jsonl"]


def test_a_mirror_that_is_no_folder_is_told_once(nano_ruler: Ruler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMBENCH_DATA", "no-such-folder")
    report = check_task("gsm8k", default_catalog(), ruler=nano_ruler)
    assert len(report.problems) == 1 and "SLMBENCH_DATA" in report.problems[0].message
    with pytest.raises(DataError):
        from slmbench.datasets import local_source

        local_source(load_task("gsm8k").dataset, "test")


def test_answers_are_held_against_max_tokens_in_the_tokens_of_a_model_that_was_asked_for(
    check: Check, task_yaml: str, nano_ruler: Ruler
) -> None:
    asked = evolve(nano_ruler, for_answers=True)
    longest = "supercalifragilisticexpialidocious"
    n = max(nano_ruler.lengths([f" {longest}"], special_tokens=False))
    rows = [{"question": f"{i}+1?", "answer": longest if i == 50 else "no"} for i in range(50, 54)]
    yaml = task_yaml + "generation: {max_tokens: 6}\n"
    assert check(yaml, test=rows, name="unasked").notices == ()
    report = check(yaml, test=rows, name="asked", ruler=asked)
    notices = [one for one in report.notices if "more tokens of nano" in one]
    assert report.ok and notices[0] == (
        "1 of 4 gold answers of split 'test' (plain, chat, toon, instruction) have more tokens of nano than "
        f"generation.max_tokens (6) allows, the largest {n}"
    )
    rows = [{"question": row["question"], "answer": longest} for row in rows]
    problems = [one for one in check(yaml, test=rows, ruler=asked).problems if "more tokens of nano" in one.message]
    assert problems and problems[0].line == 1 + yaml[: yaml.index("generation")].count("\n")
    assert "4 of 4" in problems[0].message and problems[0].message.endswith("most answers would be cut")
