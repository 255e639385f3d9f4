"""The published recipes from one end to the other on their models' twins: rows, training, evaluation, leaderboard."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from slmbench.cli import main

# What the twin's training and evaluation have to have gone through, as the real ones do. The path of smollm2-deepthink
# is gone by its variant in test_recipes_as_built.py, and that of smollm2-gsm8k is the same.
RECIPES: dict[str, dict[str, Any]] = {
    "task-adapters": {
        "adapters": {"python": ["alpaca_python"], "gsm8k": ["gsm8k"], "closed_qa": ["dolly_closed_qa"]},
        "evaluated": {"human_eval", "gsm8k", "hellaswag", "dolly_closed_qa"},
        "model": "llama-3.2-1b-instruct-twin",
    },
    "flan-t5-medical": {
        "adapters": {"icliniq": ["icliniq"], "medquad": ["medquad"], "both": ["icliniq", "medquad"]},
        "evaluated": {"icliniq", "medquad"},
        "model": "flan-t5-small-twin",
        "architecture": "seq2seq",
    },
    "tinyllama-discharge-toon": {
        "adapters": {"discharge_summarization": ["discharge_summarization"]},
        "evaluated": {"discharge_summarization"},
        "model": "tinyllama-1.1b-chat-twin",
        "method": "qlora",
        "quantization": "nf4+double",
    },
    "phi35-multitask": {
        "adapters": {"multitask": ["ropes", "web_search_summarization", "gsm8k"]},
        "evaluated": {"ropes", "web_search_summarization", "gsm8k"},
        "model": "phi-3.5-mini-instruct-twin",
    },
}


@pytest.fixture(scope="module", autouse=True)
def _offline_without_mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("SLMBENCH_BERTSCORE", "SLMBENCH_DATA", "SLMBENCH_PATH"):
            patch.delenv(name, raising=False)
        yield


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("runs/*/run.json"))]


def training(out: Path, adapter: str) -> dict[str, Any]:
    return dict(json.loads((out / "adapters" / adapter / "training.json").read_text()))


@frozen
class Ran:
    """What a recipe's run on its twin left behind."""

    out: Path
    board: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ran]:
    """ran(recipe) -> its run, made once for all tests."""
    made: dict[str, Ran] = {}

    def run(name: str) -> Ran:
        if name not in made:
            out = tmp_path_factory.mktemp(name)
            printed, said = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
                code = main(["run", name, "--twin", "--out", str(out), "--json"])
            assert code == 0, said.getvalue()
            made[name] = Ran(out, json.loads(printed.getvalue()), said.getvalue())
        return made[name]

    return run


@pytest.mark.parametrize("name", RECIPES)
def test_a_published_recipe_runs_whole_on_its_twin(name: str, ran: Callable[[str], Ran]) -> None:
    wanted, found = RECIPES[name], ran(name)
    base = wanted["model"] + (f" ({wanted['quantization']})" if "quantization" in wanted else "")
    rows = found.board["rows"]
    assert {row["name"] for row in rows} == {base, *(f"{base} + {name}" for name in wanted["adapters"])}
    assert all("twin" in row["badges"] for row in rows)
    assert "golden rows stand in for" in found.said
    runs = records(found.out)
    assert {run["task"]["id"] for run in runs} == wanted["evaluated"]
    assert len(runs) == (1 + len(wanted["adapters"])) * len(wanted["evaluated"])
    assert {run["model"].get("quantization") for run in runs} == {wanted.get("quantization")}
    assert {run["model"].get("architecture", "causal") for run in runs} == {wanted.get("architecture", "causal")}
    for adapter, tasks in wanted["adapters"].items():
        made = training(found.out, adapter)
        optim = made["settings"]["optim"]
        assert (made["model"], made["method"]) == (wanted["model"], wanted.get("method", "lora"))
        assert made["quantization"] == wanted.get("quantization")
        assert list(made["tasks"]) == tasks
        assert all(part["parity_rows"] == part["rows"] > 0 for part in made["tasks"].values())
        assert made["steps"] == optim["steps"] == made["curves"]["train"][-1]["step"] == 6
        assert made["mixture"]["rows"] == 6 * optim["batch"] * optim["accumulate"]
        assert made["memory"]["forecast"]["forecast_bytes"] > 0
    assert wanted["model"] in (found.out / "leaderboard" / "index.html").read_text()


