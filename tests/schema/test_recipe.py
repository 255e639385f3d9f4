from __future__ import annotations

import pytest

from slmbench.errors import DeclarationError
from slmbench.schema import RecipeSpec, SuiteSpec, parse
from slmbench.yamlfile import parse_yaml

RECIPE = """\
summary: s
model: nano
adapters: {a: {tasks: [x]}}
evaluation: {tasks: [x]}
"""


def faults(text: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        parse(RecipeSpec, parse_yaml(text.encode(), "r.yaml"))
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("optim: {lr: .inf}", "r.yaml:5:9: optim.lr: input should be a finite number, got float inf"),
        ("optim: {lr: .nan}", "r.yaml:5:9: optim.lr: input should be a finite number, got float nan"),
        ("optim: {lr: 1e999}", "r.yaml:5:9: optim.lr: input should be a finite number, got float inf"),
        ("optim: {lr: 0}", "r.yaml:5:9: optim.lr: input should be greater than 0, got int 0"),
        ('optim: {lr: "5e-3"}', "r.yaml:5:9: optim.lr: expected a number, got str '5e-3'"),
        ("optim: {steps: 1e3}", "r.yaml:5:9: optim.steps: expected a whole number, got float 1000.0"),
        ("optim: {steps: 5, epochs: 1}", "r.yaml:5:1: 'steps' and 'epochs' both say how long to train; keep one"),
        ("lora: {targets: q_proj}", "r.yaml:5:8: lora.targets: expected a list or 'all-linear', got str 'q_proj'"),
        ("lora: {rank: 0}", "r.yaml:5:8: lora.rank: input should be greater than or equal to 1, got int 0"),
        ("cot: maybe", "r.yaml:5:1: cot: expected 'off', 'zero' or 'few', got str 'maybe'"),
        ("rows: 0", "r.yaml:5:1: rows: input should be greater than or equal to 1, got int 0"),
        ("rows: {n: 5}", "r.yaml:5:1: missing key 'seed'"),
        ("rows: {n: 0, seed: 1}", "r.yaml:5:8: rows.n: input should be greater than or equal to 1, got int 0"),
        ("rows: {n: 5, sed: 1, seed: 1}", "r.yaml:5:14: unknown key 'sed'; did you mean 'seed'?"),
        ("rows: many", "r.yaml:5:1: rows: expected a whole number or keys and values, got str 'many'"),
        ("loss: prompt", "r.yaml:5:1: loss: expected 'answer' or 'all', got str 'prompt'"),
        (
            "optim: {steps: 0}",
            "r.yaml:5:9: 0 steps train nothing; they go with `init_adapter`, and leave that one as it is",
        ),
        (
            "init_adapter: {adapter: a}",
            "r.yaml:5:16: an adapter of this recipe is said of the adapter that goes on from it: "
            "adapters.NAME.init_adapter",
        ),
        (
            "init_adapter: p\nmethod: full",
            "r.yaml:5:1: goes with adapters; `method: full` trains a model, which is named as `model`",
        ),
        (
            "keep_optimizer: true\nmethod: full",
            "r.yaml:5:1: goes with adapters, which `init_adapter` goes on from",
        ),
        (
            "method: qlora\nquantization: {type: int8, compute: bfloat16}",
            "r.yaml:6:28: goes with four bits; int8 is multiplied as it is: leave it out, or auto",
        ),
        (
            "method: qlora\nquantization: {type: int4}",
            "r.yaml:6:16: quantization.type: expected 'nf4', 'fp4' or 'int8', got str 'int4'",
        ),
        ("shots: -1", "r.yaml:5:1: shots: input should be greater than or equal to 0, got int -1"),
        ("lora: {dropuot: 0.1}", "r.yaml:5:8: unknown key 'dropuot'; did you mean 'dropout'?"),
    ],
)
def test_one_wrong_setting_is_one_message(line: str, message: str) -> None:
    assert faults(RECIPE + line + "\n") == [message]


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        ("{a: {tasks: [x]}}", "{a: {tasks: [x, x]}}", "r.yaml:3:12: a task is listed twice"),
        ("{a: {tasks: [x]}}", "{a: {tasks: []}}", "adapters.a.tasks: list should have at least 1 item"),
        ("{a: {tasks: [x]}}", "{../a: {tasks: [x]}}", "r.yaml:3:12: a name has letters"),
        ("{a: {tasks: [x]}}", "{}", "adapters: dictionary should have at least 1 item"),
        ("{a: {tasks: [x]}}", "{a: {tasks: [x], stps: 3}}", "r.yaml:3:28: unknown key 'stps'; did you mean 'steps'?"),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], optim: {lrr: 1}}}",
            "r.yaml:3:36: unknown key 'lrr'; did you mean 'lr'?",
        ),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], optim: {lr: 0}}}",
            "r.yaml:3:36: adapters.a.optim.lr: input should be greater than 0, got int 0",
        ),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], lora: {rank: null}}}",
            "r.yaml:3:35: adapters.a.lora.rank: expected a whole number, got NoneType None",
        ),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], optim: {schedule: plateau}}}",
            "r.yaml:3:36: 'plateau' follows the validation loss; declare `validation`",
        ),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], steps: 4, optim: {epochs: 1}}}",
            "r.yaml:3:12: 'steps' and 'optim.epochs' both say how long to train; keep one",
        ),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], init_adapter: {adapter: bb}}, b: {tasks: [x]}}",
            "r.yaml:3:28: this recipe has no adapter 'bb'; did you mean 'b'?",
        ),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], init_adapter: {adapter: a}}}",
            "r.yaml:3:28: a goes on from a, so none of them can be first",
        ),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], init_adapter: {adapter: b}, lora: {rank: 4}}, b: {tasks: [x]}}",
            "r.yaml:3:28: 'b' has another shape or scale (lora.rank: 16 there, 4 here), which a training can't change",
        ),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], init_adapter: {path: p, adapter: b}}}",
            "give one of 'path' (a folder) and 'adapter' (another one of this recipe)",
        ),
        (
            "{a: {tasks: [x]}}",
            "{a: {tasks: [x], steps: 0}}",
            "r.yaml:3:28: 0 steps train nothing; they go with `init_adapter`",
        ),
        (
            "evaluation: {tasks: [x]}",
            "evaluation: {}",
            "r.yaml:4:1: an evaluation has exactly one of 'tasks' and 'suite'",
        ),
        ("evaluation: {tasks: [x]}", "evaluation: {tasks: []}", "evaluation.tasks: list should have at least 1 item"),
        ("evaluation: {tasks: [x]}", "evaluation: {tasks: [x], suite: y}", "exactly one of 'tasks' and 'suite'"),
        (
            "evaluation: {tasks: [x]}",
            "evaluation: {tasks: [x], samples: 0}",
            "evaluation.samples: input should be greater",
        ),
        (
            "evaluation: {tasks: [x]}",
            "evaluation: {tasks: [x], metrics: []}",
            "evaluation.metrics: list should have at",
        ),
    ],
)
def test_adapters_and_evaluation_name_what_they_need(line: str, wrong: str, message: str) -> None:
    (fault,) = faults(RECIPE.replace(line, wrong))
    assert message in fault


