"""Twins' tokenizers: what each family's does that matters, held against transformers' own classes where it can be."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmbench.catalog import default_catalog
from slmbench.errors import UsageError
from slmbench.formats import load_format, training_ids
from slmbench.nano.corpus import EARLY_DOCUMENTS, documents
from slmbench.task import load_task
from slmbench.twins._text import training_lines

NAMES = sorted(set(default_catalog().files("models")) - {"nano"})
BYTE_LEVEL = [name for name in NAMES if name.startswith(("llama", "qwen", "smollm"))]
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40)
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]


def test_the_documents_that_are_kept_are_those_of_nanos_corpus():
    late = list(islice(documents(0), EARLY_DOCUMENTS, EARLY_DOCUMENTS + 60))
    assert list(training_lines())[-60:] == late


def _model(tokenizer):
    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]


@pytest.mark.parametrize("name", BYTE_LEVEL)
@settings(max_examples=60)
@given(text=TEXTS)
def test_byte_level_tokenizers_give_every_text_back(tokenizer, name, text):
    import unicodedata

    ids = tokenizer(name)(text)["input_ids"]
    normal = unicodedata.normalize("NFC", text) if name.startswith("qwen") else text
    assert tokenizer(name).decode(ids, skip_special_tokens=True) == normal


@settings(max_examples=100)
@given(text=st.one_of(TEXTS, st.text("ab \n12.</s>", max_size=40)))
def test_tinyllamas_is_transformers_own_on_the_same_pieces(tokenizer, text):
    from transformers import LlamaTokenizer

    ours = tokenizer("tinyllama-1.1b-chat")
    model = _model(ours)
    theirs = LlamaTokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], add_bos_token=True)
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours("a")["input_ids"][0] == ours.bos_token_id


@settings(max_examples=100)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_t5s_is_transformers_own_on_the_same_pieces(tokenizer, text):
    from transformers import T5Tokenizer

    ours = tokenizer("flan-t5-small")
    theirs = T5Tokenizer(vocab=[tuple(piece) for piece in _model(ours)["vocab"]], extra_ids=100)
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours(text)["input_ids"][-1] == ours.eos_token_id


@settings(max_examples=100)
@given(text=TEXTS)
def test_qwens_is_transformers_own_on_the_same_pieces(tokenizer, text):
    from transformers import Qwen2Tokenizer

    ours = tokenizer("qwen2.5-0.5b")
    model = _model(ours)
    theirs = Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]])
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.bos_token is None


@pytest.mark.parametrize("name", ["flan-t5-small", "phi-3.5-mini-instruct", "tinyllama-1.1b-chat"])
@settings(max_examples=60)
@given(text=TEXTS)
def test_no_text_holds_an_unknown_piece(tokenizer, name, text):
    assert tokenizer(name).unk_token_id not in tokenizer(name)(text)["input_ids"]


def test_t5_loses_line_breaks_and_nothing_else(tokenizer):
    t5 = tokenizer("flan-t5-small")
    ids = t5("Fièvre: 39 °C\n\n  since  {two} days 日本")["input_ids"]
    assert t5.decode(ids, skip_special_tokens=True) == "Fièvre: 39 °C since {two} days 日本"
    assert t5.chat_template is None and t5.bos_token is None


def test_llama_cuts_numbers_in_threes_and_adds_its_beginning(tokenizer):
    llama = tokenizer("llama-3.2-3b")
    cut = llama.backend_tokenizer.pre_tokenizer.pre_tokenize_str("It's 1234567")
    assert [piece for piece, _ in cut] == ["It", "'s", "Ġ", "123", "456", "7"]
    assert llama.convert_ids_to_tokens(llama("a")["input_ids"])[0] == "<|begin_of_text|>"
    assert (llama.eos_token, llama.chat_template) == ("<|end_of_text|>", None)
    assert tokenizer("llama-3.2-1b-instruct").eos_token == "<|eot_id|>"


def test_smollm_cuts_numbers_to_digits_and_has_one_token_at_both_ends(tokenizer):
    smollm = tokenizer("smollm2-360m")
    assert smollm.convert_ids_to_tokens(smollm("123")["input_ids"]) == ["1", "2", "3"]
    assert (smollm.bos_token, smollm.eos_token, smollm.chat_template) == ("<|endoftext|>", "<|endoftext|>", None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "llama-3.2-1b-instruct",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
            "Today Date: 1 May 2026\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nYes<|eot_id|>",
        ),
        ("phi-3.5-mini-instruct", "<|user|>\nHi<|end|>\n<|assistant|>\nYes<|end|>\n<|endoftext|>"),
        ("tinyllama-1.1b-chat", "<|user|>\nHi</s>\n<|assistant|>\nYes</s>\n"),
        (
            "qwen2.5-1.5b",
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nYes<|im_end|>\n",
        ),
    ],
)
def test_turns_are_laid_out_as_published(tokenizer, name, expected):
    assert tokenizer(name).apply_chat_template(TURNS, tokenize=False, date_string="1 May 2026") == expected


def test_marks_of_phis_turns_swallow_the_line_break_behind_them(tokenizer):
    phi = tokenizer("phi-3.5-mini-instruct")
    tokens = phi.convert_ids_to_tokens(phi("<|user|>\nHi<|end|>\n<|assistant|>\n")["input_ids"])
    assert [token for token in tokens if token.startswith("<")] == ["<|user|>", "<|end|>", "<|assistant|>"]
    assert "<0x0A>" not in tokens and "<s>" not in tokens


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_in_turns_is_the_beginning_of_the_whole_conversation(tokenizer, name):
    one = tokenizer(name)
    if one.chat_template is None:
        pytest.skip("has no template of its own")
    system = [{"role": "system", "content": "Be brief."}]
    for turns in (TURNS, system + TURNS):
        prompt = one.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True, date_string="1 May")
        whole = one.apply_chat_template(turns, tokenize=False, date_string="1 May")
        assert whole.startswith(prompt + "Yes")
        assert ("Be brief." in whole) == (turns[0]["role"] == "system")


@pytest.mark.parametrize("name", NAMES)
def test_every_task_is_rendered_in_every_format_that_the_model_has(tokenizer, name):
    one = tokenizer(name)
    for task_name in default_catalog().files("tasks"):
        task = load_task(task_name, data="samples")
        example = task.examples(task.spec.split, 1)[0]
        for format in map(load_format, ("plain", "toon", "chat")):
            if format.name == "chat" and name.startswith("qwen"):
                # The base models' template ends no turn with their EOS.
                with pytest.raises(UsageError, match=r"closes a turn with '<\|im_end\|>\\n', which has no EOS"):
                    format.ends_turn(one)
                continue
            rendered = task.render(format, one, example)
            prompt, answer = training_ids(format, one, rendered, format.write(task.target(example)))
            assert prompt and answer[-1] == one.eos_token_id
            assert max(prompt + answer) < len(one)
