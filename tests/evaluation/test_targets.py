"""How likely a model finds what it was to write: beside the texts that it writes, with lm-eval's own model as judge."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

import slmbench
from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import DataError, UsageError
from slmbench.formats import load_format
from slmbench.journal import Journal
from slmbench.models import load_model, resolve_model
from slmbench.task import Settings, load_task, load_task_folder, prompts_task, reads_targets

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
    (kept,) = slmbench.score(beside)
    assert METRIC in {one["name"] for one in kept.record["metrics"]}
    (own,) = slmbench.score(alone)
    assert METRIC not in {one["name"] for one in own.record["metrics"]}


def test_the_command_shows_the_column(tmp_path: Path, capsys) -> None:
    assert main(["eval", "nano", "--tasks", "nano_note", "--limit", "3", "--perplexity", "--out", str(tmp_path)]) == 0
    assert METRIC in capsys.readouterr().out


TASK = """\
summary: Short answers to what is asked.
version: 1
license: mit
dataset: {files: {test: test.jsonl}, columns: [question, answer]}
kind: generate
train_split: null
prompt: {user: "Question: {{ question }}", prefix: "Answer:"}
answer: "{{ answer }}"
generation: {max_tokens: 4, stop: ["\\n"]}
metrics: [exact_match]
"""


def _own(folder: Path, rows: list[tuple[str, str]], declared: str = TASK, plugin: str = ""):
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(declared)
    lines = (json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in rows)
    (folder / "test.jsonl").write_text("".join(lines))
    if plugin:
        (folder / "plugin.py").write_text(plugin)
    return load_task_folder(str(folder), default_catalog())


@pytest.mark.parametrize(
    ("answer", "why"), [("", "is empty"), ("word " * 1500, r"has [0-9,]+ of this model's tokens, and its window is")]
)
def test_a_target_that_cant_be_scored_leaves_the_task_as_it_is(nano, tmp_path: Path, capsys, answer, why) -> None:
    task = _own(tmp_path / "own", [("a?", "yes"), ("b?", answer)])
    (run,) = slmbench.evaluate(nano, task, out=str(tmp_path), perplexity=True)
    assert [one["name"] for one in run.record["metrics"]] == ["exact_match"]
    said = capsys.readouterr().err
    assert re.search(f"note: own: the target of item 'test-1' {why}.*--perplexity leaves this task alone", said)
    declared = _own(
        tmp_path / "declared", [("a?", "yes"), ("b?", answer)], TASK.replace("_match]", f"_match, {METRIC}]")
    )
    with pytest.raises(DataError, match=f"declared: the target of item 'test-1' {why}.*leave that metric or the item"):
        slmbench.evaluate(nano, declared, out=str(tmp_path))
    assert not [folder for folder in (tmp_path / "runs").iterdir() if "declared" in folder.name]


def test_a_task_without_right_answers_has_none_that_are_likely(nano, tmp_path: Path) -> None:
    task = _own(
        tmp_path / "own", [("a?", "x")], TASK.replace('"{{ answer }}"', '""').replace("exact_match", "distinct")
    )
    assert [one.name for one in Settings(perplexity=True).of([task])[0][0].scorers] == ["distinct"]


def test_a_prompt_that_makes_room_for_its_target_is_told(nano, tmp_path: Path) -> None:
    task = _own(tmp_path / "own", [("q " * 700, "yes " * 450), ("a?", "yes")])
    (run,) = slmbench.evaluate(nano, task, out=str(tmp_path), perplexity=True)
    assert run.record["remarks"]["the prompt lost its beginning, as its target took the room"] == 1


def test_a_target_stands_beside_programs_and_several_texts(nano, tmp_path: Path) -> None:
    code = TASK.replace(
        "kind: generate", 'kind: code\ncode: {program: "{{ completion }}", tests: "assert {{ answer }}"}'
    )
    code = code.replace("exact_match", "pass@1").replace("stop:", "samples: 2, temperature: 0.7, stop:")
    several = TASK.replace("stop:", "samples: 2, temperature: 0.7, stop:")
    one, two = (_own(tmp_path / name, [("a?", "1 == 1")], said) for name, said in (("c", code), ("s", several)))
    runs = slmbench.evaluate(nano, [one, two], out=str(tmp_path), perplexity=True, allow_unsafe_code=True)
    for run in runs:
        rows = _rows(run)
        assert len(rows) == 2 and len({row["target_loglikelihood"] for row in rows}) == 1
        assert rows[0]["scores"][METRIC] == pytest.approx(-rows[0]["target_loglikelihood"] / math.log(2) / 6)
        (again,) = slmbench.score(run, metrics=METRIC, keep_verdicts=True)
        assert _rows(again)[0]["scores"] == {METRIC: rows[0]["scores"][METRIC]}


def test_an_encoder_decoders_target_is_scored_by_its_decoder(tmp_path: Path) -> None:
    source = resolve_model("flan-t5-small", default_catalog(), twin=True)
    (run,) = slmbench.evaluate(load_model(source), "nano_note", out=str(tmp_path), limit=2, perplexity=True)
    assert all(math.isfinite(row["target_loglikelihood"]) for row in _rows(run))
    assert all(row["scores"][METRIC] > 0 for row in _rows(run))


def test_only_the_bits_may_be_asked_for_and_a_gate_counts_them(nano, tmp_path: Path, capsys) -> None:
    (few,) = Settings(metrics=(METRIC,), perplexity=True).of([load_task("nano_note")])[0]
    assert [one.name for one in few.scorers] == [METRIC]
    for name, form in (("a", "plain"), ("b", "toon")):
        slmbench.evaluate(nano, "nano_note", out=str(tmp_path / name), limit=8, format=form, perplexity=True)
    asked = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--fail-if", "worse", "--metrics"]
    assert main([*asked, METRIC]) == 1
    assert "gate: worse" in capsys.readouterr().out


def test_a_gate_over_what_judges_nothing_is_open(nano, tmp_path: Path, capsys) -> None:
    task = _own(tmp_path / "own", [("a?", "yes"), ("b?", "no")], TASK.replace("exact_match", "distinct"))
    for name, form in (("a", "plain"), ("b", "chat")):
        slmbench.evaluate(nano, task, out=str(tmp_path / name), format=form)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--fail-if", "worse"]) == 2
    assert "gate: inconclusive" in capsys.readouterr().out


PLUGIN = """\
from slmbench.registry import metric

