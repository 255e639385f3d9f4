"""The model behind BERTScore: which one, and texts to vectors."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from attrs import frozen

from slmbench.errors import FileError, UsageError
from slmbench.foreign import read_object
from slmbench.hub import use_cache_alone
from slmbench.paths import mirrored_model, shown
from slmbench.values import Model, Tensor, Tokenizer

TEXTS_AT_ONCE = 64
FALLBACK_LIMIT = 512
"""Tokens of a text where neither tokenizer nor model names a limit."""


@frozen
class BertSettings:
    """Which model. location: a folder or a hub id. layer: the one whose output counts; None if it isn't known.

    baseline_path: a file of bert_score's form, or None for raw scores. value_name: how scores of it are named, as
    `bertscore/roberta-large-L17-raw`.
    """

    location: str
    layer: int | None
    baseline_path: str | None
    value_name: str

    @classmethod
    def of(cls, location: str, layer: int | None, baseline_path: str | None = None) -> BertSettings:
        """Settings of a model; the layer of a folder, if not given, is its last. Never fails: `check` does."""
        given, folder = location, os.path.expanduser(location)
        location = os.path.abspath(folder) if os.path.isdir(folder) else mirrored_model(location) or location
        layer = _last_layer(folder) if layer is None else layer
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(given.rstrip("/")))
        scale = f"rescaled-{_digest(baseline_path)}" if baseline_path else "raw"
        return cls(location, layer, baseline_path, f"bertscore/{name}-L{'unknown' if layer is None else layer}-{scale}")

    @property
    def is_folder(self) -> bool:
        return os.path.isdir(self.location)

    def check(self, asked: str) -> None:
        """Raises UsageError if these can't be the settings of a model. asked: what to call them in the message."""
        if not self.is_folder and not re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", self.location):
            raise UsageError(f"{asked} is neither an existing folder nor a hub id (NAME or OWNER/NAME)")
        if self.is_folder and not os.path.isfile(os.path.join(self.location, "config.json")):
            raise UsageError(f"{asked}: {shown(self.location)} has no config.json, so it is not a model's folder")
        if self.layer is None:
            raise UsageError(f"{asked} does not name a layer; put it at the end, as in {self.location}:9")

    def baseline(self) -> tuple[float, float, float] | None:
        """What raw precision, recall and F1 are of unrelated texts at this layer. Raises UsageError."""
        return None if self.baseline_path is None else _baseline(self.baseline_path, self.layer)


def _last_layer(folder: str) -> int | None:
    try:
        config = read_object(Path(folder, "config.json"))
        found = next(config[key] for key in ("num_hidden_layers", "n_layers", "num_layers") if key in config)
        return found if type(found) is int else None
    except (FileError, OSError, TypeError, StopIteration):
        return None


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]
    except OSError:
        return "missing"


@lru_cache(maxsize=8)
def _baseline(path: str, layer: int | None) -> tuple[float, float, float]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        rows = {int(row["LAYER"]): (float(row["P"]), float(row["R"]), float(row["F"])) for row in table}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"bertscore: {shown(path)} is not a baseline file (columns LAYER,P,R,F): {type(error).__name__} {error}"
        ) from error
    if layer not in rows or not all(value < 1 for value in rows[layer]):
        raise UsageError(f"bertscore: {shown(path)} has no baseline of layer {layer}; it has {sorted(rows)}")
    return rows[layer]


@frozen(eq=False)
class Embedding:
    """One text. ids: its tokens, special ones too. vectors: (tokens, width), float32, of length 1. counts: (tokens,),
    bool, False for the classifier's and separator's tokens, which are matched but don't count."""

    ids: tuple[int, ...]
    vectors: Any
    counts: Any


