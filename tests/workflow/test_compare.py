"""Two results beside each other: which runs, which items, what is told, and what the gate says."""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pytest
from scipy import stats

import slmbench
from slmbench.cli import main
from slmbench.errors import UsageError
from slmbench.leaderboard import RunProblems
from slmbench.workflow.compare import comparison_json
from tests.leaderboard.conftest import make_run

RIGHT = [1.0] * 30 + [0.0] * 30


@pytest.fixture
def out(tmp_path):
    """A folder with a base that is half right, an adapter that is right on 20 more and wrong on 2, and one like it."""
    better = [1.0] * 28 + [0.0] * 2 + [1.0] * 20 + [0.0] * 10
    make_run(tmp_path, "base", RIGHT)
    make_run(tmp_path, "tuned", better, adapter="note")
    make_run(tmp_path, "same", RIGHT[::-1], adapter="other")
    return tmp_path


def compared(a, b, **options):
    return slmbench.compare(str(a), str(b), **{"items": 3, **options})


def rows(out, a, b, **options):
    return compared(a, b, folders=(str(out),), **options)


def test_rows_of_one_folder_are_compared_on_their_items(out):
    found = rows(out, "nano", "nano + note")
    (task,) = found.tasks
    (metric,) = task.metrics
    assert (metric.a, metric.b, metric.pair.difference) == (0.5, 0.8, pytest.approx(0.3))
    assert (metric.pair.wins, metric.pair.losses, metric.pair.n) == (20, 2, 60)
    # McNemar's mid-p by scipy alone.
    assert metric.pair.p == pytest.approx(2 * stats.binom.cdf(2, 22, 0.5) - stats.binom.pmf(2, 22, 0.5))
    assert metric.verdict == "better" and (task.items.both, task.items.neither) == (28, 10)
    assert task.items.a_only == ("item-0028", "item-0029")
    assert task.items.b_only == tuple(f"item-{i:04}" for i in range(30, 50))
    # Losses and gains by turns.
    assert [item.item_id for item in task.items.shown] == ["item-0028", "item-0030", "item-0029"]
    assert task.differs == () and found.notices == ()


def test_sides_are_found_by_folder_by_run_and_by_name_without_blanks(out, tmp_path):
    alone = tmp_path / "alone"
    make_run(alone, "elsewhere", [1.0] * 60, model="other")
    run = out / "runs" / "base"
    for a in (run, run / "run.json"):
        found = compared(a, alone)
        assert (found.a.name, found.b.name) == ("nano", "other") and found.tasks[0].metrics[0].b == 1.0
    assert rows(out, "nano", "nano+note").b.name == "nano + note"
    assert rows(out, "base", "tuned").b.name == "nano + note"  # By the runs' ids.
    found = compared("nano + note", "other", folders=(str(out), str(alone)))
    assert (found.a.place, found.b.place) == (str(out), str(alone))


def test_what_is_not_there_is_said_with_what_is(out, tmp_path):
    with pytest.raises(UsageError, match=r"did you mean 'nano \+ note'.*there are: "):
        rows(out, "nano", "nano + notes")
    with pytest.raises(UsageError, match=r"results of 3 models: nano.*add --in"):
        compared(out, out)
    with pytest.raises(UsageError, match="no such folder"):
        compared(out / "nowhere", out)
    with pytest.raises(UsageError, match=r"--tasks 'gsm8k': not a task of both.*A has nano_note"):
        rows(out, "nano", "nano + note", tasks=("gsm8k",))
    with pytest.raises(UsageError, match=r"--metrics 'rouge1': not a metric of both"):
        rows(out, "nano", "nano + note", metrics=("rouge1",))
    with pytest.raises(UsageError, match=r"the same runs, of nano \+ note"):
        rows(out, "nano + note", "nano+note")
    make_run(tmp_path / "b", "b", RIGHT, task="nano_choice", model="b")
    with pytest.raises(UsageError, match="no task is there of both: A has nano_note; B has nano_choice"):
        compared(out / "runs" / "base", tmp_path / "b")


def test_a_damaged_run_of_a_side_is_refused_and_of_another_row_left_out(out):
    path = out / "runs" / "same" / "samples.jsonl"
    path.write_bytes(path.read_bytes().replace(b"output 3", b"output X"))
    found = rows(out, "nano", "nano + note")
    assert found.gate == "not worse" and "samples.jsonl" in str(found.problems[0])
    with pytest.raises(RunProblems, match=r"samples\.jsonl"):
        compared(out / "runs" / "base", out / "runs" / "same")


