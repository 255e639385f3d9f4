"""Log-likelihoods and greedy texts of many architectures, held against lm-eval's own engine over the same model."""

from __future__ import annotations

from typing import Any

import pytest

SHARED = ("llama", "qwen2", "mistral", "gpt2", "gpt_neox", "opt", "mixtral", "qwen2_moe")
PLAIN = ("bloom", "mamba")
STOPS: dict[str, Any] = {"until": [], "max_gen_toks": 8}


@pytest.mark.filterwarnings("ignore:plain batching")
@pytest.mark.parametrize("name", [*SHARED, "phi3", "gemma2", *PLAIN])
def test_log_likelihoods_are_lm_evals_own(name, tiny, ours, theirs, documents, scored_alike, greedy_after) -> None:
    model = tiny(name)
    pairs = documents(n=3)
    # What the model itself would say, so that some answers are the likeliest.
    pairs += [(context, greedy_after(model, context, 2)) for context, _ in pairs[::3]]
    engine = ours(model)
    found = scored_alike(engine, theirs(model), pairs)
    assert {greedy for _, greedy in found} == {False, True}
    assert len({value for value, _ in found}) == len(pairs)


@pytest.mark.parametrize("name", [*SHARED, "phi3"])
def test_prefixes_of_these_architectures_are_shared(name, tiny, ours, documents, stores) -> None:
    engine = ours(tiny(name), batch_size=1)
    named = [((str(i), ""), context, rest) for i, (context, rest) in enumerate(documents(shots=24))]
    engine._loglikelihood_tokens(named)
    assert engine.engine.notices == []
    assert stores[-1].peak_tokens <= 60


@pytest.mark.parametrize("name", PLAIN)
def test_an_architecture_without_such_a_mask_is_batched_plainly_and_said(name, tiny, ours, documents, stores) -> None:
    engine = ours(tiny(name))
    named = [((str(i), ""), context, rest) for i, (context, rest) in enumerate(documents(n=1))]
    with pytest.warns(UserWarning, match="plain batching"):
        engine._loglikelihood_tokens(named)
    assert len(engine.engine.notices) == 1
    assert not stores


@pytest.mark.parametrize("budget", [0, 7, 25, None])
@pytest.mark.parametrize("name", ["llama", "qwen2", "mistral", "gpt2", "phi3", "mixtral"])
def test_many_passes_pieces_and_contexts_computed_again_change_nothing(
    name, budget, tiny, ours, theirs, documents, scored_alike, cramped, stores
) -> None:
    cramped()
    model = tiny(name)
    bytes_each = ours(model).engine.room.ability.token_bytes
    assert bytes_each > 0
    engine = ours(model, kv_budget_bytes=None if budget is None else budget * bytes_each)
    scored_alike(engine, theirs(model), documents(1, shots=26, n=6))
    (store,) = stores
    assert engine.engine.notices == []
    if budget is None:
        assert store.computed_again == 0
        assert store.peak_tokens > 0
    else:
        assert store.most_tokens == budget
        assert store.computed_again > 0
        assert store.peak_tokens <= budget


@pytest.mark.parametrize("window", [1, 5, 30])
def test_a_window_shorter_than_the_shots_hides_them(window, tiny, ours, theirs, documents, scored_alike) -> None:
    model = tiny("mistral", sliding_window=window)
    found = scored_alike(ours(model), theirs(model), documents(shots=30, n=3))
    wide = theirs(tiny("mistral", sliding_window=None))
    named = [((str(i), ""), context, rest) for i, (context, rest) in enumerate(documents(shots=30, n=3))]
    assert [value for value, _ in wide._loglikelihood_tokens(named)] != pytest.approx([v for v, _ in found], abs=1e-2)


def test_scores_that_are_capped_in_attention_are_left_to_lm_eval(
    tiny, ours, theirs, documents, scored_alike, monkeypatch
) -> None:
    from slmbench.engines.shared_prefix import _probe

    # Even where nothing says beforehand that such a model's attention is one of its own.
    monkeypatch.setattr(_probe, "dispatches_attention", lambda core: True)
    model = tiny("gemma2", attn_logit_softcapping=0.5)
    with pytest.warns(UserWarning, match="its mask can't be extended"):
        capped = scored_alike(ours(model), theirs(model), documents(n=2))
    named = [((str(i), ""), context, rest) for i, (context, rest) in enumerate(documents(n=2))]
    free = theirs(tiny("gemma2", attn_logit_softcapping=500.0))._loglikelihood_tokens(named)
    assert [value for value, _ in capped] != pytest.approx([value for value, _ in free], abs=1e-2)