def test_adapters_that_go_on_from_each_other_are_all_told() -> None:
    text = RECIPE.replace(
        "{a: {tasks: [x]}}",
        "\n  a: {tasks: [x], init_adapter: {adapter: b}}\n  b: {tasks: [x], init_adapter: {adapter: a}}"
        "\n  c: {tasks: [x], init_adapter: {adapter: b}}",
    )
    assert faults(text) == [
        "r.yaml:4:19: a goes on from b goes on from a, so none of them can be first",
        "r.yaml:5:19: b goes on from a goes on from b, so none of them can be first",
        "r.yaml:6:19: c goes on from b goes on from a goes on from b, so none of them can be first",
    ]


def test_a_learning_rate_in_powers_of_ten_is_a_number() -> None:
    spec = parse(RecipeSpec, parse_yaml((RECIPE + "optim: {lr: 5e-3}\n").encode(), "r.yaml"))
    assert spec.optim.lr == 0.005


def test_a_suite_names_at_least_one_task() -> None:
    with pytest.raises(DeclarationError, match="tasks: list should have at least 1 item"):
        parse(SuiteSpec, parse_yaml(b"summary: s\ntasks: []\n", "s.yaml"))


@pytest.mark.parametrize(
    ("line", "cot"), [("", None), ("cot: null", None), ("cot: off", "off"), ("cot: 'off'", "off"), ("cot: few", "few")]
)
def test_a_recipe_trains_with_the_chain_of_thought_it_names(line: str, cot: str | None) -> None:
    assert parse(RecipeSpec, parse_yaml((RECIPE + line + "\n").encode(), "r.yaml")).cot == cot


def test_a_suite_may_name_a_format() -> None:
    suite = parse(SuiteSpec, parse_yaml(b"summary: s\ntasks: [a]\nformat: toon\n", "s.yaml"))
    assert suite.format == "toon"
    assert parse(SuiteSpec, parse_yaml(b"summary: s\ntasks: [a]\n", "s.yaml")).format is None
