"""A training that goes on from an adapter: with its optimiser's state as if it had not ended, or from its weights."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import safetensors.torch

from slmbench.catalog import default_catalog
from slmbench.errors import FileError, UsageError
from slmbench.models import resolve_model
from slmbench.recipe import load_recipe
from slmbench.runs import read_training
from slmbench.training import prepare_training, train_adapter
from slmbench.workflow.train import train_recipe

CATALOG = default_catalog()
RECIPE = """\
summary: s
model: nano
lora: {rank: 4, dropout: 0.2}
optim: {lr: 2e-3, batch: 1, steps: 30, schedule: constant}
rows: 12
max_tokens: 64
on_contamination: warn
keep_optimizer: true
adapters: {a: {tasks: [nano_note]}}
evaluation: {tasks: [nano_note]}
"""
FILES = ("adapter_model.safetensors", "adapter_config.json")


def made(tmp_path, *overrides, name="a", text=RECIPE, out=None, **options):
    """The folder of what a recipe's adapter becomes."""
    (tmp_path / "r.yaml").write_text(text)
    recipe = load_recipe(str(tmp_path / "r.yaml"), CATALOG, overrides)
    source = resolve_model(recipe.spec.model, CATALOG)
    return Path(train_adapter(recipe, name, CATALOG, source, out=str(out or tmp_path / "out"), **options))


def tensors(folder):
    return safetensors.torch.load_file(os.path.join(folder, FILES[0]))


