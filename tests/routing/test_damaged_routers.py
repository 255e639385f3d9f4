"""Routers' folders as somebody else may have left them: a named error, never a traceback, never another router."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from slmbench.errors import FileError, SlmbenchError, UsageError
from slmbench.files import json_bytes
from slmbench.routing import fit_router, read_router, write_router
from slmbench.seal import sealed


@pytest.fixture(scope="module")
def folder(router, tmp_path_factory):
    return write_router(router, str(tmp_path_factory.mktemp("whole") / "router"))


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "router")
    return tmp_path / "router"


def _change(folder, **changes):
    """Changed and sealed again, as a forger would."""
    record = json.loads((folder / "router.json").read_text())
    record.pop("record_sha256")
    (folder / "router.json").write_bytes(json_bytes(sealed(record | changes)))


@pytest.mark.parametrize("name", ["router.json", "router.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_that_was_cut_off_is_an_error_that_names_it(copy, name, share):
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FileError, match=r"router\.(json|safetensors).*fit it again"):
        read_router(str(copy))


def test_a_changed_threshold_is_seen_by_the_seal(copy):
    record = json.loads((copy / "router.json").read_text())
    (copy / "router.json").write_text(json.dumps(record | {"threshold": 0.123}))
    with pytest.raises(FileError, match="record_sha256"):
        read_router(str(copy))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "pickle"}, "field head"),
        ({"threshold": 2.0}, "field threshold"),
        ({"threshold": "high"}, "field threshold"),
        ({"classes": []}, "field classes"),
        ({"classes": [{"adapter": "nobody", "task": None}]}, "an adapter of the list"),
        ({"settings": {"layer": 1.5}}, "settings.layer"),
        ({"arrays_sha256": "0" * 64}, "the digest of router.safetensors"),
        ({"schema": 2}, "field schema"),
        ({"hook": "os.system"}, "field hook is not a key of this file"),
    ],
)
def test_fields_that_cannot_be_are_named(copy, changes, message):
    _change(copy, **changes)
    with pytest.raises(FileError, match=message):
        read_router(str(copy))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("bias"), "has the arrays"),
        (lambda arrays: arrays.update(bias=arrays["bias"] * np.nan), "array 'bias' holds NaN or infinity"),
        (lambda arrays: arrays.update(weights=arrays["weights"][:, :-1]), "doesn't have a column for each term"),
        (lambda arrays: arrays.update(weights=arrays["weights"][:-1]), "array 'weights' is 2 x .*, has to be 3 x any"),
        (lambda arrays: arrays.update(terms_words=np.array([255, 254], dtype=np.uint8)), "is not UTF-8"),
        (lambda arrays: arrays.update(terms_words=arrays["idf_words"]), "has to be of uint8"),
    ],
)
def test_arrays_that_do_not_fit_their_head_are_named(copy, change, message):
    import hashlib

    from safetensors.numpy import load_file, save

    arrays = load_file(copy / "router.safetensors")
    change(arrays)
    data = save(arrays)
    (copy / "router.safetensors").write_bytes(data)
    _change(copy, arrays_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(FileError, match=message):
        read_router(str(copy))


def test_a_pickle_in_the_place_of_the_arrays_is_never_loaded(copy):
    import hashlib
    import pickle

    class Boom:
        def __reduce__(self):
            return (pytest.fail, ("it was run",))

    data = pickle.dumps(Boom())
    (copy / "router.safetensors").write_bytes(data)
    _change(copy, arrays_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        read_router(str(copy))


def test_what_is_no_router_is_left_alone_and_a_full_disk_leaves_the_old_one(router, folder, tmp_path, monkeypatch):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is there and holds no router"):
        write_router(router, str(tmp_path / "notes"))
    assert (tmp_path / "notes" / "mine.txt").read_text() == "mine"
    place = tmp_path / "router"
    shutil.copytree(folder, place)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SlmbenchError, match="the disk is full"):
        write_router(router, str(place))
    monkeypatch.undo()
    assert read_router(str(place)).sha256 == read_router(folder).sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "router"]


@pytest.mark.parametrize("head", ["centroid", "logistic", "arrow"])
def test_heads_on_hidden_states_come_back_and_need_their_base(texts, adapters, owners, base, tmp_path, head):
    made = fit_router(texts, adapters, owners, base, head=head)
    write_router(made, str(tmp_path / "router"))
    asked = [one.validation[0] for one in texts]
    again = read_router(str(tmp_path / "router"), base)
    assert [route.adapter for route in again.route_many(asked)] == [route.adapter for route in made.route_many(asked)]
    with pytest.raises(UsageError, match=f"this router's head, {head}, reads hidden states"):
        read_router(str(tmp_path / "router")).route("What?")
