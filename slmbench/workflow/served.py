"""A model that a server has: what an evaluation can't ask of it, and the first words with it."""

from __future__ import annotations

from collections.abc import Sequence

from slmbench.console import phase
from slmbench.engines.options import EngineOptions
from slmbench.engines.server_address import address_of
from slmbench.errors import UsageError
from slmbench.models import LoadedModel, ModelSource, load_unread
from slmbench.paths import shown
from slmbench.task import Task, reads_targets


def check_served(engine: EngineOptions, adapters: Sequence[str]) -> None:
    """Raises UsageError, TrustError for what a server isn't asked, before anything is read."""
    engine.server.check()
    address_of(engine.server)
    if adapters:
        raise UsageError(
            f"--adapter {shown(adapters[0])}: engine {engine.name!r} asks for what its server has, and can't put an "
            "adapter there; start the server with it, merged or as the server takes it, and give its name by --served"
        )


def load_served(source: ModelSource, engine: EngineOptions, tasks: Sequence[Task]) -> LoadedModel:
    """A model as a server has it: config and tokenizer from here, no weights. Raises what `meet` raises."""
    from slmbench.engines.serving import meet

    with phase(f"reading the tokenizer of {source.name}"):
        unread = load_unread(source)
    with phase(f"meeting the server of {source.name}"):
        return meet(
            unread, engine, [task.name for task in tasks if task.kind == "choice" or reads_targets(task.scorers)]
        )
