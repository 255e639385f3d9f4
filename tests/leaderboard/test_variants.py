"""Twins, packed bases and ways of training, wherever a leaderboard is shown."""

from __future__ import annotations

import csv
import io
import json

import pytest

from slmbench.leaderboard import build_leaderboard, load_runs, render_text, write_leaderboard
from slmbench.leaderboard._records import RunProblems
from slmbench.leaderboard.page import render_page
from slmbench.leaderboard.spreadsheets import render_csv
from slmbench.leaderboard.writers import render_markdown


@pytest.fixture
def shown(write_run, tmp_path):
    """Four rows: a base, the same packed, an adapter on each; and a twin."""
    packed = {"model.quantization": "nf4+double"}
    write_run("base", [0] * 20)
    write_run("packed", [0] * 20, changes=packed)
    write_run("tuned", [1] * 20, adapter="note", changes={"adapter.method": "lora"})
    write_run("tuned-packed", [1] * 20, adapter="note", changes={**packed, "adapter.method": "qlora, dora"})
    write_run("random", [1] * 20, model="nano-twin", changes={"model.twin": True})
    runs, notices = load_runs(tmp_path)
    return build_leaderboard(runs, notices=notices), runs


def test_a_packed_base_is_a_row_of_its_own_ranked_with_the_others(shown) -> None:
    board, _ = shown
    rows = {row.name: row for row in board.rows}
    assert set(rows) == {"nano", "nano (nf4+double)", "nano + note", "nano (nf4+double) + note", "nano-twin"}
    (column,) = board.columns
    assert column.ranked == 4
    ranks = {name: row.cells[column.key].rank_low for name, row in rows.items()}
    assert ranks == {"nano": 3, "nano (nf4+double)": 3, "nano + note": 1, "nano (nf4+double) + note": 1,
                     "nano-twin": None}  # fmt: skip


def test_a_twin_is_badged_and_unranked_everywhere(shown, tmp_path) -> None:
    board, runs = shown
    assert [row.badges for row in board.rows if row.badges] == [("twin",)]
    assert "not ranked (twin): nano-twin on nano_note" in [notice.text for notice in board.notices]
    (row,) = [row for row in board.as_json()["rows"] if row["name"] == "nano-twin"]
    assert row["badges"] == ["twin"]
    assert not {"rank_low", "rank_high"} & set(row["scores"]["nano_note/exact_match/strict"])
    assert "! nano-twin: twin" in render_text(board, 100, False)
    assert "nano-twin (twin)" in render_markdown(board)
    (line,) = [line for line in csv.DictReader(io.StringIO(render_csv(board))) if line["name"] == "nano-twin"]
    assert (line["badges"], line["rank_low"]) == ("twin", "")
    page = render_page(board, runs)
    assert '<th scope="row">nano-twin (twin)</th>' in page
    assert "shows that everything runs. Never ranked." in page


def test_a_legend_of_twins_needs_twins(write_run, tmp_path) -> None:
    write_run("base", [0, 1])
    runs, _ = load_runs(tmp_path)
    assert "Never ranked." not in render_page(build_leaderboard(runs), runs)


def test_quantization_and_method_are_in_every_form(shown) -> None:
    board, runs = shown
    by_name = {row["name"]: row for row in board.as_json()["rows"]}
    assert not {"quantization", "method"} & set(by_name["nano"])
    assert (by_name["nano + note"]["method"], by_name["nano + note"].get("quantization")) == ("lora", None)
    both = by_name["nano (nf4+double) + note"]
    assert (both["model"], both["quantization"], both["method"]) == ("nano", "nf4+double", "qlora, dora")
    lines = {line["name"]: line for line in csv.DictReader(io.StringIO(render_csv(board)))}
    assert (lines["nano"]["quantization"], lines["nano"]["method"]) == ("", "")
    assert (lines[both["name"]]["quantization"], lines[both["name"]]["method"]) == ("nf4+double", "qlora, dora")
    markdown = render_markdown(board)
    assert "1.1 MB, qlora, dora |" in markdown
    assert "nano (nf4+double) + note" in markdown
    page = render_page(board, runs)
    assert page.count('"quant":"nf4+double"') == 2
    assert '"method":"qlora, dora"' in page
    assert "nano (nf4+double)" in render_text(board, 100, False)


def test_two_packings_of_one_model_are_two_rows(write_run, tmp_path) -> None:
    for packing in ("nf4", "fp4"):
        write_run(packing, [0, 1], changes={"model.quantization": packing})
    assert [row.name for row in build_leaderboard(load_runs(tmp_path)[0]).rows] == ["nano (fp4)", "nano (nf4)"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.twin": "no"}, 'field model.twin is "no", has to be true or false'),
        ({"model.quantization": 4}, "field model.quantization is 4, has to be a text"),
        ({"adapter.method": ["lora"]}, "field adapter.method is a list of 1, has to be a text"),
    ],
)
def test_a_record_that_says_it_in_another_type_is_refused(write_run, tmp_path, changes, told) -> None:
    write_run("odd", [1, 0], adapter="note", changes=changes)
    with pytest.raises(RunProblems) as caught:
        load_runs(tmp_path)
    assert told in str(caught.value)


def test_hostile_names_of_packings_are_text(write_run, tmp_path) -> None:
    attack = "</script><script>alert(1)</script>\x1b]0;x\x07|"
    write_run("odd", [1, 0], adapter="note", changes={"model.quantization": attack, "adapter.method": "=1+" + attack})
    runs, _ = load_runs(tmp_path)
    board = build_leaderboard(runs)
    for path in write_leaderboard(board, runs, tmp_path / "out"):
        text = path.read_text()
        assert "\x1b" not in text
        if path.suffix != ".json":  # A JSON file is no page; markup in it is escaped by whoever shows it.
            assert "<script>alert" not in text or path.suffix == ".csv"
    assert "\x1b" not in render_text(board, 100, False)
    (line,) = csv.DictReader(io.StringIO(render_csv(board)))
    assert line["method"].startswith("'=")
    assert json.loads((tmp_path / "out" / "leaderboard.json").read_text())["rows"][0]["quantization"] == attack
