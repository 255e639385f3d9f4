"""What a merge method may be told, read from its function's own signature, and whether what it is told fits."""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from slmbench.errors import UsageError, did_you_mean
from slmbench.merging.methods._shares import shares
from slmbench.registry import Registered, interval

FIRST = ("tensors", "base", "weights")
DRAWS = "generator"
"""The parameter by which a method says that it draws: it is handed a function of a model's index that begins that
model's own generator of random numbers anew."""


def parameters_of(method: Registered) -> dict[str, object]:
    """name -> default of what a method may be told, as YAML writes the names: `lambda` for `lambda_`.

    Raises HookError if the function can't be a merge method.
    """
    found = {}
    parameters = list(_signature(method.function).values())
    if tuple(one.name for one in parameters[:3]) != FIRST:
        asked = ", ".join(one.name for one in parameters[:3])
        raise method.fault(f"its first parameters are {', '.join(FIRST)}; got {asked or 'none'}")
    for one in parameters[3:]:
        if one.name == DRAWS:
            continue
        if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
            raise method.fault(f"its parameters are named each, with a default; got {one}")
        if one.default is one.empty:
            raise method.fault(f"parameter {one.name!r} has no default; give it one")
        found[one.name.removesuffix("_")] = one.default
    try:
        _kinds(method.function)
    except ValueError as error:
        raise method.fault(str(error)) from None
    if odd := sorted({*method.facts.get("ranges", {})} - {*found}):
        raise method.fault(f"ranges names {odd[0]!r}, which is none of its parameters{did_you_mean(odd[0], found)}")
    return found


def is_stochastic(method: Registered) -> bool:
    """Whether what a method makes depends on a seed."""
    return DRAWS in _signature(method.function)


def needs_base(method: Registered, parameters: Mapping[str, object]) -> bool:
    """Whether a method can't do without the model that all started from: by its nature, or told `of: deltas`."""
    return bool(method.facts.get("needs_base")) or {**parameters_of(method), **parameters}.get("of") == "deltas"


def check_parameters(method: Registered, parameters: Mapping[str, object]) -> list[str]:
    """All that is wrong with the names and single values that a method is told, each a sentence; [] if nothing."""
    defaults = parameters_of(method)
    kinds = _kinds(method.function)
    ranges: Mapping[str, str] = method.facts.get("ranges", {})
    problems = []
    for name, value in parameters.items():
        if name not in defaults:
            problems.append(f"{method.name} has no parameter {name!r}{did_you_mean(name, defaults)}")
        elif wrong := _wrong(value, kinds.get(name), defaults[name], ranges.get(name)):
            problems.append(f"{method.name}: {name} is {wrong}; got {value!r}")
    return problems


def check_inputs(
    method: Registered,
    count: int,
    weights: Sequence[float],
    *,
    has_base: bool,
    parameters: Mapping[str, object] | None = None,
) -> list[str]:
    """All that is wrong with how many models and which weights a method is to merge, each a sentence; [] if nothing."""
    problems = []
    least, most = method.facts.get("models", (1, None))
    if count < least or (most is not None and count > most):
        wanted = f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
        problems.append(f"{method.name} merges {wanted} models; got {count}")
    if len(weights) != count:
        problems.append(f"{method.name}: {count} models need a weight each; got {len(weights)}")
    told = {**parameters_of(method), **(parameters or {})}
    problems += [f"{method.name}: a weight is a finite number; got {one!r}" for one in weights if not _is_number(one)]
    if not problems and method.facts.get("average") and told.get("normalize", True) is True:
        try:
            shares(weights)
        except UsageError as error:
            problems.append(f"{method.name}: {error}")
    if not has_base and needs_base(method, parameters or {}):
        problems.append(f"{method.name} needs a base: name the model that all started from")
    return problems


def call_with(
    method: Registered,
    tensors: Sequence[object],
    base: object,
    weights: Sequence[float],
    parameters: Mapping[str, object],
    generator: Callable[[int], object],
) -> object:
    """What a method makes of tensors. Raises UsageError for parameters and weights that don't fit, all in one line."""
    problems = check_parameters(method, parameters)
    problems += check_inputs(method, len(tensors), weights, has_base=base is not None, parameters=parameters)
    if problems:
        raise UsageError("; ".join(one.removeprefix(f"{method.name}: ") for one in problems))
    asked = _signature(method.function)
    given = {name if name in asked else f"{name}_": value for name, value in parameters.items()}
    if DRAWS in asked:
        given[DRAWS] = generator
    made: object = method.function(tensors, base, weights, **given)
    return made


@functools.lru_cache(64)
def _signature(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """A function's parameters, which are asked for with every tensor."""
    return inspect.signature(function).parameters


@functools.lru_cache(64)
def _kinds(function: Callable[..., object]) -> dict[str, object]:
    """What the function's annotations say of its parameters. Raises ValueError for one that can't be evaluated."""
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    kinds = {}
    # Not of the first three: tensors may be named by what is imported for type checkers alone.
    for name, one in list(_signature(function).items())[len(FIRST) :]:
        if one.annotation is one.empty or name == DRAWS:
            continue
        try:
            kinds[name.removesuffix("_")] = (
                eval(one.annotation, scope) if isinstance(one.annotation, str) else one.annotation
            )
        except Exception as error:
            told = f"parameter {name!r} is annotated {one.annotation!r}, which can't be evaluated"
            raise ValueError(f"{told} ({type(error).__name__}: {error}); import what it names") from None
    return kinds


def _wrong(value: object, kind: object, default: object, within: str | None) -> str:
    """What a parameter has to be, '' if the value is that."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kinds = typing.get_args(kind)
        if value is None and type(None) in kinds:
            return ""
        if isinstance(value, list | tuple) and any(typing.get_origin(one) is Sequence for one in kinds):
            return next(filter(None, (_wrong(one, kinds[0], default, within) for one in value)), "")
        kind = next(one for one in kinds if one is not type(None))
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        near = near.removeprefix(";") if "did you mean" in near else ""
        return "" if value in choices else f"{' or '.join(map(str, choices))}{f' ({near.strip()})' * bool(near)}"
    kind = kind if isinstance(kind, type) else type(default)
    if kind is bool:
        return "" if isinstance(value, bool) else "true or false"
    if kind is type(None) and within is not None and value is not None:  # Of mergekit, for all inputs or for each.
        values = value if isinstance(value, list | tuple) else [value]
        fits = all(one is None or (_is_number(one) and interval(within)(float(one))) for one in values)  # type: ignore[arg-type]
        return "" if fits else f"a number in {within}"
    if kind not in (int, float):
        return "" if kind is type(None) or isinstance(value, kind) else f"a {kind.__name__}"
    fits = _is_number(value) if kind is float else isinstance(value, int) and not isinstance(value, bool)
    if fits and within is not None:
        fits = interval(within)(float(value))  # type: ignore[arg-type]
    wanted = "a finite number" if kind is float else "a whole number"
    return "" if fits else f"a number in {within}" if within is not None else wanted


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
