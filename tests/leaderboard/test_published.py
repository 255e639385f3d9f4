"""Published numbers beside measured ones: which row is whose, what is compared, and what each form of it says."""

from __future__ import annotations

import json

import jsonschema
import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.cli.schema import json_schema
from slmbench.leaderboard import beside_text, build_leaderboard, load_runs, render_text, set_beside
from slmbench.leaderboard.writers import render_markdown
from slmbench.makings import Making
from slmbench.published import published_numbers
from slmbench.recipe import load_recipe
from slmbench.schema import PublishedSpec

RECIPE = "e" * 64
MADE = Making(frozenset({RECIPE}), frozenset({("nano_note",)}))
GOOD, BAD = [1] * 90 + [0] * 10, [0] * 100
ENTRY = {
    "value": 0.9,
    "metric": "exact_match/strict",
    "task": "nano_note",
    "adapter": "note",
    "source": "README",
    "counted": "by hand",
}


@pytest.fixture
def write_run(write_run):
    """The runs of a store, their adapters by a recipe unless a test says otherwise."""

    def write(run_id, scores, **options):
        trained = {"adapter.recipe_sha256": RECIPE} if options.get("adapter") else {}
        changes = trained | options.pop("changes", {})
        return write_run(run_id, scores, **options, changes=changes)

    return write


def beside(path, *entries, making=MADE):
    """The leaderboard of a store, with entries beside it that differ from ENTRY. making: how the recipe makes all."""
    runs, _ = load_runs(path)
    board = build_leaderboard(runs)
    found = published_numbers([PublishedSpec.model_validate({**ENTRY, **entry}) for entry in entries], "nano")
    numbers = [evolve(one, making=making if one.adapter is not None else None) for one in found]
    return evolve(board, published=set_beside(board, {run.run_id: run for run in runs}, numbers))


SOUP = {"method": "soup", "inputs": ["a", "b"]}
OF_TWO = Making(merged=frozenset({("soup", ("a", "b"))}))


def test_a_number_is_beside_its_own_row_and_told_where_it_is_against_the_interval(write_run, tmp_path) -> None:
    write_run("base", BAD)
    write_run("tuned", GOOD, adapter="note")
    board = beside(
        tmp_path, {}, {"value": 99, "unit": "percent"}, {"value": 0.5}, {"value": [0.5, 0.85]}, {"adapter": None}
    )
    assert [line.verdict for line in board.published] == [
        "in our interval",
        "above our interval",
        "below our interval",
        "in our interval",
        "above our interval",
    ]
    assert [line.row for line in board.published] == ["nano + note"] * 4 + ["nano"]
    assert board.published[0].written == "0.900 [0.826, 0.945], n 100"


def test_what_was_measured_under_other_conditions_is_shown_and_not_compared(write_run, tmp_path) -> None:
    settings = {"lr": "0.0002", "targets": "attention"}
    write_run("tuned", GOOD, adapter="note", changes={"adapter.settings": settings})
    write_run("few", GOOD[:50], adapter="few", limit=50)
    write_run("copy", GOOD, model="big-twin", adapter="note", changes={"model.twin": True})
    lines = beside(
        tmp_path,
        {"under": {"rank": 128, "lr": 2e-4, "shots": 5, "targets": "Attention"}},
        {"under": {"rank": 16, "lr": 2e-4, "shots": 0, "format": "plain", "cot": "off", "targets": "attention"}},
        {"under": {"steps": 60}},
        {"adapter": "few", "under": {"shots": 5}},
        {"model": "big"},
        {"fault": "the 1B's number"},
    ).published
    assert [line.told for line in lines] == [
        "not compared: shots 5 there, 0 here; rank 128 there, 16 here",
        "in our interval",
        "not compared: steps 60 there, unknown here",
        "not compared: ours is of limit 50; shots 5 there, 0 here",
        "not compared: ours is of a twin",
        "not compared: the published number can't be what it says",
    ]
    assert all(line.measured is not None for line in lines)


