"""The scorers as evaluate.Metric: offline, composable, and loud about input that has no mean."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slmbench.metrics import load_metric, load_scorer, metric_names
from slmbench.metrics._evaluate import as_evaluate_metric


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_EVALUATE_OFFLINE", "1")
        yield


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_is_an_evaluate_metric(name: str) -> None:
    import evaluate

    metric = load_metric(name)
    assert isinstance(metric, evaluate.Metric)
    assert metric.name == name.replace("/", "_").replace("@", "_at")
    assert metric.description == load_scorer(name).description
    assert "predictions" in metric.inputs_description


def test_result_is_the_mean_over_items() -> None:
    metric = load_metric("exact_match/strict")
    result = metric.compute(predictions=["#### 1", "#### 2", "no", "#### 4"], references=["1", "2", "3", "5"])
    assert result == {"exact_match/strict": 0.5}


def test_references_may_be_lists_and_may_mix_with_texts() -> None:
    metric = load_metric("exact_match")
    assert metric.compute(predictions=["a", "b"], references=[["x", "a"], ["b"]]) == {"exact_match": 1.0}
    # A text is one reference, not a list of its letters.
    assert metric.compute(predictions=["a", "b"], references=[["a"], "bc"]) == {"exact_match": 0.5}
    assert metric.compute(predictions=["a", "b"], references=["a", ["c", "b"]]) == {"exact_match": 1.0}


def test_rouge_is_the_mean_of_each_value() -> None:
    from slmbench.metrics.rouge import rouge

    predictions, references = ["a cat sat", "b c"], [["the cat sat", "a dog"], ["c b"]]
    items = [rouge(*pair) for pair in zip(predictions, references, strict=True)]
    expected = {name: (items[0][name] + items[1][name]) / 2 for name in items[0]}
    assert load_metric("rouge").compute(predictions=predictions, references=references) == pytest.approx(expected)


def test_accuracy_norm_reads_the_choices() -> None:
    items = {"predictions": [[-2.0, -3.0], [-1.0, -4.0, -5.0]], "references": [1, 0]}
    choices = [["a", "bbb"], ["a", "b", "c"]]
    assert load_metric("accuracy").compute(**items) == {"accuracy": 0.5}
    assert load_metric("accuracy_norm").compute(**items, choices=choices) == {"accuracy_norm": 1.0}
    with pytest.raises(ValueError, match="choices"):
        load_metric("accuracy_norm").compute(**items)


def test_items_added_one_by_one_or_in_batches_count_alike() -> None:
    metric = load_metric("exact_match")
    metric.add(prediction="a", reference="a")
    metric.add(prediction="b", reference=["x", "b"])
    assert metric.compute() == {"exact_match": 1.0}
    metric.add_batch(predictions=["a"], references=["a"])
    metric.add_batch(predictions=["a", "b", "c"], references=[["b"], "c", "d"])
    assert metric.compute() == {"exact_match": 0.25}


def test_text_metrics_compose_with_combine() -> None:
    import evaluate

    names = ["exact_match/strict", "exact_match/decimal", "rouge"]
    combined = evaluate.combine([load_metric(name) for name in names])
    result = combined.compute(predictions=["#### 5.0"], references=["#### 5"])
    assert list(result) == ["exact_match/strict", "exact_match/decimal", "rouge1", "rouge2", "rougeL", "rougeLsum"]
    assert (result["exact_match/strict"], result["exact_match/decimal"]) == (0.0, 1.0)


def test_choice_metrics_compose_though_only_one_reads_the_choices() -> None:
    import evaluate

    combined = evaluate.combine([load_metric("accuracy"), load_metric("accuracy_norm")])
    result = combined.compute(predictions=[[-2.0, -3.0]], references=[1], choices=[["a", "bbb"]])
    assert result == {"accuracy": 0.0, "accuracy_norm": 1.0}


def test_options_meant_for_a_neighbour_in_combine_are_ignored() -> None:
    import evaluate

    combined = evaluate.combine([load_metric("exact_match")])
    assert combined.compute(predictions=["a"], references=["a"], average="macro") == {"exact_match": 1.0}


def test_clashing_values_get_the_metrics_name() -> None:
    import evaluate

    combined = evaluate.combine({"first": load_metric("exact_match"), "second": load_metric("exact_match")})
    result = combined.compute(predictions=["a"], references=["a"])
    assert result == {"first_exact_match": 1.0, "second_exact_match": 1.0}


def test_pooled_metrics_pool_over_all_items() -> None:
    # Of three codes two are found and one is made up: 4 / 6. By item it would be (1 + 0.5) / 2.
    texts = {"predictions": ["E11.9", "I10, I50"], "references": ["e119", "I10"]}
    result = load_metric("codes_f1").compute(**texts)
    assert result == pytest.approx({"codes_f1/micro": 4 / 5, "codes_f1/macro": 2 / 3})
    metric = load_metric("macro_f1")
    for gold in (0, 0, 1):
        metric.add(prediction=[-1.0, -2.0], reference=gold, choices=["yes", "no"])
    assert metric.compute() == pytest.approx({"macro_f1": (4 / 5 + 0) / 2})


def test_pass_at_k_takes_verdicts_or_truth_values_and_no_references() -> None:
    import evaluate
    import numpy as np

    samples = [["passed", "died", "failed"], [True, True, False], list(np.array([False, False, False]))]
    assert load_metric("pass@1").compute(predictions=samples) == pytest.approx({"pass@1": (1 / 3 + 2 / 3 + 0) / 3})
    combined = evaluate.combine([load_metric("pass@1"), load_metric("pass@2")])
    assert combined.compute(predictions=samples) == pytest.approx({"pass@1": 1 / 3, "pass@2": (2 / 3 + 1 + 0) / 3})
    metric = load_metric("pass@1")
    metric.add(prediction=[True])
    assert metric.compute() == {"pass@1": 1.0}
    with pytest.raises(ValueError, match="example '1': unknown verdict 'ok'"):
        metric.compute(predictions=[["passed"], ["ok"]])


def test_all_text_metrics_compose() -> None:
    import evaluate

    names = ["rouge", "rouge/stemmed", "squad", "exact_match/open", "codes_f1"]
    combined = evaluate.combine([load_metric(name) for name in names])
    result = combined.compute(predictions=["I10, E11.9"], references=["E11.9; I10"])
    assert list(result) == [value for name in names for value in load_scorer(name).values]
    assert (result["codes_f1/micro"], result["squad_em"], result["exact_match/open"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ["exact_match", "rouge", "accuracy", "codes_f1", "pass@1"])
def test_empty_input_is_an_error_and_not_a_nan(name: str) -> None:
    metric = load_metric(name)
    with pytest.raises(ValueError, match=f"{name}: predictions is empty; there is no mean over no items"):
        metric.compute(predictions=[], references=[])
    with pytest.raises(ValueError, match="nothing was added"):
        metric.compute()


def test_broken_input_is_named_and_leaves_the_metric_usable() -> None:
    metric = load_metric("exact_match")
    good = {"predictions": ["a", "b"], "references": ["a", "x"]}
    for predictions, references, message in [
        (["a", "b"], ["a"], "Mismatch in the number of predictions"),
        (["a", "b"], [["a"], []], "item 1 has no reference"),
        (["a", None], ["a", "b"], "item 1 has no prediction"),
        (["a", "b"], ["a", None], "item 1 has no reference"),
        ("ab", ["a", "b"], "predictions must be a list of items, got the text 'ab'"),
    ]:
        with pytest.raises(ValueError, match=message):
            metric.compute(predictions=predictions, references=references)
        assert metric.compute(**good) == {"exact_match": 0.5}


def test_an_unscorable_choice_item_is_named() -> None:
    metric = load_metric("accuracy_norm")
    with pytest.raises(ValueError, match="example '1': option 0 of 2 is empty"):
        metric.compute(predictions=[[-1.0, -2.0]] * 2, references=[0, 0], choices=[["a", "b"], ["", "b"]])


def test_two_metrics_of_one_name_do_not_share_items() -> None:
    first, second = load_metric("exact_match"), load_metric("exact_match")
    first.add(prediction="a", reference="a")
    second.add(prediction="a", reference="b")
    assert (first.compute(), second.compute()) == ({"exact_match": 1.0}, {"exact_match": 0.0})


def test_a_cache_folder_is_used_when_asked_for(tmp_path: Path) -> None:
    metric = as_evaluate_metric(load_scorer("exact_match"), keep_in_memory=False, cache_dir=str(tmp_path))
    assert metric.compute(predictions=["a"], references=["a"]) == {"exact_match": 1.0}
    assert (tmp_path / "exact_match").is_dir()


def test_it_works_without_a_network_and_without_a_writable_home(tmp_path: Path) -> None:
    # A file where the cache folder would be: root may write anywhere, but not below a file.
    blocked = tmp_path / "home"
    blocked.write_text("")
    code = """
import socket
def refuse(*_, **__):
    raise AssertionError("a connection was attempted")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import slmbench.metrics
metric = slmbench.metrics.load_metric("rouge")
print(metric.compute(predictions=["a b"], references=["a b"])["rouge2"])
"""
    environment = {**os.environ, "HF_HOME": str(blocked), "HOME": str(blocked), "XDG_CACHE_HOME": str(blocked)}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr
