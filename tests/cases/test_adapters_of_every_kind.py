"""Adapters of every kind that peft has: scored as plain peft scores them, and the base is the base afterwards."""

from __future__ import annotations

import copy
import json

import pytest

from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.models import adapter_on, load_model, resolve_model
from slmbench.models._digest import weights_sha256
from slmbench.task import load_task

QV = ["q_proj", "v_proj"]
KINDS = {
    "lora": ("LoraConfig", {"r": 8, "target_modules": "all-linear"}),
    "dora": ("LoraConfig", {"r": 4, "target_modules": QV, "use_dora": True}),
    "lora_bias": ("LoraConfig", {"r": 4, "target_modules": QV, "lora_bias": True}),
    "bias_all": ("LoraConfig", {"r": 4, "target_modules": QV, "bias": "all"}),
    "embeddings": ("LoraConfig", {"r": 4, "target_modules": ["q_proj", "embed_tokens"]}),
    "head_kept": ("LoraConfig", {"r": 4, "target_modules": QV, "modules_to_save": ["lm_head"]}),
    "both_kept": ("LoraConfig", {"r": 4, "target_modules": QV, "modules_to_save": ["embed_tokens", "lm_head"]}),
    "norms_kept": ("LoraConfig", {"r": 4, "target_modules": QV, "modules_to_save": ["norm"]}),
    "trained_tokens": ("LoraConfig", {"r": 4, "target_modules": QV, "trainable_token_indices": [1, 2, 3]}),
    "pissa": ("LoraConfig", {"r": 4, "target_modules": QV, "init_lora_weights": "pissa"}),
    "olora": ("LoraConfig", {"r": 4, "target_modules": QV, "init_lora_weights": "olora"}),
    "alora": ("LoraConfig", {"r": 8, "target_modules": QV, "alora_invocation_tokens": None}),
    "ia3": ("IA3Config", {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "loha": ("LoHaConfig", {"r": 4, "target_modules": QV}),
    "lokr": ("LoKrConfig", {"r": 4, "target_modules": QV}),
    "adalora": ("AdaLoraConfig", {"init_r": 6, "target_r": 4, "total_step": 10, "target_modules": QV}),
    "oft": ("OFTConfig", {"r": 0, "oft_block_size": 4, "target_modules": QV}),
    "vera": ("VeraConfig", {"r": 4, "target_modules": ["q_proj"]}),
    "ln_tuning": ("LNTuningConfig", {"target_modules": ["input_layernorm"]}),
    "prompt": ("PromptTuningConfig", {"num_virtual_tokens": 8}),
    "prefix": ("PrefixTuningConfig", {"num_virtual_tokens": 8}),
    "p_tuning": ("PromptEncoderConfig", {"num_virtual_tokens": 8, "encoder_hidden_size": 32}),
    "cpt": ("CPTConfig", {"cpt_token_ids": [5, 6, 7, 8], "cpt_mask": [1] * 4, "cpt_tokens_type_mask": [1, 2, 2, 4]}),
    "adaption_prompt": ("AdaptionPromptConfig", {"adapter_len": 4, "adapter_layers": 2}),
}
# Each way of its own to be computed: in the layers, before the prompt, between the layers, from a token on.
SCORED = ["lora", "both_kept", "alora", "prompt", "prefix", "p_tuning", "cpt", "adaption_prompt"]


@pytest.fixture(scope="module")
def nano():
    """The embedded model, shared: every test leaves it as it was."""
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture(scope="module")
def make(nano, tmp_path_factory):
    """make(kind) -> the folder of an adapter with weights that change what the model says."""
    import peft
    import torch

    def write(kind):
        name, settings = KINDS[kind]
        if kind == "alora":  # The end of every prompt of the tasks: it acts on the answers.
            ids = nano.tokenizer.encode("Answer:", add_special_tokens=False)
            settings = settings | {"alora_invocation_tokens": ids}
        torch.manual_seed(0)
        config = getattr(peft, name)(task_type="CAUSAL_LM", **settings)
        tuned = peft.get_peft_model(copy.deepcopy(nano.model), config)
        with torch.no_grad():
            for key, parameter in tuned.named_parameters():
                if parameter.requires_grad:
                    wide = any(part in key for part in ("prompt", "embedding", "adaption"))
                    parameter.add_(torch.randn_like(parameter) * (0.1 if wide else 0.03))
        folder = tmp_path_factory.mktemp("adapters") / kind
        tuned.save_pretrained(folder)
        return str(folder)

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_is_bit_for_bit_the_base_when_an_adapter_has_come_off(nano, make, kind):
    import torch

    ids = torch.arange(20, 60)[None]
    if kind == "alora":  # It acts from these tokens on, and is the base before them.
        invoked = nano.tokenizer.encode("Answer:", add_special_tokens=False)
        ids = torch.cat([ids, torch.tensor([invoked]), ids[:, :9]], 1)
    names, config = list(nano.model.state_dict()), nano.model.config.to_dict()
    with torch.no_grad():
        before = nano.model(input_ids=ids).logits.clone()
        with adapter_on(nano, make(kind)) as tuned:
            during = tuned.model(input_ids=ids).logits[:, -ids.shape[1] :]
        after = nano.model(input_ids=ids).logits
    assert not torch.allclose(before[:, -9:], during[:, -9:], atol=1e-3)
    if kind == "alora":
        assert torch.allclose(before[:, :40], during[:, :40], atol=1e-5)
    assert torch.equal(before, after)
    assert list(nano.model.state_dict()) == names and nano.model.config.to_dict() == config
    assert weights_sha256(nano.model) == nano.weights_sha256


def _reference(nano, folder, ids, n, dtype):
    """(n greedy tokens by plain peft, each from the whole text; how far the likeliest was ahead of the next)."""
    import torch
    from peft import PeftModel

    model = PeftModel.from_pretrained(copy.deepcopy(nano.model).to(dtype), folder).to(dtype).eval()
    ids, made, margins = list(ids), [], []
    for _ in range(n):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        best = logits.topk(2)
        margins.append(float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
        made.append(ids[-1])
        if ids[-1] == nano.tokenizer.eos_token_id:
            break
    return made, margins


def _loglikelihood(nano, model, prompt, choice):
    import torch

    ids, whole = nano.tokenizer.encode(prompt), nano.tokenizer.encode(prompt + choice)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([whole])).logits[0]
    logits = torch.log_softmax(logits[len(logits) - len(whole) :].float(), -1)
    return sum(float(logits[at - 1, whole[at]]) for at in range(len(ids), len(whole)))


@pytest.mark.parametrize("kind", SCORED)
def test_a_run_says_what_plain_peft_says_to_a_ten_thousandth(nano, make, tmp_path, kind):
    import torch
    from peft import PeftModel

    folder = make(kind)
    with adapter_on(nano, folder) as tuned:
        tasks = [load_task(name, default_catalog()) for name in ("nano_choice", "nano_note")]
        choice, generate = evaluate_tasks(tuned, tasks, EvaluationOptions(out=str(tmp_path), limit=8))
    peer = PeftModel.from_pretrained(copy.deepcopy(nano.model), folder).eval()
    for sample in _samples(choice):
        ours = sample["loglikelihoods"]
        theirs = [_loglikelihood(nano, peer, sample["prompt"], " " + text) for text in sample["choices"]]
        assert ours == pytest.approx(theirs, abs=1e-4)
    compared = 0
    for sample in _samples(generate):
        made, margins = _reference(nano, folder, nano.tokenizer.encode(sample["prompt"]), 24, torch.float64)
        if min(margins) < 1e-4:  # Within what float32 leaves of a logit, either token is right.
            continue
        text, ended = nano.tokenizer.decode(made, skip_special_tokens=True), len(made) < 24
        for stop in generate.record["generation"]["until"]:
            text, stopped, _ = text.partition(stop)
            ended = ended or bool(stopped)
        if ended:
            assert sample["output"].rstrip() == text.rstrip()
        else:  # Its last character may be a part of one.
            assert len(text) > 8 and sample["output"].startswith(text[:-1].rstrip())
        compared += bool(text.strip())
    assert compared >= 2


def _samples(run):
    with open(f"{run.folder}/samples.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
