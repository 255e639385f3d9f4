"""The real SmolLM2-135M-Instruct, from its GGUF file: it answers, scores as lm-eval has it, trains and is exported."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.formats import load_format
from slmbench.models import adapter_on, load_model, resolve_model
from slmbench.task import load_task
from slmbench.values import Prompt

pytestmark = pytest.mark.realmodel

WITHIN_NATS = 1e-3
"""Where 80 tokens are summed, lm-eval's float32 is up to 8e-4 off float64 on this model."""


@pytest.fixture(scope="module")
def loaded(smollm2):
    return load_model(resolve_model(smollm2, default_catalog()), dtype="float32")


def test_it_is_the_model_that_is_declared(loaded, smollm2, monkeypatch):
    assert loaded.parameters == 134_515_008 and loaded.quantization is None
    declared = resolve_model("smollm2-135m-instruct", default_catalog())
    assert (declared.location, declared.file) == (loaded.source.location, smollm2)
    assert "not of the hub's" in declared.notices[0]


def test_it_knows_the_capital_of_france(loaded):
    import torch

    chat = load_format("chat")
    asked = chat.render(Prompt(user="What is the capital of France?"), loaded.tokenizer).text
    ids = torch.tensor([loaded.tokenizer.encode(asked, add_special_tokens=False)])
    made = loaded.model.generate(ids, max_new_tokens=12, do_sample=False)
    assert "Paris" in loaded.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)


def test_line_breaks_before_a_digit_are_one_token(loaded):
    # As SmolLM2's tokenizer has it, which takes digits apart before it looks for words.
    assert loaded.tokenizer.tokenize("a\n\n1  2") == ["a", "ĊĊ", "1", "ĠĠ", "2"]


def test_log_likelihoods_are_those_of_lm_evals_own_engine(loaded):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from slmbench.evaluation.shared_prefix import SharedPrefixLM

    task = load_task("hellaswag", data="samples")
    asked = [
        Instance("loglikelihood", {}, (task.question(one), " " + choice), i, ("hellaswag", 0, 1))
        for one in task.examples(task.spec.split, 2)
        for i, choice in enumerate(one.choices)
    ]
    ours, theirs = (
        kind(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4, softmax_dtype="float32").loglikelihood(
            asked, disable_tqdm=True
        )
        for kind in (SharedPrefixLM, HFLM)
    )
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=WITHIN_NATS)


@pytest.fixture(scope="module")
def trained(smollm2, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    settings = ["optim.steps=2", "optim.batch=1", "optim.accumulate=1", "optim.warmup_steps=0", "rows=4", "lora.rank=4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLMBENCH_SMOLLM2", smollm2)
        sets = [word for one in settings for word in ("--set", one)]
        assert main(["train", "smollm2-gsm8k", "--data", "samples", *sets, "--out", str(out)]) == 0
    return out


def test_an_adapter_is_evaluated_exported_and_reloaded(loaded, trained, tmp_path):
    import torch

    adapter = trained / "adapters" / "gsm8k"
    record = json.loads((adapter / "training.json").read_text())
    assert (record["model"], record["base_weights_sha256"]) == ("smollm2-135m-instruct", loaded.weights_sha256)
    assert record["base"]["location"] == os.environ["SLMBENCH_SMOLLM2"]
    ids = torch.tensor([loaded.tokenizer.encode("Question: 2 + 2?\nAnswer:")])
    with adapter_on(loaded, str(adapter)) as tuned, torch.no_grad():
        (run,) = evaluate_tasks(tuned, [load_task("nano_choice")], EvaluationOptions(out=str(tmp_path), limit=2))
        wanted = tuned.model(ids).logits
    assert run.record["adapter"]["name"] == "gsm8k"
    assert main(["export", str(adapter), "--to", "merged", "--out", str(tmp_path)]) == 0
    folder = Path(tmp_path, "models", "gsm8k-merged")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    merged = load_model(resolve_model(str(folder), default_catalog()))
    with torch.no_grad():
        assert (merged.model(ids).logits - wanted).abs().max() < 1e-3


def test_costs_and_checks_are_counted_in_its_own_tokens(loaded, smollm2, capsys):
    task = load_task("nano_note")
    assert main(["data", "tokens", "nano_note", "--n", "3", "--model", smollm2, "--json"]) == 0
    (costs,) = json.loads(capsys.readouterr().out)
    assert (costs["model"], costs["rows"]) == (loaded.source.name, 3)
    assert main(["check", "nano_note", "--model", smollm2, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    prompts = [task.question(example) for split in ("train", "test") for example in task.examples(split)]
    longest = max(len(loaded.tokenizer.encode(prompt)) for prompt in prompts)
    assert report["ok"] and report["tokens"]["model"] == loaded.source.name
    # The golden rows, which the check reads too, have other lengths.
    assert longest <= report["tokens"]["prompt"]["max"] <= longest + 2
