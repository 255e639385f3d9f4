"""What a declaration makes of a row: choices, gold, references, the user's part as text and as fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from slmbench.errors import DataError
from slmbench.task import Task
from slmbench.values import Output

MakeTask = Callable[..., Task]

ARC = "choices: choices.text\nlabels: choices.label\ngold: '{{ answerKey }}'"


def arc_row(texts: list[str], labels: list[str], key: str) -> dict[str, Any]:
    return {"question": "q", "choices": {"text": texts, "label": labels}, "answerKey": key}


def test_a_dotted_path_leads_into_a_struct(make_task: MakeTask) -> None:
    task = make_task("choice", ARC, [arc_row(["x", "y", "z"], ["A", "B", "C"], "B")])
    (example,) = task.examples("test")
    assert (example.choices, example.gold, example.answer) == (("x", "y", "z"), 1, "y")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("choices.txt", "choices names 'choices.txt', which the row lacks; did you mean 'text'?"),
        ("choice.text", "choices names 'choice.text', which the row lacks; did you mean 'choices'?"),
        ("choices.text.x", "choices names 'choices.text.x', which the row lacks"),
        (
            "answerKey",
            "choices: expected a list of texts, got the text 'A'; write the list as JSON, or split it in a template of "
            "each option",
        ),
    ],
)
def test_a_path_that_leads_nowhere_is_told_with_what_is_there(path: str, message: str, make_task: MakeTask) -> None:
    task = make_task("choice", f"choices: {path}\ngold: '0'", [arc_row(["x", "y"], ["A", "B"], "A")])
    with pytest.raises(DataError) as caught:
        task.examples("test")
    assert str(caught.value) == (
        f"task 't', split 'test', row 0: {message}; the row's fields: answerKey, choices, question"
    )


@pytest.mark.parametrize(
    ("labels", "key", "gold"),
    [
        (["A", "B", "C", "D"], "D", 3),
        (["1", "2", "3", "4"], "1", 0),
        (["1", "2", "3", "4"], "4", 3),
        (["A", "B", "C", "D"], " B ", 1),
    ],
)
def test_gold_is_looked_up_among_the_labels(labels: list[str], key: str, gold: int, make_task: MakeTask) -> None:
    task = make_task("choice", ARC, [arc_row(["w", "x", "y", "z"], labels, key)])
    assert task.examples("test")[0].gold == gold


def test_a_label_is_no_index_and_no_choice_even_where_choices_are_digits(make_task: MakeTask) -> None:
    # As an index "1" would be the second, as a choice's text the fourth.
    task = make_task("choice", ARC, [arc_row(["4", "3", "2", "1"], ["1", "2", "3", "4"], "1")])
    (example,) = task.examples("test")
    assert (example.gold, example.answer) == (0, "4")


def test_five_declared_labels_fit_rows_of_three_to_five_choices(make_task: MakeTask) -> None:
    yaml = "choices: options\nlabels: ['1', '2', '3', '4', '5']\ngold: '{{ key }}'"
    rows = [{"question": str(n), "options": list("vwxyz")[:n], "key": str(n)} for n in (3, 4, 5)]
    assert [example.gold for example in make_task("choice", yaml, rows).examples("test")] == [2, 3, 4]
    short = make_task("choice", yaml, [{"question": "q", "options": ["v", "w", "x"], "key": "4"}])
    with pytest.raises(DataError, match=r"gold: '4' is not exactly one of the labels \['1', '2', '3'\]"):
        short.examples("test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (arc_row(["x", "y"], ["A", "B"], "C"), "gold: 'C' is not exactly one of the labels ['A', 'B']"),
        (arc_row(["x", "y"], ["A", "B"], "x"), "gold: 'x' is not exactly one of the labels ['A', 'B']"),
        (arc_row(["x", "y"], ["A", "A"], "A"), "gold: 'A' is not exactly one of the labels ['A', 'A']"),
        (arc_row(["x", "y", "z"], ["A", "B"], "A"), "labels: 2 of them for 3 choices"),
        (arc_row(["x", "y"], ["A", "B", "C"], "A"), "labels: 3 of them for 2 choices"),
        (arc_row(["x", "y"], [None, "B"], "B"), "labels: expected a list of texts: 'choices.label[0]' is null"),  # type: ignore[list-item]
    ],
)
def test_labels_that_do_not_fit_the_row_are_told(row: dict[str, Any], message: str, make_task: MakeTask) -> None:
    with pytest.raises(DataError) as caught:
        make_task("choice", ARC, [row]).examples("test")
    assert f"task 't', split 'test', row 0: {message};" in str(caught.value)


def test_too_few_declared_labels_are_told(make_task: MakeTask) -> None:
    yaml = "choices: options\nlabels: [A, B]\ngold: A"
    with pytest.raises(DataError, match="labels: 2 of them for 3 choices"):
        make_task("choice", yaml, [{"question": "q", "options": ["x", "y", "z"]}]).examples("test")


SQUAD = "answer: '{{ answers.text[0] }}'\nreferences: answers.text"


def test_every_reference_counts_as_right_and_the_target_is_the_answer(make_task: MakeTask) -> None:
    row = {"question": "q", "answers": {"text": ["the fox", "a fox", "fox"]}}
    task = make_task("generate", SQUAD, [row])
    (example,) = task.examples("test")
    assert (task.answer(example), example.references) == ("the fox", ("the fox", "a fox", "fox"))
    scores = [task.score(example, Output(text=text))[0].value for text in ("the fox", "a fox", "fox", "a dog")]
    assert scores == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"text": []}, "references: 'answers.text' is an empty list"),
        ({"text": "fox"}, "references: expected a list of texts, got str"),
        ({"text": ["fox", None]}, "references: expected a list of texts: 'answers.text[1]' is null"),
        ({"texts": ["fox"]}, "references names 'answers.text', which the row lacks; did you mean 'texts'?"),
    ],
)
def test_references_that_are_no_list_of_texts_are_told(
    answers: dict[str, Any], message: str, make_task: MakeTask
) -> None:
    task = make_task("generate", "answer: fox\nreferences: answers.text", [{"question": "q", "answers": answers}])
    with pytest.raises(DataError) as caught:
        task.examples("test")
    assert message in str(caught.value)


WINOGRANDE = """\
prompt: {user: "{{ before }} {{ choice }}"}
choices: ["{{ one }}", "{{ two }}"]
gold: "{{ right }}"
labels: ["1", "2"]
continuation: "{{ after }}"
"""
BLANK = {"before": "The cup hit the plate, and", "one": "the cup", "two": "it", "right": "2", "after": "broke in two."}


def test_a_continuation_is_scored_after_each_choices_own_prompt(make_task: MakeTask) -> None:
    task = make_task("choice", WINOGRANDE, [BLANK])
    (example,) = task.examples("test")
    assert task.prompt(example, 0).user == "The cup hit the plate, and the cup"
    assert task.prompt(example, 1).user == "The cup hit the plate, and it"
    assert task.prompt(example, 0).inputs == {"before": "The cup hit the plate, and", "choice": "the cup"}
    # What is trained on is the gold choice's.
    assert task.prompt(example) == task.prompt(example, 1)
    assert task.question(example) == "The cup hit the plate, and it"
    assert (task.answer(example), example.references) == ("broke in two.", ("broke in two.",))


def test_accuracy_by_length_divides_by_the_continuation_which_all_choices_share(make_task: MakeTask) -> None:
    # By the choices' own lengths, 7 and 2 characters, the first would win: -7 / 7 > -6 / 2.
    task = make_task("choice", WINOGRANDE, [BLANK])
    (example,) = task.examples("test")
    right = {score.metric: score.value for score in task.score(example, Output(loglikelihoods=(-7.0, -6.0)))}
    assert right == {"accuracy": 1.0, "accuracy_norm": 1.0}
    plain = make_task("choice", WINOGRANDE.replace("continuation", "# "), [BLANK])
    (example,) = plain.examples("test")
    apart = {score.metric: score.value for score in plain.score(example, Output(loglikelihoods=(-7.0, -6.0)))}
    assert apart == {"accuracy": 1.0, "accuracy_norm": 0.0}


def test_an_empty_continuation_leaves_nothing_to_score(make_task: MakeTask) -> None:
    with pytest.raises(DataError, match="continuation: the text after the choice is empty"):
        make_task("choice", WINOGRANDE, [{**BLANK, "after": ""}]).examples("test")


@pytest.mark.parametrize("delimiter", [" ", "", "\n"])
def test_the_declared_delimiter_stands_in_the_prompt(delimiter: str, make_task: MakeTask) -> None:
    quoted = delimiter.replace("\n", "\\n")
    yaml = f'prompt: {{user: "{{{{ question }}}}", delimiter: "{quoted}"}}\nanswer: x'
    task = make_task("generate", yaml, [{"question": "q"}])
    assert task.prompt(task.examples("test")[0]).delimiter == delimiter


def test_a_system_text_is_a_template_over_the_row(make_task: MakeTask) -> None:
    yaml = 'prompt: {system: "About {{ subject.upper() }}.", user: "{{ question }}"}\nanswer: x'
    task = make_task("generate", yaml, [{"question": "q", "subject": "birds"}, {"question": "q", "subject": "rats"}])
    assert [task.prompt(example).system for example in task.examples("test")] == ["About BIRDS.", "About RATS."]
    broken = make_task("generate", yaml, [{"question": "q", "subjet": "birds"}])
    with pytest.raises(
        DataError, match=r"^task 't', item 'test-0': .*names 'subject', .*the row's fields: question, sub"
    ):
        broken.prompt(broken.examples("test")[0])


def inputs(make_task: MakeTask, user: str, row: dict[str, Any]) -> Any:
    task = make_task("generate", f"prompt: {{user: {json.dumps(user)}}}\nanswer: x", [row])
    return dict(task.prompt(task.examples("test")[0]).inputs)


@pytest.mark.parametrize(
    ("user", "row", "expected"),
    [
        ("{{ b }} {{ a }}", {"a": "x", "b": "y", "c": "z"}, {"b": "y", "a": "x"}),
        ("{{ a.upper() }} {{ a }}", {"a": "x"}, {"a": "x"}),
        ("{{ a }}", {"a": 5}, {"a": 5}),
        ("{{ a }}", {"a": 0.5}, {"a": 0.5}),
        ("{{ 1 if a else 0 }}", {"a": True}, {}),
        ("{{ a or 1 }}", {"a": None}, {"a": 1}),
        ("{{ a.strip() }}", {"a": " x"}, {"a": "x"}),
        ("{{ a[0] }}", {"a": ["x", "gold"]}, {"a_1": "x"}),
        ("{{ a[-1] }}{{ a[-2] }}", {"a": ["gold", "x", "y"]}, {"a_last": "y", "a_last_2": "x"}),
        ("{{ a.k }}", {"a": {"k": "x", "l": "gold"}}, {"a_k": "x"}),
        ('{{ a["k"][0] }}', {"a": {"k": ["x", {"m": "gold"}]}}, {"a_k_1": "x"}),
        ("{% for x in a %}{{ x }}{{ b }}{% endfor %}", {"a": ["x"], "b": "y", "x": "z"}, {"a_1": "x", "b": "y"}),
        (
            '{% for x in a if x.r == "user" %}{{ loop.index }} {{ x.c }}{% endfor %}',
            {"a": [{"r": "user", "c": "x"}, {"r": "bot", "c": "gold"}, {"r": "user", "c": "y"}]},
            {"a_1_c": "x", "a_2_c": "y"},
        ),
        (
            "{% for x in a[:-1] %}{{ x.r }}: {{ x.c.upper() }}{% endfor %}",
            {"a": [{"r": "user", "c": "x"}, {"r": "bot", "c": "y"}, {"r": "user", "c": "gold"}]},
            {"a_1_r": "user", "a_1_c": "X", "a_2_r": "bot", "a_2_c": "Y"},
        ),
        (
            "{% for x in a %}{% for y in x %}{{ y }}{% endfor %}{% endfor %}",
            {"a": ["xy", "z"]},
            {"a_1": "x", "a_2": "y", "a_3": "z"},
        ),
        ('{{ a.split("###")[0] }}', {"a": "x###gold"}, {"a": "x"}),
        ("{{ a[:2] }}{{ a[-1:] }}{{ a[:2] }}", {"a": "xygold"}, {"a": "xy", "a_2": "d"}),
        ("{{ a[i] }}", {"a": ["x", "y"], "i": 1}, {"a_1": "y"}),
        ('{{ a ~ ", " ~ b.k }}', {"a": "x", "b": {"k": "y", "l": "gold"}}, {"a_b_k": "x, y"}),
        ('{{ a.replace(b, "_") }}', {"a": "x gold", "b": "gold"}, {"a": "x _"}),
        ("x{{ a[0] if a else 1 }}", {"a": []}, {"a_1": 1}),
        ('x{{ "y" if a else "n" }}{% if a %}{{ b }}{% endif %}', {"a": "", "b": "gold"}, {}),
        ("{{ gone|default(1) }}{{ a }}", {"a": "x"}, {"gone": 1, "a": "x"}),
        ("fixed", {"a": "x"}, {}),
    ],
)
def test_inputs_are_what_the_user_text_prints_of_the_row_flat_and_in_its_order(
    user: str, row: dict[str, Any], expected: dict[str, Any], make_task: MakeTask
) -> None:
    got = inputs(make_task, user, row)
    assert got == expected
    assert list(got) == list(expected)
    assert [type(value) for value in got.values()] == [type(value) for value in expected.values()]


def test_declared_inputs_take_the_place_of_the_derived_ones(make_task: MakeTask) -> None:
    yaml = 'prompt: {user: "{{ a }}{{ b }}", inputs: {text: "{{ a.strip() }}", fixed: f}}\nanswer: x'
    task = make_task("generate", yaml, [{"a": " x ", "b": "y"}])
    assert task.prompt(task.examples("test")[0]).inputs == {"text": "x", "fixed": "f"}


def test_an_input_that_names_no_field_is_told_by_its_item(make_task: MakeTask) -> None:
    yaml = 'prompt: {user: "{{ a }}", inputs: {text: "{{ aa }}"}}\nanswer: x'
    task = make_task("generate", yaml, [{"a": "x"}])
    with pytest.raises(DataError, match=r"^task 't', item 'test-0': .*names 'aa', .*did you mean 'a'\?; the row's"):
        task.prompt(task.examples("test")[0])


def test_two_fields_of_one_flat_name_are_told_and_none_is_dropped(make_task: MakeTask) -> None:
    yaml = "prompt: {user: '{{ a[0] }}{{ a_1 }}'}\nanswer: x"
    task = make_task("generate", yaml, [{"a": ["x"], "a_1": "y"}])
    with pytest.raises(DataError, match=r"item 'test-0': two fields make the input 'a_1'; declare prompt\.inputs;"):
        task.prompt(task.examples("test")[0])
