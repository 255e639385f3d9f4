"""What llama.cpp and Ollama look for in a folder. gguf, llama.cpp's own tables, is the oracle where it is installed."""

from __future__ import annotations

import json
import os

import pytest
from safetensors import safe_open

from slmbench.catalog import default_catalog
from slmbench.deployment import (
    GGUF_ARCHITECTURES,
    export_adapter,
    gguf_problems,
    ollama_notices,
)
from slmbench.errors import UsageError
from slmbench.models import load_tokenizer
from tests.deployment.ollama import parse_modelfile, run_go_template

FAMILIES = ("llama-3.2-1b-instruct", "phi-3.5-mini-instruct", "qwen2.5-0.5b", "smollm2-360m", "tinyllama-1.1b-chat")
T5 = "flan-t5-small"


def export(folder, to, out, **options):
    return export_adapter(folder, to, default_catalog(), out=str(out), **options)


def read(made, name):
    with open(os.path.join(made.folder, name), encoding="utf-8") as file:
        return json.load(file)


def named(problems):
    return [problem.partition(":")[0] for problem in problems]


def test_every_architecture_is_one_of_ggufs():
    gguf = pytest.importorskip("gguf")
    assert [name for name in GGUF_ARCHITECTURES.values() if not hasattr(gguf.MODEL_ARCH, name)] == []


@pytest.mark.parametrize("model", ["nano", *FAMILIES, T5])
def test_llama_cpp_has_a_place_for_every_tensor(make_adapter, out, model):
    gguf = pytest.importorskip("gguf")
    made = export(make_adapter(model), "gguf-ready", out)
    config = read(made, "config.json")
    (architecture,) = config["architectures"]
    layers = config.get("num_hidden_layers") or config["num_layers"]
    places = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, GGUF_ARCHITECTURES[architecture]), layers)
    names = []
    for file in (name for name in os.listdir(made.folder) if name.endswith(".safetensors")):
        with safe_open(os.path.join(made.folder, file), "pt") as tensors:
            names += list(tensors.keys())
    assert names
    assert [name for name in names if places.get_name(name, try_suffixes=(".weight", ".bias")) is None] == []


@pytest.mark.parametrize("model", ["nano", "tinyllama-1.1b-chat", "llama-3.2-1b-instruct"])
def test_llama_cpp_finds_special_tokens_and_template(make_adapter, out, model):
    gguf = pytest.importorskip("gguf")
    made = export(make_adapter(model, format="chat"), "gguf-ready", out)
    vocabulary = gguf.SpecialVocab(made.folder, load_merges=True)
    tokenizer = load_tokenizer_of(made)
    assert vocabulary.special_token_ids["eos"] == tokenizer.eos_token_id
    assert vocabulary.chat_template == tokenizer.chat_template
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    if tokenizer.bos_token is not None:
        assert vocabulary.add_special_token["bos"] is rendered.startswith(tokenizer.bos_token)


def load_tokenizer_of(made):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(made.folder, local_files_only=True)


@pytest.mark.parametrize("model", FAMILIES)
def test_the_tokenizer_written_for_others_is_still_the_same(make_adapter, source_of, out, model):
    made = export(make_adapter(model, format="chat"), "gguf-ready", out)
    before, after = load_tokenizer(source_of(model)), load_tokenizer_of(made)
    text = "Add 12 and 7.\n<|im_end|> Ça va 🙂?</s>"
    assert after.encode(text, add_special_tokens=False) == before.encode(text, add_special_tokens=False)
    assert set(after.all_special_tokens) == set(before.all_special_tokens)
    config = read(made, "tokenizer_config.json")
    assert config["tokenizer_class"] != "TokenizersBackend"
    assert not isinstance(config.get("extra_special_tokens"), list)
    assert "local_files_only" not in config


@pytest.mark.parametrize("model", ["llama-3.2-1b-instruct", "smollm2-360m", "phi-3.5-mini-instruct"])
def test_the_angles_base_is_where_older_readers_look(make_adapter, source_of, out, model):
    from transformers import AutoConfig

    made = export(make_adapter(model), "ollama", out)
    config = read(made, "config.json")
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    if config["rope_parameters"]["rope_type"] != "default":
        assert config["rope_scaling"]["type"] == config["rope_parameters"]["rope_type"]
    before = AutoConfig.from_pretrained(source_of(model).location, local_files_only=True).rope_parameters
    after = dict(AutoConfig.from_pretrained(made.folder, local_files_only=True).rope_parameters)
    after.pop("type", None)
    assert after == before


def test_weights_for_converters_have_two_bytes(make_adapter, out):
    folder = make_adapter("nano")
    assert export(folder, "gguf-ready", out).record["dtype"] == "float16"
    assert export(folder, "gguf-ready", out, dtype="bfloat16").record["dtype"] == "bfloat16"
    with pytest.raises(UsageError, match="float32: `--to gguf-ready` writes"):
        export(folder, "gguf-ready", out, dtype="float32")


def test_the_next_commands_name_what_is_there(make_adapter, out):
    made = export(make_adapter("nano"), "gguf-ready", out)
    convert, quantize = made.commands
    assert f"convert_hf_to_gguf.py {made.folder} --outtype f16" in convert
    assert quantize.split()[-1] == "Q4_K_M" and quantize.split()[1] == convert.split()[-1]


