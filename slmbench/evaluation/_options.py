"""What an evaluation is asked to do, beside model and tasks: one record from the command line to the engine."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from slmbench.engines import engine_names
from slmbench.engines.options import AUTO, EngineOptions
from slmbench.engines.server_address import ServerOptions
from slmbench.errors import UsageError
from slmbench.task import Task, engines_of


@frozen(kw_only=True)
class EvaluationOptions:
    """How tasks are asked, and where the runs go.

    out: runs are `<out>/runs/<run_id>`. format: a format's name; None for that of the training, else plain. engine,
    batch, kv_budget_bytes, latency, server: see `EngineOptions`. speed: one stream is measured, too. limit: the first
    so many items of each task alone; None for all. seed: of what is drawn. allow_unsafe_code: run the programs of code
    tasks without a sandbox if the machine has none. no_texts: the runs, those that are there already too, say that
    pages show digests in place of their texts.
    Raises UsageError for what doesn't go together.
    """

    out: str
    format: str | None = None
    engine: str = "shared"
    batch: int | str = AUTO
    kv_budget_bytes: float | None = None
    latency: bool = False
    speed: bool = False
    server: ServerOptions = field(factory=ServerOptions)
    limit: int | None = None
    seed: int = 0
    allow_unsafe_code: bool = False
    no_texts: bool = False

    def __attrs_post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit is {self.limit}; it has to be at least 1")
        if self.engine in engine_names():
            self.chosen()

    def chosen(self, tasks: Iterable[Task] = ()) -> EngineOptions:
        """The engine as these options want it. tasks: whose plugins may bring it. Raises UsageError."""
        plugins = None if self.engine in engine_names() else engines_of(tasks)
        return EngineOptions(self.engine, self.batch, self.kv_budget_bytes, self.latency, self.server, plugins)


def require_engine(name: str, tasks: Iterable[Task]) -> EngineOptions:
    """The engine of that name, with its own settings. Raises UsageError if what it needs isn't installed.

    tasks: whose plugins may bring it.
    """
    engine = EvaluationOptions(out="", engine=name).chosen(tasks)
    engine.require()
    return engine
