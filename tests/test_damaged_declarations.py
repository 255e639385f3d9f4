"""Declarations with anything in any place: what is sound, or an error that names the file; sweeps among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slmbench.catalog import default_catalog
from slmbench.errors import DeclarationError, SlmbenchError, UsageError
from slmbench.recipe import load_recipe
from slmbench.schema import DatasetSpec, ModelSpec, RecipeSpec, SuiteSpec, TaskSpec, parse
from slmbench.sweeps import axes_of, points_of
from slmbench.yamlfile import parse_yaml, read_yaml
from tests.damage import Damage, damages

TOP = Path(__file__).resolve().parent.parent
DECLARATIONS = {
    DatasetSpec: "registry/datasets/gsm8k.yaml",
    ModelSpec: "registry/models/llama-3.2-1b-instruct.yaml",
    SuiteSpec: "registry/suites/nano.yaml",
    TaskSpec: "tasks/gsm8k/task.yaml",
    RecipeSpec: "registry/recipes/nano-quickstart.yaml",
}


def whole(model: Any) -> dict[str, Any]:
    """A bundled declaration with all the fields of its model, those that it leaves to their defaults too."""
    spec = parse(model, read_yaml(str(TOP / DECLARATIONS[model])))
    made: dict[str, Any] = spec.model_dump(mode="json", by_alias=True)
    return made


WHOLE = {model: whole(model) for model in DECLARATIONS}
CATALOG = default_catalog()


@settings(max_examples=250)
@given(data=st.data(), model=st.sampled_from(list(DECLARATIONS)))
def test_a_damaged_declaration_is_sound_or_an_error_that_names_its_file(data: st.DataObject, model: Any) -> None:
    damage: Damage = data.draw(damages(WHOLE[model]))
    try:
        document = parse_yaml(damage.data, "file.yaml")
        spec = parse(model, document)
    except DeclarationError as error:
        assert error.problems and all(problem.path == "file.yaml" for problem in error.problems)
        assert len(str(error)) < 10_000
        return
    # Nothing is made of a value of another type.
    assert spec == model.model_validate(document.data)
    assert json.dumps(spec.model_dump(mode="json"))


SWEPT = WHOLE[RecipeSpec] | {"sweep": {"lora.rank": [4, 8], "optim.lr": [1e-3, 1e-2], "seed": [0, 1]}}


def test_what_is_damaged_here_is_sound_before(tmp_path: Path) -> None:
    for model, value in WHOLE.items():
        assert parse(model, parse_yaml(json.dumps(value).encode(), "file.yaml"))
    (tmp_path / "swept.yaml").write_text(json.dumps(SWEPT))
    recipe = load_recipe(str(tmp_path / "swept.yaml"), CATALOG)
    assert len(points_of(recipe, axes_of(recipe), CATALOG)) == 8


@settings(max_examples=120)
@given(data=st.data())
def test_a_damaged_sweep_has_sound_points_or_is_an_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    part: Damage = data.draw(damages(SWEPT["sweep"]))
    path = tmp_path_factory.getbasetemp() / "swept.yaml"
    text = json.dumps(SWEPT | {"sweep": "<here>"}).encode()
    path.write_bytes(text.replace(b'"<here>"', part.data))
    try:
        recipe = load_recipe(str(path), CATALOG)
    except DeclarationError as error:
        assert "swept.yaml" in str(error)
        return
    try:
        points = points_of(recipe, axes_of(recipe), CATALOG)
    except (UsageError, DeclarationError) as error:
        assert isinstance(error, SlmbenchError) and str(error)
        return
    assert len({point.name for point in points}) == len(points)
    for point in points:
        assert point.changed.keys() == recipe.sweep_axes().keys()
        json.dumps(dict(point.changed), allow_nan=False)