def test_what_turns_all_positions_anew_is_batched_plainly_and_said(
    tiny, ours, theirs, documents, scored_alike, stores
) -> None:
    model = tiny("phi3")
    short, long = documents(shots=20, n=2), documents(1, shots=50, n=2)
    engine = ours(model)
    # HFLM's numbers depend on what shares the batch, too: what is long is held against rows that are alone.
    with pytest.warns(UserWarning, match="longer than 48 tokens"):
        scored_alike(engine, theirs(model), short + long)
    assert len(engine.engine.notices) == len(stores) == 1
    only_short = ours(model)
    scored_alike(only_short, theirs(model), short)
    assert only_short.engine.notices == []


def test_a_tied_head_and_a_head_of_its_own_both_score(tiny, ours, theirs, documents, scored_alike) -> None:
    values = []
    for tied in (True, False):
        model = tiny("llama", tie_word_embeddings=tied)
        values.append([value for value, _ in scored_alike(ours(model), theirs(model), documents(n=2))])
    assert values[0] != pytest.approx(values[1], abs=1e-2)


@pytest.mark.parametrize("batch", [1, 3, 64, "auto"])
def test_the_batch_changes_no_number(batch, tiny, ours, theirs, documents, scored_alike) -> None:
    model = tiny("llama")
    scored_alike(ours(model, batch_size=batch), theirs(model), documents(n=4))


def test_all_of_a_budget_too_small_for_one_token_is_none(tiny, ours, documents, stores) -> None:
    engine = ours(tiny("llama"), kv_budget_bytes=1)
    engine._loglikelihood_tokens([((str(i), ""), *pair) for i, pair in enumerate(documents(shots=60))])
    assert stores[0].most_tokens == stores[0].peak_tokens == 0


def prompts() -> list[str]:
    shots = "Question: What is red? Answer: the red one.\n" * 2
    return [f"{shots}Question: What is {word}? Answer:" for word in ("blue", "the note", "12")] + [
        "Note",
        "Question:",
        "Answer: 12",
    ]


@pytest.mark.filterwarnings("ignore:plain batching")
@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("name", [*SHARED, "phi3", "gemma2"])
def test_greedy_texts_are_lm_evals_own(name, squeezed, tiny, ours, theirs, instances, cramped) -> None:
    if squeezed:
        cramped()
    model = tiny(name)
    # With more tokens than this, what phi3 writes depends on what else is in HFLM's batch.
    asked = [(text, STOPS) for text in prompts() if name != "phi3" or len(text) < 60]
    want = theirs(model).generate_until(instances("generate_until", asked), disable_tqdm=True)
    assert ours(model).generate_until(instances("generate_until", asked)) == want
    assert len(set(want)) > 1


@pytest.mark.parametrize("name", PLAIN)
def test_greedy_texts_of_plain_batches_are_lm_evals_own(name, tiny, ours, theirs, instances) -> None:
    model = tiny(name)
    asked = [(text, STOPS) for text in prompts()]
    want = theirs(model).generate_until(instances("generate_until", asked), disable_tqdm=True)
    with pytest.warns(UserWarning, match="plain batching"):
        got = ours(model, batch_size=1).generate_until(instances("generate_until", asked))
    assert got == want


def test_penalties_of_the_models_own_file_change_no_greedy_text_of_plain_batches(tiny, ours, theirs, instances) -> None:
    model = tiny("bloom")
    asked = [(text, STOPS) for text in prompts()]

    def write(engine: Any) -> list[str]:
        return engine.generate_until(instances("generate_until", asked), disable_tqdm=True)

    plain = write(theirs(model))
    model.generation_config.repetition_penalty = 5.0
    with pytest.warns(UserWarning, match="plain batching"):
        assert write(ours(model, batch_size=1)) == plain
    assert model.generation_config.repetition_penalty == 5.0
    assert write(theirs(model)) != plain


