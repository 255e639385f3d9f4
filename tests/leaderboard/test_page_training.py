"""The page draws how the evaluated adapters were trained, and nothing that anybody else put in their place."""

from __future__ import annotations

import json
import math
import random

import pytest

from slmbench.leaderboard import _page_training, build_leaderboard, load_runs, write_leaderboard
from slmbench.leaderboard._page_training import POINTS_SHOWN, _thinned, _ticks
from slmbench.models import read_adapter
from tests.leaderboard.conftest import read_page


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

    def write(name, training, root=tmp_path, rank=4):
        import numpy as np
        from safetensors.numpy import save_file

        folder = root / "adapters" / name
        folder.mkdir(parents=True)
        save_file({"lora_A": np.ones((4, 8), np.float32)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank}))
        text = training if isinstance(training, str) else json.dumps(training)
        (folder / "training.json").write_text(text)
        return read_adapter(str(folder)).sha256

    return write


@pytest.fixture
def read_weights(monkeypatch):
    """The folders whose weights the page has read."""
    folders = []
    monkeypatch.setattr(_page_training, "read_adapter", lambda folder: folders.append(folder) or read_adapter(folder))
    return folders


@pytest.fixture
def trained(tmp_path):
    """trained() -> what the page's files have of each row's training, by the row's name."""

    def make():
        runs, notices = load_runs(tmp_path)
        board = build_leaderboard(runs, notices=notices)
        write_leaderboard(board, runs, tmp_path / "leaderboard")
        index, files = read_page(tmp_path / "leaderboard")
        return {row["name"]: files[row["chunk"]]["training"] for row in index["rows"]}

    return make


@pytest.fixture
def shown(write_run, write_adapter, trained):
    """shown(training, **record changes) -> what a page with one adapter's run and its base's has of the training."""

    def make(training, name="mixed", **changes):
        digest = write_adapter("mixed", training)
        write_run("base", [0, 1] * 10)
        write_run("tuned", [1, 1] * 10, adapter=name, changes={"adapter.sha256": digest, **changes})
        (found,) = (made for row, made in trained().items() if "+" in row)
        return found

    return make


def test_every_task_has_a_figure_with_its_losses_at_one_scale(shown):
    charts = shown(record())["charts"]
    assert [chart["task"] for chart in charts] == ["gsm8k", "ropes"]
    for chart in charts:
        assert (len(chart["train"]), len(chart["held"])) == (6, 3)
        assert float(chart["train"][0][1]) < float(chart["train"][-1][1])
        assert all(0 <= float(part) <= 340 for place in chart["train"] + chart["held"] for part in place)
        assert [words for *_, words in chart["steps"]] == ["0", "step 60"]
    assert charts[0]["ticks"] == charts[1]["ticks"]


def test_the_heights_are_those_of_the_losses(shown):
    training = record(validation=False, tasks=("a",))
    (chart,) = shown(training)["charts"]
    losses = [point["tasks"]["a"]["loss"] for point in training["curves"]["train"]]
    labels = {float(loss): float(y) for y, loss in chart["ticks"]}
    (low, at_low), (high, at_high) = min(labels.items()), max(labels.items())
    for loss, (_, height) in zip(losses, chart["train"], strict=True):
        assert float(height) == pytest.approx(at_low + (at_high - at_low) * (loss - low) / (high - low), abs=0.06)


def test_a_table_tells_rows_tokens_share_truncated_left_out_and_last_loss(shown):
    training = record()
    found = shown(training)
    last = [training["curves"][kind][-1]["tasks"]["ropes"]["loss"] for kind in ("train", "validation")]
    assert found["rows"][1] == [
        "ropes",
        [
            ["389", None],
            ["81,234", None],
            ["37.5%", None],
            ["7", "2 without their end"],
            ["11", "8 contamination, 3 no answer"],
            *([f"{loss:.3f}", None] for loss in last),
        ],
    ]
    assert found["in_short"] == "lora, 1.1M trained parameters, 60 steps, 6.9 min"


def test_a_task_without_validation_has_no_dots(shown):
    found = shown(record(validation=False))
    assert [chart["held"] for chart in found["charts"]] == [[], []]
    assert found["rows"][0][1][-1] == ["\u2014", None]


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
def test_a_damaged_training_leaves_the_page_without_a_figure(write_run, write_adapter, trained, tmp_path, training):
    digest = write_adapter("sound", record())
    (tmp_path / "adapters" / "sound" / "training.json").write_text(training)
    write_run("tuned", [1, 0] * 10, adapter="sound", changes={"adapter.sha256": digest})
    assert list(trained().values()) == [None]


def test_losses_that_are_none_are_left_out(shown):
    training = record(tasks=("</svg><script>alert(1)</script>", "ropes"))
    training["tasks"]["ropes"] = {"dropped": {"<b>": 2}}
    training["curves"]["train"][2]["tasks"]["ropes"]["loss"] = None
    found = shown(json.dumps(training))
    assert found["charts"][0]["task"] == "</svg><script>alert(1)</script>"
    assert len(found["charts"][1]["train"]) == 5
    assert [text for text, _ in found["rows"][1][1][:3]] == ["\u2014", "\u2014", "37.5%"]


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


def test_an_adapter_that_was_set_aside_keeps_its_figure(write_run, write_adapter, trained, tmp_path):
    write_adapter("mixed-0123456789ab", record(steps=30))
    write_adapter("mixed", record(steps=60))
    write_adapter("mixed-other", record(steps=90))
    write_adapter("mixed-ba9876543210", record(steps=120))
    folder = tmp_path / "adapters" / "mixed-ba9876543210"
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 5}')
    digest = read_adapter(str(folder)).sha256
    write_run("base", [0, 1] * 10)
    write_run("tuned", [1, 1] * 10, adapter="mixed", changes={"adapter.sha256": digest})
    assert [made and "120 steps" in made["in_short"] for made in trained().values()] == [True, None]


def test_the_trainings_of_a_matrix_have_their_figures(write_run, write_adapter, trained, tmp_path, read_weights):
    digests = {}
    for rank, place in enumerate(("a/seed-0", "a/seed-1", "b/seed-0"), 1):
        root = tmp_path / "trained" / place
        digests[rank] = write_adapter("mixed", "{}", root, rank)
        (root / "adapters" / "mixed" / "training.json").write_text(
            json.dumps(record(steps=rank * 20) | {"sha256": digests[rank]})
        )
    for rank in (1, 2, 3):
        write_run(
            f"tuned-{rank}",
            [1, 1] * 10,
            adapter="mixed",
            changes={"adapter.sha256": digests[rank], "adapter.rank": rank},
        )
    read_weights.clear()
    assert sorted(made["in_short"].split(", ")[2] for made in trained().values()) == [
        "20 steps",
        "40 steps",
        "60 steps",
    ]
    # Of many with one name, only the one that was evaluated is read whole.
    assert len(read_weights) == 3
