"""Pooled F1 of codes and classes, with scikit-learn as the judge."""

from __future__ import annotations

import json
import random

import pytest

from slmbench.metrics import load_scorer
from slmbench.metrics.codes import read_codes
from slmbench.statistics.pooling import LabelF1, count_labels
from slmbench.values import Example, Output


def _example(references: tuple[str, ...] = (), **changes) -> Example:
    return Example(id="row 5", fields={}, answer="", references=references, **changes)


@pytest.mark.parametrize(
    ("text", "codes", "others"),
    [
        ("E11.9, i10;401.9\nV45.81 0389", {"E119", "I10", "4019", "V4581", "0389"}, ()),
        ("E119,e11.9", {"E119"}, ()),
        ("", set(), ()),
        (" ,; \n", set(), ()),
        ("The codes are: (E11.9), **I50**.", {"E119", "I50"}, ("The", "codes", "are:")),
        ("1. E11.9\n2. I10", {"E119", "I10"}, ("1.", "2.")),
        ("0DTJ4ZZ", {"0DTJ4ZZ"}, ()),
        ("ABC E1199999999 É11", set(), ("ABC", "E1199999999", "É11")),
    ],
)
def test_codes_are_read_without_dots_and_case(text: str, codes: set[str], others: tuple[str, ...]) -> None:
    assert read_codes(text) == (frozenset(codes), others)


def test_codes_f1_equals_scikit_learn_on_random_sets() -> None:
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    scorer = load_scorer("codes_f1")
    for seed in range(60):
        rng = random.Random(seed)
        names = [f"{rng.choice('EIJV')}{i:02}.{i % 7}" for i in range(rng.randint(2, 30))]
        drawn = [
            [rng.sample(names, rng.randint(0, min(len(names), 6))) for _ in range(2)] for _ in range(rng.randint(1, 40))
        ]
        if not any(any(pair) for pair in drawn):
            continue
        binarizer = MultiLabelBinarizer().fit([codes for pair in drawn for codes in pair])
        gold = binarizer.transform([pair[0] for pair in drawn])
        predicted = binarizer.transform([pair[1] for pair in drawn])
        parts = [
            scorer.parts(
                _example((", ".join(gold),)), Output(text="; ".join(code.replace(".", "").lower() for code in got))
            )
            for gold, got in drawn
        ]
        # Parts travel through samples.jsonl.
        assert scorer.pool(json.loads(json.dumps(parts))) == pytest.approx(
            {
                f"codes_f1/{average}": f1_score(gold, predicted, average=average, zero_division=0)
                for average in ("micro", "macro")
            },
            abs=1e-12,
        )


def test_macro_f1_equals_scikit_learn_on_random_answers() -> None:
    from sklearn.metrics import f1_score

    scorer = load_scorer("macro_f1")
    for seed in range(60):
        rng = random.Random(seed)
        classes = ["yes", "no", "maybe", "unclear", "é"][: rng.randint(2, 5)]
        gold, predicted, parts = [], [], []
        for _ in range(rng.randint(1, 50)):
            # In another order each time: a class is its text, not its place.
            choices = tuple(rng.sample(classes, len(classes)))
            loglikelihoods = [rng.uniform(-9, 0) for _ in choices]
            gold.append(rng.choice(choices))
            predicted.append(choices[loglikelihoods.index(max(loglikelihoods))])
            example = _example(choices=choices, gold=choices.index(gold[-1]))
            parts.append(scorer.parts(example, Output(loglikelihoods=tuple(loglikelihoods))))
        theirs = f1_score(gold, predicted, average="macro", zero_division=0)
        assert scorer.pool(json.loads(json.dumps(parts))) == pytest.approx({"macro_f1": theirs}, abs=1e-12)


def test_a_pooled_score_is_the_pool_of_one_item() -> None:
    scorer = load_scorer("codes_f1")
    assert scorer.pooled
    assert not load_scorer("squad").pooled
    example, output = _example(("E11.9, I10",)), Output(text="I10, I50, J45")
    assert scorer.score(example, output) == pytest.approx({"codes_f1/micro": 2 / 5, "codes_f1/macro": 1 / 4})
    assert scorer.score(example, output) == scorer.pool([scorer.parts(example, output)])


def test_nothing_found_where_nothing_is_scores_zero() -> None:
    assert load_scorer("codes_f1").score(_example(("",)), Output()) == {"codes_f1/micro": 0.0, "codes_f1/macro": 0.0}
    assert LabelF1(micro="a", macro="b")([]) == {"a": 0.0, "b": 0.0}


def test_several_references_are_one_list_of_codes() -> None:
    assert load_scorer("codes_f1").score(_example(("E11.9", "I10")), Output(text="I10 E119"))["codes_f1/micro"] == 1.0


def test_words_that_are_no_codes_are_counted_in_the_remarks_and_refused_in_the_gold() -> None:
    scorer = load_scorer("codes_f1")
    assert scorer.remarks(_example(("I10",)), Output(text="It is I10")) == {"words that are no ICD codes": 2}
    assert scorer.remarks(_example(("I10",)), Output(text="I10")) == {}
    with pytest.raises(ValueError, match="example 'row 5': 'hypertension' in the reference"):
        scorer.parts(_example(("hypertension",)), Output(text="I10"))


def test_a_class_item_that_can_not_be_scored_is_named() -> None:
    parts = load_scorer("macro_f1").parts
    with pytest.raises(ValueError, match="example 'row 5': has no gold"):
        parts(_example(choices=("a", "b")), Output(loglikelihoods=(-1.0, -2.0)))
    with pytest.raises(ValueError, match="example 'row 5': got 2 log-likelihoods for 0 options"):
        parts(_example(gold=0), Output(loglikelihoods=(-1.0, -2.0)))


def test_leaving_out_groups_equals_pooling_the_rest() -> None:
    rng = random.Random(8)
    pool = LabelF1(micro="micro", macro="macro")
    labels = [f"l{i}" for i in range(9)]
    parts = [
        count_labels(rng.sample(labels, rng.randint(0, 3)), rng.sample(labels, rng.randint(0, 3))) for _ in range(30)
    ]
    groups = [[0], [1, 2, 3], list(range(4, 30)), list(range(30))]
    for group, left in zip(groups, pool.leave_out(parts, groups), strict=True):
        assert left == pytest.approx(pool([part for i, part in enumerate(parts) if i not in group]), abs=1e-12)
