"""Greedy texts, held against lm-eval's own, one row at a time: stops, ends, lengths, and more rows than slots."""

from __future__ import annotations

from typing import Any

import pytest

SHOTS = "Question: What is 2 + 2? Answer: 4.\nQuestion: What is red? Answer: the red one.\n"
PROMPTS = [SHOTS + f"Question: What is {word}? Answer:" for word in ("3 + 5", "blue", "12 - 4", "the note of 7")]
PROMPTS += ["Note: the red one.\nSummary:", "Question:", SHOTS, PROMPTS[0]]


def asked(**settings: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(text, {"until": [], "max_gen_toks": 24} | settings) for text in PROMPTS]


@pytest.fixture
def same_texts(ours, theirs, instances):
    """same_texts(model, arguments, tokenizer=None, **options of ours) -> HFLM's texts; asserts that ours are those."""

    def check(model: Any, arguments: list[tuple[Any, ...]], tokenizer: Any = None, **options: Any) -> list[str]:
        want = theirs(model, tokenizer).generate_until(instances("generate_until", arguments), disable_tqdm=True)
        engine = ours(model, tokenizer, **options)
        assert engine.generate_until(instances("generate_until", arguments)) == want
        assert engine.engine.notices == []
        return want

    return check


def test_texts_without_stops_are_lm_evals_own(nano, same_texts) -> None:
    assert len(set(same_texts(nano.model, asked()))) > 3


@pytest.mark.parametrize(
    "until",
    [
        ["\n"],
        ["Question:", "\n\n", "."],
        ["e", " the"],
        ["Answer:", "Q"],
        [" and the", "12", "+ "],
        "\n",
        ["no such text"],
    ],
)
def test_texts_with_stops_are_lm_evals_own(nano, same_texts, until) -> None:
    same_texts(nano.model, asked(until=until))


def test_an_empty_stop_ends_a_text_as_lm_evals(nano, same_texts) -> None:
    same_texts(nano.model, asked(until=["", "."]))


def test_a_stop_spelled_by_several_tokens_ends_the_text_before_it(nano, same_texts, ours, written_by) -> None:
    whole = same_texts(nano.model, asked(max_gen_toks=16))
    stop = max(whole, key=len)[3:9]
    assert len(nano.tokenizer.tokenize(stop)) > 1
    texts = same_texts(nano.model, asked(until=[stop], max_gen_toks=16))
    cut = [text for text, uncut in zip(texts, whole, strict=True) if stop in uncut]
    assert cut
    assert all(stop not in text for text in cut)
    # The work ends there, too.
    engine = ours(nano.model)
    written = [one for _, one in engine.engine.write(written_by(engine, asked(until=[stop], max_gen_toks=16)))]
    stopped = [one for one in written if one.finish_reason == "stop"]
    assert len(stopped) == len(cut)
    assert all(one.tokens_out < 16 for one in stopped)


def test_the_real_models_stories_are_lm_evals_own(stories, same_texts) -> None:
    starts = ["Once upon a time", "Lily and Tom went", "The dog", "Once upon a time", "One day, a cat"]
    kwargs = {"max_gen_toks": 40}
    texts = same_texts(stories.model, [(start, kwargs | {"until": []}) for start in starts], stories.tokenizer)
    assert len(set(texts)) == 4
    same_texts(stories.model, [(start, kwargs | {"until": [". ", "\n"]}) for start in starts], stories.tokenizer)


@pytest.mark.parametrize("most", [1, 2])
def test_texts_of_one_or_two_tokens_are_lm_evals_own(nano, same_texts, most) -> None:
    same_texts(nano.model, asked(max_gen_toks=most))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_more_rows_than_slots_are_written_all_the_same(nano, same_texts, cramped, monkeypatch, rows) -> None:
    from slmbench.engines.shared_prefix import _room

    cramped()
    monkeypatch.setattr(_room, "DECODED_ROWS_CPU", rows)
    same_texts(nano.model, asked(until=["e"]) + asked(max_gen_toks=5))


@pytest.mark.parametrize("budget", [0, 12, None])
def test_whatever_may_be_held_for_sharing_texts_are_the_same(nano, same_texts, ours, cramped, budget) -> None:
    cramped()
    each = ours(nano.model).engine.room.ability.token_bytes
    same_texts(nano.model, asked(), kv_budget_bytes=None if budget is None else budget * each, batch_size=2)


