"""The page draws how the evaluated adapters were trained, and nothing that anybody else put in their place."""

from __future__ import annotations

import json
import math
import random
import re
import xml.etree.ElementTree as ElementTree

import pytest

from slmbench.leaderboard import build_leaderboard, load_runs, write_leaderboard
from slmbench.leaderboard._page_training import POINTS_SHOWN, _thinned, _ticks
from slmbench.models import read_adapter


def record(steps=60, tasks=("gsm8k", "ropes"), validation=True, every=10):
    """A training.json of falling losses."""
    chance = random.Random(0)

    def losses(step):
        return {task: 0.4 + 2.2 * math.exp(-step / 25) + chance.random() / 5 + i / 3 for i, task in enumerate(tasks)}

    def point(step, **more):
        parts = {task: {"loss": loss, "tokens": 900, "rows": 20} for task, loss in losses(step).items()}
        return {"step": step, "loss": 1.0, "tasks": parts} | more

    train = [point(step, lr=2e-4, grad_norm=0.5, seconds=step / 2) for step in range(every, steps + 1, every)]
    held = [point(step) for step in range(20, steps + 1, 20)] if validation else []
    share = {task: {"rows": 240, "tokens": 52_000, "share": 0.625 - i / 4} for i, task in enumerate(tasks)}
    return {
        "schema": 2,
        "method": "lora",
        "steps": steps,
        "train_s": 412.0,
        "trainable_parameters": 1_130_000,
        "mixture": {"unit": "tokens", "tasks": share},
        "tasks": {
            task: {
                "rows": 389,
                "tokens": 81_234,
                "truncated_rows": 7,
                "truncated_answers": 2,
                "dropped_rows": 11,
                "dropped": {"contamination": 8, "no answer": 3},
            }
            for task in tasks
        },
        "curves": {"train": train, "validation": held},
    }


