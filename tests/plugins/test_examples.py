"""The examples as a reader runs them: a folder, and a package in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import slmbench
from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import FileError, HookError, SlmbenchError, UsageError
from slmbench.formats import load_format
from slmbench.leaderboard import load_runs
from slmbench.recipe import load_recipe

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
PACKAGE = EXAMPLES / "slmbench-task-example"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example, on SLMBENCH_PATH."""
    copied = tmp_path / "folder"
    shutil.copytree(EXAMPLES / "folder", copied)
    monkeypatch.setenv("SLMBENCH_PATH", str(copied))
    return copied


def test_lists_name_what_plugins_bring_and_where_without_running_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = folder / "tasks" / "ward_questions" / "plugin.py"
    plugin.write_text(plugin.read_text() + "\nopen('canary', 'w')\n")
    there = {"metrics": "unit_match", "formats": "tagged", "loaders": "sqlite_rows"}
    for kind, name in there.items():
        assert main(["list", kind, "--json"]) == 0
        found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
        assert found[name]["path"] == str(plugin)
        assert found[name]["summary"].endswith((".", "`."))
    assert not os.path.exists("canary")


def test_a_task_with_its_own_loader_metric_and_format_passes_check(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "ward_questions", "--json"]) == 0
    [report] = json.loads(capsys.readouterr().out)
    assert report["ok"] and report["formats"]["tagged"] == "ok"


def test_it_is_scored_as_its_functions_say_and_a_changed_plugin_is_another_run(folder: Path, tmp_path: Path) -> None:
    (run,) = slmbench.evaluate("nano", "ward_questions", format="tagged", out=str(tmp_path / "o"), limit=4)
    assert run.record["format"] == "tagged" and run.record["dataset"]["source"] == "loader"
    for sample in run.samples():
        assert sample["prompt"].endswith("</ask>\n<answer>")
        number = sample["output"].split()[:1] == sample["references"][0].split()[:1]
        assert sample["scores"]["unit_match"] in ((0.5, 1.0) if number else (0.0, 0.5))
    plugin = folder / "tasks" / "ward_questions" / "plugin.py"
    plugin.write_text(plugin.read_text() + "\n# Another version.\n")
    (other,) = slmbench.evaluate("nano", "ward_questions", format="tagged", out=str(tmp_path / "o"), limit=4)
    assert other.run_id != run.run_id
    assert other.record["comparability_key"] != run.record["comparability_key"]
    assert other.record["task"]["digest"] != run.record["task"]["digest"]


def test_a_pooled_metric_of_a_plugin_is_read_back_and_refused_when_it_has_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = folder / "tasks" / "ward_questions" / "task.yaml"
    declared.write_text(declared.read_text().replace("unit_match]", "chars_f1]"))
    (run,) = slmbench.evaluate("nano", "ward_questions", out=str(tmp_path / "o"), limit=5)
    parts = [sample["parts"]["chars_f1"] for sample in run.samples()]
    common, got, wanted = (sum(column) for column in zip(*parts, strict=True))
    metric = next(one for one in run.record["metrics"] if one["name"] == "chars_f1")
    assert metric["value"] == pytest.approx(2 * common / (got + wanted)) and metric["pooled"]
    (read,), _ = load_runs(run.folder)
    assert read.pooled["chars_f1"].value == metric["value"]
    own = slmbench.default_catalog()
    with monkeypatch.context() as alone:  # Whoever gives a catalog needs no SLMBENCH_PATH.
        alone.delenv("SLMBENCH_PATH")
        (again,) = slmbench.evaluate("nano", "ward_questions", out=str(tmp_path / "o"), limit=5, catalog=own)
        assert again.run_id == run.run_id and load_runs(run.folder, own)[0][0].pooled == read.pooled
        # The run's own columns have what a leaderboard needs; without them it is made of the samples, by the plugin.
        assert load_runs(run.folder)[0][0].pooled == read.pooled
        (Path(run.folder) / "item_scores.parquet").unlink()
        with pytest.raises(SlmbenchError, match=r"can't be pooled: unknown task 'ward_questions'"):
            load_runs(run.folder)
    code = folder / "plugins" / "weighted_sum.py"
    code.write_text(code.read_text() + "\n# Another version.\n")
    with pytest.raises(SlmbenchError, match=r"chars_f1' can't be pooled: its plugin has changed: it was version 1-"):
        load_runs(run.folder)
    shutil.rmtree(folder / "tasks")
    with pytest.raises(SlmbenchError, match=r"can't be pooled: unknown task 'ward_questions'"):
        load_runs(run.folder)


