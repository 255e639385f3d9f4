"""Tokenizers that were saved with somebody's settings: prompts are neither cut, padded nor closed."""

from __future__ import annotations

import copy
import json

import pytest

from slmbench.catalog import default_catalog
from slmbench.formats import load_format, prompt_ids, training_ids
from slmbench.lengths import open_ruler
from slmbench.models import bind_model, load_tokenizer, resolve_model, tokenizer_sha256
from slmbench.task import load_task

SEQUENCE = {"Sequence": {"id": "A", "type_id": 0}}
END = {"SpecialToken": {"id": "<|end|>", "type_id": 0}}
USER = {"SpecialToken": {"id": "<|user|>", "type_id": 0}}
SPECIAL = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in (("<|end|>", 0), ("<|user|>", 3))}


def _template(*pieces):
    pair = [*pieces, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": list(pieces), "pair": pair, "special_tokens": SPECIAL}


CLOSING = {
    "one": _template(SEQUENCE, END),
    "two, and one before": _template(USER, SEQUENCE, END, END),
    "in a sequence": {
        "type": "Sequence",
        "processors": [
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            _template(SEQUENCE, END),
        ],
    },
    "as RoBERTa": {
        "type": "RobertaProcessing",
        "sep": ["<|end|>", 0],
        "cls": ["<|user|>", 3],
        "trim_offsets": True,
        "add_prefix_space": False,
    },
}


def _tokenizer(folder):
    return load_tokenizer(resolve_model(str(folder), default_catalog()))


def test_lengths_that_a_tokenizer_was_saved_with_are_off(clone, edit, load, nano, scored, computed):
    folder = clone()
    edit(
        folder / "tokenizer.json",
        truncation={"direction": "Right", "max_length": 32, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 64},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 1,
            "pad_type_id": 0,
            "pad_token": "<|pad|>",
        },
    )
    loaded = load(folder)
    long = "word " * 100
    assert loaded.tokenizer.backend_tokenizer.encode(long).ids == nano.tokenizer.backend_tokenizer.encode(long).ids
    assert len(loaded.tokenizer.backend_tokenizer.encode("short").ids) < 10
    assert loaded.tokenizer.backend_tokenizer.truncation is None
    assert loaded.tokenizer.backend_tokenizer.padding is None
    assert tokenizer_sha256(loaded.tokenizer) == tokenizer_sha256(nano.tokenizer)
    assert computed(scored(loaded)) == computed(scored(nano))
    assert open_ruler(str(folder), default_catalog()).lengths([long]) == [len(nano.tokenizer.encode(long))]
    loaded.tokenizer.save_pretrained(folder / "saved")
    saved = json.loads((folder / "saved" / "tokenizer.json").read_text())
    assert (saved["truncation"], saved["padding"]) == (None, None)


@pytest.mark.parametrize("kind", CLOSING)
def test_no_special_token_stands_between_a_prompt_and_its_answer(clone, edit, nano_tokenizer, kind):
    folder = clone()
    edit(folder / "tokenizer.json", post_processor=CLOSING[kind])
    tokenizer = _tokenizer(folder)
    plain = load_format("plain")
    begins = [3] if "<|user|>" in json.dumps(CLOSING[kind].get("single", CLOSING[kind].get("cls", ""))) else []
    assert prompt_ids(plain, tokenizer, "Note: a") == begins + nano_tokenizer.encode("Note: a")
    task = load_task("nano_note")
    example = task.examples("train", 1)[0]
    rendered = task.render(plain, tokenizer, example)
    prompt, answer = training_ids(plain, tokenizer, rendered, task.answer(example))
    assert 0 not in prompt
    assert answer.count(0) == 1
    assert answer[-1] == 0
    # What is exported to run elsewhere is asked as it was trained.
    tokenizer.save_pretrained(folder / "saved")
    assert _tokenizer_of_transformers(folder / "saved").encode("a") == tokenizer.encode("a")


def _tokenizer_of_transformers(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_a_tokenizer_that_closes_texts_scores_as_one_that_does_not_and_says_so(
    clone, edit, load, nano, scored, computed
):
    folder = clone()
    edit(folder / "tokenizer.json", post_processor=CLOSING["one"])
    runs = scored(load(folder))
    assert computed(runs) == computed(scored(nano))
    told = "the tokenizer puts <|end|> after every text; left out, as an answer goes on from its prompt"
    assert [run.record["remarks"][told] for run in runs] == [3, 3]


def test_a_tokenizer_of_the_callers_own_is_left_as_it_was(clone, edit, nano):
    folder = clone()
    edit(folder / "tokenizer.json", post_processor=CLOSING["one"])
    given = _tokenizer_of_transformers(folder)
    loaded = bind_model(nano.source, nano.model, given)
    assert loaded.tokenizer.encode("a") == nano.tokenizer.encode("a")
    assert given.encode("a") == [*nano.tokenizer.encode("a"), 0]
    assert copy.deepcopy(loaded.tokenizer).encode("a") == nano.tokenizer.encode("a")


def test_an_encoder_still_reads_closed_texts():
    tokenizer = load_tokenizer(resolve_model("flan-t5-small", default_catalog(), twin=True))
    assert tokenizer.encode("a")[-1] == tokenizer.eos_token_id
