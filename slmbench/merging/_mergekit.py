"""mergekit's methods (an optional extra, LGPL-3.0) by the same plans: `mergekit/della` and the like, tensor by tensor.

mergekit takes all tensors of one name into memory in float32, so that a merge by it needs as much for every input.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from slmbench.errors import UsageError, did_you_mean
from slmbench.registry import Registered

if TYPE_CHECKING:
    from torch import Generator, Tensor

PREFIX = "mergekit/"
INSTALL = "pip install 'slmbench[mergekit]'"


def mergekit_names() -> list[str]:
    """The methods that the installed mergekit has, as plans name them. Raises UsageError if it isn't installed."""
    return sorted(PREFIX + one.spec.name for one in _package(f"{PREFIX}...").registered_methods())


def mergekit_method(name: str) -> Registered:
    """One of mergekit's methods as one of ours. Parameters are mergekit's own; those that may differ by input may here.

    Raises UsageError if mergekit isn't installed, or knows no such method.
    """
    package = _package(name)
    found = {PREFIX + one.spec.name: one for one in package.registered_methods()}
    if name not in found:
        raise UsageError(f"unknown merge_method {name!r}{did_you_mean(name, found)}")
    method, spec = found[name], found[name].spec
    policy, contract = spec.contract.base.name, spec.contract
    taken = 1 if policy == "REQUIRED" else 0
    least = contract.min_non_base or max(1, (contract.min_inputs or 1) - taken)
    most = contract.max_non_base or (None if contract.max_inputs is None else contract.max_inputs - taken)
    named = {one.name: one for one in spec.parameters if one.name != "weight"}
    weighed = any(one.name == "weight" for one in spec.parameters)

    def merged(
        tensors: Sequence[Tensor],
        base: Tensor | None,
        weights: Sequence[float],
        *,
        generator: Callable[[int], Generator],
        **parameters: Any,
    ) -> Tensor:
        return _merged(
            method, tensors, None if policy == "IGNORED" else base, weights if weighed else None, generator, parameters
        )

    ours = [
        inspect.Parameter(one, inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in ("tensors", "base", "weights")
    ] + [inspect.Parameter("generator", inspect.Parameter.KEYWORD_ONLY)]
    # A value for all inputs or for each: None stands for mergekit's own default, and anything is mergekit's to check.
    theirs = [
        inspect.Parameter(
            "lambda_" if key == "lambda" else key,
            inspect.Parameter.KEYWORD_ONLY,
            default=one.default if one.scope.name == "SHARED" and isinstance(one.default, bool | int | float) else None,
        )
        for key, one in named.items()
    ]
    merged.__signature__ = inspect.Signature([*ours, *theirs])  # type: ignore[attr-defined]
    merged.__annotations__ = {}
    return Registered(
        "merge_method",
        name,
        f"mergekit's {spec.pretty_name or spec.name}.",
        f"mergekit-{version('mergekit')}",
        __file__,
        0,
        merged,
        {
            "needs_base": policy == "REQUIRED",
            "models": (least, most),
            # mergekit 0.1.5 takes a density of 3 without a word.
            "ranges": {"density": "(0, 1]"} if "density" in named else {},
        },
        False,
    )


def _package(name: str) -> Any:
    try:
        from mergekit import merge_methods
    except ImportError as error:
        raise UsageError(f"{name} is one of mergekit's methods, which can't be imported ({error}): {INSTALL}") from None
    return merge_methods


def _merged(
    method: Any,
    tensors: Sequence[Tensor],
    base: Tensor | None,
    weights: Sequence[float] | None,
    generator: Callable[[int], Generator],
    parameters: dict[str, Any],
) -> Tensor:
    import torch
    from mergekit.merge_methods.api import merge_tensors

    ids = [str(number) for number in range(len(tensors))]
    given = {key.removesuffix("_"): value for key, value in parameters.items() if value is not None}
    scopes = {one.name: one.scope.name for one in method.spec.parameters}
    if weights is not None:
        given["weight"] = list(weights)
    for key, value in given.items():
        if scopes.get(key) != "SHARED" and isinstance(value, list | tuple):
            given[key] = {one: said for one, said in zip(ids, value, strict=True) if said is not None}
    every, at = ([*tensors], None) if base is None else ([base, *tensors], 0)
    try:
        # What it draws comes from torch's own generator.
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(generator(0).initial_seed())
            made: Tensor = merge_tensors(
                every,
                method,
                parameters=given,
                ids=ids if base is None else ["base", *ids],
                base_index=at,
                dtype=torch.float32,
            )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UsageError(" ".join(str(error).split())[:300]) from error
    return made
