"""A model written as GGUF is the model: transformers' own reader of such files and gguf's are the oracles."""

from __future__ import annotations

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.gguf_files import (
    HARD_TEXTS,
    KINDS,
    About,
    check_writable,
    known_cuts,
    otherwise_cut,
    quantiser,
    read_kinds,
    setting_notices,
    vocabulary_of,
    write_gguf_model,
)
from slmbench.models import load_config, load_model, load_tokenizer, resolve_model
from tests.llama_cpp_model import llama_cpp_model

FAMILIES = ("llama-3.2-1b-instruct", "phi-3.5-mini-instruct", "qwen2.5-0.5b", "smollm2-360m", "tinyllama-1.1b-chat")


@pytest.fixture(scope="module", autouse=True)
def _twins_apart(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def source_of(name):
    return resolve_model(name, default_catalog(), twin=name != "nano")


def vocabulary(tokenizer, config, **more):
    given = {"template": tokenizer.chat_template, "begins_with_bos": False} | more
    return vocabulary_of(tokenizer, config.vocab_size, **given)


def read_back(path, loaded):
    """A model of the same config with what transformers' reader makes of the file."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    fresh = type(loaded.model)(loaded.model.config).eval()
    tensors = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=fresh)["tensors"]
    missing, spare = fresh.load_state_dict({name: tensor for name, tensor in tensors.items()}, strict=False)
    assert set(missing) <= {"lm_head.weight"} and spare == []
    fresh.tie_weights()
    return fresh


def logits_of(model):
    import torch

    ids = (torch.arange(40) * 37 % 900 + 5)[None]
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("name", ["nano", *FAMILIES])
def test_the_file_says_what_the_model_says(tmp_path, name):
    import gguf
    import torch

    loaded = load_model(source_of(name), dtype="float32")
    said = vocabulary(loaded.tokenizer, loaded.model.config)
    wanted = logits_of(loaded.model)
    for kind in ("f32", "f16"):
        write_gguf_model(str(tmp_path / f"{kind}.gguf"), loaded.model, said, About(name), KINDS[kind])
    assert torch.equal(logits_of(read_back(tmp_path / "f32.gguf", loaded)), wanted)
    rounded = read_back(tmp_path / "f16.gguf", loaded)
    for key, tensor in rounded.state_dict().items():
        own = loaded.model.state_dict()[key]
        assert torch.equal(tensor, own.half().float() if own.dim() > 1 else own), key
    apart = (logits_of(rounded) - wanted).abs().max()
    # The embedded model's own weights are in float16.
    assert (float(apart) == 0) is (name == "nano") and float(apart) < 0.01 * float(wanted.abs().max())
    fields = gguf.GGUFReader(tmp_path / "f16.gguf").fields
    assert len(fields["tokenizer.ggml.tokens"].data) == loaded.model.get_input_embeddings().weight.shape[0]
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_F16


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("llama-3.2-1b-instruct", "rope_freqs.weight"),
        ("phi-3.5-mini-instruct", "rope_factors_long.weight"),
        ("phi-3.5-mini-instruct", "rope_factors_short.weight"),
    ],
)
def test_angles_are_scaled_as_transformers_scales_them(tmp_path, name, key):
    import gguf
    import numpy
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    loaded = load_model(source_of(name), dtype="float32")
    config = loaded.model.config
    path = tmp_path / "a.gguf"
    write_gguf_model(str(path), loaded.model, vocabulary(loaded.tokenizer, config), About(name), KINDS["f16"])
    reader = gguf.GGUFReader(path)
    (factors,) = [tensor.data for tensor in reader.tensors if tensor.name == key]
    rope = config.rope_parameters
    length = config.max_position_embeddings if "long" in key else 16
    angles, attention = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, torch.device("cpu"), seq_len=length)
    plain = rope["rope_theta"] ** (-numpy.arange(len(factors)) / len(factors))
    numpy.testing.assert_allclose(plain / factors, angles.numpy(), rtol=1e-5)
    if "long" in key:
        assert reader.fields["phi3.rope.scaling.attn_factor"].contents() == pytest.approx(attention)


def test_a_head_that_an_adapter_changed_gets_its_own_tensor(tmp_path):
    import gguf
    import torch

    loaded = load_model(source_of("nano"), dtype="float32")
    said = vocabulary(loaded.tokenizer, loaded.model.config)
    write_gguf_model(str(tmp_path / "tied.gguf"), loaded.model, said, About("a"), KINDS["f16"])
    loaded.model.lm_head.weight = torch.nn.Parameter(loaded.model.lm_head.weight.detach() + 1)
    write_gguf_model(str(tmp_path / "own.gguf"), loaded.model, said, About("a"), KINDS["f16"])
    heads = [
        [tensor.name for tensor in gguf.GGUFReader(tmp_path / name).tensors if tensor.name == "output.weight"]
        for name in ("tied.gguf", "own.gguf")
    ]
    assert heads == [[], ["output.weight"]]


def test_numbers_that_float16_doesnt_hold_are_named_and_nothing_is_left(tmp_path):
    loaded = load_model(source_of("nano"), dtype="float32")
    loaded.model.model.layers[2].mlp.up_proj.weight.data[3, 4] = 70000.0
    said = vocabulary(loaded.tokenizer, loaded.model.config)
    with pytest.raises(SlmbenchError, match=r"blk\.2\.ffn_up\.weight has a number beyond 65504"):
        write_gguf_model(str(tmp_path / "a.gguf"), loaded.model, said, About("a"), KINDS["f16"])
    assert list(tmp_path.iterdir()) == []
    write_gguf_model(str(tmp_path / "a.gguf"), loaded.model, said, About("a"), KINDS["bf16"])


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "q5_1"])
def test_ggufs_own_package_packs_and_the_head_keeps_eight_bits(tmp_path, kind):
    import gguf

    loaded = load_model(source_of("nano"), dtype="float32")
    said = vocabulary(loaded.tokenizer, loaded.model.config)
    write_gguf_model(str(tmp_path / "a.gguf"), loaded.model, said, About("a"), KINDS[kind])
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    packed = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert packed.pop("token_embd.weight") == "Q8_0"
    assert set(packed.values()) == {kind.upper(), "F32"} and packed["blk.1.ffn_down.weight"] == kind.upper()
    (tensor,) = [tensor for tensor in reader.tensors if tensor.name == "blk.1.ffn_down.weight"]
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    own = loaded.model.model.layers[1].mlp.down_proj.weight.detach().numpy()
    assert 0 < abs(values - own).max() < 0.2 * abs(own).max()


@pytest.mark.parametrize(
    ("name", "pre"),
    [
        ("nano", "smollm"),
        ("smollm2-360m", "smollm"),
        ("qwen2.5-0.5b", "qwen2"),
        ("llama-3.2-1b-instruct", "llama-bpe"),
    ],
)
def test_the_way_to_cut_is_found_by_cutting(name, pre):
    tokenizer = load_tokenizer(source_of(name))
    assert known_cuts(tokenizer.backend_tokenizer)[0].name == pre


def test_a_tokenizer_that_cuts_like_none_of_llama_cpps_is_refused():
    from tokenizers import Regex, pre_tokenizers

    source = source_of("nano")
    tokenizer = load_tokenizer(source)
    cut = pre_tokenizers.Split(Regex(r"[aeiou]"), behavior="isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
    with pytest.raises(UsageError, match=r"as none of llama.cpp's ways does, and no GGUF file says that; .*gguf-ready"):
        vocabulary(tokenizer, load_config(source))
    # But where it came from a file that names its own way, that is kept.
    assert vocabulary(tokenizer, load_config(source), pre="exotic").pre == "exotic"


def test_a_unigram_is_refused():
    source = source_of("flan-t5-small")
    with pytest.raises(UsageError, match="the tokenizer is a Unigram that is neither byte-level nor"):
        vocabulary(load_tokenizer(source), load_config(source))


def test_ids_without_embeddings_are_refused():
    tokenizer = load_tokenizer(source_of("nano"))
    with pytest.raises(UsageError, match="ids up to 1023, but the model 1000 embeddings"):
        vocabulary_of(tokenizer, 1000, template=None, begins_with_bos=False)


def test_what_llama_cpp_cuts_otherwise_is_known():
    """Its vocabularies have no normaliser, and SentencePiece's begin each text with a blank of their own."""
    odd = {}
    for name in ("nano", *FAMILIES):
        source = source_of(name)
        tokenizer = load_tokenizer(source)
        odd[name] = otherwise_cut(tokenizer, vocabulary(tokenizer, load_config(source)))
    assert odd["nano"] == odd["smollm2-360m"] == odd["llama-3.2-1b-instruct"] == []
    assert odd["qwen2.5-0.5b"] == [HARD_TEXTS[-1]]
    end = "</s>" + HARD_TEXTS[0]
    assert odd["tinyllama-1.1b-chat"] == [" leading and trailing  ", end]


@pytest.mark.llamacpp
@pytest.mark.parametrize("name", ["nano", *FAMILIES])
def test_llama_cpp_cuts_texts_as_is_said(tmp_path, name):
    loaded = load_model(source_of(name), dtype="float32")
    tokenizer = loaded.tokenizer
    said = vocabulary(tokenizer, loaded.model.config, begins_with_bos=name.startswith("tiny"))
    write_gguf_model(str(tmp_path / "a.gguf"), loaded.model, said, About(name), KINDS["f16"])
    with llama_cpp_model(str(tmp_path / "a.gguf"), vocabulary_alone=True) as model:
        odd = [text for text in HARD_TEXTS if model.ids(text) != tokenizer.encode(text, add_special_tokens=False)]
        assert odd == [text for text in otherwise_cut(tokenizer, said) if text in HARD_TEXTS]
        assert model.adds_bos() is said.adds_bos and model.rows == len(said.tokens)


@pytest.mark.llamacpp
@pytest.mark.parametrize("name", ["nano", *FAMILIES])
def test_llama_cpp_says_what_the_model_says(tmp_path, name):
    import numpy

    loaded = load_model(source_of(name), dtype="float32")
    said = vocabulary(loaded.tokenizer, loaded.model.config)
    write_gguf_model(str(tmp_path / "a.gguf"), loaded.model, said, About(name), KINDS["f32"])
    wanted = logits_of(loaded.model)[0].numpy()
    with llama_cpp_model(str(tmp_path / "a.gguf")) as model:
        got = model.logits([i * 37 % 900 + 5 for i in range(40)])
    assert numpy.abs(got - wanted).max() < 1e-3 * numpy.abs(wanted).max()


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}