def test_what_nobody_measured_here_is_there_all_the_same(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    lines = beside(
        tmp_path,
        {"task": "other_task"},
        {"model": "big"},
        {"metric": "other", "called": "accuracy"},
        {"metric": "latency", "unit": "seconds"},
        {"metric": "rouge1"},
    ).published
    assert {line.written for line in lines} == {"not measured here"}
    assert [line.told for line in lines] == ["", "", "slmbench has no such metric", "", ""]


def test_seconds_are_those_of_runs_one_item_after_another_and_not_judged(write_run, tmp_path) -> None:
    write_run("base", BAD)
    write_run("alone", BAD, adapter="note", changes={"latency": "single stream"})
    [line, none] = beside(
        tmp_path, {"metric": "latency", "value": 80.9}, {"metric": "latency", "value": 80.9, "adapter": None}
    ).published
    assert line.written == "median 0.0 s, nine of ten within 2.0 s, n 100"
    assert line.told == "not compared: seconds compare on the same machine alone"
    assert none.measured is None


def test_a_whole_model_that_was_merged_or_trained_is_matched_by_its_own_name(write_run, tmp_path) -> None:
    write_run("merged", GOOD, model="soup", changes={"model.base": "nano", "model.merge": SOUP})
    write_run("trained", GOOD, model="whole", changes={"model.base": "nano", "model.recipe_sha256": RECIPE})
    [line] = beside(tmp_path, {"adapter": "soup"}, making=OF_TWO).published
    assert (line.row, line.verdict) == ("soup", "in our interval")
    by_recipe = {"model.base": "nano", "model.setting_sha256": RECIPE}
    write_run("beside", GOOD, model="nano-full", changes=by_recipe)  # As `slmbench run` calls it.
    lines = beside(tmp_path, {"adapter": "whole"}, {"adapter": "full"}).published
    assert [(line.row, line.verdict) for line in lines] == [
        (name, "in our interval") for name in ("whole", "nano-full")
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.base": "big", "model.merge": SOUP}, ""),
        ({"model.base": "nano-twin", "model.merge": SOUP}, "not compared: ours is of a twin"),
        ({"model.base": "nano"}, "not compared: nothing says what ours was merged of"),
        ({"model.merge": SOUP}, "not compared: nothing says what ours was made of"),
        ({"model.base": "nano", "model.merge": {"method": "ties", "inputs": ["a"]}}, "not compared: ours is ties of a"),
    ],
)
def test_a_whole_model_that_is_only_called_so_is_not_compared(write_run, tmp_path, changes, told) -> None:
    write_run("merged", GOOD, model="soup", changes=changes)
    [line] = beside(tmp_path, {"adapter": "soup"}, making=OF_TWO).published
    assert (line.told, line.row) == (told, "soup" if told else "")


def test_a_merged_adapter_is_matched_by_what_it_was_merged_of(write_run, tmp_path) -> None:
    for name, method in (("soup", "merged: soup of a, b"), ("broth", "merged: ties of a, c")):
        changes = {"adapter.method": method, "adapter.recipe": None, "adapter.recipe_sha256": None}
        write_run(name, GOOD, adapter=name, changes=changes)
    lines = beside(tmp_path, {"adapter": "soup"}, {"adapter": "broth"}, making=OF_TWO).published
    assert [line.told for line in lines] == ["in our interval", "not compared: ours is ties of a, c"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"adapter.tasks": ["nano_choice"]}, "ours was trained on nano_choice"),
        ({}, "ours was trained with other settings than the recipe's"),
        ({"adapter.recipe_sha256": None}, "nothing says how ours was trained"),
        ({"adapter.setting_sha256": RECIPE}, None),  # Another seed.
    ],
)
def test_an_adapter_of_that_name_that_the_recipe_does_not_make_is_not_compared(
    write_run, tmp_path, changes, told
) -> None:
    write_run("tuned", GOOD, adapter="note", changes={"adapter.recipe_sha256": "f" * 64, **changes})
    [line] = beside(tmp_path, {}).published
    assert line.told == ("in our interval" if told is None else f"not compared: {told}")
    [line] = beside(tmp_path, {}, making=Making()).published
    assert line.told == "not compared: the recipe trains no such adapter"


def test_a_recipe_s_own_adapters_are_those_of_its_file_and_of_sweeps_over_what_the_number_says(
    write_run, tmp_path
) -> None:
    path = tmp_path / "pub.yaml"
    entries = [
        {**ENTRY, "metric": "rouge1", "under": under} for under in ({}, {"rank": 128, "alpha": 16}, {"steps": 7})
    ]
    adapters = "adapters: {note: {tasks: [nano_note]}}\noptim: {steps: 200}\nevaluation: {suite: nano}"
    path.write_text(f"summary: s\nmodel: nano\n{adapters}\npublished: {json.dumps(entries)}\n")
    recipe = load_recipe(str(path), default_catalog(), ["optim.steps=1"])
    swept = ([], ["lora.rank=128", "lora.alpha=16", "seed=3"], ["optim.steps=7"], ["optim.steps=1"])
    settings = ({"alpha": "8"}, {"alpha": "16"}, {"steps": "7"}, {})
    told = []
    for number, (overrides, own) in enumerate(zip(swept, settings, strict=True)):
        made = load_recipe(str(path), default_catalog(), overrides)
        digests = {"recipe_sha256": made.digest_of("note"), "setting_sha256": made.digest_of("note", seed=False)}
        facts = {**digests, "rank": made.spec.lora.rank, "settings": own}
        out = tmp_path / str(number)
        write_run(
            "run", {"rouge1": GOOD}, adapter="note", out=out, changes={f"adapter.{key}": facts[key] for key in facts}
        )
        runs, _ = load_runs(out)
        lines = set_beside(build_leaderboard(runs), {run.run_id: run for run in runs}, recipe.published)
        told.append([bool(line.verdict) for line in lines])
    assert told == [[True, False, False], [False, True, False], [False, False, True], [False] * 3]