def test_problems_have_names(make_adapter, out):
    made = export(make_adapter("nano"), "gguf-ready", out)
    assert named(made.problems) == ["pre-tokenizer"]
    assert gguf_problems(made.folder, own_tokenizer=False) == []
    path = os.path.join(made.folder, "config.json")
    config = read(made, "config.json")
    for change, name in (
        ({"architectures": ["StrangeForCausalLM"]}, "architecture"),
        ({"quantization_config": {}}, "quantization"),
        ({"vocab_size": 100}, "vocabulary"),
        ({"architectures": ["Phi3ForCausalLM"]}, "sentencepiece"),
    ):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config | change, file)
        assert named(gguf_problems(made.folder, own_tokenizer=False)) == [name]
    os.unlink(os.path.join(made.folder, "tokenizer.json"))
    assert "tokenizer" in named(gguf_problems(made.folder, own_tokenizer=False))


def test_a_sentencepiece_model_beside_the_base_is_taken_along(make_adapter, source_of, out, tmp_path):
    import shutil

    base = tmp_path / "base"
    shutil.copytree(source_of("phi-3.5-mini-instruct").location, base)
    (base / "tokenizer.model").write_bytes(b"pieces")
    made = export(make_adapter("phi-3.5-mini-instruct"), "gguf-ready", out, model=str(base))
    assert (out / "models" / "tuned-gguf-ready" / "tokenizer.model").read_bytes() == b"pieces"
    assert "sentencepiece" not in named(made.problems)


def modelfile_of(made, name="Modelfile"):
    with open(os.path.join(made.folder, name), encoding="utf-8") as file:
        return parse_modelfile(file.read())


@pytest.mark.parametrize("model", ["nano", "phi-3.5-mini-instruct", "tinyllama-1.1b-chat", "llama-3.2-1b-instruct"])
def test_ollama_sends_the_tokens_that_training_saw(make_adapter, source_of, out, model):
    """The Modelfile's template, and BOS where the written config has it added, against the format's own prompt."""
    from slmbench.formats import load_format, prompt_ids
    from slmbench.values import Prompt

    made = export(make_adapter(model, format="chat"), "ollama", out)
    template = dict(modelfile_of(made))["template"]
    tokenizer = load_tokenizer(source_of(model))
    text = run_go_template(template, [{"role": "user", "content": "12 + 7?"}])
    adds_bos = read(made, "tokenizer_config.json").get("add_bos_token", False)
    sent = ([tokenizer.bos_token_id] if adds_bos else []) + tokenizer.encode(text, add_special_tokens=False)
    chat = load_format("chat")
    assert sent == prompt_ids(chat, tokenizer, chat.render(Prompt("12 + 7?"), tokenizer).text)


def test_a_plain_task_is_asked_as_it_was_trained(make_adapter, out):
    made = export(make_adapter("nano", tasks=("nano_arithmetic",)), "ollama", out)
    found = modelfile_of(made)
    text = run_go_template(dict(found)["template"], [{"role": "user", "content": "12 + 7?"}])
    from slmbench.formats import load_format
    from slmbench.task import load_task

    task = load_task("nano_arithmetic", data="samples")
    example = task.examples(task.spec.split, 1)[0]
    rendered = task.render(load_format("plain"), None, example).text
    asked = example.fields["question"]
    assert text.replace("12 + 7?", asked) == rendered
    parameters = {command: value for command, value in found if command not in ("from", "template")}
    assert parameters["temperature"] == "0" and parameters["repeat_penalty"] == "1"
    assert 0 < int(parameters["num_ctx"]) <= 1024


def test_both_ways_into_ollama_differ_in_their_weights_alone(make_adapter, out):
    made = export(make_adapter("nano"), "ollama", out)
    one, other = modelfile_of(made), modelfile_of(made, "Modelfile.gguf")
    assert (one[0], other[0]) == (("from", "."), ("from", "./tuned-f16.gguf"))
    assert one[1:] == other[1:]
    assert any("tuned-f16.gguf" in command for command in made.commands)
    assert any("Modelfile.gguf" in notice for notice in made.notices)


def test_ollama_doesnt_run_an_encoder_decoder_and_says_what_does(make_adapter, out):
    folder = make_adapter(T5, target_modules=["q", "v"])
    with pytest.raises(UsageError, match=r"encoder-decoder .* `--to merged` .* `--to gguf-ready`"):
        export(folder, "ollama", out)
    assert not (out / "models").exists()


def test_what_ollamas_converter_would_misread_is_said(make_adapter, out):
    made = export(make_adapter("llama-3.2-1b-instruct", format="chat"), "ollama", out)
    said = " ".join(ollama_notices(made.folder))
    assert "Modelfile.gguf" in said
    # The published patterns of Llama 3 and Qwen2.5 are known by their digests; a plain byte level is not.
    path = os.path.join(made.folder, "tokenizer.json")
    tokenizer = read(made, "tokenizer.json")
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    for split, known in ((pattern, True), (r"\w+", False)):
        step = {"type": "Split", "pattern": {"Regex": split}}
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [step]}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(tokenizer, file)
        assert ("cuts words" not in " ".join(ollama_notices(made.folder))) is known