def test_each_prompt_has_its_own_length_and_stops(nano, same_texts) -> None:
    same_texts(nano.model, [*asked(max_gen_toks=3), *asked(until=["e"]), *asked(until=["."], max_gen_toks=9)])


def test_a_prompt_longer_than_the_window_loses_its_beginning_as_lm_evals(tiny, same_texts) -> None:
    long = " ".join(PROMPTS)
    arguments = [(long, {"until": [], "max_gen_toks": n}) for n in (4, 20)] + [(long + "Note", {"max_gen_toks": 8})]
    same_texts(tiny("llama"), arguments)


@pytest.mark.parametrize("as_list", [False, True])
def test_the_models_own_end_ends_a_text(nano, same_texts, greedy_after, as_list) -> None:
    model = nano.model
    follows = greedy_after(model, nano.tokenizer.encode(PROMPTS[0]), 8)
    end = next(token for token in follows[1:] if token not in (follows[0], model.config.eos_token_id))
    before = same_texts(model, asked())
    model.generation_config.eos_token_id = [end, 1023] if as_list else end
    # HFLM fills a row with padding after its end, and reads the end itself as text.
    after = same_texts(model, asked())
    assert after[0] != before[0]
    assert before[0].startswith(after[0])


def test_a_text_that_ends_in_the_middle_leaves_its_slot_to_another(nano, same_texts, greedy_after, monkeypatch) -> None:
    from slmbench.engines.shared_prefix import _room

    monkeypatch.setattr(_room, "DECODED_ROWS_CPU", 2)
    follows = [greedy_after(nano.model, nano.tokenizer.encode(text), 6) for text in PROMPTS]
    nano.model.generation_config.eos_token_id = sorted({row[i + 1] for i, row in enumerate(follows[:4])})
    same_texts(nano.model, asked())


def test_penalties_of_the_models_own_file_change_no_greedy_text(nano, ours, theirs, instances) -> None:
    def write(engine: Any) -> list[str]:
        return engine.generate_until(instances("generate_until", asked()), disable_tqdm=True)

    plain = write(theirs(nano.model))
    config = nano.model.generation_config
    config.repetition_penalty, config.top_k, config.do_sample, config.temperature = 5.0, 3, True, 0.3
    assert write(ours(nano.model)) == plain
    assert write(theirs(nano.model)) != plain
    assert (config.repetition_penalty, config.top_k) == (5.0, 3)


def test_a_penalty_that_is_asked_for_counts(nano, same_texts) -> None:
    plain = same_texts(nano.model, asked())
    assert same_texts(nano.model, asked(repetition_penalty=5.0)) != plain


def test_settings_that_no_decoder_here_knows_go_to_lm_eval_and_are_named(nano, ours, theirs, instances) -> None:
    arguments = asked(no_repeat_ngram_size=2)
    want = theirs(nano.model).generate_until(instances("generate_until", arguments), disable_tqdm=True)
    engine = ours(nano.model, batch_size=1)
    with pytest.warns(UserWarning, match="it is given no_repeat_ngram_size"):
        assert engine.generate_until(instances("generate_until", arguments)) == want


def test_requests_share_nothing_that_one_of_them_changes(nano, ours, instances) -> None:
    shared = {"until": ["."], "max_gen_toks": 4}
    requests = instances("generate_until", [(text, shared) for text in PROMPTS])
    ours(nano.model).generate_until(requests)
    assert all(request.args[1] == {"until": ["."], "max_gen_toks": 4} for request in requests)


TOKENS = {
    ("a", "b", "c", "d"): (),
    ("ab", "cd"): (("a", "b"), ("c", "d")),
    ("ab", "c", "d"): (("a", "b"),),
    ("a", "b", "cd"): (("c", "d"),),
}
PARTS = ("a", "ab", "bc", "abc", "bcd", "cd", "cda", "da", "dab", "d", "xb", "bx", "bcx", "abx")


