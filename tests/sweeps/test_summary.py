"""Means over seeds, intervals, fronts."""

from __future__ import annotations

import numpy
import pytest
from scipy import stats

from slmbench.errors import UsageError
from slmbench.statistics.seeds import mean_over_seeds, spread_of
from slmbench.sweeps import run_sweep, summarise


@pytest.fixture
def summary(tmp_path, nano_points, made_run, trained_folder, work):
    """summary(over, score, cost, metrics) -> the table; score(recipe, adapter) gives a run's metrics."""

    def make(*over, score, cost=lambda recipe: {}, seeds=(), metrics=(), adapters=("sums",), tasks=("sums",), lower=()):
        axes, points = nano_points(*over, seeds=seeds)

        def train(point, place):
            return [trained_folder(place, adapter, **cost(point.recipe)) for adapter in adapters]

        def evaluate(point, folders):
            made = [made_run(task, score(point.recipe, None), lower=lower) for task in tasks]
            for adapter in adapters:
                made += [made_run(task, score(point.recipe, adapter), lower=lower) for task in tasks]
            return made

        outcomes = run_sweep(points, work(train, evaluate), str(tmp_path))
        return summarise("nano-quickstart", axes, outcomes, metrics)

    return make


def test_an_interval_over_seeds_is_students_t():
    values = [0.61, 0.55, 0.63, 0.58]
    score = mean_over_seeds(values)
    low, high = stats.t.interval(0.95, 3, loc=numpy.mean(values), scale=stats.sem(values))
    assert (score.value, score.ci_low, score.ci_high) == pytest.approx((numpy.mean(values), low, high))
    assert (score.n, score.method) == (4, "t-seeds")


def test_an_interval_over_seeds_stays_in_the_metrics_range():
    values = [0.99, 0.97, 1.0]
    assert mean_over_seeds(values).ci_high > 1
    score = mean_over_seeds(values, (0.0, 1.0))
    assert score.ci_low < min(values) and score.value < score.ci_high <= 1
    assert (score.n, score.method, spread_of(score)) == (3, "wilson-seeds", "seeds")


def test_one_seed_has_no_interval_over_seeds():
    with pytest.raises(ValueError, match="needs at least two"):
        mean_over_seeds([0.5])


def test_seeds_of_a_setting_are_one_row(summary):
    made = summary("rank=4,8", seeds=(0, 1), score=lambda recipe, _: {"acc": 0.5 + 0.1 * recipe.spec.seed})
    assert [(row.setting, row.seeds) for row in made.rows] == [("rank-4", (0, 1)), ("rank-8", (0, 1))]
    score = made.rows[0].scores["sums/acc"]
    assert (score.value, score.method) == (pytest.approx(0.55), "t-seeds")


def test_seeds_that_agree_keep_the_interval_over_items(summary):
    made = summary("rank=4", seeds=(0, 1, 2), score=lambda *_: {"acc": 0.5})
    score = made.rows[0].scores["sums/acc"]
    assert (score.value, score.ci_low, score.ci_high, score.method) == (0.5, 0.4, 0.6, "wilson")


def test_without_seeds_the_runs_own_interval_stands(summary):
    score = summary("rank=4", score=lambda *_: {"acc": 0.3}).rows[0].scores["sums/acc"]
    assert (score.ci_low, score.ci_high, score.n, score.method) == (pytest.approx(0.2), 0.4, 50, "wilson")


def test_a_tasks_first_metric_is_the_one_shown_unless_told(summary):
    def score(recipe, _):
        return {"acc": 0.5, "f1": 0.6}

    assert [column.key for column in summary("rank=4", score=score).columns] == ["sums/acc"]
    assert [column.key for column in summary("rank=4", score=score, metrics=["f1"]).columns] == ["sums/f1"]
    both = summary("rank=4", score=score, metrics=["sums/f1", "acc"], tasks=("sums", "notes"))
    assert [column.key for column in both.columns] == ["sums/acc", "sums/f1", "notes/acc"]
    with pytest.raises(UsageError, match="no task here has the metric rouge; they have sums/acc, sums/f1"):
        summary("rank=4", score=score, metrics=["rouge"])


def test_the_front_is_of_score_against_each_cost(summary):
    scores = {4: 0.3, 8: 0.5, 16: 0.4}
    seconds = {4: 9.0, 8: 2.0, 16: 1.0}
    made = summary(
        "rank=4,8,16",
        score=lambda recipe, adapter: {"acc": scores[recipe.spec.lora.rank] if adapter else 0.1},
        cost=lambda recipe: {"parameters": recipe.spec.lora.rank, "train_s": seconds[recipe.spec.lora.rank]},
    )
    fronts = {row.setting: set(row.fronts["sums/acc"]) for row in made.rows}
    assert fronts == {
        # The costs that all have alike leave the best score alone on their front.
        "rank-4": {"parameters"},
        "rank-8": {"parameters", "train_s", "bytes", "memory_bytes"},
        "rank-16": {"train_s"},
    }


