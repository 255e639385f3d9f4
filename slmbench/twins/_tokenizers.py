"""Twins' tokenizers: each family's own kind and special tokens, with about a thousand pieces learned from our text."""

from __future__ import annotations

import json
import math
from collections import Counter

from slmbench.schema import ModelSpec
from slmbench.twins._templates import chat_template
from slmbench.twins._text import training_lines
from slmbench.values import Backend, JsonObject, Tokenizer

PIECES = 1000
BYTES = [f"<0x{i:02X}>" for i in range(256)]
WORD = "\u2581"
"""What SentencePiece writes for a blank."""

# How text is cut before pieces are looked for: published with the models.
_LLAMA3_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_CUTS = _LLAMA3_CUTS.replace(r"\p{N}{1,3}", r"\p{N}")


def build_tokenizer(spec: ModelSpec) -> Tokenizer:
    """A transformers tokenizer with the family's behaviour: how text is cut, what is added, how a turn ends.

    Any text comes back as it was, byte for byte, but for what the real one loses too (T5 has no line breaks).
    """
    from transformers import PreTrainedTokenizerFast

    assert spec.twin is not None
    backend, special = _FAMILIES[str(spec.family)](spec)
    tokenizer: Tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=spec.twin.context_tokens,
        clean_up_tokenization_spaces=False,
        **special,
    )
    tokenizer.chat_template = chat_template(spec)
    return tokenizer


def _llama(spec: ModelSpec) -> tuple[Backend, JsonObject]:
    from tokenizers import Regex, pre_tokenizers, processors

    cut = pre_tokenizers.Split(Regex(_LLAMA3_CUTS), behavior="isolated")
    backend = _byte_level([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)], first=[])
    names = (
        "<|begin_of_text|> <|end_of_text|> <|reserved_special_token_0|> <|reserved_special_token_1|> "
        "<|finetune_right_pad_id|> <|reserved_special_token_2|> <|start_header_id|> <|end_header_id|> <|eom_id|> "
        "<|eot_id|> <|python_tag|>"
    )
    _add(backend, names.split())
    bos = "<|begin_of_text|>"
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, backend.token_to_id(bos))]
    )
    return backend, {"bos_token": bos, "eos_token": "<|eot_id|>" if spec.instruct else "<|end_of_text|>"}


def _qwen2(spec: ModelSpec) -> tuple[Backend, JsonObject]:
    from tokenizers import Regex, normalizers, pre_tokenizers

    cut = pre_tokenizers.Split(Regex(_QWEN2_CUTS), behavior="isolated")
    backend = _byte_level([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)], first=[])
    backend.normalizer = normalizers.NFC()
    _add(backend, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return backend, {
        "eos_token": "<|im_end|>" if spec.instruct else "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "extra_special_tokens": ["<|im_start|>", "<|im_end|>"],
    }


def _smollm2(spec: ModelSpec) -> tuple[Backend, JsonObject]:
    from tokenizers import pre_tokenizers

    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    backend = _byte_level(cuts, first=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    if spec.instruct:
        special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    else:
        special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    return backend, special | {"unk_token": "<|endoftext|>", "extra_special_tokens": ["<|im_start|>", "<|im_end|>"]}


def _tinyllama(spec: ModelSpec) -> tuple[Backend, JsonObject]:
    from tokenizers import processors

    backend = _sentencepiece_bpe()
    _add(backend, ["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return backend, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}


def _phi3(spec: ModelSpec) -> tuple[Backend, JsonObject]:
    backend = _sentencepiece_bpe()
    _add(backend, ["<unk>", "<s>"])
    _add(backend, ["</s>"], swallows_blanks=True)
    _add(backend, ["<|endoftext|>"])
    # What follows the marks of a turn loses its white space, the template's own line breaks included.
    names = (
        "<|assistant|> <|placeholder1|> <|placeholder2|> <|placeholder3|> <|placeholder4|> <|system|> <|end|> "
        "<|placeholder5|> <|placeholder6|> <|user|>"
    )
    _add(backend, names.split(), swallows_blanks=True)
    # It adds no BOS, and its template renders none.
    return backend, {
        "bos_token": "<s>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<unk>",
        "pad_token": "<|endoftext|>",
    }


def _t5(spec: ModelSpec) -> tuple[Backend, JsonObject]:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    scores = _piece_scores()
    floor = min(scores.values())
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scores.items(), *((byte, floor - 5) for byte in BYTES)]
    backend = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=True))
    # White space of any kind is one blank: line breaks are lost, as in the real one.
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always"), decoders.Fuse()]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B:1 </s>:1", special_tokens=[("</s>", 1)]
    )
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(100))]
    _add(backend, ["<pad>", "</s>", "<unk>", *sentinels])
    return backend, {
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "extra_special_tokens": sentinels[::-1],
    }


def _add(backend: Backend, names: list[str], *, swallows_blanks: bool = False) -> None:
    from tokenizers import AddedToken

    backend.add_special_tokens(
        [AddedToken(name, rstrip=swallows_blanks, normalized=False, special=True) for name in names]
    )


def _byte_level(cuts: list[Backend], first: list[str]) -> Backend:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=first,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(training_lines(), trainer)
    return backend


def _learned_words() -> tuple[list[str], list[tuple[str, str]], Backend]:
    """(pieces, merges, the tokenizer) of a BPE over words that begin with WORD."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=PIECES - len(BYTES), show_progress=False)
    # A line break has no piece of its own in SentencePiece's models; it goes as a byte, or as a blank.
    learner.train_from_iterator((" ".join(line.split()) for line in training_lines()), trainer)
    state = json.loads(learner.to_str())["model"]
    pieces = sorted(state["vocab"], key=state["vocab"].get)
    return pieces, [(a, b) for a, b in state["merges"]], learner


def _sentencepiece_bpe() -> Backend:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces, merges, _ = _learned_words()
    vocab = {piece: i for i, piece in enumerate(["<unk>", "<s>", "</s>", *BYTES, *pieces])}
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    # As transformers 5 sets LlamaTokenizer up: a text begins with a blank, what follows a special token doesn't.
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Sequence(
        [decoders.Replace(WORD, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def _piece_scores() -> dict[str, float]:
    """The pieces with the logarithms of their shares: the library's own trainer isn't the same twice."""
    pieces, _, learner = _learned_words()
    counts: Counter[str] = Counter()
    for line in training_lines():
        counts.update(learner.encode(" ".join(line.split())).tokens)
    total = sum(counts.values()) + len(pieces)
    return {piece: math.log((counts[piece] + 1) / total) for piece in pieces}


_FAMILIES = {"llama": _llama, "qwen2": _qwen2, "smollm2": _smollm2, "tinyllama": _tinyllama, "phi3": _phi3, "t5": _t5}
