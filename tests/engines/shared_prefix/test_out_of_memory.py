"""Memory that runs out: the batch is halved, what is there is kept, and nothing is lost or told twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from slmbench.errors import SlmbenchError

CPU_WORDS = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 123"


def errors() -> list[Exception]:
    import torch

    return [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(CPU_WORDS), MemoryError()]


@pytest.fixture
def told():
    """told(engine) -> a counter of the answers that it hands to its cache hook."""

    def listen(engine: Any) -> Counter[Any]:
        counts: Counter[Any] = Counter()

        class Hook:
            def add_partial(self, kind: str, args: Any, answer: Any) -> None:
                counts[kind, str(args)] += 1

        engine.cache_hook = Hook()
        return counts

    return listen


@pytest.fixture
def too_small(monkeypatch):
    """too_small(most_tokens, error) -> a list of the tokens of passes that were refused from then on."""
    from slmbench.engines.shared_prefix import _decoding, _scoring

    def shrink(most_tokens: int, error: Exception) -> list[int]:
        refused: list[int] = []
        real = _scoring.hidden_states

        def hidden_states(core: Any, one: Any, first: Any = (), *more: Any) -> Any:
            tokens = len(first) + sum(map(len, one.segments))
            if tokens > most_tokens:
                refused.append(tokens)
                raise error
            return real(core, one, first, *more)

        monkeypatch.setattr(_scoring, "hidden_states", hidden_states)
        monkeypatch.setattr(_decoding, "hidden_states", hidden_states)
        return refused

    return shrink


PROMPTS = [f"Question: What is {word}? Answer:" for word in ("red", "blue", "2 + 2", "12 - 4", "the", "a note")]
WRITE = {"until": [], "max_gen_toks": 6}


@pytest.mark.parametrize("which", range(3))
def test_scoring_goes_on_with_half_and_tells_each_answer_once(
    which, nano, ours, theirs, instances, told, too_small, small_segments
) -> None:
    small_segments()  # A segment is never parted, however little memory there is.
    arguments = [(prompt, f" {letter} one") for prompt in PROMPTS for letter in "ABC"]
    want = theirs(nano.model).loglikelihood(instances("loglikelihood", arguments), disable_tqdm=True)
    engine = ours(nano.model, batch_size=16)
    assert engine.engine.room.ability.reason == ""
    refused, counts = too_small(60, errors()[which]), told(engine)
    got = engine.loglikelihood(instances("loglikelihood", arguments))
    assert [value for value, _ in got] == pytest.approx([value for value, _ in want], abs=1e-4)
    assert [greedy for _, greedy in got] == [greedy for _, greedy in want]
    assert refused
    assert set(counts.values()) == {1}
    assert len(counts) == len(arguments)
    # What was too much once is not tried again.
    before = len(refused)
    engine.loglikelihood(instances("loglikelihood", arguments))
    assert len(refused) == before


@pytest.mark.parametrize("which", range(3))
def test_writing_goes_on_with_half_and_tells_each_text_once(
    which, nano, ours, theirs, instances, told, too_small
) -> None:
    arguments = [(prompt, WRITE) for prompt in PROMPTS]
    want = theirs(nano.model).generate_until(instances("generate_until", arguments), disable_tqdm=True)
    engine = ours(nano.model, batch_size=16)
    assert engine.engine.room.ability.reason == ""
    refused, counts = too_small(40, errors()[which]), told(engine)
    assert engine.generate_until(instances("generate_until", arguments)) == want
    assert refused
    assert set(counts.values()) == {1}
    assert len(counts) == len(arguments)


def test_memory_that_runs_out_in_the_middle_loses_no_text(nano, ours, theirs, instances, told, monkeypatch) -> None:
    from slmbench.engines.shared_prefix import _decoding

    arguments = [(prompt, WRITE | {"max_gen_toks": 2 + at}) for at, prompt in enumerate(PROMPTS)]
    want = theirs(nano.model).generate_until(instances("generate_until", arguments), disable_tqdm=True)
    engine = ours(nano.model, batch_size=16)
    assert engine.engine.room.ability.reason == ""
    real, steps, counts = _decoding.hidden_states, [], told(engine)

    def hidden_states(*args: Any) -> Any:
        steps.append(1)
        if len(steps) in (4, 7):  # Some texts are done by then.
            assert 0 < len(counts) < len(arguments)
            raise RuntimeError(CPU_WORDS)
        return real(*args)

    monkeypatch.setattr(_decoding, "hidden_states", hidden_states)
    assert engine.generate_until(instances("generate_until", arguments)) == want
    assert len(steps) > 7
    assert set(counts.values()) == {1}
    assert len(counts) == len(arguments)


def test_drawn_texts_are_the_same_after_memory_ran_out(nano, ours, instances, too_small) -> None:
    arguments = [(prompt, WRITE | {"do_sample": True, "temperature": 1.0}) for prompt in PROMPTS for _ in range(3)]
    items = [at // 3 for at in range(len(arguments))]

    def draw(engine: Any) -> list[str]:
        return engine.generate_until(instances("generate_until", arguments, items=items))

    engine, other = ours(nano.model, batch_size=16), ours(nano.model, batch_size=16)
    assert other.engine.room.ability.reason == ""
    want = draw(engine)
    refused = too_small(30, RuntimeError(CPU_WORDS))
    assert draw(other) == want
    assert refused


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until"])
def test_memory_that_holds_not_even_one_row_is_an_error(kind, which, nano, ours, instances, too_small) -> None:
    engine = ours(nano.model, batch_size=4)
    assert engine.engine.room.ability.reason == ""
    too_small(3, errors()[which])
    arguments = [(prompt, " red" if kind == "loglikelihood" else WRITE) for prompt in PROMPTS]
    with pytest.raises(SlmbenchError, match="memory ran out with a single row"):
        getattr(engine, kind)(instances(kind, arguments))


@pytest.mark.parametrize("kind", ["loglikelihood", "generate_until"])
def test_other_errors_of_the_model_are_not_swallowed(kind, nano, ours, instances, too_small) -> None:
    engine = ours(nano.model, batch_size=4)
    assert engine.engine.room.ability.reason == ""
    refused = too_small(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    arguments = [(prompt, " red" if kind == "loglikelihood" else WRITE) for prompt in PROMPTS]
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        getattr(engine, kind)(instances(kind, arguments))
    assert len(refused) == 1


def test_plain_batches_are_halved_too(tiny, ours, theirs, documents, scored_alike, monkeypatch) -> None:
    model = tiny("bloom")
    pairs = documents(n=4)
    engine, other = ours(model, batch_size=8), theirs(model)
    real, refused = type(other)._model_call, []

    def call(self: Any, inps: Any, *args: Any, **options: Any) -> Any:
        if inps.shape[0] > 2:
            refused.append(inps.shape[0])
            raise RuntimeError(CPU_WORDS)
        return real(self, inps, *args, **options)

    monkeypatch.setattr(type(other), "_model_call", call)
    with pytest.warns(UserWarning, match="plain batching"):
        scored_alike(engine, other, pairs)
    assert refused == [8, 4]
