"""An adapter in llama.cpp's own layout. Oracle of how rows are turned: transformers' reader of GGUF files."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.gguf_files import GgufLayout, LoraPair, layout_of, write_lora
from slmbench.models import gguf_layout, load_model, read_adapter, resolve_model, write_gguf_lora

_SPEC = importlib.util.spec_from_file_location("gguf_file", Path(__file__).with_name("gguf_file.py"))
_writing = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_writing)
write_gguf = _writing.write_gguf

LLAMA = "llama-3.2-1b-instruct"


@pytest.fixture(scope="module", autouse=True)
def _twins_apart(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def make(tmp_path):
    """make(model, lora settings...) -> (adapter's value, the base's config). Its weights are random and large."""

    def made(model="nano", *, name="tuned", **settings):
        import peft
        import torch

        torch.manual_seed(0)
        base = load_model(resolve_model(model, default_catalog(), twin=model != "nano")).model
        given = {"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "init_lora_weights": False} | settings
        tuned = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **given))
        tuned.save_pretrained(tmp_path / name)
        return read_adapter(str(tmp_path / name)), base.config

    return made


def read(path):
    """(alpha, module's place -> (inner, outer), the whole reader) by gguf's own reader."""
    import gguf

    reader = gguf.GGUFReader(path)
    sides: dict = {}
    for tensor in reader.tensors:
        place, _, side = tensor.name.rpartition(".lora_")
        sides.setdefault(place.removesuffix(".weight"), {})[side] = tensor.data
    pairs = {place: (found["a"], found["b"]) for place, found in sides.items()}
    return float(reader.fields["adapter.lora.alpha"].contents()), pairs, reader


def said_by_peft(info):
    """module -> what peft adds to its weight, of the adapter's own files."""
    import torch
    from peft import PeftConfig
    from peft.utils.other import get_pattern_key
    from safetensors.torch import load_file

    config = PeftConfig.from_pretrained(info.folder)
    tensors = load_file(os.path.join(info.folder, "adapter_model.safetensors"))
    found = {}
    for name in tensors:
        stem, is_inner, _ = name.partition(".lora_A.weight")
        if not is_inner:
            continue
        module = stem.removeprefix("base_model.model.")
        inner, outer = tensors[name], tensors[f"{stem}.lora_B.weight"]
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, module), config.lora_alpha)
        rank = inner.shape[0]
        found[module] = (
            alpha / (rank**0.5 if config.use_rslora else rank) * torch.matmul(outer.double(), inner.double())
        )
    return found


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (LLAMA, {}),
        ("qwen2.5-0.5b", {"use_rslora": True, "r": 8}),
        ("phi-3.5-mini-instruct", {}),
        ("nano", {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 3.0, "layers.1.mlp.up_proj": 1.0}}),
    ],
    ids=["llama", "qwen2-rslora", "phi3", "patterns"],
)
def test_what_llama_cpp_adds_to_a_weight_is_what_peft_adds(make, tmp_path, model, settings):
    import numpy
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    info, config = make(model, **settings)
    layout = layout_of(config)
    write_gguf_lora(info, layout, str(tmp_path / "tuned.gguf"))
    alpha, pairs, _ = read(tmp_path / "tuned.gguf")
    wanted = said_by_peft(info)
    assert pairs.keys() == {layout.place(module) for module in wanted} and len(pairs) == len(wanted)
    back = LlamaTensorProcessor(config=config.to_dict())
    for module, rows in wanted.items():
        inner, outer = pairs[layout.place(module)]
        got = alpha / inner.shape[0] * (outer.astype("float64") @ inner.astype("float64"))
        if layout.architecture == "llama" and module.endswith(("q_proj", "k_proj")):
            assert not numpy.allclose(got, rows.numpy(), rtol=1e-3), "nothing is turned, so nothing is tested"
            heads = layout.heads if module.endswith("q_proj") else layout.kv_heads
            got = back._reverse_permute_weights(got, heads, heads)
        numpy.testing.assert_allclose(got, rows.numpy(), rtol=1e-5, atol=1e-6 * float(rows.abs().max()))


