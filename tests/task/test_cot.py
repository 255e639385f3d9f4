"""Chain of thought: none, asked for by an instruction, or shown by worked examples."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.catalog import default_catalog
from slmbench.errors import DataError, UsageError
from slmbench.formats import load_format
from slmbench.task import Task, load_task_folder
from slmbench.task._task import extracted
from slmbench.values import Output, Target

MakeTask = Callable[..., Task]

ROWS = [{"question": f"{n}+{n}?", "why": f"{n} and {n}", "answer": f"{2 * n}"} for n in range(1, 4)]
WORKED = """\
answer: "{{ answer }}"
fewshot: {n: 1}
generation: {max_tokens: 8, stop: ["\\n"]}
cot:
  mode: MODE
  instruction: Think first.
  reasoning: "{{ why }}"
  answer: "So {{ answer }}."
  extract: "So (.+)[.]"
  max_tokens: 64
  stop: ["Q:"]
"""


def task_of(make_task: MakeTask, mode: str = "few", yaml: str = WORKED, rows: Any = ROWS) -> Task:
    return make_task("generate", yaml.replace("MODE", mode), rows, rows)


def seen(task: Task) -> tuple[str, int, str, list[str], int]:
    """(user, number of shots, target, stops, max_tokens) of the last item."""
    example = task.examples("test")[-1]
    prompt = task.prompt(example)
    return prompt.user, len(prompt.shots), task.answer(example), task.stop, task.max_tokens


def test_off_asks_for_the_answer_alone(make_task: MakeTask) -> None:
    task = task_of(make_task, "off")
    assert task.cot == "off"
    assert seen(task) == ("Q: 3+3?", 1, "6", ["\n"], 8)
    example = task.examples("test")[0]
    assert (example.reasoning, task.target(example)) == (None, Target("2"))
    assert task.prompt(example).reasoned is False
    assert task.shots(example)[0].target == Target("2")


def test_a_bare_off_is_what_yaml_takes_for_false_and_means_off(make_task: MakeTask) -> None:
    assert task_of(make_task, "off").spec.cot.mode == "off"  # type: ignore[union-attr]
    assert task_of(make_task, "'off'").spec.cot.mode == "off"  # type: ignore[union-attr]


def test_zero_adds_the_instruction_and_shows_nothing(make_task: MakeTask) -> None:
    task = task_of(make_task, "zero")
    assert seen(task) == ("Q: 3+3?\nThink first.", 0, "3 and 3\nSo 6.", ["Q:"], 64)
    prompt = task.prompt(task.examples("test")[0])
    assert prompt.reasoned is True
    assert prompt.inputs == {"question": "1+1?", "how_to_answer": "Think first."}
    assert (task.shot_count, task.shot_split) == (0, None)


def test_few_shows_worked_rows_and_asks_nothing_more(make_task: MakeTask) -> None:
    task = task_of(make_task, "few")
    assert seen(task) == ("Q: 3+3?", 1, "3 and 3\nSo 6.", ["Q:"], 64)
    example = task.examples("test")[0]
    (shot,) = task.shots(example)
    assert (shot.user, shot.target) == ("Q: 1+1?", Target("So 2.", "1 and 1"))
    assert task.prompt(example).inputs == {"question": "1+1?"}
    assert task.shot_split == "train"


def test_the_declared_mode_is_few_unless_it_is_told(make_task: MakeTask) -> None:
    yaml = WORKED.replace("  mode: MODE\n", "")
    assert task_of(make_task, yaml=yaml).cot == "few"


def test_stops_and_length_are_the_tasks_own_where_the_chain_declares_none(make_task: MakeTask) -> None:
    yaml = WORKED.replace("  max_tokens: 64\n", "").replace('  stop: ["Q:"]\n', "")
    for mode in ("off", "zero", "few"):
        task = task_of(make_task, mode, yaml)
        assert (task.stop, task.max_tokens) == (["\n"], 8)
    # An empty list is declared: the chain of thought runs over line breaks.
    task = task_of(make_task, "few", WORKED.replace('  stop: ["Q:"]\n', "  stop: []\n"))
    assert (task.stop, task.with_cot("off").stop) == ([], ["\n"])


OWN = """\
answer: "{{ answer }}"
fewshot: {n: 2}
cot:
  mode: MODE
  instruction: Think first.
  answer: "So {{ answer }}."
  extract: "So (.+)[.]"
  shots:
    - {question: "7+0?", answer: "7", reasoning: "Nothing is added."}
    - {question: "8+0?", answer: "8", reasoning: "Nor here."}
    - {question: "9+0?", answer: "9", reasoning: "Nor there."}