def cut_differently(model: Any, tokenizer: Any, sets: list[tuple[str, ...]], engines: Any, instances: Any) -> list[Any]:
    """The sets of stops with which the two engines' texts are not the same."""
    ours, theirs = engines
    arguments = [("ab", {"until": list(stops), "max_gen_toks": 12}) for stops in sets]
    want = theirs(model, tokenizer).generate_until(instances("generate_until", arguments), disable_tqdm=True)
    assert len(set(want)) > 3
    got = ours(model, tokenizer).generate_until(instances("generate_until", arguments))
    return [pair for pair in zip(sets, got, want, strict=True) if pair[1] != pair[2]]


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_stop_within_across_or_beside_tokens_cuts_as_lm_evals(
    tokens, chain, byte_tokenizer, ours, theirs, instances
) -> None:
    tokenizer = byte_tokenizer(eos="</s>", merges=TOKENS[tokens])
    sets = [(), *((part,) for part in PARTS)]
    assert cut_differently(chain(tokenizer, list(tokens)), tokenizer, sets, (ours, theirs), instances) == []


@pytest.mark.parametrize("most", range(1, 8))
def test_a_stop_of_letters_that_are_several_bytes_cuts_as_lm_evals(most, chain, byte_tokenizer, same_texts) -> None:
    tokenizer = byte_tokenizer(eos="</s>")
    model = chain(tokenizer, ["a", "Ã", "©", "b"])  # "é" is two bytes.
    sets = [[], ["é"], ["éb"], ["aé"], ["bb"], ["éba"], ["\N{REPLACEMENT CHARACTER}"]]
    same_texts(model, [("b", {"until": stops, "max_gen_toks": most}) for stops in sets], tokenizer)


@pytest.mark.parametrize("tokens", [tokens for tokens in TOKENS if len(tokens) > 2])
def test_overlapping_stops_cut_as_lm_evals_whatever_their_order(
    tokens, chain, byte_tokenizer, ours, theirs, instances
) -> None:
    from itertools import permutations

    tokenizer = byte_tokenizer(eos="</s>", merges=TOKENS[tokens])
    sets = list(permutations(PARTS, 2))
    assert cut_differently(chain(tokenizer, list(tokens)), tokenizer, sets, (ours, theirs), instances) == []


def test_an_empty_prompt_begins_with_what_the_tokenizer_puts_there(stories, same_texts) -> None:
    same_texts(stories.model, [("", {"until": [], "max_gen_toks": 6})], stories.tokenizer)


def test_texts_longer_than_a_slot_is_at_first_are_lm_evals_own(tiny, same_texts) -> None:
    arguments = [(text, {"until": [], "max_gen_toks": 75}) for text in ("Note:", "Question:", "Answer: the")]
    assert len(set(same_texts(tiny("llama", eos_token_id=None), arguments))) == 3


@pytest.fixture
def decoders(monkeypatch):
    """Every decoder that an engine makes during the test."""
    from slmbench.engines.shared_prefix import _engine

    made: list[Any] = []
    real = _engine.Decoder

    def decoder(*args: Any, **options: Any) -> Any:
        made.append(real(*args, **options))
        return made[-1]

    monkeypatch.setattr(_engine, "Decoder", decoder)
    return made


def test_what_prompts_share_is_computed_once_and_repeats_cost_no_prompt(nano, ours, instances, decoders) -> None:
    texts = [SHOTS * 2 + "Question:", SHOTS * 2 + "Question:", SHOTS * 2 + "Note:"]
    arguments = [(text, {"until": [], "max_gen_toks": 2}) for text in texts]
    ours(nano.model, batch_size=8).generate_until(instances("generate_until", arguments))
    ids = [nano.tokenizer.encode(text) for text in texts]
    common = next(i for i, (a, b) in enumerate(zip(ids[0], ids[2], strict=False)) if a != b)
    assert decoders[0].prompt_tokens == len(ids[0]) + len(ids[2]) - common


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("budget", [0, 9, 40, 1000])
def test_no_more_is_held_for_sharing_than_allowed_and_nothing_afterwards(
    rows, budget, nano, ours, instances, decoders, cramped, monkeypatch
) -> None:
    from slmbench.engines.shared_prefix import _room

    cramped()
    monkeypatch.setattr(_room, "DECODED_ROWS_CPU", rows)
    engine = ours(nano.model, kv_budget_bytes=budget * ours(nano.model).engine.room.ability.token_bytes)
    engine.generate_until(instances("generate_until", asked(until=["e"], max_gen_toks=6)))
    (decoder,) = decoders
    assert decoder.most_context_tokens == budget
    assert 0 <= decoder.peak_context_tokens <= budget
    assert (decoder.peak_context_tokens > 0) == (budget >= 9)
    assert decoder.slots.held == {}
    assert decoder.slots.count == 0
