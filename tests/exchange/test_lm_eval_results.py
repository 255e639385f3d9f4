"""lm-eval's own files in, and ours out to its layout: the same items, the same scores, and nothing taken on trust."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import Catalog, default_catalog
from slmbench.cli import main
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.exchange import export_lm_eval, import_lm_eval
from slmbench.leaderboard import audit, build_leaderboard, read_runs
from slmbench.models import load_model, resolve_model
from slmbench.paths import package_dir
from slmbench.runs import Run, read_record
from slmbench.task import load_task
from slmbench.workflow.score import score
from tests.damage import GONE, places, put

CHOICES = [
    {"question": "Which is a fruit?", "options": ["an apple", "a brick", "a plane"], "label": 0},
    {"question": "Which can fly?", "options": ["a brick", "a plane", "an apple"], "label": 1},
    {"question": "Which is of stone?", "options": ["an apple", "a plane", "a brick"], "label": 2},
]
SUMS = [{"question": f"What is {n} + {n}?", "answer": f"Twice {n}.\n#### {2 * n}"} for n in (1, 2, 3)]
# The same declaration twice: as lm-eval has it, and as a task folder of ours.
THEIRS = """\
task: fruits
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/fruits.jsonl}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: label
doc_to_choice: options
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
metadata: {{version: 1.0}}
"""
SUMS_YAML = """\
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/sums.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["Question:"], do_sample: false, max_gen_toks: 8}}
metric_list: [{{metric: exact_match, regexes_to_ignore: [",", "(?s).*#### "]}}]
filter_list:
  - {{name: strict-match, filter: [{{function: regex, regex_pattern: "#### ([0-9]+)"}}, {{function: take_first}}]}}
  - {{name: get-answer, filter: [{{function: regex, regex_pattern: "([0-9]+)"}}, {{function: take_first}}]}}
metadata: {{version: 2.0}}
"""
OURS = """\
summary: Things.
version: 7
license: mit
dataset: {files: {test: test.jsonl}, columns: [question, options, label]}
kind: choice
train_split: null
prompt: {user: "Question: {{ question }}", prefix: "Answer:"}
choices: options
gold: "{{ label }}"
metrics: [accuracy, accuracy_norm, bits_per_byte]
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a real call of lm-eval on nano."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("lm_eval")
    for name, rows in (("fruits", CHOICES), ("sums", SUMS)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "fruits.yaml").write_text(THEIRS.format(folder=folder))
    (folder / "sums.yaml").write_text(SUMS_YAML.format(folder=folder))
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(Path(package_dir()) / "nano" / "model"), "dtype": "float32", "max_length": 512},
        tasks=["fruits", "sums"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        evaluation_tracker=tracker,
        device="cpu",
        bootstrap_iters=0,
        log_samples=True,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for name in results["configs"]:
        tracker.save_results_samples(task_name=name, samples=samples[name])
    return folder / "out"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    root = tmp_path_factory.mktemp("user")
    (root / "tasks" / "things").mkdir(parents=True)
    (root / "tasks" / "things" / "task.yaml").write_text(OURS)
    (root / "tasks" / "things" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CHOICES))
    return Catalog([*default_catalog().roots, str(root)])


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> Run:
    """nano on the same rows, asked the same by a task of ours."""
    nano = load_model(resolve_model("nano", default_catalog()))
    out = tmp_path_factory.mktemp("ours")
    return evaluate_tasks(nano, [load_task("things", catalog)], EvaluationOptions(out=str(out)))[0]


@pytest.fixture
def copied(theirs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(theirs, tmp_path / "theirs"))


def _by_task(runs: tuple[Run, ...]) -> dict[str, Run]:
    return {run.record["task"]["id"]: run for run in runs}


def _values(run: Run) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in run.record["metrics"]}


def _results(folder: Path) -> dict[str, Any]:
    return json.loads(next(folder.rglob("results_*.json")).read_text())