def test_other_conditions_are_told_and_the_same_items_compared(tmp_path):
    make_run(tmp_path / "a", "a", RIGHT)
    make_run(tmp_path / "b", "b", RIGHT[:40], key="chat", limit=40, changes={"format": "chat", "cot": "few"},
             samples=[{}] * 39 + [{"target": "another"}])  # fmt: skip
    (task,) = compared(tmp_path / "a", tmp_path / "b").tasks
    assert [(one.what, one.a, one.b) for one in task.differs if one.matters] == [
        ("limit", "none", "40"),
        ("format", "plain", "chat"),
        ("chain of thought", "none", "few"),
    ]
    assert task.metrics[0].pair.n == 39
    assert "40 items are in both, of 60 of A and 40 of B" in task.notes
    assert "1 items have another target in B: left out" in task.notes


def test_runs_under_one_condition_go_before_newer_ones_under_another(tmp_path):
    make_run(tmp_path / "a", "a", RIGHT)
    make_run(tmp_path / "b", "plain", RIGHT, model="b")
    make_run(tmp_path / "b", "chat", [0.0] * 60, model="b", key="chat", created="2026-12-01T10:00:00+00:00")
    (task,) = compared(tmp_path / "a", tmp_path / "b").tasks
    assert [run.run_id for run in task.pair.b] == ["plain"]


def test_costs_have_a_ratio_if_they_were_measured_alike(out):
    costs = {cost.key: cost for cost in rows(out, "nano", "nano + note").costs}
    assert costs["seconds"].ratio == 1.0 and costs["tokens_out"].ratio == 1.0
    assert costs["adapter_bytes"].a is None and costs["adapter_bytes"].ratio is None
    assert costs["latency_p50_ms"].apart == "not with --latency"
    make_run(out, "gpu", RIGHT, model="fast", changes={"hardware.cpu": "arm", "engine": "shared"})
    costs = {cost.key: cost for cost in rows(out, "nano", "fast").costs}
    assert costs["seconds"].ratio is None and costs["seconds"].apart == "another engine, another machine"
    assert costs["tokens_out"].ratio == 1.0


@pytest.mark.parametrize(
    ("b", "margin", "verdict"),
    [
        ("nano + note", 0.0, "not worse"),
        ("nano + other", 0.0, "inconclusive"),
        ("nano + other", 0.05, "inconclusive"),
        ("nano + other", 0.6, "not worse"),
    ],
)
def test_the_gate_tells_not_worse_from_undecided(out, b, margin, verdict):
    assert rows(out, "nano", b, margin=margin).gate == verdict


def test_a_worse_result_fails_unless_its_loss_is_within_the_margin(out):
    assert rows(out, "nano + note", "nano").gate == "worse"
    assert rows(out, "nano + note", "nano", margin=0.1).gate == "worse"
    assert rows(out, "nano + note", "nano", margin=0.9).gate == "not worse"


def test_the_gate_holds_its_error_over_many_tasks(tmp_path):
    """One of ten tasks at p = .03 is no failure: p is corrected over all that are looked at."""
    first = [1.0] * 12 + [0.0] * 8
    second = [0.0] * 6 + [1.0] * 6 + [0.0] * 8
    for i in range(10):
        make_run(tmp_path, f"a{i}", first, task=f"t{i}", model="a")
        make_run(tmp_path, f"b{i}", second if i == 0 else first, task=f"t{i}", model="b")
    found = rows(tmp_path, "a", "b")
    assert found.tasks[0].metrics[0].pair.p < 0.05 and found.gate == "inconclusive"
    assert rows(tmp_path, "a", "b", tasks=("t0",)).gate == "worse"


def test_lower_is_better_turns_the_verdict_around(tmp_path):
    rng = random.Random(1)
    first = [rng.random() for _ in range(50)]
    make_run(tmp_path, "a", {"bits": first}, model="a", higher_is_better=False)
    make_run(tmp_path, "b", {"bits": [0.8 * value for value in first]}, model="b", higher_is_better=False)
    found = rows(tmp_path, "a", "b")
    metric = found.tasks[0].metrics[0]
    assert metric.verdict == "better" and metric.pair.difference < 0 and metric.pair.wins == 50
    assert metric.pair.p == pytest.approx(stats.ttest_rel(np.multiply(first, 0.8), first).pvalue, rel=1e-3)
    assert found.gate == "not worse"


