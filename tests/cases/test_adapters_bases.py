"""An adapter goes on the model that it was made on; on another only where that is asked for, and then it is told."""

from __future__ import annotations

import copy
import json
import shutil

import pytest

import slmbench
from slmbench.catalog import default_catalog
from slmbench.errors import UsageError
from slmbench.leaderboard import build_leaderboard, load_runs
from slmbench.models import adapter_on, attach_adapter, load_model, resolve_model

NAMES = {
    # what adapter_config.json says, what is loaded: refused, remarked on, or plainly the same
    ("acme/tiny-chat", "acme/tiny-chat"): "same",
    ("ACME/Tiny-Chat", "acme/tiny-chat"): "same",
    ("/home/x/.cache/huggingface/hub/models--acme--tiny-chat/snapshots/0a1b2c", "acme/tiny-chat"): "same",
    ("/opt/elsewhere/site-packages/slmbench/nano/model", "slmbench/nano"): "same",
    ("unsloth/tiny-chat", "acme/tiny-chat"): "remark",
    ("/home/x/models/tiny-chat", "acme/tiny-chat"): "remark",
    ("acme/tiny-chat", "/data/tiny-chat"): "remark",
    ("acme/tiny-chat", "/data/Tiny-Chat.Q4_1.gguf"): "remark",
    ("C:\\models\\tiny-chat", "/data/tiny-chat"): "remark",
    (None, "acme/tiny-chat"): "remark",
    ("", "acme/tiny-chat"): "remark",
    ("acme/tiny-code", "acme/tiny-chat"): "refused",
    ("/home/x/model", "/data/model"): "refused",
    ("/home/x/other", "/data/tiny-chat"): "refused",
    ("tiny", "acme/tiny-chat"): "refused",
}


@pytest.fixture(scope="module")
def nano():
    return load_model(resolve_model("nano", default_catalog()))


@pytest.fixture
def make(nano, tmp_path):
    """make(base=..., folder=..., **settings) -> an adapter's folder as peft leaves it, of a model of nano's shape."""
    import peft
    import torch

    def write(base="acme/tiny-chat", folder="adapter", model=None, **settings):
        torch.manual_seed(0)
        settings = {"r": 4, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False} | settings
        tuned = peft.get_peft_model(
            copy.deepcopy(model or nano.model), peft.LoraConfig(task_type="CAUSAL_LM", **settings)
        )
        place = tmp_path / folder
        tuned.save_pretrained(place)
        path = place / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
        return str(place)

    return write


def _named(nano, name):
    from attrs import evolve

    location = str(nano.source.location) if name == "slmbench/nano" else name
    short = name.rsplit("/", 1)[-1]
    return evolve(nano, source=evolve(nano.source, name=short, id=name, location=location))


@pytest.mark.parametrize(("said", "here"), NAMES, ids=str)
def test_names_are_compared_as_people_and_tools_write_them(nano, make, said, here):
    folder, base = make(said), _named(nano, here)
    if NAMES[said, here] == "refused":
        with pytest.raises(UsageError, match=r"was made on .* the base here is .*--force-base"):
            attach_adapter(base, folder)
        return
    with adapter_on(base, folder) as tuned:
        remarked = any("adapter 'adapter'" in notice for notice in tuned.notices)
    assert remarked == (NAMES[said, here] == "remark")


def test_a_folder_of_the_same_name_with_other_weights_is_another_base(make, nano, tmp_path):
    from safetensors.torch import load_file, save_file

    other = tmp_path / "a" / "tiny"
    shutil.copytree(nano.source.location, other)
    shutil.copytree(other, tmp_path / "b" / "tiny")
    same = load_model(resolve_model(str(tmp_path / "b" / "tiny"), default_catalog()))
    with adapter_on(same, make(str(other))) as tuned:
        assert tuned.notices == nano.notices
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="whose weights are not those of tiny"):
        attach_adapter(same, make(str(other), "again"))


def _board(folder):
    runs, notices = load_runs(folder)
    return build_leaderboard(runs, notices=notices)


def _told(board):
    return [" ".join((notice.text, *notice.details)) for notice in board.notices]


def test_a_forced_base_is_in_the_runs_record_and_its_id(make, tmp_path):
    folder = make("acme/other")
    with pytest.raises(UsageError, match="--force-base"):
        slmbench.evaluate("nano", "nano_choice", adapter=folder, limit=2, out=str(tmp_path / "o"))
    options = {"adapter": folder, "limit": 2, "out": str(tmp_path / "o")}
    (forced,) = slmbench.evaluate("nano", "nano_choice", force_base=True, **options)
    assert "was made on acme/other" in forced.record["adapter"]["forced_base"]
    assert any("on a base that is not its own" in notice for notice in forced.record["remarks"])
    board = _board(tmp_path / "o")
    assert "forced base" in board.rows[0].badges
    assert any("was made on acme/other" in notice and "as requested" in notice for notice in _told(board))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "slmbench/nano"}))
    (own,) = slmbench.evaluate("nano", "nano_choice", **options)
    assert "forced_base" not in own.record["adapter"] and own.run_id != forced.run_id


