"""`--engine llamacpp`: the same tokens, numbers and texts as transformers has of the same file, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.engines.options import EngineOptions
from slmbench.engines.protocol import ScoreRequest, WriteRequest
from slmbench.errors import EngineError, UsageError
from slmbench.leaderboard import read_runs
from slmbench.models import load_gguf, load_model, resolve_model
from tests.models.gguf_file import write_gguf

TEXTS = (
    "Add 12 and 30. The sum is",
    "Add 12 and 31. The sum is",
    "A nurse reads the list before the round, and writes down what has changed since",
    "x",
)
ENDINGS = (" 42", " forty-two, I think", " none of these", " 7")


def _needs_llama_cpp() -> bool:
    import importlib.util

    return importlib.util.find_spec("llama_cpp") is None


needs_llama_cpp = pytest.mark.skipif(_needs_llama_cpp(), reason="llama-cpp-python isn't installed: slmbench[llamacpp]")


@pytest.fixture(scope="module")
def nano() -> Any:
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, nano: Any) -> dict[str, str]:
    """nano in three packings."""
    folder = tmp_path_factory.mktemp("files")
    return {kind: str(write_gguf(folder / f"nano-{kind}.gguf", nano, packing=kind)) for kind in ("F32", "F16", "Q8_0")}


def packed(file: str) -> Any:
    return load_gguf(resolve_model(file, default_catalog(), unpacked=False))


def engine_of(loaded: Any, name: str, seed: int = 0, **options: Any) -> Any:
    chosen = EngineOptions(name, **options)
    return chosen.registered.function(loaded, chosen, seed)


@pytest.fixture(scope="module")
def llama(files: dict[str, str]) -> Any:
    loaded = packed(files["F32"])
    yield engine_of(loaded, "llamacpp")
    loaded.model.close()


def pairs(tokenizer: Any) -> list[ScoreRequest]:
    encode = tokenizer.encode
    return [
        ScoreRequest(("t", at), encode(text), encode(ending)) for at, text in enumerate(TEXTS) for ending in ENDINGS
    ]


def writes(tokenizer: Any, **kwargs: Any) -> list[WriteRequest]:
    asked = {"until": [], "do_sample": False, "max_gen_toks": 24} | kwargs
    return [WriteRequest(("t", at), text, tokenizer.encode(text), asked) for at, text in enumerate(TEXTS)]


def test_a_model_that_is_no_gguf_file_is_refused_with_a_way_out() -> None:
    with pytest.raises(
        UsageError, match=r"not a GGUF file, and llama.cpp reads nothing else; write one with `slmbench exp"
    ):
        load_gguf(resolve_model("nano", default_catalog()))


def test_nothing_is_dequantised_for_it(files: dict[str, str]) -> None:
    loaded = packed(files["Q8_0"])
    assert (loaded.dtype, loaded.quantization) == ("Q8_0", "llama.cpp Q8_0")
    assert not [name for name in os.listdir(loaded.model.folder) if name.endswith(".safetensors")]
    assert loaded.parameters == sum(parameter.numel() for parameter in loaded.model.skeleton.parameters())


@pytest.mark.llamacpp
@needs_llama_cpp
@pytest.mark.parametrize(("kind", "most_nats"), [("F32", 1e-4), ("F16", 0.01)])
def test_log_likelihoods_are_those_of_transformers(
    nano: Any, files: dict[str, str], kind: str, most_nats: float
) -> None:
    asked = pairs(nano.tokenizer)
    theirs = dict(engine_of(nano, "hf", batch=1).score(asked))
    loaded = packed(files[kind])  # Of F16 keys and values are in 16 bits, too.
    try:
        ours = dict(engine_of(loaded, "llamacpp").score(asked))
    finally:
        loaded.model.close()
    assert ours.keys() == theirs.keys()
    for at, answer in ours.items():
        assert answer.loglikelihood == pytest.approx(
            theirs[at].loglikelihood, abs=most_nats * len(asked[at].continuation)
        )
        assert answer.greedy == theirs[at].greedy
        assert answer.latency_ms >= answer.share_ms > 0


@pytest.mark.llamacpp
@needs_llama_cpp
def test_what_is_shared_changes_no_number(nano: Any, llama: Any) -> None:
    asked = pairs(nano.tokenizer)
    together = {at: one.loglikelihood for at, one in llama.score(asked)}
    for at in (0, 5, 15):
        ((_, alone),) = llama.score([asked[at]])
        assert together[at] == pytest.approx(alone.loglikelihood, abs=1e-4)


@pytest.mark.llamacpp
@needs_llama_cpp
def test_greedy_texts_are_those_of_transformers_and_end_as_theirs(nano: Any, llama: Any) -> None:
    asked = [*writes(nano.tokenizer), *writes(nano.tokenizer, until=["e", "\n"])]
    theirs, ours = dict(engine_of(nano, "shared").write(asked)), dict(llama.write(asked))
    assert {at: (one.text, one.tokens_out, one.finish_reason) for at, one in ours.items()} == {
        at: (one.text, one.tokens_out, one.finish_reason) for at, one in theirs.items()
    }
    assert len({one.finish_reason for one in ours.values()}) > 1


@pytest.mark.llamacpp
@needs_llama_cpp
def test_texts_side_by_side_are_those_of_one_after_another(nano: Any, files: dict[str, str]) -> None:
    loaded = packed(files["Q8_0"])
    try:
        asked = writes(nano.tokenizer)
        each = [dict(engine_of(loaded, "llamacpp", batch=rows).write(asked)) for rows in (1, 4)]
        each.append(dict(engine_of(loaded, "llamacpp", latency=True).write(asked)))
    finally:
        loaded.model.close()
    texts = [{at: one.text for at, one in found.items()} for found in each]
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.llamacpp
@needs_llama_cpp
def test_texts_that_begin_alike_are_written_from_copied_keys_as_from_their_own(
    nano: Any, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from slmbench.engines.llamacpp_parts import Sequences

    copied: list[tuple[int, int]] = []
    copy = Sequences.copy
    monkeypatch.setattr(Sequences, "copy", lambda self, a, b, n=-1: (copied.append((a, b)), copy(self, a, b, n)))
    loaded = packed(files["F32"])
    begin = "Add 12 and 30. The sum is 42. " * 8
    asked = [
        WriteRequest(("t", at), text, nano.tokenizer.encode(begin + text), {"until": [], "max_gen_toks": 12})
        for at, text in enumerate((*TEXTS, "Add 5 and 6.", "Note: the list"))
    ]
    try:
        alone = {at: one.text for at, one in engine_of(loaded, "llamacpp", latency=True).write(asked)}
        assert copied == []
        beside = {at: one.text for at, one in engine_of(loaded, "llamacpp", batch=4).write(asked)}
    finally:
        loaded.model.close()
    assert copied and beside == alone


@pytest.mark.llamacpp
@needs_llama_cpp
def test_drawn_texts_depend_on_seed_item_and_sample_alone(nano: Any, files: dict[str, str], llama: Any) -> None:
    asked = writes(nano.tokenizer, do_sample=True, temperature=1.5)
    first = {at: one.text for at, one in llama.write(asked)}
    ((_, alone),) = llama.write(asked[2:3])
    assert alone.text == first[2]
    other = {at: one.text for at, one in engine_of(llama.loaded, "llamacpp", seed=1).write(asked)}
    assert other != first
    # The same draws over the same probabilities.
    theirs = {at: one.text for at, one in engine_of(nano, "shared").write(asked)}
    assert sum(first[at] == theirs[at] for at in first) >= 3


@pytest.mark.llamacpp
@needs_llama_cpp
def test_an_adapter_beside_the_file_changes_what_peft_changes(nano: Any, files: dict[str, str], tmp_path: Path) -> None:
    import peft
    import torch

    from slmbench.adapters import AdaptersByRequest
    from slmbench.models import attach_adapter

    torch.manual_seed(0)
    base = load_model(resolve_model("nano", default_catalog()))
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    peft.get_peft_model(base.model, config).save_pretrained(tmp_path / "own")
    asked = pairs(nano.tokenizer)
    tuned = attach_adapter(load_model(resolve_model("nano", default_catalog())), str(tmp_path / "own"))
    theirs = dict(engine_of(tuned, "hf", batch=1).score(asked))
    loaded = packed(files["F32"])
    try:
        with AdaptersByRequest(loaded) as adapters:
            adapters.add("own", str(tmp_path / "own"), force_base=True)
            ours = dict(engine_of(adapters.swap("own"), "llamacpp").score(asked))
            plain = dict(engine_of(loaded, "llamacpp").score(asked))
    finally:
        loaded.model.close()
    for at, answer in ours.items():
        assert answer.loglikelihood == pytest.approx(theirs[at].loglikelihood, abs=0.01 * len(asked[at].continuation))
    assert max(abs(plain[at].loglikelihood - ours[at].loglikelihood) for at in ours) > 0.5


@pytest.mark.llamacpp
@needs_llama_cpp
def test_a_run_of_a_file_has_a_row_of_its_own_beside_the_same_file_dequantised(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["eval", files["Q8_0"], "--tasks", "nano_choice,nano_note", "--limit", "6", "--out", str(tmp_path)]
    assert main([*ask, "--engine", "shared"]) == 0
    (against,) = [run for run in read_runs([tmp_path]).runs if run.task == "nano_note"]
    capsys.readouterr()
    assert main([*ask, "--engine", "llamacpp", "--speed", "--latency", "--against", str(against.folder)]) == 0
    shown = capsys.readouterr().out
    assert "nano-Q8_0 (llama.cpp)" in shown
    assert "nano-Q8_0 (llama.cpp) changes nothing of rouge1 on nano_note [" in shown and "not told apart" in shown
    assert f"{against.folder}: no finished run of nano_choice there" in shown
    runs = [run for run in read_runs([tmp_path]).runs if run.quantization]
    assert {run.task for run in runs} == {"nano_choice", "nano_note"}
    for run in runs:
        cost = run.record["cost"]
        assert cost["model_B"] == os.path.getsize(files["Q8_0"])
        assert all(cost[key] > 0 for key in ("load_s", "prefill_tokens_per_s", "latency_p50_ms"))
        assert cost["decode_tokens_per_s"] is None or cost["decode_tokens_per_s"] > 0  # nano may end its text at once.
        assert run.record["engine_version"].rpartition("/")[2].startswith("llama-cpp-python-")


@pytest.mark.llamacpp
@needs_llama_cpp
def test_a_file_whose_weights_are_cut_ends_by_name(files: dict[str, str], tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(Path(files["F16"]).read_bytes()[:-100_000])
    with pytest.raises(UsageError, match="is cut"):
        packed(str(cut))


@pytest.mark.llamacpp
@needs_llama_cpp
def test_a_tokenizer_with_other_ids_is_refused(nano: Any, files: dict[str, str]) -> None:
    from slmbench.engines.llamacpp_parts._engine import check_tokens

    theirs = nano.tokenizer.convert_ids_to_tokens(range(len(nano.tokenizer)))
    check_tokens("file", theirs, nano.tokenizer)
    theirs[700], theirs[701] = theirs[701], theirs[700]
    with pytest.raises(UsageError, match=r"2 differ, such as 700, which is"):
        check_tokens("file", theirs, nano.tokenizer)


@pytest.mark.llamacpp
@needs_llama_cpp
def test_a_build_that_dies_is_found_out_in_a_child(files: dict[str, str], tmp_path: Path) -> None:
    # What llama.cpp does with AMX where the system doesn't allow it: the child dies by a signal.
    code = (
        "import os, signal, sys\n"
        "from slmbench.engines.llamacpp_parts import _probe\n"
        "_probe._TRY = 'import os, signal, sys\\nif sys.argv[2] == \"1\": os.kill(os.getpid(), signal.SIGILL)'\n"
        "print(_probe.repacks(sys.argv[1]))\n"
    )
    environ = os.environ | {"SLMBENCH_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, files["F16"]], capture_output=True, text=True, env=environ)
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr
    assert "llama.cpp dies here with weights laid out for the processor (SIGILL)" in done.stderr
    always = code.replace('if sys.argv[2] == "1": ', "")
    environ["SLMBENCH_CACHE"] = str(tmp_path / "other")
    done = subprocess.run([sys.executable, "-c", always, files["F16"]], capture_output=True, text=True, env=environ)
    assert EngineError.__name__ in done.stderr and "CMAKE_ARGS=-DGGML_NATIVE=OFF" in done.stderr