@pytest.fixture
def cli(capsys):
    def run(*arguments):
        code = main(["compare", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_exit_codes_are_those_of_the_gate(out, cli):
    where = ("--in", out)
    assert cli("nano + note", "nano", *where)[0] == 0
    assert cli("nano + note", "nano", *where, "--fail-if", "worse")[0] == 1
    code, shown, _ = cli("nano", "nano+other", *where, "--fail-if", "worse", "--margin", "0.05")
    assert code == 2 and "gate: inconclusive" in shown and "rule out 0.05" in shown
    code, shown, _ = cli("nano", "nano+note", *where, "--fail-if", "worse", "--json")
    assert code == 0 and json.loads(shown)["gate"] == {"fail_if": "worse", "margin": 0.0, "verdict": "not worse"}
    # What can't be read is no regression.
    for folder in (out / "runs").iterdir():
        (folder / "run.json").write_text((folder / "run.json").read_text().replace('"seed": 0', '"seed": 1'))
    assert cli("nano", "nano+note", *where, "--fail-if", "worse")[0] == 2
    assert cli("nano", "nano+note", *where)[0] == 1


def test_the_json_says_what_the_comparison_says(out):
    found = rows(out, "nano", "nano + note")
    content = json.loads(json.dumps(comparison_json(found, gated=False), allow_nan=False))
    (task,) = content["tasks"]
    assert task["metrics"][0]["difference"] == pytest.approx(0.3) and task["metrics"][0]["verdict"] == "better"
    assert task["items"]["only_a_right"] == ["item-0028", "item-0029"] and task["items"]["both_right"] == 28
    assert task["items"]["shown"][0]["a"]["output"] == "output 28"
    assert content["b"]["run_ids"] == ["tuned"] and "gate" not in content


HOSTILE = "\x1b]0;title\x07\u202eevil\u2066\ud800</script><script>alert(1)</script>\n" + "x" * 3000


@pytest.mark.parametrize("columns", ["80", "40"])
def test_hostile_texts_stay_texts(tmp_path, cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    fields = {"output": HOSTILE, "prompt": HOSTILE, "target": HOSTILE, "finish_reason": "length"}
    make_run(tmp_path, "a", [1.0, 0.0], model="a\x1b[2J", samples=[fields, fields])
    make_run(tmp_path, "b", [0.0, 1.0], model="b", samples=[fields | {"output": HOSTILE + "B"}, fields])
    code, shown, told = cli("a\x1b[2J", "b", "--in", tmp_path)
    assert code == 0
    for character in "\x1b\x07\u202e\u2066\ud800":
        assert character not in shown + told
    assert "cut at max_tokens" in " ".join(shown.split()) and max(map(len, shown.splitlines())) <= int(columns)
    assert json.loads(cli("a\x1b[2J", "b", "--in", tmp_path, "--json")[1])["a"]["name"] == "a\x1b[2J"


def test_texts_are_withheld_where_the_user_or_a_run_says_so(out, cli):
    for option in ([], ["--json"]):
        _, shown, _ = cli("nano", "nano + note", "--in", out, "--no-texts", *option)
        assert "output 28" not in shown and "item-0028" not in shown and "shuffled" not in shown
    make_run(out, "private", [1.0] * 60, model="private", changes={"no_texts": True})
    _, shown, _ = cli("nano", "private", "--in", out)
    assert "items are not shown" in shown and "item-0030" not in shown


def test_samples_that_changed_meanwhile_cost_their_texts_alone(out, monkeypatch):
    from slmbench.workflow import flipped

    def gone(run):
        raise OSError(2, os.strerror(2))

    monkeypatch.setattr(flipped, "read_samples", gone)
    (task,) = rows(out, "nano", "nano + note").tasks
    assert "can't be read" in task.items.fault and task.metrics[0].pair.wins == 20


def test_seeds_of_one_recipe_are_compared_by_their_mean_and_their_spread(tmp_path):
    make_run(tmp_path, "base", RIGHT)
    for seed, right in enumerate((20, 40, 60)):
        changes = {"adapter.train_seed": seed, "adapter.sha256": str(seed) * 64, "adapter.recipe_sha256": "f" * 64}
        make_run(tmp_path, f"s{seed}", [1.0] * right + [0.0] * (60 - right), adapter="note", changes=changes)
    found = rows(tmp_path, "nano", "nano + note")
    (task,) = found.tasks
    (metric,) = task.metrics
    assert len(task.pair.b) == 3 and metric.b == pytest.approx(2 / 3) and metric.pair.method == "seeds-items"
    over_items = np.std(np.mean([[1.0] * n + [0.0] * (60 - n) for n in (20, 40, 60)], axis=0) - RIGHT, ddof=1)
    assert metric.pair.stderr == pytest.approx(
        np.hypot(over_items / 60**0.5, np.std([1 / 3, 2 / 3, 1], ddof=1) / 3**0.5), rel=0.02
    )
    # One seed alone would be told apart.
    assert metric.verdict == "not told apart" and metric.pair.ci_low < 0
    assert "B is the mean of 3 seeds; intervals and p count their spread" in task.notes


def test_a_stopped_run_has_the_p_that_holds_wherever_it_stopped(out):
    stopped = {"n": 40, "total": 60, "seed": 0, "order_sha256": "0", "metric": "exact_match/strict", "against": "base",
               "against_sha256": "0", "margin": None, "verdict": "better", "by": "sequence", "wins": 8, "losses": 0,
               "ties": 32, "e_value": 31.0, "p": 1 / 31, "difference": 0.2, "ci_lo": 0.01, "ci_hi": 0.4,
               "whole": "w", "whole_key": "nano_note-key-a"}  # fmt: skip
    make_run(out, "early", [1.0] * 38 + [0.0] * 2, model="early", key="prefix", changes={"stopped": stopped})
    found = rows(out, "nano", "early")
    (task,) = found.tasks
    (metric,) = task.metrics
    assert (metric.pair.p, metric.pair.ci_low, metric.pair.method) == (1 / 31, 0.01, "e-value")
    assert found.gate == "not worse" and task.badges == ("stopped at 40 (decided)",) and not task.differs
    turned = rows(out, "early", "nano").tasks[0].metrics[0]
    assert (turned.pair.ci_low, turned.pair.ci_high, turned.verdict) == (-0.4, -0.01, "worse")
    # Against any other run, these items say nothing that a test could hold to.
    other = rows(out, "nano + note", "early")
    content = comparison_json(other, gated=True)["tasks"][0]["metrics"][0]
    assert "p" not in content and content["ci_low"] is None and content["verdict"] == "not told apart"
    assert other.gate == "inconclusive"
    # One of two comparisons in a call, each of which may be wrong by 2.5%: 0 is in its interval, and p says so.
    half = stopped | {"alpha": 0.025, "verdict": "undecided", "by": "", "ci_lo": -0.01}
    make_run(out, "half", [1.0] * 38 + [0.0] * 2, model="half", key="prefix", changes={"stopped": half})
    (metric,) = rows(out, "nano", "half").tasks[0].metrics
    assert (metric.pair.p, metric.verdict) == (pytest.approx(2 / 31), "not told apart")


def test_the_metric_that_a_task_declares_as_primary_is_the_one_that_counts(tmp_path):
    for name in "ab":
        make_run(tmp_path, name, {"accuracy": RIGHT, "accuracy_norm": RIGHT}, task="hellaswag", model=name)
    assert [one.name for one in rows(tmp_path, "a", "b").tasks[0].metrics if one.primary] == ["accuracy_norm"]


def test_metrics_that_were_scored_otherwise_are_said_once_and_a_task_of_them_alone_is_told(tmp_path):
    scores = {"rouge1": RIGHT, "rouge2": RIGHT}
    make_run(tmp_path, "a", scores, model="a")
    make_run(tmp_path, "b", scores, model="b", changes={"metrics.0.version": "2", "metrics.1.version": "2"})
    with pytest.raises(UsageError, match=r"nano_note: not compared; rouge1, rouge2: scored by another version"):
        rows(tmp_path, "a", "b")
    for name in "ab":
        make_run(tmp_path, f"{name}2", RIGHT, model=name, task="nano_choice")
    found = rows(tmp_path, "a", "b")
    assert [task.name for task in found.tasks] == ["nano_choice"] and "rouge1, rouge2: scored" in found.notices[-1]


def test_several_tasks_are_compared_in_their_mean_too(tmp_path, capsys):
    better = [1.0] * 30 + [1.0] * 8 + [0.0] * 22
    for task in ("nano_choice", "nano_note"):
        make_run(tmp_path, f"a-{task}", RIGHT, task=task, model="a")
        make_run(tmp_path, f"b-{task}", better, task=task, model="b")
    found = rows(tmp_path, "a", "b")
    parts = [task.metrics[0].pair for task in found.tasks]
    assert found.mean_tasks == ("nano_choice", "nano_note")
    scale = [1 - (task.pair.a[0].metrics[0].chance or 0.0) for task in found.tasks]
    assert found.mean.difference == pytest.approx(sum(8 / 60 / width for width in scale) / 2)
    assert found.mean.p < min(part.p for part in parts) and found.mean.ci_low > 0
    assert comparison_json(found, gated=False)["mean"]["tasks"] == ["nano_choice", "nano_note"]
    assert main(["compare", "a", "b", "--in", str(tmp_path), "--items", "0"]) == 0
    assert "mean of 2 tasks" in capsys.readouterr().out


def test_one_task_has_no_mean_over_tasks(out):
    found = rows(out, "nano", "nano + note")
    assert found.mean is None and comparison_json(found, gated=False)["mean"] is None
