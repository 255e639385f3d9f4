"""What llama.cpp and Ollama take, and what of a model's folder they would refuse or misread.

Sources: llama.cpp, convert_hf_to_gguf.py and gguf-py; ollama, convert/convert.go, convert/tokenizer.go and
docs/import.mdx, as they were in 2026.
"""

from __future__ import annotations

import hashlib
import os
from typing import Annotated, Any

from pydantic import Field

from slmbench.foreign import AnyText, Foreign, Limits, ModelT, read_model

GGUF_ARCHITECTURES = {
    "LlamaForCausalLM": "LLAMA",
    "MistralForCausalLM": "LLAMA",
    "Qwen2ForCausalLM": "QWEN2",
    "Qwen3ForCausalLM": "QWEN3",
    "Phi3ForCausalLM": "PHI3",
    "GemmaForCausalLM": "GEMMA",
    "Gemma2ForCausalLM": "GEMMA2",
    "Gemma3ForCausalLM": "GEMMA3",
    "GPT2LMHeadModel": "GPT2",
    "GPTNeoXForCausalLM": "GPTNEOX",
    "GraniteForCausalLM": "GRANITE",
    "OlmoForCausalLM": "OLMO",
    "Olmo2ForCausalLM": "OLMO2",
    "SmolLM3ForCausalLM": "SMOLLM3",
    "StableLmForCausalLM": "STABLELM",
    "T5ForConditionalGeneration": "T5",
}
"""transformers class -> gguf's MODEL_ARCH, of the small text models that llama.cpp's converter knows."""

OLLAMA_ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
    "Olmo3ForCausalLM",
    "CohereForCausalLM",
    "Lfm2ForCausalLM",
)
"""What `ollama create` converts from safetensors, in the versions that convert at all."""

# sha256 of all Split patterns of a pre-tokenizer, by which Ollama knows how a tokenizer cuts words.
_OLLAMA_CUTS = {
    "d98f9631be1e9607a9848c26c1f9eac1aa9fc21ac6ba82a2fc0741af9780a48f": "llama-bpe",
    "03df5c5863ad70781dcfdef491ead25140f895fe8010964be0daefe27be32b02": "deepseek-llm",
    "21cde974d587f0d54dc8d56b183cc1e6239600172035c68fbd6d4b9f8da0576e": "deepseek-coder",
    "1ff7f41064896984db5d1bb6ff64fa4bc29007d08c1b439e505b7392777a319e": "qwen2",
}


_LIMITS = Limits(bytes=64_000_000, surrogates=True)
_AGAIN = "take the base's own files again, and export again"
Size = Annotated[int, Field(ge=1)]


class _Config(Foreign):
    """Of config.json what converters look at."""

    architectures: list[str] | None = None
    vocab_size: Size | None = None
    num_attention_heads: Size | None = None
    hidden_size: Size | None = None
    head_dim: Size | None = None
    quantization_config: Any = None

    @property
    def architecture(self) -> str:
        return (self.architectures or [""])[0]


class _Vocabulary(Foreign):
    """vocab: pieces by their ids, or in Unigram's way a list of [piece, score], whose places are the ids."""

    type: str | None = None
    byte_fallback: bool | None = None
    vocab: dict[AnyText, int] | list[list[Any]] | None = None


class _Added(Foreign):
    id: int


class _Pattern(Foreign):
    regex: AnyText = Field("", alias="Regex")


class _Step(Foreign):
    type: str | None = None
    pattern: _Pattern | None = None


class _Cutting(Foreign):
    pretokenizers: list[_Step] | None = None


class _Tokenizer(Foreign):
    """Of tokenizer.json what converters look at."""

    model: _Vocabulary = _Vocabulary()
    added_tokens: list[_Added] | None = None
    pre_tokenizer: _Cutting | None = None


class _TokenizerConfig(Foreign):
    tokenizer_class: str | None = None


