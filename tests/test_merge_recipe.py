from __future__ import annotations

from pathlib import Path

import pytest

from slmbench.catalog import Catalog, default_catalog
from slmbench.errors import DeclarationError, SlmbenchError, UsageError
from slmbench.merge_recipe import load_merge_recipe
from slmbench.recipe import load_recipe

RECIPE = """\
kind: merge
summary: s
train: nano-quickstart
inputs: [arithmetic, note]
beside: [multi]
merges:
  average: {method: linear}
  scaled: {method: task_arithmetic, parameters: {lambda: {search: [0.5, 1.0]}}}
"""
PLUGIN = """\
import slmbench


@slmbench.merge_method("median", summary="The middle.", version="1", needs_base=False, models=(1, None))
def median(tensors, base, weights, strength: float = 1.0):
    return tensors[0]
"""


def write(folder: Path, text: str) -> str:
    path = folder / "m.yaml"
    path.write_text(text)
    return str(path)


def faults(folder: Path, text: str, catalog: Catalog | None = None) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        load_merge_recipe(write(folder, text), catalog or default_catalog())
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_base_format_and_evaluation_are_those_of_the_training(tmp_path: Path) -> None:
    recipe = load_merge_recipe(write(tmp_path, RECIPE), default_catalog())
    assert (recipe.model, recipe.format, recipe.adapters) == ("nano", "plain", ["arithmetic", "note", "multi"])
    assert recipe.evaluation.tasks == ["nano_arithmetic", "nano_note", "nano_choice"]


def test_everything_that_is_named_has_to_be_there_and_all_is_told_at_once(tmp_path: Path) -> None:
    text = RECIPE.replace("[arithmetic, note]", "[arithmetik, note]").replace("[multi]", "[mult]")
    text = text.replace("linear", "liner").replace("lambda", "lamda")
    text += "  multi: {method: ties, parameters: {density: [0.5, 2]}, seeds: [0, 1]}\nsearch: {tasks: [nano_nite]}\n"
    assert faults(tmp_path, text) == [
        "m.yaml:4:10: recipe 'nano-quickstart' has no adapter 'arithmetik'; did you mean 'arithmetic'?",
        "m.yaml:5:10: recipe 'nano-quickstart' has no adapter 'mult'; did you mean 'multi'?",
        "m.yaml:7:13: unknown merge_method 'liner'; did you mean 'linear'?",
        "m.yaml:8:67: task_arithmetic has no parameter 'lamda'; did you mean 'lambda'?",
        "m.yaml:9:53: ties: density is a number in (0, 1]; got 2",
        "m.yaml:9:58: ties draws nothing, so that all seeds give the same",
        "m.yaml:10:18: unknown task 'nano_nite'; did you mean 'nano_note'?",
    ]


def test_a_merge_may_not_take_the_folder_of_an_adapter(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, RECIPE + "  choice: {method: linear}\n")
    assert fault.startswith("m.yaml:9:3: merge 'choice' would take the folder of an adapter of 'nano-quickstart'")


def test_weights_that_sum_to_zero_are_told_before_any_work(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, RECIPE.replace("{method: linear}", "{method: linear, weights: [1, -1]}"))
    assert fault.startswith("m.yaml:7:13: linear: the weights 1, -1 sum to 0")


def test_the_training_is_set_by_dotted_paths_or_blocks(tmp_path: Path) -> None:
    told = "train: {recipe: nano-quickstart, set: {validation: {rows: 9}, optim.steps: 7}}"
    recipe = load_merge_recipe(write(tmp_path, RECIPE.replace("train: nano-quickstart", told)), default_catalog())
    assert recipe.train is not None and recipe.train.spec.validation is not None
    assert (recipe.train.spec.validation.rows, recipe.train.spec.optim.steps) == (9, 7)
    assert recipe.train.spec.optim.lr == load_recipe("nano-quickstart", default_catalog()).spec.optim.lr
    (fault,) = faults(tmp_path, RECIPE.replace("train: nano-quickstart", told.replace("steps", "stps")))
    assert "m.yaml:3:34" in fault and "did you mean 'steps'" in fault


