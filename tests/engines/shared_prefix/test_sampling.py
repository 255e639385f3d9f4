"""Drawn texts: reproducible whatever else is computed, and drawn from the distribution that was asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from slmbench.engines.generation_config import own_say

DRAWN = {"do_sample": True, "temperature": 0.9, "max_gen_toks": 8, "until": []}
SHOTS = "Question: What is 2 + 2? Answer: 4.\nQuestion: What is red? Answer: the red one.\n"
PROMPTS = ["Note:", SHOTS + "Question:", SHOTS + "Note:", "Answer: the"]


@pytest.fixture
def drawn(ours, instances):
    """drawn(model, prompts, **options of the engine, settings=) -> the texts, each as often as its prompt is there."""

    def draw(
        model: Any, prompts: list[str], settings: dict[str, Any] | None = None, items: Any = None, **options: Any
    ) -> list[str]:
        arguments = [(prompt, DRAWN | (settings or {})) for prompt in prompts]
        # A stream depends on the item too: each prompt is the same one whatever else is asked.
        items = items or [PROMPTS.index(prompt) if prompt in PROMPTS else 99 for prompt in prompts]
        return ours(model, **options).generate_until(instances("generate_until", arguments, items=items))

    return draw


def four_of_each(prompts: list[str] = PROMPTS) -> list[str]:
    return [prompt for prompt in prompts for _ in range(4)]


@pytest.mark.parametrize("batch", [1, 3, 64, "auto"])
def test_the_batch_changes_no_drawn_text(nano, drawn, batch) -> None:
    want = drawn(nano.model, four_of_each(), batch_size=4)
    assert drawn(nano.model, four_of_each(), batch_size=batch) == want
    assert len(set(want)) > 12


def test_neither_slots_nor_passes_change_a_drawn_text(nano, drawn, cramped, monkeypatch) -> None:
    from slmbench.engines.shared_prefix import _room

    want = drawn(nano.model, four_of_each())
    cramped()
    monkeypatch.setattr(_room, "DECODED_ROWS_CPU", 3)
    assert drawn(nano.model, four_of_each(), kv_budget_bytes=0) == want


def test_one_at_a_time_draws_the_same_texts(nano, drawn) -> None:
    assert drawn(nano.model, four_of_each(), latency=True) == drawn(nano.model, four_of_each())


def test_the_order_of_items_changes_no_drawn_text(nano, drawn) -> None:
    rows = four_of_each()
    want = drawn(nano.model, rows)
    order = np.random.default_rng(0).permutation(len(PROMPTS))
    # Repeats of an item keep their order, as that is what tells them apart.
    moved = [PROMPTS[i] for i in order for _ in range(4)]
    got = drawn(nano.model, moved)
    for place, i in enumerate(order):
        assert got[4 * place : 4 * place + 4] == want[4 * i : 4 * i + 4]


def test_requests_beside_it_change_no_drawn_text(nano, drawn) -> None:
    want = drawn(nano.model, four_of_each())
    for at, prompt in enumerate(PROMPTS):
        assert drawn(nano.model, [prompt] * 4) == want[4 * at : 4 * at + 4]
    more = [*four_of_each(), *["Question: something else"] * 3]
    assert drawn(nano.model, more)[:16] == want


def test_repeats_of_an_item_differ(nano, drawn) -> None:
    texts = drawn(nano.model, ["Note:"] * 12)
    assert len(set(texts)) > 6


def test_fewer_repeats_are_the_first_of_more(nano, drawn) -> None:
    assert drawn(nano.model, ["Note:"] * 3) == drawn(nano.model, ["Note:"] * 9)[:3]


def test_the_seed_decides_what_is_drawn(nano, drawn) -> None:
    rows = four_of_each()
    assert drawn(nano.model, rows, seed=1) == drawn(nano.model, rows, seed=1)
    assert drawn(nano.model, rows, seed=1) != drawn(nano.model, rows, seed=2)


def test_the_global_random_state_neither_matters_nor_changes(nano, drawn) -> None:
    import torch

    torch.manual_seed(1)
    before = torch.get_rng_state()
    want = drawn(nano.model, four_of_each())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert drawn(nano.model, four_of_each()) == want


def test_what_lm_eval_draws_itself_is_reproducible_too(nano, drawn) -> None:
    import torch

    settings = {"typical_p": 0.9, "max_gen_toks": 4}
    rows = ["Note:"] * 3 + ["Answer:"] * 2
    with pytest.warns(UserWarning, match="it is given typical_p"):
        want = drawn(nano.model, rows, settings)
    torch.manual_seed(77)
    with pytest.warns(UserWarning, match="it is given typical_p"):
        assert drawn(nano.model, list(reversed(rows)), settings, batch_size=1) == [*want[3:], *want[:3]]
    assert len(set(want)) > 2


def test_one_candidate_is_the_greedy_one(nano, drawn, ours, instances) -> None:
    greedy = ours(nano.model).generate_until(
        instances("generate_until", [(prompt, {"until": [], "max_gen_toks": 8}) for prompt in PROMPTS])
    )
    assert drawn(nano.model, PROMPTS, {"top_k": 1}) == greedy
    assert drawn(nano.model, PROMPTS, {"top_p": 1e-6}) == greedy
    assert drawn(nano.model, PROMPTS, {"min_p": 1.0}) == greedy
    assert drawn(nano.model, PROMPTS, {"temperature": 1e-4}) == greedy


@pytest.mark.parametrize(
    ("file", "counting"),
    [
        ({"temperature": 0.6, "top_p": 0.9}, {}),
        ({"top_k": 50, "min_p": 0.0}, {}),
        ({"temperature": 0.6, "top_k": 2}, {"top_k": 2}),
        ({"top_k": 0}, {"top_k": 0}),
        ({"repetition_penalty": 4.0}, {"repetition_penalty": 4.0}),
    ],
)
def test_a_models_file_is_said_to_count_just_if_it_changes_what_is_drawn(nano, drawn, file, counting) -> None:
    given = DRAWN | {"top_p": 1.0}
    usual = drawn(nano.model, four_of_each(), given)
    for name, value in file.items():
        setattr(nano.model.generation_config, name, value)
    told = own_say(nano.model.generation_config, given)
    assert {name: value for name, value in told.items() if name != "counts"} == (counting or told_of(file))
    assert (drawn(nano.model, four_of_each(), given) != usual) == told.get("counts", False) == bool(counting)
    assert own_say(nano.model.generation_config, {"do_sample": False}).get("counts", False) is False


def told_of(file: dict[str, float]) -> dict[str, float]:
    """What a record names though it doesn't count."""
    return {name: value for name, value in file.items() if value}