def test_an_adapter_trained_in_a_plugins_format_is_scored_in_it(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "tagged.yaml"
    recipe.write_text(
        "summary: Trained in a format that the task's plugin brings.\nmodel: nano\nformat: tagged\n"
        "adapters: {ward: {tasks: [ward_questions], steps: 4}}\nlora: {rank: 4}\noptim: {batch: 4}\n"
        "evaluation: {tasks: [ward_questions], limit: 2}\n"
    )
    assert main(["run", str(recipe), "--out", str(tmp_path / "o")]) == 0
    training = json.loads((tmp_path / "o" / "adapters" / "ward" / "training.json").read_text())
    assert training["settings"]["format"] == "tagged"
    runs, _ = load_runs(tmp_path / "o")
    assert [run.record["format"] for run in runs] == ["tagged", "tagged"]
    again = {"adapter": str(tmp_path / "o" / "adapters" / "ward"), "out": str(tmp_path / "o"), "limit": 1}
    with pytest.raises(SlmbenchError, match=r"plugin\.py:\d+ for that task alone, and nano_note can't be asked in it"):
        slmbench.evaluate("nano", "nano_note", **again)
    # As the error says: in plugins/ every task finds it.
    plugin = folder / "tasks" / "ward_questions" / "plugin.py"
    shutil.copy(plugin, folder / "plugins" / "ward.py")
    plugin.unlink()
    (run,) = slmbench.evaluate("nano", "nano_note", **again)
    assert run.record["format"] == "tagged" and run.record["adapter"]["name"] == "ward"
    broken = recipe.with_name("broken.yaml")
    broken.write_text(recipe.read_text().replace("format: tagged", "format: taged"))
    with pytest.raises(SlmbenchError, match=r"broken.yaml:3:1: unknown format 'taged'; did you mean 'tagged'\?"):
        from slmbench.recipe import load_recipe

        load_recipe(str(broken), default_catalog())


def test_a_format_is_asked_what_it_is_and_not_its_name(folder: Path) -> None:
    task = slmbench.load_task("ward_questions")
    style = load_format("tagged", task.plugins)
    assert (style.turns, style.fenced, style.plugin) == (False, True, True)
    assert style.version.startswith("1-") and style.read(" 3 kg</answer> and more", False) == "3 kg"


@pytest.mark.slow
def test_the_same_as_an_installed_package(tmp_path: Path) -> None:
    """As pip installs it, beside slmbench, in a fresh process."""
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation", "--target", site]
    done = subprocess.run([*pip, tmp_path / PACKAGE.name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    env = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}

    def slm(*argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "slmbench", *argv], env=env, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = {one["name"]: one["path"] for one in json.loads(slm("list", "metrics", "--json"))}
    assert listed["ward_unit_match"] == str(site / "slmbench_task_example" / "registered.py")
    assert json.loads(slm("check", "ward_lines", "--json"))[0]["ok"]
    command = ("eval", "nano", "--tasks", "ward_lines", "--format", "ward_tagged", "--limit", "2", "--json")
    [record] = json.loads(slm(*command))
    assert record["task"]["package"] == {"name": "slmbench-task-example", "version": "0.1.0"}
    assert [one["name"] for one in record["metrics"]] == ["exact_match", "ward_unit_match"]


def test_the_package_s_page_names_what_is_there() -> None:
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    assert [name for name in re.findall(r"\]\(([^)]+)\)", text) if not (PACKAGE / name).is_file()] == []
    code = (PACKAGE / "slmbench_task_example" / "registered.py").read_text(encoding="utf-8")
    assert re.findall(r"`(ward_\w+)`", text) == ["ward_unit_match", "ward_tagged", "ward_rows"]
    assert sorted(re.findall(r'"(ward_\w+)",', code)) == ["ward_rows", "ward_tagged", "ward_unit_match"]


def test_the_databases_are_what_their_script_writes(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    subprocess.run([sys.executable, str(EXAMPLES / "make_ward.py"), str(made)], check=True)
    import sqlite3

    def rows(path: Path) -> list[tuple[object, ...]]:
        with sqlite3.connect(path) as connection:
            return connection.execute("select * from lines order by id").fetchall()

    shipped = sorted(EXAMPLES.rglob("ward.db"))
    assert len(shipped) == 2
    assert all(rows(path) == rows(made / "ward.db") for path in shipped)


def test_a_record_of_a_newer_schema_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (run,) = slmbench.evaluate("nano", "ward_questions", out=str(tmp_path / "o"), limit=1)
    path = Path(run.folder) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    with pytest.raises((FileError, SlmbenchError), match=r"has schema 2, and this slmbench reads 1"):
        load_runs(run.folder)


def test_an_engine_of_a_file_gives_the_numbers_of_slmbenchs_own(folder: Path, tmp_path: Path) -> None:
    asked = {"limit": 4, "out": str(tmp_path / "o")}
    ours = slmbench.evaluate("nano", "nano_choice,nano_note", **asked)
    theirs = slmbench.evaluate("nano", "nano_choice,nano_note", engine="one_by_one", **asked)
    for one, other in zip(ours, theirs, strict=True):
        assert one.run_id != other.run_id
        assert other.record["engine"] == "one_by_one"
        assert re.match(r"one_by_one@1-[0-9a-f]{12}/lm-eval-", other.record["engine_version"])
        assert one.record["comparability_key"] == other.record["comparability_key"]
        for sample, again in zip(one.samples(), other.samples(), strict=True):
            assert sample["output"] == again["output"]
            assert (again["loglikelihoods"] or []) == pytest.approx(sample["loglikelihoods"] or [], abs=1e-4)
            assert (sample["finish_reason"], sample["tokens_out"]) == (again["finish_reason"], again["tokens_out"])


@pytest.mark.parametrize(
    ("line", "instead", "said"),
    [
        ("yield at, ScoreAnswer", "yield 0, ScoreAnswer", "request 0 of 8 is answered twice"),
        ("yield at, ScoreAnswer", "yield ScoreAnswer", "it has to be (index of a request, ScoreAnswer)"),
        ("ScoreAnswer(total,", "ScoreAnswer(torch.tensor(total),", "loglikelihood is tensor("),
        ("ScoreAnswer(total,", "ScoreAnswer(0.5,", "loglikelihood is 0.5; it has to be a float, 0.001 at most"),
        ("bool((logged", "int((logged", "greedy is "),
        ("took_ms, took_ms)", "took_ms, float('nan'))", "share_ms is nan"),
        ("took_ms, took_ms)", "-1, took_ms)", "latency_ms is -1"),
        ("self.max_length = model", "self.max_length = 0 * model", "max_length is 0"),
        ("    return OneByOne(loaded.model, loaded.tokenizer)", "    return None", "a NoneType is not an engine"),
        ("self.vocabulary = model", "self.vocabulary = '' and model", "vocabulary is ''"),
        ('version="1")', 'version="1", options="latency")', "options is a list of kv_budget, latency"),
        ("in enumerate(requests):", "in enumerate(requests[1:]):", "1 of 8 requests have no answer"),
        ("begun = time.perf_counter()", "raise KeyError('gone')", "KeyError: 'gone'"),
        ("    return OneByOne(loaded.model", "    return OneByOn(loaded.model", "NameError: name 'OneByOn' is not"),
    ],
)
def test_what_a_plugins_engine_does_wrong_is_told_with_its_line(
    line: str, instead: str, said: str, folder: Path, tmp_path: Path
) -> None:
    code = folder / "plugins" / "one_by_one.py"
    code.write_text(code.read_text().replace(line, instead))
    with pytest.raises(HookError, match=rf"one_by_one\.py:\d+: (engine|while).*{re.escape(said)}"):
        slmbench.evaluate("nano", "nano_choice", engine="one_by_one", limit=2, out=str(tmp_path / "o"))
    assert not list((tmp_path / "o").rglob("samples.jsonl"))


@pytest.mark.parametrize(
    ("line", "instead", "said"),
    [
        ("WriteAnswer(text, len", "WriteAnswer(None, len", "text is None; it has to be a str"),
        ("len(ids) - start, reason", "-1, reason", "tokens_out is -1"),
        (
            "start, reason, took",
            "start, 'done', took",
            "finish_reason is 'done'; it has to be one of eos",
        ),
    ],
)
def test_a_text_that_is_none_is_told_before_it_is_journaled(
    line: str, instead: str, said: str, folder: Path, tmp_path: Path
) -> None:
    code = folder / "plugins" / "one_by_one.py"
    code.write_text(code.read_text().replace(line, instead))
    with pytest.raises(HookError, match=rf"one_by_one\.py:\d+: engine 'one_by_one': .*{re.escape(said)}"):
        slmbench.evaluate("nano", "nano_note", engine="one_by_one", limit=1, out=str(tmp_path / "o"))
    assert [path.read_text() for path in (tmp_path / "o").rglob("responses.jsonl")] == [""]


def test_an_engine_is_known_to_recipes_and_an_unknown_one_is_told_before_a_model_is_looked_for(
    folder: Path, tmp_path: Path
) -> None:
    recipe = load_recipe("nano-quickstart", default_catalog(), ["evaluation.engine=one_by_one"])
    assert recipe.spec.evaluation.engine == "one_by_one"
    with pytest.raises(SlmbenchError, match="unknown engine 'one_by_two'; did you mean 'one_by_one'"):
        load_recipe("nano-quickstart", default_catalog(), ["evaluation.engine=one_by_two"])
    with pytest.raises(UsageError, match="unknown engine 'one_by_two'; did you mean 'one_by_one'"):
        slmbench.evaluate("nano", "nano_choice", engine="one_by_two", out=str(tmp_path))
    with pytest.raises(UsageError, match="latency: only the engines `shared`, `llamacpp`, `server` know it"):
        slmbench.evaluate("nano", "nano_choice", engine="one_by_one", latency=True, out=str(tmp_path))
