"""Choices among adapters, as an evaluation asks for them: the router's, one by chance, and the one that knows the task.

Each is an `AdapterChoice` of `slmbench.evaluation`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from attrs import evolve, frozen

from slmbench.models import LoadedModel
from slmbench.routing._router import Router
from slmbench.routing._texts import user_text
from slmbench.seal import canonical_sha256
from slmbench.task import Task
from slmbench.values import Example

AUTO, RANDOM, ORACLE = "auto", "random", "oracle"


@frozen(eq=False)
class RouterChoice:
    """Where a router sends the user's text of each item. router: as it was read from its folder."""

    router: Router
    name: str = AUTO

    @property
    def sha256(self) -> str:
        return self.router.sha256

    @property
    def owners(self) -> Mapping[str, str]:
        return self.router.owners

    @property
    def remark(self) -> str:
        """What a reader of its runs should know."""
        why = self.router.facts.get("why", "")
        return f"routed by {self.router.head.name}" + (f": {why}" if why else "")

    def of_base(self, loaded: LoadedModel) -> RouterChoice:
        """The choice with its base at hand. Raises UsageError for another base than the router's."""
        return evolve(self, router=self.router.of_base(loaded))

    def choose(self, task: Task, examples: Sequence[Example]) -> list[str | None]:
        routes = self.router.route_many([user_text(task, example) for example in examples])
        return [route.adapter for route in routes]


@frozen
class RandomChoice:
    """An adapter by chance for each item, each as likely, never the base; the same seed chooses the same."""

    adapters: tuple[str, ...]
    seed: int = 0
    name: str = RANDOM

    @property
    def sha256(self) -> str:
        return canonical_sha256([self.name, list(self.adapters), self.seed])

    def choose(self, task: Task, examples: Sequence[Example]) -> list[str | None]:
        return [random.Random(f"{self.seed} {task.name} {one.id}").choice(self.adapters) for one in examples]


@frozen
class OracleChoice:
    """The adapter of an item's own task, by the task's name; the base if no adapter is for it. owners: task -> it."""

    owners: Mapping[str, str]
    name: str = ORACLE

    @property
    def sha256(self) -> str:
        return canonical_sha256([self.name, dict(self.owners)])

    def choose(self, task: Task, examples: Sequence[Example]) -> list[str | None]:
        return [self.owners.get(task.name) for _ in examples]
