"""Makes the embedded model: its tokenizer and its weights, from generated text alone.

    python -m slmbench.nano.pretrain --out slmbench/nano/model

Deterministic for one machine type and thread count: the same seed gives the same weights. `pretrain.json` records
the settings, the losses and the sums of what came out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from slmbench.console import say, show_json
from slmbench.nano.corpus import EARLY_DOCUMENTS, documents
from slmbench.values import Backend, JsonObject, Model, Tokenizer

VOCAB_SIZE = 1024
CONTEXT = 1024
BATCH = 48
EMBEDDING_LR = 4e-3
MATRIX_LR = 0.01
WARMUP_STEPS = 50
END = "<|end|>"
PAD = 1
SPECIAL = [END, "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"]

CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def train_tokenizer(n_documents: int = 20_000, seed: int = 0) -> Backend:
    """A byte-level BPE of `VOCAB_SIZE` pieces with single digits, as a transformers fast tokenizer. It adds no BOS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Past the early documents, so that no kind of text outweighs the others.
    bpe.train_from_iterator(islice(documents(seed), EARLY_DOCUMENTS, EARLY_DOCUMENTS + n_documents), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token="<|pad|>",
        extra_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_model() -> Model:
    """The untrained Llama: hidden 128, 4 layers, 4 heads, feed-forward 384, tied head."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=PAD,
        )
    )


def _batches(tokenizer: Tokenizer, seed: int) -> Iterator[list[list[int]]]:
    # One document a row: laid end to end they would see each other, and in a world of so few words every document has
    # the same ones, which drowns the signal that copying is learned from. Like lengths go together, in a mixed order.
    rng = random.Random(f"nano-batches/{seed}")
    texts = documents(seed)
    while True:
        rows = tokenizer([text + END for text in islice(texts, BATCH * 16)])["input_ids"]
        rows.sort(key=len)
        batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        rng.shuffle(batches)
        yield from batches


def pretrain(out: Path, steps: int, seed: int = 0, schedule_steps: int | None = None) -> JsonObject:
    """Trains for `steps` and writes model, tokenizer and `pretrain.json` to `out`; returns that record.

    schedule_steps: the length the learning rate's decay is laid out for (`steps` unless told), so that the first steps
    of a long training can be repeated alone.
    """
    import torch
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    horizon = schedule_steps or steps
    tokenizer = train_tokenizer(seed=seed)
    model = build_model()
    parameters = sum(p.numel() for p in model.parameters())
    # Muon for the matrices: copying is learned in about half the steps that AdamW alone needs.
    inner = [p for key, p in model.named_parameters() if p.dim() == 2 and "embed" not in key]
    outer = [p for key, p in model.named_parameters() if p.dim() != 2 or "embed" in key]
    optimizers = [
        (torch.optim.Muon(inner, lr=MATRIX_LR, momentum=0.95, weight_decay=0.01), MATRIX_LR),
        (torch.optim.AdamW(outer, lr=EMBEDDING_LR, betas=(0.9, 0.95), weight_decay=0.0), EMBEDDING_LR),
    ]
    model.train()
    losses: list[float] = []
    tokens = 0
    started = time.perf_counter()
    for step, rows in enumerate(islice(_batches(tokenizer, seed + 1), steps)):
        warm = min(1.0, (step + 1) / WARMUP_STEPS)
        scale = warm * min(1.0, 2 * max(0.0, 1 - step / horizon))  # Flat, then down to nothing over the second half.
        width = max(map(len, rows))
        # Padding is on the right, where causal attention never looks back at it: no mask is needed.
        ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])  # (batch, seq), int64
        logits = model(input_ids=ids).logits[:, :-1]  # (batch, seq - 1, vocab), float32
        targets = ids[:, 1:].masked_fill(ids[:, 1:] == PAD, -100)
        loss = cross_entropy(logits.reshape(-1, VOCAB_SIZE), targets.reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tokens += sum(map(len, rows))
        if (step + 1) % 50 == 0 or step + 1 == steps:
            seconds = time.perf_counter() - started
            rate = tokens / seconds
            recent = sum(losses[-50:]) / len(losses[-50:])
            say(f"step {step + 1}/{steps}  loss {recent:.4f}  {rate:,.0f} tokens/s  {seconds:.0f} s")
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    # Half precision on disk halves the package; it is loaded in float32.
    model.to(torch.float16).save_pretrained(out)
    record = {
        "seed": seed,
        "steps": steps,
        "schedule_steps": horizon,
        "tokens": tokens,
        "parameters": parameters,
        "losses_first_20": losses[:20],
        "loss_last_50": sum(losses[-50:]) / len(losses[-50:]),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sha256": {
            name: hashlib.sha256((out / name).read_bytes()).hexdigest()
            for name in ("model.safetensors", "tokenizer.json")
        },
    }
    (out / "pretrain.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded model nano on generated text.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--schedule-steps", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    record = pretrain(args.out, args.steps, args.seed, args.schedule_steps)
    show_json(record)


if __name__ == "__main__":
    main()