def test_texts_that_pass_a_turning_point_are_written_plainly(tiny, ours, theirs, instances) -> None:
    model = tiny("phi3", eos_token_id=None)
    asked = [("Note: red.", STOPS), ("Question: What is blue? " * 6, STOPS), ("Answer:", STOPS | {"max_gen_toks": 46})]
    want = theirs(model).generate_until(instances("generate_until", asked), disable_tqdm=True)
    with pytest.warns(UserWarning, match="longer than 48 tokens"):
        assert ours(model, batch_size=1).generate_until(instances("generate_until", asked)) == want


@pytest.mark.filterwarnings("ignore:plain batching")
def test_each_plain_text_says_its_own_reason(tiny, ours, theirs, instances, written_by) -> None:
    model = tiny("phi3", eos_token_id=None)
    beams, long = STOPS | {"num_beams": 2}, "Question: What is blue? " * 6
    asked = [("Note: red.", STOPS), ("Note: red.", beams), (long, STOPS), ("Answer:", STOPS), ("Answer:", beams)]
    engine = ours(model, batch_size=4)
    got = dict(engine.engine.write(written_by(engine, asked)))
    assert [got[at].text for at in range(5)] == theirs(model, batch_size=1).generate_until(
        instances("generate_until", asked), disable_tqdm=True
    )
    reasons = [got[at].plain for at in range(5)]
    assert reasons[0] == reasons[3] == ""
    assert "num_beams" in reasons[1] and reasons[1] == reasons[4]
    assert "longer than 48 tokens" in reasons[2]


@pytest.fixture(scope="module")
def encoder_decoders(tiny_t5):
    """Name -> (model, tokenizer)."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    t5 = tiny_t5()
    config = BartConfig(
        vocab_size=len(t5.tokenizer), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64, init_std=0.4,
        pad_token_id=0, bos_token_id=0, eos_token_id=1, decoder_start_token_id=1, forced_eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    return {
        "t5": (t5.model, t5.tokenizer),
        "bart": (BartForConditionalGeneration(config).eval(), t5.tokenizer),
    }


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_encoder_decoder_encodes_each_context_once_for_the_same_numbers(
    name, encoder_decoders, ours, theirs, documents, scored_alike
) -> None:
    model, tokenizer = encoder_decoders[name]
    options = {"backend": "seq2seq", "max_length": 30}
    pairs = documents(n=5, vocabulary=len(tokenizer))
    encoded = []
    engine = ours(model, tokenizer, **options)
    # HFLM gives the encoder no mask for its padding where rows are alone, as there is none.
    want = scored_alike(engine, theirs(model, tokenizer, **options), pairs)
    hook = model.get_encoder().register_forward_hook(lambda _, __, out: encoded.append(out[0].shape[0]))
    try:
        again = engine._loglikelihood_tokens([((str(i), ""), *pair) for i, pair in enumerate(pairs)])
    finally:
        hook.remove()
    assert [value for value, _ in again] == pytest.approx([value for value, _ in want], abs=1e-4)
    assert sum(encoded) == len({tuple(context) for context, _ in pairs}) == 5
    assert any(len(context) > 30 for context, _ in pairs)


def test_a_t5_whose_head_is_its_own_keeps_it(ours, theirs, tiny_t5) -> None:
    import torch

    t5 = tiny_t5()
    with torch.no_grad():
        t5.model.lm_head.weight = torch.nn.Parameter(t5.model.lm_head.weight.clone() + 1)
    ours(t5.model, t5.tokenizer, backend="seq2seq", max_length=64)
    assert not torch.equal(t5.model.lm_head.weight, t5.model.shared.weight)
    theirs(t5.model, t5.tokenizer, backend="seq2seq", max_length=64)  # lm-eval's own takes it away.
    assert torch.equal(t5.model.lm_head.weight, t5.model.shared.weight)


def test_an_encoder_decoder_writes_its_texts_in_plain_batches_and_says_so(
    encoder_decoders, ours, theirs, instances
) -> None:
    model, tokenizer = encoder_decoders["t5"]
    asked = [(text, STOPS) for text in ("Question red", "Answer the blue", "Note of the")]
    want = theirs(model, tokenizer, backend="seq2seq", max_length=64).generate_until(
        instances("generate_until", asked), disable_tqdm=True
    )
    engine = ours(model, tokenizer, backend="seq2seq", max_length=64, batch_size=1)
    with pytest.warns(UserWarning, match="an encoder-decoder"):
        assert engine.generate_until(instances("generate_until", asked)) == want
    assert len(set(want)) == 3
