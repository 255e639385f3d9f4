"""A push sends exactly what it said, over real sockets to a stand-in of the hub's API on this machine.

The hub itself can't be asked here: what the stand-in answers is what huggingface_hub's client asks for, without Xet.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from slmbench.cli import main
from slmbench.files import file_sha256

TOKEN = "hf_aSecretThatNobodySees"
REPO = "somebody/gsm8k-r16"


class Hub(ThreadingHTTPServer):
    """answers: a part of a path -> the status that is answered there, or None to break the connection off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers, self.asked, self.stored, self.commits, self.tokens = {}, [], {}, [], set()

    def handle_error(self, request, client_address):
        pass  # A connection that was broken off on purpose.


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def die(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self, value, status=200):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        hub, body, path = self.server, self.body(), self.path.partition("?")[0]
        hub.asked.append(path)
        hub.tokens.add(self.headers.get("Authorization"))
        for part, status in hub.answers.items():
            if part in path:
                if status is None:
                    return self.die()
                said = f"no, says the hub to {self.headers.get('Authorization')}"
                return self.answer({"error": said, "url": f"{hub.url}/{REPO}"}, status)
        if path == "/api/repos/create":
            hub.created = json.loads(body)
            self.answer({"url": f"{hub.url}/{REPO}"})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [one["path"] for one in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".safetensors") else "regular" for name in files}
            self.answer({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})
        elif path.endswith("/info/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{hub.url}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif "/commit/" in path:
            hub.commits.append([json.loads(line) for line in body.splitlines()])
            self.answer({"commitUrl": f"{hub.url}/{REPO}/commit/{'1' * 40}", "commitOid": "1" * 40})
        else:
            self.answer({"error": path}, 404)

    def do_GET(self):
        self.answer({"error": "not found"}, 404)

    def do_PUT(self):
        hub, body = self.server, self.body()
        if hub.answers.get("PUT", 200) is None:
            return self.die()
        hub.stored[self.path.rpartition("/")[2]] = body
        self.answer({})


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    # What a shell would set before the client is imported, which reads it once.
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hasty = SimpleNamespace(**vars(time) | {"sleep": lambda _: None})  # It waits between its retries.
    monkeypatch.setattr("huggingface_hub.utils._http.time", hasty)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_push_sends_what_it_said_in_one_commit_and_nothing_else(hub, make_out, capsys):
    folder = make_out()
    (folder / "notes.txt").write_text("of a patient")
    (folder / "optimizer.pt").write_bytes(b"1")
    (folder / "vocab.txt").symlink_to("/etc/hostname")
    assert main(["card", str(folder), "--push", REPO, "--json"]) == 0
    printed = capsys.readouterr()
    [made] = json.loads(printed.out)

    [(head, *operations)] = hub.commits
    assert head["value"]["summary"] == "Model card and weights, by slmbench"
    sent = {one["value"]["path"]: one["value"] for one in operations}
    [result] = [name for name in made["files"] if name != "README.md"]
    assert sent.keys() == {"README.md", result, "adapter_config.json", "adapter_model.safetensors"}
    for name in ("README.md", result, "adapter_config.json"):
        assert base64.b64decode(sent[name]["content"]) == (folder / name).read_bytes()
    weights = file_sha256(str(folder / "adapter_model.safetensors"))
    assert sent["adapter_model.safetensors"]["oid"] == weights
    assert hashlib.sha256(hub.stored[weights]).hexdigest() == weights

    assert hub.created["name"] == "gsm8k-r16" and "private" in (hub.created.get("visibility"), *hub.created)
    assert made["push"]["files"] == {name: (folder / name).stat().st_size for name in sent}
    assert made["push"]["commit"] == f"{hub.url}/{REPO}/commit/{'1' * 40}"
    said = printed.err
    assert f"to {hub.url}/{REPO} (private if it is new; one that is there stays what it is): 4 files," in said
    assert all(f"  {name}  {size:,} bytes" in said for name, size in made["push"]["files"].items())
    assert "stays here: training.json: names folders of this machine and may quote rows; --records takes it" in said
    assert "stays here: notes.txt: not of what loads it" in said and "stays here: optimizer.pt: not of" in said
    assert "stays here: vocab.txt: a link that leads out of the folder" in said
    assert hub.tokens == {f"Bearer {TOKEN}"} and TOKEN not in printed.out + said


def test_records_and_a_public_repository_are_asked_for(hub, make_out, tmp_path, capsys):
    folder = make_out()
    arguments = ["card", str(folder), "--push", REPO, "--public", "--records", "--out", str(tmp_path / "card")]
    assert main([*arguments, "--dry-run"]) == 0
    assert hub.asked == [] and "(public if it is new" in capsys.readouterr().err
    assert main(arguments) == 0
    sent = {one["value"]["path"] for one in hub.commits[0][1:]}
    assert {"training.json", "README.md"} <= sent and "private" not in (hub.created.get("visibility"), *hub.created)
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (
            {"repos/create": 401},
            "the hub doesn't take the token; log in again with `hf auth login`, or set HF_TOKEN (401)",
        ),
        ({"repos/create": 403}, "the token may not write there; take one with write access to it (403)"),
        ({"/preupload/": 403}, "the token may not write there; take one with write access to it (403)"),
        ({"/commit/": 409}, "the hub says that another change came in between; run the same command again (409)"),
        ({"/commit/": None}, "the upload failed; run the same command again"),
        ({"PUT": None}, "the upload failed; run the same command again"),
        ({"repos/create": None}, "the hub could not be asked"),
    ],
)
def test_a_hub_that_refuses_or_dies_is_told_in_words_without_the_token_and_commits_nothing(
    hub, make_out, capsys, answers, said
):
    hub.answers = answers
    folder = make_out()
    assert main(["card", str(folder), "--push", REPO]) == 1
    told = capsys.readouterr().err
    assert f"error: --push {REPO}: {said}" in told and TOKEN not in told and "Traceback" not in told
    made = "repos/create" not in next(iter(answers))
    assert ("nothing of this upload is in it" if made else "nothing was uploaded") in told
    assert hub.commits == [] and (folder / "README.md").is_file()


def test_a_repository_that_is_there_takes_the_next_card(hub, make_out, capsys):
    hub.answers = {"repos/create": 409}
    folder = make_out()
    code = main(["card", str(folder), "--push", REPO])
    assert code == 0, capsys.readouterr().err
    assert len(hub.commits) == 1


def test_a_hub_that_is_not_there_is_told_before_anything_is_written(hub, make_out, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    folder = make_out()
    assert main(["card", str(folder), "--push", REPO]) == 4
    assert f"http://127.0.0.1:{port} doesn't answer" in capsys.readouterr().err
    assert not (folder / "README.md").exists()


def test_nothing_is_asked_or_written_offline_without_a_token_or_for_no_repository(hub, make_out, monkeypatch, capsys):
    folder = make_out()
    assert main(["card", str(folder), "--push", "not a repository"]) == 2
    assert "give a repository of the hub as OWNER/NAME" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["card", str(folder), "--push", REPO]) == 4
    assert "HF_HUB_OFFLINE says that no network is asked" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(Path(folder, "none")))
    assert main(["card", str(folder), "--push", REPO]) == 2
    assert "no token is there; log in with `hf auth login`, or set HF_TOKEN" in capsys.readouterr().err
    assert not (folder / "README.md").exists()
    assert main(["card", str(folder), "--public"]) == 2
    assert "--public goes with --push OWNER/NAME" in capsys.readouterr().err
    assert main(["card", str(folder.parent.parent), "--push", REPO, "--dry-run"]) == 0  # It holds one.
    assert hub.asked == []
