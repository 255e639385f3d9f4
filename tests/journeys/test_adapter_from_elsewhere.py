"""An adapter of plain peft and a folder of `merge_and_unload`, from their makers' machine to one without a network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmbench.paths import package_dir
from tests.journeys.steps import board_of, runs_of


@pytest.fixture
def made_elsewhere(tmp_path: Path) -> Any:
    """made_elsewhere(base) -> (an adapter's folder, a merged model's, the adapted model), by peft and transformers."""

    def make(base: str) -> tuple[str, str, Any]:
        import peft
        import torch
        import transformers

        torch.manual_seed(0)
        tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
        settings = {"r": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "init_lora_weights": False}
        tuned = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **settings))
        for key, parameter in tuned.named_parameters():
            if "lora_B" in key:
                parameter.data *= 0.1
        adapter, merged = tmp_path / "my-adapter", tmp_path / "my-merged"
        tuned.save_pretrained(adapter)
        tokenizer.save_pretrained(adapter)
        whole = tuned.merge_and_unload()
        whole.save_pretrained(merged)
        tokenizer.save_pretrained(merged)
        return str(adapter), str(merged), whole.eval()

    return make


def _sums(model: Any, base: str, sample: dict[str, Any]) -> list[float]:
    """The log-likelihoods of an item's choices, by transformers alone."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    prompt = tokenizer.encode(sample["prompt"])
    found = []
    for choice in sample["choices"]:
        ids = tokenizer.encode(f"{sample['prompt']} {choice}")
        assert ids[: len(prompt)] == prompt
        with torch.no_grad():
            logits = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0].float(), -1)
        found.append(sum(float(logits[at - 1, ids[at]]) for at in range(len(prompt), len(ids))))
    return found


def follow(journey: Any, made_elsewhere: Any, home: Path, given: str, base: str, *, limit: int, near: float) -> None:
    """The journey, and the outcome of each of its steps. given: the base as the person names it; base: its folder."""
    adapter, merged, model = made_elsewhere(base)
    name = os.path.basename(given)
    steps = journey("adapter_from_elsewhere.sh", given, adapter, merged, "nano_choice", str(limit))
    compared, alone, export, again, ranked = (step.said for step in steps)
    runs = runs_of(home / "out")
    together = f"{name} + my-adapter"
    assert sorted(runs) == sorted([name, together, "my-merged", "my-adapter-merged"])
    likelihoods = {}
    for row, record in runs.items():
        assert (record["dataset"]["n"], record["status"], len(record["samples"])) == (limit, "ok", limit)
        likelihoods[row] = [value for sample in record["samples"] for value in sample["loglikelihoods"]]
    theirs = [value for sample in runs[together]["samples"] for value in _sums(model, base, sample)]
    for row in (together, "my-merged", "my-adapter-merged"):
        assert likelihoods[row] == pytest.approx(theirs, abs=near)
    assert likelihoods[name] != pytest.approx(theirs, abs=10 * near)

    assert together in compared and "my-merged" in alone and "my-adapter-merged" in again
    assert "out/models/my-adapter-merged" in export and "merged: logits moved by at most" in export
    board = board_of(home / "board")
    assert sorted(board) == sorted(runs)
    for row, record in runs.items():
        cell = board[row]["scores"]["nano_choice/accuracy"]
        right = [sample["scores"]["accuracy"] for sample in record["samples"]]
        assert (cell["n"], cell["value"]) == (limit, pytest.approx(sum(right) / limit))
        assert row in ranked


@pytest.mark.slow
def test_an_adapter_and_a_merged_model_of_other_tools_are_scored_compared_and_exported(
    journey: Any, made_elsewhere: Any, tmp_path: Path
) -> None:
    base = str(Path(package_dir()) / "nano" / "model")
    follow(journey, made_elsewhere, tmp_path / "journey", "nano", base, limit=6, near=1e-3)


@pytest.mark.slow
@pytest.mark.realmodel
def test_the_same_on_a_real_instruct_model(journey: Any, made_elsewhere: Any, tmp_path: Path, smollm2: str) -> None:
    from slmbench.catalog import default_catalog
    from slmbench.models import resolve_model

    # A folder as people have it: transformers can't save what it has read from a GGUF file itself.
    base = tmp_path / "SmolLM2-135M-Instruct"
    shutil.copytree(resolve_model(smollm2, default_catalog()).location, base)
    follow(journey, made_elsewhere, tmp_path / "journey", str(base), str(base), limit=4, near=5e-3)
