"""From what a sweep varies to its points: every combination a recipe of its own, all of them sound before a step."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from slmbench.catalog import Catalog
from slmbench.errors import DeclarationError, Problem, UsageError
from slmbench.recipe import Recipe, dotted_path, no_setting
from slmbench.schema import RecipeSpec, targets_label
from slmbench.yamlfile import parse_yaml

MAX_POINTS = 10_000
TARGETS = "lora.targets"
_LONGEST_NAME = 80


@frozen
class Axis:
    """A setting that a sweep varies: its dotted path in the recipe, and the values that are tried."""

    key: str
    values: tuple[Any, ...]

    @property
    def shown(self) -> str:
        """Its values in short, as people read them."""
        return ", ".join(str(_shown(self.key, value)) for value in self.values)


@frozen
class Point:
    """One combination. name: a folder's name, `rank-16_seed-0`; setting: the same without the seed.

    changed: dotted path -> value, the seed included; recipe: with these values in it.
    """

    name: str
    setting: str
    changed: Mapping[str, Any]
    recipe: Recipe


def axis_of(text: str) -> Axis:
    """`lora.rank=16,32` as an axis; values are YAML. Raises UsageError or DeclarationError."""
    key, equals, values = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--over {text!r}: expected KEY=v1,v2, as in lora.rank=16,32")
    parsed = parse_yaml(f"[{values}]".encode(), f"--over {key}").data
    return _axis("--over", key.strip(), parsed)


def seeds_of(text: str) -> tuple[int, ...]:
    """`3` as the seeds 0, 1 and 2, `5,7` as those two. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        raise UsageError(f"--seeds {text!r}: expected how many, as 3, or which, as 0,1,2") from None
    if len(numbers) == 1 and "," not in text:
        if not 1 <= numbers[0] <= MAX_POINTS:
            raise UsageError(f"--seeds {text}: expected at least 1, and at most {MAX_POINTS:,}")
        return tuple(range(numbers[0]))
    if len(set(numbers)) != len(numbers):
        raise UsageError(f"--seeds {text!r}: a seed is listed twice")
    return tuple(numbers)


def axes_of(recipe: Recipe, over: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Axis]:
    """What a sweep of a recipe varies: what it declares, replaced and extended by --over; seeds, where given, last.

    Raises UsageError if there is nothing to vary, or if the recipe has no such setting.
    """
    axes = {key: _axis("sweep", key, values) for key, values in recipe.sweep_axes().items()}
    given: set[str] = set()
    for text in over:
        axis = axis_of(text)
        if axis.key in given:
            raise UsageError(f"--over {axis.key} is given twice; list all its values in one")
        given.add(axis.key)
        axes[axis.key] = axis
    if seeds:
        axes.pop("seed", None)
        axes["seed"] = Axis("seed", tuple(seeds))
    if not axes:
        raise UsageError(
            f"recipe {recipe.name!r} declares no `sweep`; say what to vary, as in --over lora.rank=8,16,32, "
            "or --seeds 3"
        )
    # The seed last, so that what is averaged stands together.
    return sorted(axes.values(), key=lambda axis: axis.key == "seed")


def points_of(recipe: Recipe, axes: Sequence[Axis], catalog: Catalog) -> list[Point]:
    """Every combination of the axes' values, the last axis fastest.

    Each is held to the recipe's schema. Raises DeclarationError with the problems of all of them, each told once;
    UsageError if there are more than MAX_POINTS, or if two of them are the same training.
    """
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_POINTS:
        raise UsageError(f"this sweep has {count:,} points; at most {MAX_POINTS:,} can be asked for")
    labels = _labels(axes)
    problems: dict[str, Problem] = {}
    points: list[Point] = []
    names: set[str] = set()
    for values in itertools.product(*(axis.values for axis in axes)):
        changed = {axis.key: value for axis, value in zip(axes, values, strict=True)}
        parts = [f"{labels[key]}-{_slug(_shown(key, value))}" for key, value in changed.items()]
        setting = _named([part for key, part in zip(changed, parts, strict=True) if key != "seed"], changed)
        name = _named(parts, changed)
        if name in names:  # Two values that read alike, as 1 and "1".
            name = f"{name[: _LONGEST_NAME - 9]}-{_digest(changed)}"
        names.add(name)
        try:
            made = recipe.with_overrides(changed, catalog, blame=f"point {name}")
        except DeclarationError as error:
            for problem in error.problems:
                problems.setdefault(problem.message, problem)
            continue
        points.append(Point(name, setting or "recipe", changed, made))
    if problems:
        raise DeclarationError(list(problems.values()))
    _refuse_equal(points)
    return points


def _refuse_equal(points: Sequence[Point]) -> None:
    """Raises UsageError if two points are one and the same training, scored alike: a setting that is not read."""
    first: dict[str, Point] = {}
    for point in points:
        spec = point.recipe.spec
        beside = {"evaluation", "on_contamination", "checkpoint", "log_every_steps", "memory_limit_gb"}
        told = spec.model_dump_json(include=beside) + "".join(map(point.recipe.digest_of, spec.adapters))
        other = first.setdefault(told, point)
        if other is not point:
            changed = [key for key, value in point.changed.items() if other.changed[key] != value]
            raise UsageError(
                f"{other.name} and {point.name} would be the same training: nothing in this recipe reads "
                f"{' and '.join(changed)}"
            )


def _axis(where: str, key: str, values: Iterable[object]) -> Axis:
    path = dotted_path(key)
    first = path.split(".")[0]
    if first not in RecipeSpec.model_fields:
        raise UsageError(f"{where} {key}: {no_setting(first)}")
    if first in ("summary", "source", "variants", "sweep", "published"):
        raise UsageError(f"{where} {key}: it changes nothing of what is trained or scored")
    values = list(values)
    if not values or any(value is None for value in values):
        raise UsageError(f"{where} {key}: expected values separated by commas, as in {key}=16,32")
    if len({json.dumps(value, sort_keys=True, default=str) for value in values}) != len(values):
        raise UsageError(f"{where} {key}: a value is listed twice")
    return Axis(path, tuple(values))


def _labels(axes: Sequence[Axis]) -> dict[str, str]:
    """dotted path -> the shortest end of it that no other axis has."""
    labels = {}
    for axis in axes:
        parts = axis.key.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        others = [other.key for other in axes if other is not axis]
        labels[axis.key] = next(end for end in ends if not any(f".{key}".endswith(f".{end}") for key in others))
    return labels


def _shown(key: str, value: Any) -> object:
    """A value in short: lists of target modules by what people call them."""
    return targets_label(value) if key == TARGETS and _are_targets(value) else value


def _are_targets(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _slug(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "empty"


def _named(parts: Sequence[str], changed: Mapping[str, object]) -> str:
    name = "_".join(parts)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 9]}-{_digest(changed)}"


def _digest(changed: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(dict(changed), sort_keys=True, default=str).encode()).hexdigest()[:8]
