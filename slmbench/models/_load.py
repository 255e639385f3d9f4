"""From a place to a model in memory: config, tokenizer, weights, as they are or packed into four bits."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from slmbench.console import phase
from slmbench.errors import OfflineError, SlmbenchError, UsageError
from slmbench.foreign import read_object
from slmbench.hub import use_cache_alone
from slmbench.machine import large_imports
from slmbench.models._digest import config_sha256, weights_sha256
from slmbench.models._files import asked_by, check_files, check_json
from slmbench.models._settled import Settled, of_head, settle, take_ends
from slmbench.models._source import ModelSource
from slmbench.models._tokenizer import closing_tokens, left_open, take_lengths_off
from slmbench.paths import shown
from slmbench.schema import QuantizationSpec
from slmbench.values import Config, JsonObject, Model, Tensor, Tokenizer

if TYPE_CHECKING:
    from slmbench.models._adapters import AdapterInfo


@frozen(eq=False)
class LoadedModel:
    """A model ready to run. weights_sha256 is of the base's weights, whatever files they came in.

    quantization: how the base is packed, as `nf4+double`, None if it isn't. parameters: counted unpacked. notices:
    what its files say that doesn't fit together or isn't followed, for a person and for records. load_s: seconds that
    the weights took to load; None if they were in memory. served: what a server says of the model that it answers with;
    None of one whose weights are known.
    """

    source: ModelSource
    model: Any
    tokenizer: Any
    weights_sha256: str
    config_sha256: str
    dtype: str
    parameters: int
    adapter: AdapterInfo | None = None
    quantization: str | None = None
    notices: tuple[str, ...] = ()
    load_s: float | None = None
    served: JsonObject | None = None

    @property
    def architecture(self) -> str:
        return self.source.architecture


def load_model(
    source: ModelSource,
    adapter: str | None = None,
    *,
    dtype: str = "auto",
    quantization: QuantizationSpec | None = None,
    on_cpu: bool = False,
) -> LoadedModel:
    """Loads weights and tokenizer, onto a GPU where there is one, unless on_cpu.

    dtype: of the weights, or of those that stay unpacked; auto: as the source says, and where that is auto too, float32
    on a CPU and bfloat16 or float16 on a GPU. quantization: the linear layers are packed by bitsandbytes, but not the
    head. Raises OfflineError, UsageError for a model that is packed already, or SlmbenchError.
    """
    with phase("importing torch, transformers"), large_imports():
        import torch
        import transformers

        # Names that are imported when they are first asked for.
        assert transformers.AutoTokenizer and transformers.GenerationMixin

    tokenizer, notices = _tokenizer_of(source)
    settled = settled_config(source)
    config, notices = settled.config, [*notices, *settled.notices]
    source = evolve(source, architecture="seq2seq" if config.is_encoder_decoder else "causal")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights_dtype = _dtype(source.dtype if dtype == "auto" else dtype, device)
    device = "cpu" if on_cpu else device
    options: dict[str, Any] = {}
    if quantization is not None:
        if getattr(config, "quantization_config", None) is not None:
            raise UsageError(
                f"model {source.name!r} in {shown(source.location)} is quantised already; leave `quantization` out, or "
                "give the weights that it was made from"
            )
        options = {"quantization_config": _bitsandbytes(quantization, weights_dtype), "device_map": {"": device}}
    if settled.changed:
        options["config"] = config
    auto = transformers.AutoModelForSeq2SeqLM if source.architecture == "seq2seq" else transformers.AutoModelForCausalLM
    began = time.perf_counter()
    with _loading(source):
        model, report = auto.from_pretrained(
            source.location,
            dtype=weights_dtype,
            use_safetensors=True,
            output_loading_info=True,
            **options,
            **_load_options(source),
        )
    # transformers fills what the file lacks with random numbers and drops what it has too much; neither is the model.
    faults = [
        f"{len(report[kind])} {said}, such as {sorted(map(str, report[kind]))[0]}"
        for kind, said in (
            ("missing_keys", "tensors are missing"),
            ("unexpected_keys", "tensors have no place"),
            ("mismatched_keys", "tensors have another shape"),
        )
        if report.get(kind)
    ]
    if faults:
        if {str(key).rpartition(".")[0].rpartition(".")[2] for key in report["missing_keys"]} == {"lm_head"}:
            faults.append("config.json says that the head is not a copy of the embeddings (tie_word_embeddings)")
        raise SlmbenchError(
            f"model {source.name!r} in {shown(source.location)}: config.json and weights don't fit: {'; '.join(faults)}"
        )
    notices += [*of_head(model, settled), *take_ends(model, settled, tokenizer)]
    if _quantization_of(model) is None:
        model.to(device)
    _keep_packing(model)
    load_s = time.perf_counter() - began
    loaded = evolve(bind_model(source, model, tokenizer), notices=(*source.notices, *notices), load_s=load_s)
    if adapter is None:
        return loaded
    from slmbench.models._attach import attach_adapter

    return attach_adapter(loaded, adapter)


def load_tokenizer(source: ModelSource) -> Tokenizer:
    """The tokenizer alone, as prompts need it. Raises OfflineError or SlmbenchError.

    What it was saved with to cut and pad texts is off. Of a causal model no special token is put behind a text: an
    answer goes on from a prompt, and after EOS there is nothing to go on from.
    """
    return _tokenizer_of(source)[0]


def _tokenizer_of(source: ModelSource) -> tuple[Tokenizer, list[str]]:
    """(the tokenizer, what a person should know of it)."""
    import transformers

    _quiet(transformers)
    with _loading(source, of="tokenizer.json"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.location, **_load_options(source))
        take_lengths_off(tokenizer)
    return (tokenizer, []) if _is_no_causal_model(source, tokenizer) else left_open(tokenizer)


def _is_no_causal_model(source: ModelSource, tokenizer: Tokenizer) -> bool:
    """Whether it is an encoder-decoder's, which reads closed texts, or there is no model beside it."""
    if source.architecture == "seq2seq":
        return True
    if not closing_tokens(tokenizer):
        return False  # So that a config need not be looked up.
    try:
        return bool(load_config(source).is_encoder_decoder)
    except SlmbenchError:
        return True


