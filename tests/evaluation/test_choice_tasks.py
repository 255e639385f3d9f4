"""Every choice task of the library, by this engine and by lm-eval's own: the same numbers, the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.datasets import local_source
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.task import load_task
from tests.nearly import check_scores, values_of

ITEMS = 3


def choice_tasks() -> list[str]:
    # Read from the declarations, which cost nothing: the parameters of a test are there before it runs.
    catalog = default_catalog()
    files = {entry.name: Path(entry.path) for entry in catalog.entries("tasks")}
    return sorted(name for name, path in files.items() if "\nkind: choice\n" in path.read_text(encoding="utf-8"))


def compare(loaded: Any, task: Any, out: Path, **options: Any) -> list[dict[str, Any]]:
    (theirs,) = evaluate_tasks(loaded, [task], EvaluationOptions(out=str(out), limit=ITEMS, engine="hf", batch=1))
    (ours,) = evaluate_tasks(loaded, [task], EvaluationOptions(out=str(out), limit=ITEMS, engine="shared", **options))
    assert ours.run_id != theirs.run_id
    assert ours.record["comparability_key"] == theirs.record["comparability_key"]
    assert ours.record["remarks"] == theirs.record["remarks"]
    rows, want = ours.samples(), theirs.samples()
    for row, other in zip(rows, want, strict=True):
        assert row["loglikelihoods"] == pytest.approx(other["loglikelihoods"], abs=1e-4)
        for key in ("item_id", "prompt_sha256", "output", "tokens_in", "tokens_out", "truncated"):
            assert row[key] == other[key], key
        check_scores(row["scores"], other["scores"])
    assert [one["n"] for one in ours.record["metrics"]] == [one["n"] for one in theirs.record["metrics"]]
    check_scores(values_of(ours), values_of(theirs))
    return rows


def test_there_are_choice_tasks_of_all_shapes() -> None:
    assert {"hellaswag", "mmlu", "winogrande", "nano_choice"} <= set(choice_tasks())
    assert len(choice_tasks()) >= 11


@pytest.mark.parametrize("name", choice_tasks())
def test_a_choice_task_is_scored_as_by_lm_evals_own_engine(name, nano, tmp_path) -> None:
    task = load_task(name) if name.startswith("nano_") else load_task(name, data="samples")
    compare(nano, task, tmp_path)


@pytest.mark.realdata
@pytest.mark.parametrize("name", [name for name in choice_tasks() if not name.startswith("nano_")])
def test_real_records_are_scored_as_by_lm_evals_own_engine(name, stories, tmp_path) -> None:
    declared = load_task(name)
    if local_source(declared.dataset, declared.spec.split) is None:
        pytest.skip("the mirror has no rows of it")
    rows = compare(stories, load_task(name), tmp_path, batch=8)
    assert all(value < 0 for row in rows for value in row["loglikelihoods"])


@pytest.mark.parametrize("style", ["chat", "toon"])
def test_the_format_that_encodes_prompts_is_heard(style, nano, tmp_path) -> None:
    task = load_task("nano_choice")
    (theirs,) = evaluate_tasks(
        nano, [task], EvaluationOptions(out=str(tmp_path), limit=ITEMS, engine="hf", batch=1, format=style)
    )
    (ours,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=ITEMS, format=style))
    for row, other in zip(ours.samples(), theirs.samples(), strict=True):
        assert row["loglikelihoods"] == pytest.approx(other["loglikelihoods"], abs=1e-4)


def test_shots_that_fill_more_than_the_window_are_cut_as_by_lm_evals_own_engine(stories, tmp_path) -> None:
    rows = compare(stories, load_task("nano_choice").with_shots(24), tmp_path, batch=2)
    assert all(row["truncated"] for row in rows)
