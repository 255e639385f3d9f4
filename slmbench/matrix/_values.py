"""What a matrix is made of: who is scored, how they are asked, and a cell for each of them on each task."""

from __future__ import annotations

import hashlib
from functools import cached_property

from attrs import asdict, frozen

from slmbench.seal import canonical_json
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

    @cached_property
    def keyed(self) -> str:
        """What a cell's key has of it, as canonical JSON."""
        return canonical_json([self.model, self.name, self.identity, self.held])


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
    perplexity: bool = False

    def as_json(self) -> JsonObject:
        said = asdict(self)
        if not self.perplexity:  # What is written down of a matrix that doesn't ask for it stays as it was.
            del said["perplexity"]
        return said | {"metrics": None if self.metrics is None else list(self.metrics)}

    @classmethod
    def of_json(cls, value: JsonObject) -> GridAsking:
        metrics = value["metrics"]
        return cls(**{**value, "metrics": None if metrics is None else tuple(metrics)})

    @cached_property
    def keyed(self) -> str:
        """What a cell's key has of it, as canonical JSON. Batch and the like change no score."""
        said = self.as_json()
        del said["batch"]
        return canonical_json(said)


@frozen
class GridCell:
    """One run of a matrix. task_digest: what changes if the task does."""

    subject: GridSubject
    asking: GridAsking
    task: str
    task_digest: str = ""

    @cached_property
    def key(self) -> str:
        """The same for the same run. Batch and the like change no score, but engine, latency and seed are told."""
        # Canonical JSON of all four, of which a matrix has few subjects and askings.
        task = canonical_json([self.task, self.task_digest])[1:-1]
        whole = f"[{self.subject.keyed},{self.asking.keyed},{task}]"
        return hashlib.sha256(whole.encode()).hexdigest()[:KEY_DIGITS]


@frozen(kw_only=True)
class GridTraining:
    """What a recipe makes with one seed. products: name of an adapter, or of a merge's result -> its key.

    place: the folder below the output folder that `adapters/` and `models/` go into. overrides: as --set takes them.
    processes: that make one training together.
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
    processes: int = 1
