"""Adapters of peft on one base, switched under one engine: each as if it were alone."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

SHOTS = "Question: What is 2 + 2? Answer: 4.\nQuestion: What is red? Answer: the red one.\n"
PAIRS = [(f"{SHOTS}Question: What is {word}? Answer:", f" {rest}") for word in ("3", "red") for rest in ("1", "a note")]
WRITE = [(context, {"until": [], "max_gen_toks": 8}) for context, _ in PAIRS[::2]]


@pytest.fixture
def adapted(nano) -> Any:
    """nano with two LoRA adapters that change what it says."""
    import peft
    import torch

    torch.manual_seed(0)
    targets = ["q_proj", "v_proj", "down_proj"]
    config = {"r": 4, "lora_alpha": 32, "target_modules": targets, "init_lora_weights": False}
    model = peft.get_peft_model(nano.model, peft.LoraConfig(**config), adapter_name="one")
    model.add_adapter("two", peft.LoraConfig(**config))
    return model.eval()


def answers(engine: Any, instances: Any) -> tuple[list[float], list[bool], list[str]]:
    scored = engine.loglikelihood(instances("loglikelihood", PAIRS), disable_tqdm=True)
    texts = engine.generate_until(instances("generate_until", WRITE), disable_tqdm=True)
    return [value for value, _ in scored], [greedy for _, greedy in scored], texts


@contextlib.contextmanager
def switched(model: Any, name: str | None) -> Any:
    if name is None:
        with model.disable_adapter():
            yield
    else:
        model.set_adapter(name)
        yield


def test_base_and_adapters_under_one_engine_are_each_lm_evals_own(adapted, ours, theirs, instances) -> None:
    engine, other = ours(adapted), theirs(adapted)
    seen = {}
    for name in ("one", None, "two", "one"):
        with switched(adapted, name):
            got, want = answers(engine, instances), answers(other, instances)
        assert got[0] == pytest.approx(want[0], abs=1e-4)
        assert got[1:] == want[1:]
        if name in seen:
            assert got == seen[name]
        seen[name] = got
    firsts = [values[0] for values, _, _ in seen.values()]
    assert len({round(value, 2) for value in firsts}) == 3
    assert engine.engine.notices == []


def test_an_adapter_that_puts_tokens_before_the_prompt_is_batched_plainly(nano, ours, theirs, instances) -> None:
    import peft
    import torch

    torch.manual_seed(0)
    config = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    model = peft.get_peft_model(nano.model, config).eval()
    want = theirs(model).loglikelihood(instances("loglikelihood", PAIRS), disable_tqdm=True)
    with pytest.warns(UserWarning, match="puts tokens of its own before the prompt"):
        got = ours(model).loglikelihood(instances("loglikelihood", PAIRS))
    assert [value for value, _ in got] == pytest.approx([value for value, _ in want], abs=1e-4)


def test_the_model_is_left_as_it_was(nano, ours, instances) -> None:
    before = (nano.model.config._attn_implementation, dict(nano.model.generation_config.to_dict()))
    engine = ours(nano.model)
    answers(engine, instances)
    assert (nano.model.config._attn_implementation, nano.model.generation_config.to_dict()) == before
    with pytest.raises(RuntimeError, match="on purpose"), engine.engine._ready():
        raise RuntimeError("on purpose")
    assert nano.model.config._attn_implementation == before[0]