def test_the_paths_of_the_published_settings_are_taken(ran: Callable[[str], Ran]) -> None:
    made = training(ran("phi35-multitask").out, "multitask")
    assert made["settings"]["optim"]["schedule"] == "plateau"
    assert [point["step"] for point in made["curves"]["validation"]] == [2, 4, 6]
    assert made["mixture"]["unit"] == "tokens"
    assert sum(made["mixture"]["wanted"].values()) == pytest.approx(1)
    assert made["settings"]["cot"] == "zero"
    assert {point["step"] for point in made["curves"]["train"]} == {2, 4, 6}
    assert all(set(point["tasks"]) <= set(made["tasks"]) for point in made["curves"]["train"])


def test_golden_rows_that_are_trained_on_are_not_those_that_are_evaluated(ran: Callable[[str], Ran]) -> None:
    for name, wanted in RECIPES.items():
        for adapter in wanted["adapters"]:
            overlaps = training(ran(name).out, adapter)["contamination"]["overlaps"]
            assert overlaps and all(one["exact"] == one["normalised"] == 0 for one in overlaps)


def test_a_merge_recipe_runs_whole_on_its_twin(ran: Callable[[str], Ran]) -> None:
    """Trains, searches, merges and scores: base, both fine-tunes, the joint one, every merge, each seed a row."""
    found = ran("flan-t5-medical-merge")
    base = "flan-t5-small-twin"
    adapters = ["soup", "weighted-average", "greedy-soup", "task-arithmetic", "average-of-factors"]
    models = ["slerp", "ties", "dare-seed0", "dare-seed1", "dare-seed2"]
    wanted = {base, *(f"{base} + {name}" for name in ["icliniq", "medquad", "both", *adapters])}
    assert {row["name"] for row in found.board["rows"]} == wanted | {f"{base}-{name}" for name in models}
    assert all("twin" in row["badges"] for row in found.board["rows"])
    searched = {}
    for path in sorted(found.out.glob("*/*/merge.json")):
        searched[path.parent.name] = json.loads(path.read_text())["search"]
    assert {name for name, log in searched.items() if log} == {
        "weighted-average",
        "greedy-soup",
        "task-arithmetic",
        "ties",
    }
    assert set(searched["ties"]["rows"]) == {"icliniq", "medquad"}
    assert searched["ties"]["chosen"] in {one["name"] for one in searched["ties"]["candidates"]}
    weights = {(found.out / "models" / name / "model.safetensors").read_bytes() for name in models[2:]}
    assert len(weights) == 3
    assert "dare, 3 seeds, icliniq/rouge1: mean " in (found.out / "leaderboard" / "leaderboard.md").read_text()


def test_a_variant_trains_an_encoder_decoder_on_a_packed_base(tmp_path: Path) -> None:
    arguments = ["--twin", "--variant", "qlora", "--adapter", "icliniq", "--out", str(tmp_path)]
    assert main(["train", "flan-t5-medical", *arguments]) == 0
    made = training(tmp_path, "icliniq")
    assert (made["method"], made["quantization"], made["architecture"]) == ("qlora", "nf4+double", "seq2seq")
    assert made["variant"] == "qlora"


@pytest.mark.realdata
def test_a_twin_takes_the_mirror_where_it_has_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--set", "optim.steps=1", "--set", "evaluation.limit=1"]
    assert main(["run", "phi35-multitask", "--twin", *few, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "twin: web_search_summarization: golden rows stand in for test and train" in said
    assert "twin: gsm8k" not in said and "twin: ropes" not in said
    assert {run["task"]["id"]: run["dataset"]["source"] for run in records(tmp_path)} == {
        "gsm8k": "mirror",
        "ropes": "mirror",
        "web_search_summarization": "samples",
    }
    assert training(tmp_path, "multitask")["tasks"]["gsm8k"]["rows"] == 24


def test_evaluating_a_twin_needs_no_network_and_is_badged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["eval", "qwen2.5-0.5b", "--twin", "--tasks", "gsm8k", "--shots", "1", "--limit", "1"]
    assert main([*arguments, "--max-tokens", "8", "--out", str(tmp_path), "--json"]) == 0
    printed = capsys.readouterr()
    (record,) = json.loads(printed.out)
    assert (record["model"]["name"], record["model"]["twin"]) == ("qwen2.5-0.5b-twin", True)
    assert "a random model" in printed.err
