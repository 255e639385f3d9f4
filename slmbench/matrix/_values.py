"""What a matrix is made of: who is scored, how they are asked, and a cell for each of them on each task."""

from __future__ import annotations

from functools import cached_property

from attrs import asdict, define, frozen

from slmbench.seal import canonical_sha256
from slmbench.values import JsonObject

KEY_DIGITS = 20


@frozen(kw_only=True)
class GridSubject:
    """Who is scored. model: the base, by name, folder, hub id or .gguf file. name: of what is on it, "" for itself.

    place: the folder of what is on it: given, or, where the matrix makes it, below the output folder (`made`). Of what
    a recipe makes it has no `adapters/` or `models/` yet, as only its making tells which. identity: what changes if its
    weights may have. held: how its base is packed, "" for as it is. recipe, seed: of its training.
    """

    model: str
    identity: str
    name: str = ""
    place: str | None = None
    made: bool = False
    held: str = ""
    recipe: str | None = None
    seed: int | None = None

    @property
    def shown(self) -> str:
        """Who that is, in words."""
        seed = "" if self.seed is None else f" (seed {self.seed})"
        return f"{self.model} + {self.name}{seed}" if self.name else self.model


@frozen(kw_only=True)
class GridAsking:
    """How they are asked; None leaves what tasks declare. format: None for that of the training, else plain."""

    format: str | None = None
    shots: int | None = None
    cot: str | None = None
    samples: int | None = None
    limit: int | None = None
    metrics: tuple[str, ...] | None = None
    max_tokens: int | None = None
    seed: int = 0
    batch: int | str = "auto"
    engine: str = "shared"
    latency: bool = False

    def as_json(self) -> JsonObject:
        said = asdict(self)
        return said | {"metrics": None if self.metrics is None else list(self.metrics)}

    @classmethod
    def of_json(cls, value: JsonObject) -> GridAsking:
        metrics = value["metrics"]
        return cls(**{**value, "metrics": None if metrics is None else tuple(metrics)})


@define(frozen=True, slots=False)
class GridCell:
    """One run of a matrix. task_digest: what changes if the task does."""

    subject: GridSubject
    asking: GridAsking
    task: str
    task_digest: str = ""

    @cached_property
    def key(self) -> str:
        """The same for the same run. Batch and the like change no score, but engine, latency and seed are told."""
        asking = self.asking.as_json()
        del asking["batch"]
        who = [self.subject.model, self.subject.name, self.subject.identity, self.subject.held]
        return canonical_sha256([who, asking, self.task, self.task_digest])[:KEY_DIGITS]


@frozen(kw_only=True)
class GridTraining:
    """What a recipe makes with one seed. products: name of an adapter, or of a merge's result -> its key.

    place: the folder below the output folder that `adapters/` and `models/` go into. overrides: as --set takes them.
    """

    recipe: str
    kind: str
    name: str
    place: str
    overrides: tuple[str, ...]
    variant: str | None
    only: tuple[str, ...]
    products: tuple[tuple[str, str], ...]
    seed: int | None
