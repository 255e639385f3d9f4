"""Training rows that are in an evaluation split are found whatever was done to their text, and others are not."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.contamination import overlaps
from slmbench.contamination.ngrams import N_WORDS, words_of
from slmbench.contamination.overlaps import RowText, apply, contamination_of, find_contamination, text_of
from slmbench.errors import DataError, OfflineError
from slmbench.formats import load_format
from slmbench.task import load_task, load_task_folder
from slmbench.training._rows import training_rows

ASKED = "Read the following passage with care and then answer the question that stands below it in one word:"
LONG = "A farmer has seventeen sheep and all but nine of them run away in the night before he comes home"


def texts(*prompts, answer="yes", name="row"):
    return [RowText(f"{name}-{i}", prompt, answer) for i, prompt in enumerate(prompts)]


def overlap(rows, items, **settings):
    (found,) = find_contamination({"t": rows}, {"t/test": items}, **settings).overlaps
    return found


def levels(rows, items, **settings):
    """Level -> places of the rows, those without any left out."""
    return {level: list(places) for level, places in overlap(rows, items, **settings).rows.items() if places}


def tuples_oracle(rows, items):
    """Rows that share a run of words or a whole prompt, by Python's own sets; boilerplate as the check defines it."""

    def plain(text):
        return re.findall("[a-z0-9]+", text.lower())

    def runs(text):
        words = plain(f"{text.prompt} {text.answer}")
        return [tuple(words[i : i + N_WORDS]) for i in range(len(words) - N_WORDS + 1)]

    times = Counter(run for item in items for run in set(runs(item)))
    common = max(5, int(len(items) * 0.01) + 1)
    prompts = Counter(tuple(plain(item.prompt)) for item in items)
    wholes = Counter((tuple(plain(item.prompt)), tuple(plain(item.answer))) for item in items)
    found = set()
    for i, row in enumerate(rows):
        counts = [times[run] for run in runs(row)]
        asked = [at for at, n in enumerate(counts) if n >= common]
        rare = [at for at, n in enumerate(counts) if 0 < n < common]
        prompt = tuple(plain(row.prompt))
        own = any(all(abs(at - other) > N_WORDS // 2 for other in asked) for at in rare)
        whole = (prompts[prompt] if prompt else 0, wholes[prompt, tuple(plain(row.answer))])
        if own or any(0 < n < common for n in whole):
            found.add(i)
    return found


def test_each_row_is_told_once_at_its_strongest_level():
    items = texts("Is 7 prime?", LONG)
    rows = texts(
        "Is 7 prime?",
        "  is 7 PRIME ",
        "Before that. " + LONG.upper().replace(" ", "\n") + " And after that.",
        LONG,
        "Is 8 prime?",
        LONG[:50],
    )
    assert levels(rows, items) == {"exact": [0, 3], "normalised": [1], "ngram": [2]}
    found = overlap(rows, items)
    assert [(shown.level, shown.row, shown.item) for shown in found.examples] == [
        ("exact", "row-0", "row-0"),
        ("exact", "row-3", "row-1"),
        ("normalised", "row-1", "row-0"),
    ]
    assert found.flagged == 4


def test_the_words_that_are_shared_are_shown():
    (shown,) = overlap(texts(f"Listen: {LONG}, they say."), texts(f"Once more: {LONG}!")).examples
    assert shown.text == " ".join(LONG.lower().split()[:N_WORDS])


def test_twelve_words_in_a_row_are_no_overlap_and_thirteen_are():
    words = LONG.split()
    for n, expected in ((12, {}), (13, {"ngram": [0]})):
        assert levels(texts("Quite another opening: " + " ".join(words[:n])), texts(LONG)) == expected


def test_a_run_may_lie_across_prompt_and_answer():
    words = LONG.split()
    row = RowText("a", " ".join(words[:8]), " ".join(words[8:]))
    assert levels([row], texts(LONG)) == {"ngram": [0]}
    # But never across two rows.
    assert levels([RowText("a", "", " ".join(words[:8])), RowText("b", " ".join(words[8:]), "")], texts(LONG)) == {}


@pytest.mark.parametrize(
    ("row", "item", "same"),
    [
        ("5 - 3?", "5 + 3?", False),
        ("5 \u2212 3?", "5 - 3?", True),
        ("5*3", "5 / 3", False),
        ("5+3 = ?", "5 + 3 =", True),
        ("-5", "5", False),
        ("well-known", "well known", True),
        ("\ufb01ne \uff21\uff22", "fine ab", True),
        ("na\u00efve", "nai\u0308ve", True),
        ("???", "!!!", False),
        ("", "", False),
    ],
)
def test_what_is_the_same_text(row, item, same):
    assert bool(levels(texts(row, answer="1"), texts(item, answer="2"))) is same


def test_the_same_answer_to_another_question_is_no_overlap():
    assert levels(texts("Is it red?", answer="yes"), texts("Is it blue?", answer="yes")) == {}


def test_the_same_question_with_another_answer_is_one():
    assert levels(texts("Is it red?", answer="no"), texts("Is it red?", answer="yes")) == {"exact": [0]}


def test_how_a_tasks_items_are_asked_flags_no_row():
    items = texts(*(f"{ASKED} item {i}" for i in range(30)))
    rows = texts(*(f"{ASKED} row {i}" for i in range(50)), f"{ASKED} item 3")
    found = overlap(rows, items)
    assert {level: places for level, places in found.rows.items() if places} == {"exact": (50,)}
    assert found.boilerplate == 50
    # Four items of thirty are too few to be the way that items are asked.
    few = texts(*(f"{ASKED} item {i}" for i in range(4)), *(f"Other question {i}" for i in range(26)))
    assert levels(rows, few)["ngram"] == list(range(50))


def test_a_run_that_is_half_boilerplate_flags_no_row_either():
    # The last twelve of the words that all have, and `the`, are thirteen in a row that few have.
    items = texts(*(f"{ASKED} {'the' if i == 0 else 'a'} thing {i}" for i in range(30)))
    assert levels(texts(f"{ASKED} the sky is blue today"), items) == {}
    own = "what does the old miller give to his youngest son when he dies"
    items = texts(*(f"{ASKED} {own if i == 0 else i}" for i in range(30)))
    assert levels(texts(f"{ASKED} {own}, and why is it so?"), items) == {"ngram": [0]}


def test_a_prompt_that_many_items_share_flags_only_with_its_answer():
    items = [RowText(f"i-{i}", "Write a poem.", f"poem {i}") for i in range(20)]
    rows = [RowText("a", "Write a poem.", "my own"), RowText("b", "Write a poem.", "Poem 7")]
    assert levels(rows, items) == {"normalised": [1]}
    assert overlap(rows, items).boilerplate == 1


def test_every_pair_of_task_and_split_is_counted_apart():
    report = find_contamination(
        {"a": texts("one?", "two?"), "b": texts("three?")},
        {"a/test": texts("one?"), "b/test": texts("two?", "three?")},
    )
    counts = {(one.training, one.evaluation): one.flagged for one in report.overlaps}
    assert counts == {("a", "a/test"): 1, ("a", "b/test"): 1, ("b", "a/test"): 0, ("b", "b/test"): 1}
    assert (report.flagged("a"), report.flagged("b")) == ({0, 1}, {0})
    told = json.loads(json.dumps(report.as_json()))["overlaps"]
    assert (told[1]["training_rows"], told[1]["evaluation_items"], told[1]["exact"]) == (2, 2, 1)
    assert told[1]["rows"] == {"exact": [1]}
    assert told[1]["examples"] == [{"level": "exact", "row": "row-1", "item": "row-0", "text": "two?"}]


@pytest.mark.parametrize("hash_bits", [1, 4, 64])
@pytest.mark.parametrize("seed", range(8))
def test_collisions_of_hashes_change_nothing(seed, hash_bits):
    chance = random.Random(seed)
    # Few words: runs recur within a text and between texts, and with few bits all hashes collide.
    words = "ab"[: 1 + seed % 2] + "c"
    made = [" ".join(chance.choices(words, k=chance.randint(0, 30))) for _ in range(24)]
    rows, items = texts(*made[:12]), texts(*made[12:], answer="no")
    for i in range(0, 12, 3):  # A part of an item within a row.
        rows[i] = evolve(rows[i], prompt=f"{rows[i].prompt} x {items[i].prompt[3:]}")
    for i in range(8):  # How most items are asked.
        items[i] = evolve(items[i], prompt=f"{ASKED} {items[i].prompt}")
        rows[i] = evolve(rows[i], prompt=f"{ASKED} {rows[i].prompt}")
    found = overlap(rows, items, hash_bits=hash_bits)
    assert {row for places in found.rows.values() for row in places} == tuples_oracle(rows, items)


def test_an_item_that_repeats_itself_makes_no_boilerplate():
    items = texts(f"{LONG}. " * 8, *(f"Question {i}" for i in range(20)))
    assert levels(texts(f"Once: {LONG}"), items) == {"ngram": [0]}


def test_long_lists_are_looked_up_in_parts_without_a_difference(monkeypatch):
    chance = random.Random(3)
    rows = texts(*(" ".join(chance.choices("abcdefgh", k=chance.randint(5, 60))) for _ in range(300)), LONG)
    items = texts(*(rows[i].prompt.upper() + " x" for i in range(0, 300, 7)), LONG + ".")
    whole = overlap(rows, items)
    monkeypatch.setattr(overlaps, "CHUNK_ROWS", 11)
    assert overlap(rows, items) == whole
    assert {row for places in whole.rows.values() for row in places} == tuples_oracle(rows, items)
    assert whole.flagged > 30


@pytest.mark.realdata
def test_planted_rows_are_found_among_real_ones_as_sets_of_tuples_find_them():
    task = load_task("gsm8k").with_shots(0)
    rows = [text_of(task, example) for example in task.examples("train")]
    items = [text_of(task, example) for example in task.examples("test")]
    assert levels(rows, items) == {}
    assert tuples_oracle(rows, items) == set()
    chance = random.Random(0)
    planted = {"exact": [3, 90], "normalised": [17, 200], "ngram": [41, 333]}
    for level, places in planted.items():
        for place in places:
            item = chance.choice([one for one in items if len(words_of(one.prompt)) > 30])
            words = item.prompt.split()
            prompt = {
                "exact": item.prompt,
                "normalised": item.prompt.upper().replace(".", " ...").replace(",", ""),
                "ngram": f"{rows[place].prompt} {' '.join(words[5:25])}",
            }[level]
            rows[place] = evolve(rows[place], prompt=prompt)
    assert levels(rows, items) == planted
    assert tuples_oracle(rows, items) == {place for places in planted.values() for place in places}


@pytest.mark.parametrize("trained", ["nano_arithmetic", "nano_note", "nano_choice", "nano_code"])
def test_generated_tasks_are_not_taken_for_their_own_test_items(nano_tokenizer, trained):
    task, style = load_task(trained), load_format("plain")
    rows = training_rows(task, style, nano_tokenizer, limit=1000, max_tokens=512)
    evaluated = [load_task(name) for name in ("nano_arithmetic", "nano_note", "nano_choice", "nano_code")]
    report = contamination_of([task], rows, evaluated)
    assert report.flagged(trained) == set()
    assert len(report.overlaps) == 4
    assert "by whole texts only" in report.notes[0]
    # A test item among the rows is still found.
    item = task.examples("test")[5]
    assert contamination_of([task], [rows[0], evolve(rows[1], example=item)], []).flagged(trained) == {1}


@pytest.fixture
def sums(write_task, nano_tokenizer):
    """sums(train, test) -> (task, rows): questions of two files."""

    def make(train, test):
        train, test = (
            "".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in part) for part in (train, test)
        )
        task = load_task_folder(str(write_task("sums", train=train, test=test)), default_catalog())
        return task, training_rows(task, load_format("plain"), nano_tokenizer, limit=None, max_tokens=64)

    return make


def test_the_words_of_the_template_are_not_the_rows_own(sums):
    task, rows = sums(["one?"], ["two?"])
    assert text_of(task, rows[0].example) == RowText("train-0", "one?", "1")


def test_rows_that_are_evaluated_are_dropped_unless_told_otherwise(sums):
    task, rows = sums(["one?", "two?", "three?", "TWO"], ["two?", "four?"])
    report = contamination_of([task], rows, [])
    assert [row.example.fields["question"] for row in apply(report, rows, "drop")] == ["one?", "three?"]
    assert apply(report, rows, "warn") == rows
    with pytest.raises(
        DataError, match=r"2 training rows are in an evaluation split too.*--on-contamination drop"
    ) as no:
        apply(report, rows, "fail")
    said = str(no.value)
    assert "2 of 4 rows of sums are in sums/test: 1 with the same text, 1 with the same words" in said
    assert "train-1 and test-0, the same text: 'two?'" in said
    assert "train-3 and test-0, the same words" in said


def test_nothing_is_dropped_and_nothing_fails_where_nothing_is_shared(sums):
    task, rows = sums(["one?", "three?"], ["two?", "four?"])
    report = contamination_of([task], rows, [task])
    assert apply(report, rows, "fail") == rows
    assert report.lines() == ["contamination: 2 training rows against 2 items of 1 evaluation split: none shared"]


def test_a_task_that_loses_every_row_is_an_error(sums):
    task, rows = sums(["one?", "two?"], ["two?", "one?"])
    with pytest.raises(DataError, match="task 'sums': all 2 training rows are in an evaluation split too"):
        apply(contamination_of([task], rows, []), rows, "drop")


def test_golden_rows_are_every_split_so_they_are_told_and_kept(nano_tokenizer):
    task = load_task("gsm8k", default_catalog(), data="samples")
    rows = training_rows(task.with_shots(0), load_format("plain"), nano_tokenizer, limit=None, max_tokens=512)
    report = contamination_of([task], rows, [task])
    assert report.overlaps[0].flagged == len(rows)
    assert apply(report, rows, "fail") == rows
    (line,) = report.lines()
    assert line == "contamination: golden rows stand in, so what they share says nothing: gsm8k/test"


def test_a_split_that_cannot_be_had_stops_the_check_or_is_noted(sums):
    task, rows = sums(["one?"], ["two?"])
    with pytest.raises(OfflineError, match=r"^gsm8k/test is evaluated, .*`--on-contamination warn`$"):
        contamination_of([task], rows, [load_task("gsm8k")])
    report = contamination_of([task], rows, [load_task("gsm8k")], "warn")
    assert report.notes[0].startswith("gsm8k/test was not compared: ")
    assert [one.evaluation for one in report.overlaps] == ["sums/test"]
