"""What merge methods compute: against float64, against mergekit, and by what has to hold of any of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import slmbench
from slmbench.merging import is_stochastic, load_method, merge_one, parameters_of
from slmbench.merging.methods import _pieces
from slmbench.merging.methods.soup import greedy_soup

OWN = ("linear", "soup", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties")
SCALES = [1e-1, 1e-3, 1e-5, 1e-7]


def _models(seed, count, n, scale, dtype=None):
    import torch

    torch.manual_seed(seed)
    base = torch.randn(n) * 0.02
    models = [base + torch.randn(n) * scale for _ in range(count)]
    dtype = dtype or torch.float32
    return base.to(dtype), [one.to(dtype) for one in models]


def _merged(method, tensors, base, weights=None, seed=0, name="w", **parameters):
    weights = [1.0] * len(tensors) if weights is None else weights
    given = {key.removesuffix("_"): value for key, value in parameters.items()}
    return merge_one(load_method(method), tensors, base=base, weights=weights, parameters=given, seed=seed, name=name)


def _elected64(parts, weights, normalize):
    import torch

    total = sum(parts)
    sign = torch.where(total >= 0, 1.0, -1.0)
    summed = sum(torch.where(part * sign > 0, part, 0.0) for part in parts)
    size = sum(abs(w) * (part * sign > 0) for w, part in zip(weights, parts, strict=True))
    return summed / torch.where(size > 0, size, 1.0) if normalize else summed


def _trimmed64(delta, density):
    """By a stable sort: of one size the first ones are kept."""
    order = delta.abs().sort(descending=True, stable=True).indices[: max(1, int(density * len(delta)))]
    kept = delta * 0
    kept[order] = delta[order]
    return kept


def _in_float64(method, tensors, base, weights, told):
    start, full = base.double(), [one.double() for one in tensors]
    deltas = [one - start for one in full]
    lambda_ = told.get("lambda_", 1.0)
    if method in ("linear", "soup"):
        return sum(w * one for w, one in zip(weights, full, strict=True)) / sum(weights)
    if method == "slerp":
        a, b = deltas if told["of"] == "deltas" else full
        cosine = float(a @ b / a.norm() / b.norm()) if a.norm() * b.norm() > 0 else 1.0
        t, phi = told["t"], math.acos(max(-1.0, min(1.0, cosine)))
        line = abs(cosine) > 0.9995
        one, two = (1 - t, t) if line else (math.sin((1 - t) * phi) / math.sin(phi), math.sin(t * phi) / math.sin(phi))
        return one * a + two * b + (start if told["of"] == "deltas" else 0)
    if method == "ties":
        deltas = [_trimmed64(delta, told["density"]) for delta in deltas]
    parts = [w * delta for w, delta in zip(weights, deltas, strict=True)]
    if method == "task_arithmetic":
        return start + lambda_ * sum(parts) / (sum(weights) if told["normalize"] else 1)
    return start + lambda_ * _elected64(parts, weights, told["normalize"])


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(["linear", "soup", "slerp", "task_arithmetic", "ties"]),
    count=st.integers(1, 5),
    n=st.sampled_from([1, 7, 100]),
    scale=st.sampled_from(SCALES),
    brain=st.booleans(),
    numbers=st.tuples(st.floats(0.2, 1.5), st.floats(0.05, 1.0), st.floats(0, 1), st.booleans()),
    seed=st.integers(0, 99),
)
def test_a_merge_is_its_formula_in_float64_at_every_size_of_changes(method, count, n, scale, brain, numbers, seed):
    import torch

    count = 2 if method == "slerp" else count
    base, models = _models(seed, count, n, scale, torch.bfloat16 if brain else torch.float32)
    lambda_, density, t, flag = numbers
    weights = [1.0] * count if method == "soup" else [0.3 + 0.7 * i for i in range(count)]
    told = {
        "linear": {},
        "soup": {},
        "slerp": {"t": t, "of": "deltas" if flag else "weights"},
        "task_arithmetic": {"lambda_": lambda_, "normalize": flag},
        "ties": {"lambda_": lambda_, "density": density, "normalize": flag},
    }[method]
    made = _merged(method, models, base, weights, **told).tensor
    right = _in_float64(method, models, base, weights, told)
    assert made.dtype == torch.float32
    assert float((made - right).abs().max()) <= 1e-6 * float(right.abs().max())


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(OWN),
    power=st.integers(-40, 20),
    n=st.sampled_from([1, 7, 100]),
    scale=st.sampled_from(SCALES),
    seed=st.integers(0, 99),
)
def test_no_tolerance_is_absolute_as_models_of_other_units_merge_to_the_same_numbers(method, power, n, scale, seed):
    import torch

    base, models = _models(seed, 2, n, scale)
    unit = 2.0**power  # Of which float32 has every product.
    made = _merged(method, models, base).tensor
    again = _merged(method, [one * unit for one in models], base * unit).tensor
    assert torch.equal(made * unit, again)


@settings(max_examples=60, deadline=None)
@given(method=st.sampled_from(OWN), count=st.integers(1, 5), n=st.sampled_from([1, 7, 100]), seed=st.integers(0, 99))
def test_one_model_of_weight_one_is_itself_and_the_same_models_are_a_fixed_point(method, count, n, seed):
    count = 2 if method == "slerp" else count
    base, models = _models(seed, 1, n, 1e-2)
    told = {"density": 1.0} if "density" in parameters_of(load_method(method)) else {}
    if method in ("task_arithmetic", "dare_linear"):
        told["lambda_"] = 1 / count  # They add up.
    made = _merged(method, models * count, base, **told).tensor
    assert float((made - models[0]).abs().max()) <= 1e-6 * float(models[0].abs().max())


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from([one for one in OWN if "dare" not in one and one != "slerp"]),
    n=st.sampled_from([1, 7, 100]),
    scale=st.sampled_from(SCALES),
    order=st.permutations(range(4)),
    seed=st.integers(0, 99),
)
def test_the_order_of_the_models_doesnt_matter(method, n, scale, order, seed):
    base, models = _models(seed, 4, n, scale)
    weights = [1.0] * 4 if method == "soup" else [0.5, 1.0, 0.25, 1.5]
    made = _merged(method, models, base, weights).tensor
    again = _merged(method, [models[i] for i in order], base, [weights[i] for i in order]).tensor
    assert float((made - again).abs().max()) <= 1e-6 * float(made.abs().max())


def test_neither_the_order_of_tensors_nor_pieces_nor_views_change_a_number(monkeypatch):
    import torch

    base, models = _models(0, 3, 300, 1e-3)
    told = {method: {"density": 0.3} if "density" in parameters_of(load_method(method)) else {} for method in OWN}
    count = {method: 2 if method == "slerp" else 3 for method in OWN}
    whole = {method: _merged(method, models[: count[method]], base, **told[method]) for method in OWN}
    monkeypatch.setattr(_pieces, "PIECE", 64)
    square = base.view(6, 50)
    for method in reversed(OWN):
        views = [one.view(6, 50) for one in models[: count[method]]]
        made = _merged(method, views, square, **told[method])
        torch.testing.assert_close(made.tensor.flatten(), whole[method].tensor, rtol=0, atol=1e-9)
        assert made.tensor.shape == (6, 50) and made.facts == pytest.approx(whole[method].facts)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(-4, 4), min_size=1, max_size=40), data=st.data())
def test_exactly_the_k_largest_stay_and_of_one_size_the_first(values, data):
    import torch

    k = data.draw(st.integers(1, len(values)))
    tensor = torch.tensor(values, dtype=torch.float32)
    cut, equals, there = _pieces.largest(tensor, torch.zeros_like(tensor), k)
    sizes = sorted(map(abs, values), reverse=True)
    assert cut == sizes[k - 1] and equals == sizes[:k].count(sizes[k - 1])
    assert there == sizes.count(sizes[k - 1])
    # Halfway up to the next count, so that rounding of k / n can't matter.
    density = min(1.0, (k + 0.5) / len(values))
    made = _merged("ties", [tensor], torch.zeros_like(tensor), density=density).tensor
    assert torch.equal(made.double(), _trimmed64(tensor.double(), density))


def test_dare_draws_by_seed_tensor_and_model_and_keeps_what_it_says():
    import torch

    base, models = _models(0, 2, 20_000, 1e-3)
    base = base.zero_()
    models = [one.abs() + 1 for one in models]
    told = {"density": 0.25, "lambda_": 1.0}
    made = _merged("dare_linear", models, base, [1.0, 0.0], **told)
    other = _merged("dare_linear", models, base, [0.0, 1.0], **told)
    kept = made.tensor != 0
    torch.testing.assert_close(made.tensor[kept], models[0][kept] * 4, rtol=1e-6, atol=0)
    assert abs(float(kept.float().mean()) - 0.25) < 0.02 and made.facts["density"] == pytest.approx(0.25, abs=0.02)
    assert torch.equal(made.tensor, _merged("dare_linear", models, base, [1.0, 0.0], **told).tensor)
    for masks in (
        other.tensor != 0,
        _merged("dare_linear", models, base, [1.0, 0.0], seed=1, **told).tensor != 0,
        _merged("dare_linear", models, base, [1.0, 0.0], name="v", **told).tensor != 0,
    ):
        assert abs(float((masks == kept).float().mean()) - (0.25**2 + 0.75**2)) < 0.02
    by_size = _merged("dare_linear", models, base, [1.0, 0.0], rescale="l1", **told).tensor
    assert float(by_size.abs().sum()) == pytest.approx(float(models[0].abs().sum()), rel=1e-5)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_of_many_seeds_is_its_undropped_sum_on_average(method):
    import torch

    base, models = _models(0, 2, 400, 1e-3)
    models[1] = models[1].sign() * models[0].abs() if method == "dare_linear" else models[0]
    told = {"density": 0.5, **({"normalize": False} if method == "dare_ties" else {})}
    mean = sum(_merged(method, models, base, seed=seed, **told).tensor - base for seed in range(400)) / 400
    right = sum(one - base for one in models)
    # Each number's mean over 400 draws is off by its size / 20 at most times sqrt(2).
    spread = sum((one - base).square() for one in models).sqrt() / 20
    assert float(((mean - right) / spread).square().mean().sqrt()) == pytest.approx(1, abs=0.1)
    assert torch.isfinite(mean).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties"])
def test_mergekit_makes_the_same_where_the_definitions_coincide(method, dtype):
    import torch

    api = pytest.importorskip("mergekit.merge_methods.api")
    for scale in (1e-2, 1e-5):
        base, models = _models(3, 2 if method == "slerp" else 3, 500, scale, getattr(torch, dtype))
        told = {"linear": {}, "slerp": {"t": 0.3}, "task_arithmetic": {"lambda": 0.7}, "ties": {"density": 1.0}}[method]
        weights = [1.0] * len(models) if method == "slerp" else [0.4, 1.1, 0.6][: len(models)]
        every = {i: {"w": one} for i, one in enumerate(models)}
        given = told if method == "slerp" else {**told, "weight": dict(enumerate(weights))}
        if method in ("task_arithmetic", "ties"):
            every["base"], given["weight"]["base"] = {"w": base}, 0.0
        key = "base" if "base" in every else 0 if method == "slerp" else None
        theirs = api.merge_state_dicts(every, method, base=key, parameters=given, dtype=torch.float32)["w"]
        ours = _merged(method, models, base, weights, **told).tensor
        assert float((ours - theirs).abs().max()) <= 1e-6 * float(theirs.abs().max())


def test_facts_say_how_near_two_models_are_and_where_they_push_apart():
    import torch

    base = torch.zeros(4)
    one, two = torch.tensor([1.0, 1, 0, 2]), torch.tensor([1.0, -1, 0, 0])
    assert _merged("ties", [one, two], base, density=1.0).facts == {"density": 1.0, "sign_conflicts": 1 / 3}
    assert _merged("ties", [one, two], base, density=[0.5, 0.25]).facts["density"] == 0.375
    start, models = _models(0, 2, 1000, 1e-4)
    near = _merged("slerp", models, start).facts
    assert near["path"] == "linear" and near["cosine"] > 0.9995
    apart = _merged("slerp", models, start, of="deltas").facts
    assert apart["path"] == "spherical" and abs(apart["cosine"]) < 0.2
    assert _merged("slerp", [start, models[0]], start, of="deltas").facts == {"path": "linear"}


def test_weights_of_both_signs_never_make_a_mean_larger_than_what_it_is_of():
    import torch

    base, models = _models(1, 2, 1000, 1e-2)
    made = _merged("ties", models, base, [1.0, -0.9999], density=1.0).tensor - base
    assert float(made.abs().max()) <= max(float((one - base).abs().max()) for one in models) * (1 + 1e-5)
    assert torch.equal(_merged("ties", models, base, [-1.0, 0.0], density=1.0).tensor, base - (models[0] - base))


def test_the_public_function_gives_the_dtype_that_the_inputs_have_in_common():
    import torch

    base, models = _models(0, 2, 10, 1e-2)
    mixed = [models[0].bfloat16(), models[1].half()]
    assert slmbench.merge_tensors("linear", mixed).dtype == torch.float32
    made = slmbench.merge_tensors("ties", [one.bfloat16() for one in models], base=base, density=0.5, lambda_=0.5)
    assert made.dtype == torch.bfloat16
    again = _merged("ties", [one.bfloat16() for one in models], base, density=0.5, lambda_=0.5).tensor
    assert torch.equal(made, again.bfloat16())
    assert not is_stochastic(load_method("ties")) and is_stochastic(load_method("dare_ties"))
    draws = [slmbench.merge_tensors("dare_ties", models, base=base, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_greedy_soup_keeps_who_doesnt_make_it_worse():
    asked = []

    def score(members):
        asked.append(members)
        return {("b", "a"): 0.8, ("b", "a", "d"): 0.8, ("b", "a", "d", "c"): 0.7}[members]

    made = greedy_soup({"c": 0.1, "a": 0.5, "b": 0.8, "d": 0.4}, score)
    assert made.members == ("b", "a", "d") and made.score == 0.8
    assert [(one.member, one.kept) for one in made.steps] == [("b", True), ("a", True), ("d", True), ("c", False)]
    assert len(asked) == 3
    assert greedy_soup({"a": 1.0, "b": 0.5}, lambda members: math.nan).members == ("a",)
    with pytest.raises(slmbench.SlmbenchError, match="that of b is NaN"):
        greedy_soup({"a": 1.0, "b": math.nan}, score)


@pytest.mark.parametrize(
    ("method", "weights", "told", "message"),
    [
        ("linear", [1, -1], {}, "the weights 1, -1 sum to 0"),
        ("linear", [1e-9, -1e-9], {}, "sum to 0"),
        ("linear", [1, 1, 1], {}, "2 models need a weight each; got 3"),
        ("linear", [1, math.nan], {}, "a weight is a finite number; got nan"),
        ("soup", [1, 2], {}, "soup: a soup weighs all models alike"),
        ("slerp", [1, -0.5], {}, "slerp: weights of one sign"),
        ("slerp", None, {"t": 1.5}, r"slerp: t is a number in \[0, 1\]; got 1.5"),
        ("slerp", None, {"of": "delta"}, r"of is weights or deltas \(did you mean 'deltas'\?\); got 'delta'"),
        ("slerp", None, {"of": "deltas"}, "slerp needs a base"),
        ("ties", None, {}, "ties needs a base: name the model"),
        ("ties", None, {"density": 0}, r"density is a number in \(0, 1\]; got 0"),
        ("dare_ties", None, {"density": 1.01}, r"density is a number in \(0, 1\]; got 1.01"),
        ("dare_ties", None, {"density": [0.5, 0]}, r"density is a number in \(0, 1\]; got \[0.5, 0\]"),
        ("dare_linear", None, {"rescale": "L1"}, r"rescale is inverse_density or l1; got .L1."),
        ("task_arithmetic", None, {"lambda_": math.inf}, "lambda is a finite number; got inf"),
        ("task_arithmetic", None, {"lambd": 1, "normalize": 0}, "no parameter 'lambd'; did you mean 'lambda'"),
        ("tie", None, {}, "unknown merge_method 'tie'; did you mean 'ties'"),
    ],
)
def test_what_cant_be_merged_is_named_before_any_work(method, weights, told, message):
    _, models = _models(0, 2, 10, 1e-2)
    with pytest.raises(slmbench.SlmbenchError, match=message) as caught:
        slmbench.merge_tensors(method, models, weights=weights, **told)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize("method", OWN)
def test_an_input_that_is_odd_is_named_by_every_method(method):
    import torch

    base, models = _models(0, 2, 10, 1e-2)
    for index, value, said in ((1, math.nan, "input 2 holds NaN"), (0, -math.inf, "input 1 holds infinity")):
        odd = [one.clone() for one in models]
        odd[index][3] = value
        with pytest.raises(slmbench.SlmbenchError, match=f"{method}: tensor 'w': {said}"):
            _merged(method, odd, base)
    for other, said in (
        (torch.ones(5, 2), r"shapes differ: input 1 is \(10,\), input 2 is \(5, 2\)"),
        (torch.ones(10, dtype=torch.int64), "input 2 is int64; floats are merged"),
    ):
        with pytest.raises(slmbench.SlmbenchError, match=f"{method}: tensor 'w': {said}"):
            _merged(method, [models[0], other], base)
    assert _merged(method, [torch.zeros(0)] * 2, torch.zeros(0)).tensor.shape == (0,)


def test_a_result_that_its_dtype_cant_hold_is_an_error():
    import torch

    with pytest.raises(slmbench.SlmbenchError, match="goes beyond what float16 can hold"):
        slmbench.merge_tensors("task_arithmetic", [torch.full((3,), 6e4).half()] * 2, base=torch.zeros(3))
    with pytest.raises(slmbench.SlmbenchError, match="although no input does: a weight or lambda is too large"):
        slmbench.merge_tensors("linear", [torch.ones(3)], weights=[1e39], normalize=False)
