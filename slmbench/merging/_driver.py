"""A merge from files to files: one tensor in memory at a time, and a folder that is whole or not there."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.console import phase, say
from slmbench.errors import DataError, FileError, SlmbenchError, UsageError
from slmbench.files import disk_errors, file_sha256, only_writer, restore_swapped, swap_folder, write_json
from slmbench.foreign import Limits, read_object
from slmbench.machine import code, hardware, packages, peak_memory_bytes, reset_peak_memory
from slmbench.merging._checkpoints import (
    DTYPES,
    FLOATS,
    Mapped,
    StoredModel,
    is_finite,
    open_checkpoint,
    problem_lines,
    same_numbers,
    together_problems,
)
from slmbench.merging._plan import MergePlan, depths, plan_problems, value_at
from slmbench.merging._writer import ModelWriter
from slmbench.models import ModelSource, resolve_model
from slmbench.paths import shown
from slmbench.runs import MERGE, MergeRecord, canonical_sha256, now, read_merge, write_merge
from slmbench.values import JsonObject, Tensor

TOKENIZER_FILES = (
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.json merges.txt vocab.txt "
    "spiece.model tokenizer.model chat_template.jinja chat_template.json generation_config.json"
).split()
_LIMITS = Limits(bytes=64_000_000, surrogates=True, infinity=True)


@frozen
class MergeResult:
    """folder: of the model or adapter. record: its merge.json."""

    folder: str
    record: MergeRecord


def merge(plan: MergePlan, catalog: Catalog, *, search: JsonObject | None = None) -> MergeResult:
    """Merges, and writes `<out>/models/<name>` or `<out>/adapters/<name>` with `merge.json` and `merge.yaml`.

    search: how the plan's numbers were found, for the record. The same plan of the same files again returns what is
    there. Raises SlmbenchError's children, with all that is wrong at once, and leaves nothing half-written.
    """
    if problems := plan_problems(plan):
        raise UsageError("\n".join(f"merge {plan.name}: {said}" for said in problems))
    place = os.path.abspath(plan.folder)
    shelf, name = os.path.split(place)
    partial = os.path.join(shelf, f".{name}.partial")
    with only_writer(os.path.join(shelf, f".{name}.lock")), Mapped() as mapped:
        restore_swapped(place)
        _refuse_foreign(place)
        shutil.rmtree(partial, ignore_errors=True)  # Of a merge that was killed.
        base, models = _open(plan, catalog, mapped)
        with ThreadPoolExecutor(1) as hasher:
            digests = {path: hasher.submit(_file_facts, path) for path in _paths([*models, *([base] if base else [])])}
            try:
                return _made(plan, place, partial, base, models, mapped, digests, search)
            finally:
                for future in digests.values():
                    future.cancel()
                shutil.rmtree(partial, ignore_errors=True)


def _made(
    plan: MergePlan,
    place: str,
    partial: str,
    base: StoredModel | None,
    models: list[StoredModel],
    mapped: Mapped,
    digests: Mapping[str, Future[JsonObject]],
    search: JsonObject | None,
) -> MergeResult:
    if (there := _there(place)) is not None:
        if there.identity_sha256 == _identity(plan, base, models, digests) and _is_whole(place, there):
            say(f"{shown(place)} is there already: {there.told}")
            return MergeResult(place, there)
        say(f"{shown(place)} was merged from other files or settings, or has changed; it is replaced")
    begun = time.monotonic()
    reset_peak_memory()
    with disk_errors(partial):
        os.makedirs(partial)
    report = _write_model(plan, partial, base, models, mapped)
    _copy_files(partial, base or models[0], plan.dtype)
    record = {
        "schema": 1,
        "name": plan.name,
        "result": plan.result,
        "method": plan.method,
        "inputs": [_input_record(plan, number, one, digests) for number, one in enumerate(models)],
        "base": _base_record(plan.base, base, digests),
        "weights": plan.as_json()["weights"],
        "parameters": plan.as_json()["parameters"],
        "dtype": plan.dtype,
        "seed": plan.seed,
        "identity_sha256": _identity(plan, base, models, digests),
        "tensors": report,
        "search": search,
        **_written(partial),
        "seconds": round(time.monotonic() - begun, 3),
        "ram_peak_bytes": peak_memory_bytes(),
        "ended": now(),
        "code": code(),
        "packages": packages(),
        "hardware": hardware(),
    }
    write_merge(partial, record)
    with disk_errors(place):
        swap_folder(partial, place)
    return MergeResult(place, read_merge(place))


def _open(plan: MergePlan, catalog: Catalog, mapped: Mapped) -> tuple[StoredModel | None, list[StoredModel]]:
    """The base and the inputs. Raises FileError or UsageError with every fault of all of them."""
    problems: list[str] = []
    opened: list[StoredModel] = []
    base = None
    places = [(one.name, one.path) for one in plan.inputs]
    for name, path in [*([("base", plan.base.given)] if plan.base is not None else []), *places]:
        try:
            source = plan.base if name == "base" and plan.base is not None else resolve_model(path, catalog)
            found = open_checkpoint(name, local_folder(source), mapped)
        except SlmbenchError as error:
            problems += problem_lines(error)
            continue
        if name == "base" and base is None and plan.base is not None:
            base = found
        else:
            opened.append(found)
    if not problems:
        problems = together_problems([*([base] if base else []), *opened])
    if problems:
        raise DataError("\n".join(f"merge {plan.name}: {said}" for said in problems))
    return base, opened


def local_folder(source: ModelSource) -> str:
    """The folder of a model on this machine; one of the hub is fetched. Raises OfflineError."""
    if os.path.isdir(source.location):
        return source.location
    raise UsageError(f"{source.location} is not on this machine")


def _write_model(
    plan: MergePlan, folder: str, base: StoredModel | None, models: list[StoredModel], mapped: Mapped
) -> dict[str, JsonObject]:
    first = base or models[0]
    names = sorted(first.places, key=lambda name: (first.places[name].file, first.places[name].start))
    where = depths(names)
    dtype = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}.get(plan.dtype)
    heads = {}
    for name in names:
        own = first.places[name]
        heads[name] = (dtype if dtype and own.dtype in FLOATS else own.dtype, own.shape)
    report: dict[str, JsonObject] = {}
    with ModelWriter(folder, heads) as writer, phase(f"merging {plan.name}"):
        for name in names:
            tensors = [mapped.tensor(one.places[name]) for one in models]
            under = mapped.tensor(base.places[name]) if base is not None else None
            if first.places[name].dtype in FLOATS:
                _refuse_odd(plan, name, base, models, mapped)
                made, report[name] = _merge_one(plan, name, where[name], tensors, under)
            else:
                made = tensors[0]
                for one, tensor in zip(models, tensors, strict=True):
                    if not same_numbers(tensor, made):
                        raise DataError(f"merge {plan.name}: {name} is of whole numbers and differs in {one.name}")
            writer.write(name, made)
            del made, tensors, under
            for one in [*models, *([base] if base else [])]:
                mapped.forget(one.places[name])
    return report


def _merge_one(
    plan: MergePlan, name: str, depth: float, tensors: list[Tensor], base: Tensor | None
) -> tuple[Tensor, JsonObject]:
    weights = [float(value_at(one, name, depth, what="weights")) for one in plan.weight_settings()]
    if plan.method != "linear":
        raise UsageError(f"unknown merge_method {plan.method!r}")
    total = sum(weights)
    made = tensors[0].float() * (weights[0] / total)
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        made.add_(tensor, alpha=weight / total)
    return made, {}


def _refuse_odd(
    plan: MergePlan, name: str, base: StoredModel | None, models: list[StoredModel], mapped: Mapped
) -> None:
    """Raises DataError if one of a tensor's inputs has NaN or an infinity: then with all tensors that do."""
    every = [*([base] if base else []), *models]
    if all(is_finite(mapped.tensor(one.places[name])) for one in every):
        return
    odd = [
        f"{one.name}: {key} has NaN or an infinity, in {shown(one.places[key].file)}"
        for one in every
        for key in sorted(one.places)
        if one.places[key].dtype in FLOATS and not is_finite(mapped.tensor(one.places[key]))
    ]
    raise DataError("\n".join(f"merge {plan.name}: {said}" for said in odd))


