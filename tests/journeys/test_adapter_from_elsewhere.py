"""An adapter of plain peft and a folder of `merge_and_unload`, from their makers' machine to one without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmbench.paths import package_dir


@pytest.fixture
def made_elsewhere(tmp_path):
    """made_elsewhere(base) -> (an adapter's folder, a merged model's), by peft and transformers alone."""

    def make(base):
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
        tuned.merge_and_unload().save_pretrained(merged)
        tokenizer.save_pretrained(merged)
        return str(adapter), str(merged)

    return make


def _likelihoods(out):
    """name of the scored model -> its items' log-likelihoods."""
    found = {}
    for path in sorted(Path(out).glob("runs/*/run.json")):
        record = json.loads(path.read_text())
        name = record["model"]["name"] + (f"+{record['adapter']['name']}" if record["adapter"] else "")
        lines = (path.parent / "samples.jsonl").read_text().splitlines()
        found[name] = [value for line in lines for value in json.loads(line)["loglikelihoods"]]
    return found


@pytest.mark.slow
def test_an_adapter_and_a_merged_model_of_other_tools_are_scored_compared_and_exported(
    journey, made_elsewhere, tmp_path
):
    base = str(Path(package_dir()) / "nano" / "model")
    said = journey("adapter_from_elsewhere.sh", "nano", *made_elsewhere(base), "nano_choice", "6")
    scores = _likelihoods(tmp_path / "journey" / "out")
    together = scores["nano+my-adapter"]
    assert together != scores["nano"]
    for name in ("my-merged", "my-adapter-merged"):
        assert scores[name] == pytest.approx(together, abs=1e-3)
    board = json.loads((tmp_path / "journey" / "board" / "leaderboard.json").read_text())
    assert {row["name"] for row in board["rows"]} >= {"nano", "my-merged"}
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.realmodel
def test_the_same_on_a_real_instruct_model(journey, made_elsewhere, tmp_path, smollm2):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = Path(smollm2)
    base = tmp_path / "SmolLM2-135M-Instruct"
    options = {"gguf_file": place.name, "local_files_only": True}
    AutoModelForCausalLM.from_pretrained(place.parent, **options).save_pretrained(base)
    AutoTokenizer.from_pretrained(place.parent, **options).save_pretrained(base)
    adapter, merged = made_elsewhere(str(base))
    journey("adapter_from_elsewhere.sh", str(base), adapter, merged, "nano_choice", "4")
    scores = _likelihoods(tmp_path / "journey" / "out")
    for name in ("my-merged", "my-adapter-merged"):
        assert scores[name] == pytest.approx(scores["SmolLM2-135M-Instruct+my-adapter"], abs=5e-3)
