"""Runs that were asked the same are comparable in the metrics that both have, whatever else either has."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.models import load_model, resolve_model
from slmbench.runs import MetricPart, comparability_key, comparability_keys, metric_key, sandbox_told
from slmbench.seal import canonical_sha256
from slmbench.task import load_task


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Records of nano on one item: with all metrics of the task, with one of them, and in another format."""
    nano, task = load_model(resolve_model("nano", default_catalog())), load_task("nano_choice")
    out, found = str(tmp_path_factory.mktemp("comparable")), {}
    for name, one, format in (
        ("all", task, "plain"),
        ("one", task.with_metrics(["accuracy"]), "plain"),
        ("chat", task, "chat"),
    ):
        options = EvaluationOptions(out=out, limit=1, format=format)
        found[name] = evaluate_tasks(nano, [one], options)[0].record
    return found


def _older(record: dict[str, Any], beside: list[object]) -> dict[str, Any]:
    """The record as it was written before metrics said their versions: its key holds them."""
    older = copy.deepcopy(record)
    for metric in older["metrics"]:
        del metric["version"]
    dataset = older["dataset"]
    asked = [
        older["task"]["id"],
        older["task"]["version"],
        {key: dataset[key] for key in ("split", "items_sha256", "item_ids_sha256", "n")},
        *(older[key] for key in ("format", "fewshot_sha256", "cot", "generation", "scorer")),
        *beside,
    ]
    return older | {"comparability_key": canonical_sha256(asked)}


def _keys(record: dict[str, Any]) -> dict[str, str]:
    metrics = [MetricPart.model_validate(one) for one in record["metrics"]]
    return {metric.name: metric_key(record, metric) for metric in metrics}


def test_a_metric_more_leaves_the_others_comparable(records: dict[str, dict[str, Any]]) -> None:
    every, one, chat = records["all"], records["one"], records["chat"]
    assert every["comparability_key"] == one["comparability_key"] != chat["comparability_key"]
    assert every["run_id"] != one["run_id"]
    assert set(_keys(one)) < set(_keys(every))
    assert _keys(every)["accuracy"] == _keys(one)["accuracy"]
    assert len(set(_keys(every).values())) == len(every["metrics"])


def test_another_version_of_a_metric_is_another_metric(records: dict[str, dict[str, Any]]) -> None:
    other = copy.deepcopy(records["all"])
    other["metrics"][0]["version"] = "0"
    assert _keys(other)["accuracy"] != _keys(records["all"])["accuracy"]
    other["scorer"]["weights"] = {"accuracy_norm": ["accuracy_norm", "f" * 64]}
    assert _keys(other)["accuracy_norm"] != _keys(records["all"])["accuracy_norm"]


@pytest.mark.parametrize("which", ["all", "one", "chat"])
def test_an_older_record_is_comparable_with_todays(records: dict[str, dict[str, Any]], which: str) -> None:
    record = records[which]
    older = _older(record, [["4", {"turns": None}]] if which == "chat" else [])
    assert older["comparability_key"] != record["comparability_key"]
    assert comparability_key(older) == record["comparability_key"]
    assert _keys(older) == _keys(record)


def test_an_older_key_that_can_not_be_made_again_stands(records: dict[str, dict[str, Any]]) -> None:
    older = _older(records["all"], ["something else"])
    assert comparability_key(older) == older["comparability_key"]


def test_a_weaker_examination_stays_another_question(records: dict[str, dict[str, Any]]) -> None:
    record = records["all"]
    weaker = {**_older(record, ["in_process"]), "sandbox": {"examine": "in_process"}}
    assert comparability_key(weaker) == comparability_keys(record, ["in_process"])[0] != record["comparability_key"]


JAILS = [None, {"tier": "bubblewrap", "timeout_s": 3.0}, {"tier": "namespaces", "timeout_s": 3.0}]
OTHERS = [{"tier": "unsafe", "timeout_s": 3.0}, {"tier": "bubblewrap", "timeout_s": 10.0}, {"examine": "in_process"}]


def test_a_sandbox_that_makes_other_verdicts_is_another_condition(records: dict[str, dict[str, Any]]) -> None:
    record = records["all"]
    today = [comparability_keys(record, sandbox_told(one))[0] for one in [*JAILS, *OTHERS]]
    assert len(set(today)) == 1 + len(OTHERS) and len(set(today[: len(JAILS)])) == 1
    for sandbox, key in zip([*JAILS, *OTHERS], today, strict=True):
        written = {**record, "sandbox": sandbox, "comparability_key": key}
        assert comparability_key(written) == key
        # Written before the tier was in the key, with versions of its metrics or without.
        examine = [sandbox["examine"]] if sandbox and "examine" in sandbox else []
        earlier = {**record, "sandbox": sandbox, "comparability_key": comparability_keys(record, examine)[0]}
        assert comparability_key(earlier) == comparability_key({**_older(earlier, examine), "sandbox": sandbox}) == key
        assert comparability_key(written, judged={"tier": "bubblewrap", "timeout_s": 3.0}) == today[0]
        assert comparability_key(earlier, judged=OTHERS[0]) == today[len(JAILS)]
