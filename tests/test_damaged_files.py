"""Every kind of file that is read back, damaged in every way: a value that validates, a named error, or a said drop."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from slmbench.deployment import _runtimes
from slmbench.errors import FileError
from slmbench.evaluation._answers import _ScoredChoice as Scored
from slmbench.evaluation._answers import _WrittenText as WrittenText
from slmbench.evaluation._answers import check_either, check_scored, check_written
from slmbench.foreign import Foreign, decode_json, parse
from slmbench.journal import Journal
from slmbench.leaderboard._page_training import _curves, _shown
from slmbench.models import _gguf
from slmbench.runs import TRAINING, read_training
from slmbench.runs._training import TrainingRecord
from slmbench.seal import sealed
from slmbench.training._checkpoints import MANIFEST, latest, writing
from slmbench.training._curves import Curves
from slmbench.training._progress import CURVES, STATE, TIMES, Times, TrainerState, progress_check, read_progress
from slmbench.twins import _build
from tests.damage import Damage, damages, filled, full

PACKAGE = Path(__file__).resolve().parent.parent / "slmbench"


def _models() -> Iterator[type[Foreign]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "foreign import" in path.read_text(encoding="utf-8"):
            importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    waiting = [Foreign]
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if model.model_fields and model.__module__.startswith("slmbench."):
            yield model


MODELS = sorted(set(_models()), key=lambda model: (model.__module__, model.__name__))
SOUND = {model: full(model) for model in MODELS}


@pytest.mark.parametrize(
    "model", MODELS, ids=lambda model: f"{model.__module__.removeprefix('slmbench.')}.{model.__name__}"
)
def test_a_model_takes_a_file_of_all_its_fields(model: type[Foreign]) -> None:
    made = parse(model, SOUND[model], "file.json")
    assert made.model_fields_set == model.model_fields.keys()


@settings(max_examples=500)
@given(st.data())
def test_anything_in_any_field_of_any_model_is_read_as_it_is_or_is_an_error_that_names_the_field(
    data: st.DataObject,
) -> None:
    model = data.draw(st.sampled_from(MODELS))
    damage: Damage = data.draw(damages(SOUND[model]))
    try:
        value = decode_json(damage.data, "file.json")
    except FileError as error:
        assert "file.json" in str(error)
        return
    try:
        made = parse(model, value, "file.json")
    except FileError as error:
        assert "file.json: " in str(error) and len(str(error)) < 5000
        # The field, or the one around it.
        assert not damage.place or f"field {damage.place[0]}" in str(error)
    else:
        _hold_equal(made, value)


def _hold_equal(made: Any, given: Any) -> None:
    """What a model holds is what stands in the file, of the same type: nothing is made of anything else."""
    if isinstance(made, BaseModel):
        for name in made.model_fields_set & type(made).model_fields.keys():
            _hold_equal(getattr(made, name), given[type(made).model_fields[name].alias or name])
    elif isinstance(made, list):
        assert len(made) == len(given)
        for one, other in zip(made, given, strict=True):
            _hold_equal(one, other)
    elif isinstance(made, dict):
        assert made.keys() == given.keys()
        for key, one in made.items():
            _hold_equal(one, given[key])
    elif isinstance(made, float):
        assert made == float(given) and type(given) in (int, float)
    else:
        assert made == given and isinstance(made, bool) == isinstance(given, bool), (made, given)
        assert isinstance(made, str) == isinstance(given, str)


def _fresh(factory: pytest.TempPathFactory, name: str) -> Path:
    """An empty folder, the same for every example."""
    folder = factory.getbasetemp() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


# The line of a journal, as `Journal.append` writes it, and as an earlier version did, whose checksum can tell nothing.
@pytest.mark.parametrize("check", [check_scored, check_written, check_either])
@settings(max_examples=100)
@given(data=st.data(), summed=st.booleans())
def test_a_damaged_line_of_a_journal_is_said_and_left_out_or_is_a_sound_answer(
    check: Any, data: st.DataObject, summed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = _fresh(tmp_path_factory, "journal") / "responses.jsonl"
    model = Scored if check is check_scored else WrittenText
    sound = SOUND[model]
    journal = Journal(str(path), check)
    for key in ("a", "b", "c"):
        journal.append(key, sound)
    journal.close()
    first, second, third = path.read_bytes().splitlines(keepends=True)
    line = json.loads(second) if summed else {"key": "b", "value": sound}
    damage: Damage = data.draw(damages(line))
    path.write_bytes(first + damage.data + b"\n" + third)
    journal = Journal(str(path), check)
    journal.close()
    assert journal.entries["a"] == sound and (damage.how == "encoding" or journal.entries["c"] == sound)
    changed = {key: value for key, value in journal.entries.items() if value != sound or key not in set("abc")}
    assert not (changed and summed), "a checksum tells of every change"
    for value in changed.values():
        _hold_equal(parse(model, value, ""), value)
        assert all(abs(one) < 1e300 for one in value.values() if isinstance(one, int | float))
    if "b" not in journal.entries and not changed and damage.data.strip():
        assert journal.damage


def _cache_folder(folder: Path, manifest: dict[str, Any]) -> None:
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(name.encode())
        data = name.encode()
        digest = hashlib.sha256(data).hexdigest()
        kept = None if name.endswith(".safetensors") else digest
        of_file = digest if "family" in manifest else {"bytes": len(data), "sha256": kept}
        manifest.setdefault("files", {})[name] = of_file


# What is kept is a cache: it is made again, whatever is wrong with it.
@pytest.mark.parametrize("kind", ["twin", "gguf"])
@settings(max_examples=100)
@given(data=st.data())
def test_a_folder_of_the_cache_is_whole_only_if_its_manifest_holds_every_file(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = _fresh(tmp_path_factory, kind)
    manifest: dict[str, Any] = {"schema": 1} | ({"family": "llama"} if kind == "twin" else {"notices": ["a"]})
    _cache_folder(folder, manifest)
    path = folder / (_build.MANIFEST if kind == "twin" else _gguf.MANIFEST)
    path.write_text(json.dumps(manifest))
    whole = (lambda: _build._is_whole(str(folder))) if kind == "twin" else lambda: _gguf._notices_of(str(folder))
    assert whole()
    damage: Damage = data.draw(damages(manifest))
    path.write_bytes(damage.data)
    if (found := whole()) not in (False, None):
        read = decode_json(damage.data, "")
        assert read["files"].keys() == manifest["files"].keys() and (found is True or list(found) == read["notices"])
    (folder / "config.json").write_bytes(b"another")
    assert not whole()


TASKS = ("one", "two")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A checkpoint of step 7, of plain files, and what its JSON files hold."""
    place = tmp_path_factory.mktemp("sound")
    curves = Curves(TASKS)
    curves.add([0, 1, 1], [2.5, 1.0, 1.5], [4, 2, 3])
    curves.close_step(5)
    curves.log(5, 1e-3, 0.5, 2.0)
    curves.add_validation(5, {"one": (2.0, 4)})
    curves.add([0], [1.0], [2])
    curves.close_step(7)
    state = filled(TrainerState, {"global_step": 7, "max_steps": 9})
    made = {CURVES: curves.state(), TIMES: filled(Times, {"resumed_from": [2]}), STATE: state}
    with writing(str(place), 7, "0" * 64, keep=1) as write:
        write("adapter_model.safetensors", b"weights")
        for name, value in made.items():
            write(name, json.dumps(value).encode())
    return place / "step-00000007", made


