"""The files of a model's folder, so that programs beside transformers 5 read them rightly too."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from slmbench.deployment._trained import Trained
from slmbench.errors import SlmbenchError
from slmbench.files import disk_errors, write_json
from slmbench.foreign import Limits, read_object
from slmbench.hub import use_cache_alone
from slmbench.paths import shown
from slmbench.values import JsonObject, Model, Tokenizer

SHARD_BYTES = 4 * 10**9
_PIECES = ("tokenizer.model", "spiece.model")
_LIMITS = Limits(bytes=64_000_000, surrogates=True)


def write_model(folder: str, model: Model, tokenizer: Tokenizer) -> None:
    """Weights in safetensors (in shards of 4 GB), config, generation config, tokenizer and chat template."""
    with _writing(folder):
        model.save_pretrained(folder, max_shard_size=SHARD_BYTES)
        tokenizer.save_pretrained(folder)
    path = os.path.join(folder, "config.json")
    config = _read(path)
    _add_rope_keys(config)
    write_json(path, config)
    path = os.path.join(folder, "tokenizer_config.json")
    # How the base's tokenizer was found here, which transformers writes down with the rest.
    write_json(path, {key: value for key, value in _read(path).items() if key not in ("is_local", "local_files_only")})
    for name in os.listdir(folder):
        if name.endswith(".safetensors"):  # Written for their owner alone.
            os.chmod(os.path.join(folder, name), os.stat(path).st_mode)


def make_readable_elsewhere(
    folder: str, tokenizer: Tokenizer, *, chat_template: str | None, begins_with_bos: bool
) -> None:
    """Says in the tokenizer's config what other programs look for there.

    chat_template: what a chat is laid out by; None if the model was trained on no chat and has none.
    begins_with_bos: whether prompts of the training began with BOS; llama.cpp and Ollama put it there by this alone.
    """
    path = os.path.join(folder, "tokenizer_config.json")
    config = _read(path)
    # transformers 4, which converters still ask for, knows neither this class nor a list of extra tokens.
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    extra = config.get("extra_special_tokens")
    if isinstance(extra, list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    if chat_template:
        config["chat_template"] = chat_template
    if tokenizer.bos_token is not None:
        config["add_bos_token"] = begins_with_bos
    write_json(path, config)


def copy_pieces(folder: str, trained: Trained) -> list[str]:
    """Copies the base's SentencePiece model, where it has one that can be had; returns the names of what was copied."""
    copied = []
    for name in _PIECES:
        found = _file_of(trained, name)
        if found is not None:
            with disk_errors(folder):
                shutil.copyfile(found, os.path.join(folder, name))
            copied.append(name)
    return copied


def _file_of(trained: Trained, name: str) -> str | None:
    place = trained.source.location
    if os.path.isdir(place):
        path = os.path.join(place, name)
        return path if os.path.isfile(path) else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(hf_hub_download(place, name, revision=trained.source.revision, local_files_only=use_cache_alone()))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError):
        return None


def _add_rope_keys(config: JsonObject) -> None:
    """`rope_theta` and `rope_scaling` beside transformers 5's `rope_parameters`.

    What knows the older keys alone, as Ollama's converter and transformers 4, would take another base for the angles
    without a word.
    """
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        return  # None, or one for each kind of layer, which the older keys can't say.
    if "rope_theta" in rope:
        config.setdefault("rope_theta", rope["rope_theta"])
    if rope.get("rope_type", "default") != "default":
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        config.setdefault("rope_scaling", scaling | {"type": scaling["rope_type"]})


def _read(path: str) -> JsonObject:
    # transformers wrote it, but of values that the base's files hold.
    return read_object(path, _LIMITS, todo="take the model's own files again")


@contextlib.contextmanager
def _writing(folder: str) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        with disk_errors(folder):
            yield
    except SafetensorError as error:
        said = " ".join(str(error).split())
        full = "os error 28" in said or "No space" in said or "os error 122" in said
        what = (
            "the disk is full; free some space and run the same command again" if full else f"can't be written: {said}"
        )
        raise SlmbenchError(f"{shown(folder)}: {what}") from error
