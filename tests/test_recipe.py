from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from slmbench.catalog import Catalog, default_catalog
from slmbench.errors import DeclarationError, UsageError
from slmbench.models import resolve_model
from slmbench.recipe import dotted_path, dump_spec, load_recipe, load_suite, suite_tasks
from slmbench.schema import RowsSpec

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


def test_a_file_is_a_recipe_by_its_path(recipe: str) -> None:
    loaded = load_recipe(recipe, default_catalog())
    assert (loaded.name, loaded.path) == ("r", "r.yaml")
    assert loaded.evaluation_tasks(default_catalog()) == ["nano_note"]


def test_an_adapters_own_steps_take_the_place_of_the_recipes_length(recipe: str) -> None:
    loaded = load_recipe(recipe, default_catalog())
    assert (loaded.optim_of("a").steps, loaded.optim_of("a").epochs) == (7, None)
    assert (loaded.optim_of("b").steps, loaded.optim_of("b").epochs) == (None, 2)


OWN = RECIPE.replace(
    "b: {tasks: [nano_note, nano_choice]}",
    "b: {tasks: [nano_note, nano_choice], optim: {lr: 2e-5, steps: 9}, lora: {targets: [q_proj]}}",
)


def test_an_adapter_has_settings_of_its_own_key_by_key(recipe: str) -> None:
    Path(recipe).write_text(OWN + "lora: {rank: 4, targets: all-linear}\n")
    loaded = load_recipe(recipe, default_catalog())
    a, b = loaded.spec_of("a"), loaded.spec_of("b")
    assert (a.optim.lr, a.lora.targets, a.optim.steps) == (5e-3, "all-linear", 7)
    assert (b.optim.lr, b.lora.targets, b.lora.rank, b.optim.batch) == (2e-5, ["q_proj"], 4, 8)
    # Its steps take the place of the recipe's epochs.
    assert (b.optim.steps, b.optim.epochs) == (9, None)
    assert yaml.safe_load(dump_spec(loaded.spec))["adapters"]["b"]["optim"] == {"lr": 2e-5, "steps": 9}
    null = load_recipe(recipe, default_catalog(), ["adapters.b.lora.targets=null"])
    assert (null.spec_of("b").lora.targets, null.spec_of("a").lora.targets) == (None, "all-linear")


def test_what_is_given_for_all_takes_the_place_of_what_adapters_have(recipe: str) -> None:
    Path(recipe).write_text(OWN + "variants: {v: {lora.targets: [v_proj]}}\n")
    catalog = default_catalog()

    def b(*overrides: str, variant: str | None = None):
        return load_recipe(recipe, catalog, overrides, variant=variant).spec_of("b")

    assert b("optim.lr=1e-3").optim.lr == b("optim={lr: 1e-3}").optim.lr == b("lr=1e-3").optim.lr == 1e-3
    assert b("optim.lr=1e-3", "adapters.b.optim.lr=4e-3").optim.lr == 4e-3
    assert b("optim.lr=1e-3").lora.targets == ["q_proj"]
    assert b(variant="v").lora.targets == ["v_proj"]
    assert b("optim.epochs=2").optim.epochs == 2
    assert b("optim.epochs=2").optim.steps is None
    # Its own length takes the place of its own, however it is said.
    assert load_recipe(recipe, catalog, ["adapters.a.optim.steps=3"]).optim_of("a").steps == 3
    assert b("adapters.b.steps=3").optim.steps == 3
    # Replaced by the same for all, nothing of its own is left: it is the same training.
    same = load_recipe(recipe, catalog, ["optim.lr=2e-5", "optim.steps=9", "lora.targets=[q_proj]"])
    assert same.digest_of("b") == load_recipe(recipe, catalog).digest_of("b")


