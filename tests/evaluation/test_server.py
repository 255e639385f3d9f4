"""`--engine server`: evaluations whose answers come over a socket, from a stand-in that has the embedded model.

Ollama can't run here: `tests/stand_ins/model_server.py` has its interface as its documentation describes it. A real
server of llama.cpp is asked by `tests/engines/test_server_llamacpp.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.engines.server_address import ServerOptions
from slmbench.engines.serving import UNVERIFIED, _client
from slmbench.errors import DeclarationError, UsageError
from slmbench.evaluation import EvaluationOptions
from slmbench.leaderboard import load_runs
from slmbench.models import load_model, load_unread, resolve_model
from slmbench.workflow.evaluate import EvaluationPlan, evaluate_plan, ready_evaluation
from tests.nearly import check_scores, values_of
from tests.stand_ins.model_server import Answer, Hang, NanoAnswers, completions, ollama, serving

TASKS = ("nano_choice", "nano_note")
KEY = "sk-not-for-any-file-1234567890"


@pytest.fixture(scope="module")
def nano_answers() -> NanoAnswers:
    return NanoAnswers(load_model(resolve_model("nano", default_catalog())))


def evaluated(out: Path, engine: str, server: ServerOptions | None = None, **asked: Any) -> list[Any]:
    options = {name: asked.pop(name) for name in ("batch", "format", "seed", "latency") if name in asked}
    plan = EvaluationPlan(
        model=asked.pop("model", "nano"),
        options=EvaluationOptions(
            out=str(out), engine=engine, limit=asked.pop("limit", 3), server=server or ServerOptions(), **options
        ),
        tasks=asked.pop("tasks", TASKS),
        **asked,
    )
    catalog = default_catalog()
    return evaluate_plan(*ready_evaluation(plan, catalog), catalog)


@pytest.fixture(scope="module")
def by_hf(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return evaluated(tmp_path_factory.mktemp("hf"), "hf")


def test_texts_and_choices_are_those_of_hf_and_the_row_is_another(
    nano_answers: NanoAnswers, by_hf: list[Any], tmp_path: Path
) -> None:
    with serving(completions(nano_answers)) as server:
        runs = evaluated(tmp_path, "server", ServerOptions(server.url), batch=2)
    for mine, other in zip(runs, by_hf, strict=True):
        for its, theirs in zip(mine.samples(), other.samples(), strict=True):
            assert (its["output"], its["tokens_in"]) == (theirs["output"], theirs["tokens_in"])
            assert its["loglikelihoods"] == (
                None if theirs["loglikelihoods"] is None else pytest.approx(theirs["loglikelihoods"], abs=1e-4)
            )
        check_scores(values_of(mine), values_of(other))
        assert mine.record["comparability_key"] == other.record["comparability_key"]
        assert mine.record["prompts_sha256"] == other.record["prompts_sha256"]
        model = mine.record["model"]
        assert model["name"] == "nano served as nano-served" != other.record["model"]["name"]
        assert model["served"]["where"] == "this machine" and model["served"]["server"] == "stand-in/1.0"
        assert not {"weights_sha256", "dtype", "parameters"} & set(model)
        assert mine.record["remarks"][UNVERIFIED] == 3
        assert mine.record["cost"]["ram_peak_B"] is None and mine.record["cost"]["vram_peak_B"] is None
        assert (mine.record["engine"], mine.record["batch_size"]) == ("server", 2)


def test_ollama_is_asked_raw_and_greedily_with_a_window_that_holds_all(
    nano_answers: NanoAnswers, by_hf: list[Any], tmp_path: Path
) -> None:
    """Against a stub that was written from Ollama's documentation: Ollama itself doesn't run here."""
    with serving(ollama(nano_answers)) as server:
        [run] = evaluated(tmp_path, "server", ServerOptions(server.url, served="nano"), tasks=("nano_note",))
        sent = [body for path, body, _ in server.asked if path == "/api/generate"]
    assert [s["output"] for s in run.samples()] == [s["output"] for s in by_hf[1].samples()]
    assert all(body["raw"] and not body["stream"] and body["model"] == "nano:latest" for body in sent)
    [options] = {json.dumps({**body["options"], "stop": None}) for body in sent[1:]}
    told = json.loads(options)
    assert (told["temperature"], told["repeat_penalty"], told["num_predict"]) == (0.0, 1.0, 64)
    assert told["num_ctx"] == 2048
    served = run.record["model"]["served"]
    assert (served["name"], served["api"], served["server"]) == ("nano:latest", "/api/generate", "Ollama 0.99.0")
    assert served["digest"] == "0" * 64
    assert served["said"] == {
        **{"family": "llama", "format": "gguf", "parameter_size": "1M", "quantization_level": "F32", "size": 1000},
        **{"general.architecture": "llama", "llama.context_length": 1024},
    }


def test_another_digest_is_another_run(nano_answers: NanoAnswers, tmp_path: Path) -> None:
    for digest in ("a" * 64, "b" * 64, "a" * 64):
        with serving(ollama(nano_answers, digest=digest)) as server:
            evaluated(tmp_path, "server", ServerOptions(server.url), tasks=("nano_note",), limit=1)
            asked = server.paths().count("/api/generate")
        assert asked == (1 if digest == "a" * 64 and len(list((tmp_path / "runs").iterdir())) == 2 else 2)
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_run_that_a_server_broke_off_goes_on_with_what_is_left(
    nano_answers: NanoAnswers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_client, "FIRST_WAIT_S", 0.01)
    right, texts = completions(nano_answers), [0]

    def dying(path: str, body: Any, handler: Any) -> Any:
        texts[0] += path == "/v1/completions"
        if texts[0] > 3:  # The probe and two items.
            raise Answer(503, {"error": {"message": "the model was unloaded"}})
        return right(path, body, handler)

    what = ["eval", "nano", "--tasks", "nano_note", "--limit", "4", "--engine", "server", "--batch", "1"]
    with serving(dying) as server:
        assert main([*what, "--url", server.url, "--out", str(tmp_path)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "HTTP 503 (the model was unloaded), 5 times in a row" in said and "item 2" in said
    assert "2 answers are kept" in said or "answers before it are kept" in said
    with serving(right) as server:  # At another port: where it is, is no part of what is asked.
        assert main([*what, "--url", server.url, "--out", str(tmp_path)]) == 0
        assert server.paths().count("/v1/completions") == 1 + 2
    [run] = load_runs(tmp_path)[0]
    assert run.record["cost"]["n_resumed"] == 2


def test_a_key_is_in_no_file_and_in_nothing_that_is_said(
    nano_answers: NanoAnswers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_KEY", KEY)
    monkeypatch.setattr(_client, "FIRST_WAIT_S", 0.01)
    right, texts = completions(nano_answers), [0]

    def locked(path: str, body: Any, handler: Any) -> Any:
        if handler.headers.get("Authorization") != f"Bearer {KEY}":
            raise Answer(401, {"error": {"message": "no key"}})
        texts[0] += path == "/v1/completions"
        if texts[0] > 2:  # The probe and an item.
            raise Answer(500, {"error": {"message": f"{KEY} is overdrawn"}})
        return right(path, body, handler)

    what = ["eval", "nano", "--tasks", "nano_note", "--limit", "2", "--engine", "server", "--batch", "1"]
    with serving(locked) as server:
        asked = [*what, "--out", str(tmp_path), "--url", server.url]
        assert main(asked) == 1
        assert "give its key by --api-key-env NAME" in " ".join(capsys.readouterr().err.split())
        assert main([*asked, "--api-key-env", "LOCAL_KEY"]) == 1
        texts[0] = -1
        said = capsys.readouterr()
        journals = {path: path.read_bytes() for path in tmp_path.rglob("responses.jsonl")}
        assert main([*asked, "--api-key-env", "LOCAL_KEY", "--json"]) == 0
    more = capsys.readouterr()
    assert journals and KEY not in said.out + said.err + more.out + more.err
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [one for one in (*files, *journals.values()) if KEY.encode() in one]


def test_ctrl_c_ends_at_once_while_a_server_thinks(nano_answers: NanoAnswers, tmp_path: Path) -> None:
    right, texts, free = completions(nano_answers), [0], threading.Event()
    reached = threading.Event()

    def thinking(path: str, body: Any, handler: Any) -> Any:
        texts[0] += path == "/v1/completions"
        if texts[0] > 2:
            reached.set()
            free.wait(60)
            raise Hang
        return right(path, body, handler)

    what = ["eval", "nano", "--tasks", "nano_note", "--limit", "4", "--engine", "server", "--batch", "1"]
    with serving(thinking) as server:
        child = subprocess.Popen(
            [sys.executable, "-m", "slmbench", *what, "--url", server.url, "--out", str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        try:
            assert reached.wait(120)
            until = time.monotonic() + 30  # The answer before it may still be on its way to the journal.
            while time.monotonic() < until and not any(p.stat().st_size for p in tmp_path.rglob("responses.jsonl")):
                time.sleep(0.05)
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=20)
        finally:
            child.kill()
            free.set()
    assert child.returncode == 130
    [journal] = tmp_path.rglob("responses.jsonl")
    assert len(journal.read_text().splitlines()) == 1 and "interrupted" in said


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--engine", "server"], 2, "isn't told where"),
        (["--url", "http://127.0.0.1:1"], 2, "only the engine `server` knows it"),
        (["--served", "x", "--timeout", "5"], 2, "served and timeout: only the engine `server` knows it"),
        (["--engine", "server", "--url", "http://93.184.216.34"], 3, "is another machine"),
        (["--engine", "server", "--url", "http://127.0.0.1:1", "--kv-budget", "1"], 2, "kv_budget"),
        (["--engine", "server", "--url", "http://127.0.0.1:1", "--adapter", "a"], 2, "can't put an adapter there"),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_is_read(
    flags: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ["eval", "nano", "--tasks", "nano_note", "--data", "samples", "--out", str(tmp_path / "out")]
    assert main([*what, *flags]) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_recipes_and_matrices_refuse_an_engine_that_needs_an_address() -> None:
    from slmbench.schema import GridSpec, RecipeSpec, parse
    from slmbench.yamlfile import parse_yaml

    for spec, text in (
        (GridSpec, "summary: a\nmodels: [nano]\ntasks: [nano_note]\nengine: server\n"),
        (RecipeSpec, "evaluation: {tasks: [nano_note], engine: server}\n"),
    ):
        with pytest.raises(DeclarationError, match="asks a server that is running, which is told where on the command"):
            parse(spec, parse_yaml(text.encode(), "a.yaml"))


def test_no_weights_are_read_for_it_and_none_need_be_there(tmp_path: Path, nano_tokenizer: Any) -> None:
    source = resolve_model("nano", default_catalog())
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((Path(source.location) / name).read_bytes())
    loaded = load_unread(resolve_model(str(tmp_path), default_catalog()))
    assert (loaded.weights_sha256, loaded.dtype, loaded.parameters) == ("", "unknown", 0)
    assert loaded.tokenizer.get_vocab() == nano_tokenizer.get_vocab()


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="encoder-decoder, which this engine doesn't ask for"):
        load_unread(resolve_model("flan-t5-small", default_catalog(), twin=True))