@metric("surprise", summary="x.", version="1", range=None)
def surprise(prediction, target_bytes):
    return float(target_bytes)

@metric("likely", summary="x.", version="1", range=None)
def likely(target_loglikelihood, fields):
    return target_loglikelihood
"""


def test_a_metric_of_a_plugin_gets_what_it_asks_for(nano, tmp_path: Path) -> None:
    said = TASK.replace("exact_match", "surprise, likely")
    task = _own(tmp_path / "own", [("a?", "yes"), ("b?", "no")], said, PLUGIN)
    (run,) = slmbench.evaluate(nano, task, out=str(tmp_path))
    rows = _rows(run)
    assert [row["scores"]["surprise"] for row in rows] == [3.0, 2.0]
    assert [row["scores"]["likely"] for row in rows] == [row["target_loglikelihood"] for row in rows]


@pytest.mark.parametrize("asked", [True, False])
def test_recipes_and_matrices_ask_as_the_command_does(tmp_path: Path, asked: bool) -> None:
    from slmbench.matrix import load_grid
    from slmbench.recipe import load_recipe
    from slmbench.workflow.recipes import RecipeOptions, evaluation_tasks

    recipe = load_recipe("nano-quickstart", default_catalog(), [f"evaluation.perplexity={str(asked).lower()}"])
    [tasks] = evaluation_tasks([recipe], default_catalog(), RecipeOptions())
    assert all(reads_targets(task.scorers) is asked for task in tasks if task.kind == "generate")
    path = tmp_path / "grid.yaml"
    path.write_text(f"summary: x.\nmodels: [nano]\ntasks: [nano_note]\nperplexity: {str(asked).lower()}\n")
    assert {cell.asking.perplexity for cell in load_grid(str(path), default_catalog()).cells} == {asked}