def tiny(kind, **settings):
    """A random model of a class that the registry has no family of, with the embedded model's tokenizer."""
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        **{"vocab_size": 1024, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256},
        **{"sliding_window": None, "tie_word_embeddings": False, "architectures": [f"{kind}ForCausalLM"], **settings},
    )
    torch.manual_seed(5)
    made = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # Norms of ones would hide one that is left out.
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.1 if parameter.dim() == 1 else 0.05)
    return made


OTHERS = [
    ("Mistral", {}),
    ("Mistral", {"head_dim": 64}),
    ("Qwen3", {"head_dim": 64}),
    ("Qwen2", {"rope_parameters": YARN}),
    ("Llama", {"rope_parameters": YARN}),
    ("Llama", {"rope_parameters": LINEAR}),
]


@pytest.mark.llamacpp
@pytest.mark.parametrize(("kind", "settings"), OTHERS)
def test_llama_cpp_says_what_models_of_other_families_say(tmp_path, kind, settings):
    import numpy
    import torch

    model = tiny(kind, **settings)
    said = vocabulary(load_tokenizer(source_of("nano")), model.config)
    write_gguf_model(str(tmp_path / "a.gguf"), model, said, About(kind), KINDS["f32"])
    ids = [i * 37 % 900 + 5 for i in range(120)]
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0].numpy()
    with llama_cpp_model(str(tmp_path / "a.gguf")) as other:
        got = other.logits(ids)
    assert numpy.abs(got - wanted).max() < 1e-3 * numpy.abs(wanted).max()