def model_folder(source: ModelSource) -> str:
    """The folder of a model's files on this machine; the hub's are fetched. Raises OfflineError or SlmbenchError."""
    if os.path.isdir(source.location):
        return source.location
    from huggingface_hub import snapshot_download

    with _loading(source):
        return str(
            snapshot_download(
                source.location,
                revision=source.revision or "main",
                local_files_only=use_cache_alone(),
                allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "merges.txt", "vocab.txt"],
            )
        )


def load_config(source: ModelSource) -> Config:
    """The transformers config alone, which costs no weights, without what doesn't hold of these weights.

    Raises OfflineError or SlmbenchError; FileError, with all faults, for a folder's files that hold the wrong things.
    """
    return settled_config(source).config


def settled_config(source: ModelSource) -> Settled:
    """`load_config`, with what the file itself says and what was changed."""
    found = unsettled_config(source)
    with _loading(source):
        return settle(found.config, found.raw, source.location, _load_options(source))


def unsettled_config(source: ModelSource) -> Settled:
    """A config as config.json has it, whatever weights lie beside it, and if none do. Raises as `load_config` does."""
    import transformers

    _quiet(transformers)
    options = _load_options(source)
    with _loading(source):
        config = transformers.AutoConfig.from_pretrained(source.location, **options)
        raw, _ = transformers.PreTrainedConfig.get_config_dict(source.location, **options)
    return Settled(config, raw)


