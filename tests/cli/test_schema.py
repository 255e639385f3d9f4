"""The schemas that editors are given: they are JSON schemas, and they say of the registry what loading says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import DeclarationError
from slmbench.schema import RecipeSpec, parse
from slmbench.yamlfile import parse_yaml, read_yaml

jsonschema = pytest.importorskip("jsonschema")

KINDS = ("recipe", "merge", "task", "model", "dataset", "suite")
RECIPE = "summary: s\nmodel: nano\nadapters: {a: {tasks: [nano_note]}}\nevaluation: {tasks: [nano_note]}\n"


def exported(kind: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["schema", kind]) == 0
    return dict(json.loads(capsys.readouterr().out))


def as_an_editor_reads_it(data: Any) -> Any:
    """YAML 1.2, which editors read, knows `off` as a text; the 1.1 of PyYAML takes it for false."""
    if isinstance(data, dict):
        return {
            key: "off" if key in ("cot", "mode") and value is False else as_an_editor_reads_it(value)
            for key, value in data.items()
        }
    return [as_an_editor_reads_it(value) for value in data] if isinstance(data, list) else data


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one_by_its_own_dialect_and_explains_itself(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    schema = exported(kind, capsys)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == f"slmbench {kind}"
    assert schema["description"]
    assert schema["additionalProperties"] is False
    assert all(part.get("description") for part in schema.get("$defs", {}).values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_declaration_of_the_registry_fits_the_schema(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    validator = jsonschema.Draft202012Validator(exported(kind, capsys))
    files = default_catalog().files("recipes" if kind == "merge" else f"{kind}s")
    read = {path: as_an_editor_reads_it(read_yaml(path).data) for path in files.values()}
    # Two kinds of declaration are called recipes.
    held = {path: data for path, data in read.items() if (data.get("kind") == "merge") == (kind == "merge")}
    assert held
    for path, data in held.items():
        assert [f"{path}: {error.message}" for error in validator.iter_errors(data)] == []


@pytest.mark.parametrize(
    "line",
    [
        "modle: nano",
        "method: qlra",
        "lora: {rank: 0}",
        "lora: {rank: many}",
        "optim: {lr: 0}",
        "optim: {lrr: 1e-4}",
        "mixing: {by: luck}",
        "sweep: {rank: []}",
        "variants: {a: 5}",
        "checkpoint: {keep: 101}",
        "rows: 0",
        "packing: 1",
        "quantization: {type: int3}",
    ],
)
def test_what_loading_refuses_of_one_key_the_schema_refuses(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    validator = jsonschema.Draft202012Validator(exported("recipe", capsys))
    document = parse_yaml((RECIPE + line + "\n").encode(), "r.yaml")
    assert list(validator.iter_errors(document.data))
    with pytest.raises(DeclarationError):
        parse(RecipeSpec, document)
    assert not list(validator.iter_errors(parse_yaml(RECIPE.encode(), "r.yaml").data))


def test_an_unknown_kind_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "recipes"]) == 2
    assert "'recipes' is not one of" in capsys.readouterr().err


def test_show_recipe_writes_out_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["show", "recipe", "task-adapters", "--variant", "qlora", "--set", "rank=8", "--json"]
    assert main(arguments) == 0
    spec = json.loads(capsys.readouterr().out)["spec"]
    assert (spec["method"], spec["lora"]["rank"], spec["lora"]["alpha"]) == ("qlora", 8, 32)


def test_show_takes_a_recipes_file_and_its_output_is_a_recipe_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE + "variants: {b: {method: qlora}}\n")
    assert main(["show", "recipe", str(tmp_path / "mine.yaml"), "--variant", "b"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    assert main(["show", "recipe", str(tmp_path / "again.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["spec"]["method"] == "qlora"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recipe", "task-adapters", "--variant", "qlra"], "has no variant 'qlra'; did you mean 'qlora'?"),
        (["recipe", "task-adapters", "--set", "lora.rnk=8"], "unknown key 'rnk'; did you mean 'rank'?"),
        (["task", "gsm8k", "--variant", "qlora"], "--variant, --set and --runs are for recipes"),
        (["model", "nano", "--set", "x=1"], "--variant, --set and --runs are for recipes"),
    ],
)
def test_show_refuses_what_a_declaration_does_not_have(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *arguments]) == 2
    assert said in capsys.readouterr().err
