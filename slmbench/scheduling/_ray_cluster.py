"""The nodes of a Ray cluster: which of them are there, and which may be given jobs, as they say of themselves."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from types import TracebackType
from typing import Any, Literal

from attrs import define

from slmbench.console import say
from slmbench.errors import SlmbenchError, UsageError
from slmbench.files import write_atomically
from slmbench.scheduling._ray_node import facts_function, own_facts
from slmbench.scheduling._store import ResultStore
from slmbench.values import JsonObject

REFRESH_S = 1.0
LOOK_S = 120.0
"""So long a node may take to say something of itself: its first process has to begin."""
PROBE_S = 30.0
"""So long a node looks for the probe: a network's folder may show new files only then."""


@define(eq=False)
class RayNode:
    """A node, with what Ray says that it has. state: `good` if it may be given jobs."""

    id: str
    name: str
    cpus: int
    gpus: int
    memory_bytes: int
    state: Literal["new", "good", "bad"] = "new"
    said: str = ""


class RayNodes:
    """The nodes of a cluster, looked at before they are given jobs. Those that join later are too.

    The probe is a file in the folder, or the store by its URL, that all share; it is removed when the block ends.
    """

    def __init__(self, ray: Any, folder: str, store: str | None = None) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._folder = ray, folder
        self._affinity = NodeAffinitySchedulingStrategy
        self._nodes: dict[str, RayNode] = {}
        self._asked: dict[Any, tuple[RayNode, float]] = {}
        self._own = own_facts()
        self._facts = ray.remote(max_retries=0, num_cpus=0)(facts_function())
        self._store = None if store is None else ResultStore(store)
        name = f".probe-{secrets.token_hex(8)}"
        self._probe = os.path.join(folder, name) if self._store is None else f"{self._store.url}/{name}"
        self._lost: set[str] = set()
        self._refreshed = 0.0

    def __enter__(self) -> RayNodes:
        name = os.path.basename(self._probe)
        if self._store is None:
            write_atomically(self._probe, name.encode())
        else:
            self._store.write(name, name.encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove(self._probe)

    def _remove(self, probe: str) -> None:
        with contextlib.suppress(OSError, SlmbenchError):
            if self._store is None:
                os.unlink(probe)
            else:
                self._store.remove(os.path.basename(probe))

    @property
    def for_jobs(self) -> list[RayNode]:
        """Nodes that may be given jobs: where some have GPUs, those alone, so that all runs are made alike."""
        good = [node for node in self._nodes.values() if node.state == "good"]
        return [node for node in good if node.gpus] or good

    def only(self, node: RayNode) -> Any:
        """What makes a task run there or nowhere."""
        return self._affinity(node.id, soft=False)

    def look_at_all(self) -> None:
        """Waits until every node has said what it is. Raises UsageError if none will do, with what is wrong on each."""
        self.refresh()
        while self._asked:
            self._hear(0.5)
        if not any(node.state == "good" for node in self._nodes.values()):
            said = [f"  {node.name}: {node.said}" for node in self._nodes.values()] or ["  none has a CPU"]
            raise UsageError("\n".join(["no node of the Ray cluster can be given jobs:", *said]))
        idle = [node for node in self._nodes.values() if node.state == "good" and node not in self.for_jobs]
        for node in idle:
            say(f"note: {node.name} has no GPU, and others have: it is given no jobs")

    def refresh(self) -> None:
        """Takes note of nodes that joined and of those that are gone, at most once a second."""
        self._hear(0.0)
        if time.monotonic() - self._refreshed < REFRESH_S:
            return
        self._refreshed = time.monotonic()
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for key in set(self._nodes) - set(alive):
            self._forget(key)
        for key, told in alive.items():
            has = told["Resources"]
            if key in self._nodes or key in self._lost or int(has.get("CPU", 0)) < 1:
                continue
            node = RayNode(
                id=key,
                name=f"node {told['NodeManagerHostname']} ({told['NodeManagerAddress']}, {key[:8]})",
                cpus=int(has["CPU"]),
                gpus=int(has.get("GPU", 0)),
                memory_bytes=int(has.get("memory", 0)),
            )
            self._nodes[key] = node
            mark = f"{os.path.basename(self._probe)}-{key[:16]}"
            asked = self._facts.options(scheduling_strategy=self.only(node)).remote(self._probe, mark, PROBE_S)
            self._asked[asked] = (node, time.monotonic() + LOOK_S + PROBE_S)

    def lost(self, node: RayNode) -> None:
        """The node is gone for good, which Ray's list may tell only seconds later."""
        self._lost.add(node.id)
        self._forget(node.id)

    def _forget(self, key: str) -> None:
        gone = self._nodes.pop(key, None)
        if gone is not None and gone.state == "good":
            say(f"note: {gone.name} is gone from the cluster")

    def _hear(self, timeout_s: float) -> None:
        if not self._asked:
            return
        ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=timeout_s)
        late = [one for one, (_, by) in self._asked.items() if time.monotonic() > by and one not in ready]
        for reference in [*ready, *late]:
            node, _ = self._asked.pop(reference)
            if reference in late:
                self._ray.cancel(reference, force=True)
                node.said = f"it said nothing for {LOOK_S + PROBE_S:.0f} s; its Ray logs (/tmp/ray) may tell why"
            else:
                try:
                    node.said = self._fault(node, self._ray.get(reference))
                except self._ray.exceptions.RayError as error:
                    node.said = f"it can't run a task: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            node.state = "bad" if node.said else "good"
            if node.said:
                say(f"warning: {node.name} is given no jobs: {node.said}")

    def _fault(self, node: RayNode, facts: JsonObject) -> str:
        """What is wrong with a node, in words; "" if nothing is."""
        if "lacks" in facts:
            return f"slmbench of this version isn't installed there ({facts['lacks']}); install the same environment"
        here, there = self._own["versions"], facts["versions"]
        other = [
            f"{name} {there.get(name, 'is missing')} there, {here.get(name, 'not')} here"
            for name in {**here, **there}
            if here.get(name) != there.get(name)
        ]
        if other:
            return f"it has other packages: {'; '.join(other)}; install the same environment"
        if facts["digest"] != self._own["digest"]:
            return f"its slmbench {there['slmbench']} has other files than the one here; install the same there"
        if not facts["sees"] and self._store is not None:
            return (
                f"it can't read {self._store.shown()}, which all nodes have to share: {facts['unread']}; it needs the "
                "packages and the credentials that this store's URL asks for, on every node"
            )
        if not facts["sees"]:
            return (
                f"it doesn't see {self._folder}, which all nodes have to share: put --out on a folder that is mounted "
                "on all of them under the same path"
            )
        mark = f"{self._probe}-{node.id[:16]}"
        if facts["unwritable"]:
            where = self._folder if self._store is None else self._store.shown()
            return f"it can't write to {where}: {facts['unwritable']}"
        self._remove(mark)
        return ""
