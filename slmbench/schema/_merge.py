"""The declaration of a merge recipe: which models or adapters become one, by which methods, and what is searched."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from slmbench.errors import did_you_mean
from slmbench.schema._base import Misfits, Name, Spec
from slmbench.schema._published import PublishedSpec
from slmbench.schema._recipe import EvaluationSpec, FormatName
from slmbench.yamlfile import Location

MAX_CANDIDATES = 1000
SEARCH = "search"
SIMPLEX = "simplex"

Fault = tuple[Location, str]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Value = Any
"""Of a parameter or a weight: a number, true, false or a text; a list of numbers over the layers, as mergekit's
gradients; a list of `{filter: part of a tensor's name, value: ...}`, of which the first that fits holds; or `{search:
...}` with a list of values, or with `{from, to, steps}`. Of a parameter also input -> such a value."""


class MergeInputSpec(Spec):
    """One model that goes in. adapter: one of the `train` recipe's; path: a folder, of an adapter or of a model."""

    adapter: Name | None = None
    path: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> MergeInputSpec:
        if (self.adapter is None) == (self.path is None):
            raise ValueError("an input is exactly one of 'adapter' (of the `train` recipe) and 'path' (a folder)")
        return self


class MergeTrainSpec(Spec):
    """The recipe whose adapters go in. set: overrides of it, dotted path -> value, as `--set` takes them."""

    recipe: Annotated[str, Field(min_length=1)]
    variant: Name | None = None
    set: dict[str, Any] = Field(default={})


class MergeSearchSpec(Spec):
    """How candidates are told apart, on rows that no input was trained on and that no test split has.

    rows: of each task, at most; first_rows: of each task in the first round, doubled in each further one. by: `loss`,
    that of the answers' tokens relative to the base's, or `score`, each task's first metric. tasks: those alone; None
    for the evaluated ones. race: candidates leave by e-values, so that the best of them stays with 95%; for scores in a
    range, of rows without clusters.
    """

    rows: int = Field(default=128, ge=2)
    first_rows: int = Field(default=16, ge=2)
    by: Literal["loss", "score"] = "loss"
    tasks: Annotated[list[Name], Field(min_length=1)] | None = None
    race: bool = False


class MergeSpec(Spec):
    """One merge. weights: input -> weight, or a list in the inputs' order; `{search: {simplex: n}}` tries all weights
    that sum to 1 in steps of 1/n. inputs: these alone; None for all.

    parameters: the method's own, by their names. seeds: one result of each, for methods that draw. result: a LoRA or a
    whole model; None for a LoRA where the method gives one. rank: of that LoRA; `full` loses nothing. greedy: inputs
    join one after another, the best first, if the average gets no worse on the search's rows (Wortsman et al. 2022).
    """

    method: str = Field(min_length=1, examples=["linear", "ties"])
    inputs: Annotated[list[Name], Field(min_length=1)] | None = None
    weights: dict[str, Value] | list[Value] | None = None
    parameters: dict[str, Value] = Field(default={})
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None
    result: Literal["lora", "model"] | None = None
    rank: Annotated[int, Field(ge=1)] | Literal["full"] | None = None
    greedy: bool = False

    @model_validator(mode="after")
    def _fitting(self) -> MergeSpec:
        faults: list[Fault] = []
        for i, name in enumerate(self.inputs or ()):
            if name in (self.inputs or ())[:i]:
                faults.append((("inputs", i), f"{name!r} is listed twice"))
        if self.seeds and len(set(self.seeds)) != len(self.seeds):
            faults.append((("seeds",), "a seed is listed twice"))
        if self.result == "model" and self.rank is not None:
            faults.append((("rank",), "a rank is a LoRA's, and `result: model` asks for a whole model"))
        for name, value in self.parameters.items():
            faults += _value_faults(value, ("parameters", name))
        faults += _weight_faults(self.weights)
        if self.greedy and (self.weights is not None or any(map(is_search, self.parameters.values()))):
            faults.append((("greedy",), "a greedy soup weighs all that it takes alike; leave out weights and searches"))
        if faults:
            raise Misfits(faults)
        return self

    def axes(self, inputs: Sequence[str]) -> list[tuple[Location, list[Value]]]:
        """What is searched, each by its place here, with its values in their order. inputs: those of the recipe."""
        names = self.inputs or list(inputs)
        found: list[tuple[Location, list[Value]]] = [
            (("parameters", name), _values(value)) for name, value in self.parameters.items() if is_search(value)
        ]
        if isinstance(self.weights, dict) and is_search(self.weights):
            points = _simplex(self.weights[SEARCH][SIMPLEX], len(names))
            found.append((("weights",), [dict(zip(names, point, strict=True)) for point in points]))
        elif self.weights is not None:
            pairs = zip(names, self.weights, strict=False) if isinstance(self.weights, list) else self.weights.items()
            found += [(("weights", name), _values(value)) for name, value in pairs if is_search(value)]
        return found


