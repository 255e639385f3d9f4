"""One text at a time: the tokens that evaluation's engine chooses, in pieces, with what was read before kept."""

from __future__ import annotations

from typing import Any

import pytest

from slmbench.engines.hflm import hflm_over
from slmbench.engines.plain import PlainBatches
from slmbench.engines.protocol import WriteRequest
from slmbench.engines.streaming import StreamingWriter, TextSoFar, Wish, window_of
from slmbench.errors import SlmbenchError

PROMPTS = ("Once upon a time there was a dog.", "Once upon a time there was a cat. She liked", "Lily and Tom went")


def written(writer: StreamingWriter, loaded: Any, ids: list[int], **wish: Any) -> TextSoFar:
    """A text, whose pieces make the whole of it."""
    text = TextSoFar()
    pieces = list(writer.write(loaded, ids, Wish(**({"most_tokens": 24} | wish)), text))
    assert "".join(pieces) == text.text
    return text


@pytest.mark.parametrize("stops", [(), ("dog", ". "), (".",)])
def test_texts_are_those_of_evaluation(stories: Any, stops: tuple[str, ...]) -> None:
    """Beside lm-eval's HFLM, whose `generate` is transformers' own."""
    engine, writer = PlainBatches(hflm_over(stories, 1)), StreamingWriter()
    for prompt in PROMPTS:
        ids = stories.tokenizer.encode(prompt)
        kwargs = {"until": list(stops), "max_gen_toks": 24, "do_sample": False}
        [(_, theirs)] = engine.write([WriteRequest(("t", 0), prompt, ids, kwargs)])
        ours = written(writer, stories, ids, stops=stops)
        assert ours.text == theirs.text.strip()
        assert (ours.reason, ours.tokens_in) == (theirs.finish_reason, len(ids))


def test_an_encoder_decoders_texts_are_those_of_evaluation(tiny_t5: Any) -> None:
    loaded = tiny_t5()
    engine, writer = PlainBatches(hflm_over(loaded, 1)), StreamingWriter()
    for prompt in ("Question: red", "the blue Note of a"):
        ids = loaded.tokenizer.encode(prompt)
        kwargs = {"until": [], "max_gen_toks": 12, "do_sample": False}
        [(_, theirs)] = engine.write([WriteRequest(("t", 0), prompt, ids, kwargs)])
        ours = written(writer, loaded, ids, most_tokens=12)
        assert theirs.text.strip() and ours.text == theirs.text.strip()


def test_what_was_read_is_kept_for_a_prompt_that_begins_alike_and_changes_no_text(stories: Any) -> None:
    writer = StreamingWriter()
    start = "Once upon a time there was a dog. He was big and strong."
    first = stories.tokenizer.encode(start)
    text = written(writer, stories, first)
    longer = stories.tokenizer.encode(f"{start} {text.text} And then the cat")
    again = written(writer, stories, longer)
    assert again.read < len(longer) - len(first) - 10
    branched = [*first[:8], *longer[-4:]]
    other = written(writer, stories, branched)
    assert other.read == 4
    for ids, had in ((longer, again), (branched, other)):
        alone = written(StreamingWriter(), stories, ids)
        assert (alone.text, alone.read) == (had.text, len(ids))


def test_a_text_that_is_left_off_leaves_nothing_wrong_behind(stories: Any) -> None:
    writer, ids = StreamingWriter(), stories.tokenizer.encode(PROMPTS[0])
    whole = written(writer, stories, ids).text
    text = TextSoFar()
    pieces = writer.write(stories, ids, Wish(24), text)
    next(pieces)
    pieces.close()
    assert text.text and whole.startswith(text.text) and not text.reason
    assert written(writer, stories, ids).text == whole


def test_draws_depend_on_seed_and_turn_alone(stories: Any) -> None:
    ids = stories.tokenizer.encode(PROMPTS[0])
    wish = {"temperature": 1.0, "most_tokens": 16}
    texts = [
        written(StreamingWriter(), stories, ids, seed=seed, turn=turn, **wish).text
        for seed, turn in ((1, 1), (1, 1), (2, 1), (1, 2))
    ]
    assert texts[0] == texts[1] and len(set(texts)) == 3


def test_a_character_of_several_tokens_comes_in_one_piece(stories: Any) -> None:
    """The tokens of a text with characters of several bytes, one after another, as if a model had written them."""
    from slmbench.engines.sampling import Answer, SamplingSettings, stream_of
    from slmbench.engines.streaming import _text

    said = "naïve 😀 日本"
    tokens = stories.tokenizer.encode(said, add_special_tokens=False)
    assert len(tokens) > len(said)
    shown, answer = "", Answer(None, 99, (), SamplingSettings(), stream_of(0, "", "", 0))
    for token in tokens:
        answer.tokens.append(token)
        text = _text(answer, stories.tokenizer, shown)
        assert text.startswith(shown) and said.startswith(text.replace("�", "?"))
        shown = text
    assert shown == said


def test_a_model_that_computes_nan_is_told(tiny_t5: Any) -> None:
    import torch

    loaded = tiny_t5()
    with torch.no_grad():
        loaded.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(SlmbenchError, match=r"'tiny-t5' computes NaN or infinity, so no token can be chosen"):
        written(StreamingWriter(), loaded, loaded.tokenizer.encode("red"))


def test_the_window_is_what_the_model_says(stories: Any, tiny_t5: Any) -> None:
    assert window_of(stories) == stories.model.config.max_position_embeddings
    assert window_of(tiny_t5(context_tokens=64)) == 64