"""


def test_worked_shots_of_the_declaration_are_shown_in_mode_few_alone(make_task: MakeTask) -> None:
    few = task_of(make_task, "few", OWN)
    example = few.examples("test")[0]
    assert [shot.user for shot in few.shots(example)] == ["Q: 7+0?", "Q: 8+0?", "Q: 9+0?"]
    assert few.shots(example)[0].target == Target("So 7.", "Nothing is added.")
    assert (few.shot_count, few.shot_split) == (3, None)
    off = few.with_cot("off")
    assert [shot.user for shot in off.shots(example)] == ["Q: 1+1?", "Q: 2+2?"]
    assert off.shots(example)[0].target == Target("2")


def test_rows_without_reasoning_have_the_marked_answer_as_target_and_still_are_reasoned(make_task: MakeTask) -> None:
    task = task_of(make_task, "few", OWN)
    example = task.examples("test")[0]
    assert (example.reasoning, task.answer(example)) == ("", "So 2.")
    assert task.prompt(example).reasoned is True


def test_the_first_of_the_worked_shots_are_shown_where_fewer_are_asked_for(make_task: MakeTask) -> None:
    task = task_of(make_task, "few", OWN)
    example = task.examples("test")[0]
    assert [shot.user for shot in task.with_shots(1).shots(example)] == ["Q: 7+0?"]
    assert task.with_shots(0).shots(example) == ()
    with pytest.raises(DataError, match=r"^task 't': 4 shots are asked for, but cot\.shots has 3$"):
        task.with_shots(4).shots(example)


def test_a_worked_shot_that_lacks_a_field_is_told_by_its_place(make_task: MakeTask) -> None:
    task = task_of(make_task, "few", OWN.replace('"8+0?", answer: "8"', '"8+0?", anser: "8"'))
    with pytest.raises(DataError, match=r"^task 't', split 'cot\.shots', row 1: .* names 'answer', .*'anser'"):
        task.shots(task.examples("test")[0])


def test_worked_shots_go_through_the_hook_as_rows_do(write_task: Any) -> None:
    plugin = "def example(row):\n    return {'answer': row['answer'] + '!'}\n"
    head = "summary: s\nversion: 1\ndataset: {files: {train: train.jsonl, test: test.jsonl}}\nkind: generate\n"
    yaml = head + 'prompt: {user: "{{ question }}"}\nmetrics: [exact_match]\n' + OWN.replace("MODE", "few")
    task = load_task_folder(str(write_task("t", yaml, plugin=plugin)), default_catalog())
    assert task.shots(task.examples("test")[0])[0].target.answer == "So 7!."


def test_what_metrics_see_is_the_extracted_answer(make_task: MakeTask) -> None:
    task = task_of(make_task, "few")
    example = task.examples("test")[0]
    assert example.references == ("2",)

    def value(text: str) -> float:
        return task.score(example, Output(text=text))[0].value

    assert value(" 1 and 1\nSo 2.") == 1
    assert value("So 5. No, wait.\nSo 2.") == 1
    assert value("So 2. No, wait.\nSo 5.") == 0
    # Without the mark the whole text is what counts.
    assert value("2") == 1
    assert value("It is 2") == 0
    assert task.with_cot("off").score(example, Output(text="So 2."))[0].value == 0


def test_a_metric_that_reads_the_mark_itself_gets_the_whole_text(make_task: MakeTask) -> None:
    yaml = WORKED.replace("So {{ answer }}.", "#### {{ answer }}").replace("So (.+)[.]", "#### ([0-9]+)")
    yaml += "metrics: [exact_match/strict, exact_match/flexible, exact_match]\n"
    task = task_of(make_task, "few", yaml.replace('answer: "{{ answer }}"\n', "", 1))
    example = task.examples("test")[0]
    # As a run-on second '####' shows: strict reads the first, the extraction takes the last.
    got = {score.metric: score.value for score in task.score(example, Output(text="#### 2\nQ: x\n#### 7"))}
    assert got["exact_match/strict"] == 1
    assert got["exact_match/flexible"] == 0
    whole = {score.metric: score.value for score in task.score(example, Output(text="no number, #### 7"))}
    assert whole["exact_match/strict"] == 0


def test_without_a_bare_answer_the_marked_one_is_what_counts(make_task: MakeTask) -> None:
    yaml = WORKED.replace('answer: "{{ answer }}"\n', "", 1)
    few = task_of(make_task, "few", yaml)
    example = few.examples("test")[0]
    assert example.references == ("1 and 1\nSo 2.",)
    off = few.with_cot("off")
    (bare, *_) = off.examples("test")
    assert (off.answer(bare), bare.references, bare.reasoning) == ("So 2.", ("So 2.",), None)


@pytest.mark.parametrize(
    ("pattern", "text", "got"),
    [
        ("#### (.+)", "a #### 1\n#### 2 ", "2"),
        ("#### (.+)", "nothing", None),
        ("#### (.+)", "", None),
        ("is (.+?)[.]", "is a. is b. is c", "b"),
        ("x(y)?", "x", ""),
        (r"Sum: *([\s\S]+)", "Sum:\n a\nb \n", "a\nb"),
    ],
)
def test_the_last_match_is_extracted_and_a_text_without_one_has_none(pattern: str, text: str, got: str | None) -> None:
    assert extracted(pattern, text) == got


@given(
    st.sampled_from(
        ["#### (.+)", "(a)b", "x(y)?", r"So ([\s\S]+)", "(?i)so (.*)", "^(a.*)$", r"is (\S+)\.?", "(?m)^(b+)"]
    ),
    st.lists(st.sampled_from(["a", "b", "x", "y", " ", "\n", "#### ", "So ", "is ", ".", "é"]), max_size=14).map(
        "".join
    ),
)
def test_a_match_is_what_the_standard_library_takes_for_one(pattern: str, text: str) -> None:
    found = list(re.finditer(pattern, text))
    assert extracted(pattern, text) == ((found[-1][1] or "").strip() if found else None)


def test_a_pattern_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slmbench.task._judging.EXTRACT_S", 0.2)
    with pytest.raises(ValueError, match=r"^cot\.extract '\(a\|aa\)\+\$' takes longer than 0\.2 s on a text; simplify"):
        extracted("(a|aa)+$", "a" * 60 + "b")


@given(st.text("ab \n", max_size=10).filter(lambda text: text == text.strip() and text and "\n" not in text))
def test_what_was_marked_is_what_is_extracted(answer: str) -> None:
    assert extracted("#### (.+)", f"some reasoning\n#### {answer}") == answer


def test_a_mode_can_be_changed_and_leaves_nothing_of_the_old_one(make_task: MakeTask) -> None:
    task = task_of(make_task, "few")
    example = task.examples("test")[0]
    task.shots(example)
    for mode in ("off", "zero", "few", "off"):
        changed = task.with_cot(mode)
        fresh = task_of(make_task, mode)
        assert seen(changed) == seen(fresh)
        assert changed.shots(example) == fresh.shots(example)
    # The task itself is a value and stays.
    assert seen(task) == seen(task_of(make_task, "few"))
    assert task.with_cot(None) is task
    assert task.with_cot("few") is task


def test_the_same_rows_serve_every_mode(make_task: MakeTask) -> None:
    task = task_of(make_task, "few")
    assert task.with_cot("off").rows("test") is task.rows("test")


def test_a_task_without_a_chain_of_thought_refuses_one(make_task: MakeTask) -> None:
    task = task_of(make_task, yaml="answer: '{{ answer }}'")
    assert task.cot == "off"
    assert task.with_cot("off") is task
    for mode in ("zero", "few"):
        with pytest.raises(UsageError, match=r"^task 't' declares no chain of thought \('cot' in its task\.yaml\)$"):
            task.with_cot(mode)


def test_zero_without_an_instruction_is_refused(make_task: MakeTask) -> None:
    task = task_of(make_task, "few", WORKED.replace("  instruction: Think first.\n", ""))
    with pytest.raises(UsageError, match=r"--cot zero needs cot\.instruction in its task\.yaml"):
        task.with_cot("zero")


def test_zero_has_no_shots_whoever_asks(make_task: MakeTask) -> None:
    task = task_of(make_task, "zero")
    assert task.with_shots(0) is task
    with pytest.raises(UsageError, match=r"--cot zero asks by an instruction and has no shots; use --cot few"):
        task.with_shots(2)
    # Asked for before: zero wins, and few has them again.
    asked = task_of(make_task, "few").with_shots(2)
    assert (asked.with_cot("zero").shot_count, asked.with_cot("zero").with_cot("few").shot_count) == (0, 2)


def test_the_digest_tells_the_modes_apart_and_the_declared_one_from_none_given(make_task: MakeTask) -> None:
    plain = load_format("plain")
    task = task_of(make_task, "few")
    digests = {mode: task.with_cot(mode).digest(plain) for mode in ("off", "zero", "few")}
    assert len(set(digests.values())) == 3
    assert digests["few"] == task.digest(plain) == task_of(make_task, "few").digest(plain)


@pytest.mark.parametrize("format_name", ["plain", "toon"])
def test_a_worked_prompt_ends_where_reasoning_begins(format_name: str, make_task: MakeTask) -> None:
    style = load_format(format_name)
    opening = {"plain": ("A:", "A:"), "toon": ("answer:", "reasoning:")}[format_name]
    for mode, end in zip(("off", "few"), opening, strict=True):
        task = task_of(make_task, mode)
        assert style.render(task.prompt(task.examples("test")[0]), None).text.endswith(f"\n{end}")


def test_bundled_tasks_with_a_chain_of_thought_work_in_every_mode() -> None:
    catalog = default_catalog()
    asked = []
    for path in catalog.files("tasks").values():
        task = load_task_folder(str(Path(path).parent), catalog, data="samples")
        if task.spec.cot is None:
            continue
        modes = ["off", "few"] + (["zero"] if task.spec.cot.instruction else [])
        for mode in modes:
            moded = task.with_cot(mode)
            for example in moded.examples(task.spec.split):
                prompt = moded.prompt(example)
                assert prompt.reasoned == (mode != "off")
                assert len(prompt.shots) == moded.shot_count
                assert (mode == "zero") == ("how_to_answer" in prompt.inputs)
        asked.append(task.name)
    assert "gsm8k" in asked
