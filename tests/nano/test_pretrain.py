"""The embedded model is what its script makes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from slmbench.nano.corpus import documents
from slmbench.nano.pretrain import pretrain
from slmbench.paths import package_dir

MODEL = Path(package_dir()) / "nano" / "model"


@pytest.fixture(scope="module")
def record():
    return json.loads((MODEL / "pretrain.json").read_text())


def test_files_are_those_of_the_record(record):
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((MODEL / name).read_bytes()).hexdigest() == digest


def test_weights_are_small_and_safe(record):
    assert (MODEL / "model.safetensors").stat().st_size <= 4_000_000
    assert 800_000 <= record["parameters"] <= 1_300_000
    assert not [path for path in MODEL.iterdir() if path.suffix in (".bin", ".pt", ".pkl", ".py")]


def test_first_steps_of_the_script_give_the_recorded_losses(record, tmp_path):
    again = pretrain(tmp_path, 8, record["seed"], schedule_steps=record["schedule_steps"])
    # Other processors round otherwise; over a few steps that is far below a thousandth.
    assert again["losses_first_20"] == pytest.approx(record["losses_first_20"][:8], abs=2e-3)
    assert again["sha256"]["tokenizer.json"] == record["sha256"]["tokenizer.json"]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("SLMBENCH_PRETRAIN"), reason="ten minutes and more: set SLMBENCH_PRETRAIN=1")
def test_whole_script_gives_the_recorded_weights(record, tmp_path):
    torch.set_num_threads(record["threads"])
    again = pretrain(tmp_path, record["steps"], record["seed"])
    assert again["sha256"] == record["sha256"]


def test_corpus_never_shows_a_tasks_own_format():
    stream = documents(0)
    for _ in range(60_000):
        text = next(stream)
        assert "Question:" not in text
        assert "Answer:" not in text
        assert "####" not in text or text.startswith("Spell:")
        assert "Summary:" not in text


def test_tokenizer_reads_any_text_back(nano_tokenizer):
    for text in ("12+7=19. #### 4; 50%", "Müller's café – 37 °C\n\ttab", "漢字 🙂", ""):
        assert nano_tokenizer.decode(nano_tokenizer.encode(text)) == text
    assert nano_tokenizer.tokenize("2026") == ["2", "0", "2", "6"]