def _by_name(value: object) -> object:
    return {"recipe": value} if isinstance(value, str) else value


def _of_adapters(value: object) -> object:
    if not isinstance(value, list):
        return value
    if not all(isinstance(name, str) for name in value):
        raise ValueError("inputs: a list has the names of adapters of the `train` recipe")
    if len(set(value)) != len(value):
        raise ValueError("inputs: an adapter is listed twice")
    return {name: {"adapter": name} for name in value}


class MergeRecipeSpec(Spec):
    """A merge recipe. train: the recipe whose adapters are inputs; model: the base, that recipe's unless given.

    inputs: name -> what goes in, or a list of the train recipe's adapters. beside: other adapters of it that are
    scored, too. merges: name -> what is made of the inputs. format, evaluation: the train recipe's unless given.
    """

    kind: Literal["merge"]
    summary: str = Field(min_length=1)
    source: str = ""
    train: Annotated[
        MergeTrainSpec | None, BeforeValidator(_by_name, json_schema_input_type=str | MergeTrainSpec | None)
    ] = None
    model: Annotated[str, Field(min_length=1)] | None = None
    inputs: Annotated[
        dict[Name, MergeInputSpec],
        BeforeValidator(_of_adapters, json_schema_input_type=list[str] | dict[str, MergeInputSpec]),
    ] = Field(min_length=1)
    beside: list[Name] = Field(default=[])
    merges: dict[Name, MergeSpec] = Field(min_length=1)
    search: MergeSearchSpec = MergeSearchSpec()
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    format: FormatName | None = None
    seed: Seed = 0
    evaluation: EvaluationSpec | None = None
    published: list[PublishedSpec] = Field(default=[])

    @model_validator(mode="after")
    def _fitting(self) -> MergeRecipeSpec:
        faults: list[Fault] = []
        if self.train is None:
            if self.model is None:
                faults.append(((), "missing key 'model': the base, if no `train` recipe says it"))
            for name, one in self.inputs.items():
                if one.adapter is not None:
                    faults.append((("inputs", name), f"{one.adapter!r} is an adapter of no recipe; declare `train`"))
            if self.beside:
                faults.append((("beside",), "they are adapters of the `train` recipe; declare it"))
        for name, merge in self.merges.items():
            at: Location = ("merges", name)
            if name in self.inputs or name in self.beside:
                faults.append((at, f"merge {name!r} has the name of a model that goes in or is scored; rename one"))
            names = merge.inputs or list(self.inputs)
            known = [named for named in names if named in self.inputs]
            for i, named in enumerate(merge.inputs or ()):
                if named not in self.inputs:
                    faults.append(((*at, "inputs", i), _not_one_of(named, self.inputs, "input")))
            if isinstance(merge.weights, list) and len(merge.weights) != len(names):
                faults.append(((*at, "weights"), f"{len(merge.weights)} weights for {len(names)} inputs"))
            if isinstance(merge.weights, dict) and not is_search(merge.weights):
                for named in merge.weights:
                    if named not in known:
                        faults.append(((*at, "weights", named), _not_one_of(named, known, "input of it")))
                missing = [named for named in known if named not in merge.weights]
                if missing:
                    faults.append(((*at, "weights"), f"no weight for {', '.join(missing)}"))
            for key, value in merge.parameters.items():
                for named in value if isinstance(value, dict) and not is_search(value) else ():
                    if named not in known:
                        faults.append(((*at, "parameters", key, named), _not_one_of(named, known, "input of it")))
            if merge.greedy and len(known) < 2:
                faults.append(((*at, "greedy"), "a greedy soup chooses among several inputs"))
            if not faults and math.prod(len(values) for _, values in merge.axes(list(self.inputs))) > MAX_CANDIDATES:
                faults.append((at, f"the search has more than {MAX_CANDIDATES} candidates; take fewer values"))
        faults += self._names_twice()
        if faults:
            raise Misfits(faults)
        return self

    def _names_twice(self) -> Iterator[Fault]:
        owner: dict[str, str] = dict.fromkeys([*self.inputs, *self.beside], "")
        for name, merge in self.merges.items():
            for made in (result_name(name, seed) for seed in merge.seeds or (None,)):
                if made in owner and (owner[made] or made != name):
                    yield ("merges", name), f"its result {made!r} has a name that is taken; rename one"
                owner[made] = name


def result_name(merge: str, seed: int | None) -> str:
    """What a merge's result is called; one of several seeds has the seed in its name."""
    return merge if seed is None else f"{merge}-seed{seed}"


def is_search(value: object) -> bool:
    """Whether a value stands for several that are searched."""
    return isinstance(value, dict) and SEARCH in value


def _values(value: Value) -> list[Value]:
    found = value[SEARCH]
    if isinstance(found, list):
        return list(found)
    low, high, steps = float(found["from"]), float(found["to"]), int(found["steps"])
    return [round(low + (high - low) * i / (steps - 1), 12) for i in range(steps)]