def test_a_twin_cuts_what_adapters_have_of_their_own(recipe: str) -> None:
    Path(recipe).write_text(
        OWN.replace("steps: 9", "epochs: 3, batch: 64, warmup_steps: 50") + "rows: {n: 3000, seed: 42}\n"
    )
    twin = load_recipe(recipe, default_catalog()).for_twin()
    optim = twin.optim_of("b")
    assert (optim.steps, optim.epochs, optim.batch, optim.warmup_steps, optim.lr) == (6, None, 4, 2, 2e-5)
    assert twin.spec.rows == RowsSpec(n=24, seed=42)


def test_a_twin_goes_on_from_no_adapter_of_its_model(recipe: str) -> None:
    Path(recipe).write_text(
        RECIPE.replace("steps: 7", "steps: 0, init_adapter: {path: made, optimizer: true}").replace(
            "[nano_note, nano_choice]", "[nano_choice], init_adapter: {adapter: a}"
        )
    )
    loaded = load_recipe(recipe, default_catalog())
    twin = loaded.for_twin()
    assert (loaded.spec.initial_of("a").path, twin.spec.initial_of("a")) == ("made", None)
    assert (loaded.optim_of("a").steps, twin.optim_of("a").steps) == (0, 1)
    assert twin.spec.initial_of("b").adapter == "a"


def test_what_an_adapter_goes_on_from_is_part_of_what_it_is(recipe: str) -> None:
    Path(recipe).write_text(RECIPE.replace("[nano_note, nano_choice]}", "[nano_choice], init_adapter: {adapter: a}}"))
    loaded, catalog = load_recipe(recipe, default_catalog()), default_catalog()
    changed = load_recipe(recipe, catalog, ["adapters.a.steps=8"])
    with_state = load_recipe(recipe, catalog, ["adapters.b.init_adapter.optimizer=true"])
    kept = load_recipe(recipe, catalog, ["keep_optimizer=true"])
    nothing = load_recipe(recipe, catalog, ["adapters.b.init_adapter=null"])
    assert len({one.digest_of("b") for one in (loaded, changed, with_state, nothing)}) == 4
    assert kept.digest_of("b") == loaded.digest_of("b")
    assert with_state.digest_of("a") == loaded.digest_of("a")
    assert (loaded.spec.keeps_optimizer("a"), with_state.spec.keeps_optimizer("a")) == (False, True)


def test_what_is_gone_on_from_can_be_taken_away_from_all_and_from_one(recipe: str) -> None:
    catalog = default_catalog()

    def firsts(*overrides: str) -> list[str | None]:
        spec = load_recipe(recipe, catalog, overrides).with_overrides(["seed=3"]).spec  # Written out and read again.
        found = map(spec.initial_of, spec.adapters)
        return [one and (one.path or one.adapter) for one in found]

    Path(recipe).write_text(RECIPE.replace("[nano_note, nano_choice]}", "[nano_choice], init_adapter: {adapter: a}}"))
    assert firsts() == [None, "a"]
    assert firsts("init_adapter=null") == [None, None]
    assert firsts("init_adapter=p") == firsts("init_adapter={path: p}") == firsts("init_adapter.path=p") == ["p", "p"]
    assert firsts("init_adapter=p", "adapters.a.init_adapter=null") == [None, "p"]
    assert firsts("init_adapter=p", "adapters.b.init_adapter={adapter: a}") == ["p", "a"]
    Path(recipe).write_text(RECIPE.replace("nano_choice]}", "nano_choice], init_adapter: null}") + "init_adapter: p\n")
    assert firsts() == ["p", None]
    assert firsts("init_adapter=q") == ["q", "q"]