@pytest.fixture
def first_tokens(nano, ours, instances, monkeypatch):
    """first_tokens(n, **settings) -> how often each token was drawn as the first one after "Note:"."""
    from slmbench.engines.shared_prefix import _engine

    def count(n: int, **settings: Any) -> Counter[int]:
        made: list[Any] = []
        real = _engine.Answer

        def answer(*args: Any, **options: Any) -> Any:
            made.append(real(*args, **options))
            return made[-1]

        monkeypatch.setattr(_engine, "Answer", answer)
        arguments = [("Note:", DRAWN | {"max_gen_toks": 1, "top_k": 0} | settings)] * n
        ours(nano.model, batch_size=64).generate_until(instances("generate_until", arguments, items=[0] * n))
        monkeypatch.setattr(_engine, "Answer", real)
        assert len(made) == n
        return Counter(one.tokens[0] for one in made)

    return count


def probabilities(nano: Any, temperature: float) -> Any:
    import torch

    with torch.no_grad():
        logits = nano.model(torch.tensor([nano.tokenizer.encode("Note:")])).logits[0, -1]
    return (logits.double() / temperature).softmax(dim=-1).numpy()


def not_by_chance(counts: Counter[int], expected: Any) -> float:
    """How likely such counts, or ones further off, are under these probabilities; rare tokens are put together."""
    from scipy.stats import chisquare

    n = counts.total()
    often = [token for token in range(len(expected)) if n * expected[token] >= 8]
    observed = [counts[token] for token in often]
    wanted = [n * expected[token] for token in often]
    if n - sum(wanted) > 1e-6:
        observed, wanted = [*observed, n - sum(observed)], [*wanted, n - sum(wanted)]
    assert len(observed) > 2
    return float(chisquare(observed, wanted).pvalue)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_tokens_come_as_often_as_they_are_likely(nano, first_tokens, temperature) -> None:
    counts = first_tokens(2000, temperature=temperature)
    assert not_by_chance(counts, probabilities(nano, temperature)) > 1e-3
    # The test can tell: another temperature would not pass it.
    assert not_by_chance(counts, probabilities(nano, temperature * 1.4)) < 1e-3