def apart(one, other):
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """What thirty steps make, with its optimiser's state beside it."""
    return made(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What sixty steps make."""
    return made(tmp_path_factory.mktemp("whole"), "optim.steps=60", "keep_optimizer=false")


def test_thirty_steps_and_thirty_more_with_the_optimisers_state_are_sixty(first, whole, tmp_path):
    second = made(tmp_path, f"init_adapter={{path: {first}, optimizer: true}}", "keep_optimizer=false")
    assert apart(second, whole) < 1e-6
    assert apart(second, first) > 1e-3
    record, before = read_training(second), read_training(first)
    assert (record.steps, record.init_adapter.sha256, record.init_adapter.optimizer) == (30, before.sha256, True)
    assert record.init_adapter.tasks == ["nano_note"]
    assert not (second / "optimizer.pt").exists()
    # The losses of its steps are those of the second half.
    of_whole = [point.loss for point in read_training(whole).curves.train if point.step > 30]
    assert [point.loss for point in record.curves.train] == pytest.approx(of_whole, rel=1e-6)
    without = made(tmp_path, f"init_adapter={first}", out=tmp_path / "without")
    assert apart(without, whole) > 1e-3
    assert read_training(without).init_adapter.optimizer is False


def test_no_step_leaves_it_bit_for_bit(first, tmp_path):
    for number, initial in enumerate((str(first), f"{{path: {first}, optimizer: true}}")):
        same = made(tmp_path, f"init_adapter={initial}", "optim.steps=0", out=tmp_path / str(number))
        for name in FILES:
            assert (same / name).read_bytes() == (first / name).read_bytes()
        assert read_training(same).steps == 0
    # Its state, too, which the next goes on with.
    on = made(tmp_path, f"init_adapter={{path: {same}, optimizer: true}}", "optim.steps=1", out=tmp_path / "on")
    one = made(tmp_path, f"init_adapter={{path: {first}, optimizer: true}}", "optim.steps=1", out=tmp_path / "one")
    assert apart(on, one) == 0


CHAIN = RECIPE.replace(
    "adapters: {a: {tasks: [nano_note]}}",
    "adapters:\n  b: {tasks: [nano_choice], steps: 2, init_adapter: {adapter: a, optimizer: true}}\n"
    "  a: {tasks: [nano_note], steps: 2}",
).replace("keep_optimizer: true\n", "")


def recipe_of(tmp_path, text, *overrides):
    (tmp_path / "r.yaml").write_text(text)
    return load_recipe(str(tmp_path / "r.yaml"), CATALOG, overrides)


def test_an_adapter_that_goes_on_from_another_of_the_recipe_comes_after_it_and_changes_with_it(tmp_path, said):
    def train(*overrides):
        recipe = recipe_of(tmp_path, CHAIN, *overrides)
        folders = train_recipe(recipe, CATALOG, out=str(tmp_path / "out"), data="auto", only=["b"])
        return [Path(folder) for folder in folders]

    (b,) = train()
    a = tmp_path / "out" / "adapters" / "a"
    record = read_training(b)
    assert (b.name, record.init_adapter.sha256) == ("b", read_training(a).sha256)
    # What another one goes on with is kept, and nothing else is.
    assert (a / "optimizer.pt").exists() and not (b / "optimizer.pt").exists()
    assert any("its rows, or their order, were others" in line for line in said)
    times = {folder: (folder / FILES[0]).stat().st_mtime_ns for folder in (a, b)}
    train()
    assert {folder: (folder / FILES[0]).stat().st_mtime_ns for folder in (a, b)} == times
    # One whose state was not kept is made again where that is needed.
    (a / "optimizer.pt").unlink()
    train()
    assert (a / "optimizer.pt").exists()
    assert (b / FILES[0]).stat().st_mtime_ns == times[b]
    train("adapters.a.optim.lr=1e-3")
    changed = read_training(b)
    assert changed.sha256 != record.sha256
    assert changed.recipe_sha256 != record.recipe_sha256
    assert changed.init_adapter.sha256 != record.init_adapter.sha256


def test_what_is_gone_on_from_may_be_there_only_later_when_it_is_planned(tmp_path):
    recipe, nano = recipe_of(tmp_path, CHAIN), resolve_model("nano", CATALOG)
    place = str(tmp_path / "nowhere")
    assert recipe.spec.in_order(["b"]) == recipe.spec.in_order(["b", "a"]) == ["a", "b"]
    assert prepare_training(recipe, "b", CATALOG, nano, place=place, planned=True).first is None
    with pytest.raises(UsageError, match=r"init_adapter: 'a' is to be trained first: .*there is no such folder"):
        prepare_training(recipe, "b", CATALOG, nano, place=place)


def test_a_training_that_goes_on_is_told_apart_by_what_it_goes_on_from(first, tmp_path):
    shutil.copytree(first, tmp_path / "here" / "copy")
    nano = resolve_model("nano", CATALOG)

    def digests(*overrides):
        recipe = recipe_of(tmp_path, RECIPE, *overrides)
        return recipe.digest_of("a"), prepare_training(recipe, "a", CATALOG, nano).identity

    # A path is looked up beside the recipe; where a folder lies is no part of what it is.
    one, other = digests("init_adapter=here/copy"), digests(f"init_adapter={first}")
    assert one == other
    assert one[0] != digests()[0]
    with_state = digests(f"init_adapter={{path: {first}, optimizer: true}}")
    assert with_state[0] != one[0] and with_state[1] != one[1]
    weights = tensors(tmp_path / "here" / "copy")
    weights = {name: tensor + 1 for name, tensor in weights.items()}
    safetensors.torch.save_file(weights, tmp_path / "here" / "copy" / FILES[0])
    changed = digests("init_adapter=here/copy")
    assert changed[0] != one[0] and changed[1] != one[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lora.rank=8"], r"its lora\.rank is 4, and the recipe's 8; `--set lora\.rank=4`"),
        (["lora.alpha=16"], r"its lora\.alpha is 32, and the recipe's 16; `--set lora\.alpha=32`"),
        (["lora.rslora=true"], r"its lora\.rslora is false, and the recipe's true; `--set lora\.rslora=false`"),
        (["lora.dora=true"], r"its lora\.dora is false, and the recipe's true; `--set lora\.dora=false`"),
        (
            ["lora.targets=[q_proj]"],
            r"is on down_proj, gate_proj, .*, and the recipe's lora\.targets are q_proj; `--set lora\.targets=\[down",
        ),
        (["optim.optimizer=adamw_8bit"], r"is of adamw_torch, and the recipe's optim\.optimizer is adamw_8bit; `--set"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_can_not_be_gone_on_from_is_refused_with_the_way_out(first, tmp_path, overrides, message):
    recipe = recipe_of(tmp_path, RECIPE, f"init_adapter={{path: {first}, optimizer: true}}", *overrides)
    with pytest.raises(UsageError, match=message) as told:
        prepare_training(recipe, "a", CATALOG, resolve_model("nano", CATALOG))
    assert str(told.value).startswith("init_adapter: ")


def test_a_damaged_or_missing_adapter_is_not_gone_on_from(first, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(first, folder)

    def refused(optimizer=True):
        recipe = recipe_of(tmp_path, RECIPE, f"init_adapter={{path: copy, optimizer: {str(optimizer).lower()}}}")
        with pytest.raises((UsageError, FileError)) as told:
            prepare_training(recipe, "a", CATALOG, resolve_model("nano", CATALOG))
        return str(told.value)

    (folder / "optimizer.pt").write_bytes((folder / "optimizer.pt").read_bytes()[:-1])
    assert "optimizer.pt is not as its training left it; train that again" in refused()
    (folder / "optimizer.pt").unlink()
    assert "has no optimizer.pt" in refused() and "or go on with `optimizer: false`" in refused()
    config = json.loads((folder / FILES[1]).read_text())
    (folder / FILES[1]).write_text(json.dumps(config | {"modules_to_save": ["lm_head"]}))
    assert "has modules_to_save beside its matrices" in refused(optimizer=False)
    (folder / FILES[1]).write_text(json.dumps(config | {"peft_type": "IA3"}))
    assert "is of kind IA3, and LoRA alone is trained here" in refused(optimizer=False)
    (folder / FILES[1]).unlink()
    assert "is not an adapter's folder: it has no adapter_config.json" in refused(optimizer=False)
    shutil.rmtree(folder)
    assert "copy: there is no such folder; it is looked up beside " in refused(optimizer=False)


def test_an_adapter_of_another_base_is_not_gone_on_from(first, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(first, folder)
    record = json.loads((folder / "training.json").read_text())
    del record["record_sha256"]
    (folder / "training.json").write_text(json.dumps(record | {"base_weights_sha256": "0" * 64}))
    with pytest.raises(UsageError, match=r"init_adapter: .* was trained on 'nano' with weights 000000000000, but"):
        made(tmp_path, "init_adapter=copy")
    assert not (tmp_path / "out").exists()
