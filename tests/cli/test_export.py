"""`slmbench export` from a trained adapter's folder to one that runs elsewhere."""

from __future__ import annotations

import json
import os

import pytest

from slmbench.cli import main


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A trained adapter's folder: nano, one task, a few steps."""
    out = tmp_path_factory.mktemp("trained")
    options = ["--set", "rows=16", "--set", "adapters.arithmetic.steps=3", "--set", "optim.batch=4"]
    assert main(["train", "nano-quickstart", "--adapter", "arithmetic", *options, "--out", str(out)]) == 0
    return str(out / "adapters" / "arithmetic")


def test_a_merged_folder_scores_as_base_and_adapter_do(adapter, tmp_path, capsys):
    assert main(["export", adapter, "--to", "merged", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    folder = out.strip()
    assert folder == os.path.join(tmp_path, "models", "arithmetic-merged")
    assert "logits moved by at most" in err
    asked = ["--tasks", "nano_arithmetic,nano_choice", "--limit", "8", "--out", str(tmp_path), "--json"]
    assert main(["eval", "nano", "--adapter", adapter, *asked]) == 0
    apart = [run for run in json.loads(capsys.readouterr().out) if run["adapter"] is not None]
    assert main(["eval", folder, *asked]) == 0
    together = json.loads(capsys.readouterr().out)
    assert [run["model"]["name"] for run in together] == ["arithmetic-merged"] * 2

    def answers(runs):
        found = []
        for run in runs:
            with open(os.path.join(tmp_path, "runs", run["run_id"], "samples.jsonl"), encoding="utf-8") as file:
                found += [(sample["item_id"], sample["output"]) for sample in map(json.loads, file)]
        return found

    assert answers(together) == answers(apart)


def test_a_gguf_file_is_a_model_that_eval_takes(adapter, tmp_path, capsys):
    options = ["--to", "gguf", "--quantize", "F16,q8_0", "--out", str(tmp_path)]
    assert main(["export", adapter, *options]) == 0
    out, err = capsys.readouterr()
    folder = out.strip()
    assert sorted(os.listdir(folder)) == ["arithmetic-F16.gguf", "arithmetic-Q8_0.gguf", "export.json"]
    assert "arithmetic-F16.gguf: 2.0 MB, 16.2" in err and f"next: slmbench eval {folder}/arithmetic-F16.gguf" in err
    asked = ["--tasks", "nano_arithmetic", "--limit", "4", "--out", str(tmp_path), "--json"]
    assert main(["eval", f"{folder}/arithmetic-F16.gguf", *asked]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["model"]["name"] == "arithmetic-F16"


def test_ollama_gets_a_modelfile_and_the_commands_to_run(adapter, tmp_path, capsys):
    assert main(["export", adapter, "--to", "ollama", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert {"Modelfile", "Modelfile.gguf", "config.json", "model.safetensors", "tokenizer.json"} <= set(
        os.listdir(out.strip())
    )
    assert "next: ollama create arithmetic -f" in err


def test_a_folder_that_the_converter_would_refuse_ends_with_one(adapter, tmp_path, capsys):
    assert main(["export", adapter, "--to", "gguf-ready", "--out", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert os.path.isdir(out.strip())
    assert "problem: pre-tokenizer: this tokenizer was made here" in err
    assert "next: python llama.cpp/convert_hf_to_gguf.py" in err


def test_json_is_the_record_alone(adapter, tmp_path, capsys):
    assert main(["export", adapter, "--to", "merged", "--dtype", "float16", "--out", str(tmp_path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["target"], record["dtype"], record["tasks"]) == ("merged", "float16", ["nano_arithmetic"])
    with open(os.path.join(record.pop("folder"), "export.json"), encoding="utf-8") as file:
        assert json.load(file) == record


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--to", "nope"], 2, "'nope' is not one of"),
        ([], 2, "Missing option '--to'"),
        (["--to", "merged", "--model", "nono"], 2, "unknown model 'nono'; did you mean 'nano'?"),
        (["--to", "merged", "--model", "nobody/nothing"], 4, "neither in the local cache nor"),
        (["--to", "gguf-ready", "--dtype", "float32"], 2, "writes bfloat16 or float16"),
        (["--to", "gguf", "--quantize", "q4_k_mm,f16"], 2, "'q4_k_mm' is not a way to pack a model; did you mean"),
        (["--to", "merged", "--quantize", "q4_0"], 2, "--quantize is of `--to gguf`"),
    ],
)
def test_what_cant_work_is_said(adapter, tmp_path, capsys, options, code, said):
    assert main(["export", adapter, *options, "--out", str(tmp_path)]) == code
    out, err = capsys.readouterr()
    assert out == "" and said in err
    assert not os.path.isdir(tmp_path / "models") or os.listdir(tmp_path / "models") == []


def test_a_folder_that_holds_no_adapter_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--to", "merged"]) == 2
    assert "is not an adapter's folder: it has no adapter_config.json" in capsys.readouterr().err
