"""Word diffs: what is marked, where lines break, and how far they go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slmbench.console.columns import display_width
from slmbench.console.word_diff import OF_A, REMOVED, beside, excerpts, marked, word_diff

TEXTS = st.lists(st.sampled_from(["a", "b", " ", "\n", "\t", "\u4e16", "e\u0301", "\x1b[31m", "\u202e", "word "])).map(
    "".join
)


def test_own_words_are_marked_as_git_marks_them():
    lines = beside("11-9=4. so\n#### 27", "11-9=2. so\n#### 25", 80, colored=False)
    assert [line.split("  |  ") for line in lines] == [
        ["[-11-9=4.-] so".ljust(37), "{+11-9=2.+} so"],
        ["#### [-27-]".ljust(37), "#### {+25+}"],
    ]


def test_white_space_counts_for_nothing_and_texts_alike_have_no_mark():
    assert not any(word.own for words in word_diff("a  b\nc", "a b c") for word in words)
    assert [word.own for word in word_diff("", "a b")[1]] == [True, True]


def test_colours_stand_for_signs_on_a_terminal():
    assert beside("one", "two", 80, colored=True)[0].startswith("\x1b[33mone\x1b[0m")


@given(TEXTS, TEXTS, st.integers(20, 130))
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(first, second, width):
    for colored in (True, False):
        for line in beside(first, second, width, colored=colored):
            for color in ("\x1b[33m", "\x1b[36m", "\x1b[2m", "\x1b[0m"):
                line = line.replace(color, "")
            assert "\x1b" not in line and "\u202e" not in line and display_width(line) <= width
    words, _ = word_diff(first, second)
    shown = "".join(marked(words, OF_A, width)).replace("\x1b[33m", "").replace("\x1b[0m", "")
    assert "".join(shown.split()) == "".join("".join(first.split()).replace("\x1b", "\u241b").split()).replace(
        "\u202e", "\u27e8U+202E\u27e9"
    )


def test_excerpts_begin_where_the_difference_is_in_sight():
    start = "word " * 5000
    first, second = excerpts(f"{start}end a", f"{start}end b {'z ' * 300}", 400)
    assert first.startswith("\u2026 word") and first.endswith("end a") and len(first) < 100
    assert "end b z" in second and second.endswith("more characters)")
    assert excerpts("short", "texts", 400) == ("short", "texts")
    assert excerpts("x" * 900, "y", 400)[0] == "x" * 400 + " \u2026 (500 more characters)"
    assert marked(word_diff("a", "b")[0], REMOVED, 10) == ["[-a-]     "]
