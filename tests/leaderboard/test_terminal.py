from __future__ import annotations

import re

import pytest

from slmbench.console.columns import display_width, fit
from slmbench.leaderboard import build_leaderboard, load_runs, render_text
from slmbench.leaderboard.texts import count, duration, number, size
from slmbench.visible import visible

TASKS = ("nano_arithmetic", "nano_choice", "nano_code", "nano_note")


@pytest.fixture
def wide(write_run, tmp_path):
    for task in TASKS:
        write_run(f"base-{task}", {"exact_match/strict": [0] * 50, "rouge/rougeL": [0.25, 0.5] * 25}, task=task)
        write_run(
            f"tuned-{task}",
            {"exact_match/strict": [1] * 49 + [0], "rouge/rougeL": [0.75, 0.5] * 25},
            task=task,
            adapter="a-rather-long-adapter-name-that-has-to-be-cut",
        )
    return build_leaderboard(load_runs(tmp_path)[0], "nano")


@pytest.mark.parametrize("width", [24, 40, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(wide, width) -> None:
    for line in render_text(wide, width, color=False).splitlines():
        assert display_width(line) <= width


def test_every_task_is_there_at_80_columns_by_its_primary_metric_and_the_mean(wide) -> None:
    text = render_text(wide, 80, color=False)
    assert "rouge" not in text and "4 more columns are on the page" in text
    assert "mean: over 4 tasks; 0 is guessing" in " ".join(text.split())
    lines = [line for line in text.splitlines() if "0.980" in line]
    mean = next(line for line in text.splitlines() if line.split()[-2:] == ["mean", "nano_arithmetic"])
    # The mean of four equal tasks has half the interval of one, and Wilson's skew.
    made = wide.rows[0].aggregate
    shown = f"0.980 [{made.ci_low:.3f}, {made.ci_high:.3f}]".replace(" 0.", " .").replace("[0.", "[.")
    assert mean and shown in lines[0]
    for task in TASKS:
        assert task in text
    # Wilson's intervals for 49 of 50, and for 0 of 50, which aren't symmetric.
    assert text.count("0.980 [.895, .996] *") == len(TASKS)
    assert text.count("0.000 [.000, .071]") == len(TASKS)


def test_plus_minus_is_for_symmetric_intervals_alone(write_run, tmp_path) -> None:
    write_run("base", {"edits": [3.0, 4.0, 8.0], "rouge": [0.0, 0.0, 0.1]}, higher_is_better=False)
    text = render_text(build_leaderboard(load_runs(tmp_path)[0]), 80, color=False)
    assert "5.000 \u00b16.572" in text  # Student's t on two degrees of freedom.
    assert re.search(r"0\.033 \[\.00[0-9], \.[0-9]{3}\]", text)


def test_a_score_of_one_has_its_interval_too(write_run, tmp_path) -> None:
    write_run("right", {"exact_match": [1] * 200})
    write_run("wrong", {"exact_match": [0] * 200}, adapter="wrong")
    text = render_text(build_leaderboard(load_runs(tmp_path)[0]), 80, color=False)
    assert "1.000 [.981, 1.000] *" in text  # Wilson's, one character longer than most.


def test_a_narrow_terminal_keeps_the_scores_and_leaves_out_intervals(wide) -> None:
    text = render_text(wide, 24, color=False)
    assert text.count("0.980 *\n") == len(TASKS) + 1  # And the mean.
    assert "[" not in text.replace("[ ]", "")


def test_a_wide_terminal_needs_one_block(wide) -> None:
    assert render_text(wide, 250, color=False).count("exact_match/strict") == len(TASKS)
    assert render_text(wide, 250, color=False).count("has-to-be-cut") == 1
    assert render_text(wide, 80, color=False).count("has-to-be-cut") > 1


@pytest.mark.parametrize("width", [60, 80, 200])
def test_rows_of_one_long_model_are_told_apart(write_run, tmp_path, width) -> None:
    for adapter in (None, "python", "gsm8k"):
        write_run(f"run-{adapter}", [0, 1], model="a-model-with-quite-a-long-name-1b-instruct", adapter=adapter)
    lines = render_text(build_leaderboard(load_runs(tmp_path)[0]), width, color=False).splitlines()
    names = [line.split("  ")[0] for line in lines if "0.500 " in line]
    assert len(set(names)) == 3
    assert {name.rsplit(" ", 1)[-1] for name in names} >= {"python", "gsm8k"}


def test_a_metric_that_is_too_long_takes_two_lines(write_run, tmp_path) -> None:
    write_run("base", {"bertscore/some-encoder-12": [0.5, 0.25], "rouge1": [0.5, 0.25]})
    head = render_text(build_leaderboard(load_runs(tmp_path)[0]), 80, color=False).splitlines()[2:6]
    assert [line.split() for line in head[1:3]] == [["bertscore/"], ["some-encoder-12", "rouge1"]]
    assert set(head[3]) == {"-"}


def test_rows_with_the_same_badges_share_a_line(write_run, tmp_path) -> None:
    write_run("base", [1] * 20, limit=20)
    write_run("tuned", [1] * 20, limit=20, adapter="note")
    text = render_text(build_leaderboard(load_runs(tmp_path)[0]), 80, color=False)
    assert text.count("limit 20") == 1 and "! the first items alone, ranked among themselves (limit 20): all" in text
    write_run("whole", [1] * 40, adapter="whole")
    text = render_text(build_leaderboard(load_runs(tmp_path)[0]), 80, color=False)
    assert "! nano, nano + note: limit 20\n" in text


def test_color_adds_escapes_and_nothing_else(wide) -> None:
    plain = render_text(wide, 100, color=False)
    colored = render_text(wide, 100, color=True)
    assert "\x1b" not in plain
    assert "\x1b[32m" in colored
    stripped = re.sub("\x1b\\[[0-9]+m", "", colored)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


def test_all_of_a_tied_lead_is_marked(write_run, tmp_path) -> None:
    write_run("one", [1] * 20 + [0], model="one")
    write_run("two", [1] * 19 + [0, 0], model="two")
    assert render_text(build_leaderboard(load_runs(tmp_path)[0]), 80, color=False).count(" =\n") == 2


def test_a_run_that_may_not_be_ranked_has_no_mark_but_a_reason(write_run, tmp_path) -> None:
    write_run("one", [1] * 20, limit=20)
    text = render_text(build_leaderboard(load_runs(tmp_path)[0]), 80, color=False)
    assert " *" not in text
    assert "nano !" in text
    assert "! nano: limit 20" in text


def test_of_hundreds_of_rows_the_first_and_this_calls_are_shown(write_run, tmp_path) -> None:
    for position in range(45):
        write_run(f"run-{position}", [int(position > 20), 1, 0], model=f"model-{position:02}")
    board = build_leaderboard(load_runs(tmp_path)[0])
    last = board.rows[-1]
    text = render_text(board, 100, color=False, own=[next(iter(last.cells.values())).run_id])
    assert sum(line.startswith("model-") for line in text.splitlines()) == 41
    assert f"...\n{last.name} " in text
    assert "the first 40 rows; 4 more are on the page\n" in text
    assert "4 more" not in render_text(build_leaderboard(load_runs(tmp_path)[0][:40]), 100, color=False)


def test_lower_is_better_is_said(write_run, tmp_path) -> None:
    write_run("one", {"edits": [3.0, 120.5]}, higher_is_better=False)
    text = render_text(build_leaderboard(load_runs(tmp_path)[0]), 80, color=False)
    assert "lower is better: nano_note/edits" in " ".join(text.split())


def test_escapes_in_names_are_shown_and_not_sent(write_run, tmp_path) -> None:
    write_run("one", [1, 0], model="\x1b]0;owned\x07\u202enano", task="\x9b2Jtask")
    text = render_text(build_leaderboard(load_runs(tmp_path)[0]), 80, color=False)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "\u241b]0;owned\u2407" in text


def test_no_finished_runs_is_said_with_the_reason(write_run, tmp_path) -> None:
    write_run("one", [1], status="started")
    runs, notices = load_runs(tmp_path)
    text = render_text(build_leaderboard(runs, notices=notices), 80, color=False)
    assert "no finished runs" in text
    assert "! one: unfinished run" in text


def test_visible_replaces_controls_directions_and_surrogates() -> None:
    assert visible("a\x00\x1b\x7f\x85") == "a\u2400\u241b\u2421\u27e8U+0085\u27e9"
    assert visible("\u202a\u2066\u2028\ud800") == "".join(
        f"\u27e8U+{code}\u27e9" for code in ("202A", "2066", "2028", "D800")
    )
    assert visible("a\n\tb", keep="\n\t") == "a\n\tb"
    assert visible("na\u00efve \u4e2d\U0001f600") == "na\u00efve \u4e2d\U0001f600"


def test_fit_counts_wide_characters_twice() -> None:
    assert fit("\u4e2d\u6587", 3) == "\u4e2d\u2026"
    assert fit("ab", 4, right=True) == "  ab"
    assert display_width(fit("\u4e2d\u6587\u4e2d", 4)) == 4


def test_amounts_are_short() -> None:
    assert [count(value) for value in (0, 950, 12_345, 999_600, 1_100_000, 4e9)] == [
        "0", "950", "12.3k", "1.0M", "1.1M", "4.0B",
    ]  # fmt: skip
    assert [size(value) for value in (0, 512, 1_130_000, 7.9e9)] == ["0", "512 B", "1.1 MB", "7.9 GB"]
    assert [duration(value) for value in (0, 0.42, 25, 210, 7560)] == ["0", "0.4 s", "25 s", "3.5 min", "2.1 h"]
    assert [number(value) for value in (0.84, -0.05, 1234.5)] == ["0.840", "-0.050", "1234"]
