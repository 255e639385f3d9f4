"""The fast loss is the plain one: transformers' own, row by row, and trl's, on the same rows."""

from __future__ import annotations

import copy
import random

import pytest

from slmbench.errors import UsageError
from slmbench.training import _head
from slmbench.training._attention import prepare_model
from slmbench.training._forward import collate, row_losses
from slmbench.training._fused import fuse_parts

VOCABULARY = 101
LENGTHS = (9, 14, 2, 21)
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
)
FAMILIES = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "phi3": ("Phi3Config", {"sliding_window": 6}),
    "smollm3": ("SmolLM3Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "mistral": ("MistralConfig", {"sliding_window": 6}),
    # Their logits are scaled or capped, and some can't take rows end to end.
    "granite": ("GraniteConfig", {"logits_scaling": 3.0}),
    "gemma2": ("Gemma2Config", {"head_dim": 8, "final_logit_softcapping": 2.0}),
    "gpt_neox": ("GPTNeoXConfig", {}),
}
ADAPTERS = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "some layers": {"target_modules": ["q_proj", "v_proj", "down_proj"]},
}


def build(family="llama", dtype="float32", **changed):
    import torch
    import transformers

    name, own = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**SIZES | own | changed))
        for parameter in model.parameters():
            parameter.data.normal_(std=0.15) if parameter.ndim > 1 else None
    return model.to(getattr(torch, dtype))


def adapted(model, task_type="CAUSAL_LM", **settings):
    """The model with an adapter whose every weight is away from its start, where B is zero."""
    import peft
    import torch

    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | settings
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = peft.get_peft_model(model, peft.LoraConfig(task_type=task_type, **settings))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.data.normal_(std=0.1)
    return model.train()


def token_rows(lengths=LENGTHS):
    rng = random.Random("rows")
    rows = []
    for number, length in enumerate(lengths):
        ids = [rng.randrange(1, VOCABULARY) for _ in range(length)]
        asked = length // 3
        rows.append({"input_ids": ids, "labels": [-100] * asked + ids[asked:], "task_id": number})
    return rows


def of_all(rows):
    """The rows with a loss on every token."""
    return [row | {"labels": list(row["input_ids"])} for row in rows]


def plainly(model, rows):
    """(mean loss, summed losses by row, gradients) by transformers' own forward and torch's own loss, row by row."""
    import torch

    model.zero_grad()
    sums, scored = [], 0
    for row in rows:
        labels = torch.tensor(row["labels"][1:])
        logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0, :-1].float()
        sums.append(torch.nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=-100))
        scored += int((labels != -100).sum())
    loss = sum(sums) / scored
    loss.backward()
    return float(loss.detach()), [float(one.detach()) for one in sums], gradients(model)


