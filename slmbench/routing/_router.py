"""The router: a text in, the adapter that is to answer it out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from attrs import evolve, field, frozen

from slmbench.errors import UsageError
from slmbench.models import AdapterInfo, LoadedModel, adapter_of, read_adapter, tokenizer_sha256
from slmbench.paths import shown
from slmbench.routing._features import BaseFeatures
from slmbench.routing._heads import RouterHead
from slmbench.values import Array, JsonObject

AGAIN = "fit it again with `slmbench route fit`"


@frozen
class Route:
    """Where a text goes. adapter: None for the base alone. task: whose template is then applied, None for none.

    scores: adapter -> how likely it is, from 0 to 1; together 1.
    """

    adapter: str | None
    task: str | None
    scores: Mapping[str, float]


@frozen
class RoutedAdapter:
    """An adapter of a router. sha256: as `read_adapter` has it. tasks: what texts of it the router knows."""

    name: str
    folder: str
    sha256: str
    tasks: tuple[str, ...] = ()


@frozen
class RouterClass:
    """What a head tells apart: a task and the adapter for it; task: None where only the adapter is known."""

    adapter: str
    task: str | None = None

    @property
    def label(self) -> str:
        return self.task or self.adapter


@frozen
class RouterBase:
    """The model that a router belongs to, by what identifies it."""

    name: str
    weights_sha256: str
    config_sha256: str
    tokenizer_sha256: str

    @classmethod
    def of(cls, loaded: LoadedModel) -> RouterBase:
        tokenizer = tokenizer_sha256(loaded.tokenizer)
        return cls(loaded.source.name, loaded.weights_sha256, loaded.config_sha256, tokenizer)


@frozen(eq=False)
class Router:
    """Sends a text to an adapter by the text alone; below the threshold to the base.

    classes: in the order of the head's. threshold: of an adapter's score, 0 to 1. facts: how it was fitted and chosen,
    as router.json has it. loaded: its base, None where none was given; heads that read hidden states need it. folder,
    sha256: where it was read from and the digest of all that it says, '' where it was not.
    """

    head: RouterHead
    classes: tuple[RouterClass, ...]
    adapters: tuple[RoutedAdapter, ...]
    base: RouterBase
    threshold: float = 0.0
    facts: JsonObject = field(factory=dict)
    loaded: LoadedModel | None = None
    folder: str = ""
    sha256: str = ""

    @property
    def owners(self) -> dict[str, str]:
        """task -> the name of its adapter."""
        return {one.task: one.adapter for one in self.classes if one.task is not None}

    @property
    def names(self) -> list[str]:
        """Of the adapters."""
        return [one.name for one in self.adapters]

    def route(self, text: str) -> Route:
        """Where a person's text goes; it is seen without any task's template. Raises as `route_many`."""
        return self.route_many([text])[0]

    def route_many(self, texts: Sequence[str]) -> list[Route]:
        """Where each text goes. An empty one goes to the base.

        Raises UsageError if the head reads hidden states and there is no base, or an adapter is on it.
        """
        if not texts:
            return []
        shares = self.shares(texts)
        scores = self.adapter_scores(shares)
        routes = []
        for text, share, score in zip(texts, shares, scores, strict=True):
            best = int(score.argmax())
            name, told = self.names[best], dict(zip(self.names, map(float, score), strict=True))
            if not text.strip() or score[best] < self.threshold:
                routes.append(Route(None, None, told))
                continue
            own = [position for position, one in enumerate(self.classes) if one.adapter == name]
            routes.append(Route(name, self.classes[max(own, key=lambda position: share[position])].task, told))
        return routes

    def shares(self, texts: Sequence[str]) -> Array:
        """How likely each class is of each text: (texts, classes). Raises as `route_many`."""
        return self.head.shares(texts, self._features())

    def adapter_scores(self, shares: Array) -> Array:
        """(texts, classes) -> (texts, adapters): an adapter has the sum of its classes."""
        import numpy as np

        member = np.array([[one.adapter == name for name in self.names] for one in self.classes], dtype=np.float64)
        return shares @ member

    def _features(self) -> BaseFeatures | None:
        if not self.head.reads_base:
            return None
        if self.loaded is None:
            raise UsageError(
                f"this router's head, {self.head.name}, reads hidden states of {self.base.name!r}: give it that model"
            )
        if adapter_of(self.loaded.model):
            raise UsageError(
                f"an adapter is on {self.base.name!r}, and a router reads the base alone; ask it inside "
                "`with bank.using(None):`"
            )
        return BaseFeatures(self.loaded)

    def of_base(self, loaded: LoadedModel) -> Router:
        """This router with its base. Raises UsageError for another model, revision, dtype or tokenizer."""
        here = RouterBase.of(loaded)
        for part in ("weights", "config", "tokenizer"):
            said, found = getattr(self.base, f"{part}_sha256"), getattr(here, f"{part}_sha256")
            if said != found:
                as_held = f" in {loaded.dtype}" if part == "weights" else ""
                raise UsageError(
                    f"{self._named()} was made for {self.base.name!r} with {part} {said[:12]}, but {here.name!r} here "
                    f"has {found[:12]}{as_held}; {AGAIN} for this one"
                )
        return evolve(self, loaded=loaded)

    def check_adapters(self, infos: Mapping[str, AdapterInfo] | None = None) -> None:
        """Raises UsageError if an adapter isn't there, isn't what it was when the router was fitted, or has no route.

        infos: name -> the adapters that are at hand; those of the router's own folders unless given.
        """
        infos = {one.name: read_adapter(one.folder) for one in self.adapters} if infos is None else infos
        for one in self.adapters:
            if one.name not in infos:
                raise UsageError(
                    f"{self._named()} chooses between {', '.join(self.names)}, and adapter {one.name!r} is not among "
                    f"those given; give it, or {AGAIN} without it"
                )
            found = infos[one.name]
            if found.sha256 != one.sha256:
                raise UsageError(
                    f"{self._named()} was fitted for adapter {one.name!r} {one.sha256[:12]}, and {shown(found.folder)} "
                    f"holds {found.sha256[:12]}: it was trained again or exchanged; {AGAIN}"
                )

    def _named(self) -> str:
        return f"router {shown(self.folder)}" if self.folder else "the router"


def routed_adapters(infos: Mapping[str, AdapterInfo], tasks: Mapping[str, str]) -> tuple[RoutedAdapter, ...]:
    """infos: name -> an adapter. tasks: task -> the name of its adapter."""
    return tuple(
        RoutedAdapter(
            name, os.path.abspath(info.folder), info.sha256, tuple(t for t, owner in tasks.items() if owner == name)
        )
        for name, info in infos.items()
    )
