"""`slmbench route` and `--adapter auto`: from adapters' folders to a page, in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slmbench.cli import main
from slmbench.leaderboard import load_runs, routings
from slmbench.routing import read_router


@pytest.fixture(scope="module")
def shelf(base, random_adapter, tmp_path_factory):
    """A folder with adapters for three tasks, and one that no training knows."""
    shelf = tmp_path_factory.mktemp("shelf")
    for seed, task in enumerate(("nano_arithmetic", "nano_note", "nano_choice")):
        random_adapter(base, shelf / task.removeprefix("nano_"), seed, [task])
    random_adapter(base, shelf / "stranger", 5)
    return shelf


def _fit(shelf, out, *more, adapters=("arithmetic", "choice")):
    given = [part for name in adapters for part in ("--adapter", str(shelf / name))]
    return main(["route", "fit", "nano", *given, "--rows", "60", "--validation-rows", "20", "--out", str(out), *more])


@pytest.fixture(scope="module")
def folder(shelf):
    assert _fit(shelf, shelf / "router") == 0
    return shelf / "router"


@pytest.fixture(scope="module")
def tried(folder, shelf):
    """The output folder of a trial with an unknown task and an adapter beside it."""
    out = shelf / "out"
    asked = ["route", "eval", str(folder), "--unknown", "nano_note", "--beside", str(shelf / "note"), "--limit", "8"]
    assert main([*asked, "--out", str(out)]) == 0
    return out


def test_show_says_what_a_router_is_and_where_a_text_goes(folder, capsys):
    assert main(["route", "show", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "router of nano: head tfidf" in told and "adapter arithmetic: nano_arithmetic" in told
    assert "length" in told and "threshold" in told
    assert main(["route", "show", str(folder), "How many figs are there: 3 figs and 4 figs?", "--json"]) == 0
    route = json.loads(capsys.readouterr().out)
    assert set(route) == {"adapter", "task", "scores"} and sum(route["scores"].values()) == pytest.approx(1)


def test_all_rows_stand_on_one_leaderboard(tried):
    board = json.loads((tried / "leaderboard" / "leaderboard.json").read_text())
    names = {row["name"] for row in board["rows"]}
    assert names == {"nano", "nano + auto", "nano + random", "nano + oracle", "nano + note"}


def test_what_is_reported_of_a_router_is_what_its_samples_say(tried, folder):
    runs, _ = load_runs(tried)
    (found,) = routings(runs)
    assert found.columns == ("arithmetic", "choice", "the base")
    assert {one.task: one.own for one in found.tasks} == {
        "nano_arithmetic": "arithmetic", "nano_choice": "choice", "nano_note": "the base",
    }  # fmt: skip
    scores, right, stray = {}, [], []
    for name in ("auto", "oracle"):
        for path in tried.glob(f"runs/nano+{name}__*/samples.jsonl"):
            for line in path.read_text().splitlines():
                sample = json.loads(line)
                task = path.parent.name.split("__")[1]
                scores[name, task, sample["item_id"]] = next(iter(sample["scores"].values()))
                if name == "auto" and task == "nano_note":
                    stray.append(sample["adapter"] is not None)
                elif name == "auto":
                    right.append(sample["adapter"] == task.removeprefix("nano_"))
    assert len(right) == 16 and found.accuracy.value == sum(right) / 16
    assert len(stray) == 8 and found.false_routes.value == sum(stray) / 8
    lost = [
        scores["oracle", task, item] - value
        for (name, task, item), value in scores.items()
        if name == "auto" and task != "nano_note"
    ]
    assert found.regret.value == pytest.approx(sum(lost) / len(lost))
    assert found.regret.ci_low <= found.regret.value <= found.regret.ci_high
    assert found.remark.startswith("routed by tfidf")


def test_the_page_has_the_matrix_as_a_table_with_words_for_who_does_not_see_it(tried):
    page = (tried / "leaderboard" / "index.html").read_text()
    section = page.partition('<section id="routing">')[2].partition("</section></section>")[0]
    assert "Confusion matrix of nano + auto" in section and "<caption>" in section
    assert section.count(">, where they belong<") == 3 and 'scope="row">nano_note' in section
    assert "routed by tfidf" in section and "Regret" in section and "False routes" in section
    assert "to route a request" in section and "+ auto, + oracle, + random" in page
    assert "style=" not in section and "<script" not in section


def test_auto_in_eval_adds_the_routed_row_alone(folder, tmp_path, capsys):
    asked = ["eval", "nano", "--adapter", "auto", "--tasks", "nano_arithmetic", "--limit", "4", "--out", str(tmp_path)]
    assert main([*asked, "--router", str(folder), "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [one["adapter"] and one["adapter"]["name"] for one in records] == [None, "auto"]
    assert records[1]["adapter"]["sha256"] == read_router(str(folder)).sha256
    assert sorted(records[1]["adapter"]["choices"]) == ["arithmetic", "choice"]
    assert "choice_ms" not in records[0]["cost"]
    (found,) = routings(load_runs(tmp_path)[0])  # With no oracle's row: the router itself knows whose tasks are whose.
    went = [json.loads(line)["adapter"] for path in tmp_path.glob("runs/*+auto*/samples.jsonl") for line in path.open()]
    assert found.accuracy.value == went.count("arithmetic") / 4 and found.tasks[0].own == "arithmetic"
    assert found.regret is None and found.ms == records[1]["cost"]["choice_ms"] > 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--adapter", "auto"], "--adapter auto needs --router DIR"),
        (["--router", "{folder}"], "what it is for is not said; add --adapter auto"),
        (["--adapter", "auto", "--router", "{shelf}"], "is not a router's folder: it has no router.json"),
    ],
)
def test_auto_without_a_router_and_a_router_without_auto_are_errors(folder, shelf, tmp_path, capsys, more, message):
    more = [part.format(folder=folder, shelf=shelf) for part in more]
    assert main(["eval", "nano", "--tasks", "nano_arithmetic", "--out", str(tmp_path), *more]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("adapters", "more", "message"),
    [
        (("arithmetic", "arithmetic"), [], "arithmetic is given twice"),
        (("arithmetic", "stranger"), [], "nothing tells when adapter 'stranger' is meant"),
        (("arithmetic",), ["--tasks", "nano_notes"], "no adapter was trained on that task"),
        (("arithmetic",), ["--tasks", "arithmetics=nano_note"], "no adapter 'arithmetics'; did you mean 'arithmetic'"),
        (("arithmetic",), ["--unknown", "nano_arithmetic"], "adapter 'arithmetic' is for that task"),
        (("arithmetic",), ["--head", "tfdif"], "no head 'tfdif'; did you mean 'tfidf'"),
        (("nowhere",), [], "there is no such folder"),
    ],
)
def test_what_cannot_be_fitted_is_named_and_nothing_is_written(shelf, tmp_path, capsys, adapters, more, message):
    assert _fit(shelf, tmp_path / "router", *more, adapters=adapters) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_without_a_training_is_given_its_task_by_hand(shelf, tmp_path, capsys):
    given = ["--tasks", "stranger=nano_note,nano_arithmetic"]
    assert _fit(shelf, tmp_path / "router", *given, adapters=("arithmetic", "stranger")) == 0
    assert read_router(str(tmp_path / "router")).owners == {"nano_note": "stranger", "nano_arithmetic": "arithmetic"}


def test_adapters_from_elsewhere_alone_are_told_apart_by_their_weights(shelf, tmp_path, base, random_adapter, capsys):
    random_adapter(base, tmp_path / "other", 6)
    given = [part for path in (shelf / "stranger", tmp_path / "other") for part in ("--adapter", str(path))]
    assert main(["route", "fit", "nano", *given, "--out", str(tmp_path / "router")]) == 0
    assert "head arrow" in capsys.readouterr().out
    assert main(["route", "show", str(tmp_path / "router"), "What is it?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] is None


def test_a_threshold_by_score_is_chosen_on_rows_that_no_adapter_saw(shelf, tmp_path, capsys):
    assert _fit(shelf, tmp_path / "router", "--score-rows", "4") == 0
    assert "nano_arithmetic: 4 rows, split 'validation'" in capsys.readouterr().err
    told = read_router(str(tmp_path / "router")).facts["threshold"]
    assert (told["by"], told["rows"]) == ("score", 8) and 0 <= told["reached"] <= 1


def test_an_adapter_that_changed_is_refused_before_anything_runs(folder, shelf, tmp_path, base, random_adapter, capsys):
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved / "router")
    for name in ("arithmetic", "choice"):
        shutil.copytree(shelf / name, moved / name)
    assert {Path(one.folder).parent for one in read_router(str(moved / "router")).adapters} == {moved}
    shutil.rmtree(moved / "choice")
    random_adapter(base, moved / "choice", 9)
    asked = ["eval", "nano", "--adapter", "auto", "--router", str(moved / "router"), "--tasks", "nano_arithmetic"]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 2
    assert "was fitted for adapter 'choice'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