def _copy_files(folder: str, first: StoredModel, dtype: str) -> None:
    """Config, generation config and tokenizer of the base or of the first input."""
    config = read_object(os.path.join(first.folder, "config.json"), _LIMITS)
    config.pop("quantization_config", None), config.pop("_name_or_path", None)
    kinds = {place.dtype for place in first.places.values() if place.dtype in FLOATS}
    config.pop("torch_dtype", None)
    config["dtype"] = dtype if dtype != "auto" else DTYPES[max(kinds, key=FLOATS[::-1].index)]
    write_json(os.path.join(folder, "config.json"), config)
    for name in TOKENIZER_FILES:
        path = os.path.join(first.folder, name)
        if os.path.isfile(path):
            with disk_errors(folder):
                shutil.copyfile(path, os.path.join(folder, name))


def _paths(checkpoints: Iterable[StoredModel]) -> list[str]:
    return list(dict.fromkeys(path for one in checkpoints for path in one.files))


def _file_facts(path: str) -> JsonObject:
    return {"bytes": os.path.getsize(path), "sha256": file_sha256(path)}


def _files(one: StoredModel, digests: Mapping[str, Future[JsonObject]]) -> dict[str, JsonObject]:
    return {os.path.basename(path): digests[path].result() for path in one.files}


