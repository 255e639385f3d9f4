"""Requests of texts: odd ones get HFLM's answer where it has one, the others an error that says whose they are."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from slmbench.errors import DataError, UsageError

SHOTS = "Question: What is 2 + 2? Answer: 4.\nQuestion: What is red? Answer: the red one.\n"
WHOSE = r"task 'odd', item 7\b"


@pytest.fixture
def alike(ours, theirs, instances):
    """alike(model, pairs of texts, tokenizer=None, **options) -> HFLM's answers, which ours are asserted to be."""

    def check(model: Any, pairs: list[tuple[str, str]], tokenizer: Any = None, **options: Any) -> list[Any]:
        want = theirs(model, tokenizer, **options).loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
        got = ours(model, tokenizer, **options).loglikelihood(instances("loglikelihood", pairs))
        assert [value for value, _ in got] == pytest.approx([value for value, _ in want], abs=1e-4)
        assert [greedy for _, greedy in got] == [greedy for _, greedy in want]
        return want

    return check


@pytest.fixture
def refused(ours, instances):
    """refused(kind, model, args, tokenizer=None, **options): asserts a DataError that names the request among others,
    and returns what it says."""

    def check(kind: str, model: Any, args: tuple[Any, ...], tokenizer: Any = None, **options: Any) -> str:
        good = {"loglikelihood": ("Note:", " red"), "generate_until": ("Note:", {"max_gen_toks": 2, "until": []})}
        sound = good.get(kind, ("Note: red",))
        requests = instances(kind, [sound, args, sound], task="odd", items=[6, 7, 8])
        with pytest.raises(DataError, match=WHOSE) as caught:
            getattr(ours(model, tokenizer, **options), kind)(requests)
        return str(caught.value)

    return check


def questions() -> list[tuple[str, str]]:
    asked = ("What is 3 + 4?", "What is blue?", "What is the note?", "What is 12 - 4?")
    return [(f"{SHOTS}Question: {one} Answer:", f" {choice}") for one in asked for choice in ("7", "red", "the note.")]


def test_documents_that_share_shots_score_as_lm_evals(nano, alike) -> None:
    assert len({value for value, _ in alike(nano.model, questions())}) == 12


def test_the_real_model_scores_as_lm_eval_has_it(stories, alike) -> None:
    pairs = [
        ("Once upon a time", rest) for rest in (" there was a little girl", ", there was a big dog", " in the zoo")
    ]
    pairs += [("Once upon", " a time"), ("Lily likes to", " play"), ("Lily likes to", " eat")]
    assert {greedy for _, greedy in alike(stories.model, pairs, stories.tokenizer)} == {False, True}


@pytest.mark.parametrize("n", [2, 5])
def test_choices_of_one_token_are_read_from_one_position(nano, alike, n, ours, instances, monkeypatch) -> None:
    from slmbench.engines.shared_prefix._head import Head

    pairs = [(f"{SHOTS}Question: {at}? Answer:", f" {letter}") for at in range(n) for letter in "ABCD"]
    assert {len(nano.tokenizer.tokenize(rest)) for _, rest in pairs} == {1}
    alike(nano.model, pairs)
    rows, real = [], Head.log_probabilities

    def count(self: Any, hidden: Any, *asked: Any) -> Any:
        rows.append(len(hidden))
        return real(self, hidden, *asked)

    engine = ours(nano.model)
    assert engine.engine.room.ability.reason == ""
    monkeypatch.setattr(Head, "log_probabilities", count)
    engine.loglikelihood(instances("loglikelihood", pairs))
    assert sum(rows) == n


def test_a_choice_that_begins_another_and_duplicates_score_as_lm_evals(nano, alike) -> None:
    pairs = [("Answer:", rest) for rest in (" the", " the red", " the red one", " the", " the red")]
    values = [value for value, _ in alike(nano.model, pairs + pairs)]
    assert values[0] == values[3] == values[5]
    assert values[0] > values[1] > values[2]


def test_white_space_at_the_end_of_a_context_belongs_to_the_continuation(nano, alike) -> None:
    alike(nano.model, [("Answer: ", "red"), ("Answer:", " red"), ("Answer:\n\n", "red"), ("Answer:  ", " 12")])


@pytest.mark.parametrize("most", [8, 20])
def test_what_is_longer_than_the_window_loses_its_beginning_as_lm_evals(nano, alike, most) -> None:
    whole = [value for value, _ in alike(nano.model, questions())]
    cut = [value for value, _ in alike(nano.model, questions(), max_length=most)]
    assert cut != pytest.approx(whole, abs=1e-2)


def test_a_continuation_that_fills_the_window_is_scored(nano, alike) -> None:
    rest = " the red one and the note"
    n = len(nano.tokenizer.tokenize(rest))
    alike(nano.model, [("Note:", rest), ("Question: What is", rest)], max_length=n)