def _change(folder: Path, pattern: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Changes the JSON lines of the files of a pattern."""
    for path in folder.rglob(pattern):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        change(rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_lm_eval_measured_comes_in_as_it_is(theirs: Path, tmp_path: Path) -> None:
    done = import_lm_eval(theirs, str(tmp_path))
    assert (done.problems, done.notices) == ((), ())
    runs, told = _by_task(done.runs), _results(theirs)["results"]
    # What our metrics score the same has our name; what they don't know keeps lm-eval's.
    assert _values(runs["fruits"]) == {
        "accuracy": told["fruits"]["acc,none"],
        "accuracy_norm": told["fruits"]["acc_norm,none"],
    }
    assert _values(runs["sums"]) == {
        "exact_match/strict": told["sums"]["exact_match,strict-match"],
        "exact_match/get-answer": told["sums"]["exact_match,get-answer"],
    }
    assert [metric["scorer"] for metric in runs["sums"].record["metrics"]][1] == "lm-eval/exact_match/get-answer"
    first = runs["fruits"].samples()[0]
    assert first["prompt"] == "Question: Which is a fruit?\nAnswer:"
    assert (first["choices"], first["gold"], first["item_id"]) == (CHOICES[0]["options"], 0, "test-0")
    assert runs["sums"].samples()[0]["references"] == [SUMS[0]["answer"]]
    assert read_runs(tmp_path).problems == ()
    assert import_lm_eval(theirs, str(tmp_path)).runs[0].record == done.runs[0].record  # It is there already.
    (line,) = build_leaderboard(list(read_runs(tmp_path).runs)).rows
    assert "imported" in line.badges


def test_only_the_same_prompts_are_ranked_with_ours(theirs: Path, ours: Run, copied: Path, tmp_path: Path) -> None:
    fruits = _by_task(import_lm_eval(theirs, str(tmp_path / "a"), [ours]).runs)["things"]
    assert fruits.record["imported"]["same_prompts_as"] == ours.run_id
    assert [one for run in (fruits, ours) for one in audit(Path(run.folder)).problems] == []
    assert fruits.record["comparability_key"] == ours.record["comparability_key"]
    assert [row["item_id"] for row in fruits.samples()] == [row["item_id"] for row in ours.samples()]
    assert _values(fruits)["accuracy"] == _values(ours)["accuracy"]
    board = build_leaderboard([*read_runs(tmp_path / "a").runs, *read_runs(ours.folder).runs])
    (column,) = (one for one in board.columns if one.key == "things/accuracy")
    assert column.ranked == 2

    def other(rows: list[dict[str, Any]]) -> None:
        for request in rows[0]["arguments"].values():
            request["arg_0"] += " "

    _change(copied, "samples_fruits_*", other)
    fruits = _by_task(import_lm_eval(copied, str(tmp_path / "b"), [ours]).runs)["fruits"]
    assert fruits.record["imported"]["same_prompts_as"] is None
    assert fruits.record["comparability_key"] != ours.record["comparability_key"]


def test_an_imported_run_is_scored_again(theirs: Path, tmp_path: Path) -> None:
    fruits = _by_task(import_lm_eval(theirs, str(tmp_path)).runs)["fruits"]
    (again,) = score(fruits, metrics="accuracy,bits_per_byte")
    assert _values(again)["accuracy"] == _values(fruits)["accuracy"]
    assert again.record["imported"] == fruits.record["imported"]


def test_values_that_their_samples_do_not_hold_are_left_out(copied: Path, tmp_path: Path) -> None:
    path = next(copied.rglob("results_*.json"))
    told = json.loads(path.read_text())
    told["results"]["fruits"]["acc,none"] = 0.9
    path.write_text(json.dumps(told))
    done = import_lm_eval(copied, str(tmp_path / "out"))
    assert set(_values(_by_task(done.runs)["fruits"])) == {"accuracy_norm"}
    assert any("acc,none left out: it is 0.9, and the mean" in notice for notice in done.notices)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.append(rows[0]), "doc_id 0 appears more than once"),
        (lambda rows: rows[0].update(resps="x"), 'field resps is "x"'),
        (lambda rows: rows[0].update(resps=[[["nan", "False"]]] * 3), "a finite log-likelihood"),
        (lambda rows: rows[0].update(arguments={"gen_args_0": {}}), "a request whose context is not a text"),
        (lambda rows: rows[0].pop("doc_id"), "field doc_id is missing"),
        (lambda rows: rows.clear(), "holds no item"),
        (lambda rows: rows[1].update(resps=[[["-1e305", "False"]]] * 3), "a finite log-likelihood"),
    ],
)
def test_broken_files_are_named_and_the_others_come_in(
    copied: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], said: str
) -> None:
    _change(copied, "samples_fruits_*", change)
    done = import_lm_eval(copied, str(tmp_path / "out"))
    assert [run.record["task"]["id"] for run in done.runs] == ["sums"]
    assert said in str(done.problems[0])
    assert "samples_fruits" in done.problems[0].path


def test_files_of_earlier_versions_come_in(copied: Path, theirs: Path, tmp_path: Path) -> None:
    def older(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["arguments"] = [[one["arg_0"], one["arg_1"]] for one in row["arguments"].values()]
            row["target"] = int(row["target"])
            del row["filter"], row["metrics"]

    _change(copied, "samples_fruits_*", older)
    path = next(copied.rglob("results_*.json"))
    told = json.loads(path.read_text())
    told["config"]["model_args"] = "pretrained=/x/nano,dtype=float32"
    path.write_text(json.dumps(told))
    new, old = (
        _by_task(import_lm_eval(one, str(tmp_path / one.parent.name)).runs)["fruits"] for one in (theirs, copied)
    )
    assert old.record["metrics"] == new.record["metrics"]
    assert old.samples() == new.samples()
    assert (old.record["model"]["name"], old.record["model"]["id"]) == ("nano", "/x/nano")


def test_a_task_without_answers_is_left_out_and_told(copied: Path, tmp_path: Path) -> None:
    path = next(copied.rglob("results_*.json"))
    told = json.loads(path.read_text())
    told["configs"]["sums"]["output_type"] = "loglikelihood_rolling"
    path.write_text(json.dumps(told))
    done = import_lm_eval(copied, str(tmp_path / "out"))
    assert (len(done.runs), done.problems) == (1, ())
    assert done.notices == ("sums: left out: loglikelihood_rolling has no answers that could be shown or scored again",)


def test_a_file_that_is_cut_at_any_byte_never_traces_back(copied: Path, tmp_path: Path) -> None:
    samples, results = next(copied.rglob("samples_sums_*")), next(copied.rglob("results_*.json"))
    for path in (samples, results):
        whole = path.read_bytes()
        for cut in range(0, len(whole), max(1, len(whole) // 40)):
            path.write_bytes(whole[:cut])
            done = import_lm_eval(copied, str(tmp_path / "out"))
            assert done.problems or len(done.runs) == 2, cut
        path.write_bytes(whole)


def test_anything_in_any_place_is_told_or_changes_no_number(copied: Path, tmp_path: Path) -> None:
    others = (None, True, -1, 10**30, -1e300, "", "../../x", "\ud800", [], {}, {"a": 1}, GONE)
    files = [next(copied.rglob(name)) for name in ("results_*", "samples_fruits_*", "samples_sums_*")]
    tried = 0
    for path in files:
        whole = path.read_text()
        first, *rest = whole.splitlines(keepends=True) if path.suffix == ".jsonl" else [whole]
        found = json.loads(first)
        damaged = [(place, other) for place in places(found) if place for other in others]
        for place, other in damaged[7::60]:  # All of them were tried once, which takes a minute.
            path.write_text(json.dumps(put(found, place, other)) + "\n" + "".join(rest))
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            done = import_lm_eval(copied, str(tmp_path / "out"))
            tried += 1
            assert done.runs or done.problems
            assert not done.runs or read_runs(tmp_path / "out").problems == (), (place, other)
            assert {one.name for one in tmp_path.iterdir()} <= {"theirs", "out"}, (place, other)
        path.write_text(whole)
    assert tried > 40


def test_a_folder_without_results_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "import", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "has no results of lm-eval (results_<date>.json) with samples" in capsys.readouterr().err
    assert main(["runs", "import", str(tmp_path / "nowhere")]) == 2


def test_what_goes_out_comes_back(theirs: Path, ours: Run, tmp_path: Path) -> None:
    imported = import_lm_eval(theirs, str(tmp_path / "in")).runs
    files, notices = export_lm_eval([*imported, ours], str(tmp_path / "out"))
    assert notices == []
    assert len(files) == 5  # Two tasks of one call, and one of another.
    again = import_lm_eval(tmp_path / "out", str(tmp_path / "again"), [ours])
    assert again.problems == ()
    back = {run.record["task"]["id"]: run for run in again.runs if not run.record["imported"]["same_prompts_as"]}
    for run in imported:
        other = back.get(run.record["task"]["id"])
        if other is None:  # fruits is asked as ours is.
            continue
        assert _values(other) == _values(run)
        for row, theirs_row in zip(run.samples(), other.samples(), strict=True):
            for key in ("prompt", "target", "output", "choices", "loglikelihoods", "gold", "scores"):
                assert row.get(key) == theirs_row.get(key), key
    mine = next(run for run in again.runs if "bits_per_byte" in _values(run))
    assert _values(mine) == pytest.approx(_values(ours), abs=1e-12)
    told = {**ours.record, "format": "toon", "limit": 9, "model": {**ours.record["model"], "quantization": "nf4"}}
    export_lm_eval([Run(ours.folder, told)], str(tmp_path / "limited"))
    (mine,) = import_lm_eval(tmp_path / "limited", str(tmp_path / "limited")).runs
    assert {key: mine.record[key] for key in ("format", "limit", "seed")} == {"format": "toon", "limit": 9, "seed": 0}
    assert [mine.record["model"][key] for key in ("name", "id", "quantization")] == ["nano", "slmbench/nano", "nf4"]
    assert mine.record["task"]["id"] == ours.record["task"]["id"] and mine.run_id.startswith("nano__things__")


def test_lm_eval_reads_its_own_layout_of_ours(ours: Run, theirs: Path, tmp_path: Path) -> None:
    from lm_eval.utils import make_table

    export_lm_eval([ours], str(tmp_path))
    made, real = _results(tmp_path), _results(theirs)
    assert set(made["results"]["things"]) >= {"alias", "sample_len", "acc,none", "acc_stderr,none"}
    assert set(made["configs"]["things"]) <= {*real["configs"]["fruits"], "generation_kwargs"}
    assert set(made) - set(real) <= {"slmbench"}
    assert "|things|      7|none  |     0|acc          |" in make_table(made)
    line = json.loads(next(tmp_path.rglob("samples_things_*")).read_text().splitlines()[0])
    real_line = json.loads(next(theirs.rglob("samples_fruits_*")).read_text().splitlines()[0])
    assert set(real_line) <= set(line)
    for key in ("arguments", "target", "doc_id", "metrics", "prompt_hash", "target_hash", "acc"):
        theirs_value = real_line[key]
        assert line[key] == theirs_value or (key == "metrics" and set(theirs_value) <= set(line[key])), key


def test_choices_with_prompts_of_their_own_do_not_go_out(tmp_path: Path) -> None:
    nano = load_model(resolve_model("nano", default_catalog()))
    task = load_task("winogrande", data="samples")
    run = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path), limit=1))[0]
    files, notices = export_lm_eval([Run(run.folder, read_record(run.folder))], str(tmp_path / "out"))
    assert files == []
    assert "each choice has a prompt of its own" in notices[0]
