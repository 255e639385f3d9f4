"""An adapter's folder as the changes that it makes; what is no sum of such changes is refused by name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from slmbench.errors import FileError, Problem, UsageError
from slmbench.foreign import faults
from slmbench.merging.lora._factors import Factors, Kind, LoraUpdate
from slmbench.models import AdapterInfo, check_patterns, read_adapter
from slmbench.paths import shown

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."

# First weights that leave the base as it is: the factors alone are the change.
_PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica")
_NEUTRAL = frozenset(
    "auto_mapping inference_mode peft_version lora_dropout fan_in_fan_out init_lora_weights loftq_config eva_config "
    "corda_config lora_ga_config runtime_config megatron_core qalora_group_size bias velora_config".split()
)
_WHY = {
    "target_parameters": "factors of single parameters of a layer are not read here",
    "trainable_token_indices": "its rows stand in the place of the base's embeddings",
    "layer_replication": "it makes the base another model, of more layers",
    "alora_invocation_tokens": "it changes the weights for some of the tokens only",
    "use_qalora": "its inputs are pooled before they meet the factors",
    "kasa_config": "it cuts the base's own weights, and has a third factor",
    "monteclora_config": "it draws new factors for every pass",
    "arrow_config": "it is a router over other adapters",
    "use_bdlora": "its factors are made of blocks",
    "ensure_weight_tying": "one pair of factors changes two layers",
}
_ELSEWHERE = (
    "merge it into its base where it was made (merge_and_unload of peft), save that as a model, and merge models"
)
_LARGEST = 3e38
_PART = re.compile(
    r"(?P<module>.+)\.(?:(?P<factor>lora_[AB])\.weight|(?P<embedding>lora_embedding_[AB])|(?P<shift>lora_B\.bias)"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.weight)?)"
)


def read_lora(folder: str, name: str | None = None) -> LoraUpdate:
    """The changes that an adapter of peft's layout makes of its base, in float32.

    name: as it is called in messages and reports, the folder's unless given. Any ranks, targets, rank_pattern,
    alpha_pattern, rsLoRA, lora_bias, DoRA, embeddings, Conv1D and modules_to_save. Raises UsageError for a folder that
    is no LoRA adapter's, FileError with every setting and tensor that is no sum of changes, or NaN, or damaged.
    """
    info = read_adapter(folder)
    if info.kind != "LORA":
        raise UsageError(
            f"adapter {shown(folder)} is of kind {info.kind}, whose change of a weight isn't read here; LoRA alone is; "
            f"{_ELSEWHERE}"
        )
    refused = _refused(info)
    if refused:
        raise faults(os.path.join(folder, CONFIG), refused, todo=_ELSEWHERE)
    return _Reader(info).update(name or info.name)


def _refused(info: AdapterInfo) -> list[tuple[str, object, str]]:
    """Settings under which the factors alone are not the change: (field, what was got, what has to be there)."""
    said = info.config.model_dump(exclude_unset=True)
    extra = info.config.model_extra or {}
    found: list[tuple[str, object, str]] = []
    start = extra.get("init_lora_weights", True)
    if not (isinstance(start, bool) or start is None or start in _PLAIN_STARTS):
        wanted = (
            f"true, false, {', '.join(_PLAIN_STARTS)}: with any other the base's own weights were changed before the "
            "training, and its factors alone aren't its change (peft's save_pretrained with "
            "path_initial_model_for_weight_conversion makes a plain LoRA of it)"
        )
        found.append(("init_lora_weights", start, wanted))
    if extra.get("bias", "none") not in ("none", None):
        found.append(("bias", extra["bias"], '"none": the base\'s own biases were trained in place'))
    read = type(info.config).model_fields.keys() - _WHY.keys()
    for key, value in said.items():
        if key in read or key in _NEUTRAL or value in (None, False, "", [], {}):
            continue
        why = _WHY.get(key, "what it does to the change is not known here")
        found.append((key, value, f"null or false: {why}"))
    return found


class _Reader:
    """Sorts an adapter's tensors."""

    def __init__(self, info: AdapterInfo) -> None:
        self.info = info
        self.problems: list[str] = []

    def update(self, name: str) -> LoraUpdate:
        """Raises FileError with all that is wrong with the tensors."""
        parts: dict[str, dict[str, Tensor]] = {}
        whole: dict[str, Tensor] = {}
        copied = set()
        for key, tensor in _tensors(self.info.folder).items():
            found = _PART.fullmatch(key.removeprefix(PREFIX))
            if not key.startswith(PREFIX):
                self.problems.append(f"tensor {key}: its name doesn't begin with {PREFIX}")
            elif found is not None:
                role = next(said for group, said in found.groupdict().items() if group != "module" and said)
                parts.setdefault(found["module"], {})[role] = tensor
            elif (its := self._whole(key.removeprefix(PREFIX))) is not None:
                whole[its[0]] = tensor
                copied.update([its[0]] if its[1] else [])
            else:
                self.problems.append(f"tensor {key}: it isn't part of a LoRA as it is read here")
        alphas = self._alphas(list(parts))
        modules, shifts = {}, {}
        for module, its_parts in parts.items():
            made = self._factors(module, its_parts, *alphas[module])
            if made is not None:
                modules[f"{module}.weight"] = made
                if (shift := its_parts.get("lora_B.bias")) is not None:
                    shifts[f"{module}.bias"] = shift.float() * made.scaling
        for module in parts:
            if f"{module}.weight" in whole and f"{module}.weight" not in copied:
                self.problems.append(f"module {module}: it has factors and a weight of its own")
        if not parts and not whole:
            self.problems.append("holds no tensors")
        self._raise()
        return LoraUpdate(name, self.info, modules, shifts, whole, frozenset(copied))

    def _whole(self, name: str) -> tuple[str, bool] | None:
        """(the base's name of a tensor that stands in the place of its own, whether it was saved untrained)."""
        if ".base_layer." in name:
            return name.replace(".base_layer.", "."), True
        module = name.rpartition(".")[0]
        saved = self.info.config.modules_to_save or []
        # As peft finds them: the end of a module's name, or a module inside of it.
        if any(f".{one}." in f".{module}." for one in saved):
            return name, False
        is_embedding = name.endswith(".weight") and module.rpartition(".")[2] in ("embed_tokens", "lm_head", "shared")
        return (name, True) if is_embedding or name in ("wte.weight", "transformer.wte.weight") else None

    def _alphas(self, modules: list[str]) -> dict[str, tuple[int, float]]:
        """module -> (rank, alpha) by the settings, patterns included. Raises FileError for patterns without an end."""
        config = self.info.config
        ranks, alphas = config.rank_pattern or {}, config.alpha_pattern or {}
        if ranks or alphas:
            check_patterns(self.info, modules)
        # peft's own defaults, which old files leave out.
        base_rank, base_alpha = (8 if given is None else given for given in (config.r, config.lora_alpha))
        found = {}
        for module in modules:
            rank, alpha = _first(ranks, module), _first(alphas, module)
            # AdaLoRA's pattern is a list of which rows stay.
            rank = sum(rank) if isinstance(rank, list) else rank
            found[module] = (int(base_rank) if rank is None else rank, base_alpha if alpha is None else alpha)
        return found

    def _factors(self, module: str, parts: Mapping[str, Tensor], rank: int, alpha: float) -> Factors | None:
        """The change of one module's weight; None with a problem noted."""
        embedding = "lora_embedding_A" in parts or "lora_embedding_B" in parts
        keys = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
        a, b = (parts.get(key) for key in keys)
        if a is None or b is None:
            self.problems.append(f"module {module}: it has one factor of two")
            return None
        if a.ndim != 2 or b.ndim != 2:
            self.problems.append(f"module {module}: it is a convolution; factors of linear layers are read here")
            return None
        if a.shape[0] != b.shape[1] or a.shape[0] != rank or rank == 0:
            said = f"{tuple(b.shape)} and {tuple(a.shape)}, and the rank is {rank}"
            self.problems.append(f"module {module}: its factors are of shapes {said} by adapter_config.json")
            return None
        scaling = alpha / (rank**0.5 if self.info.config.use_rslora else rank)
        kind: Kind = "linear"
        if embedding:
            kind = "embedding"
        elif (self.info.config.model_extra or {}).get("fan_in_fan_out"):
            kind = "conv1d"
        magnitude = parts.get("lora_magnitude_vector")
        if magnitude is not None and magnitude.numel() != b.shape[0]:
            self.problems.append(f"module {module}: DoRA's lengths are {magnitude.numel()} for {b.shape[0]} outputs")
        if (magnitude is not None) != bool(self.info.config.use_dora):
            self.problems.append(f"module {module}: use_dora and its tensors disagree")
        a, b = a.float(), b.float()
        if not abs(scaling) * float(a.abs().max()) * float(b.abs().max()) * rank < _LARGEST:
            self.problems.append(f"module {module}: with alpha {alpha:g} its change is beyond what float32 holds")
            return None
        if kind != "linear":
            a, b = b.mT.contiguous(), a.mT.contiguous()
        return Factors(a, b, scaling, kind, None if magnitude is None else magnitude.float().flatten())

    def _raise(self) -> None:
        if self.problems:
            path = shown(os.path.join(self.info.folder, WEIGHTS))
            raise FileError([Problem(path, 0, 0, said) for said in self.problems[:10]], _ELSEWHERE)