def fast(model, rows, batches=1):
    """The same by the code under test; batches: micro-batches of one step."""
    model.zero_grad()
    flat = prepare_model(model)
    size = -(-len(rows) // batches)
    parts = [collate(rows[i : i + size], 0, flat=flat) for i in range(0, len(rows), size)]
    items = sum((part["labels"] != -100).sum() for part in parts)
    loss, sums = 0.0, []
    for part in parts:
        losses = row_losses(model, part, items)
        losses.loss.backward()
        loss += float(losses.loss.detach())
        sums += losses.sums.tolist()
        scored = [sum(label != -100 for label in row["labels"][1:]) for row in rows][len(sums) - len(losses.sums) :]
        assert losses.tokens.tolist() == scored[: len(losses.sums)]
        assert not losses.sums.requires_grad
    return loss, sums, gradients(model)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(got, wanted, within=1e-5):
    assert got[0] == pytest.approx(wanted[0], rel=within)
    assert got[1] == pytest.approx(wanted[1], rel=within, abs=within)
    assert got[2].keys() == wanted[2].keys() != set()
    far = {name: float((got[2][name] - g).norm() / g.norm().clamp(min=1e-8)) for name, g in wanted[2].items()}
    assert max(far.values()) < within, max(far.items(), key=lambda pair: pair[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_s_loss_and_gradients_in_every_family(family):
    rows = token_rows()
    model = adapted(build(family))
    assert_same(fast(copy.deepcopy(model), rows), plainly(model, rows))


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_every_kind_of_adapter(family, kind):
    rows = token_rows()
    model = adapted(build(family), **ADAPTERS[kind])
    assert_same(fast(copy.deepcopy(model), rows), plainly(model, rows))


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_all_weights_trained_a_tied_head_too(family):
    rows = token_rows()
    model = build(family).train()
    assert_same(fast(copy.deepcopy(model), rows), plainly(model, rows))


def test_a_loss_on_all_tokens_of_rows_end_to_end_is_that_of_each_row_alone():
    rows = of_all(token_rows())
    model = adapted(build())
    got = fast(copy.deepcopy(model), rows)
    assert_same(got, plainly(model, rows))
    # Nothing comes before a row's first token, and the row before it is no part of it.
    assert len(rows) < sum(len(row["labels"]) for row in rows)
    import torch

    means = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        means.append(float(model(input_ids=ids, labels=ids).loss.detach()) * (ids.shape[1] - 1))
    assert got[1] == pytest.approx(means, rel=1e-5)


@pytest.mark.parametrize("loss", ["answer", "all"])
def test_the_adapter_is_trained_as_trl_trains_it(tmp_path, loss):
    import datasets
    import trl

    rows = token_rows() if loss == "answer" else of_all(token_rows())
    model = adapted(build())
    got = fast(copy.deepcopy(model), rows)
    # Of rows without labels trl takes the loss on all of their tokens.
    keys = ("input_ids", "labels") if loss == "answer" else ("input_ids",)
    given = [{key: row[key] for key in keys} for row in rows]
    settings = dict(use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False, max_length=None)
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(output_dir=str(tmp_path), dataset_kwargs={"skip_prepare_dataset": True}, **settings),
        train_dataset=datasets.Dataset.from_list(given),
        processing_class=tokenizer(),
    )
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(given))
    loss.backward()
    assert_same((got[0], [], got[2]), (float(loss.detach()), [], gradients(trainer.model)))


def tokenizer():
    import tokenizers
    import transformers

    words = {f"w{i}": i for i in range(VOCABULARY)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="w0", eos_token="w0", unk_token="w0")


def test_gradient_accumulation_counts_the_whole_step_s_tokens():
    rows = token_rows()
    model = adapted(build())
    assert_same(fast(copy.deepcopy(model), rows, batches=3), fast(model, rows))


def test_padded_and_flat_batches_are_worth_the_same():
    rows = token_rows()
    model = adapted(build())
    losses = row_losses(model, collate(rows, 0, flat=False))
    losses.loss.backward()
    got = float(losses.loss.detach()), losses.sums.tolist(), gradients(model)
    assert_same(got, fast(copy.deepcopy(model), rows))


def test_gradient_checkpointing_changes_nothing():
    rows = token_rows()
    model = adapted(build())
    kept = copy.deepcopy(model)
    kept.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_same(fast(kept, rows), plainly(model, rows))


def test_parts_in_fewer_passes_draw_the_dropout_that_peft_draws():
    import torch

    rows = token_rows()
    own = adapted(build(), lora_dropout=0.3)
    fused = copy.deepcopy(own)
    assert prepare_model(own) and prepare_model(fused)
    for module in own.modules():
        vars(module).pop("forward", None)
    found = []
    for model in (own, fused, fused):
        model.zero_grad()
        torch.manual_seed(5)
        losses = row_losses(model, collate(rows, 0))
        losses.loss.backward()
        found.append((float(losses.loss.detach()), losses.sums.tolist(), gradients(model)))
    assert_same(found[1], found[0])
    assert found[1][:2] == found[2][:2]
    assert all(torch.equal(found[1][2][name], found[2][2][name]) for name in found[1][2])
    torch.manual_seed(6)
    assert float(row_losses(fused, collate(rows, 0)).loss.detach()) != found[1][0]


def test_every_part_of_the_usual_models_is_fused():
    for family, parts in {"llama": 7 + 2 + 1, "qwen2": 7 + 2 + 1, "phi3": 4 + 2 + 1}.items():
        model = adapted(build(family))
        assert fuse_parts(model) == 2 * parts + 1, family  # Two layers and the last norm.
        assert fuse_parts(model) == 0, family


def test_a_merged_or_switched_off_adapter_is_respected():
    import torch

    model = adapted(build()).eval()
    ids = torch.tensor([token_rows()[1]["input_ids"]])
    with torch.no_grad():
        with_it = model(ids).logits
        with model.disable_adapter():
            without = model(ids).logits
        assert fuse_parts(model)
        assert torch.allclose(model(ids).logits, with_it, atol=1e-5)
        with model.disable_adapter():
            assert torch.allclose(model(ids).logits, without, atol=1e-5)
        assert float((with_it - without).abs().max()) > 0.1
        model.merge_adapter()
        assert torch.allclose(model(ids).logits, with_it, atol=1e-4)


def test_what_is_saved_is_the_same_with_fused_parts():
    import peft

    model = adapted(build())
    before = {name: tensor.clone() for name, tensor in peft.get_peft_model_state_dict(model).items()}
    fuse_parts(model)
    after = peft.get_peft_model_state_dict(model)
    assert before.keys() == after.keys()
    assert all(bool((before[name] == after[name]).all()) for name in before)


@pytest.mark.parametrize("trained", ["adapter", "all weights"])
def test_a_head_in_parts_is_the_head_at_once(trained, monkeypatch):
    rows = token_rows()
    model = adapted(build()) if trained == "adapter" else build().train()
    whole = fast(copy.deepcopy(model), rows)
    monkeypatch.setattr(_head, "LOGITS_BYTES", 4 * VOCABULARY * 5)
    monkeypatch.setattr(_head, "CACHED_BYTES", 4 * VOCABULARY * 2)
    assert_same(fast(model, rows), whole)


def test_the_head_s_function_is_torch_s_linear_and_cross_entropy():
    import torch

    torch.manual_seed(0)
    hidden = (torch.randn(13, 8) * 4).requires_grad_()
    weight = torch.randn(29, 8, requires_grad=True)
    bias = torch.randn(29, requires_grad=True)
    labels = torch.randint(0, 29, (13,))
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.T + bias, labels, reduction="none")
    slopes = torch.autograd.grad(0.37 * wanted.sum(), (hidden, weight, bias))
    head = torch.nn.Linear(8, 29)
    head.weight, head.bias = torch.nn.Parameter(weight.detach()), torch.nn.Parameter(bias.detach())
    total, each = _head.head_losses(head, hidden, labels)
    assert torch.allclose(each, wanted, rtol=1e-5, atol=1e-5)
    for got, slope in zip(torch.autograd.grad(0.37 * total, (hidden, head.weight, head.bias)), slopes, strict=True):
        assert torch.allclose(got, slope, rtol=1e-4, atol=1e-5)


