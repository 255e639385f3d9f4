"""How likely a model finds what it was to write: beside the texts that it writes, with lm-eval's own model as judge."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import slmbench
from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import UsageError
from slmbench.formats import load_format
from slmbench.journal import Journal
from slmbench.models import load_model, resolve_model
from slmbench.task import Settings, load_task, prompts_task

METRIC = "target_bits_per_byte"


@pytest.fixture(scope="module")
def nano():
    return load_model(resolve_model("nano", default_catalog()), dtype="float32")


def _asked(name: str, **settings: object):
    return Settings(perplexity=True, **settings).of([load_task(name, data="samples")])[0]  # type: ignore[arg-type]


def _rows(run) -> list[dict]:
    return list(run.samples())


def test_targets_are_as_likely_as_to_lm_evals_own_model(nano, tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    (task,) = _asked("nano_note")
    (run,) = slmbench.evaluate(nano, task, out=str(tmp_path), limit=4, perplexity=True)
    style = load_format("plain")
    bound = task.in_format(style)
    examples = bound.examples(bound.spec.split, 4)
    written = [bound.render(style, nano.tokenizer, one) for one in examples]
    pairs = [(one.text, one.delimiter + bound.answer(at)) for one, at in zip(written, examples, strict=True)]
    judge = HFLM(pretrained=nano.model, tokenizer=nano.tokenizer, batch_size=1)
    theirs = judge.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in pairs], disable_tqdm=True)
    rows = _rows(run)
    assert [row["target_loglikelihood"] for row in rows] == pytest.approx([value for value, _ in theirs], abs=2e-4)
    assert [row["target_bytes"] for row in rows] == [len(bound.answer(one).encode()) for one in examples]
    bits = [-row["target_loglikelihood"] / math.log(2) / row["target_bytes"] for row in rows]
    assert [row["scores"][METRIC] for row in rows] == pytest.approx(bits, rel=1e-12)
    (metric,) = [one for one in run.record["metrics"] if one["name"] == METRIC]
    assert metric["value"] == pytest.approx(math.fsum(bits) / len(bits), rel=1e-12)
    assert metric["ci_lo"] < metric["value"] < metric["ci_hi"]


def test_what_is_written_costs_and_scores_what_it_does_without(nano, tmp_path: Path) -> None:
    (alone,) = slmbench.evaluate(nano, "nano_note", out=str(tmp_path), limit=4)
    (beside,) = slmbench.evaluate(nano, "nano_note", out=str(tmp_path), limit=4, perplexity=True)
    assert alone.record["run_id"] != beside.record["run_id"]
    assert alone.record["comparability_key"] == beside.record["comparability_key"]
    for one, other in zip(_rows(alone), _rows(beside), strict=True):
        assert one["output"] == other["output"] and "target_loglikelihood" not in one
        assert one["scores"] == {key: value for key, value in other["scores"].items() if key != METRIC}
        assert (one["tokens_in"], one["tokens_out"]) == (other["tokens_in"], other["tokens_out"])


@pytest.mark.parametrize("form", ["chat", "toon"])
def test_the_target_is_scored_as_its_format_writes_it(nano, tmp_path: Path, form: str) -> None:
    runs = [
        slmbench.evaluate(nano, "nano_note", out=str(tmp_path), limit=3, format=form, perplexity=True, engine=engine)[0]
        for engine in ("shared", "hf")
    ]
    ours, theirs = map(_rows, runs)
    assert [one["target_loglikelihood"] for one in ours] == pytest.approx(
        [one["target_loglikelihood"] for one in theirs], abs=2e-4
    )
    style = load_format(form)
    bound = load_task("nano_note").in_format(style)
    targets = [style.write(bound.target(one)) for one in bound.examples(bound.spec.split, 3)]
    assert [one["target_bytes"] for one in ours] == [len(one.encode()) for one in targets]


def test_choice_tasks_get_the_bits_of_the_right_option_once_and_free_prompts_nothing() -> None:
    choice = load_task("nano_choice")
    assert [one.name for one in Settings(perplexity=True).of([choice])[0][0].scorers].count("bits_per_byte") == 1
    (few,), _ = Settings(metrics=("accuracy",), perplexity=True).of([choice])
    assert [one.name for one in few.scorers] == ["accuracy", "bits_per_byte"]
    free = prompts_task(["Why?"], default_catalog())
    assert Settings(perplexity=True).of([free])[0][0].scorers == free.scorers


@pytest.mark.parametrize("answers", [2, 6])
def test_a_run_that_was_cut_off_asks_for_what_is_missing(nano, tmp_path: Path, monkeypatch, answers: int) -> None:
    (whole,) = slmbench.evaluate(nano, "nano_note", out=str(tmp_path / "whole"), limit=4, perplexity=True)
    real = Journal.append

    def dying(self: Journal, key: str, value: object) -> None:
        if len(self.entries) == answers:  # Four targets come first, and then four texts.
            raise KeyboardInterrupt
        real(self, key, value)

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(Journal, "append", dying)
        slmbench.evaluate(nano, "nano_note", out=str(tmp_path / "cut"), limit=4, perplexity=True)
    (run,) = slmbench.evaluate(nano, "nano_note", out=str(tmp_path / "cut"), limit=4, perplexity=True)
    assert run.record["cost"]["n_resumed"] == answers
    for row, other in zip(_rows(run), _rows(whole), strict=True):
        assert row["output"] == other["output"]
        assert row["target_loglikelihood"] == pytest.approx(other["target_loglikelihood"], abs=1e-4)


def test_saved_targets_are_scored_again_without_a_model(nano, tmp_path: Path) -> None:
    (alone,) = slmbench.evaluate(nano, "nano_note", out=str(tmp_path), limit=3)
    with pytest.raises(UsageError, match=r"target_bits_per_byte.*wasn't asked for; `slmbench eval --perplexity` asks"):
        slmbench.score(alone, metrics=METRIC)
    (beside,) = slmbench.evaluate(nano, "nano_note", out=str(tmp_path), limit=3, perplexity=True)
    (again,) = slmbench.score(beside, metrics=METRIC)
    assert [row["scores"] for row in _rows(again)] == [{METRIC: row["scores"][METRIC]} for row in _rows(beside)]
    (own,) = slmbench.score(alone)
    assert METRIC not in {one["name"] for one in own.record["metrics"]}


def test_the_command_shows_the_column(tmp_path: Path, capsys) -> None:
    assert main(["eval", "nano", "--tasks", "nano_note", "--limit", "3", "--perplexity", "--out", str(tmp_path)]) == 0
    assert METRIC in capsys.readouterr().out
