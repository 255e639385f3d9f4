"""Every merge method against mergekit 0.1.5 on random state dicts, and the cases where mergekit is off.

python benchmarks/merge_equality.py [--dicts N]

Exits with 1 if a method's result differs by more than 1e-6 of the tensor's largest number where the two definitions
coincide. mergekit is told to compute in float32, as slmbench does; for DARE it is handed the same random numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mergekit.merge_methods.api import merge_state_dicts

from slmbench.merging import load_method, merge_one
from slmbench.merging._tensors import _generators
from slmbench.merging.methods._pieces import largest

Tensors = dict[str, torch.Tensor]
SCALES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
SIZES = (1, 7, 100)
HUGE = 1_000_000  # Of one tensor in every tenth state dict.
LIMIT = 1e-6
FLOOR = 1e-5  # Below this norm of a change, mergekit's absolute tolerances act.
METHODS = (
    "linear",
    "soup",
    "slerp",
    "slerp of deltas",
    "task_arithmetic",
    "ties",
    "dare_linear (l1)",
    "dare_ties (l1)",
)


def random_dicts(number: int) -> tuple[Tensors, list[Tensors], random.Random, float, torch.dtype]:
    """(base, models, more randomness, scale of the changes, dtype)"""
    rng = random.Random(number)
    torch.manual_seed(number)
    scale, dtype = SCALES[number % len(SCALES)], (torch.float32, torch.bfloat16)[number // len(SCALES) % 2]
    sizes = [*SIZES, *((HUGE,) if number % 10 == 0 else ())]
    base = {f"w{n}": torch.randn(n) * 0.02 for n in sizes}
    models = [
        {name: (w + torch.randn_like(w) * scale).to(dtype) for name, w in base.items()}
        for _ in range(rng.randint(2, 5))
    ]
    return {name: w.to(dtype) for name, w in base.items()}, models, rng, scale, dtype


def theirs(method: str, models: Sequence[Tensors], base: Tensors | None, **parameters: Any) -> Tensors:
    """What mergekit makes of state dicts in float32; where it sums over a whole tensor in float64, as it is off else.

    weight: of each model.
    """
    dtype = torch.float64 if "slerp" in method or "dare" in method else torch.float32
    every = {"base": base, **{str(i): one for i, one in enumerate(models)}} if base else dict(enumerate(models))
    ids = [key for key in every if key != "base"]
    given = {
        key: {**dict(zip(ids, value, strict=True)), **({"base": 0.0} if base else {})}
        if isinstance(value, list)
        else value
        for key, value in parameters.items()
    }
    key = "base" if base else ids[0] if method == "slerp" else None
    return merge_state_dicts(every, method, base=key, parameters=given, dtype=dtype)  # type: ignore[arg-type]


def ours(method: str, name: str, tensors: list[torch.Tensor], base: torch.Tensor, weights: list[float], **told: object):
    """slmbench's merged tensor of a name, float32."""
    given = {key.removesuffix("_"): value for key, value in told.items()}
    return merge_one(load_method(method), tensors, base=base, weights=weights, parameters=given, name=name).tensor


@contextlib.contextmanager
def masks_shared(name: str, seed: int = 0) -> Iterator[None]:
    """mergekit's draws are those that slmbench makes for the models of a tensor, one after another."""
    generator, own, drawn = _generators(seed, name), torch.bernoulli, iter(range(100))

    def bernoulli(odds: torch.Tensor, **_: object) -> torch.Tensor:
        numbers = torch.rand(odds.numel(), generator=generator(next(drawn))).view(odds.shape)
        return (numbers < odds).to(odds.dtype)

    torch.bernoulli = bernoulli  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.bernoulli = own


