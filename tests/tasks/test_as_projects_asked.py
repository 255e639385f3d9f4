"""The prompts of published projects, letter by letter, and that each shares its rows with the task that asks better."""

from __future__ import annotations

import pytest

from slmbench.formats import load_format
from slmbench.task import load_task
from slmbench.values import Output

ASKED = {
    "python_instruction": "Count the vowels of the given word.",
    "medquad_question": "question: Who is at risk for frostbite? ?",
    "icliniq_question": "question: Hi doctor, I drink about 1.5 liters a day. Is that enough in summer?",
    "discharge_question": "Which treatment did the patient receive for his arm?",
    "cnn_dolly_summarization": (
        "From the passage, list the peaks above 2,000 meters.\nHochkar is 1,808 m high, Ötscher 1,893 m, Hochschwab "
        "2,277 m.\nGiven the instruction and context. Generate a summary"
    ),
    "ropes_rationale": (
        "The heavier a sledge is, the more force it takes to pull it over snow at a steady speed. Sledge North weighs "
        "1,200 kg, Sledge South 850 kg. Which sledge needs less force?"
    ),
    "web_snippets": (
        "Summarize the following snippets for the query 'how long does light from the sun take':\n\nThe Sun is about "
        "150,000,000 km away, and light covers 300,000 km a second."
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_prompt_is_what_the_project_asked_and_nothing_more(name: str) -> None:
    task = load_task(name, data="samples")
    assert task.render(load_format("plain"), None, task.examples(task.spec.split)[1]).text == ASKED[name]


def test_at_most_three_snippets_of_at_most_200_characters_are_shown() -> None:
    task = load_task("web_snippets", data="samples")
    example = task.examples("test")[0]
    references = example.fields["references"]
    assert len(references) == 4 and len(references[0]) > 200
    _, shown = task.prompt(example).user.split("\n\n")
    assert shown == " ".join(reference[:200] for reference in references[:3])


def test_the_rationale_that_is_trained_holds_the_answer_that_is_scored() -> None:
    task = load_task("ropes_rationale", data="samples")
    example = task.examples("test")[1]
    sentence = task.target(example).text
    assert sentence == (
        "The selected answer 'Sledge South' is chosen as it aligns with the information provided in the input. This "
        "choice logically fits the scenario where The heavier a sledge is, the more force it takes t..."
    )
    values = {}
    for text in (sentence, sentence.replace("Sledge South", "the sledge south"), sentence.replace("South", "North")):
        values[text] = {score.metric: score.value for score in task.score(example, Output(text=text))}["squad_em"]
    assert list(values.values()) == [1.0, 1.0, 0.0]
    bare = task.with_cot("off")
    assert bare.target(bare.examples("test")[1]).text == "Sledge South"


def test_a_forums_row_in_no_known_shape_is_told_with_those_that_are_known() -> None:
    task = load_task("icliniq_question", data="samples")
    with pytest.raises(Exception, match="expected the columns Question and Answer, or input and answer_icliniq, or"):
        task.example({"text": "?"}, 0, "test")


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("python_instruction", "alpaca_python"),
        ("medquad_question", "medquad"),
        ("icliniq_question", "icliniq"),
        ("ropes_rationale", "ropes"),
        ("web_snippets", "web_search_summarization"),
    ],
)
def test_the_rows_are_those_of_the_task_that_asks_better(name: str, better: str) -> None:
    own, other = load_task(name), load_task(better)
    assert own.dataset == other.dataset
    assert own.spec.split == other.spec.split


def test_questions_without_their_note_are_of_all_asclepius_tasks() -> None:
    spec = load_task("discharge_question").dataset.spec
    assert spec.hub == load_task("discharge_summarization").dataset.spec.hub
    assert not spec.where