def test_names_of_kinds_are_read_in_both_cases_and_each_once():
    assert [kind.name for kind in read_kinds(["Q4_K_M", " q8-0", "q4_k"])] == ["Q4_K_M", "Q8_0"]
    assert {kind.file_type for kind in read_kinds(["f32", "bf16"])} == {"ALL_F32", "MOSTLY_BF16"}


def test_every_fault_of_the_kinds_is_told():
    with pytest.raises(UsageError) as error:
        read_kinds(["q4_k_mm", "iq1_s", "f16"])
    assert "'q4_k_mm' is not a way to pack a model; did you mean 'q4_k_m'?" in str(error.value)
    assert "'iq1_s' needs an importance matrix" in str(error.value)


def test_every_kind_is_one_of_llama_cpps():
    import gguf

    assert [kind.name for kind in KINDS.values() if kind.file_type not in gguf.LlamaFileType.__members__] == []
    assert [
        k.name for k in KINDS.values() if k.packing and k.packing not in gguf.GGMLQuantizationType.__members__
    ] == []


def test_without_the_extra_ggufs_own_package_packs_what_it_can(monkeypatch):
    from slmbench.gguf_files import _quantise

    monkeypatch.setattr(_quantise.importlib.util, "find_spec", lambda name: None)
    assert quantiser(KINDS["q4_0"]).startswith("gguf 0.") and quantiser(KINDS["f16"]) == ""
    with pytest.raises(UsageError, match=r"q4_k_m: only llama.cpp's own quantiser .*slmbench\[llamacpp\].*q8_0, q5_1"):
        quantiser(KINDS["q4_k_m"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "gelu"}, "its activation is 'gelu' (hidden_act), and llama.cpp takes silu"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "its positions are turned by 'dynamic'"),
        ({"architectures": ["GemmaForCausalLM"]}, "no GGUF file is written of a GemmaForCausalLM"),
    ],
)
def test_a_setting_that_no_file_says_is_refused(change, said):
    config = load_config(source_of("nano"))
    check_writable(config)
    for key, value in change.items():
        setattr(config, key, value)
    with pytest.raises(UsageError) as error:
        check_writable(config)
    assert said in str(error.value)