def test_a_continuation_longer_than_the_window_is_an_error(nano, refused) -> None:
    rest = " the red one and the note"
    n = len(nano.tokenizer.tokenize(rest))
    said = refused("loglikelihood", nano.model, ("Note:", rest), max_length=n - 1)
    assert f"{n} tokens" in said and f"window is {n - 1}" in said


def test_an_empty_continuation_is_an_error(nano, refused) -> None:
    assert "empty" in refused("loglikelihood", nano.model, ("Note:", ""))
    assert "empty" in refused("loglikelihood", nano.model, ("", ""))


def test_a_continuation_that_melts_into_the_context_is_an_error(nano, refused) -> None:
    vocabulary = nano.tokenizer.get_vocab()
    whole = next(
        token for token in sorted(vocabulary) if token[0] == "Ġ" and len(token) > 3 and token[:-1] in vocabulary
    )
    context, continuation = f"Note:{whole[:-1]}".replace("Ġ", " "), whole[-1]
    assert len(nano.tokenizer.encode(context)) == len(nano.tokenizer.encode(context + continuation))
    assert "melts it into the context" in refused("loglikelihood", nano.model, (context, continuation))


def test_an_empty_context_is_the_token_that_stands_for_it(nano, stories, alike) -> None:
    alike(nano.model, [("", " the red"), ("", "Note"), ("Note", ":")])
    alike(stories.model, [("", "Once upon a time"), ("Once", " upon")], stories.tokenizer)


def test_an_empty_context_before_a_text_that_begins_with_that_token_is_not_doubled(nano, alike) -> None:
    end = nano.tokenizer.eos_token
    pairs = [("", f"{end} the red"), ("", " the red")]
    assert len({round(value, 3) for value, _ in alike(nano.model, pairs)}) == 1


@pytest.fixture
def bytes_model(tiny):
    return tiny("llama", vocab_size=260)


def test_an_empty_context_without_any_token_for_it_is_an_error(bytes_model, byte_tokenizer, ours, instances) -> None:
    requests = instances("loglikelihood", [("", " red")], "odd", [7])
    with pytest.raises(DataError, match=f"{WHOSE}.*neither BOS nor EOS"):
        ours(bytes_model, byte_tokenizer()).loglikelihood(requests)


@pytest.mark.parametrize(
    "kind",
    [
        "loglikelihood",
        "loglikelihood_rolling",
        "generate_until",
    ],
)
def test_a_tokenizer_without_bos_and_eos_is_told_of_or_does(kind, bytes_model, byte_tokenizer, ours, instances) -> None:
    """HFLM stops with a TypeError of the tokenizer's: if there is no answer, whose request it was is said."""
    second = {"loglikelihood": (" red",), "generate_until": ({"max_gen_toks": 2},), "loglikelihood_rolling": ()}[kind]
    requests = instances(kind, [("Note:", *second)], "odd", [7])
    try:
        assert len(getattr(ours(bytes_model, byte_tokenizer()), kind)(requests)) == 1
    except DataError as error:
        assert "task 'odd', item 7" in str(error)


@pytest.mark.parametrize("names", [{"bos": "<s>"}, {"eos": "</s>"}, {"bos": "<s>", "eos": "</s>", "adds_bos": True}])
def test_tokenizers_that_lack_some_token_score_as_with_lm_eval(bytes_model, byte_tokenizer, alike, names) -> None:
    pairs = [("Note:", " red"), ("Note:", " blue"), ("", "Note")]
    assert len(set(alike(bytes_model, pairs, byte_tokenizer(**names)))) == 3


def test_a_context_of_white_space_is_lm_evals_where_the_tokenizer_puts_a_token_first(
    bytes_model, byte_tokenizer, alike
) -> None:
    alike(bytes_model, [("  ", "red"), ("\n", "red")], byte_tokenizer(bos="<s>", eos="</s>", adds_bos=True))


def test_a_context_of_white_space_that_is_no_token_is_an_error(nano, refused) -> None:
    said = refused("loglikelihood", nano.model, (" \n", "red"))
    assert "has no tokens" in said


def test_a_token_that_the_model_has_no_embedding_of_is_an_error(tiny, nano_tokenizer, refused) -> None:
    tokenizer = copy.deepcopy(nano_tokenizer)
    tokenizer.add_tokens(["<new>"])
    said = refused("loglikelihood", tiny("llama"), ("Note:", "<new>"), tokenizer)
    assert "token 1024" in said and "1024 of them" in said
    said = refused("generate_until", tiny("llama"), ("<new>", {"max_gen_toks": 2}), tokenizer)
    assert "token 1024" in said
    assert "token 1024" in refused("loglikelihood_rolling", tiny("llama"), ("Note <new>",), tokenizer)