@pytest.fixture
def write_adapter(tmp_path):
    """write_adapter(name, training) -> its digest; the folder is where a training puts it."""

    def write(name, training, root=tmp_path):
        import numpy as np
        from safetensors.numpy import save_file

        folder = root / "adapters" / name
        folder.mkdir(parents=True)
        save_file({"lora_A": np.ones((4, 8), np.float32)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
        text = training if isinstance(training, str) else json.dumps(training)
        (folder / "training.json").write_text(text)
        return read_adapter(str(folder)).sha256

    return write


@pytest.fixture
def page_of(tmp_path):
    """page_of() -> the page over all runs that were written."""

    def make():
        runs, notices = load_runs(tmp_path)
        write_leaderboard(build_leaderboard(runs, notices=notices), runs, tmp_path / "leaderboard")
        return (tmp_path / "leaderboard" / "index.html").read_text(encoding="utf-8")

    return make


def section(page):
    """The part about training as a tree, None where there is none."""
    found = re.search(r'<section id="training">.*?</table></div></section></section>', page, re.DOTALL)
    return ElementTree.fromstring(found[0].replace("<wbr>", "")) if found else None


def words(element):
    return " ".join("".join(element.itertext()).split())


@pytest.fixture
def shown(write_run, write_adapter, page_of):
    """shown(training, **record changes) -> the section of a page with one adapter's run and its base's."""

    def make(training, name="mixed", **changes):
        digest = write_adapter("mixed", training)
        write_run("base", [0, 1] * 10)
        write_run("tuned", [1, 1] * 10, adapter=name, changes={"adapter.sha256": digest, **changes})
        return section(page_of())

    return make


def test_every_task_has_a_figure_with_its_losses_at_one_scale(shown):
    found = shown(record())
    figures = found.findall(".//figure")
    assert [words(figure.find("figcaption")) for figure in figures] == ["gsm8k", "ropes"]
    scales = []
    for figure in figures:
        lines = {line.get("class"): line.get("points").split() for line in figure.findall(".//polyline")}
        assert {kind: len(places) for kind, places in lines.items()} == {"train": 6, "held": 3}
        heights = [float(place.split(",")[1]) for place in lines["train"]]
        assert heights[0] < heights[-1]
        assert all(
            0 <= float(part) <= 340 for places in lines.values() for place in places for part in place.split(",")
        )
        scales.append([text.text for text in figure.findall(".//text")])
    assert scales[0] == scales[1]
    assert scales[0][-2:] == ["0", "step 60"]


def test_the_heights_are_those_of_the_losses(shown):
    training = record(validation=False, tasks=("a",))
    found = shown(training)
    losses = [point["tasks"]["a"]["loss"] for point in training["curves"]["train"]]
    heights = [float(place.split(",")[1]) for place in found.find(".//polyline").get("points").split()]
    labels = {
        float(text.text): float(text.get("y")) for text in found.findall(".//text") if "loss" in text.get("class")
    }
    (low, at_low), (high, at_high) = min(labels.items()), max(labels.items())
    for loss, height in zip(losses, heights, strict=True):
        assert height == pytest.approx(at_low + (at_high - at_low) * (loss - low) / (high - low), abs=0.06)


def test_a_table_tells_rows_tokens_share_truncated_left_out_and_last_loss(shown):
    training = record()
    found = shown(training)
    cells = [words(cell) for cell in found.findall(".//tbody/tr")[1]]
    last = [training["curves"][kind][-1]["tasks"]["ropes"]["loss"] for kind in ("train", "validation")]
    assert cells == [
        "ropes",
        "389",
        "81,234",
        "37.5%",
        "72 without their end",
        "118 contamination, 3 no answer",
        *(f"{loss:.3f}" for loss in last),
    ]
    assert "lora, 1.1M trained parameters, 60 steps, 6.9 min" in words(found)


def test_a_task_without_validation_has_a_line_alone(shown):
    found = shown(record(validation=False))
    assert [line.get("class") for line in found.findall(".//polyline")] == ["train", "train"]
    assert words(found.findall(".//tbody/tr")[0][-1]) == "\u2014"


def test_one_point_is_a_dot(shown):
    found = shown(record(steps=10, validation=False))
    assert found.findall(".//polyline") == []
    assert [dot.get("class") for dot in found.findall(".//circle")] == ["train", "train"]


def test_another_adapter_of_that_name_is_not_taken_for_the_one_that_was_run(shown):
    assert shown(record(), **{"adapter.sha256": "0" * 64}) is None


@pytest.mark.parametrize("name", ["../adapters/mixed", "..", ".", "sub/mixed", "mixed\0"])
def test_a_name_from_a_record_leads_out_of_no_folder(shown, name):
    assert shown(record(), **{"adapter.name": name}) is None


@pytest.mark.parametrize(
    "training",
    [
        "{",
        "[]",
        "{}",
        '{"curves": null}',
        '{"curves": {"train": {}, "validation": 3}}',
        '{"curves": {"train": [null, 3, {"step": "x", "tasks": {"a": {"loss": 1}}}, {"step": 1, "tasks": {"a": 4}}]}}',
        '{"curves": {"train": [{"step": 1, "tasks": {"a": {"loss": NaN}, "b": {}, "c": {"loss": 1e999}}}]}}',
    ],
)
def test_a_damaged_training_leaves_the_page_without_a_figure(write_run, write_adapter, page_of, tmp_path, training):
    digest = write_adapter("sound", record())
    (tmp_path / "adapters" / "sound" / "training.json").write_text(training)
    write_run("tuned", [1, 0] * 10, adapter="sound", changes={"adapter.sha256": digest})
    page = page_of()
    assert section(page) is None
    assert "tuned" in page


def test_texts_stay_texts_and_losses_that_are_none_are_left_out(shown):
    training = record(tasks=("</svg><script>alert(1)</script>", "ropes"))
    training["method"] = '"><img src=x onerror=alert(1)>'
    training["tasks"]["ropes"] = {"dropped": {"<b>": 2}}
    training["curves"]["train"][2]["tasks"]["ropes"]["loss"] = None
    found = shown(json.dumps(training))
    assert {element.tag for element in found.iter()} == {
        *(
            "section",
            "h2",
            "h3",
            "p",
            "span",
            "div",
            "figure",
            "figcaption",
            "svg",
            "line",
            "text",
            "polyline",
            "circle",
        ),
        *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    }
    assert "</svg><script>alert(1)</script>" in words(found)
    assert len(found.findall(".//figure")[1].find(".//polyline").get("points").split()) == 5
    assert [words(cell) for cell in found.findall(".//tbody/tr")[1]][1:4] == ["\u2014", "\u2014", "37.5%"]


def test_no_style_and_no_handler_is_in_the_markup(shown):
    for element in shown(record()).iter():
        assert not [key for key in element.attrib if key == "style" or key.startswith("on") or "href" in key]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([0.1, 2.9], [0, 1, 2, 3]),
        ([2.1, 2.4], [2.1, 2.2, 2.3, 2.4]),
        ([1.0], [1, 1.25]),
        ([0.0, 0.0], [0, 0.25]),
        ([7.0, 10.8], [7, 8, 9, 10, 11]),
        ([0.0004, 0.0021], [0, 0.001, 0.002, 0.003]),
    ],
)
def test_ticks_are_round_and_hold_all_losses(losses, expected):
    ticks = _ticks(losses)
    assert ticks == pytest.approx(expected)
    assert ticks[0] <= min(losses) and max(losses) <= ticks[-1]


def test_long_curves_are_thinned_to_means_of_neighbours():
    points = [(float(i), chance, 1.0 + i % 3) for i, chance in enumerate(random.Random(1).choices(range(9), k=1000))]
    thin = _thinned(points)
    assert len(thin) <= POINTS_SHOWN
    assert thin[-1][0] == 999.0
    mean = sum(loss * tokens for _, loss, tokens in points) / sum(tokens for *_, tokens in points)
    assert sum(loss * tokens for _, loss, tokens in thin) / sum(tokens for *_, tokens in thin) == pytest.approx(mean)
    assert _thinned(points[:POINTS_SHOWN]) == points[:POINTS_SHOWN]


def test_an_adapter_that_was_set_aside_keeps_its_figure(write_run, write_adapter, page_of, tmp_path):
    write_adapter("mixed-0123456789ab", record(steps=30))
    write_adapter("mixed", record(steps=60))
    write_adapter("mixed-other", record(steps=90))
    write_adapter("mixed-ba9876543210", record(steps=120))
    folder = tmp_path / "adapters" / "mixed-ba9876543210"
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 5}')
    digest = read_adapter(str(folder)).sha256
    write_run("base", [0, 1] * 10)
    write_run("tuned", [1, 1] * 10, adapter="mixed", changes={"adapter.sha256": digest})
    assert "120 steps" in words(section(page_of()))
