"""Rows end to end in one sequence give what each gives alone, and none sees another."""

from __future__ import annotations

import copy
import random

import pytest

from slmbench.errors import UsageError
from slmbench.training._attention import ROWS, prepare_model, row_mask
from slmbench.training._forward import collate, row_losses

VOCABULARY = 89
LENGTHS = (9, 14, 2, 23, 1, 6)
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
)
FAMILIES = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", {}),
    "qwen2, a window on some layers": (
        "Qwen2Config",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "phi3": ("Phi3Config", {}),
    "phi3, a window": ("Phi3Config", {"sliding_window": 5}),
    "mistral, a window": ("MistralConfig", {"sliding_window": 5}),
    "smollm3, layers without positions": ("SmolLM3Config", {"no_rope_layers": [1, 0, 1]}),
    "granite, scaled attention": ("GraniteConfig", {"attention_multiplier": 0.3}),
    "gpt2, learned positions": ("GPT2Config", None),
}


def build(family: str):
    import torch
    import transformers

    name, changed = FAMILIES[family]
    if changed is None:
        sizes = dict(
            vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
        )
    else:
        sizes = SIZES | changed
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**sizes))
        for parameter in model.parameters():  # So sharp that attention matters.
            parameter.data.normal_(std=0.3) if parameter.ndim > 1 else None
    return model.eval()


def token_rows(seed: int = 0, lengths=LENGTHS) -> list[dict]:
    rng = random.Random(f"rows {seed}")
    rows = []
    for number, length in enumerate(lengths):
        ids = [rng.randrange(VOCABULARY) for _ in range(length)]
        asked = length // 3
        rows.append({"input_ids": ids, "labels": [-100] * asked + ids[asked:], "task_id": number % 2})
    return rows


def together(model, rows):
    """Log-probabilities over the vocabulary, one tensor a row, of rows laid end to end."""
    import torch

    batch = collate(rows, 0)
    with torch.no_grad():
        logits = model(
            input_ids=batch["input_ids"],
            attention_mask=row_mask(batch["row_lengths"].tolist()),
            position_ids=batch["position_ids"],
        ).logits[0]
    return logits.log_softmax(-1).split(batch["row_lengths"].tolist())


def alone(model, rows):
    import torch

    with torch.no_grad():
        return [model(input_ids=torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1) for row in rows]


def farthest(left, right) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_and_solo_log_probabilities_are_the_same(family):
    rows = token_rows()
    plain = build(family)
    solo = alone(plain, rows)
    model = copy.deepcopy(plain)
    assert prepare_model(model)
    assert farthest(together(model, rows), solo) < 1e-5


def test_rows_end_to_end_without_their_bounds_would_see_each_other():
    import torch

    rows = token_rows()
    model = build("llama")
    with torch.no_grad():
        naive = model(input_ids=collate(rows, 0)["input_ids"], use_cache=False).logits[0].log_softmax(-1)
    assert farthest(naive.split(list(LENGTHS)), alone(model, rows)) > 0.1


@pytest.mark.parametrize("family", ["llama", "phi3, a window"])
def test_another_row_changes_no_bit(family):
    model = build(family)
    assert prepare_model(model)
    rows, other = token_rows(), token_rows(seed=1)
    before = together(model, rows)
    after = together(model, [other[0], *rows[1:3], other[3], *rows[4:]])
    assert [bool((a == b).all()) for a, b in zip(before, after, strict=True)] == [False, True, True, False, True, True]


def test_the_embedded_model_on_sentences(nano):
    import torch

    texts = ("Question: What is 3 plus 4?\nAnswer: 7", "The cat sat on the mat.", "Note: call Anna at 9", "7")
    rows = [{"input_ids": ids, "labels": ids} for ids in nano.tokenizer(list(texts))["input_ids"]]
    solo = alone(nano.model, rows)
    assert prepare_model(nano.model)
    packed = together(nano.model, rows)
    of_tokens = [
        [
            table[:-1].gather(1, torch.tensor(row["input_ids"][1:])[:, None])
            for table, row in zip(part[:3], rows[:3], strict=True)
        ]
        for part in (packed, solo)
    ]
    assert farthest(*of_tokens) < 1e-5


def test_a_prepared_model_still_takes_padded_batches_and_generates():
    import torch

    plain = build("llama")
    model = copy.deepcopy(plain)
    assert prepare_model(model)
    batch = collate(token_rows(), 0, flat=False)
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        got, wanted = model(**inputs).logits, plain(**inputs).logits
    real = batch["attention_mask"].bool()
    assert float((got - wanted)[real].abs().max()) < 1e-5
    ids = batch["input_ids"][3:4]
    options = dict(max_new_tokens=5, do_sample=False, attention_mask=torch.ones_like(ids))
    assert model.generate(ids, **options).tolist() == plain.generate(ids, **options).tolist()


@pytest.mark.parametrize("kind", ["mamba", "gemma2", "t5"])
def test_a_class_that_can_not_is_left_as_it_was(kind):
    import torch
    import transformers

    sizes = {
        "mamba": lambda: transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2),
        "gemma2": lambda: transformers.Gemma2Config(**SIZES, head_dim=8),
        "t5": lambda: transformers.T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=32, num_layers=1),
    }
    auto = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
    with torch.random.fork_rng():
        model = auto.from_config(sizes[kind]())
    before = model.config._attn_implementation
    assert prepare_model(model) is False
    assert model.config._attn_implementation == before


def test_preparing_twice_is_preparing_once_and_keeps_the_mode():
    model = build("llama").train()
    assert prepare_model(model)
    assert prepare_model(model)
    assert model.training
    assert model.config._attn_implementation == ROWS


def test_rows_end_to_end_are_refused_by_a_model_that_was_not_prepared():
    with pytest.raises(UsageError, match="prepare_model"):
        row_losses(build("llama"), collate(token_rows(), 0))


def test_a_flat_batch_holds_every_token_once_and_nothing_else():
    rows = [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "task_id": 1},
        {"input_ids": [8, 9], "labels": [8, 9], "task_id": 0},
    ]
    batch = {key: tensor.tolist() for key, tensor in collate(rows, 0).items()}
    assert batch == {
        "input_ids": [[5, 6, 7, 8, 9]],
        "labels": [[-100, 6, 7, -100, 9]],  # A row's first token has nothing before it that could predict it.
        "position_ids": [[0, 1, 2, 0, 1]],
        "row_lengths": [3, 2],
        "task_id": [1, 0],
    }


def test_a_padded_batch_says_what_is_padding():
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8, 9], "labels": [8, 9]}]
    batch = {key: tensor.tolist() for key, tensor in collate(rows, 3, flat=False).items()}
    assert batch["input_ids"] == [[5, 6, 7], [8, 9, 3]]
    assert batch["attention_mask"] == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"] == [[-100, 6, 7], [-100, 9, -100]]


def test_an_encoder_decoder_s_batch_pads_prompt_and_answer_apart():
    rows = [{"input_ids": [5, 6, 7], "labels": [4, 1]}, {"input_ids": [8], "labels": [9, 2, 1]}]
    batch = {key: tensor.tolist() for key, tensor in collate(rows, 0, "seq2seq").items()}
    assert batch["input_ids"] == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"] == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"] == [[4, 1, -100], [9, 2, 1]]
