"""Merge methods of plugins: found by name, told what is theirs to be told, and held to what they may return."""

from __future__ import annotations

from pathlib import Path

import pytest

import slmbench
from slmbench.catalog import default_catalog
from slmbench.headers import own_headers
from slmbench.merging import check_parameters, is_stochastic, load_method, merge_one, parameters_of
from slmbench.registry import _hold_facts

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
METHOD = """import slmbench

@slmbench.merge_method("mine", summary="A merge.", version="1"FACTS)
def mine(tensors, base, weights, PARAMETERS):
    BODY
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(body, facts="", parameters="strength=1.0") -> the method of a plugin's file on SLMBENCH_PATH."""
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path / "here"))
    monkeypatch.chdir(tmp_path)

    def made(body="return tensors[0]", facts="", parameters="strength=1.0"):
        text = METHOD.replace("FACTS", facts).replace("PARAMETERS", parameters).replace("BODY", body)
        path = tmp_path / "here" / "plugins" / "merges.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return load_method("mine", default_catalog())

    return made


def _tensors():
    import torch

    return [torch.tensor([1.0, 2.0, -3.0]), torch.tensor([2.0, -2.0, -1.0])]


def test_the_example_of_a_folder_merges_as_our_own_do(monkeypatch):
    import torch

    monkeypatch.setenv("SLMBENCH_PATH", str(EXAMPLES / "folder"))
    made = slmbench.merge_tensors("agreed", _tensors(), base=torch.zeros(3), lambda_=2)
    assert made.tolist() == [2, 0, -2]
    facts = merge_one(
        load_method("agreed"), _tensors(), base=torch.zeros(3), weights=[1, 1], parameters={}, seed=0, name="w"
    ).facts
    assert facts == {"agreed": pytest.approx(2 / 3)}
    for told, said in (
        ({"lambda_": 11}, r"agreed: lambda is a number in \[0, 10\]; got 11"),
        ({"lamda": 1}, "agreed has no parameter 'lamda'; did you mean 'lambda'"),
    ):
        with pytest.raises(slmbench.SlmbenchError, match=said):
            slmbench.merge_tensors("agreed", _tensors(), base=torch.zeros(3), **told)
    with pytest.raises(slmbench.SlmbenchError, match="agreed merges 2 or more models; got 1"):
        slmbench.merge_tensors("agreed", _tensors()[:1], base=torch.zeros(3))


def test_a_method_draws_from_a_generator_of_its_models_place(write):
    import torch

    body = "import torch; return torch.stack([torch.rand(3, generator=generator(i)) for i in (0, 1, 0)])"
    method = write(body, parameters="generator, strength=1.0")
    assert is_stochastic(method) and parameters_of(method) == {"strength": 1.0}
    square = [torch.zeros(3, 3)] * 2
    draws = [slmbench.merge_tensors(method, square, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0][0], draws[0][2]) and not torch.equal(draws[0][0], draws[0][1])
    assert check_parameters(method, {"generator": 1}) == ["mine has no parameter 'generator'; known: strength"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "return None",
            r"merges\.py:3: merge_method 'mine': expected a tensor, or \(a tensor, a dict of facts\), got No",
        ),
        ("return tensors[0][:2]", r"expected a tensor of shape \(3,\), got \(2,\) \(tensor 'w'\)"),
        ("return tensors[0].long()", "expected floats, got int64"),
        ("return tensors[0] / 0", "the result holds infinity"),
        ("return tensors[0] * float('nan')", "the result holds NaN"),
        ("return tensors[0], {'a': tensors[0]}", "facts are texts with finite numbers, texts, bools or None, got {'a'"),
        ("return tensors[0], {1: 2}", "facts are texts"),
        ("return tensors[0], {'a': float('nan')}", "facts are texts"),
        ("raise KeyError('x')", r"merges\.py:5: merge_method 'mine': KeyError: 'x' \(tensor 'w'\)"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("return base + 1", r"merges\.py:5: merge_method 'mine': TypeError"),
    ],
)
def test_a_method_that_does_not_do_what_it_says_is_told_with_tensor_and_line(write, body, message):
    method = write(body)
    with pytest.raises(slmbench.SlmbenchError, match=message) as caught:
        merge_one(method, _tensors(), base=None, weights=[1.0, 1.0], parameters={}, seed=0, name="w")
    assert caught.value.exit_code == 2


def test_nan_in_an_input_of_a_plugins_method_is_the_inputs_fault(write):
    method = write()
    with pytest.raises(slmbench.SlmbenchError, match="mine: tensor 'w': input 2 holds NaN"):
        merge_one(
            method,
            [_tensors()[0], _tensors()[1] * float("nan")],
            base=None,
            weights=[1.0, 1.0],
            parameters={},
            seed=0,
            name="w",
        )


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (", need_base=True", "merge_method 'mine' has no 'need_base'; did you mean 'needs_base'"),
        (", needs_base=1", "'mine': needs_base is True or False; got 1"),
        (", models=2", r"'mine': models is \(the fewest, the most or None\); got 2"),
        (", models=(3, 2)", r"models is \(the fewest"),
        (", space='weight'", "space is weights or adapters; got 'weight'; did you mean 'weights'"),
        (", ranges={'strength': '0..1'}", "ranges is a dict of a parameter's name and an interval"),
        (", ranges={'strength': '(1, 0]'}", "ranges is a dict of a parameter's name and an interval"),
    ],
)
def test_a_fact_that_is_none_is_refused_when_the_file_is_loaded(write, facts, message):
    with pytest.raises(slmbench.SlmbenchError, match=message):
        write(facts=facts)


@pytest.mark.parametrize(
    ("parameters", "facts", "message"),
    [
        ("strength", "", "parameter 'strength' has no default; give it one"),
        ("weak=1.0", ", ranges={'strength': '(0, 1]'}", "ranges names 'strength', which is none of its parameters"),
        ("**more", "", "its parameters are named each, with a default"),
        (
            "strength: 'Level' = 1.0",
            "",
            r"parameter 'strength' is annotated 'Level', which can't be evaluated \(NameError: name 'Level' is not "
            r"defined\); import what it names",
        ),
    ],
)
def test_a_signature_that_is_none_is_told_with_its_line(write, parameters, facts, message):
    method = write(facts=facts, parameters=parameters)
    with pytest.raises(slmbench.SlmbenchError, match=rf"merges\.py:3: merge_method 'mine': {message}"):
        parameters_of(method)


def test_tensors_may_be_named_by_what_only_type_checkers_import(write):
    method = write(parameters="generator: 'Callable[[int], Random]', strength: 'float' = 1")
    method.function.__annotations__["tensors"] = "list[torch.Tensor]"
    assert parameters_of(method) == {"strength": 1}
    assert check_parameters(method, {"strength": "much"}) == ["mine: strength is a finite number; got 'much'"]


def test_a_name_of_our_own_is_taken(write, capsys):
    write()
    path = Path("here/plugins/merges.py")
    path.write_text(path.read_text().replace('"mine"', '"ties"'))
    with pytest.raises(slmbench.SlmbenchError, match=r"unknown merge_method 'mine'"):
        load_method("mine", default_catalog())
    assert load_method("ties", default_catalog()).plugin is False


def test_our_own_methods_are_held_to_the_contract_of_plugins():
    for header in own_headers("merge_method"):
        method = load_method(header.name)
        _hold_facts("merge_method", header.name, method.facts)
        assert check_parameters(method, parameters_of(method)) == []
        assert (
            "Source:" in (method.function.__doc__ or "")
            or method.facts.get("experimental")
            or "wrong" in header.summary.lower()
        )