def test_settings_of_their_own_change_the_digest_of_that_adapter_alone(recipe: str) -> None:
    plain = load_recipe(recipe, default_catalog())
    for override in ("adapters.b.optim.lr=1e-4", "adapters.b.lora.rank=2"):
        other = load_recipe(recipe, default_catalog(), [override])
        assert other.digest_of("a") == plain.digest_of("a")
        assert other.digest_of("b") != plain.digest_of("b")


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
        ("summary.x.y=5", "--set: 'summary.x.y=5': 'summary' has no keys"),
        ("adapters.a.tasks.0=x", "--set: 'adapters.a.tasks.0=x': 'adapters.a.tasks' has no keys"),
        ("seed=[", "--set seed:2:1: YAML syntax: did not find expected node content while parsing a flow node"),
        (
            "seed=!!python/name:os.system",
            "--set seed:1:1: tag '!!python/name:os.system' is not allowed; declarations are data and run no code",
        ),
        (
            "adapters.a.tasks=[nano_not]",
            "--set adapters.a.tasks=[nano_not]: unknown task 'nano_not'; did you mean 'nano_note'?",
        ),
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


def test_faults_of_variants_and_sweeps_come_with_those_of_the_recipe_each_once(recipe) -> None:
    text = RECIPE.replace("[nano_note, nano_choice]", "[nano_note, nano_choise]")
    Path(recipe).write_text(text + "variants:\n  a: {rnak: 3}\nsweep: {optim.lrx: [1]}\n")
    assert [fault.partition(": ")[2] for fault in faults(recipe)] == [
        "unknown task 'nano_choise'; did you mean 'nano_choice'?",
        "variant 'a': unknown key 'rnak'; did you mean 'rank'?",
        "sweep, optim.lrx=1: unknown key 'lrx'; did you mean 'lr'?",
    ]


def test_a_path_that_holds_no_recipe_is_no_misspelt_name() -> None:
    with pytest.raises(UsageError, match=r"recipe '\./mine\.yaml': there is no such YAML file"):
        load_recipe("./mine.yaml", default_catalog())


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


def test_a_variant_is_applied_before_the_overrides(recipe: str) -> None:
    Path(recipe).write_text(
        RECIPE + "variants:\n  big: {lora.rank: 64, optim.lr: 1e-4}\n  qlora: {method: qlora, rank: 8}\n"
    )
    catalog = default_catalog()
    plain, big = load_recipe(recipe, catalog), load_recipe(recipe, catalog, variant="big")
    assert (plain.spec.lora.rank, plain.variant) == (16, None)
    assert (big.spec.lora.rank, big.spec.optim.lr, big.spec.optim.epochs, big.variant) == (64, 1e-4, 2, "big")
    both = load_recipe(recipe, catalog, ("optim.lr=3e-4",), variant="big").spec
    assert (both.lora.rank, both.optim.lr) == (64, 3e-4)
    short = load_recipe(recipe, catalog, variant="qlora").spec
    assert (short.method, short.lora.rank) == ("qlora", 8)
    with pytest.raises(UsageError, match=r"recipe 'r' has no variant 'bigg'; did you mean 'big'\?"):
        load_recipe(recipe, catalog, variant="bigg")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("variants:\n  a: {lora.rnk: 8}", "r.yaml:9:7: variant 'a': unknown key 'rnk'; did you mean 'rank'?"),
        (
            "variants:\n  a:\n    lora.rank: many",
            "r.yaml:10:5: variant 'a': lora.rank: expected a whole number, got str 'many'",
        ),
        (
            "variants: {a: {optim.steps: 5, optim.epochs: 1}}",
            "variant 'a': 'steps' and 'epochs' both say how long to train; keep one",
        ),
        ("variants: {a: {sweep.rank: [8]}}", "r.yaml:8:16: variant 'a': a variant can't change 'sweep.rank'"),
        ("variants: {a: {model.x: 1}}", "r.yaml:8:16: variant 'a': 'model' has no keys"),
        ("variants: {a: {}}", "r.yaml:8:12: variant 'a' changes nothing"),
        (
            "variants: {a: {evaluation.tasks: [nano_nte]}}",
            "r.yaml:8:16: variant 'a': unknown task 'nano_nte'; did you mean 'nano_note'?",
        ),
        ("sweep: {rank: [8, 0]}", "r.yaml:8:19: sweep, rank=0: lora.rank: input should be greater than or equal to 1"),
        ("sweep: {rnk: [8]}", "r.yaml:8:9: sweep: unknown key 'rnk'; did you mean 'rank'?"),
        ("sweep: {batch: [8]}", "r.yaml:8:9: sweep: 'batch' could be optim.batch or evaluation.batch; say which"),
        ("variants: {a: {rnk: 8}}", "r.yaml:8:16: variant 'a': unknown key 'rnk'; did you mean 'rank'?"),
        ("sweep: {lora.rnk: [8]}", "r.yaml:8:20: sweep, lora.rnk=8: unknown key 'rnk'; did you mean 'rank'?"),
        ("sweep: {rank: [8, 8]}", "r.yaml:8:19: sweep: rank: 8 is listed twice"),
        (
            "sweep: {rank: [8], lora.rank: [4]}",
            "r.yaml:8:20: sweep: 'lora.rank' and 'rank' are the same setting",
        ),
        ("sweep: {summary: [a, b]}", "r.yaml:8:9: sweep: 'summary' changes nothing of what is trained or scored"),
    ],
)
def test_a_variant_or_sweep_that_cannot_work_is_a_fault_of_the_file_at_its_line(
    lines: str, message: str, recipe: str
) -> None:
    Path(recipe).write_text(RECIPE + lines + "\n")
    (fault,) = faults(recipe)
    assert message in fault
    assert fault.startswith("r.yaml:")
    # Also where neither is asked for, and with overrides.
    assert faults(recipe, "seed=1") == [fault]


