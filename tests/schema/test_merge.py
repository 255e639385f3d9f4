from __future__ import annotations

import pytest

from slmbench.errors import DeclarationError
from slmbench.schema import MergeRecipeSpec, MergeSpec, parse
from slmbench.yamlfile import parse_yaml

HEAD = """\
kind: merge
summary: s
train: r
inputs: [a, b]
merges:
"""


def read(text: str) -> MergeRecipeSpec:
    return parse(MergeRecipeSpec, parse_yaml(text.encode(), "m.yaml"))


def merge(line: str) -> MergeSpec:
    return read(f"{HEAD}  m: {line}\n").merges["m"]


def faults(text: str) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_recipe_and_adapters_may_be_named_alone() -> None:
    spec = read(HEAD + "  m: {method: x}\n")
    assert spec.train is not None and spec.train.recipe == "r"
    assert {name: one.adapter for name, one in spec.inputs.items()} == {"a": "a", "b": "b"}


def test_searched_values_are_in_their_order() -> None:
    line = (
        "{method: x, weights: {a: {search: [1, 2]}, b: 1}, parameters: {y: {search: {from: 0.2, to: 1.0, steps: 5}}}}"
    )
    assert merge(line).axes(["a", "b"]) == [
        (("parameters", "y"), [0.2, 0.4, 0.6, 0.8, 1.0]),
        (("weights", "a"), [1, 2]),
    ]


def test_a_simplex_has_every_weighting_that_sums_to_one() -> None:
    ((place, points),) = merge("{method: x, weights: {search: {simplex: 4}}}").axes(["a", "b", "c"])
    assert place == ("weights",)
    assert len(points) == 15  # (4 + 2 choose 2)
    assert all(sum(point.values()) == 1 and set(point) == {"a", "b", "c"} for point in points)
    assert {"a": 0.25, "b": 0.5, "c": 0.25} in points


@pytest.mark.parametrize(
    "value",
    [
        "0.5",
        "[0, 0.5, 1]",
        "[{filter: mlp, value: 0.5}, {value: [0, 1]}]",
        "{a: 0.5, b: [0, 1]}",
        "true",
        "{search: [[0, 1], [1, 0]]}",
    ],
)
def test_parameters_take_gradients_and_filters(value: str) -> None:
    assert merge(f"{{method: x, parameters: {{y: {value}}}}}").parameters["y"] is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{method: x, paramters: {}}", "6:18: unknown key 'paramters'; did you mean 'parameters'?"),
        ("{method: x, inputs: [a, a]}", "6:30: 'a' is listed twice"),
        ("{method: x, inputs: [aa, b]}", "6:27: 'aa' is not an input; did you mean 'a'?"),
        ("{method: x, seeds: [1, 1]}", "6:18: a seed is listed twice"),
        ("{method: x, seeds: [-1]}", "6:26: merges.m.seeds.0: input should be greater than or equal to 0, got int -1"),
        ("{method: x, rank: 4, result: model}", "6:18: a rank is a LoRA's, and `result: model` asks for a whole model"),
        ("{method: x, rank: all}", "6:18: merges.m.rank: expected a whole number or 'full', got str 'all'"),
        ("{method: x, weights: [1]}", "6:18: 1 weights for 2 inputs"),
        ("{method: x, weights: {a: 1}}", "6:18: no weight for b"),
        ("{method: x, weights: {a: 1, b: 1, c: 1}}", "6:40: 'c' is not an input of it; known: a, b"),
        ("{method: x, weights: {a: much, b: 1}}", "6:28: weights.a: expected a number, got str 'much'"),
        ("{method: x, weights: {search: {simplex: 0}}}", "6:28: weights: a search of all of them at once is"),
        ("{method: x, greedy: true, weights: [1, 2]}", "6:18: a greedy soup weighs all that it takes alike"),
        ("{method: x, greedy: true, inputs: [a]}", "6:18: a greedy soup chooses among several inputs"),
        ("{method: x, parameters: {y: .nan}}", "6:31: parameters.y: expected a finite number, got nan"),
        ("{method: x, parameters: {y: []}}", "6:31: parameters.y: an empty list has no value for any layer"),
        ("{method: x, parameters: {y: [1, x]}}", "6:38: parameters.y: a list over the layers has numbers, got str 'x'"),
        ("{method: x, parameters: {y: [{value: 1}, {value: 2}]}}", "without a filter it holds for all"),
        ("{method: x, parameters: {y: [{filter: a}]}}", "6:35: parameters.y: each is {filter: part of a name, value"),
        ("{method: x, parameters: {y: {c: 1}}}", "6:35: 'c' is not an input of it; known: a, b"),
        (
            "{method: x, parameters: {y: {search: [1]}}}",
            "6:35: parameters.y: a search needs at least two values, got 1",
        ),
        ("{method: x, parameters: {y: {search: [1, 1]}}}", "6:47: parameters.y: 1 is listed twice"),
        ("{method: x, parameters: {y: {search: {from: 1, to: 0, steps: 3}}}}", "goes from a number to a larger one"),
        ("{method: x, parameters: {y: {search: {from: 0, to: 1, steps: 1}}}}", "a search takes from 2 to 1000 steps"),
        (
            "{method: x, weights: {search: {simplex: 99}}, parameters: {y: {search: {from: 0, to: 1, steps: 99}}}}",
            "more",
        ),
        ("{method: x, parameters: {y: {search: [1, 2], other: 1}}}", "6:31: parameters.y: a search stands alone"),
    ],
)
def test_one_wrong_setting_is_one_message(line: str, message: str) -> None:
    (fault,) = faults(f"{HEAD}  m: {line}\n")
    assert message in fault


def test_all_that_does_not_fit_is_told_at_once() -> None:
    text = "kind: merge\nsummary: s\ninputs: {a: {adapter: x}, b: {path: p}}\nbeside: [c]\nmerges:\n"
    text += "  b: {method: m}\n  e: {method: m, seeds: [1]}\n  e-seed1: {method: m}\n"
    assert faults(text) == [
        "m.yaml:1:1: missing key 'model': the base, if no `train` recipe says it",
        "m.yaml:3:10: 'x' is an adapter of no recipe; declare `train`",
        "m.yaml:4:1: they are adapters of the `train` recipe; declare it",
        "m.yaml:6:3: merge 'b' has the name of a model that goes in or is scored; rename one",
        "m.yaml:8:3: its result 'e-seed1' has a name that is taken; rename one",
    ]