@pytest.mark.parametrize("more", [0, 1])
def test_a_text_that_leaves_no_room_for_its_prompt_is_an_error(nano, refused, more) -> None:
    said = refused("generate_until", nano.model, ("Note:", {"until": [], "max_gen_toks": 16 + more}), max_length=16)
    assert f"{16 + more} tokens" in said and "16" in said


def test_an_empty_prompt_of_no_token_is_an_error(nano, refused) -> None:
    assert "has no tokens" in refused("generate_until", nano.model, ("", {"until": [], "max_gen_toks": 2}))


def test_drawing_at_temperature_zero_is_an_error(nano, ours, instances) -> None:
    requests = instances("generate_until", [("Note:", {"do_sample": True, "temperature": 0.0})], "odd", [7])
    with pytest.raises(UsageError, match=WHOSE):
        ours(nano.model).generate_until(requests)


def test_a_budget_below_zero_is_an_error(nano, ours) -> None:
    for budget in (-1, float("nan")):
        with pytest.raises(UsageError, match="kv_budget_bytes"):
            ours(nano.model, kv_budget_bytes=budget)


@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling", "generate_until"])
def test_no_request_has_no_answer(kind, nano, ours) -> None:
    assert getattr(ours(nano.model), kind)([]) == []
    assert getattr(ours(nano.model, latency=True), kind)([]) == []


@pytest.mark.parametrize("most", [None, 7])
def test_rolling_log_likelihoods_are_lm_evals_own(nano, ours, theirs, instances, most) -> None:
    # Longer than the window, as long, shorter, one token, none, equal ones.
    texts = [(SHOTS * 2,), ("the" + " the" * 6,), ("Note:",), ("N",), ("",), (SHOTS * 2,), (SHOTS + "Note",)]
    options = {} if most is None else {"max_length": most}
    want = theirs(nano.model, **options).loglikelihood_rolling(
        instances("loglikelihood_rolling", texts), disable_tqdm=True
    )
    got = ours(nano.model, **options).loglikelihood_rolling(instances("loglikelihood_rolling", texts))
    assert got == pytest.approx(want, abs=5e-4)  # A text has many windows, each within 1e-4.
    assert got[4] == 0
    assert got[0] == got[5] < -50


def test_each_answer_is_handed_over_once(nano, ours, instances) -> None:
    told: list[Any] = []
    engine = ours(nano.model, batch_size=2)
    engine.cache_hook = type("Hook", (), {"add_partial": lambda _, *answer: told.append(answer)})()
    scored = engine.loglikelihood(instances("loglikelihood", questions()))
    assert sorted(told) == sorted(("loglikelihood", pair, one) for pair, one in zip(questions(), scored, strict=True))
    told.clear()
    rolled = engine.loglikelihood_rolling(instances("loglikelihood_rolling", [("Note: red",), ("N",)]))
    assert told == [
        ("loglikelihood_rolling", (text,), one) for text, one in zip(("Note: red", "N"), rolled, strict=True)
    ]


def test_one_item_at_a_time_is_scored_and_written_the_same(nano, ours, instances) -> None:
    plain, single = ours(nano.model), ours(nano.model, latency=True)
    items = [at // 3 for at in range(12)]
    told: list[Any] = []
    single.cache_hook = type("Hook", (), {"add_partial": lambda _, *answer: told.append(answer)})()
    want = plain.loglikelihood(instances("loglikelihood", questions(), items=items))
    got = single.loglikelihood(instances("loglikelihood", questions(), items=items))
    assert [value for value, _ in got] == pytest.approx([value for value, _ in want], abs=1e-4)
    assert len(told) == 12  # What warmed up was told to nobody.
    asked = [(context, {"until": ["."], "max_gen_toks": 5}) for context, _ in questions()[::3]]
    assert single.generate_until(instances("generate_until", asked)) == plain.generate_until(
        instances("generate_until", asked)
    )
    assert len(told) == 16


def test_a_context_is_encoded_once_for_its_choices(nano, ours, instances, monkeypatch) -> None:
    engine, encoded = ours(nano.model), []
    real = type(engine.tokenizer).encode

    def count(self: Any, text: str, **options: Any) -> Any:
        encoded.append(text)
        return real(self, text, **options)

    monkeypatch.setattr(type(engine.tokenizer), "encode", count)
    pairs = [(f"Question {at}:", rest) for at in range(3) for rest in (" red", " blue", " green", " the")]
    found = engine.encoded_pairs(instances("loglikelihood", pairs))
    assert len(encoded) == len(set(encoded)) == 15
    found[-1].context.append(7)  # What was handed out is the caller's.
    again = engine.encoded_pairs(instances("loglikelihood", pairs))
    assert [one.context for one in again[:-1]] == [one.context for one in found[:-1]]
    assert again[-1].context != found[-1].context
