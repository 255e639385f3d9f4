"""`--to gguf` and `--to gguf-lora`: the files hold what was trained; all faults come before anything is merged."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from slmbench.catalog import default_catalog
from slmbench.deployment import export_adapter
from slmbench.errors import SlmbenchError, UsageError
from slmbench.models import attach_adapter, load_model, load_tokenizer, resolve_model
from tests.llama_cpp_model import llama_cpp_model

LLAMA = "llama-3.2-1b-instruct"
PROMPT = "Question: 12 + 7?\nAnswer:"


def export(folder, to, out, **options):
    return export_adapter(folder, to, default_catalog(), out=str(out), **options)


def logits_of(loaded):
    import torch

    ids = torch.tensor([loaded.tokenizer.encode(PROMPT)])
    with torch.no_grad():
        return loaded.model(input_ids=ids).logits[0].float()


@pytest.fixture
def nothing_merged(monkeypatch):
    from slmbench.deployment import _export

    def stop(*_, **__):
        raise AssertionError("something is merged before all faults are told")

    monkeypatch.setattr(_export, "merge_adapter", stop)


def test_each_kind_is_a_file_and_the_record_says_what_is_in_it(make_adapter, source_of, out):
    import hashlib

    folder = make_adapter("nano", format="chat")
    made = export(folder, "gguf", out, quantize=["f32", "q8_0"])
    assert sorted(os.listdir(made.folder)) == ["export.json", "tuned-F32.gguf", "tuned-Q8_0.gguf"]
    whole, packed = made.record["gguf"]
    for one in (whole, packed):
        data = Path(made.folder, one["file"]).read_bytes()
        assert (one["bytes"], one["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (whole["kind"], whole["quantiser"], whole["packed"]) == ("F32", None, {"F32": 984192})
    assert packed["quantiser"] and packed["packed"] == {"F32": 1152, "Q8_0": 983040}
    assert made.record["tokenizer"] == {"model": "gpt2", "pre": "smollm", "otherwise_cut": []}
    assert made.record["merge"]["dtype"] == "float32" and made.problems == ()
    with open(os.path.join(made.folder, "export.json"), encoding="utf-8") as file:
        assert json.load(file) == made.record
    # As a model it says what base and adapter said.
    wanted = logits_of(attach_adapter(load_model(source_of("nano")), folder))
    got = load_model(resolve_model(os.path.join(made.folder, "tuned-F32.gguf"), default_catalog()))
    assert float((logits_of(got) - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
    tokenizer = load_tokenizer(source_of("nano"))
    said = [{"role": "user", "content": "12 + 7?"}]
    assert got.tokenizer.apply_chat_template(said, tokenize=False) == tokenizer.apply_chat_template(
        said, tokenize=False
    )


def test_a_file_says_where_it_is_from(make_adapter, out):
    from slmbench.models import gguf_metadata

    made = export(make_adapter(LLAMA, format="chat"), "gguf", out, quantize=["f16"])
    said = gguf_metadata(os.path.join(made.folder, "tuned-F16.gguf"))
    wanted = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": f"{LLAMA}-twin tuned",
        "general.finetune": "tuned",
        "general.license": "llama3.2",
        "general.base_model.0.name": f"{LLAMA}-twin",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.model": "gpt2",
    }
    assert {key: said.get(key) for key in wanted} == wanted
    # A twin is on no hub.
    assert "general.base_model.0.repo_url" not in said and "tokenizer.chat_template" in said


def test_a_bos_that_a_template_writes_itself_is_added_to_no_bare_text(make_adapter, source_of, out):
    from slmbench.models import gguf_metadata

    # Its turns begin with the token that is its BOS.
    assert load_tokenizer(source_of("smollm2-135m-instruct")).bos_token == "<|im_start|>"
    made = export(make_adapter("smollm2-135m-instruct", format="chat"), "gguf", out)
    assert gguf_metadata(os.path.join(made.folder, "tuned-F16.gguf"))["tokenizer.ggml.add_bos_token"] is False


def test_llama_cpp_takes_the_white_space_after_marks_of_turns_by_the_name_of_phi_3(
    make_adapter, source_of, out, tmp_path
):
    from slmbench.models import gguf_metadata

    base = tmp_path / "mine"
    shutil.copytree(source_of("phi-3.5-mini-instruct").location, base)
    made = export(make_adapter("phi-3.5-mini-instruct"), "gguf", out, model=str(base))
    assert gguf_metadata(os.path.join(made.folder, "tuned-F16.gguf"))["general.name"] == "mine tuned phi-3"


def test_a_base_that_came_from_a_file_keeps_its_way_to_cut(make_adapter, out):
    first = export(make_adapter("nano"), "gguf", out)
    base = os.path.join(first.folder, "tuned-F16.gguf")
    made = export(make_adapter("nano", name="more"), "gguf", out, model=base, force_base=True)
    assert made.record["tokenizer"]["pre"] == "smollm" and made.record["gguf"][0]["file"] == "more-F16.gguf"


@pytest.mark.parametrize(
    ("model", "to", "options", "said"),
    [
        ("nano", "gguf", {"quantize": ["q4_k_mm", "iq2_xs"]}, ["did you mean 'q4_k_m'?", "needs an importance matrix"]),
        ("nano", "gguf", {"dtype": "float16"}, ["--dtype is not of `--to gguf`", "--quantize f16, bf16 or f32 says"]),
        ("nano", "merged", {"quantize": ["q8_0"]}, ["--quantize is of `--to gguf`; `--to merged` packs nothing"]),
        ("nano", "gguf-lora", {"quantize": ["q8_0"]}, ["`--to gguf-lora` packs nothing"]),
        ("flan-t5-small", "gguf", {}, ["is a T5ForConditionalGeneration", "`--to gguf-ready` gives a folder"]),
        ("flan-t5-small", "gguf-lora", {}, ["is a T5ForConditionalGeneration"]),
    ],
)
def test_what_cant_be_written_is_told_before_anything_is_merged(
    make_adapter, out, nothing_merged, model, to, options, said
):
    lora = {"target_modules": ["q", "v"]} if model.startswith("flan") else {}
    folder = make_adapter(model, **lora)
    with pytest.raises(UsageError) as error:
        export(folder, to, out, **options)
    assert [word for word in said if word not in str(error.value)] == []
    assert not (out / "models").exists()


def test_kinds_that_only_llama_cpp_packs_are_named_without_it(make_adapter, out, nothing_merged, monkeypatch):
    from slmbench.gguf_files import _quantise

    there = _quantise.importlib.util.find_spec
    monkeypatch.setattr(
        _quantise.importlib.util, "find_spec", lambda name: None if name == "llama_cpp" else there(name)
    )
    folder = make_adapter("nano")
    with pytest.raises(UsageError) as error:
        export(folder, "gguf", out, quantize=["q4_k_m", "q6_k", "q4_0"])
    assert "--quantize q4_k_m: only llama.cpp's own" in str(error.value) and "--quantize q6_k" in str(error.value)


def test_an_adapter_for_llama_cpp_needs_no_weights_of_its_base(make_adapter, out, nothing_merged):
    made = export(make_adapter("nano"), "gguf-lora", out)
    assert sorted(os.listdir(made.folder)) == ["export.json", "tuned-lora.gguf"]
    assert made.record["gguf"][0]["packed"] == {"F32": 40960}
    assert made.record["adapter"]["rank"] == 4 and "--lora" in made.commands[0]


def test_an_adapter_whose_tokenizer_makes_other_ids_is_sent_to_be_merged(make_adapter, source_of, out, nothing_merged):
    folder = make_adapter("nano")
    tokenizer = load_tokenizer(source_of("nano"))
    tokenizer.save_pretrained(folder)
    export(folder, "gguf-lora", out)  # The base's own, saved beside it.
    shutil.rmtree(out / "models")
    tokenizer.add_tokens(["<fever>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UsageError, match=r"makes other ids of '<fever>' than that of 'nano'.* `--to gguf` writes both"):
        export(folder, "gguf-lora", out)
    for change, said in ({"eos_token": "<|pad|>"}, "ends texts by '<|pad|>'"), ({"bos": True}, "makes other ids of "):
        other = load_tokenizer(source_of("nano"))
        if change.pop("bos", False):
            first = other.convert_ids_to_tokens([0])[0]
            other.backend_tokenizer.post_processor = TemplateProcessing(
                single=f"{first} $A", special_tokens=[(first, 0)]
            )
        for key, value in change.items():
            setattr(other, key, value)
        other.save_pretrained(folder)
        with pytest.raises(UsageError, match=re.escape(said)):
            export(folder, "gguf-lora", out)
    assert not list((out / "models").glob("*"))


def test_a_disk_without_room_is_told_before_a_file_is_begun(make_adapter, out, monkeypatch):
    folder = make_adapter("nano")
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2_000_000))
    with pytest.raises(SlmbenchError, match=r"0\.0 GB are free, and the files take up to 0\.0 GB; .* fewer kinds"):
        export(folder, "gguf", out, quantize=["f16", "q8_0"])
    assert not list((out / "models").glob("*"))


def test_a_dora_is_sent_to_be_merged(make_adapter, out):
    with pytest.raises(UsageError, match=r"it is DoRA \(use_dora\).* Merge it into its base instead: .*--to gguf`"):
        export(make_adapter("nano", use_dora=True), "gguf-lora", out)
    assert list((out / "models").glob("*")) == []


@pytest.mark.llamacpp
def test_llama_cpp_goes_on_as_the_merged_model_does(make_adapter, source_of, out):
    """64 tokens, whatever they are; and base with the adapter beside it says what the merged file says."""
    import numpy
    import torch

    folder = make_adapter("nano")
    loaded = attach_adapter(load_model(source_of("nano")), folder)
    ids = loaded.tokenizer.encode(PROMPT)
    wanted = logits_of(loaded).numpy()
    with torch.no_grad():
        written = loaded.model.generate(
            input_ids=torch.tensor([ids]), max_new_tokens=64, min_new_tokens=64, do_sample=False, eos_token_id=None
        )[0, len(ids) :].tolist()
    made = export(folder, "gguf", out, quantize=["f32", "q4_k_m"])
    beside = export(folder, "gguf-lora", out)
    with llama_cpp_model(os.path.join(made.folder, "tuned-F32.gguf")) as model:
        assert numpy.abs(model.logits(ids) - wanted).max() < 1e-4 * numpy.abs(wanted).max()
        assert model.greedy(ids, 64) == written
    with llama_cpp_model(os.path.join(made.folder, "tuned-Q4_K_M.gguf")) as model:
        assert model.logits(ids).shape == wanted.shape
    assert "llama-cpp-python" in made.record["gguf"][1]["quantiser"]
    source = resolve_model(_base_file(out), default_catalog(), unpacked=False)
    with llama_cpp_model(source.given) as model:
        model.put(os.path.join(beside.folder, "tuned-lora.gguf"))
        assert numpy.abs(model.logits(ids) - wanted).max() < 1e-4 * numpy.abs(wanted).max()


def _base_file(out):
    """The embedded model itself as a file in float32."""
    from slmbench.gguf_files import KINDS, About, vocabulary_of, write_gguf_model

    loaded = load_model(resolve_model("nano", default_catalog()))
    said = vocabulary_of(loaded.tokenizer, 1024, template=None, begins_with_bos=False)
    path = os.path.join(out, "base.gguf")
    write_gguf_model(path, loaded.model, said, About("nano"), KINDS["f32"])
    return path


@pytest.mark.llamacpp
def test_a_quantiser_that_fails_leaves_nothing(make_adapter, out, monkeypatch):
    from slmbench.gguf_files import _quantise

    monkeypatch.setattr(_quantise, "_CHILD", os.path.join(os.path.dirname(_quantise.__file__), "no_such_child.py"))
    with pytest.raises(SlmbenchError, match=r"llama.cpp's quantiser made no Q8_0"):
        export(make_adapter("nano"), "gguf", out, quantize=["q8_0"])
    assert list((out / "models").iterdir()) == []
