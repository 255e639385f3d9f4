"""Each request to an adapter of its own: what chooses among those of a bank, and the engine that goes by the choice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Protocol, TypeVar

from attrs import evolve, frozen

from slmbench.adapters import AdapterBank
from slmbench.engines.protocol import Engine, Item, ScoreAnswer, ScoreRequest, WriteAnswer, WriteRequest
from slmbench.errors import SlmbenchError, UsageError, did_you_mean
from slmbench.evaluation._trained_format import format_remarks
from slmbench.formats import Format
from slmbench.models import LoadedModel
from slmbench.runs import AdapterPart
from slmbench.task import Task
from slmbench.values import Example, JsonObject

Request = TypeVar("Request", ScoreRequest, WriteRequest)
Answer = TypeVar("Answer", ScoreAnswer, WriteAnswer)

_TIMED = 15
"""Items of a task that are chosen for once more, one after another."""


class AdapterChoice(Protocol):
    """Which adapter answers each item: a router's choice, the oracle's, one by chance.

    A choice is data that another process can be handed, as everything in an `EvaluationPlan` is.
    """

    @property
    def name(self) -> str:
        """What stands in an adapter's place in runs and on the leaderboard, as `auto`, `random` or `oracle`."""

    @property
    def sha256(self) -> str:
        """The digest of all that its choices depend on, beside task and example."""

    # A choice may also have a `remark`, a text: what a reader of its runs should know of it; and `owners`, tasks and
    # the adapters that are for them, so that its runs tell how often it is right.

    def choose(self, task: Task, examples: Sequence[Example]) -> list[str | None]:
        """For each example the name of an adapter, None for the base alone.

        task: as it is evaluated; what it says of the example's text, as `task.prompt(example).user`, may be looked at,
        what the answer is may not, unless the choice says of itself that it is an oracle.
        """


@frozen(eq=False)
class Chosen:
    """Which adapter each item goes to, None for the base. sha256: of the choice. digests: adapter's name -> sha256.

    ms: task -> the median milliseconds of choosing for an item of it, one after another.
    """

    sha256: str
    digests: Mapping[str, str]
    of: Mapping[Item, str | None]
    ms: Mapping[str, float]

    def identity(self, item: Item) -> JsonObject:
        """What an item's answers depend on: who chose, and what was chosen."""
        name = self.of[item]
        return {"router": self.sha256, "adapter": None if name is None else self.digests[name]}