def bind_model(source: ModelSource, model: Model, tokenizer: Tokenizer) -> LoadedModel:
    """A model that is in memory already, with its digest and size."""
    notices: list[str] = []
    if not model.config.is_encoder_decoder:
        tokenizer, notices = left_open(tokenizer)
    known = getattr(model.get_input_embeddings(), "num_embeddings", None)
    beyond = known is not None and (tokenizer.pad_token_id or 0) >= known
    if (tokenizer.pad_token_id is None or beyond) and tokenizer.eos_token_id is not None:
        # As a padding token that was added without an embedding; nothing is read where it stands.
        tokenizer.pad_token = tokenizer.eos_token
    model.eval()
    if model.config.is_encoder_decoder:
        source = evolve(source, architecture="seq2seq")
    return LoadedModel(
        source,
        model,
        tokenizer,
        weights_sha256(model),
        config_sha256(model),
        str(next(model.parameters()).dtype).removeprefix("torch."),
        sum(_numbers(parameter) for parameter in model.parameters()),
        quantization=_quantization_of(model),
        notices=tuple(notices),
    )


def _keep_packing(model: Model) -> None:
    # On processors with AVX512-BF16, bitsandbytes 0.50 packs the weights anew at the first forward pass without
    # gradients: from then on it computes in bfloat16 whatever was asked for, the constants are rounded, and a training
    # that goes on afterwards gets no gradients through these layers, without a word.
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _numbers(parameter: Tensor) -> int:
    # bitsandbytes packs two numbers into a byte, and keeps the shape that they had beside them.
    state = getattr(parameter, "quant_state", None)
    return int((parameter if state is None else state).shape.numel())


def _quantization_of(model: Model) -> str | None:
    given = getattr(model.config, "quantization_config", None)
    if given is None:
        return None
    said = given if isinstance(given, dict) else given.to_dict()
    if said.get("load_in_4bit"):
        return str(said["bnb_4bit_quant_type"]) + ("+double" if said["bnb_4bit_use_double_quant"] else "")
    if said.get("load_in_8bit"):
        return "int8"
    return str(said.get("quant_method", "unknown"))


def _bitsandbytes(spec: QuantizationSpec, weights_dtype: object) -> object:
    import torch
    import transformers

    if spec.type == "int8":
        # Each product says that its inputs are cast to float16 for it.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=spec.type,
        bnb_4bit_use_double_quant=spec.double,
        bnb_4bit_compute_dtype=weights_dtype if spec.compute == "auto" else getattr(torch, spec.compute),
    )


def _load_options(source: ModelSource) -> JsonObject:
    options: dict[str, Any] = {"trust_remote_code": source.remote_code}
    if os.path.isdir(source.location):
        return options | {"local_files_only": True}
    return options | {"revision": source.revision or "main", "local_files_only": use_cache_alone()}


@contextlib.contextmanager
def _loading(source: ModelSource, of: str = "") -> Iterator[None]:
    """Errors of whatever lies in a model's place, as ours. of: the file that is most likely at fault."""
    if os.path.isdir(source.location):
        check_files(source.location)
    try:
        yield
    except SlmbenchError:
        raise
    except BaseException as error:  # Whatever transformers and its parts make of files of anyone's.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # Rust's, of the tokenizers.
            raise
        said = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        if os.path.isdir(source.location) or not isinstance(error, OSError):
            file = os.path.join(source.location, of)
            config = os.path.join(source.location, "config.json")
            if isinstance(error, KeyError) and os.path.isfile(config):
                said = f"it asks for {said}" + asked_by(error, read_object(config))
            if of and os.path.isfile(file):
                check_json(file)
                said = f"{of}: {said}"
            raise SlmbenchError(f"model {source.name!r} in {shown(source.location)} can't be loaded: {said}") from error
        licence = "accept its licence on the hub, log in with `hf auth login`, then " if source.gated else ""
        raise OfflineError(
            f"model {source.name!r} ({source.id}) is neither in the local cache nor available from the hub: {said}. "
            f"On a connected machine {licence}download it with `hf download {source.location}`, and give its folder as "
            f"the model{'; ' + source.ways if source.ways else ''}"
        ) from error


def _dtype(name: str, device: str) -> object:
    import torch

    if name != "auto":
        return getattr(torch, name)
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _quiet(transformers: ModuleType) -> None:
    # Their bars and advice would drown ours; errors still come through as exceptions.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