def _first(patterns: Mapping[str, T], module: str) -> T | None:
    """The value of the first pattern that a module's name ends with, as peft has it."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), None)


def _tensors(folder: str) -> dict[str, Tensor]:
    """name -> tensor, in the file's dtype. Raises FileError for NaN and infinity, with all names."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = os.path.join(folder, WEIGHTS)
    try:
        found: dict[str, Tensor] = load_file(path)
    except (SafetensorError, KeyError, ValueError) as error:  # Dtypes that torch doesn't have.
        said = " ".join(str(error).split())[:200]
        raise FileError([Problem(shown(path), 0, 0, f"can't be read: {said}")], _ELSEWHERE) from error
    floats = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    strange = [name for name, tensor in found.items() if tensor.dtype not in floats or not tensor.numel()]
    if strange:
        told = [
            f"tensor {name}: it is {str(one.dtype).removeprefix('torch.')} of shape {tuple(one.shape)}; floats of 16 "
            "bits or more are merged"
            for name, one in ((name, found[name]) for name in strange[:10])
        ]
        raise FileError([Problem(shown(path), 0, 0, said) for said in told], _ELSEWHERE)
    odd = [name for name, tensor in found.items() if not bool(torch.isfinite(tensor).all())]
    if odd:
        problems = [Problem(shown(path), 0, 0, f"tensor {name}: it holds NaN or infinity") for name in odd[:10]]
        raise FileError(problems, "train the adapter again, with a lower learning rate")
    return found
