"""The real pretrained model of 260K parameters: converted, held against its golden record, run through the harness."""

from __future__ import annotations

import json

import pytest

from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.task import load_task

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def golden(stories_folder):
    return json.loads((stories_folder / "golden.json").read_text())


def test_greedy_text_is_the_golden_one(stories, golden):
    import torch

    n = len(golden["greedy_token_ids"]) - 1
    made = stories.model.generate(torch.tensor([[1]]), max_new_tokens=n, do_sample=False, eos_token_id=None)
    assert made[0].tolist() == golden["greedy_token_ids"]
    assert " " + stories.tokenizer.decode(made[0], skip_special_tokens=True) == golden["greedy_text"]


def test_logits_and_likelihood_are_the_golden_ones(stories, golden):
    import torch

    ids = torch.tensor([golden["greedy_token_ids"][:65]])
    with torch.no_grad():
        logits = stories.model(ids).logits[0]  # (seq, vocab), float32
    top = logits[0].topk(5)
    assert top.indices.tolist() == [index for index, _ in golden["top5_after_bos"]]
    assert top.values.tolist() == pytest.approx([value for _, value in golden["top5_after_bos"]], abs=2e-4)
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:]).item()
    assert nll == pytest.approx(golden["mean_nll_first_64_of_greedy"], abs=2e-4)


def test_real_model_runs_through_the_harness_on_real_records(stories, tmp_path):
    tasks = [load_task("hellaswag"), load_task("gsm8k").with_shots(0)]
    hellaswag, gsm8k = evaluate_tasks(stories, tasks, EvaluationOptions(out=str(tmp_path), limit=6))
    assert hellaswag.record["dataset"]["source"] == "mirror"
    assert [metric["n"] for metric in hellaswag.record["metrics"]] == [6, 6, 6]
    assert all(ll < 0 for sample in hellaswag.samples() for ll in sample["loglikelihoods"])
    assert all(sample["tokens_out"] <= 256 for sample in gsm8k.samples())
    assert gsm8k.record["model"]["parameters"] == 260_032
