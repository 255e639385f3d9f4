"""What is to be merged, and how: plain data, whose numbers may differ by input, by layer and by tensor."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.models import ModelSource
from slmbench.values import JsonObject

Scalar: TypeAlias = float | int | bool | str
Setting: TypeAlias = Scalar | Sequence[Any]
"""A value for all tensors; a list of numbers, spread evenly over the layers and interpolated between; or a list of
`{filter: text, value: ...}`, of which the first counts whose text is in the tensor's name (one without `filter` fits
all)."""

_LAYER = re.compile(r"\.(\d+)\.")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


@frozen
class MergeInput:
    """One of what is merged. name: as weights call it. path: a folder of a model or of an adapter, a GGUF file, or what
    else finds a model.
    """

    name: str
    path: str


@frozen(kw_only=True)
class MergePlan:
    """A merge. name: the result's folder. base: what task vectors are taken from and adapters are put on.

    weights: input's name -> setting (1 unless given), or one setting for all inputs. parameters: of the method, name ->
    setting, or name -> {input's name: setting} for one that differs by input. result: a whole model, or one LoRA of
    `rank` (`full`: as much as loses nothing; None: the largest of the inputs). dtype: of a model's weights; auto: that
    of the base's, or of the first input's. out: the folder in which `models/` and `adapters/` lie.
    """

    name: str
    base: ModelSource | None = None
    inputs: tuple[MergeInput, ...]
    method: str
    weights: Mapping[str, Setting] | Setting | None = None
    parameters: Mapping[str, Any] = {}
    result: Literal["model", "lora"] = "model"
    rank: int | Literal["full"] | None = None
    dtype: str = "auto"
    seed: int = 0
    out: str = "slmbench-out"

    @property
    def folder(self) -> str:
        """Where the result goes."""
        return os.path.join(self.out, "adapters" if self.result == "lora" else "models", self.name)

    def weight_settings(self) -> list[Setting]:
        """A setting for each input."""
        given = self.weights
        if isinstance(given, Mapping):
            return [given.get(one.name, 1.0) for one in self.inputs]
        return [1.0 if given is None else given for _ in self.inputs]

    def as_json(self) -> JsonObject:
        """The plan as plain data; the same merge has the same, wherever it is written."""
        return {
            "name": self.name,
            "base": None if self.base is None else self.base.given,
            "inputs": [{"name": one.name, "path": one.path} for one in self.inputs],
            "method": self.method,
            "weights": plain(self.weights),
            "parameters": plain(self.parameters),
            "result": self.result,
            "rank": self.rank,
            "dtype": self.dtype,
            "seed": self.seed,
        }


def plan_problems(plan: MergePlan) -> list[str]:
    """What is wrong with a plan by itself, before any file is looked at; the method's own rules apart."""
    found = []
    if not _NAME.fullmatch(plan.name):
        found.append(f"name {plan.name!r}: a folder's name of letters, digits and _ . + -, at most 100 of them")
    names = [one.name for one in plan.inputs]
    if not names:
        found.append("there are no inputs; give at least one")
    for name in sorted({name for name in names if names.count(name) > 1}):
        found.append(f"two inputs are named {name!r}; give each a name of its own")
    places: dict[str, str] = {}
    for one in plan.inputs:
        place = os.path.realpath(one.path) if os.path.exists(one.path) else one.path
        if place in places:
            found.append(f"inputs {places[place]!r} and {one.name!r} are the same ({one.path}); give it once")
        places.setdefault(place, one.name)
        if place == os.path.realpath(plan.folder) and os.path.exists(one.path):
            found.append(f"input {one.name!r} is the folder that the result goes to ({one.path}); give another name")
    given = plan.weights if isinstance(plan.weights, Mapping) else {}
    by_input = {key: value for key, value in plan.parameters.items() if isinstance(value, Mapping)}
    for what, keys in (("weights", given), *((f"parameter {key}", value) for key, value in by_input.items())):
        for name in sorted(set(keys) - set(names)):
            found.append(f"{what}: there is no input {name!r}; there are {', '.join(names)}")
    settings: list[tuple[str, object]] = []
    if isinstance(plan.weights, Mapping):
        settings += [(f"weights.{name}", value) for name, value in plan.weights.items()]
    elif plan.weights is not None:
        settings.append(("weights", plan.weights))
    for key, value in plan.parameters.items():
        if isinstance(value, Mapping):
            settings += [(f"parameters.{key}.{name}", one) for name, one in value.items()]
        else:
            settings.append((f"parameters.{key}", value))
    for where, value in settings:
        found += [f"{where}: {said}" for said in _faults(value) or _odd_weights(where, value)]
    if plan.rank is not None and plan.result != "lora":
        found.append("rank is of a LoRA; leave it out, or ask for result lora")
    if isinstance(plan.rank, int) and plan.rank < 1:
        found.append(f"rank {plan.rank}: a whole number from 1 on, or full")
    if plan.dtype not in ("auto", "float32", "bfloat16", "float16"):
        found.append(f"dtype {plan.dtype!r}: auto, float32, bfloat16 or float16")
    return found


def depths(names: Iterable[str]) -> dict[str, float]:
    """Tensor -> where its layer stands in its stack, 0 of the first to 1 of the last; 0 of what is in no layer."""
    found = {}
    last: dict[str, int] = {}
    for name in names:
        match = _LAYER.search(name)
        if match is None:
            found[name] = ("", 0)
            continue
        stack, layer = name[: match.start()], int(match[1])
        found[name] = (stack, layer)
        last[stack] = max(layer, last.get(stack, 0))
    return {name: layer / last[stack] if last.get(stack) else 0.0 for name, (stack, layer) in found.items()}


def value_at(setting: Setting, name: str, depth: float, *, what: str, default: Scalar | None = None) -> Scalar:
    """What a setting is for a tensor. default: where no filter fits; None raises UsageError there.

    what: the setting's name, for that message.
    """
    if isinstance(setting, Scalar):
        return setting
    listed: Sequence[Any] = setting
    if listed and isinstance(listed[0], Mapping):
        for case in listed:
            if case.get("filter", "*") in (None, "*") or str(case["filter"]) in name:
                return value_at(case["value"], name, depth, what=what, default=default)
        if default is None:
            raise UsageError(f"{what}: no filter fits {name}; end the list with a value without a filter")
        return default
    place = depth * (len(listed) - 1)
    low = int(place)
    high = min(len(listed) - 1, low + 1)
    return float(listed[low] + (listed[high] - listed[low]) * (place - low))


def _faults(value: object) -> list[str]:
    if isinstance(value, Scalar):
        return []
    if not isinstance(value, Sequence) or not value:
        return ["a value, a list of numbers, or a list of {filter, value}"]
    if all(isinstance(one, Mapping) for one in value):
        odd = [one for one in value if "value" not in one or set(one) - {"filter", "value"}]
        if odd:
            return [
                f"an entry of a list of filters has `filter` and `value`; got the keys {', '.join(map(str, odd[0]))}"
            ]
        return [said for one in value for said in _faults(one["value"])]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in value):
        return ["a list is of numbers, or of {filter, value}, and not of both"]
    return []


def _odd_weights(where: str, value: object) -> list[str]:
    """Of a weight, what is not a number, in filters too; a parameter may be a text or a flag."""
    if not where.startswith("weights"):
        return []
    if isinstance(value, bool | str):
        return [f"a weight is a number; got {value!r}"]
    parts = value if isinstance(value, Sequence) else ()
    return [said for one in parts if isinstance(one, Mapping) for said in _odd_weights(where, one["value"])]


def plain(value: Any) -> Any:
    """A setting of lists and mappings of any kind, as JSON and YAML have it."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(one) for one in value]
    return value
