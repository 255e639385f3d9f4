"""From axes to points, all of them checked before anything runs."""

from __future__ import annotations

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import DeclarationError, UsageError
from slmbench.recipe import load_recipe
from slmbench.sweeps import axes_of, axis_of, points_of, seeds_of


@pytest.fixture
def recipe():
    return load_recipe("nano-quickstart", default_catalog())


def names(recipe, *over, seeds=()):
    return [point.name for point in points_of(recipe, axes_of(recipe, over, seeds), default_catalog())]


def test_every_combination_is_a_point_with_a_readable_name(recipe):
    assert names(recipe, "rank=4,8", "optim.lr=1e-3,2e-3", seeds=(0, 1)) == [
        "rank-4_lr-0.001_seed-0",
        "rank-4_lr-0.001_seed-1",
        "rank-4_lr-0.002_seed-0",
        "rank-4_lr-0.002_seed-1",
        "rank-8_lr-0.001_seed-0",
        "rank-8_lr-0.001_seed-1",
        "rank-8_lr-0.002_seed-0",
        "rank-8_lr-0.002_seed-1",
    ]


def test_a_point_is_the_recipe_with_its_values(recipe):
    (point,) = points_of(recipe, axes_of(recipe, ["lora.rank=4"], [7]), default_catalog())
    assert (point.recipe.spec.lora.rank, point.recipe.spec.seed) == (4, 7)
    assert point.changed == {"lora.rank": 4, "seed": 7}
    assert point.setting == "rank-4"
    same = {"lora", "seed", "sweep"}
    assert point.recipe.spec.model_dump(exclude=same) == recipe.spec.model_dump(exclude=same)


def test_two_axes_of_the_same_last_name_keep_apart(recipe):
    assert names(recipe, "optim.batch=4", "evaluation.batch=8") == ["optim.batch-4_evaluation.batch-8"]


def test_what_a_recipe_declares_is_replaced_and_extended():
    recipe = load_recipe("task-adapters", default_catalog())
    assert [(axis.key, axis.values) for axis in axes_of(recipe)] == [("lora.rank", (16, 32, 64, 128))]
    axes = axes_of(recipe, ["rank=8", "lora.alpha=16,32"], (0, 1, 2))
    assert [(axis.key, axis.values) for axis in axes] == [
        ("lora.rank", (8,)),
        ("lora.alpha", (16, 32)),
        ("seed", (0, 1, 2)),
    ]


def test_values_are_yaml():
    assert axis_of("lora.targets=[q_proj, v_proj],all-linear").values == (["q_proj", "v_proj"], "all-linear")
    assert axis_of("lora.dora=true,false").values == (True, False)


def test_all_faults_of_all_points_come_at_once(recipe):
    with pytest.raises(DeclarationError) as caught:
        names(recipe, "rank=0,8,9999", "optim.lr=-1,1e-3")
    said = str(caught.value)
    assert "lora.rank" in said and "optim.lr" in said
    assert len(caught.value.problems) == 3, said


def test_an_unknown_task_in_a_point_is_found(recipe):
    with pytest.raises(DeclarationError, match="unknown task 'nano_notes'; did you mean 'nano_note'"):
        names(recipe, "evaluation.tasks=[nano_note],[nano_notes]")


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ("rank", "expected KEY=v1,v2"),
        ("=4", "expected KEY=v1,v2"),
        ("rnk=4", "--over rnk: unknown key 'rnk'; did you mean 'rank'"),
        ("lroa.rank=4", "--over lroa.rank: unknown key 'lroa'; did you mean 'lora'"),
        ("batch=4", "'batch' could be optim.batch or evaluation.batch; say which"),
        ("rank=", "expected values separated by commas"),
        ("rank=4,4", "a value is listed twice"),
        ("summary=a,b", "changes nothing of what is trained"),
    ],
)
def test_an_axis_that_says_nothing_is_refused(recipe, over, said):
    with pytest.raises(UsageError, match=said):
        axes_of(recipe, [over])


def test_a_setting_twice_is_refused_under_any_name(recipe):
    with pytest.raises(UsageError, match=r"--over lora.rank is given twice"):
        axes_of(recipe, ["rank=4", "lora.rank=8"])


def test_a_recipe_without_a_sweep_asks_for_one(recipe):
    with pytest.raises(UsageError, match=r"declares no `sweep`; say what to vary"):
        axes_of(recipe)


def test_seeds_are_how_many_or_which():
    assert seeds_of("3") == (0, 1, 2)
    assert seeds_of("5, 7") == (5, 7)
    for text, said in (("x", "expected how many"), ("0", "at least 1"), ("1,1", "listed twice"), ("2.5", "how many")):
        with pytest.raises(UsageError, match=said):
            seeds_of(text)


def test_a_sweep_without_end_is_refused(recipe):
    over = [f"{key}={','.join(map(str, range(1, 101)))}" for key in ("rank", "lora.alpha", "optim.batch")]
    with pytest.raises(UsageError, match="1,000,000 points"):
        names(recipe, *over)


def test_values_that_look_alike_get_folders_of_their_own(recipe):
    found = names(recipe, 'model=nano,"./nano","nano/"')
    assert len(set(found)) == 3 and all(name.startswith("model-nano") for name in found)


def test_a_long_name_is_cut_and_still_its_own(recipe):
    lists = ",".join(f"[{', '.join(f'module_{i}_{j}' for j in range(12))}]" for i in range(3))
    found = names(recipe, f"lora.targets={lists}")
    assert len(set(found)) == 3 and all(len(name) <= 80 for name in found)


@pytest.mark.parametrize(
    ("overrides", "over", "said"),
    [
        (["method=full"], "lora.rank=4,8", "rank-4 and rank-8 would be the same training: .* reads lora.rank"),
        ([], "optim.plateau_factor=0.2,0.3", None),
        ([], "evaluation.limit=2,3", None),
    ],
)
def test_points_that_are_the_same_training_are_refused(overrides, over, said):
    recipe = load_recipe("nano-quickstart", default_catalog(), overrides)
    if said is None:
        assert len(names(recipe, over)) == 2
        return
    with pytest.raises(UsageError, match=said):
        names(recipe, over)


def test_a_sweep_of_steps_reaches_adapters_with_steps_of_their_own(recipe):
    assert {adapter.steps for adapter in recipe.spec.adapters.values()} != {None}
    points = points_of(recipe, axes_of(recipe, ["optim.steps=2,4"]), default_catalog())
    for point, steps in zip(points, (2, 4), strict=True):
        assert {point.recipe.optim_of(name).steps for name in recipe.spec.adapters} == {steps}


def test_lists_of_target_modules_are_named_by_what_people_call_them(recipe):
    attention, mlp = "[q_proj, k_proj, v_proj, o_proj]", "[gate_proj, up_proj, down_proj]"
    axes = axes_of(recipe, [f"targets={attention},{mlp},{attention[:-1]}, {mlp[1:]},[q_proj, v_proj],all-linear"])
    names = [point.name for point in points_of(recipe, axes, default_catalog())]
    assert names == [
        f"targets-{name}" for name in ("attention", "MLP", "both", "attention-q-proj-v-proj", "all-linear")
    ]
    assert axes[0].shown == "attention, MLP, both, attention: q_proj, v_proj, all-linear"
