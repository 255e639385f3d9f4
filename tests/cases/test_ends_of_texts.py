"""What a model's files say of the end of texts and of drawing: every EOS ends one, and greedy texts are greedy."""

from __future__ import annotations

import pytest

LINE_BREAK = 203
"""The embedded model's token for it."""

DRAWING = {
    "do_sample": True,
    "temperature": 0.6,
    "top_p": 0.9,
    "top_k": 5,
    "num_beams": 4,
    "max_length": 20,
    "max_new_tokens": 3,
    "min_new_tokens": 30,
    "no_repeat_ngram_size": 2,
    "repetition_penalty": 1.3,
    "suppress_tokens": [LINE_BREAK],
    "num_return_sequences": 2,
    "return_dict_in_generate": True,
    "use_cache": False,
}


@pytest.fixture(scope="module")
def texts_of(computed):
    return lambda runs: [(row["output"], row["finish_reason"], row["tokens_out"]) for row in computed(runs)[0]]


@pytest.fixture
def both(scored):
    """both(loaded) -> the runs of either engine, without a stop string."""

    def run(loaded):
        return [scored(loaded, "nano_note", limit=4, engine=engine, batch=2) for engine in ("shared", "hf")]

    return run


def test_how_a_model_is_to_be_drawn_from_changes_no_greedy_text(clone, edit, load, nano, both, texts_of):
    folder = clone()
    edit(folder / "generation_config.json", **DRAWING)
    expected = texts_of(both(nano)[0])
    for runs in both(load(folder)):
        assert texts_of(runs) == expected
        said = runs[0].record["generation_config"]
        assert said["counts"] is False
        assert said["num_beams"] == 4
        assert "max_length" not in said


@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
def test_each_eos_of_either_file_ends_a_text_in_either_engine(clone, edit, load, nano, both, texts_of, place):
    assert nano.tokenizer.decode([LINE_BREAK]) == "\n"
    folder = clone()
    edit(folder / place, eos_token_id=[0, LINE_BREAK])
    shared, theirs = both(load(folder))
    texts = texts_of(shared)
    assert texts_of(theirs) == texts
    assert all(reason == "eos" and "\n" not in text.rstrip("\n") for text, reason, _ in texts)
    assert any(text.endswith("\n") for text, *_ in texts)
    assert texts != texts_of(both(nano)[0])
    told = "generation_config.json doesn't end texts at '\\n', which config.json does: either of them ends a text"
    assert shared[0].record["remarks"].get(told, 0) == (4 if place == "config.json" else 0)