def _simplex(n: int, inputs: int) -> list[tuple[float, ...]]:
    """All weights of so many inputs that are 0 or more and sum to 1, in steps of 1/n."""

    def parts(total: int, places: int) -> Iterator[tuple[int, ...]]:
        if places == 1:
            yield (total,)
            return
        for first in range(total, -1, -1):
            for rest in parts(total - first, places - 1):
                yield (first, *rest)

    return [tuple(part / n for part in point) for point in parts(n, inputs)]


def _weight_faults(weights: object) -> Iterator[Fault]:
    if isinstance(weights, dict) and is_search(weights):
        asked = weights[SEARCH]
        n = asked.get(SIMPLEX) if isinstance(asked, dict) and list(asked) == [SIMPLEX] else None
        if len(weights) > 1 or type(n) is not int or not 1 <= n <= 100:
            wanted = "{search: {simplex: n}}, all weights that sum to 1 in steps of 1/n (n from 1 to 100)"
            yield ("weights", SEARCH), f"weights: a search of all of them at once is {wanted}"
        return
    pairs = weights.items() if isinstance(weights, dict) else enumerate(weights) if isinstance(weights, list) else ()
    for key, value in pairs:
        if isinstance(value, str | bool) or value is None:
            yield ("weights", key), f"weights.{key}: expected a number, got {type(value).__name__} {value!r}"
        else:
            yield from _value_faults(value, ("weights", key))


def _value_faults(value: object, at: Location) -> Iterator[Fault]:
    """What is wrong with the shape of a parameter's or a weight's value, a search of several included."""
    if not isinstance(value, dict):
        yield from _shape_faults(value, at)
        return
    name = ".".join(map(str, at))
    asked = value.get(SEARCH)
    if SEARCH not in value:  # By input: whose names the recipe knows.
        for key, one in value.items():
            yield from _shape_faults(one, (*at, key))
    elif len(value) > 1:
        yield at, f"{name}: a search stands alone, as in {{search: [0.3, 0.5]}}; got {', '.join(map(str, value))}"
    elif isinstance(asked, list):
        if len(asked) < 2:
            yield (*at, SEARCH), f"{name}: a search needs at least two values, got {len(asked)}"
        for i, one in enumerate(asked):
            if one in asked[:i] and not any(one is True or one is False for one in asked):
                yield (*at, SEARCH, i), f"{name}: {one!r} is listed twice"
            yield from _shape_faults(one, (*at, SEARCH, i))
    elif isinstance(asked, dict) and set(asked) == {"from", "to", "steps"}:
        ends = [asked["from"], asked["to"]]
        if not all(map(_is_number, ends)) or not ends[0] < ends[1]:
            yield (*at, SEARCH), f"{name}: a search goes from a number to a larger one; got {ends[0]!r} and {ends[1]!r}"
        if type(asked["steps"]) is not int or not 2 <= asked["steps"] <= MAX_CANDIDATES:
            said = f"a search takes from 2 to {MAX_CANDIDATES} steps, both ends included; got {asked['steps']!r}"
            yield (*at, SEARCH, "steps"), f"{name}: {said}"
    else:
        yield (*at, SEARCH), f"{name}: a search is a list of values, or {{from: 0.1, to: 1.0, steps: 10}}"


def _shape_faults(value: object, at: Location) -> Iterator[Fault]:
    """What is wrong with one value: a number, a gradient over layers, or a list of filters."""
    name = ".".join(map(str, at))
    if isinstance(value, float) and not math.isfinite(value):
        yield at, f"{name}: expected a finite number, got {value}"
    elif isinstance(value, dict) or value is None:
        yield at, f"{name}: expected a number, true, false, a text or a list, got {value!r}"
    elif not isinstance(value, list):
        return
    elif not value:
        yield at, f"{name}: an empty list has no value for any layer"
    elif any(isinstance(part, dict) for part in value):
        for i, part in enumerate(value):
            if not isinstance(part, dict) or "value" not in part or not set(part) <= {"filter", "value"}:
                yield (*at, i), f"{name}: each is {{filter: part of a name, value: ...}}, the last one without a filter"
            elif not isinstance(part.get("filter", "x"), str) or not part.get("filter", "x"):
                yield (*at, i, "filter"), f"{name}: a filter is a part of the tensors' names, got {part['filter']!r}"
            elif "filter" not in part and i < len(value) - 1:
                yield (*at, i), f"{name}: without a filter it holds for all, so those after it never do"
            elif isinstance(part["value"], list) and any(isinstance(one, list | dict) for one in part["value"]):
                yield (*at, i, "value"), f"{name}: a filter's value is a number or a list of numbers"
            else:
                yield from _shape_faults(part["value"], (*at, i, "value"))
    else:
        for i, part in enumerate(value):
            if not _is_number(part):
                yield (*at, i), f"{name}: a list over the layers has numbers, got {type(part).__name__} {part!r}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _not_one_of(name: str, known: Iterable[str], what: str) -> str:
    return f"{name!r} is not an {what}{did_you_mean(name, known)}"