@frozen(eq=False)
class BertEncoder:
    """A loaded model, cut off above the layer that is wanted. limit: tokens of a text, special ones included."""

    model: Any
    tokenizer: Any
    layer: int
    limit: int
    prefix: str

    @classmethod
    def load(cls, settings: BertSettings) -> BertEncoder:
        """Weights and tokenizer, onto a GPU where there is one. Raises what transformers raises, and UsageError."""
        import torch
        import transformers

        from_here = settings.is_folder or use_cache_alone()
        verbosity = transformers.logging.get_verbosity()
        bars = transformers.logging.is_progress_bar_enabled()
        # Of a pooling layer that is missing, which isn't used.
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(settings.location, local_files_only=from_here)
            model, report = transformers.AutoModel.from_pretrained(
                settings.location, local_files_only=from_here, dtype=torch.float32, output_loading_info=True
            )
        finally:
            transformers.logging.set_verbosity(verbosity)
            if bars:
                transformers.logging.enable_progress_bar()
        random = sorted(str(key) for key in report.get("missing_keys", ()) if "pooler" not in str(key))
        if random:
            raise UsageError(f"bertscore: {settings.location} lacks {len(random)} of its tensors, such as {random[0]}")
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        layer = _cut_off(model, settings)
        model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        spaced = isinstance(tokenizer, (transformers.GPT2Tokenizer, transformers.RobertaTokenizer))
        return cls(model, tokenizer, layer, _limit(model, tokenizer), " " if spaced else "")

    def weights_sha256(self) -> str:
        """Over the tensors' names and bytes, layers that were cut off left out."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + b"\0" + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def embeddings(self, texts: Iterable[str]) -> dict[str, Embedding]:
        """text -> its vectors, for every different text."""
        import torch

        # By length, so that little of a batch is padding.
        ids = sorted(((self._ids(text, cut=True), text) for text in set(texts)), key=lambda pair: (len(pair[0]), pair))
        silent = torch.tensor(
            [one for one in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id) if one is not None]
        )
        found = {}
        for start in range(0, len(ids), TEXTS_AT_ONCE):
            batch = ids[start : start + TEXTS_AT_ONCE]
            for (tokens, text), vectors in zip(batch, self._vectors([tokens for tokens, _ in batch]), strict=True):
                counts = ~torch.isin(torch.tensor(tokens, dtype=torch.long), silent)
                found[text] = Embedding(tuple(tokens), vectors, counts.to(vectors.device))
        return found

    def is_truncated(self, text: str) -> bool:
        """Whether the text's end is beyond the model's limit."""
        return len(self._ids(text, cut=False)) > self.limit

    def _ids(self, text: str, *, cut: bool) -> list[int]:
        text = text.strip()
        limit = {"truncation": True, "max_length": self.limit} if cut else {"truncation": False}
        ids: list[int] = self.tokenizer(self.prefix + text if text else "", verbose=False, **limit)["input_ids"]
        return ids

    def _vectors(self, batch: list[list[int]]) -> list[Tensor]:
        import torch

        device = next(self.model.parameters()).device
        longest = max(1, max(map(len, batch)))
        padding = self.tokenizer.pad_token_id or 0
        # ids, mask: (batch, longest)
        ids = torch.tensor([tokens + [padding] * (longest - len(tokens)) for tokens in batch], device=device)
        mask = torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens in batch], device=device)
        with torch.no_grad():
            out = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        # hidden: (batch, longest, width)
        hidden = torch.nn.functional.normalize(out.hidden_states[self.layer].float(), dim=-1)
        return [hidden[i, : len(tokens)] for i, tokens in enumerate(batch)]


def _cut_off(model: Model, settings: BertSettings) -> int:
    """Drops the layers above the wanted one, where the model keeps them in the usual place. Returns the wanted one."""
    n_layers = model.config.num_hidden_layers
    assert settings.layer is not None
    if settings.layer > n_layers:
        raise UsageError(f"bertscore: layer {settings.layer} of {settings.location}, which has {n_layers}")
    layers = getattr(getattr(model, "encoder", None), "layer", None)
    if layers is not None and len(layers) == n_layers:
        # Never all of them: transformers collects hidden states at the layers.
        model.encoder.layer = layers[: max(1, settings.layer)]
    return settings.layer


def _limit(model: Model, tokenizer: Tokenizer) -> int:
    limits = [tokenizer.model_max_length]
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions and positions > 0:
        # RoBERTa's kind counts positions from behind the padding's own.
        table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        limits.append(positions if padding is None else positions - padding - 1)
    # A tokenizer without a limit says 1e30.
    named = [limit for limit in limits if limit is not None and limit < 1_000_000]
    return min(named, default=FALLBACK_LIMIT)
