"""Small models of many architectures, requests for two engines, and bounds so low that small tests cross them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
LLAMA = SIZES | {"intermediate_size": 48, "num_key_value_heads": 2}
EXPERTS = LLAMA | {"num_experts_per_tok": 2}
WINDOWED = LLAMA | {"num_hidden_layers": 3, "sliding_window": 12}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.5, 2.0, 2.5],
    "long_factor": [2.0, 4.0, 6.0, 8.0],
    "original_max_position_embeddings": 48,
    "factor": 128 / 48,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", LLAMA),
    "qwen2": ("Qwen2", WINDOWED | {"use_sliding_window": True, "max_window_layers": 1}),
    "mistral": ("Mistral", WINDOWED),
    "phi3": (
        "Phi3",
        LLAMA | {"rope_parameters": LONGROPE, "original_max_position_embeddings": 48, "pad_token_id": 1},
    ),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    "gpt_neox": ("GPTNeoX", SIZES | {"intermediate_size": 48}),
    "opt": ("OPT", SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "bloom": ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "mamba": ("Mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "gemma2": ("Gemma2", WINDOWED | {"head_dim": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 5.0}),
    "mixtral": ("Mixtral", EXPERTS | {"num_local_experts": 4, "sliding_window": None}),
    "qwen2_moe": (
        "Qwen2Moe",
        EXPERTS | {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24},
    ),
}


def _tiny(name: str, **changes: Any) -> Any:
    import torch
    import transformers

    family, sizes = ARCHITECTURES[name]
    model_class = f"{family}LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    # Weights large enough for greedy tokens to differ from place to place.
    settings = sizes | {"vocab_size": 1024, "initializer_range": 0.3, "eos_token_id": 0, "bos_token_id": None} | changes
    torch.manual_seed(0)
    return getattr(transformers, model_class)(getattr(transformers, f"{family}Config")(**settings)).eval()


@pytest.fixture(scope="session")
def tiny():
    """tiny(architecture, **changes of its config) -> a small random model with the vocabulary of nano's tokenizer."""
    return _tiny


@pytest.fixture(scope="session")
def theirs(nano_tokenizer):
    """theirs(model, tokenizer=nano's, **options) -> lm-eval's own HFLM, one row at a time unless told otherwise."""

    def make(model: Any, tokenizer: Any = None, **options: Any) -> Any:
        from lm_eval.models.huggingface import HFLM

        options = {"batch_size": 1, "softmax_dtype": "float32"} | options
        return HFLM(pretrained=model, tokenizer=tokenizer or copy.deepcopy(nano_tokenizer), **options)

    return make


@pytest.fixture(scope="session")
def ours(nano_tokenizer):
    """ours(model, tokenizer=nano's, **options) -> SharedPrefixLM over the same model object."""

    def make(model: Any, tokenizer: Any = None, **options: Any) -> Any:
        from slmbench.evaluation.shared_prefix import SharedPrefixLM

        return SharedPrefixLM(
            pretrained=model, tokenizer=tokenizer or copy.deepcopy(nano_tokenizer), **({"batch_size": 4} | options)
        )

    return make


@pytest.fixture(scope="session")
def instances():
    """instances(kind, arguments, task="t") -> fresh lm-eval requests, one item each: lm-eval changes their kwargs."""

    def make(kind: str, arguments: list[tuple[Any, ...]], task: str = "t", items: list[int] | None = None) -> list[Any]:
        from lm_eval.api.instance import Instance

        ids = items or list(range(len(arguments)))
        return [
            Instance(kind, {}, copy.deepcopy(args), 0, metadata=(task, item, 1))
            for item, args in zip(ids, arguments, strict=True)
        ]

    return make


