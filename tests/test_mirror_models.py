"""Models in a mirror, pulled from a hub that answers over HTTP as the real one does, and from its client's cache."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slmbench import hub
from slmbench.catalog import Catalog, default_catalog
from slmbench.errors import OfflineError, SlmbenchError, UsageError
from slmbench.mirror import HubModel, pull_model, verify_models
from slmbench.paths import bundled_root, package_dir
from slmbench.workflow.gather import gather, needs_of, verify_mirror

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NANO = Path(package_dir(), "nano", "model")
TINY = HubModel("someone/tiny", "tiny")


class Hub(http.server.BaseHTTPRequestHandler):
    """Two calls of the hub's: what a model has, and a file of it. gated: needs a licence; broken: isn't served now."""

    models: dict[str, dict[str, bytes]]
    broken: str | None
    asked: list[str]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/(\w+/\w+)(?:/revision/\w+)?", path):
            self._tell(found[1])
        elif (found := re.fullmatch(rf"/(\w+/\w+)/resolve/{COMMIT}/(.+)", path)) and found[2] != Hub.broken:
            Hub.asked.append(found[2])
            self._send(200, Hub.models[found[1]][found[2]], ETag=f'"{found[2]}"', **{"X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"", **{"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def _tell(self, name: str) -> None:
        if name == "someone/gated":
            self._send(403, b"", **{"X-Error-Code": "GatedRepo"})
        elif name not in Hub.models:
            self._send(404, b"", **{"X-Error-Code": "RepoNotFound"})
        else:
            siblings = [
                {"rfilename": file, "size": len(data), "lfs": _lfs(data) if file.endswith(".safetensors") else None}
                for file, data in Hub.models[name].items()
            ]
            self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())

    def _send(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _lfs(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    from huggingface_hub import constants

    files = {path.name: path.read_bytes() for path in NANO.iterdir() if path.is_file()}
    Hub.models = {"someone/tiny": files | {"README.md": b"read", "pytorch_model.bin": b"pickle", "odd/a.json": b"{}"}}
    Hub.broken, Hub.asked = None, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hub, "_answered", {})
        yield Hub
        server.shutdown()
        thread.join()


def _told(mirror: Path) -> list[str]:
    problems = verify_models(str(mirror), default_catalog()).problems
    return [f"{os.path.relpath(one.path, mirror / 'models')}: {one.message}" for one in problems]


def test_a_model_is_pulled_as_plain_files_with_checksums_goes_on_where_it_was_and_is_verified(
    tmp_path: Path, served: type[Hub], said: list[str]
) -> None:
    folder = tmp_path / "models" / "someone--tiny"
    served.broken = "model.safetensors"
    with pytest.raises(OfflineError, match=r"model 'tiny' \(someone/tiny\) could not be fetched: .*it resumes"):
        pull_model(TINY, str(tmp_path))
    assert not folder.exists()  # No half of a model has a model's name.
    served.broken, served.asked = None, []
    written = pull_model(TINY, str(tmp_path))
    assert set(served.asked) == {"model.safetensors"}
    names = {path.name for path in NANO.iterdir() if path.name.endswith((".json", ".safetensors", ".jinja"))}
    assert {path.name for path in folder.iterdir()} == names | {"checksums.json"}
    assert sorted(written) == sorted(str(path) for path in folder.iterdir())
    assert all(path.is_file() and not path.is_symlink() for path in folder.iterdir())
    assert os.listdir(tmp_path / "models") == ["someone--tiny"]
    listed = json.loads((folder / "checksums.json").read_text())
    data = (NANO / "model.safetensors").read_bytes()
    assert (listed["model"], listed["revision"]) == ("someone/tiny", COMMIT)
    assert listed["files"]["model.safetensors"] == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    served.asked = []
    assert pull_model(TINY, str(tmp_path)) == written and served.asked == []
    assert said[-1] == "someone/tiny: there already, commit 0123456789ab"
    assert _told(tmp_path) == []
    (folder / "model.safetensors").write_bytes(data[:-1] + b"?")
    (folder / "tokenizer.json").unlink()
    (folder / "more.txt").write_text("mine")
    assert [re.sub(r"[0-9a-f]{12}", "*", one) for one in _told(tmp_path)] == [
        "someone--tiny/more.txt: is not in checksums.json; remove it",
        "someone--tiny/tokenizer.json: is in checksums.json, but can't be read: No such file or directory",
        "someone--tiny/model.safetensors: has sha256 *..., not *...; copy it again",
    ]
    pull_model(TINY, str(tmp_path))
    assert _told(tmp_path) == []


def test_what_can_not_be_had_is_told_at_once_and_the_rest_is_there(
    tmp_path: Path, served: type[Hub], said: list[str]
) -> None:
    declared = tmp_path / "root" / "registry" / "models"
    declared.mkdir(parents=True)
    (declared / "closed.yaml").write_text("summary: Closed.\nhub: someone/gated\ngated: true\ncontext_tokens: 64\n")
    catalog = Catalog([bundled_root(), str(tmp_path / "root")])
    served.models["someone/pickled"] = {"config.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b"?"}
    served.models["someone/cut"] = served.models["someone/tiny"] | {"model.safetensors": b"\0" * 20}
    asked = ["closed", "someone/none", "someone/pickled", "someone/cut", "nano", "someone/tiny"]
    needs = needs_of(catalog, datasets=["mimic_icd"], models=asked)
    mirror = tmp_path / "mirror"
    with pytest.raises(OfflineError) as caught:
        gather(needs, str(mirror))
    lines = str(caught.value).splitlines()
    assert re.fullmatch(r"6 things could not be pulled; the rest is in .*mirror:", lines[0])
    for line, start in zip(
        lines[1:],
        (
            "model 'closed' (someone/gated) is gated: accept its licence",
            "model 'someone/none' is not on the hub, or is private",
            "model 'someone/pickled' has no weights as safetensors",
            "model 'someone/cut' isn't whole where it was had from",
            "data set 'mimic_icd': its rows are a file of your own; put it at ",
            "data set 'mimic_icd': its rows are a file of your own; put it at ",
        ),
        strict=True,
    ):
        assert line.strip().startswith(start)
    assert "note: model 'nano' is in the package" in said
    report = verify_mirror(str(mirror), catalog, (), needs_of(catalog, models=["someone/tiny"]))
    assert report.ok and report.files == len(list((mirror / "models" / "someone--tiny").iterdir())) - 1
    report = verify_mirror(str(mirror), catalog, (), needs)
    missing = [os.path.relpath(one.path, mirror) for one in report.problems]
    assert missing == ["mimic_icd", *(f"models/someone--{name}" for name in ("gated", "none", "pickled", "cut"))]


def test_a_disk_that_a_model_does_not_fit_on_is_told_before_anything_is_fetched(
    tmp_path: Path, served: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SlmbenchError, match=r"takes 0\.1 GB more, and 0\.0 GB are free; free some space"):
        pull_model(TINY, str(tmp_path))
    assert served.asked == []


def test_a_folder_that_pull_did_not_write_stays(tmp_path: Path) -> None:
    (tmp_path / "models" / "someone--tiny").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"someone--tiny was not written by `data pull`"):
        pull_model(TINY, str(tmp_path))


def test_offline_the_clients_cache_is_where_a_model_is_had_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cache = tmp_path / "cache" / "models--someone--tiny"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OfflineError, match="is not in the hub's cache on this machine, and HF_HUB_OFFLINE is set"):
        pull_model(TINY, str(tmp_path / "mirror"))
    snapshot = cache / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    for path in NANO.iterdir():  # As the client lays it out: names that lead to blobs.
        (cache / path.name).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(cache / path.name)
    (cache / "tokenizer.json").unlink()
    with pytest.raises(OfflineError, match="isn't whole where it was had from: it lacks a tokenizer"):
        pull_model(TINY, str(tmp_path / "mirror"))
    shutil.copyfile(NANO / "tokenizer.json", cache / "tokenizer.json")
    pull_model(TINY, str(tmp_path / "mirror"))
    folder = tmp_path / "mirror" / "models" / "someone--tiny"
    assert not any(path.is_symlink() for path in folder.iterdir()) and _told(tmp_path / "mirror") == []


def test_a_suite_and_a_recipe_need_data_models_and_the_metrics_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLMBENCH_BERTSCORE", raising=False)
    needs = needs_of(default_catalog(), suites=["slm-core"], recipes=["smollm2-merge", "flan-t5-medical"])
    assert {"gsm8k", "medquad", "hellaswag"} <= {one.name for one in needs.datasets}
    hubs = [one.hub for one in needs.models]
    assert hubs[:2] == ["HuggingFaceTB/SmolLM2-135M-Instruct", "google/flan-t5-small"] and hubs[2:] == ["roberta-large"]
