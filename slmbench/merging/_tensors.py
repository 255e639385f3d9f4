"""Tensors of one name into one, by a method: inputs checked, work in float32, results held to what they may be."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from slmbench.errors import UsageError
from slmbench.merging._parameters import call_with, check_inputs, check_parameters, needs_base
from slmbench.merging.methods._pieces import NotFinite, pieces
from slmbench.registry import Registered, find

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from slmbench.catalog import Catalog

Fact = float | int | str | bool | None


@frozen(eq=False)
class MergedTensor:
    """A merged tensor, float32, and what its method says of it, for a report."""

    tensor: Tensor
    facts: Mapping[str, Fact]


def load_method(name: str, catalog: Catalog | None = None) -> Registered:
    """The merge method of that name: slmbench's own, else one that the catalog's plugins register, which runs them.

    Raises UsageError for an unknown one with the nearest, and the error of a plugin that can't be loaded.
    """
    from slmbench.headers import own_headers
    from slmbench.merging._mergekit import PREFIX, mergekit_method

    if name.startswith(PREFIX):
        return mergekit_method(name)
    if any(header.name == name for header in own_headers("merge_method")):
        return find("merge_method", name)
    from slmbench.catalog import default_catalog
    from slmbench.plugins import load_plugins

    return find("merge_method", name, load_plugins(catalog if catalog is not None else default_catalog()))


def merge_tensors(
    method: str | Registered,
    tensors: Sequence[Tensor],
    base: Tensor | None = None,
    weights: Sequence[float] | None = None,
    *,
    seed: int = 0,
    **parameters: object,
) -> Tensor:
    """Tensors of one shape into one, in the dtype that they have in common.

    method: a name, as `slmbench list merge_methods` has them. weights: of the tensors, 1 each unless told. seed: of
    methods that draw. parameters: the method's own, as `density=0.2`; `lambda` is written `lambda_`. Computed in
    float32, cast at the end. Raises UsageError for whatever doesn't fit: names, values, shapes, NaN.
    """
    import torch

    entry = method if isinstance(method, Registered) else load_method(method)
    if entry.facts.get("space") == "adapters":
        raise UsageError(f"{entry.name} merges adapters, not single tensors: `slmbench merge` takes their folders")
    given_tensors = [*tensors, *([] if base is None else [base])]
    if strange := [type(one).__name__ for one in given_tensors if not isinstance(one, torch.Tensor)]:
        raise UsageError(f"{entry.name} merges tensors of torch; got {strange[0]}")
    given = {key.removesuffix("_"): value for key, value in parameters.items()}
    factors = [1.0] * len(tensors) if weights is None else list(weights)
    problems = check_parameters(entry, given)
    problems += check_inputs(entry, len(tensors), factors, has_base=base is not None, parameters=given)
    if problems:
        raise UsageError("; ".join(problems))
    made = merge_one(entry, tensors, base=base, weights=factors, parameters=given, seed=seed, name="").tensor
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    done = made.to(dtype)
    if not torch.isfinite(done).all():
        raise UsageError(f"{entry.name}: the result goes beyond what {str(dtype).removeprefix('torch.')} can hold")
    return done


def merge_one(
    method: Registered,
    tensors: Sequence[Tensor],
    *,
    base: Tensor | None,
    weights: Sequence[float],
    parameters: Mapping[str, object],
    seed: int = 0,
    name: str = "",
) -> MergedTensor:
    """The merged tensor of one name, of tensors of any floating dtypes and one shape.

    base: None if there is none; a method that needs none is handed it all the same. parameters: single values by the
    names that YAML has (`lambda`), checked by `check_parameters`. seed and name: what is drawn depends on them and on a
    model's place alone, so that neither the order of tensors nor their files matter. Raises UsageError for shapes or
    dtypes that don't fit and for NaN or infinity in an input (its index is the error's `index`), HookError for what a
    plugin's method does wrong.
    """
    of = f"tensor {name!r}" if name else ""
    if not tensors:
        raise UsageError(f"{method.name}: {of or 'a merge'} has no inputs")
    if base is None and needs_base(method, parameters):
        raise UsageError(f"{method.name} needs a base{f' of {of}' * bool(of)}: name the model that all started from")
    _check_tensors(method, tensors, base, of)
    if not tensors[0].numel():
        return MergedTensor(tensors[0].float(), {})
    try:
        for _ in pieces(tensors, base) if method.plugin else ():  # Our own look at them while they work.
            pass
    except NotFinite as error:
        raise _placed(method, of, error) from None
    try:
        made = call_with(method, tensors, base, weights, parameters, _generators(seed, name))
    except UsageError as error:
        if method.plugin:
            raise method.fault("", of, error) from error
        raise _placed(method, of, error) from None
    except (Exception, SystemExit) as error:
        if method.plugin:
            raise method.fault("", of, error) from error
        raise
    return _held(method, made, tensors[0], of)


def _placed(method: Registered, of: str, error: UsageError) -> UsageError:
    error.args = (f"{method.name}: {f'{of}: ' * bool(of)}{error}",)
    return error


def _generators(seed: int, name: str) -> Callable[[int], Generator]:
    def generator(index: int) -> Generator:
        import torch

        digest = hashlib.sha256(f"{seed}\0{name}\0{index}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    return generator


def _check_tensors(method: Registered, tensors: Sequence[Tensor], base: Tensor | None, of: str) -> None:
    every = {f"input {index + 1}": tensor for index, tensor in enumerate(tensors)}
    if base is not None:
        every["the base"] = base
    prefix = f"{method.name}: {f'{of}: ' * bool(of)}"
    shapes = {whose: tuple(tensor.shape) for whose, tensor in every.items()}
    if len(set(shapes.values())) > 1:
        raise UsageError(
            f"{prefix}shapes differ: " + ", ".join(f"{whose} is {shape}" for whose, shape in shapes.items())
        )
    for whose, tensor in every.items():
        if not tensor.is_floating_point():
            raise UsageError(f"{prefix}{whose} is {str(tensor.dtype).removeprefix('torch.')}; floats are merged")


def _held(method: Registered, made: object, like: Tensor, of: str) -> MergedTensor:
    """What a method returned, as it may be. Raises the method's fault."""
    import torch

    tensor, facts = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(tensor, torch.Tensor):
        got = type(tensor).__name__
        raise method.fault(f"expected a tensor, or (a tensor, a dict of facts), got {got}", of)
    if tensor.shape != like.shape:
        raise method.fault(f"expected a tensor of shape {tuple(like.shape)}, got {tuple(tensor.shape)}", of)
    if not tensor.is_floating_point():
        raise method.fault(f"expected floats, got {str(tensor.dtype).removeprefix('torch.')}", of)
    if not isinstance(facts, Mapping) or not all(isinstance(key, str) and _is_fact(facts[key]) for key in facts):
        raise method.fault(f"facts are texts with finite numbers, texts, bools or None, got {str(facts)[:80]}", of)
    done = tensor.detach().float()
    total = done.sum()  # See slmbench.merging.methods._pieces.
    if not torch.isfinite(total) and not torch.isfinite(done).all():
        what = "NaN" if torch.isnan(done).any() else "infinity"
        if method.plugin:
            raise method.fault(f"the result holds {what}", of)
        raise UsageError(
            f"{method.name}: {f'{of}: ' * bool(of)}the result holds {what}, although no input does: a weight or lambda "
            "is too large"
        )
    return MergedTensor(done, dict(facts))


def _is_fact(value: object) -> bool:
    return value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