def test_where_lower_is_better_the_lowest_leads(summary):
    made = summary("rank=4,8", score=lambda recipe, _: {"wer": recipe.spec.lora.rank / 10}, lower=("wer",))
    assert [bool(row.fronts.get("sums/wer")) for row in made.rows] == [True, False]


def test_adapters_of_a_recipe_are_rows_of_their_own(summary):
    made = summary("rank=4,8", score=lambda *_: {"acc": 0.5}, adapters=("sums", "notes"))
    assert [(row.setting, row.adapter) for row in made.rows] == [
        ("rank-4", "sums"),
        ("rank-4", "notes"),
        ("rank-8", "sums"),
        ("rank-8", "notes"),
    ]
    assert made.adapters == ("sums", "notes")


def test_rows_say_their_layers_if_they_differ_and_only_then(summary):
    over = "targets=[q_proj, k_proj, v_proj, o_proj],[gate_proj, up_proj, down_proj]"
    made = summary("rank=4", over, score=lambda *_: {"acc": 0.5}, adapters=("note",))
    assert [(row.targets, row.label) for row in made.rows] == [("attention", "4, attention"), ("MLP", "4, MLP")]
    assert made.targets == ("attention", "MLP")
    alike = summary("rank=4,8", score=lambda *_: {"acc": 0.5})
    assert {row.targets for row in alike.rows} == {""}


def test_the_base_is_there_once_a_model(summary):
    made = summary("rank=4,8", score=lambda recipe, adapter: {"acc": 0.5 if adapter else 0.2})
    assert {model: scores["sums/acc"].value for model, scores in made.bases.items()} == {"nano": 0.2}


def test_a_cost_that_nobody_knows_is_left_out(summary):
    made = summary("rank=4", score=lambda *_: {"acc": 0.5}, cost=lambda recipe: {"memory": None})
    assert "memory_bytes" not in made.rows[0].costs
    assert "memory_bytes" not in made.rows[0].fronts.get("sums/acc", ())


def test_the_base_costs_nothing_and_keeps_what_is_no_better_off_the_front(summary):
    scores = {None: 0.45, 4: 0.3, 8: 0.5, 16: 0.45}
    made = summary(
        "rank=4,8,16",
        score=lambda recipe, adapter: {"acc": scores[recipe.spec.lora.rank if adapter else None]},
        cost=lambda recipe: {"parameters": recipe.spec.lora.rank},
    )
    every = ("parameters", "bytes", "train_s", "memory_bytes")
    assert {row.setting: row.fronts.get("sums/acc", ()) for row in made.rows} == {
        "rank-4": (),
        "rank-8": every,
        "rank-16": (),
    }
    assert made.base_fronts == {"nano": {"sums/acc": every}}
    lower = summary("rank=4,8", score=lambda recipe, adapter: {"wer": 0.9 if adapter else 0.2}, lower=("wer",))
    assert [row.fronts for row in lower.rows] == [{}, {}] and lower.base_fronts["nano"]["sums/wer"] == every


def test_what_was_cut_short_or_random_is_said(tmp_path, nano_points, made_run, trained_folder, work):
    from slmbench.runs import Run

    axes, points = nano_points("rank=4")

    def run():
        record = made_run(model="llama-twin").record
        model = record["model"] | {"twin": True}
        return Run("nowhere", record | {"model": model, "limit": 8, "dataset": {"source": "samples"}})

    made = work(lambda point, place: [trained_folder(place)], lambda *_: [run(), run()])
    outcomes = run_sweep(points, made, str(tmp_path))
    said = summarise("nano-quickstart", axes, outcomes).notices
    assert len(said) == 3
    assert "llama-twin is a tiny random model" in said[0]
    assert said[1] == "sums: only the first 8 items were scored"
    assert "golden rows" in said[2]


def test_a_sweep_of_failures_has_no_rows(tmp_path, nano_points, work):
    axes, points = nano_points("rank=4,8")

    def train(point, place):
        raise RuntimeError("no memory")

    outcomes = run_sweep(points, work(train, lambda *_: []), str(tmp_path))
    made = summarise("nano-quickstart", axes, outcomes)
    assert (made.rows, made.columns) == ((), ())
    assert list(made.failures) == ["rank-4", "rank-8"]