def test_all_faults_of_variants_and_sweep_are_told_at_once(recipe: str) -> None:
    Path(recipe).write_text(RECIPE + "variants: {a: {seeed: 1}, b: {rank: 0}}\nsweep: {rank: [0], lr: [-1, 1e-4]}\n")
    assert len(faults(recipe)) == 4


def test_a_sweep_names_a_setting_by_its_path_or_by_a_name_that_is_its_own(recipe: str) -> None:
    Path(recipe).write_text(
        RECIPE + "sweep: {rank: [4, 8], optim.batch: [2, 4], seed: [0, 1, 2], dropout: [0.0, 0.1]}\n"
    )
    assert load_recipe(recipe, default_catalog()).sweep_axes() == {
        "lora.rank": [4, 8],
        "optim.batch": [2, 4],
        "seed": [0, 1, 2],
        "lora.dropout": [0.0, 0.1],
    }


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("rank", "lora.rank"),
        ("lr", "optim.lr"),
        ("max_tokens", "max_tokens"),
        ("limit", "evaluation.limit"),
        ("double", "quantization.double"),
        ("optim.lr", "optim.lr"),
        ("every_steps", "every_steps"),
        ("batch", "batch"),
        ("nothing", "nothing"),
    ],
)
def test_a_short_name_stands_for_a_setting_where_it_is_one_settings_alone(key: str, path: str) -> None:
    assert dotted_path(key) == path


def test_steps_take_the_place_of_epochs_wherever_they_come_from(recipe: str) -> None:
    Path(recipe).write_text(RECIPE + "variants: {a: {optim.steps: 5}}\nsweep: {optim.steps: [3]}\n")
    catalog = default_catalog()

    def length(loaded):
        optim = loaded.optim_of("b")
        return optim.steps, optim.epochs

    assert length(load_recipe(recipe, catalog)) == (None, 2)
    assert length(load_recipe(recipe, catalog, variant="a")) == (5, None)
    assert length(load_recipe(recipe, catalog, ["optim.epochs=3"], variant="a")) == (None, 3)
    assert length(load_recipe(recipe, catalog, ["optim.steps=4"])) == (4, None)
    assert length(load_recipe(recipe, catalog).with_overrides({"optim.steps": 3})) == (3, None)
    # Also of the one that an adapter has of its own, unless that one is named.
    assert load_recipe(recipe, catalog).optim_of("a").steps == 7
    assert load_recipe(recipe, catalog, ["optim.steps=4"]).optim_of("a").steps == 4
    assert load_recipe(recipe, catalog, ["optim.steps=4", "adapters.a.steps=9"]).optim_of("a").steps == 9
    assert load_recipe(recipe, catalog, ["optim.epochs=1"]).optim_of("a").epochs == 1
    (fault,) = faults(recipe, "optim.steps=5", "optim.epochs=1")
    assert fault.endswith("'steps' and 'epochs' both say how long to train; keep one")


