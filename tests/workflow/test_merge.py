"""Merges of two tiny adapters of nano, through the same doors as the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.datasets import Dataset
from slmbench.errors import UsageError
from slmbench.merging import merge
from slmbench.models import load_model, resolve_model
from slmbench.paths import package_dir
from slmbench.runs import read_merge
from slmbench.task import Task, _task
from slmbench.training import HeldOutRows
from slmbench.workflow import merge_search
from slmbench.workflow.candidates import result_on
from slmbench.workflow.merge import MergeAsked, ReadyMerges, make_merges, ready_merges

RECIPE = """\
kind: merge
summary: s
train:
  recipe: nano-quickstart
  set: {rows: 40, optim: {batch: 8, warmup_steps: 1}, adapters: {note: {steps: 3}, choice: {steps: 3}}}
inputs: [note, choice]
merges:
  scaled: {method: task_arithmetic, parameters: {lambda: {search: [0.0, 1.0, 200.0]}}}
  greedy: {method: soup, greedy: true}
  ties: {method: ties, parameters: {density: {search: [0.2, 1.0]}}}
  dare: {method: dare_linear, seeds: [0, 1]}
search: {rows: 8, first_rows: 4}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the recipe's file, the folder with its two adapters)."""
    folder = tmp_path_factory.mktemp("merges")
    recipe = folder / "m.yaml"
    recipe.write_text(RECIPE)
    assert main(["train", str(recipe), "--out", str(folder / "out")]) == 0
    return recipe, folder / "out"


def ready(trained: tuple[Path, Path], *only: str, **changes: Any) -> ReadyMerges:
    recipe, out = trained
    return ready_merges(MergeAsked(recipe=str(recipe), out=str(out), only=only, **changes), default_catalog())


def search_of(out: Path, name: str) -> dict[str, Any]:
    (path,) = out.glob(f"*/{name}/merge.json")
    return dict(json.loads(path.read_text())["search"])