def merged(
    method: str, base: Tensors, models: list[Tensors], rng: random.Random
) -> Iterator[tuple[Any, Any, Any, float]]:
    """(ours, mergekit's, which numbers the definitions leave open, the largest number) with random parameters."""
    weights = [rng.uniform(0.1, 1.5) for _ in models]
    lambda_, density, t = rng.uniform(0.2, 1.5), rng.choice([0.1, 0.2, 0.5, 0.9, 1.0]), rng.random()
    normalize = rng.random() < 0.5
    if method.startswith("slerp"):
        models, weights = models[:2], [1 - t, t]
    by_name = {name: [one[name] for one in models] for name in base}
    if method == "linear":
        peer = theirs("linear", models, None, weight=weights, normalize=normalize)
    elif method == "soup":
        weights = [1.0] * len(models)
        peer = theirs("linear", models, None, weight=weights)
    elif method == "slerp":
        peer = theirs("slerp", models, None, t=t)
    elif method == "slerp of deltas":
        peer = theirs("nuslerp", models, base, weight=weights)
    elif method == "task_arithmetic":
        peer = theirs(method, models, base, weight=weights, **{"lambda": lambda_}, normalize=normalize)
    elif method == "ties":
        told = {"weight": weights, "density": density, "lambda": lambda_, "normalize": normalize}
        peer = theirs(method, models, base, **told)
    else:
        peer = {}
        method = method.removesuffix(" (l1)")
        normalize = normalize and method == "dare_ties"
        told = {"weight": weights, "density": density, "lambda": lambda_, "normalize": normalize, "rescale": True}
        for name in base:
            with masks_shared(name):
                one = [{name: model[name]} for model in models]
                peer |= theirs(method, one, {name: base[name]}, **told)
    own: dict[str, object] = {
        "linear": {"normalize": normalize},
        "soup": {},
        "slerp": {"t": t},
        "slerp of deltas": {"of": "deltas"},
        "task_arithmetic": {"lambda": lambda_, "normalize": normalize},
        "ties": {"density": density, "lambda": lambda_, "normalize": normalize},
        "dare_linear": {"density": density, "lambda": lambda_, "rescale": "l1"},
        "dare_ties": {"density": density, "lambda": lambda_, "rescale": "l1", "normalize": normalize},
    }[method]
    for name, tensors in by_name.items():
        made = ours(method.split()[0], name, tensors, base[name], weights, **own)
        size = max(float(one.abs().max()) for one in (*tensors, base[name], peer[name]))
        yield made, peer[name], open_numbers(method, name, tensors, base[name], weights, density), size


def open_numbers(method: str, name: str, tensors: list, base: torch.Tensor, weights: list[float], density: float):
    """Where the definitions don't say what comes out: which of several changes of one size are the k largest, and what
    the sign of a sum is that float32's rounding decides."""
    undecided = torch.zeros(base.shape, dtype=torch.bool)
    if method == "slerp of deltas":
        one, two = (tensor.double() - base.double() for tensor in tensors)
        cosine = float(one @ two / (one.norm() * two.norm()).clamp(min=1e-300))
        # nuslerp takes the straight line where a cosine is 1 and not near.
        near = abs(cosine) > 0.9995 and 1 - cosine**2 > 1e-16
        return undecided | (min(one.norm(), two.norm()) < FLOOR or near)
    if "dare" in method and min(float((tensor.float() - base.float()).abs().sum()) for tensor in tensors) < FLOOR:
        return ~undecided
    if "ties" not in method:
        return undecided
    k = max(1, int(density * base.numel()))
    total, size = torch.zeros(base.shape, dtype=torch.float64), torch.zeros(base.shape, dtype=torch.float64)
    for index, (tensor, weight) in enumerate(zip(tensors, weights, strict=True)):
        change = tensor.float() - base.float()
        kept = torch.ones_like(undecided)
        if method == "ties" and k < base.numel():
            cut, equals, there = largest(tensor, base, k)
            kept = change.abs() >= cut
            tied = change.abs() == cut
            undecided |= tied & (there > equals and cut > 0)
        elif method == "dare_ties":
            kept = torch.rand(base.shape, generator=_generators(0, name)(index)) < density
        total += weight * change.double() * kept
        size += weight * change.double().abs() * kept
    # A rescaling of each model by its own factor moves a sum by no more than this near 0, in these draws.
    return undecided | ((total.abs() <= 1e-6 * size) & (size > 0) & (total != 0))


