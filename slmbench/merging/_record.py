"""`merge.json` of a merge that is done, and what makes it the same as another one."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from concurrent.futures import Future

from slmbench.errors import FileError, UsageError
from slmbench.files import file_sha256
from slmbench.merging._checkpoints import StoredModel
from slmbench.merging._inputs import MergeSources
from slmbench.merging._plan import MergePlan, plain
from slmbench.merging.lora import LoraUpdate, trained_alike
from slmbench.models import ModelSource, read_adapter
from slmbench.registry import Registered
from slmbench.runs import TrainingRecord, canonical_sha256, read_training
from slmbench.values import JsonObject

Digests = Mapping[str, "Future[JsonObject]"]
"""Path of a file of weights -> its size and its sha256, which another thread makes meanwhile."""


def file_facts(path: str) -> JsonObject:
    """Size and sha256 of a file. Raises OSError."""
    return {"bytes": os.path.getsize(path), "sha256": file_sha256(path)}


def input_facts(path: str) -> JsonObject:
    """The same, of a file that a recipe's merges all read: hashed once as long as the system says it is as it was."""
    status = os.stat(path)
    return dict(_facts_of(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@functools.lru_cache(256)
def _facts_of(path: str, *state: int) -> JsonObject:
    return file_facts(path)


def identity_of(plan: MergePlan, method: Registered, sources: MergeSources, digests: Digests) -> str:
    """sha256 of all that makes a merge what it is: how, of which weights; not where these lie."""
    said = plan.as_json()
    del said["base"], said["inputs"], said["name"]
    read = [_sha256(one, digests) for one in sources.every]
    base = None if sources.base is None else _sha256(sources.base, digests)
    return canonical_sha256([said, method.version, [one.name for one in plan.inputs], read, base])


def input_records(plan: MergePlan, sources: MergeSources, digests: Digests) -> list[JsonObject]:
    """What a record says of each input."""
    return [
        _input_record(one, weight, digests) for one, weight in zip(sources.every, plan.weight_settings(), strict=True)
    ]


def base_record(source: ModelSource | None, sources: MergeSources, digests: Digests) -> JsonObject | None:
    """What a record says of the base; if none was given, that of the inputs' trainings."""
    if source is None:
        alike = trained_alike(sources.adapters) if not sources.models else {}
        return alike.get("base")
    said: JsonObject = {
        "name": source.name,
        "id": source.id,
        "location": source.given,
        "revision": source.revision,
        "twin": source.twin,
    }
    if sources.base is not None:
        said |= {"sha256": _sha256(sources.base, digests), "files": _files(sources.base, digests)}
    return said


def trained_record(sources: MergeSources) -> JsonObject:
    """What the inputs' trainings say alike, in the keys of a merge.json; of whole models the format alone."""
    if not sources.models:
        return {key: value for key, value in trained_alike(sources.adapters).items() if key != "base"}
    named = {_format(one) for one in sources.every}
    return {"format": named.pop() if len(named) == 1 else None}


def written_files(folder: str) -> dict[str, JsonObject]:
    """name -> size and sha256, of all files of a folder."""
    return {name: file_facts(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}


def result_sha256(folder: str, files: Mapping[str, JsonObject]) -> str:
    """Of an adapter as it is known everywhere; of a whole model, over the digests of its files of weights."""
    try:
        return read_adapter(folder).sha256
    except UsageError:
        return _of_files({name: facts for name, facts in files.items() if name.endswith(".safetensors")})


def as_recipe(plan: MergePlan, sources: MergeSources) -> str:
    """The same merge as a recipe, in YAML: with what was given, and the inputs where they are."""
    import yaml

    said = plan.as_json()
    weights = dict(zip((one.name for one in plan.inputs), map(plain, plan.weight_settings()), strict=True))
    merged: JsonObject = {"method": plan.method, "weights": weights, "parameters": said["parameters"]}
    merged |= {"result": plan.result} | ({"rank": plan.rank} if plan.rank is not None else {})
    places = {
        one.name: {"path": os.path.abspath(its.folder)} for one, its in zip(plan.inputs, sources.every, strict=True)
    }
    tasks = list(dict.fromkeys(task for one in sources.every if (its := _training(one)) for task in its.tasks))
    recipe: JsonObject = {
        "kind": "merge",
        "summary": f"{plan.method} of {', '.join(places)}, as it was merged into {plan.name}.",
        # A recipe names a base; of an average any of the models serves as one.
        "model": plan.base.given if plan.base is not None else _model_of(sources),
        "inputs": places,
        "merges": {plan.name: merged},
        "dtype": plan.dtype,
        "seed": plan.seed,
        **({"evaluation": {"tasks": tasks}} if tasks else {}),
    }
    return str(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=110))


def _model_of(sources: MergeSources) -> str:
    if sources.models:
        return os.path.abspath(sources.models[0].folder)
    return sources.adapters[0].info.config.base_model_name_or_path or "base"


def _input_record(one: StoredModel | LoraUpdate, weight: object, digests: Digests) -> JsonObject:
    training = _training(one)
    adapter = isinstance(one, LoraUpdate)
    said: JsonObject = {
        "name": one.name,
        "path": os.path.abspath(one.folder),
        "kind": "adapter" if adapter else "model",
        "sha256": _sha256(one, digests),
        "weight": plain(weight),
    }
    if isinstance(one, LoraUpdate):
        said["rank"] = one.info.rank
    else:
        said["files"] = _files(one, digests)
    if training is not None:
        said |= {"method": training.how(), "tasks": list(training.tasks)}
    return said


def _training(one: StoredModel | LoraUpdate) -> TrainingRecord | None:
    if isinstance(one, LoraUpdate):
        return one.info.training
    try:
        return read_training(one.folder)
    except (FileNotFoundError, FileError):  # Of another tool, as a model's folder may hold any file.
        return None


def _format(one: StoredModel | LoraUpdate) -> str | None:
    training = _training(one)
    told = training is not None and "format" in training.settings.model_fields_set
    return training.settings.format if training is not None and told else None


def _files(one: StoredModel, digests: Digests) -> dict[str, JsonObject]:
    return {os.path.basename(path): digests[path].result() for path in one.files}


def _sha256(one: StoredModel | LoraUpdate, digests: Digests) -> str:
    return one.sha256 if isinstance(one, LoraUpdate) else _of_files(_files(one, digests))


def _of_files(files: Mapping[str, JsonObject]) -> str:
    return canonical_sha256(sorted(facts["sha256"] for facts in files.values()))