class Routed:
    """A choice among the adapters of a bank.

    Raises UsageError if the choice has the name of one of them, and for an adapter that has a tokenizer of its own: an
    item's prompt is the same whoever answers it.
    """

    def __init__(self, bank: AdapterBank, choice: AdapterChoice) -> None:
        self.bank = bank
        self.choice = choice
        if choice.name in bank.names:
            raise UsageError(
                f"an adapter is called {choice.name!r} as the choice among the adapters is, and their rows would be "
                "one; rename its folder"
            )
        self._remarks: list[str] = []
        for name in bank.names:
            if bank.has_own_tokenizer(name):
                raise UsageError(
                    f"adapter {name!r} has a tokenizer of its own, and requests that are sent to one adapter or "
                    "another are encoded once for all; evaluate it by itself"
                )
            self._remarks += [remark for remark in bank.notices(name) if remark not in self._remarks]

    @property
    def digests(self) -> dict[str, str]:
        """The adapters' names -> sha256."""
        return {name: self.bank.info(name).sha256 for name in self.bank.names}

    def part(self) -> AdapterPart:
        """What a run's record says in an adapter's place."""
        every = [self.bank.info(name) for name in self.bank.names]
        tasks = dict.fromkeys(task for one in every for task in one.record.tasks)
        why = next((one.forced for one in every if one.forced), None)
        forced: JsonObject = {"forced_base": why} if why else {}
        known: Mapping[str, str] = getattr(self.choice, "owners", {})
        owners: JsonObject = {"owners": dict(known)} if known else {}
        return AdapterPart(
            name=self.choice.name,
            sha256=self.choice.sha256,
            bytes=sum(one.bytes for one in every),
            parameters=sum(one.parameters for one in every),
            tasks=list(tasks),
            choices=self.digests,
            **owners,
            **forced,
        )

    def remarks(self, style: Format) -> list[str]:
        """What a reader should know of the adapters, beside the base."""
        own = getattr(self.choice, "remark", "")
        found = [*([own] if own else []), *self._remarks]
        for name in self.bank.names:
            tuned = evolve(self.bank.base, adapter=self.bank.info(name))
            if tuned.adapter is not None and tuned.adapter.training is not None:
                found += [remark for remark in format_remarks(tuned, style) if remark not in found]
        return found

    def chosen(self, items: Sequence[tuple[Task, Sequence[Example]]]) -> Chosen:
        """Asks for the choices. items: tasks, each with its examples. Raises UsageError for an unknown adapter."""
        of: dict[Item, str | None] = {}
        ms: dict[str, float] = {}
        for task, examples in items:
            with self.bank.using(None):  # What reads the base's hidden states reads the base's.
                names = self.choice.choose(task, examples)
                ms[task.name] = self._ms(task, examples[:_TIMED])
            if len(names) != len(examples):
                raise SlmbenchError(
                    f"{self.choice.name} chose {len(names)} adapters for {len(examples)} items of {task.name!r}"
                )
            for name in dict.fromkeys(names):
                if name is not None and name not in self.bank.names:
                    raise UsageError(
                        f"{self.choice.name} chose adapter {name!r} for task {task.name!r}, which isn't here"
                        f"{did_you_mean(name, self.bank.names)}; here are {', '.join(map(repr, self.bank.names))}"
                    )
            of |= {(task.name, at): name for at, name in enumerate(names)}
        return Chosen(self.choice.sha256, self.digests, of, ms)

    def _ms(self, task: Task, examples: Sequence[Example]) -> float:
        """The median of the milliseconds that choosing for each of these items takes, with the bare base."""
        taken = []
        for example in examples:
            start = time.perf_counter()
            self.choice.choose(task, [example])
            taken.append((time.perf_counter() - start) * 1000)
        return median(taken) if taken else 0.0


class RoutedEngine:
    """An engine over a bank: each request is computed with its own adapter, all of one adapter together.

    make: the engine over a loaded model; it is made anew for each adapter, once a call, and what prompts share is
    shared among the requests of one adapter alone.
    """

    def __init__(self, bank: AdapterBank, chosen: Chosen, make: Callable[[LoadedModel], Engine]) -> None:
        self.bank = bank
        self.chosen = chosen
        self._make = make
        with bank.using(None) as base:
            self._engine = make(base)
        self.max_length = self._engine.max_length
        self.vocabulary = self._engine.vocabulary

    @property
    def computed_rows(self) -> int | None:
        """What an automatic batch came to, with the adapter that was asked last."""
        return self._engine.computed_rows

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, ScoreAnswer]]:
        """(index of a request, its answer), adapter by adapter."""
        yield from self._each(requests, lambda engine, some: engine.score(some))

    def write(self, requests: Sequence[WriteRequest]) -> Iterator[tuple[int, WriteAnswer]]:
        """(index of a request, its answer), adapter by adapter."""
        yield from self._each(requests, lambda engine, some: engine.write(some))

    def _each(
        self,
        requests: Sequence[Request],
        compute: Callable[[Engine, Sequence[Request]], Iterator[tuple[int, Answer]]],
    ) -> Iterator[tuple[int, Answer]]:
        parted: dict[str | None, list[int]] = {name: [] for name in (None, *self.bank.names)}
        for at, request in enumerate(requests):
            parted[self.chosen.of[request.item]].append(at)
        for name, which in parted.items():
            if not which:
                continue
            with self.bank.using(name) as loaded:
                self._engine = self._make(loaded)
                for at, answer in compute(self._engine, [requests[one] for one in which]):
                    yield which[at], answer