def test_losses_of_thousands_of_nats_stay_numbers():
    import torch

    hidden = torch.tensor([[3000.0, -3000.0]], requires_grad=True)
    head = torch.nn.Linear(2, 2, bias=False)
    head.weight = torch.nn.Parameter(torch.eye(2))
    total, each = _head.head_losses(head, hidden, torch.tensor([1]))
    total.backward()
    assert each.tolist() == [6000.0]
    assert hidden.grad.tolist() == [[1.0, -1.0]]


def test_nothing_scored_is_a_loss_of_zero_that_can_go_backward():
    model = adapted(build())
    assert prepare_model(model)
    rows = [{"input_ids": [3, 4, 5], "labels": [-100] * 3, "task_id": 0}]
    losses = row_losses(model, collate(rows, 0))
    losses.loss.backward()
    assert float(losses.loss.detach()) == 0.0
    assert losses.sums.tolist() == [0.0] and losses.tokens.tolist() == [0]
    assert all(float(g.abs().max()) == 0.0 for g in gradients(model).values())


def test_without_gradients_the_losses_are_the_same():
    import torch

    model = adapted(build())
    wanted = fast(model, token_rows())
    with torch.no_grad():
        losses = row_losses(model, collate(token_rows(), 0))
    assert losses.sums.tolist() == pytest.approx(wanted[1], rel=1e-6)
    assert not losses.loss.requires_grad


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_weights_are_as_near_as_the_plain_forward_is(autocast):
    import torch

    rows = token_rows()
    wanted = plainly(adapted(build()), rows)
    model = adapted(build(dtype="bfloat16"))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        by_plain = plainly(copy.deepcopy(model), rows)
        got = fast(model, rows)
    assert got[0] == pytest.approx(wanted[0], rel=0.01)
    assert all(gradient.dtype == torch.float32 for gradient in got[2].values())

    def away(found):
        return sum(float((found[2][name] - g).norm()) for name, g in wanted[2].items()) / sum(
            float(g.norm()) for g in wanted[2].values()
        )

    assert away(got) < max(0.05, 1.5 * away(by_plain))


