"""One base with several adapters: each is what it is in a model of its own, and the base is the base afterwards."""

from __future__ import annotations

import copy
import gc
import json
import os
import shutil
import weakref

import pytest

from slmbench.adapters import AdapterBank
from slmbench.catalog import default_catalog
from slmbench.errors import SlmbenchError, UsageError
from slmbench.models import attach_adapter, load_model, resolve_model
from slmbench.models._digest import weights_sha256

QV = ["q_proj", "v_proj"]
SEVEN = [*QV, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {
    "rank2": ("LoraConfig", {"r": 2}),
    "rank64": ("LoraConfig", {"r": 64, "target_modules": SEVEN, "use_rslora": True}),
    "dora": ("LoraConfig", {"use_dora": True}),
    "ranks": ("LoraConfig", {"rank_pattern": {"q_proj": 7}, "alpha_pattern": {"v_proj": 3}}),
    "bias": ("LoraConfig", {"bias": "all"}),
    "head": ("LoraConfig", {"modules_to_save": ["lm_head"]}),
    "norms": ("LoraConfig", {"modules_to_save": ["norm"]}),
    "tokens": ("LoraConfig", {"trainable_token_indices": [21, 22, 23]}),
    "pissa": ("LoraConfig", {"init_lora_weights": "pissa"}),
    "ia3": ("IA3Config", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "prompt": ("PromptTuningConfig", {"num_virtual_tokens": 8}),
    "between": ("AdaptionPromptConfig", {"adapter_len": 4, "adapter_layers": 2}),
}


@pytest.fixture(scope="module")
def folders(make, nano):
    """kind -> the folder of an adapter; `words` has tokens, embeddings and a tokenizer of its own."""
    from transformers import AutoTokenizer

    found = {name: make(name, kind, seed=at, **settings) for at, (name, (kind, settings)) in enumerate(KINDS.items())}
    own = AutoTokenizer.from_pretrained(nano.source.location)
    own.add_tokens(["<thought>", "</thought>"])
    enlarged = copy.deepcopy(nano.model)
    enlarged.resize_token_embeddings(len(own))
    return found | {"words": make("words", model=enlarged, tokenizer=own)}


def _ids():
    import torch

    return torch.arange(20, 52)[None]


def _says(loaded):
    import torch

    with torch.no_grad():
        return loaded.model(input_ids=_ids()).logits.clone()


def _alone(folder):
    return _says(load_model(resolve_model("nano", default_catalog()), folder))


def _of_peft(nano, folder, words):
    """What peft itself computes, with the adapter alone on a base of its own."""
    from attrs import evolve
    from peft import PeftModel

    base = copy.deepcopy(nano.model)
    if words:
        base.resize_token_embeddings(len(words))
    return _says(evolve(nano, model=PeftModel.from_pretrained(base, folder).eval()))


def test_each_adapter_of_any_kind_is_what_it_is_alone_to_the_bit_and_so_is_the_base(nano, folders):
    import torch

    names, config, before = list(nano.model.state_dict()), nano.model.config.to_dict(), _says(nano)
    with AdapterBank(nano) as bank:
        for name, folder in folders.items():
            bank.add(name, folder)
            assert bank.active is None and bank.loaded is nano
        said = {name: _says(bank.swap(name)) for name in folders}
        words = bank.swap("words").tokenizer
        for name in reversed(folders):  # In another order, and with the base between some of them.
            assert torch.equal(_says(bank.swap(name)), said[name]), name
            assert bank.active == name and bank.loaded.adapter.folder == folders[name]
            assert not any(one.requires_grad for one in bank.loaded.model.parameters()), name
            if name in ("words", "tokens", "prompt", "dora"):
                assert torch.equal(_says(bank.swap(None)), before), name
    assert bank.names == [] and torch.equal(_says(nano), before)
    assert list(nano.model.state_dict()) == names and nano.model.config.to_dict() == config
    assert weights_sha256(nano.model) == nano.weights_sha256
    assert all(one.requires_grad for one in nano.model.parameters())
    for name, folder in folders.items():
        assert not torch.equal(said[name][..., :1024], before), name
        assert torch.equal(_of_peft(nano, folder, words if name == "words" else None), said[name]), name
    for name in ("rank64", "dora", "pissa", "words"):
        assert torch.equal(_alone(folders[name]), said[name]), name


def test_a_name_that_is_a_part_of_another_is_another_adapter(nano, make):
    """peft's own hotswap fills what its keys contain `med` of with zeros: `med_q` then says what the base says."""
    import torch

    names = ["med", "med_q", "med.q", "default", "lora_A", "q_proj", "a b/ä'\n"]
    folders = {name: make(f"named{at}", seed=at) for at, name in enumerate(names)}
    with AdapterBank(nano) as bank:
        for name, folder in folders.items():
            bank.add(name, folder)
        said = {name: _says(bank.swap(name)) for name in names}
        assert len({one.sum().item() for one in said.values()}) == len(names)
        bank.swap("med_q")
        bank.remove("med")
        assert torch.equal(_says(bank.loaded), said["med_q"])
        bank.add("med", folders["default"])
        assert bank.active == "med_q" and torch.equal(_says(bank.loaded), said["med_q"])
        assert torch.equal(_says(bank.swap("med")), said["default"])
        for name in names[1:]:
            assert torch.equal(_says(bank.swap(name)), said[name])
        bank.remove(names[-1])
        assert bank.active is None and torch.equal(_says(bank.loaded), _says(nano))


def test_using_goes_back_to_what_was_on_whatever_happens_in_the_block(nano, make):
    with AdapterBank(nano) as bank:
        bank.add("one", make("one")), bank.add("two", make("two", seed=1))
        bank.swap("one")
        with pytest.raises(KeyError), bank.using("two") as tuned:
            assert tuned.adapter.name == "two"
            with bank.using(None) as base:
                assert base is nano and bank.active is None
            assert bank.active == "two"
            raise KeyError
        assert bank.active == "one"
        with bank.using("two"):
            bank.remove("one")
        assert bank.active == "two"  # What was on has gone meanwhile.


@pytest.mark.parametrize("step", ["on", "off"])
def test_ctrl_c_in_the_middle_of_a_swap_leaves_what_was_on(nano, make, step):
    """As in a chat, which goes on after it."""
    import torch
    from attrs import evolve

    with AdapterBank(nano) as bank:
        for at, name in enumerate(("one", "two")):
            bank.add(name, make(name, seed=at))
        said = {name: _says(bank.swap(name)) for name in ("two", "one")}
        entry = bank._entries["two" if step == "on" else "one"]
        real = entry.attached

        def cut_off():
            entry.attached = real
            vars(nano.model.model.layers[0].mlp).clear()  # Half of a module's wiring is there.
            raise KeyboardInterrupt

        entry.attached = evolve(real, **{step: cut_off})
        with pytest.raises(KeyboardInterrupt):
            bank.swap("two")
        assert bank.active == "one" and torch.equal(_says(bank.loaded), said["one"])
        assert torch.equal(_says(bank.swap("two")), said["two"])
    assert weights_sha256(nano.model) == nano.weights_sha256


def test_the_one_used_longest_ago_leaves_where_memory_is_bounded_and_comes_back_from_its_folder(nano, make, tmp_path):
    import torch

    folders = {name: make(name, seed=at, r=16, target_modules=SEVEN) for at, name in enumerate("abc")}
    for name, folder in folders.items():
        shutil.copytree(folder, tmp_path / name)
    with AdapterBank(nano) as bank:
        bank.add("a", folders["a"])
        each = bank.bytes
    weights = os.path.getsize(os.path.join(folders["a"], "adapter_model.safetensors"))
    assert weights * 0.9 < each <= weights
    with AdapterBank(nano, max_bytes=2 * each) as bank:
        for name in "abc":
            bank.add(name, str(tmp_path / name))
        assert bank.names == ["a", "b", "c"] and bank.in_memory == ["b", "c"] and bank.bytes == 2 * each
        left = weakref.ref(bank.swap("b").model)
        bank.swap("c")
        said = _says(bank.swap("a"))
        gc.collect()
        assert left() is None and bank.in_memory == ["a", "c"]
        assert torch.equal(said, _alone(folders["a"]))
        # b's folder holds another adapter by now: that is no b, and what was on stays on.
        shutil.rmtree(tmp_path / "b")
        with pytest.raises(UsageError, match="no such folder"):
            bank.swap("b")
        shutil.copytree(folders["c"], tmp_path / "b")
        with pytest.raises(UsageError, match="holds another adapter than when it was added"):
            bank.swap("b")
        assert bank.active == "a" and torch.equal(_says(bank.loaded), said)
        assert bank.swap("c").adapter.name == "c"
    with AdapterBank(nano, max_bytes=0) as bank:  # The one that is on stays, whatever its size.
        bank.add("a", folders["a"]), bank.add("b", folders["b"])
        assert torch.equal(_says(bank.swap("a")), said) and bank.in_memory == ["a"]
    with pytest.raises(UsageError, match="max_bytes is -1"):
        AdapterBank(nano, max_bytes=-1)


def test_what_is_refused_is_named_and_leaves_the_bank_and_the_base_as_they_were(nano, make, tmp_path):
    import torch

    good, other, narrow = make("good"), make("other", base="acme/other"), make("narrow")
    cut = tmp_path / "cut"
    shutil.copytree(good, cut)
    path = cut / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    path = os.path.join(narrow, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config | {"target_modules": ["q_proj"]}, file)
    with AdapterBank(nano) as bank:
        bank.add("good", good)
        said = _says(bank.swap("good"))
        for name, folder, message in (
            ("good", other, "two adapters of one name: 'good' is .*good already, and now .*other; give one of them"),
            ("other", other, "was made on acme/other"),
            ("cut", str(cut), r"adapter_model.safetensors.* bytes instead of"),
            ("narrow", narrow, "doesn't fit 'nano': .* tensors differ"),
            ("nowhere", str(tmp_path / "nowhere"), "no such folder"),
            ("", good, "its name in the bank is empty"),
        ):
            with pytest.raises(SlmbenchError, match=message):
                bank.add(name, folder)
            assert bank.names == ["good"] and bank.active == "good" and torch.equal(_says(bank.loaded), said)
        for use in (bank.swap, bank.remove, bank.info):
            with pytest.raises(UsageError, match="no adapter 'goof'; did you mean 'good'"):
                use("goof")
        info = bank.add("forced", other, force_base=True)
        assert "was made on acme/other" in info.forced and bank.swap("forced").adapter.forced == info.forced
    assert weights_sha256(nano.model) == nano.weights_sha256
    tuned = attach_adapter(load_model(resolve_model("nano", default_catalog())), good)
    with AdapterBank(tuned) as bank, pytest.raises(UsageError, match="has adapter 'good' on it already"):
        bank.add("more", good)


def test_an_encoder_decoder_has_a_bank_too(make):
    import torch

    source = resolve_model("flan-t5-small", default_catalog(), twin=True)
    base = load_model(source)
    folders = {
        name: make(name, seed=at, base=base.source.id, model=base.model, target_modules=["q", "v"], r=2 + at)
        for at, name in enumerate(("asks", "answers"))
    }
    ids = torch.arange(5, 15)[None]

    def says(loaded):
        with torch.no_grad():
            return loaded.model(input_ids=ids, decoder_input_ids=ids[:, :4]).logits.clone()

    before = says(base)
    with AdapterBank(base) as bank:
        for name, folder in folders.items():
            bank.add(name, folder)
        said = {name: says(bank.swap(name)) for name in folders}
    assert torch.equal(says(base), before)
    for name, folder in folders.items():
        assert torch.equal(says(load_model(source, folder)), said[name]) and not torch.equal(said[name], before)


def test_keys_and_values_of_one_adapter_are_never_used_for_another(nano, make):
    from slmbench.engines.hflm import hflm_over
    from slmbench.engines.protocol import ScoreRequest, WriteRequest
    from slmbench.engines.shared_prefix import SharedPrefix

    prefix = list(range(30, 90))
    scored = [ScoreRequest(("t", at), [*prefix, at], [at + 1] * 9) for at in range(100, 700)]
    written = [WriteRequest(("t", at), str(at), [*prefix, at], {"until": [], "max_gen_toks": 12}) for at in (101, 102)]
    with AdapterBank(nano) as bank:
        bank.add("one", make("one", r=8)), bank.add("two", make("two", seed=1))

        def answers(name):
            loaded = bank.swap(name)
            engine = SharedPrefix(hflm_over(loaded, 8))
            assert not engine.room.ability.reason
            texts = {at: answer.text for at, answer in engine.write(written)}
            return engine, [found.loglikelihood for _, found in sorted(engine.score(scored[:8]))], texts

        engine, first, texts = answers("one")
        _, second, others = answers("two")
        assert first != second and texts != others
        # The same prefix, asked of an engine that was made before another adapter was on.
        bank.swap("one")
        assert [found.loglikelihood for _, found in sorted(engine.score(scored[:8]))] == first
        assert {at: answer.text for at, answer in engine.write(written)} == texts
        many = [WriteRequest(("t", n), str(n), [*prefix, n], {"until": [], "max_gen_toks": n}) for n in range(1, 30)]
        for under_way in (engine.score(scored), engine.write(many)):
            next(under_way)
            bank.swap("two")
            with pytest.raises(SlmbenchError, match="the adapter was exchanged while requests were under way"):
                list(under_way)
            bank.swap("one")