@settings(max_examples=250)
@given(data=st.data(), name=st.sampled_from([MANIFEST, CURVES, TIMES, STATE]))
def test_a_damaged_checkpoint_is_said_and_removed_or_changes_nothing(
    data: st.DataObject,
    name: str,
    checkpoint: tuple[Path, dict[str, dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
    heard: Callable[[], AbstractContextManager[list[str]]],
) -> None:
    sound, made = checkpoint
    place = _fresh(tmp_path_factory, "checkpoints")
    folder = shutil.copytree(sound, place / sound.name)
    manifest = json.loads((folder / MANIFEST).read_text())
    damage: Damage = data.draw(damages(manifest if name == MANIFEST else made[name]))
    (folder / name).write_bytes(damage.data)
    if name != MANIFEST:  # As somebody would who edits it: else its sha256 tells.
        manifest["files"][name] = {"bytes": len(damage.data), "sha256": hashlib.sha256(damage.data).hexdigest()}
        (folder / MANIFEST).write_text(json.dumps(manifest))
    with heard() as said:
        found = latest(str(place), "0" * 64, progress_check(TASKS, TrainerState.model_fields))
    if found is None:
        assert len(said) == 1 and said[0].startswith(f"checkpoint {folder}") and said[0].endswith("; it is removed")
        assert not folder.exists()
        return
    curves, times = read_progress(found.folder, TASKS, 7)
    if name in (MANIFEST, STATE):
        assert curves.model_dump() == made[CURVES] and times.model_dump() == made[TIMES]
    again = Curves(TASKS)
    again.restore(curves.model_dump())
    _hold_equal(curves, again.state())
    assert json.dumps(again.as_json(), allow_nan=False) and math.isfinite(times.seconds)


@settings(max_examples=200)
@given(data=st.data(), own=st.booleans())
def test_a_damaged_training_json_is_an_error_that_names_the_field_or_a_figure_can_be_drawn(
    data: st.DataObject, own: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = _fresh(tmp_path_factory, "adapter")
    point = {"step": 1, "tasks": {"one": {"loss": 1.0, "tokens": 9}}}
    real = {"schema": 3, "curves": {"train": [point, point | {"step": 2}], "validation": [point]}}
    record = filled(TrainingRecord, real)
    # One without a digest, as of an earlier version, is held by its fields' types alone.
    record = sealed(record) if own else record | {"record_sha256": None}
    damage: Damage = data.draw(damages(record))
    (folder / TRAINING).write_bytes(damage.data)
    try:
        training = read_training(folder)
    except FileError as error:
        assert TRAINING in str(error) and "train it again" in str(error)
        return
    if own:
        digests = {"record_sha256": None, "record_sha256_": None}
        assert decode_json(damage.data, "") | digests == record | digests
    if curves := _curves(training):  # As the page shows it.
        assert "nan" not in str(_shown(training, curves)).replace("nano", "")
    assert training.how() is None or training.packing is None or training.how()


FILES_OF_A_MODEL = {
    "config.json": _runtimes._Config,
    "tokenizer.json": _runtimes._Tokenizer,
    "tokenizer_config.json": _runtimes._TokenizerConfig,
}


@settings(max_examples=150)
@given(data=st.data(), name=st.sampled_from(sorted(FILES_OF_A_MODEL)), own=st.booleans())
def test_a_damaged_file_of_an_export_is_an_error_that_names_it_or_is_told_of(
    data: st.DataObject, name: str, own: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = _fresh(tmp_path_factory, "export")
    for other, model in FILES_OF_A_MODEL.items():
        (folder / other).write_text(json.dumps(full(model)))
    damage: Damage = data.draw(damages(full(FILES_OF_A_MODEL[name])))
    (folder / name).write_bytes(damage.data)
    try:
        told = [*_runtimes.gguf_problems(str(folder), own_tokenizer=own), *_runtimes.ollama_notices(str(folder))]
        assert all(isinstance(one, str) for one in told) and _runtimes.padding_ids(str(folder)) >= 0
    except FileError as error:
        assert name in str(error) and "export again" in str(error)


@pytest.mark.parametrize("number", [2**63, 2**70, 10**60, -(2**70), -(10**99)])
def test_a_whole_number_beyond_64_bits_is_a_value_or_a_named_error_in_every_field(number: int) -> None:
    for model, sound in SOUND.items():
        for key in sound:
            try:
                made = parse(model, sound | {key: number}, "file.json")
            except FileError as error:
                assert f"field {key}" in str(error)
            else:
                _hold_equal(made, sound | {key: number})