@pytest.fixture
def no_test_split(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Data sets whose test split raises when it is read but to be compared with; yields the splits that were."""
    read: list[str] = []
    comparing: list[bool] = []
    fetch, compare = _task.fetch_rows, merge_search.without_evaluated

    def guarded(dataset: Dataset, split: str, **options: Any) -> object:
        assert split != "test" or comparing, f"the test split of {dataset.name} was read"
        read.append(split)
        return fetch(dataset, split, **options)

    def compared(held: HeldOutRows, task: Task, evaluated: Sequence[Task]) -> HeldOutRows:
        comparing.append(True)
        try:
            return compare(held, task, evaluated)
        finally:
            comparing.clear()

    monkeypatch.setattr(_task, "fetch_rows", guarded)
    monkeypatch.setattr(merge_search, "without_evaluated", compared)
    yield read


@pytest.mark.parametrize("by", ["loss", "score"])
def test_a_search_asks_no_row_of_a_test_split(trained: tuple[Path, Path], no_test_split: list[str], by: str) -> None:
    recipe, out = trained
    found = recipe.with_name(f"{by}.yaml")
    found.write_text(RECIPE.replace("first_rows: 4", f"first_rows: 4, by: {by}, tasks: [nano_choice]"))
    (made,) = make_merges(ready((found, out), "scaled"), default_catalog())
    assert "validation" in no_test_split
    log = made.result.record.search
    assert log is not None and log["by"] == by
    assert log["rows"] == {"nano_choice": {"rows": 8, "from": "split 'validation'"}}


def test_a_search_may_be_a_race_by_e_values(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = trained
    found = recipe.with_name("raced.yaml")
    found.write_text(
        RECIPE.replace("first_rows: 4", "first_rows: 4, race: true, tasks: [nano_choice]").replace("scaled", "raced")
    )
    with pytest.raises(UsageError, match=r"search\.race tells candidates apart by e-values.*search\.by=score"):
        make_merges(ready((found, out), "raced"), default_catalog())
    capsys.readouterr()
    assert main(["merge", str(found), "--only", "raced", "--race", "--out", str(out), "--json"]) == 0
    log = json.loads(capsys.readouterr().out)[0]["search"]
    assert log["race"] is True and log["by"] == "score"
    # Eight rows are too few for any candidate to leave by them.
    assert len(log["rounds"][-1]["standings"]) == 3


def test_the_best_is_chosen_and_the_log_says_who_left_and_why(trained: tuple[Path, Path]) -> None:
    (made,) = make_merges(ready(trained, "scaled"), default_catalog())
    log = search_of(trained[1], "scaled")
    assert log["chosen"] == "lambda=1.0" or log["chosen"] == "lambda=1"
    assert made.result.record.parameters["lambda"] == 1.0
    first = log["rounds"][0]
    assert first["rows"] == 4 * 3 and len(first["standings"]) == 3
    assert [one["loss"] for one in first["standings"]] == sorted(one["loss"] for one in first["standings"])
    unchanged = next(one for one in first["standings"] if one["candidate"] in ("lambda=0.0", "lambda=0"))
    worst = first["standings"][-1]
    assert worst["candidate"] in ("lambda=200", "lambda=200.0") and "worse than the leader" in worst["left"]
    assert worst["behind_low"] > 0
    # What changes nothing has the base's loss, and tasks count alike whatever their answers' lengths.
    assert unchanged["loss"] == pytest.approx(1, abs=0.2)


def test_the_same_search_again_asks_no_model_and_finds_the_same(
    trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_merges(ready(trained, "scaled", "ties"), default_catalog())
    before = {name: search_of(trained[1], name) for name in ("scaled", "ties")}

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a model was asked again")

    monkeypatch.setattr("slmbench.workflow.candidates.load_model", asked)
    make_merges(ready(trained, "scaled", "ties"), default_catalog())
    assert {name: search_of(trained[1], name) for name in ("scaled", "ties")} == before


def test_a_search_that_was_cut_off_goes_on(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = trained
    other = recipe.with_name("cut.yaml")
    other.write_text(RECIPE.replace("[0.0, 1.0, 200.0]", "[0.1, 0.9, 150.0]"))
    others = set((out / "searches").glob("scaled-*.jsonl"))  # Of searches that other tests made.
    asked: list[int] = []
    measure = merge_search.Yardstick.measure

    def cut(self: Any, model: Any, places: Any) -> list[float]:
        asked.append(len(places))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return measure(self, model, places)

    monkeypatch.setattr(merge_search.Yardstick, "measure", cut)
    with pytest.raises(KeyboardInterrupt):
        make_merges(ready((other, out), "scaled"), default_catalog())
    before = sum(asked[:2])
    asked[:] = [0, 0, 0]
    make_merges(ready((other, out), "scaled"), default_catalog())
    [journal] = set((out / "searches").glob("scaled-*.jsonl")) - others
    lines = journal.read_text().splitlines()
    assert before + sum(asked) == len(lines) == len(set(lines))


def test_a_greedy_soup_takes_the_best_and_what_makes_it_no_worse(trained: tuple[Path, Path]) -> None:
    (made,) = make_merges(ready(trained, "greedy"), default_catalog())
    log = search_of(trained[1], "greedy")
    alone = log["alone"]
    assert log["chosen"][0] == min(alone, key=alone.__getitem__)
    assert [one.name for one in made.result.record.inputs] == log["chosen"]
    assert [one["joined"] for one in log["tried"]].count(True) == len(log["chosen"])


def test_seeds_are_results_of_their_own(trained: tuple[Path, Path]) -> None:
    made = make_merges(ready(trained, "dare"), default_catalog())
    assert [Path(one.folder).name for one in made] == ["dare-seed0", "dare-seed1"]
    assert [one.result.record.seed for one in made] == [0, 1]
    assert len({one.result.record.sha256 for one in made}) == 2


def test_missing_and_other_adapters_are_named_with_what_makes_them(trained: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, out = trained
    with pytest.raises(UsageError, match=rf"adapter 'note' is not there.*\n.*'choice'.*\n.*slmbench train {recipe}"):
        ready((recipe, tmp_path / "none"))
    other = recipe.with_name("other.yaml")
    other.write_text(RECIPE.replace("note: {steps: 3}", "note: {steps: 4}"))
    with pytest.raises(UsageError, match="adapter 'note' was trained with other settings than 'other' says") as caught:
        ready((other, out))
    assert "choice" not in str(caught.value).split("\n")[0]
    with pytest.raises(UsageError, match="has no merge 'scald'; did you mean 'scaled'"):
        ready(trained, "scald")


def test_an_input_by_path_is_looked_up_beside_the_recipe(trained: tuple[Path, Path], tmp_path: Path) -> None:
    out = trained[1]
    text = RECIPE.replace("[note, choice]", f"{{a: {{path: {out}/adapters/note}}, b: {{path: gone}}}}")
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"input 'b': there is no folder .*gone; `path` is looked up beside .*p.yaml"):
        ready((tmp_path / "p.yaml", out))


def test_what_the_last_merge_cannot_do_is_told_before_the_first_is_made(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    """A whole model where adapters alone are merged, or a LoRA is asked for."""
    inputs = f"{{a: {{path: {nano_folder()}}}, b: {{path: {trained[1]}/adapters/note}}}}"
    merges = "merges: {mean: {method: linear}, small: {method: linear, result: lora}, both: {method: cat}}"
    text = RECIPE.replace("[note, choice]", inputs)
    (tmp_path / "w.yaml").write_text(text[: text.index("merges:")] + merges + "\n")
    asked = MergeAsked(recipe=str(tmp_path / "w.yaml"), out=str(tmp_path / "out"))
    with pytest.raises(UsageError) as caught:
        make_merges(ready_merges(asked, default_catalog()), default_catalog())
    assert "merge small: a is a whole model, and a LoRA is made of adapters" in str(caught.value)
    assert "merge both: a is a whole model, and cat merges adapters alone" in str(caught.value)
    assert not (tmp_path / "out" / "models").exists()


def nano_folder() -> str:
    return os.path.join(package_dir(), "nano", "model")


def test_the_command_prints_what_it_made_and_a_dry_run_writes_nothing(
    trained: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = trained
    told: Callable[..., int] = lambda *more: main(["merge", str(recipe), "--out", str(out), *more])  # noqa: E731
    assert told("--dry-run", "--only", "dare", "--json", "--set", "merges.dare.seeds=[7]") == 0
    (planned,) = json.loads(capsys.readouterr().out)
    assert planned["name"] == "dare-seed7" and not (out / "models" / "dare-seed7").exists()
    assert told("--only", "scaled") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["merge", "method"]
    assert table[1].startswith("scaled") and "3 candidates" in table[1]


def test_a_candidate_in_memory_is_the_model_that_a_merge_writes(trained: tuple[Path, Path], tmp_path: Path) -> None:
    import torch

    made = ready(trained, "dare")
    plan = made.plan("dare", made.recipe.spec.merges["dare"], "dare-seed0", 0)
    catalog = default_catalog()
    base = load_model(made.base)
    before = {name: one.clone() for name, one in base.model.state_dict().items()}
    first = merge(evolve(plan, out=str(tmp_path)), catalog, search={"by": "score", "rows": 8})
    again = merge(evolve(plan, out=str(tmp_path)), catalog, search={"by": "loss"})
    # Another search that finds the same numbers makes no other weights, and is what the record tells of.
    assert (first.record.search, again.record.search) == ({"by": "score", "rows": 8}, {"by": "loss"})
    assert (again.record.sha256, again.record.ended) == (first.record.sha256, first.record.ended)
    assert read_merge(again.folder) == again.record
    written = load_model(resolve_model(first.folder, catalog))
    with result_on(base, plan, catalog) as tried:
        assert tried.model is base.model
        now = tried.model.state_dict()
        assert all(torch.equal(now[name], one) for name, one in written.model.state_dict().items())
        assert any(not torch.equal(now[name], one) for name, one in before.items())
    assert all(torch.equal(base.model.state_dict()[name], one) for name, one in before.items())