def test_overrides_reach_the_merges_the_search_and_the_training(tmp_path: Path) -> None:
    path, catalog = write(tmp_path, RECIPE), default_catalog()
    recipe = load_merge_recipe(path, catalog, ["search.by=score", "train.set.optim.steps=5", "merges.average.rank=4"])
    assert recipe.spec.search.by == "score" and recipe.spec.merges["average"].rank == 4
    assert recipe.train is not None and recipe.train.spec.optim.steps == 5
    with pytest.raises(DeclarationError, match=r"--set search.by=scor: search.by: expected 'loss' or 'score'"):
        load_merge_recipe(path, catalog, ["search.by=scor"])


def test_methods_of_plugins_are_known_and_held_like_slmbenchs_own(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "median.py").write_text(PLUGIN)
    catalog = Catalog([*default_catalog().roots, str(tmp_path)])
    text = RECIPE.replace("{method: linear}", "{method: median, parameters: {strength: 0.5}}")
    assert load_merge_recipe(write(tmp_path, text), catalog).spec.merges["average"].method == "median"
    (fault,) = faults(tmp_path, text.replace("strength", "strenth"), catalog)
    assert "median has no parameter 'strenth'; did you mean 'strength'?" in fault
    (fault,) = faults(tmp_path, text.replace("method: median", "method: medan"), catalog)
    assert "unknown merge_method 'medan'; did you mean 'median'?" in fault


def test_each_kind_of_recipe_says_what_it_is_for(tmp_path: Path) -> None:
    catalog = default_catalog()
    with pytest.raises(UsageError, match="'m' is of kind merge: `slmbench merge m`"):
        load_recipe(write(tmp_path, RECIPE), catalog)
    with pytest.raises(UsageError, match="'nano-quickstart' trains adapters and merges none"):
        load_merge_recipe("nano-quickstart", catalog)
    with pytest.raises(DeclarationError, match="kind: expected 'train' or 'merge', got 'merg'; did you mean 'merge'"):
        load_recipe(write(tmp_path, RECIPE.replace("kind: merge", "kind: merg")), catalog)


def test_a_recipe_that_trains_may_lie_beside_and_paths_are_looked_up_there(tmp_path: Path) -> None:
    trains = Path(load_recipe("nano-quickstart", default_catalog()).path).read_text()
    (tmp_path / "mine.yaml").write_text(trains)
    text = RECIPE.replace("nano-quickstart", "mine.yaml")
    text = text.replace("[arithmetic, note]", "{note: {adapter: note}, b: {path: there}}")
    recipe = load_merge_recipe(write(tmp_path, text), default_catalog())
    assert recipe.train is not None and recipe.train.name == "mine"
    assert recipe.input_path("b") == str(tmp_path / "there")


@pytest.mark.parametrize("train", ["nano-quikstart", "nano-merge", "gone.yaml"])
def test_a_training_that_is_none_is_told_at_its_line(tmp_path: Path, train: str) -> None:
    with pytest.raises(SlmbenchError, match=r"m\.yaml:3:"):
        load_merge_recipe(write(tmp_path, RECIPE.replace("nano-quickstart", train)), default_catalog())


def test_candidates_are_all_settings_and_settle_what_is_searched(tmp_path: Path) -> None:
    told = (
        "{method: ties, weights: {arithmetic: {search: [1, 2]}, note: 1}, parameters: {density: {search: [0.1, 0.2]}}}"
    )
    recipe = load_merge_recipe(write(tmp_path, RECIPE.replace("{method: linear}", told)), default_catalog())
    found = recipe.candidates("average")
    assert [one.name for one in found] == [
        "density=0.1, arithmetic=1",
        "density=0.1, arithmetic=2",
        "density=0.2, arithmetic=1",
        "density=0.2, arithmetic=2",
    ]
    settled = recipe.settled("average", found[3])
    assert settled.weights == {"arithmetic": 2, "note": 1} and settled.parameters == {"density": 0.2}
    assert len(recipe.for_twin().candidates("average")) == 4