def test_what_is_held_in_fewer_bits_is_compared_with_what_was_held_so_alone(write_run, tmp_path) -> None:
    write_run("packed", GOOD, adapter="note", changes={"model.quantization": "nf4+double"})
    write_run("whole", GOOD, adapter="whole")
    lines = beside(
        tmp_path,
        {},
        {"under": {"quantization": "nf4"}},
        {"under": {"quantization": "nf4+double"}},
        {"under": {"quantization": "int8"}},
        {"adapter": "whole", "under": {"quantization": "nf4"}},
    ).published
    assert [line.told for line in lines] == [
        "not compared: ours is held in nf4+double",
        "in our interval",
        "in our interval",
        "not compared: held in int8 there, in nf4+double here",
        "not compared: held in nf4 there, whole here",
    ]


def test_each_way_that_a_task_was_asked_in_has_its_own_line(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    write_run("chat", BAD, adapter="note", key="chat", changes={"format": "chat"})
    lines = beside(tmp_path, {"under": {"format": "chat"}}).published
    assert [(line.condition, bool(line.verdict)) for line in lines] == [("plain", False), ("chat", True)]


def test_the_terminal_shows_what_is_measured_with_its_marks_and_counts_the_rest(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    board = beside(
        tmp_path,
        {"fault": "pass@10 printed\x1b[2J", "in_files": {"value": 0.25, "source": "a notebook"}},
        {"task": "elsewhere"},
        *({"under": {"shots": shots}} for shots in (5, 5, 0)),
    )
    text = render_text(board, 100, color=False)
    assert "2 more published numbers not compared (shots 5 there, 0 here): on the page" in text
    assert "published beside measured" in text and "\x1b" not in text
    line, other = [one for one in text.splitlines() if one.startswith("nano_note/exact_match/strict ")]
    assert "nano + note (shots 0); here nano + note: in our interval" in text and other.split()[1] == "0.9"
    assert line.split()[1:4] == ["0.9", "0.25", "0.900"]
    assert "  ! pass@10 printed\u241b[2J" in text
    assert "1 more published number with nothing measured beside: on the page" in text
    for width in (24, 60, 72, 100):
        shown = beside_text(board.published, width, lambda said, color: said, whole=True)
        assert any("counted: by hand" in one for one in shown)
        assert sum("elsewhere" in one for one in shown) == 1
        assert max(map(len, shown)) <= max(width, 50)


def test_json_and_markdown_hold_all_of_it_and_text_is_no_markup(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    board = beside(
        tmp_path,
        {"fault": "<b>|**", "in_files": {"value": 0.25, "source": "a notebook"}, "under": {"lr": 2e-4}},
        {"task": "elsewhere"},
    )
    content = board.as_json()
    jsonschema.Draft202012Validator(json_schema("leaderboard")).validate(content)
    first, second = json.loads(json.dumps(content))["published"]
    assert first["measured"]["ci_low"] < 0.9 < first["measured"]["ci_high"] and first["measured"]["n"] == 100
    assert (first["row"], first["verdict"], first["in_files"]["written"]) == ("nano + note", None, "0.25")
    assert first["under"] == {"lr": 0.0002} and first["fault"] == "<b>|**"
    assert (second["row"], second["measured"], second["why_not"]) == (None, None, "not measured here")
    lines = render_markdown(board).split("## Published beside measured")[1].splitlines()
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 4 and len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "**\\<b\\>\\|\\*\\***" in table[2] and "not measured here" in table[3]


def test_a_leaderboard_without_published_numbers_has_no_such_section(write_run, tmp_path) -> None:
    write_run("tuned", GOOD, adapter="note")
    board = beside(tmp_path)
    assert board.as_json()["published"] == []
    assert "ublished" not in render_text(board, 100, color=False) + render_markdown(board)
