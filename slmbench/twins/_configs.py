"""A twin's config: the class and the switches of the real model's, with sizes of its own."""

from __future__ import annotations

import json
import os

from slmbench.files import write_json
from slmbench.schema import ModelSpec
from slmbench.values import Config, JsonObject, Tokenizer

ROWS_MULTIPLE = 64
"""Real models' embeddings have more rows than their tokenizers have pieces, up to a multiple of this."""


def write_config(folder: str, spec: ModelSpec, tokenizer: Tokenizer) -> Config:
    """`config.json` and `generation_config.json`; returns the transformers config."""
    import transformers

    name, facts, generation = _FAMILIES[str(spec.family)](spec, tokenizer)
    rows = -(-len(tokenizer) // ROWS_MULTIPLE) * ROWS_MULTIPLE
    config = getattr(transformers, f"{name[0]}Config")(vocab_size=rows, **facts)
    config.architectures = [name[1]]
    config.dtype = "float32"
    written = json.loads(config.to_json_string())
    # What is made of a twin, merged or trained whole, is known as one by this.
    written["slmbench_twin"] = True
    if spec.family == "t5":
        # transformers sets this to true whatever is given, and reads from it on loading whether outputs are scaled.
        written["tie_word_embeddings"] = facts["tie_word_embeddings"]
        written.pop("scale_decoder_outputs", None)
    write_json(os.path.join(folder, "config.json"), written)
    transformers.GenerationConfig(**generation).save_pretrained(folder)
    return config


def _common(spec: ModelSpec, tokenizer: Tokenizer, rope: JsonObject) -> JsonObject:
    twin = spec.twin
    assert twin is not None
    return {
        "hidden_size": twin.hidden,
        "intermediate_size": twin.feed_forward,
        "num_hidden_layers": twin.layers,
        "num_attention_heads": twin.heads,
        "num_key_value_heads": twin.kv_heads,
        "head_dim": twin.head_width,
        "max_position_embeddings": twin.context_tokens,
        "tie_word_embeddings": bool(spec.tied_head),
        "rope_parameters": rope,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
    }


def _llama(spec: ModelSpec, tokenizer: Tokenizer) -> Config:
    assert spec.twin is not None
    # As Llama 3.2's, whose window was stretched from 8,192 to 131,072 tokens.
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": max(64, spec.twin.context_tokens // 16),
    }
    ends = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"] if spec.instruct else ["<|end_of_text|>"]
    eos = [tokenizer.convert_tokens_to_ids(end) for end in ends]
    facts = _common(spec, tokenizer, rope) | {"rms_norm_eps": 1e-5, "eos_token_id": eos if spec.instruct else eos[0]}
    # Its published settings draw samples; what scores it has to ask for greedy answers.
    generation = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": facts["eos_token_id"],
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
    }
    return ("Llama", "LlamaForCausalLM"), facts, generation


def _tinyllama(spec: ModelSpec, tokenizer: Tokenizer) -> Config:
    facts = _common(spec, tokenizer, {"rope_type": "default", "rope_theta": 10000.0}) | {"rms_norm_eps": 1e-5}
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return ("Llama", "LlamaForCausalLM"), facts, generation


def _smollm2(spec: ModelSpec, tokenizer: Tokenizer) -> Config:
    facts = _common(spec, tokenizer, {"rope_type": "default", "rope_theta": 100000.0}) | {"rms_norm_eps": 1e-5}
    generation = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return ("Llama", "LlamaForCausalLM"), facts, generation


def _qwen2(spec: ModelSpec, tokenizer: Tokenizer) -> Config:
    assert spec.twin is not None
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    facts = _common(spec, tokenizer, {"rope_type": "default", "rope_theta": 1000000.0}) | {
        "rms_norm_eps": 1e-6,
        "bos_token_id": end,  # The tokenizer has none.
        "use_sliding_window": False,
        "sliding_window": spec.twin.context_tokens,
        "max_window_layers": spec.twin.layers,
    }
    return ("Qwen2", "Qwen2ForCausalLM"), facts, {"bos_token_id": end, "eos_token_id": tokenizer.eos_token_id}


def _phi3(spec: ModelSpec, tokenizer: Tokenizer) -> Config:
    twin = spec.twin
    assert twin is not None
    # Two sets of factors, by length. The real window grew from 4,096 tokens; up to there the short ones hold.
    half = twin.head_width // 2
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [round(1 + i / half, 4) for i in range(half)],
        "long_factor": [round(1 + 8 * i / half, 4) for i in range(half)],
    }
    end = tokenizer.eos_token_id
    facts = _common(spec, tokenizer, rope) | {
        "rms_norm_eps": 1e-5,
        "original_max_position_embeddings": max(64, twin.context_tokens // 2),
        "sliding_window": 262144,
        "pad_token_id": end,
        "bos_token_id": tokenizer.bos_token_id,
    }
    facts.pop("head_dim")
    stops = [tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "<|assistant|>", "<|endoftext|>")]
    generation = {"bos_token_id": 1, "eos_token_id": stops, "pad_token_id": end}
    return ("Phi3", "Phi3ForCausalLM"), facts, generation


def _t5(spec: ModelSpec, tokenizer: Tokenizer) -> Config:
    twin = spec.twin
    assert twin is not None
    facts = {
        "d_model": twin.hidden,
        "d_kv": twin.head_width,
        "d_ff": twin.feed_forward,
        "num_layers": twin.layers,
        "num_decoder_layers": twin.layers,
        "num_heads": twin.heads,
        "feed_forward_proj": "gated-gelu",
        "n_positions": twin.context_tokens,
        "tie_word_embeddings": bool(spec.tied_head),
        "decoder_start_token_id": tokenizer.pad_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    generation = {key: facts[key] for key in ("decoder_start_token_id", "pad_token_id", "eos_token_id")}
    return ("T5", "T5ForConditionalGeneration"), facts, generation


_FAMILIES = {"llama": _llama, "tinyllama": _tinyllama, "smollm2": _smollm2, "qwen2": _qwen2, "phi3": _phi3, "t5": _t5}
