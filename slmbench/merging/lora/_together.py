"""Whether adapters can be merged: of one base, no two the same, and of shapes that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from slmbench.errors import UsageError
from slmbench.merging.lora._factors import Factors, Kind, LoraUpdate
from slmbench.models import other_base
from slmbench.paths import shown
from slmbench.values import JsonObject


def check_together(updates: Sequence[LoraUpdate]) -> None:
    """Raises UsageError, with all that is wrong, for adapters that can't be merged with each other.

    Two of one name, one given twice, adapters of different bases, and weights of one name and several shapes.
    """
    found: list[str] = []
    names: dict[str, LoraUpdate] = {}
    digests: dict[str, LoraUpdate] = {}
    for one in updates:
        if (other := names.setdefault(one.name, one)) is not one:
            found.append(f"two adapters are called {one.name!r}: {shown(other.folder)} and {shown(one.folder)}")
        if (other := digests.setdefault(one.sha256, one)) is not one:
            found.append(
                f"adapters {other.name!r} and {one.name!r} are the same one ({shown(one.folder)}, sha256 "
                f"{one.sha256[:12]}): give it once, with a larger weight"
            )
    for one in updates[1:]:
        if said := other_base(updates[0].info, one.info):
            found.append(f"adapter {one.name!r} {said}")
    shapes: dict[str, tuple[tuple[int, ...], str]] = {}
    for one in updates:
        for name, shape in _shapes(one).items():
            first, whose = shapes.setdefault(name, (shape, one.name))
            if first != shape:
                found.append(f"{name} is {shape} by adapter {one.name!r}, and {first} by {whose!r}")
    _raise(found, "these adapters can't be merged")


def check_fit(update: LoraUpdate, shapes: Mapping[str, Sequence[int]], of: str = "the base") -> LoraUpdate:
    """The update as it lies in a base. shapes: of the base's parameters, by name.

    Whether a layer is a Conv1D, whose weight is (inputs, outputs), an adapter_config.json often says wrongly; the
    base's shapes decide. Raises UsageError with all names and shapes that don't fit.
    """
    found: list[str] = []
    modules: dict[str, Factors] = {}
    turned = straight = 0
    for name, factors in update.modules.items():
        wanted = tuple(shapes.get(name, ()))
        fits, fits_turned = factors.shape == wanted, factors.shape == wanted[::-1]
        if fits_turned and not fits and factors.kind != "embedding":
            modules[name] = _turned(factors)
            turned += 1
        else:
            modules[name] = factors
            straight += fits and not fits_turned and factors.kind != "embedding"
        if not fits and (not fits_turned or factors.kind == "embedding"):
            found.append(_unfit(name, factors.shape, shapes, of))
    for name, tensor in {**update.shifts, **update.whole}.items():
        if tuple(tensor.shape) != tuple(shapes.get(name, ())):
            found.append(_unfit(name, tuple(tensor.shape), shapes, of))
    _raise(found, f"adapter {update.name!r} ({shown(update.folder)}) doesn't fit")
    if turned and not straight:
        # Of a square weight its shape doesn't tell: it lies as all others of its adapter do.
        square = [n for n, f in modules.items() if f.shape[0] == f.shape[1] and f.kind != "embedding"]
        modules |= {name: _turned(modules[name]) for name in square}
    elif turned and any(f.shape[0] == f.shape[1] for f in modules.values()):
        raise UsageError(
            f"adapter {update.name!r} ({shown(update.folder)}): some of its layers are Conv1D by the base's shapes and "
            "some are linear, so that those of square weights can be either; merge it into its base where it was made"
        )
    return evolve(update, modules=modules) if turned else update


def trained_alike(updates: Sequence[LoraUpdate]) -> JsonObject:
    """What the trainings of all adapters say alike, in the keys of a merge.json: what an evaluation has to know.

    The format of the prompts; the digest, dtype and packing of the base, and where it was. {} if one of them was made
    elsewhere and says nothing.
    """
    records = [one.info.training for one in updates]
    if not records or any(record is None for record in records):
        return {}
    first, *others = [record for record in records if record is not None]
    formats = {r.settings.format if "format" in r.settings.model_fields_set else None for r in (first, *others)}
    said: JsonObject = {"format": formats.pop() if len(formats) == 1 else None}
    if all((o.dtype, o.packing) == (first.dtype, first.packing) for o in others):
        packing = None if first.packing is None else first.packing.model_dump()
        said |= {"base_dtype": first.dtype, "base_quantization": first.quantization, "base_packing": packing}
        if all(o.base_weights_sha256 == first.base_weights_sha256 for o in others):
            said["base_weights_sha256"] = first.base_weights_sha256
    if first.base is not None and all(o.base is not None and o.base.id == first.base.id for o in others):
        said["base"] = first.base.model_dump()
    return said


def _shapes(update: LoraUpdate) -> dict[str, tuple[int, ...]]:
    factors = {name: one.shape for name, one in update.modules.items()}
    return {**factors, **{name: tuple(one.shape) for name, one in {**update.shifts, **update.whole}.items()}}


def _turned(factors: Factors) -> Factors:
    """The same factors of a layer that lies the other way round."""
    kind: Kind = "linear" if factors.kind == "conv1d" else "conv1d"
    return evolve(factors, a=factors.b.mT.contiguous(), b=factors.a.mT.contiguous(), kind=kind)


def _unfit(name: str, got: tuple[int, ...], shapes: Mapping[str, Sequence[int]], of: str) -> str:
    if name not in shapes:
        return f"{of} has no parameter {name}"
    return f"{name} is {got}, and {tuple(shapes[name])} in {of}"


def _raise(found: list[str], what: str) -> None:
    if found:
        more = f"; and {len(found) - 5} more like these" if len(found) > 5 else ""
        raise UsageError(f"{what}: " + "; ".join(found[:5]) + more)