def test_heads_of_another_width_are_refused_where_llama_cpp_has_none():
    config = load_config(source_of("qwen2.5-0.5b"))
    check_writable(config)
    config.head_dim = 32
    with pytest.raises(UsageError, match=r"its heads are 32 wide \(head_dim\), and .* which is 64"):
        check_writable(config)


def test_a_window_narrower_than_the_context_is_told():
    config = load_config(source_of("nano"))
    assert setting_notices(config) == []
    config.sliding_window = 64
    assert "sees 64 tokens back; llama.cpp lets it see all" in setting_notices(config)[0]


@pytest.mark.slow
@pytest.mark.realmodel
@pytest.mark.llamacpp
def test_a_real_model_goes_on_in_llama_cpp_as_in_transformers(tmp_path, smollm2):
    """64 greedy tokens of float32 and of float16, and the same ids for its hard texts."""
    import torch

    loaded = load_model(resolve_model(smollm2, default_catalog()), dtype="float32")
    tokenizer = loaded.tokenizer
    ids = tokenizer.encode("Photosynthesis is the process by which", add_special_tokens=False)
    with torch.no_grad():
        made = loaded.model.generate(
            input_ids=torch.tensor([ids]), max_new_tokens=64, min_new_tokens=64, do_sample=False, eos_token_id=None
        )
    said = vocabulary(tokenizer, loaded.model.config, of_file=True)
    assert (said.pre, otherwise_cut(tokenizer, said)) == ("smollm", [])
    for kind in ("f32", "f16"):
        path = str(tmp_path / f"{kind}.gguf")
        write_gguf_model(path, loaded.model, said, About("SmolLM2"), KINDS[kind])
        with llama_cpp_model(path) as model:
            assert [text for text in HARD_TEXTS if model.ids(text) != tokenizer.encode(text)] == []
            assert model.greedy(ids, 64) == made[0, len(ids) :].tolist()
