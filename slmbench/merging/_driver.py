"""A merge from files to files: one tensor in memory at a time, and a folder that is whole or not there."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.console import say
from slmbench.errors import FileError, SlmbenchError, UsageError
from slmbench.files import disk_errors, only_writer, restore_swapped, swap_folder, write_atomically, write_json
from slmbench.foreign import Limits, read_object
from slmbench.machine import code, hardware, packages, peak_memory_bytes, reset_peak_memory
from slmbench.merging._checkpoints import DTYPES, FLOATS, Mapped, StoredModel
from slmbench.merging._inputs import TOKENIZER_FILES, open_sources
from slmbench.merging._parameters import parameters_of
from slmbench.merging._plan import MergePlan, plan_problems
from slmbench.merging._record import (
    Digests,
    as_recipe,
    base_record,
    file_facts,
    identity_of,
    input_facts,
    input_records,
    result_sha256,
    trained_record,
    written_files,
)
from slmbench.merging._tensors import load_method
from slmbench.merging._weights import TensorMerge, totals
from slmbench.merging.lora import write_lora
from slmbench.paths import shown
from slmbench.runs import MERGE, MergeRecord, now, read_merge, write_merge
from slmbench.seal import canonical_json
from slmbench.values import JsonObject

RECIPE = "merge.yaml"
_LIMITS = Limits(bytes=64_000_000, surrogates=True, infinity=True)


@frozen
class MergeResult:
    """folder: of the model or adapter. record: its merge.json."""

    folder: str
    record: MergeRecord


def merge(plan: MergePlan, catalog: Catalog, *, search: JsonObject | None = None) -> MergeResult:
    """Merges, and writes `<out>/models/<name>` or `<out>/adapters/<name>` with `merge.json` and `merge.yaml`.

    search: how the plan's numbers were found, for the record. The same plan of the same weights again returns what is
    there, whose record then has the search of this call. Raises SlmbenchError's children, with all that is wrong at
    once, and leaves nothing half-written.
    """
    method = load_method(plan.method, catalog)
    if problems := plan_problems(plan):
        raise UsageError("\n".join(f"merge {plan.name}: {said}" for said in problems))
    place = os.path.abspath(plan.folder)
    shelf, name = os.path.split(place)
    partial = os.path.join(shelf, f".{name}.partial")
    with only_writer(os.path.join(shelf, f".{name}.lock")), Mapped() as mapped:
        restore_swapped(place)
        _refuse_foreign(place)
        shutil.rmtree(partial, ignore_errors=True)  # Of a merge that was killed.
        sources = open_sources(plan, catalog, mapped)
        work = TensorMerge(plan, method, sources, mapped, partial)
        if problems := work.problems():
            raise UsageError("\n".join(f"merge {plan.name}: {said}" for said in problems))
        hasher = ThreadPoolExecutor(2)
        try:
            digests = {path: hasher.submit(input_facts, path) for path in sources.files}
            return _made(work, place, digests, search)
        finally:
            hasher.shutdown(wait=False, cancel_futures=True)
            shutil.rmtree(partial, ignore_errors=True)


def merge_problems(plan: MergePlan, catalog: Catalog) -> list[str]:
    """What `merge` would refuse of a plan, in lines; nothing is written."""
    try:
        method = load_method(plan.method, catalog)
        problems = plan_problems(plan)
        if not problems:
            with Mapped() as mapped:
                problems = TensorMerge(plan, method, open_sources(plan, catalog, mapped), mapped, "").problems()
    except SlmbenchError as error:
        return str(error).split("\n")
    return [f"merge {plan.name}: {said}" for said in problems]


def _made(work: TensorMerge, place: str, digests: Digests, search: JsonObject | None) -> MergeResult:
    plan, sources, partial = work.plan, work.sources, work.folder
    if (there := _there(place)) is not None:
        same = there.identity_sha256 == identity_of(plan, work.method, sources, digests)
        if same and _is_whole(place, there):
            say(f"{shown(place)} already exists: {there.told}")
            return MergeResult(place, _found_by(place, there, search))
        why = "has changed since it was merged" if same else "was merged from other weights or with other settings"
        say(f"{shown(place)} {why}; it is replaced")
    begun = time.monotonic()
    reset_peak_memory()
    for notice in sources.notices:
        say(f"note: {notice}")
    with disk_errors(partial):
        os.makedirs(partial)
    if plan.result == "lora":
        merged = work.as_lora()
        write_lora(partial, merged)
        report = dict(merged.report)
        sizes = {name: one.shape[0] * one.shape[1] for name, one in merged.modules.items()}
        made: JsonObject = {"rank": merged.config["r"], "dtype": "float32"}
    else:
        report = work.write_model()
        sizes = {name: (place.end - place.start) for name, place in sources.layout.places.items()}
        made = {"dtype": _copy_config(partial, sources.layout, plan.dtype)}
    _copy_tokenizer(partial, sources.tokenizer)
    write_atomically(os.path.join(partial, RECIPE), as_recipe(plan, sources).encode())
    files = written_files(partial)
    record = {
        "schema": 1,
        "name": plan.name,
        "result": plan.result,
        "method": plan.method,
        "method_version": work.method.version,
        "inputs": input_records(plan, sources, digests),
        "base": base_record(plan.base, sources, digests),
        "weights": plan.as_json()["weights"],
        "parameters": {**parameters_of(work.method), **plan.as_json()["parameters"]},
        **made,
        "seed": plan.seed,
        "identity_sha256": identity_of(plan, work.method, sources, digests),
        **(trained_record(sources) if plan.result == "lora" else {"format": trained_record(sources).get("format")}),
        "tensors": report,
        "totals": totals(report, sizes),
        "search": search,
        "files": files,
        "sha256": result_sha256(partial, files),
        "seconds": round(time.monotonic() - begun, 3),
        "ram_peak_bytes": peak_memory_bytes(),
        "notices": list(sources.notices),
        "ended": now(),
        "code": code(),
        "packages": packages(),
        "hardware": hardware(),
    }
    write_merge(partial, record)
    with disk_errors(place):
        swap_folder(partial, place)
    return MergeResult(place, read_merge(place))


def _copy_config(folder: str, layout: StoredModel, dtype: str) -> str:
    """Config and generation config; returns the dtype that the config now says."""
    config = read_object(os.path.join(layout.folder, "config.json"), _LIMITS)
    for key in ("quantization_config", "_name_or_path", "torch_dtype", "transformers_version"):
        config.pop(key, None)
    kinds = {place.dtype for place in layout.places.values() if place.dtype in FLOATS}
    config["dtype"] = dtype if dtype != "auto" else DTYPES[min(kinds, key=FLOATS.index)]
    write_json(os.path.join(folder, "config.json"), config)
    _copy(os.path.join(layout.folder, "generation_config.json"), folder)
    return str(config["dtype"])


def _copy_tokenizer(folder: str, of: str) -> None:
    for name in TOKENIZER_FILES:
        _copy(os.path.join(of, name), folder)


def _copy(path: str, folder: str) -> None:
    if os.path.isfile(path):
        with disk_errors(folder):
            shutil.copyfile(path, os.path.join(folder, os.path.basename(path)))


def _found_by(place: str, there: MergeRecord, search: JsonObject | None) -> MergeRecord:
    """The record of a merge that is there, with how its numbers were found now: another search may find the same."""
    if canonical_json(there.search) == canonical_json(search):
        return there
    with disk_errors(place):
        write_merge(place, {**read_object(os.path.join(place, MERGE), _LIMITS), "search": search})
    say(f"{shown(place)}: how its numbers were found is as of now; they are the same")
    return read_merge(place)


def _there(place: str) -> MergeRecord | None:
    try:
        return read_merge(place)
    except (OSError, FileError):
        return None


def _is_whole(place: str, record: MergeRecord) -> bool:
    """Whether a result's files are as they were written."""
    try:
        return all(file_facts(os.path.join(place, name)) == facts.model_dump() for name, facts in record.files.items())
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
