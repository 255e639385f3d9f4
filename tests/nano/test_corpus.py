from __future__ import annotations

import random
import re
from itertools import islice

import pytest

from slmbench.nano.corpus import EARLY_DOCUMENTS, KINDS, documents
from slmbench.nano.words import COLORS, COMPLAINTS, DRUGS, HISTORY, NAMES, PLACES, THINGS

N = 1500
OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


def sums(text: str) -> list[tuple[int, int]]:
    """(what stands right of each `=`, what belongs there)"""
    return [(int(c), OPERATIONS[op](int(a), int(b))) for a, op, b, c in re.findall(r"(\d+)([-+*])(\d+)=(-?\d+)", text)]


@pytest.fixture(scope="module")
def texts() -> dict[str, list[str]]:
    rng = random.Random(1)
    return {kind.__name__: [kind(rng) for _ in range(N)] for kind, _, _ in KINDS}


def test_the_shares_of_the_kinds_add_up() -> None:
    assert sum(early for _, early, _ in KINDS) == pytest.approx(1)
    assert sum(late for _, _, late in KINDS) == pytest.approx(1)


def test_the_stream_is_the_same_for_a_seed_and_another_for_another() -> None:
    first = list(islice(documents(3), 300))
    assert first == list(islice(documents(3), 300))
    assert first != list(islice(documents(4), 300))


def test_copying_comes_first_and_becomes_rare() -> None:
    def share(start: int) -> float:
        return sum(text.startswith("Sing: ") for text in islice(documents(0), start, start + 1500)) / 1500

    ((early, late),) = [shares for kind, *shares in KINDS if kind.__name__ == "chant"]
    assert early > 4 * late
    assert share(0) == pytest.approx(early, abs=0.06)
    assert share(EARLY_DOCUMENTS) == pytest.approx(late, abs=0.03)


def test_no_document_shows_a_nano_tasks_own_format(texts: dict[str, list[str]]) -> None:
    marks = ("Question", "Answer", "####", "Summary", "Note:", "How many", "Which patient", "Ward round")
    for kind, made in texts.items():
        for text in made:
            assert not [mark for mark in marks if mark in text], (kind, text)


def test_every_statement_of_arithmetic_is_true(texts: dict[str, list[str]]) -> None:
    for text in texts["facts"]:
        found = sums(text)
        assert len(found) == text.count("=") >= 4
        assert all(written == right >= 0 for written, right in found), text


def test_a_storys_work_is_true_and_ends_in_its_result(texts: dict[str, list[str]]) -> None:
    for text in texts["story"]:
        body, work, result = text.split("\n")
        found = sums(work)
        assert len(found) == work.count("=")
        assert all(written == right for written, right in found), text
        assert result.startswith(f"Result: {found[-1][0]} "), text
        assert result.split()[-1].rstrip(".") in body
        numbers = {int(n) for n in re.findall(r"\d+", body)}
        made = {written for written, _ in found}
        used = {int(n) for n in re.findall(r"\d+", work)}
        assert used <= numbers | made, text


def test_what_a_notes_lines_take_from_it_stands_in_it(texts: dict[str, list[str]]) -> None:
    for text in texts["note"]:
        body, *lines = text.split("\n")
        assert 3 <= len(lines) <= 6
        for line in lines:
            head, value = line.split(": ")
            for word in re.findall(r"\d+|\w+", value):
                if word not in ("of", "days", "weeks"):
                    assert word in body, (head, text)
            if head == "Brief":
                assert value.split(",")[0] in COMPLAINTS
            if head == "Past":
                assert value in HISTORY
            if head == "Drug":
                assert value in DRUGS


def test_a_lookups_second_sentence_pairs_as_its_first(texts: dict[str, list[str]]) -> None:
    values = {*COMPLAINTS, *PLACES, *COLORS, *THINGS}

    def pairs(sentence: str) -> dict[str, str]:
        words = re.findall(r"\w+", sentence)
        people, things = [w for w in words if w in NAMES], [w for w in words if w in values]
        return dict(zip(people, things, strict=True))

    for text in texts["lookup"]:
        first, second = text.split("\n")
        assert len(pairs(first)) >= 3
        assert pairs(second).items() <= pairs(first).items(), text
        assert len(pairs(second)) >= 2


def test_a_chant_repeats_its_words_in_order(texts: dict[str, list[str]]) -> None:
    for text in texts["chant"]:
        words = text.split()[1:]
        period = next(n for n in range(1, len(words) + 1) if all(w == words[i % n] for i, w in enumerate(words)))
        assert 2 <= period <= 10 <= len(words) <= 36


def test_a_turn_is_answered_rightly_in_the_chat_markup(texts: dict[str, list[str]]) -> None:
    for text in texts["turn"]:
        match = re.fullmatch(r"<\|user\|>\n(.+)<\|end\|>\n<\|assistant\|>\n(.+)", text)
        assert match is not None, text
        asked, reply = match.groups()
        if asked.startswith("Repeat: "):
            assert reply == asked[8:]
        else:
            ((written, right),) = sums(asked + reply)
            assert written == right