def kept(expected: Any, keep: Any) -> Any:
    left = np.where(keep, expected, 0.0)
    return left / left.sum()


def test_top_k_top_p_and_min_p_leave_tokens_out_and_the_rest_as_likely_as_before(nano, first_tokens) -> None:
    expected = probabilities(nano, 3.0)
    order = np.argsort(-expected)
    ahead = np.empty(len(expected))
    ahead[order] = np.cumsum(expected[order]) - expected[order]
    for settings, keep in (
        ({"top_k": 5}, np.isin(np.arange(len(expected)), order[:5])),
        ({"top_p": 0.6}, ahead < 0.6),
        ({"min_p": 0.1}, expected >= 0.1 * expected.max()),
    ):
        assert 2 < keep.sum() < len(expected) / 2
        counts = first_tokens(1000, temperature=3.0, **settings)
        assert set(counts) <= set(np.flatnonzero(keep))
        assert not_by_chance(counts, kept(expected, keep)) > 1e-3


def test_what_the_models_own_file_says_counts_where_tokens_are_drawn(nano, drawn) -> None:
    plain = drawn(nano.model, four_of_each())
    nano.model.generation_config.top_k = 1
    with_file = drawn(nano.model, four_of_each())
    assert with_file != plain
    assert with_file == drawn(nano.model, four_of_each(), {"top_k": 1})


@pytest.mark.filterwarnings("ignore:plain batching")
def test_texts_are_drawn_from_as_many_tokens_as_lm_evals(nano, drawn, theirs, instances) -> None:
    """transformers draws from the 50 likeliest where nobody says how many; ours do, beside others and plainly."""
    settings = {"temperature": 9.0, "max_gen_toks": 1}
    kinds = (settings, settings | {"typical_p": 0.9999}, settings | {"top_k": 0}, settings | {"top_k": 7})
    ours = [len(set(drawn(nano.model, ["Note:"] * 300, kind))) for kind in kinds]
    arguments = [("Note:", DRAWN | settings)] * 300
    hflm = len(set(theirs(nano.model, batch_size=300).generate_until(instances("generate_until", arguments), True)))
    assert 40 < hflm <= 50
    assert 40 < ours[0] <= 50
    assert 40 < ours[1] <= 50
    assert ours[2] > 100
    assert ours[3] == 7


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_a_token_without_probability_is_never_drawn(temperature) -> None:
    import torch

    from slmbench.engines.sampling import _drawn

    scores = torch.full((3, 700), float("-inf"))
    scores[:, [2, 300, 555]] = torch.tensor([0.0, 1.0, 2.0])
    for draw in (0.0, 0.5, 0.999999999999, 1.0 - 2**-53):
        assert set(_drawn(scores.clone(), [draw] * 3, temperature or 1.0)) <= {2, 300, 555}
    assert _drawn(scores.clone(), [0.0] * 3) == [2, 2, 2]
    assert _drawn(scores.clone(), [1.0 - 2**-53] * 3) == [555, 555, 555]