def test_a_suite_takes_the_place_of_tasks(recipe: str) -> None:
    catalog = default_catalog()
    suite = load_recipe(recipe, catalog, ["evaluation.suite=nano"])
    assert (suite.spec.evaluation.suite, suite.spec.evaluation.tasks) == ("nano", None)
    assert suite.with_overrides(["evaluation.tasks=[nano_note]"]).evaluation_tasks(catalog) == ["nano_note"]
    (fault,) = faults(recipe, "evaluation.suite=nano", "evaluation.tasks=[nano_note]")
    assert fault.endswith("an evaluation has exactly one of 'tasks' and 'suite'")


@pytest.mark.parametrize("override", ["optim.steps=100000000", "optim.epochs=1e12", "adapters.a.steps=100000000"])
def test_a_length_that_no_training_has_is_a_typing_error(recipe: str, override: str) -> None:
    (fault,) = faults(recipe, override)
    assert "input should be less than or equal to" in fault


def test_overrides_as_values_are_held_to_the_schema_too(recipe: str) -> None:
    loaded = load_recipe(recipe, default_catalog())
    changed = loaded.with_overrides({"rank": 4, "optim.lr": 1e-3, "validation.rows": 5})
    assert (changed.spec.lora.rank, changed.spec.optim.lr, changed.spec.validation.rows) == (4, 1e-3, 5)
    assert loaded.spec.lora.rank == 16
    assert loaded.with_overrides({}) is loaded
    assert loaded.with_overrides({"optim.steps": 9}).optim_of("b").steps == 9
    with pytest.raises(DeclarationError, match=r"sweep lora\.rank=0: lora\.rank: input should be greater"):
        loaded.with_overrides({"lora.rank": 0}, blame="sweep")
    with pytest.raises(DeclarationError, match="unknown task 'nano_nte'"):
        loaded.with_overrides({"evaluation.tasks": ["nano_nte"]}, default_catalog())


def test_settings_that_only_watch_save_or_guard_leave_an_adapters_digest_alone(recipe: str) -> None:
    loaded = load_recipe(recipe, default_catalog())
    for override in (
        "checkpoint.every_steps=3",
        "launch.processes=4",
        "log_every_steps=1",
        "memory_limit_gb=5",
        "on_contamination=warn",
        "sweep={rank: [4, 8]}",
        "variants={x: {seed: 1}}",
        "adapters.a.steps=8",
        "mixing={by: weights, weights: {nano_note: 1}}",
    ):
        other = load_recipe(recipe, default_catalog(), (override,))
        same = not override.startswith("mixing")
        assert (other.digest_of("b") == loaded.digest_of("b")) is same, override
    for override in (
        "method=qlora",
        "loss=all",
        "packing=true",
        "dtype=bfloat16",
        "mixing={by: equal}",
        "validation={rows: 3}",
        "optim.batch=2",
        "lora.dora=true",
    ):
        other = load_recipe(recipe, default_catalog(), (override,))
        assert other.digest_of("b") != loaded.digest_of("b"), override


def test_the_share_of_another_adapters_task_leaves_an_adapters_digest_alone(recipe: str) -> None:
    def digests(weights: str) -> tuple[str, str]:
        loaded = load_recipe(recipe, default_catalog(), (f"mixing={{by: weights, weights: {weights}}}",))
        return loaded.digest_of("a"), loaded.digest_of("b")

    one, other = digests("{nano_note: 1, nano_choice: 2}"), digests("{nano_note: 1, nano_choice: 3}")
    assert one[0] == other[0]
    assert one[1] != other[1]
