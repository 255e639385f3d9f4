"""A student with an adapter of their own; the script is what they type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.steps import board_of, runs_of

ROWS = 200
COLUMN = "drawers/exact_match"


def follow(journey: Any, home: Path, model: str, name: str, *, style: str, steps: int, rate: str, items: int) -> None:
    """The journey, and the outcome of each of its steps."""
    new, check, dry, run, again, export, pages = journey("student.sh", model, style, str(steps), rate, str(items))
    out = home / "slmbench-out"
    assert "slmbench check drawers" in new.said
    assert f"{items} test, {ROWS} train, 4 golden" in check.said and "1 ok" in check.said
    assert "contamination: 200 training rows against" in dry.said and "none shared" in dry.said
    assert "memory, forecast:" in dry.said and "time, steps alone:" in dry.said

    adapter = out / "adapters" / "drawer"
    training = json.loads((adapter / "training.json").read_text(encoding="utf-8"))
    assert (training["steps"], training["settings"]["format"]) == (steps, style)
    assert training["tasks"]["drawers"]["rows"] == ROWS and training["tasks"]["drawers"]["dropped_rows"] == 0
    losses = [point["loss"] for point in training["curves"]["train"]]
    assert losses[-1] < losses[0]

    runs = runs_of(out)
    assert sorted(runs) == [name, f"{name} + drawer"]
    shown = board_of(out / "leaderboard")
    assert sorted(shown) == sorted(runs)
    for row, record in runs.items():
        assert all(" number 20" in sample["prompt"] for sample in record["samples"])
        right = [sample["output"].strip() == sample["target"] for sample in record["samples"]]
        assert (len(right), record["format"]) == (items, style)
        assert shown[row]["scores"][COLUMN]["value"] == pytest.approx(sum(right) / items)
        assert f"{sum(right) / items:.3f}" in run.said
    base, tuned = (shown[row]["scores"][COLUMN] for row in (name, f"{name} + drawer"))
    assert tuned["value"] > base["ci_high"] and tuned["rank_high"] < base["rank_low"]

    # The evaluation without a network found all that was there, and showed the same table.
    assert again.said[again.said.index("leaderboard\n") :] == run.said[run.said.index("leaderboard\n") :]
    assert "slmbench-out/models/drawer-merged" in export.said and "merged: logits moved by at most" in export.said
    said = _answers(out / "models" / "drawer-merged", runs[f"{name} + drawer"]["samples"][:6])
    assert said == [sample["output"].strip() for sample in runs[f"{name} + drawer"]["samples"][:6]]

    assert "index.html" in pages.said
    written = {path.name: path.read_text(encoding="utf-8") for path in (out / "leaderboard").rglob("*.*")}
    assert written.keys() >= {"index.html", "leaderboard.csv", "leaderboard.json", "leaderboard.md"}
    assert "are kept out of this page" in written["index.html"]
    for text in written.values():
        assert "number 20" not in text  # As in every report that was evaluated, and in no other.


def _answers(folder: Path, samples: list[dict[str, Any]]) -> list[str]:
    """What transformers alone answers with the folder that was exported."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    answers = []
    for sample in samples:
        asked = tokenizer(sample["prompt"], add_special_tokens=False, return_tensors="pt")
        made = model.generate(**asked, max_new_tokens=sample["tokens_out"], do_sample=False)
        answers.append(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return answers


def test_a_students_adapter_beats_the_base_and_goes_along(journey: Any, tmp_path: Path) -> None:
    follow(journey, tmp_path / "journey", "nano", "nano", style="plain", steps=60, rate="0.005", items=40)


@pytest.mark.realmodel
@pytest.mark.slow
def test_a_students_adapter_on_a_real_instruct_model(journey: Any, tmp_path: Path, smollm2: str) -> None:
    name = Path(smollm2).stem
    follow(journey, tmp_path / "journey", smollm2, name, style="chat", steps=12, rate="0.001", items=40)