def test_another_shape_is_told_in_our_words_and_leaves_the_base_as_it_was(nano, make):
    twin = load_model(resolve_model("smollm2-135m", default_catalog(), twin=True))
    folder = make("slmbench/nano", model=twin.model)
    names = list(nano.model.state_dict())
    with pytest.raises(UsageError) as caught:
        attach_adapter(nano, folder)
    said = str(caught.value)
    assert "torch" not in said and "size mismatch" not in said and "\n" not in said
    assert "doesn't fit 'nano'" in said and "model of another shape" in said
    assert list(nano.model.state_dict()) == names


def test_a_whole_model_given_as_an_adapter_is_told_how_to_be_given(nano, tmp_path, capfd):
    from slmbench.cli import main

    folder = tmp_path / "merged"
    shutil.copytree(nano.source.location, folder)
    code = main(["eval", "nano", "--adapter", str(folder), "--tasks", "nano_choice", "--out", str(tmp_path / "o")])
    said = capfd.readouterr().err
    assert code == 2 and "holds a whole model" in said and f"slmbench eval {folder}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("change", ["template", "eos", "token"])
def test_an_adapter_is_asked_through_the_tokenizer_that_it_was_trained_with(nano, make, tmp_path, change):
    import torch
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(nano.source.location)
    model = copy.deepcopy(nano.model)
    if change == "template":
        own.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    elif change == "eos":
        own.eos_token = own.convert_ids_to_tokens(10)
    else:
        own.add_tokens(["<thought>", "</thought>"])
        model.resize_token_embeddings(len(own))
        model.get_input_embeddings().weight.data[-2:] += torch.randn(2, model.config.hidden_size)
    plain = make("slmbench/nano", "plain")
    folder = make("slmbench/nano", "own", model=model)
    for place in (plain, folder):
        (own if place == folder else nano.tokenizer).save_pretrained(place)
    before = nano.model.config.to_dict()
    with adapter_on(nano, plain) as tuned:
        assert tuned.tokenizer is nano.tokenizer
    with adapter_on(nano, folder) as tuned:
        assert tuned.tokenizer is not nano.tokenizer and tuned.tokenizer.get_vocab() == own.get_vocab()
        assert any("a tokenizer of its own" in notice for notice in tuned.notices)
        if change == "template":
            (run,) = slmbench.evaluate(tuned, "nano_choice", limit=2, format="chat", out=str(tmp_path / "out"))
            assert all(sample["prompt"].startswith("<user>") for sample in run.samples())
        elif change == "eos":
            assert tuned.tokenizer.eos_token_id == 10 != nano.tokenizer.eos_token_id
    assert nano.model.config.to_dict() == before
    if change == "token":
        from peft import PeftModel

        ids = torch.tensor([own.encode("2 + 2 <thought> 4")])
        base = load_model(resolve_model("nano", default_catalog())).model
        base.resize_token_embeddings(len(own))
        with torch.no_grad(), adapter_on(nano, folder) as tuned:
            ours = tuned.model(input_ids=ids).logits
            theirs = PeftModel.from_pretrained(base, folder)(input_ids=ids).logits
        assert ours.shape[-1] == len(own) and torch.equal(ours, theirs)


def test_tokens_that_nothing_embeds_are_refused_by_name(nano, make):
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(nano.source.location)
    own.add_tokens(["<thought>"])
    folder = make("slmbench/nano")
    own.save_pretrained(folder)
    with pytest.raises(UsageError, match=r"'<thought>' \(1024, and 'nano' has 1,024\)"):
        attach_adapter(nano, folder)
    padded = make("slmbench/nano", "padded")
    own = AutoTokenizer.from_pretrained(nano.source.location)
    own.add_special_tokens({"pad_token": "<pad>"})
    own.save_pretrained(padded)
    with adapter_on(nano, padded) as tuned:  # Padding is masked: it needs no embedding.
        assert tuned.tokenizer.pad_token_id < 1024
    with pytest.raises(UsageError, match="trained the token 5000"):
        attach_adapter(nano, _with_tokens(make("slmbench/nano", "beyond", trainable_token_indices=[3])))


def _with_tokens(folder):
    path = f"{folder}/adapter_config.json"
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config | {"trainable_token_indices": [5000]}, file)
    return folder
