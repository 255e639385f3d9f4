from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slmbench.catalog import Catalog, default_catalog
from slmbench.errors import DeclarationError, UsageError
from slmbench.models import resolve_model
from slmbench.recipe import dump_spec, load_recipe, load_suite, suite_tasks

RECIPE = """\
summary: s
model: nano
adapters:
  a: {tasks: [nano_note], steps: 7}
  b: {tasks: [nano_note, nano_choice]}
optim: {lr: 5e-3, epochs: 2}
evaluation: {tasks: [nano_note]}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(RECIPE)
    return "r.yaml"


def faults(name: str, *overrides: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        load_recipe(name, default_catalog(), overrides)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", sorted(default_catalog().files("recipes")))
def test_every_bundled_recipe_names_tasks_and_a_model_that_exist(name: str) -> None:
    catalog = default_catalog()
    recipe = load_recipe(name, catalog)
    assert recipe.evaluation_tasks(catalog)
    assert resolve_model(recipe.spec.model, catalog).name == recipe.spec.model
    for adapter in recipe.spec.adapters:
        optim = recipe.optim_of(adapter)
        assert (optim.steps is None) != (optim.epochs is None)


@pytest.mark.parametrize("name", sorted(default_catalog().files("suites")))
def test_every_bundled_suite_names_tasks_that_exist(name: str) -> None:
    assert suite_tasks(default_catalog(), name)


def test_a_file_is_a_recipe_by_its_path(recipe: str) -> None:
    loaded = load_recipe(recipe, default_catalog())
    assert (loaded.name, loaded.path) == ("r", "r.yaml")
    assert loaded.evaluation_tasks(default_catalog()) == ["nano_note"]


def test_an_adapters_own_steps_take_the_place_of_the_recipes_length(recipe: str) -> None:
    loaded = load_recipe(recipe, default_catalog())
    assert (loaded.optim_of("a").steps, loaded.optim_of("a").epochs) == (7, None)
    assert (loaded.optim_of("b").steps, loaded.optim_of("b").epochs) == (None, 2)


def test_an_adapters_digest_depends_on_its_own_part_alone(recipe: str) -> None:
    def digests(*overrides: str) -> tuple[str, str]:
        loaded = load_recipe(recipe, default_catalog(), overrides)
        return loaded.digest_of("a"), loaded.digest_of("b")

    a, b = digests()
    assert digests("adapters.b.steps=9")[0] == a
    assert digests("adapters.b.steps=9")[1] != b
    assert digests("evaluation.limit=5", "evaluation.samples=2", "evaluation.metrics=[rouge]", "summary=other") == (
        a,
        b,
    )
    for override in ("cot=few", "cot=off", "format=toon", "shots=1", "rows=5", "max_tokens=99"):
        assert all(new != old for new, old in zip(digests(override), (a, b), strict=True)), override
    assert all(new != old for new, old in zip(digests("seed=1"), (a, b), strict=True))
    assert all(new != old for new, old in zip(digests("optim.lr=1e-4"), (a, b), strict=True))


def test_overrides_are_yaml_and_reach_into_blocks(recipe: str) -> None:
    spec = load_recipe(
        recipe,
        default_catalog(),
        ("optim.lr=1e-4", "lora.rank=4", "adapters.a.tasks=[nano_choice]", "seed=3", "rows=null"),
    ).spec
    assert (spec.optim.lr, spec.lora.rank, spec.adapters["a"].tasks, spec.seed, spec.rows) == (
        1e-4,
        4,
        ["nano_choice"],
        3,
        None,
    )
    assert spec.optim.epochs == 2


@pytest.mark.parametrize(
    ("override", "cot"), [("cot=off", "off"), ("cot='off'", "off"), ("cot=zero", "zero"), ("cot=null", None)]
)
def test_a_chain_of_thought_is_set_by_its_word(override: str, cot: str | None, recipe: str) -> None:
    assert load_recipe(recipe, default_catalog(), ("cot=few", override)).spec.cot == cot


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr=fast", "--set optim.lr=fast: optim.lr: expected a number, got str 'fast'"),
        ("optim.lrr=1", "--set optim.lrr=1: unknown key 'lrr'; did you mean 'lr'?"),
        ("optim.lr", "--set: 'optim.lr': expected key=value, as in optim.lr=1e-4"),
        ("=5", "--set: '=5': expected key=value, as in optim.lr=1e-4"),
        ("optim..lr=5", "--set: 'optim..lr=5': expected key=value, as in optim.lr=1e-4"),
        ("seed.x=5", None),
        ("summary.x.y=5", "--set: 'summary.x.y=5': 'summary' holds no keys"),
        ("adapters.a.tasks.0=x", "--set: 'adapters.a.tasks.0=x': 'adapters.a.tasks' holds no keys"),
        ("seed=[", "--set seed:2:1: YAML syntax: did not find expected node content while parsing a flow node"),
        (
            "seed=!!python/name:os.system",
            "--set seed:1:1: tag '!!python/name:os.system' is not allowed; declarations are data and run no code",
        ),
        (
            "adapters.a.tasks=[nano_not]",
            "--set adapters.a.tasks=[nano_not]: unknown task 'nano_not'; did you mean 'nano_note'?",
        ),
        ("optim.steps=5", "--set optim.steps=5: 'steps' and 'epochs' both say how long to train; keep one"),
    ],
)
def test_a_wrong_override_is_blamed_and_not_the_file(override: str, message: str | None, recipe: str) -> None:
    (fault,) = faults(recipe, override)
    assert fault == message or (
        message is None and fault.startswith(f"--set {override}: seed: expected a whole number")
    )


def test_a_fault_of_the_file_is_at_its_line_with_overrides_too(recipe: str) -> None:
    Path(recipe).write_text(RECIPE.replace("model: nano", "modle: nano"))
    assert faults(recipe, "seed=1") == [
        "r.yaml:1:1: missing key 'model'",
        "r.yaml:2:1: unknown key 'modle'; did you mean 'model'?",
    ]


def test_an_empty_file_with_overrides_is_an_empty_file(recipe: str) -> None:
    Path(recipe).write_text("")
    assert faults(recipe, "seed=1") == ["r.yaml:1:1: expected keys and values, got an empty file"]


def test_every_unknown_task_and_suite_is_told_at_its_place(recipe: str) -> None:
    text = RECIPE.replace("[nano_note, nano_choice]", "[nano_note, nano_choise]").replace(
        "{tasks: [nano_note]}\n", "{suite: nanno}\n"
    )
    Path(recipe).write_text(text)
    assert faults(recipe) == [
        "r.yaml:5:26: unknown task 'nano_choise'; did you mean 'nano_choice'?",
        "r.yaml:7:14: unknown suite 'nanno'; did you mean 'nano'?",
    ]


def test_an_unknown_recipe_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown recipe 'nano-quickstar'; did you mean 'nano-quickstart'\?"):
        load_recipe("nano-quickstar", default_catalog())
    with pytest.raises(UsageError, match=r"unknown recipe 'missing\.yaml'"):
        load_recipe("missing.yaml", default_catalog())


def test_an_unknown_model_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'nanno'; did you mean 'nano'\?"):
        resolve_model("nanno", default_catalog())


def test_a_suite_with_an_unknown_task_is_told(tmp_path: Path) -> None:
    (tmp_path / "registry" / "suites").mkdir(parents=True)
    (tmp_path / "registry" / "suites" / "s.yaml").write_text("summary: s\ntasks: [nano_note]\n")
    with pytest.raises(DeclarationError, match=r"s\.yaml:2:9: unknown task 'nano_note'"):
        suite_tasks(Catalog([str(tmp_path)]), "s")


def test_a_suite_is_read_with_its_format(tmp_path: Path) -> None:
    (tmp_path / "registry" / "suites").mkdir(parents=True)
    (tmp_path / "tasks" / "one").mkdir(parents=True)
    (tmp_path / "tasks" / "one" / "task.yaml").write_text("summary: s\n")
    (tmp_path / "registry" / "suites" / "s.yaml").write_text("summary: s\nformat: toon\ntasks: [one]\n")
    suite = load_suite(Catalog([str(tmp_path)]), "s")
    assert (suite.tasks, suite.format) == (["one"], "toon")


@pytest.mark.parametrize("overrides", [(), ("cot=off", "format=toon", "evaluation.metrics=[exact_match]")])
def test_a_dumped_recipe_is_read_back_the_same(overrides: tuple[str, ...], recipe: str, tmp_path: Path) -> None:
    spec = load_recipe(recipe, default_catalog(), overrides).spec
    text = dump_spec(spec)
    assert yaml.safe_load(text)["lora"]["rank"] == 16
    (tmp_path / "again.yaml").write_text(text)
    assert load_recipe("again.yaml", default_catalog()).spec == spec