def test_the_file_says_what_llama_cpp_looks_for(make, tmp_path):
    info, config = make()
    write_gguf_lora(info, layout_of(config), str(tmp_path / "tuned.gguf"), base="nano")
    alpha, _, reader = read(tmp_path / "tuned.gguf")
    said = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert alpha == 16.0
    assert said == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.name": "tuned",
        "general.base_model.count": 1,
        "general.base_model.0.name": "nano",
        "general.quantization_version": 2,
        "adapter.type": "lora",
        "adapter.lora.alpha": 16.0,
    }
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "it is DoRA (use_dora)"),
        ({"modules_to_save": ["lm_head"]}, "it holds whole modules (modules_to_save: lm_head)"),
        ({"target_modules": ["embed_tokens", "q_proj"]}, "it changes embeddings (model.embed_tokens)"),
        ({"bias": "lora_only", "lora_bias": True}, "it has biases (model.layers.0."),
    ],
    ids=["dora", "modules", "embeddings", "biases"],
)
def test_what_llama_cpp_cant_put_on_a_model_is_refused_by_name(make, tmp_path, settings, said):
    info, config = make(**settings)
    with pytest.raises(UsageError) as error:
        write_gguf_lora(info, layout_of(config), str(tmp_path / "tuned.gguf"))
    assert said in str(error.value) and "--to gguf`" in str(error.value)
    assert not (tmp_path / "tuned.gguf").exists()


def test_a_module_that_llama_cpp_can_do_nothing_with_is_named(tmp_path):
    import numpy

    layout = GgufLayout("llama", layers=1, heads=2, kv_heads=2, tied=True)
    pair = LoraPair("model.layers.0.mlp.up_proj", numpy.ones((2, 8), "f"), numpy.ones((16, 3), "f"), 1.0)
    with pytest.raises(UsageError, match=r"up_proj has sides of \[2, 8\] and \[16, 3\]"):
        write_lora(str(tmp_path / "a.gguf"), layout, [pair], name="odd")
    head = LoraPair("lm_head", numpy.ones((2, 8), "f"), numpy.ones((16, 2), "f"), 1.0)
    with pytest.raises(UsageError, match=r"llama.cpp has no tensor for lm_head \(the head is the embeddings"):
        write_lora(str(tmp_path / "a.gguf"), layout, [head], name="odd")
    with pytest.raises(UsageError, match="it changes no module"):
        write_lora(str(tmp_path / "a.gguf"), layout, [], name="odd")


def test_a_scale_of_nothing_adds_nothing(tmp_path):
    """llama.cpp takes an alpha of 0 for a scale of 1."""
    import numpy

    layout = GgufLayout("qwen2", layers=1, heads=2, kv_heads=2, tied=True)
    pair = LoraPair("model.layers.0.mlp.up_proj", numpy.ones((2, 8), "f"), numpy.ones((16, 2), "f"), 0.0)
    write_lora(str(tmp_path / "a.gguf"), layout, [pair], name="still")
    alpha, pairs, _ = read(tmp_path / "a.gguf")
    assert alpha == 1.0 and not pairs["blk.0.ffn_up"][1].any()


def test_a_gguf_file_has_the_layout_of_the_model_that_it_was_made_of(tmp_path):
    loaded = load_model(resolve_model("nano", default_catalog()))
    layout = layout_of(loaded.model.config)
    assert (layout.architecture, layout.layers, layout.heads, layout.tied) == ("llama", 4, 4, True)
    assert gguf_layout(str(write_gguf(tmp_path / "nano.gguf", loaded))) == layout


def test_a_class_that_isnt_written_has_no_layout():
    class Odd:
        architectures = ("T5ForConditionalGeneration",)

    with pytest.raises(UsageError, match="no GGUF file is written of a T5ForConditionalGeneration, but of Llama"):
        layout_of(Odd())


def test_a_disk_that_takes_no_more_leaves_nothing(make, tmp_path):
    """A limit on the size of files stands in for a full disk."""
    info, _ = make()
    code = (
        "import resource, signal, sys\n"
        "from slmbench.errors import SlmbenchError\n"
        "from slmbench.gguf_files import GgufLayout\n"
        "from slmbench.models import read_adapter, write_gguf_lora\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n"
        "    write_gguf_lora(read_adapter(sys.argv[1]), GgufLayout('llama', 4, 4, 4, True), sys.argv[2])\n"
        "except SlmbenchError as error:\n"
        "    print(error)\n"
    )
    place = tmp_path / "there"
    place.mkdir()
    command = [sys.executable, "-c", code, info.folder, str(place / "tuned.gguf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "can't be written" in done.stdout, done.stderr
    assert list(place.iterdir()) == []


def test_a_file_that_holds_no_such_model_has_no_layout(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(SlmbenchError, match="damaged GGUF file"):
        gguf_layout(str(tmp_path / "a.gguf"))