def test_mixed_precision_on_float32_weights():
    import torch

    rows = token_rows()
    model = adapted(build())
    wanted = plainly(copy.deepcopy(model), rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = fast(model, rows)
    assert got[0] == pytest.approx(wanted[0], rel=0.01)
    assert got[0] != wanted[0]


def quantised(folder):
    import peft
    import torch
    import transformers

    pytest.importorskip("bitsandbytes")
    if not (folder / "config.json").exists():
        build(hidden_size=64, intermediate_size=64).save_pretrained(folder)
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=settings, dtype=torch.float32, device_map="cpu"
    )
    return adapted(peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False))


def test_a_quantised_base(tmp_path):
    rows = token_rows()
    assert_same(fast(quantised(tmp_path), rows), plainly(quantised(tmp_path), rows))


def test_a_quantised_base_trains_on_after_a_validation(tmp_path):
    import torch

    rows = token_rows()
    model = quantised(tmp_path)
    before = fast(model, rows)
    model.eval()
    with torch.no_grad():
        row_losses(model, collate(rows, 0))
    model.train()
    assert_same(fast(model, rows), before)


def test_a_quantised_base_that_was_evaluated_before_is_refused(tmp_path):
    import torch

    model = quantised(tmp_path).eval()
    with torch.no_grad():
        model(torch.tensor([[3, 4, 5]]))
    packed = any(
        getattr(getattr(part.weight, "quant_state", None), "packing_format_for_cpu", False)
        for part in model.modules()
        if hasattr(part, "support_avx512bf16_for_cpu")
    )
    if not packed:
        pytest.skip("bitsandbytes packs nothing anew on this machine")
    with pytest.raises(UsageError, match="load the model again"):
        prepare_model(model)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("adapter", [True, False])
def test_an_encoder_decoder_s_loss_and_gradients(tied, adapter):
    import torch
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(1)
        sizes = dict(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0)
        model = transformers.T5ForConditionalGeneration(
            transformers.T5Config(**sizes, tie_word_embeddings=tied, decoder_start_token_id=0)
        )
    model = adapted(model, "SEQ_2_SEQ_LM") if adapter else model.train()
    rng = random.Random("encoder-decoder")
    rows = [
        {"input_ids": [rng.randrange(2, 90) for _ in range(n)], "labels": [rng.randrange(2, 90) for _ in range(m)]}
        for n, m in ((7, 3), (2, 9), (12, 1))
    ]
    model.zero_grad()
    sums = [
        model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
        * len(row["labels"])
        for row in rows
    ]
    (sum(sums) / 13).backward()
    wanted = float(sum(sums).detach()) / 13, [float(one.detach()) for one in sums], gradients(model)
    model.zero_grad()
    assert prepare_model(model) is False
    losses = row_losses(model, collate(rows, 0, "seq2seq"))
    losses.loss.backward()
    assert losses.tokens.tolist() == [3, 9, 1]
    assert_same((float(losses.loss.detach()), losses.sums.tolist(), gradients(model)), wanted)
