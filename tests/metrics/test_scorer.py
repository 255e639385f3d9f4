"""What holds for scorers whatever they measure."""

from __future__ import annotations

import attrs
import pytest

from slmbench.metrics import load_scorer, metric_names
from slmbench.registry import Registry, marked, metric
from slmbench.values import Example, Output


def _example(**changes) -> Example:
    return attrs.evolve(Example(id="row 7", fields={}, answer="18"), **changes)


def test_an_example_without_references_is_held_against_its_answer() -> None:
    score = load_scorer("exact_match").score
    assert score(_example(), Output(text="18")) == {"exact_match": 1.0}
    assert score(_example(references=("19",)), Output(text="18")) == {"exact_match": 0.0}


def test_chance_of_a_choice_is_one_in_the_number_of_options() -> None:
    assert load_scorer("accuracy").chance(_example(choices=("a", "b", "c", "d"), gold=0)) == 0.25
    assert load_scorer("accuracy_norm").chance(_example(choices=("a", "b"), gold=0)) == 0.5


def test_text_has_no_chance_level() -> None:
    assert load_scorer("exact_match").chance(_example(choices=("a", "b"), gold=0)) is None
    assert load_scorer("accuracy").chance(_example()) is None


def test_an_item_that_can_not_be_scored_is_named() -> None:
    with pytest.raises(ValueError, match="example 'row 7': has no gold"):
        load_scorer("accuracy").score(_example(choices=("a", "b")), Output(loglikelihoods=(-1.0, -2.0)))
    with pytest.raises(ValueError, match="example 'row 7': no number in the reference 'none'"):
        load_scorer("exact_match/decimal").score(_example(references=("none",)), Output(text="18"))


def test_a_scorer_of_ones_own_is_a_function_and_a_name() -> None:
    @metric("letters", summary="Share of a reference's letters that appear.", version="1")
    def shared_letters(prediction: str, references) -> float:
        return max(len(set(prediction) & set(reference)) / len(set(reference)) for reference in references)

    entries = marked({"letters": shared_letters}, __file__, shared_letters.__module__)
    scorer = load_scorer("letters", Registry(entries))
    assert scorer.version.startswith("1-")
    assert scorer.score(_example(references=("ab", "cd")), Output(text="a")) == {"letters": 0.5}


def test_only_rates_of_success_are_binary() -> None:
    assert load_scorer("exact_match/strict").binary
    assert load_scorer("accuracy").binary
    assert not load_scorer("rouge").binary


def test_scorers_are_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        load_scorer("rouge").version = "2"


def test_metrics_that_find_the_marked_answer_themselves_say_so() -> None:
    whole = {name for name in metric_names() if load_scorer(name).reads_whole}
    assert whole == {"exact_match/strict", "exact_match/flexible", "exact_match/decimal"}


def test_parts_and_pool_come_together() -> None:
    for scorer in map(load_scorer, metric_names()):
        assert scorer.pooled == (scorer.parts is not None)
    assert {name for name in metric_names() if load_scorer(name).pooled} == {"codes_f1", "macro_f1"}


def test_kinds_say_what_an_output_must_hold() -> None:
    kinds = {name: load_scorer(name).kind for name in metric_names()}
    assert {name for name, kind in kinds.items() if kind == "code"} == {"pass@1", "pass@10"}
    choice = {"accuracy", "accuracy_norm", "accuracy_bytes", "macro_f1", "bits_per_byte"}
    assert {name for name, kind in kinds.items() if kind == "choice"} == choice
    assert {name for name, kind in kinds.items() if kind == "target"} == {"target_bits_per_byte"}


def test_scores_of_many_are_the_scores_of_each() -> None:
    scorer = load_scorer("squad")
    items = [(_example(references=(gold,)), Output(text="a cat")) for gold in ("cat", "dog", "black cat")]
    assert scorer.scores(items) == [scorer.score(*item) for item in items]