def equality(number: int) -> float:
    """Prints the table; the largest difference of any method."""
    most = 0.0
    print(
        f"Against mergekit 0.1.5's merge_state_dicts, {number} random state dicts, changes of 1e-1 to 1e-7 on weights"
    )
    print(
        "of 0.02, tensors of 1, 7, 100 and 1,000,000 numbers, half of the dicts bfloat16; mergekit in float32, and in"
    )
    print(
        "float64 for slerp and DARE. A difference is relative to the tensor's largest number in any input or result.\n"
    )
    print("| method | tensors | largest difference | numbers left out as undefined |")
    print("| --- | --- | --- | --- |")
    for method in METHODS:
        worst, tensors, left, numbers = 0.0, 0, 0, 0
        for which in range(number):
            base, models, rng, *_ = random_dicts(which)
            for own, peer, undecided, size in merged(method, base, models, rng):
                by = float(torch.where(undecided, 0.0, own - peer).abs().max()) / size
                worst, tensors = max(worst, math.inf if math.isnan(by) else by), tensors + 1
                left, numbers = left + int(undecided.sum()), numbers + own.numel()
        print(f"| {method} | {tensors} | {worst:.1e} | {left / max(1, numbers):.2%} |", flush=True)
        most = max(most, worst)
    print(
        "\nLeft out: which of several changes of one size at TIES' border are kept (mergekit has no rule by place; here"
    )
    print(
        "the first stay), signs of sums that are 0 but for rounding, slerp between two changes that are nearly parallel"
    )
    print(
        "(cosine beyond 0.9995: a line here and in mergekit's slerp, an arc in its nuslerp), and in slerp of deltas and"
    )
    print("DARE tensors whose change has a norm below 1e-5, where mergekit's tolerances act: see the list.")
    return most


def off(got: torch.Tensor | float, right: torch.Tensor | float) -> str:
    """How far something is off what is right, relative to the latter's norm."""
    got, right = torch.as_tensor(got).double(), torch.as_tensor(right).double()
    return f"{float((got - right).norm() / right.norm()):.1e}"