def gguf_problems(folder: str, *, own_tokenizer: bool) -> list[str]:
    """What llama.cpp's converter would refuse of a model's folder, each `name: what, and what to do`.

    own_tokenizer: whether the tokenizer was made here, as a twin's and nano's are.
    """
    config, tokenizer = _config(folder), _tokenizer(folder)
    tokenizer_config = _read(folder, "tokenizer_config.json", _TokenizerConfig) or _TokenizerConfig()
    problems = []
    architecture = config.architecture
    if architecture not in GGUF_ARCHITECTURES:
        problems.append(f"architecture: {architecture or 'none'} is not among those known here; see its `--help`")
    if "quantization_config" in config.model_fields_set:
        problems.append("quantization: config.json has a quantization_config; export with --to merged again")
    if not any(name.endswith(".safetensors") for name in os.listdir(folder)):
        problems.append("weights: there is no safetensors file")
    if tokenizer is None:
        problems.append("tokenizer: tokenizer.json is missing; the base's tokenizer is of a kind without one")
    rows, known = config.vocab_size, _highest_id(tokenizer)
    if rows is not None and known is not None and known >= rows:
        problems.append(
            f"vocabulary: the tokenizer has ids up to {known}, but the model {rows} embeddings; use the base's own "
            "tokenizer, or resize the embeddings before training"
        )
    model = _Vocabulary() if tokenizer is None else tokenizer.model
    pieces = architecture in ("T5ForConditionalGeneration", "Phi3ForCausalLM") or model.type == "Unigram"
    if tokenizer_config.tokenizer_class == "GPT2Tokenizer":
        pieces = False
    if pieces and not _has(folder, "tokenizer.model", "spiece.model"):
        wanted = "spiece.model" if architecture.startswith("T5") else "tokenizer.model"
        problems.append(
            f"sentencepiece: the converter reads {wanted} for {architecture}, and it is missing; copy it from the "
            "base's files"
        )
    elif own_tokenizer and not model.byte_fallback:
        problems.append(
            "pre-tokenizer: this tokenizer was made here, and the converter refuses a BPE that it doesn't know by its "
            "digest; the folder of a published base has none of this"
        )
    return problems


def ollama_notices(folder: str) -> list[str]:
    """What a version of Ollama that converts safetensors itself would misread, each with the way round."""
    config, tokenizer = _config(folder), _tokenizer(folder) or _Tokenizer()
    by_gguf = "make a GGUF file first and use Modelfile.gguf"
    found = []
    architecture = config.architecture
    if architecture not in OLLAMA_ARCHITECTURES:
        found.append(f"Ollama converts no {architecture} from safetensors; {by_gguf}")
    heads, hidden, width = config.num_attention_heads, config.hidden_size, config.head_dim
    if heads and hidden and width and width * heads != hidden:
        found.append(
            f"Ollama's converter takes hidden_size / heads ({hidden // heads}) for the width of a head, which is "
            f"{width}; {by_gguf}"
        )
    if tokenizer.model.byte_fallback or tokenizer.model.type == "Unigram":
        if not _has(folder, "tokenizer.model"):
            found.append(
                "this is a SentencePiece tokenizer, which Ollama's converter reads from tokenizer.model alone; copy it "
                f"from the base's files, or {by_gguf}"
            )
    elif _cut_by(tokenizer) is None:
        found.append(
            f"Ollama's converter doesn't know how this tokenizer cuts words and would cut otherwise; {by_gguf}"
        )
    return found


def padding_ids(folder: str) -> int:
    """How many embeddings a model has beyond its tokenizer's ids."""
    rows, known = _config(folder).vocab_size, _highest_id(_tokenizer(folder))
    return max(0, rows - known - 1) if rows is not None and known is not None else 0


def next_commands(folder: str, name: str, dtype: str, *, ollama: bool) -> list[str]:
    """The commands that a person runs next, in their order."""
    kind = {"float16": "f16", "bfloat16": "bf16", "float32": "f32"}[dtype]
    gguf = os.path.join(folder, f"{name}-{kind}.gguf")
    packed = os.path.join(folder, f"{name}-Q4_K_M.gguf")
    convert = f"python llama.cpp/convert_hf_to_gguf.py {folder} --outtype {kind} --outfile {gguf}"
    if ollama:
        create = f"ollama create {name} -f {os.path.join(folder, 'Modelfile')}"
        return [create, convert, f"{create}.gguf"]
    return [convert, f"llama.cpp/build/bin/llama-quantize {gguf} {packed} Q4_K_M"]


def _cut_by(tokenizer: _Tokenizer) -> str | None:
    """How Ollama takes a tokenizer to cut words; None if it takes its default for another way.

    Without any pattern it takes its default too, and that is not how digits apart, or a plain byte level, are cut.
    """
    steps = (tokenizer.pre_tokenizer or _Cutting()).pretokenizers or []
    patterns = [step.pattern.regex if step.pattern else "" for step in steps if step.type == "Split"]
    return _OLLAMA_CUTS.get(hashlib.sha256("".join(patterns).encode()).hexdigest())


def _highest_id(tokenizer: _Tokenizer | None) -> int | None:
    tokenizer = tokenizer or _Tokenizer()
    vocabulary = tokenizer.model.vocab or {}
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
    ids += [token.id for token in tokenizer.added_tokens or []]
    return max(ids, default=None)


def _has(folder: str, *names: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in names)


def _config(folder: str) -> _Config:
    return _read(folder, "config.json", _Config) or _Config()


def _tokenizer(folder: str) -> _Tokenizer | None:
    return _read(folder, "tokenizer.json", _Tokenizer)


def _read(folder: str, name: str, model: type[ModelT]) -> ModelT | None:
    """A file of a model's folder; None if it isn't there. Raises FileError."""
    try:
        return read_model(os.path.join(folder, name), model, _LIMITS, todo=_AGAIN)
    except FileNotFoundError:
        return None