def _identity(
    plan: MergePlan, base: StoredModel | None, models: list[StoredModel], digests: Mapping[str, Future[JsonObject]]
) -> str:
    said = plan.as_json()
    del said["base"], said["inputs"]
    read = [_files(one, digests) for one in (*models, *([base] if base else []))]
    names = [one.name for one in plan.inputs]
    return canonical_sha256(
        [said, names, base is not None, [sorted(f["sha256"] for f in one.values()) for one in read]]
    )


def _input_record(
    plan: MergePlan, number: int, one: StoredModel, digests: Mapping[str, Future[JsonObject]]
) -> JsonObject:
    files = _files(one, digests)
    return {
        "name": one.name,
        "path": os.path.abspath(one.folder),
        "kind": "model",
        "sha256": canonical_sha256(sorted(file["sha256"] for file in files.values())),
        "files": files,
        "weight": plan.weight_settings()[number],
    }


def _base_record(
    source: ModelSource | None, base: StoredModel | None, digests: Mapping[str, Future[JsonObject]]
) -> JsonObject | None:
    if source is None:
        return None
    files = {} if base is None else _files(base, digests)
    return {
        "name": source.name,
        "id": source.id,
        "location": source.given,
        "revision": source.revision,
        "twin": source.twin,
        "sha256": canonical_sha256(sorted(file["sha256"] for file in files.values())) if files else None,
        "files": files,
    }


def _written(folder: str) -> JsonObject:
    files = {name: _file_facts(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
    weights = sorted(facts["sha256"] for name, facts in files.items() if name.endswith(".safetensors"))
    return {"files": files, "sha256": canonical_sha256(weights)}


def _there(place: str) -> MergeRecord | None:
    try:
        return read_merge(place)
    except (OSError, FileError):
        return None


def _is_whole(place: str, record: MergeRecord) -> bool:
    """Whether a result's files are as they were written."""
    try:
        return all(_file_facts(os.path.join(place, name)) == facts.model_dump() for name, facts in record.files.items())
    except OSError:
        return False


def _refuse_foreign(place: str) -> None:
    """Raises UsageError if something stands in the result's place that no merge has put there."""
    if os.path.isdir(place):
        if not os.listdir(place) or os.path.isfile(os.path.join(place, MERGE)):
            return
    elif not os.path.lexists(place):
        return
    raise UsageError(
        f"{shown(place)} already exists, and no merge wrote it (it has no {MERGE}), so it is not replaced; move it "
        "away, or give another name"
    )