def changed(size: float, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A base of weights of 0.02 and three models of it, of changes of a size and of twice and thrice that."""
    torch.manual_seed(1)
    base = (torch.randn(shape) * 0.02).to(dtype)
    return base, [(base.float() + torch.randn(shape) * size * (1 + i)).to(dtype) for i in range(3)]


def alone(method: str, tensors: Sequence[torch.Tensor], base: torch.Tensor | None, dtype: Any, **told: Any):
    """mergekit's merge of one tensor, in a dtype; None: in its default."""
    every = {**({"base": {"w": base}} if base is not None else {}), **{i: {"w": w} for i, w in enumerate(tensors)}}
    key = "base" if base is not None else None
    return merge_state_dicts(every, method, base=key, parameters=told, dtype=dtype)["w"].double()  # type: ignore[arg-type]


def wrong_cases() -> Iterator[tuple[str, str, str]]:
    """(what, how far slmbench's merged change is off its value in float64, how far mergekit 0.1.5's is)."""
    base, models = changed(2e-4, 400, 400, dtype=torch.bfloat16)
    start, deltas = base.double(), [one.double() - base.double() for one in models]
    right = 0.5 * sum(deltas)
    own = ours("task_arithmetic", "w", models, base, [0.5] * 3).double() - start
    peer = alone("task_arithmetic", models, base, None, weight=0.5) - start
    yield "task arithmetic, bfloat16, changes of 2e-4; mergekit's default dtype", off(own, right), off(peer, right)
    own_cast = ours("task_arithmetic", "w", models, base, [0.5] * 3).bfloat16().double() - start
    yield "the same, ours cast to bfloat16 too: the result's own rounding", off(own_cast, right), off(peer, right)

    right = ties64(deltas, [1.0] * 3, 0.2)
    own = ours("ties", "w", models, base, [1.0] * 3, density=0.2).double() - start
    peer = alone("ties", models, base, None, weight=1.0, density=0.2) - start
    yield "TIES, the same models (and ties of size, see above)", off(own, right), off(peer, right)

    base, models = changed(1e-3, 200, 200)
    start, deltas = base.double(), [one.double() - base.double() for one in models]
    weights = [1.0, -0.999, 0.5]
    right = ties64(deltas, weights, 1.0)
    own = ours("ties", "w", models, base, weights, density=1.0).double() - start
    told = {"base": 0.0, **dict(enumerate(weights))}
    peer = alone("ties", models, base, torch.float32, weight=told, density=1.0) - start
    yield "TIES, weights of 1, -0.999 and 0.5: a mean over agreeing weights' sizes", off(own, right), off(peer, right)

    tiny = [torch.tensor([5e-9, 0.0]), torch.tensor([2.5e-9, 4.3301270189e-9])]
    t, phi = 0.25, math.pi / 3
    right = (math.sin((1 - t) * phi) * tiny[0].double() + math.sin(t * phi) * tiny[1].double()) / math.sin(phi)
    own = ours("slerp", "w", tiny, tiny[0], [1.0, 1.0], t=t)
    every = {i: {"w": one} for i, one in enumerate(tiny)}
    peer = merge_state_dicts(every, "slerp", base=0, parameters={"t": t}, dtype=torch.float32)["w"]
    yield "slerp at 60 degrees, t = 0.25, of vectors of length 5e-9", off(own, right), off(peer, right)

    base, models = changed(1e-2, 1_000_000)
    one, two = base.double(), models[0].double()
    phi = math.acos(float(one @ two / one.norm() / two.norm()))
    right = (math.sin((1 - t) * phi) * one + math.sin(t * phi) * two) / math.sin(phi)
    own = ours("slerp", "w", [base, models[0]], base, [1.0, 1.0], t=t)
    every = {0: {"w": base}, 1: {"w": models[0]}}
    peer = merge_state_dicts(every, "slerp", base=0, parameters={"t": t}, dtype=torch.float32)["w"]
    yield "slerp of 1,000,000 numbers, t = 0.25, float32 (of the model)", off(own, right), off(peer, right)

    for size, n in ((1e-7, 7), (1e-8, 7)):
        base, models = changed(size, n)
        start, change = base.double(), models[0].double() - base.double()
        kept = torch.rand(base.shape, generator=_generators(0, "w")(0)) < 0.3
        right = change * kept * (change.abs().sum() / (change * kept).abs().sum())
        # Of the change alone, so that rounding of the base is out of the way.
        zero, only = torch.zeros(n), [(models[0] - base)]
        own = ours("dare_linear", "w", only, zero, [1.0], density=0.3, rescale="l1")
        with masks_shared("w"):
            peer = alone("dare_linear", only, zero, torch.float32, weight=1.0, density=0.3)
        yield (
            f"DARE of {n:,} changes of {size:g}, the same mask, rescaled to the L1 norm",
            off(own, right),
            off(peer, right),
        )

    zero, only = torch.zeros(1), [torch.tensor([1e-7]), torch.tensor([-3e-8])]
    right = 0.25 * only[0].double() + 0.75 * only[1].double()
    own = ours("slerp", "w", only, zero, [1.0, 3.0], of="deltas")
    peer = alone("nuslerp", only, zero, torch.float32, weight={"base": 0.0, 0: 1.0, 1: 3.0})
    yield "slerp of opposite changes of single numbers, of 1e-7 and 3e-8: the line", off(own, right), off(peer, right)

    base, models = changed(1e-4, 400)
    start, deltas = base.double(), [one.double() - base.double() for one in models]
    still = [models[0], base]
    own = ours("slerp", "w", still, base, [1.0, 1.0], of="deltas").double() - start
    peer = alone("nuslerp", still, base, torch.float32, weight=1.0) - start
    yield "slerp halfway between a change and none: half of it", off(own, deltas[0] / 2), off(peer, deltas[0] / 2)

    for size in (3e-4, 1e-3):
        base, models = changed(size, 400, 400)
        start, deltas = base.double(), [one.double() - base.double() for one in models[:2]]
        squares = [float(one.square().mean()) for one in deltas]
        right = elected64(deltas, [one / sum(squares) for one in squares], votes=[1.0, 1.0])
        peer = alone("sce", models[:2], base, torch.float32) - start
        yield f"SCE, changes of {size:g} and {2 * size:g}", "no counterpart", off(peer, right)

    base, models = changed(1e-5, 16, 16)
    start, deltas = base.double(), [one.double() - base.double() for one in models[:2]]
    shared = [(deltas[0] + deltas[1]) / 2 + 0.3 * one for one in deltas]
    models = [(start + one).float() for one in shared]
    deltas = [one.double() - start for one in models]
    cosine = float((deltas[0] * deltas[1]).sum() / deltas[0].norm() / deltas[1].norm())
    right = 2 * cosine / (1 + cosine) * sum(deltas) / 2
    peer = alone("model_stock", models, base, torch.float32) - start
    yield "model_stock, a 16 x 16 tensor, changes of 1e-5", "no counterpart", off(peer, right)


def elected64(deltas: list[torch.Tensor], weights: list[float], votes: list[float] | None = None) -> torch.Tensor:
    """Weighted changes that agree with the elected sign, over the sum of their weights' sizes, in float64.

    votes: what each change counts in the election, its weight unless given.
    """
    ballot = sum(vote * delta for vote, delta in zip(votes or weights, deltas, strict=True))
    sign = torch.where(torch.as_tensor(ballot) >= 0, 1.0, -1.0)
    parts = [weight * delta for weight, delta in zip(weights, deltas, strict=True)]
    agree = [part * sign > 0 for part in parts]
    total = sum(abs(weight) * one for weight, one in zip(weights, agree, strict=True))
    elected = sum(part * one for part, one in zip(parts, agree, strict=True))
    return torch.as_tensor(elected / torch.where(torch.as_tensor(total) > 0, total, 1.0))


def ties64(deltas: list[torch.Tensor], weights: list[float], density: float) -> torch.Tensor:
    """TIES in float64; of changes of one size at the border the first ones stay."""
    trimmed = []
    for delta in deltas:
        flat = delta.flatten()
        order = flat.abs().sort(descending=True, stable=True).indices[: max(1, int(density * flat.numel()))]
        trimmed.append(torch.zeros_like(flat).scatter(0, order, flat[order]).view(delta.shape))
    return elected64(trimmed, weights)


def wrong() -> None:
    print("\nWhere the two differ: the merged change's distance from its value in float64, relative to its norm.\n")
    print("| case | slmbench | mergekit 0.1.5 |")
    print("| --- | --- | --- |")
    for what, own, peer in wrong_cases():
        print(f"| {what} | {own} | {peer} |")
    for weights in ([1.0, -1.0], [0.1, 0.2, -0.3]):
        models = [torch.ones(3) * (i + 1) for i in range(len(weights))]
        peer = merge_state_dicts(
            {i: {"w": w} for i, w in enumerate(models)},
            "linear",
            parameters={"weight": dict(enumerate(weights))},
            dtype=torch.float32,
        )["w"]
        print(f"| linear, weights {weights} | {said(models, weights)} | {peer[0]:g} |")


def said(models: list[torch.Tensor], weights: list[float]) -> str:
    import slmbench

    try:
        return f"{slmbench.merge_tensors('linear', models, weights=weights)[0]:g}"
    except slmbench.SlmbenchError as error:
        return f"error: {error}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dicts", type=int, default=100)
    off_by = equality(parser.parse_args().dicts)
    wrong()
    sys.exit(f"a method is off by {off_by:.1e}" if off_by > LIMIT else 0)


if __name__ == "__main__":
    main()
