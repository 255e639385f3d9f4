"""`hellaswag` and `gsm8k` in the plain format are lm-eval's own tasks, request for request and number for number."""

from __future__ import annotations

import os

import pytest

from slmbench.evaluation import evaluate_tasks
from slmbench.evaluation._harness import build_harness_task, render_all
from slmbench.formats import load_format
from slmbench.task import load_task

pytestmark = pytest.mark.realdata


def _files(name, **splits):
    root = os.environ["SLMBENCH_DATA"]
    return {split: os.path.join(root, name, f"{split}.jsonl") for split in splits}


def _requests(harness_task):
    harness_task.build_all_requests(limit=None, rank=0, world_size=1)
    return [(request.request_type, request.arguments) for request in harness_task.instances]


def _ours(task):
    examples = task.examples(task.spec.split)
    return build_harness_task(task, examples, render_all(task, examples, load_format("plain"), tokenizer=None))


def test_hellaswag_requests_are_lm_evals_own(lm_eval_own):
    files = _files("hellaswag", train=1, validation=1)
    own = _requests(lm_eval_own.own_task("hellaswag/hellaswag.yaml", files, shots=0))
    assert _requests(_ours(load_task("hellaswag"))) == own
    assert len(own) == 800


@pytest.mark.parametrize("shots", [0, 5])
def test_gsm8k_requests_are_lm_evals_own(lm_eval_own, shots):
    files = _files("gsm8k", train=1, test=1)
    own = _requests(lm_eval_own.own_task("gsm8k/gsm8k.yaml", files, shots=shots))
    ours = _requests(_ours(load_task("gsm8k").with_shots(shots)))
    assert len(own) == 200
    # lm-eval leaves its default length of 256 unsaid; here it is written out. All else is equal.
    assert [(kind, (text, {**how, "max_gen_toks": 256})) for kind, (text, how) in own] == ours


def test_hellaswag_loglikelihoods_and_accuracies_are_lm_evals_own(lm_eval_own, stories, tmp_path):
    files = _files("hellaswag", train=1, validation=1)
    own = lm_eval_own.evaluate_own(
        lm_eval_own.own_task("hellaswag/hellaswag.yaml", files, shots=0),
        stories.model,
        stories.tokenizer,
        batch=16,
        limit=60,
    )
    (run,) = evaluate_tasks(stories, [load_task("hellaswag")], out=str(tmp_path), batch=16, limit=60)
    theirs = sorted(own["samples"]["hellaswag"], key=lambda sample: sample["doc_id"])
    for sample, their in zip(run.samples(), theirs, strict=True):
        assert sample["loglikelihoods"] == pytest.approx([float(ll) for ll, _ in their["filtered_resps"]], abs=1e-4)
        assert sample["scores"] == {"accuracy": their["acc"], "accuracy_norm": their["acc_norm"]}
    values = {metric["name"]: metric["value"] for metric in run.record["metrics"]}
    assert values["accuracy"] == own["results"]["hellaswag"]["acc,none"]
    assert values["accuracy_norm"] == own["results"]["hellaswag"]["acc_norm,none"]


def test_gsm8k_outputs_and_scores_are_lm_evals_own(lm_eval_own, stories, tmp_path):
    files = _files("gsm8k", train=1, test=1)
    own = lm_eval_own.evaluate_own(
        lm_eval_own.own_task("gsm8k/gsm8k.yaml", files, shots=0), stories.model, stories.tokenizer, batch=16, limit=16
    )
    (run,) = evaluate_tasks(stories, [load_task("gsm8k").with_shots(0)], out=str(tmp_path), batch=16, limit=16)
    for filter_name, metric in (("strict-match", "exact_match/strict"), ("flexible-extract", "exact_match/flexible")):
        theirs = [sample for sample in own["samples"]["gsm8k"] if sample["filter"] == filter_name]
        theirs.sort(key=lambda sample: sample["doc_id"])
        assert [sample["output"] for sample in run.samples()] == [their["resps"][0][0] for their in theirs]
        assert [sample["scores"][metric] for sample in run.samples()] == [their["exact_match"] for their in theirs]