@pytest.fixture(scope="session")
def written_by():
    """written_by(lm, arguments) -> the requests that its engine is handed for these, an item each."""

    def make(lm: Any, arguments: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        from slmbench.engines.protocol import WriteRequest

        return [
            WriteRequest(("t", at), text, lm.tok_encode(text), copy.deepcopy(how))
            for at, (text, how) in enumerate(arguments)
        ]

    return make


@pytest.fixture
def small_segments(monkeypatch):
    """small_segments() -> nothing; from then on, few tokens make a segment or a piece of a context too large."""

    def squeeze() -> None:
        from slmbench.engines.shared_prefix import _prompts, _trie

        for module, name, value in (
            (_trie, "SUBTREE_TOKENS", 12),
            (_trie, "PIECE_TOKENS", 7),
            (_trie, "PACKED_TOKENS", 6),
            (_prompts, "PIECE_TOKENS", 7),
            (_prompts, "SHARED_TOKENS", 4),
        ):
            monkeypatch.setattr(module, name, value)

    return squeeze


@pytest.fixture
def cramped(small_segments, monkeypatch):
    """cramped() -> nothing; from then on, few tokens make a segment or a pass too large."""

    def squeeze() -> None:
        from slmbench.engines.shared_prefix import _room

        small_segments()
        monkeypatch.setattr(_room, "PASS_TOKENS_CPU", 30)

    return squeeze


@pytest.fixture
def stores(monkeypatch):
    """Every store of prefixes that an engine makes during the test."""
    from slmbench.engines.shared_prefix import _engine

    made: list[Any] = []
    real = _engine.PrefixStore

    def make(most_tokens: int) -> Any:
        made.append(real(most_tokens))
        return made[-1]

    monkeypatch.setattr(_engine, "PrefixStore", make)
    return made


@pytest.fixture
def documents():
    """documents(seed=0, shots=, n=, choices=, vocabulary=) -> (context ids, continuation ids) of documents that share
    shots: each with several choices, which share their context and some of them their first tokens."""

    def make(
        seed: int = 0, *, shots: int = 20, n: int = 5, choices: int = 3, vocabulary: int = 1000
    ) -> list[tuple[list[int], list[int]]]:
        import numpy as np

        rng = np.random.default_rng(seed)

        def draw(length: int) -> list[int]:
            return [int(token) for token in rng.integers(4, vocabulary, length)]

        shared, found = draw(shots), []
        for _ in range(n):
            context = shared + draw(int(rng.integers(1, 14)))
            stem = draw(2)
            for choice in range(choices):
                found.append((context, (stem if choice % 2 else []) + draw(int(rng.integers(1, 5)))))
        return found

    return make


@pytest.fixture(scope="session")
def scored_alike():
    """scored_alike(ours, theirs, pairs of ids) -> HFLM's answers, after asserting that ours are the same."""

    def check(one: Any, other: Any, pairs: list[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        named = [((f"context {i}", "rest"), context, rest) for i, (context, rest) in enumerate(pairs)]
        want = other._loglikelihood_tokens(copy.deepcopy(named), disable_tqdm=True)
        got = one._loglikelihood_tokens(copy.deepcopy(named))
        assert [value for value, _ in got] == pytest.approx([value for value, _ in want], abs=1e-4)
        assert [greedy for _, greedy in got] == [greedy for _, greedy in want]
        return want

    return check


@pytest.fixture(scope="session")
def greedy_after():
    """greedy_after(model, ids, n) -> the n ids that are likeliest after these, one after another."""

    def follow(model: Any, ids: list[int], n: int) -> list[int]:
        import torch

        found = list(ids)
        for _ in range(n):
            with torch.no_grad():
                found.append(int(model(torch.tensor([found])).logits[0, -1].argmax()))
        return found[len(ids) :]

    return follow


@pytest.fixture(scope="session")
def byte_tokenizer():
    """byte_tokenizer(bos=None, eos=None, merges=()) -> a tokenizer of single bytes, these merges and tokens."""

    def make(
        *, bos: str | None = None, eos: str | None = None, adds_bos: bool = False, merges: tuple[Any, ...] = ()
    ) -> Any:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocab = {sign: i for i, sign in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
        inner = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.decoder = decoders.ByteLevel()
        special = [token for token in (bos, eos) if token is not None]
        inner.add_special_tokens(special)
        if adds_bos and bos is not None:
            inner.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))]
            )
        named = {name: token for name, token in (("bos_token", bos), ("eos_token", eos)) if token is not None}
        return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=special[-1] if special else "!", **named)

    return make


@pytest.fixture(scope="session")
def chain():
    """chain(tokenizer, tokens) -> a model that writes these tokens round and round, each after the one before it."""

    def make(tokenizer: Any, tokens: list[str]) -> Any:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        n = len(tokenizer)
        config = LlamaConfig(
            vocab_size=n, hidden_size=n, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, head_dim=4,
            max_position_embeddings=64, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        )  # fmt: skip
        model = LlamaForCausalLM(config).eval()
        ids = tokenizer.convert_tokens_to_ids(tokens)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.fill_(float("norm" in name))
            model.model.embed_tokens.weight.copy_(torch.eye(n))
            model.lm_head.weight[ids[1:] + ids[:1], ids] = 1.0
        return model

    return make
