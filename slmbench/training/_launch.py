"""One training by several processes of this machine: started together, ended together, and one error if one dies."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, field, frozen

from slmbench import errors
from slmbench.catalog import Catalog
from slmbench.console import advanced, current
from slmbench.errors import SlmbenchError, UsageError
from slmbench.files import disk_errors
from slmbench.installed import PluginModule
from slmbench.interrupts import Interrupt, NotingHandler
from slmbench.machine import usable_cores
from slmbench.models import ModelSource
from slmbench.paths import shown
from slmbench.recipe import Recipe
from slmbench.schema import RecipeSpec
from slmbench.training._checkpoints import newest_step
from slmbench.training._refusals import launch_faults
from slmbench.values import JsonObject

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import PContext, RunProcsResult

CALL, STARTED, PROGRESS = "call.json", "started.json", "progress.txt"
POLL_S = 0.1
LOG_LINES = 20
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
"""Those that torch's process context takes for itself when it starts."""


@frozen(eq=False)
class TrainingCall:
    """A training as it was asked for, as data that goes to other processes."""

    recipe: Recipe
    name: str
    catalog: Catalog
    source: ModelSource
    out: str
    data: str = "auto"
    resume: bool = True
    track: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        recipe, catalog = self.recipe, self.catalog
        return {
            "recipe": [recipe.name, recipe.path, recipe.spec.model_dump(mode="json"), recipe.variant],
            "name": self.name,
            "catalog": [catalog.roots, catalog.installed, catalog.plugin_modules],
            "source": asdict(self.source),
            "out": self.out,
            "data": self.data,
            "resume": self.resume,
            "track": self.track,
        }

    @classmethod
    def of_json(cls, said: JsonObject) -> TrainingCall:
        """What `as_json` made."""
        name, path, spec, variant = said["recipe"]
        roots, installed, modules = said["catalog"]
        source: dict[str, Any] = said["source"]
        source = {key: tuple(value) if isinstance(value, list) else value for key, value in source.items()}
        return cls(
            recipe=Recipe(name, path, RecipeSpec.model_validate_json(json.dumps(spec)), variant),
            name=said["name"],
            catalog=Catalog(roots, installed, [PluginModule(*module) for module in modules]),
            source=ModelSource(**source),
            out=said["out"],
            data=said["data"],
            resume=said["resume"],
            track=tuple(said["track"]),
        )


def place_of(recipe: Recipe, out: str) -> str:
    """The folder below which a recipe's results go."""
    return os.path.join(out, "models" if recipe.spec.method == "full" else "adapters")


def refuse_launch(recipe: Recipe, name: str) -> None:
    """Raises UsageError if as many processes as a recipe wants can't be had here, or can't share its steps."""
    if recipe.spec.launch.processes > 1 and (faults := [*launch_faults(recipe.spec, recipe.optim_of(name), _device())]):
        raise UsageError("\n".join(faults))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def launch_training(asked: TrainingCall) -> str:
    """Has as many processes as the recipe says make a training whose place this process holds; returns its folder.

    They are started by what torchrun starts them with, and meet at a store of this process; the first one alone speaks
    and writes. If one ends before its time, the others are ended, and SlmbenchError says which one did, of what, and
    the last lines of its log; a refusal or failure that slmbench itself raises there is raised here. Ctrl-C (SIGTERM)
    goes to all of them: they make a checkpoint after the step under way, and KeyboardInterrupt is raised; a second one
    ends them at once.
    """
    spec = asked.recipe.spec
    with disk_errors(tempfile.gettempdir()):
        folder = tempfile.mkdtemp(prefix="slmbench-launch-")
    try:
        call = {**asked.as_json(), "processes": spec.launch.processes, "live": current().is_live}
        with disk_errors(folder):
            Path(folder, CALL).write_text(json.dumps(call), encoding="utf-8")
        with current().still():
            command = ("-W", "ignore", "-m", "slmbench.training", folder, str(os.getpid()))
            Launched(asked.name, folder, spec.launch.processes, _device(), command).run()
        return os.path.join(place_of(asked.recipe, asked.out), asked.name)
    finally:
        started = read_word(folder, STARTED)
        if started is not None and newest_step(started["checkpoints"]) is None:
            shutil.rmtree(os.path.dirname(started["checkpoints"]), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@define
class Launched:
    """The processes of one training. folder: where they leave word for this one. command: what Python is called with.

    interrupt: whether an end was asked for.
    """

    name: str
    folder: str
    n: int
    device: str
    command: tuple[str, ...]
    interrupt: Interrupt = field(factory=Interrupt)

    def run(self) -> None:
        """Raises SlmbenchError or KeyboardInterrupt unless all came to their end."""
        import torch.distributed

        # It chooses its own port, and ends with this process.
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        with _quiet_torch(), _signals_kept():
            processes = self._start(store.port)
            try:
                self._wait(processes)
            except BaseException:
                processes.close(signal.SIGKILL if self.interrupt.asked > 1 else signal.SIGTERM, timeout=5)
                raise
            finally:
                processes.close(signal.SIGKILL, timeout=5)

    def _start(self, port: int) -> PContext:
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std, start_processes

        shared = {
            "WORLD_SIZE": str(self.n),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
            **_threads(self.n),
        }
        if self.device == "cpu" and sys.platform == "linux" and "GLOO_SOCKET_IFNAME" not in os.environ:
            shared["GLOO_SOCKET_IFNAME"] = "lo"  # The host's own name may lead nowhere without a network.
        environments = {rank: {**shared, "RANK": str(rank), **self._local(rank)} for rank in range(self.n)}
        logs = DefaultLogsSpecs(os.path.join(self.folder, "logs"), redirects=dict.fromkeys(range(1, self.n), Std.ALL))
        started: PContext = start_processes(
            self.name, sys.executable, dict.fromkeys(range(self.n), self.command), environments, logs
        )
        return started

    def _local(self, rank: int) -> dict[str, str]:
        if self.device == "cpu":
            return {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(self.n)}
        # Each sees its own GPU alone: what says "cuda" means it, and nothing lands on the first one by mistake.
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = seen.split(",") if seen else [str(number) for number in range(self.n)]
        return {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "CUDA_VISIBLE_DEVICES": gpus[rank]}

    def _wait(self, processes: PContext) -> None:
        """Until all have ended. Raises as `run` does."""

        def pass_on() -> None:
            for pid in processes.pids().values():
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGINT)

        progress, pids = _Progress(os.path.join(self.folder, PROGRESS)), processes.pids()
        with _handled(NotingHandler(self.interrupt, pass_on)):
            while (ended := processes.wait(0)) is None:
                progress.tell()
                threading.Event().wait(POLL_S)
        progress.tell()
        words = [word or {} for word in self._words()]
        # A library may have made another error of an interrupt, or Python a death.
        if self.interrupt and not any(words[rank].get("ours") for rank in ended.failures):
            raise KeyboardInterrupt
        if ended.is_failed():
            raise self._failure(ended, pids)
        if any("interrupted" in word for word in words):
            raise KeyboardInterrupt

    def _words(self) -> list[JsonObject | None]:
        """What each process left when it ended, None of one that was killed."""
        return [read_word(self.folder, outcome_name(rank)) for rank in range(self.n)]

    def _failure(self, ended: RunProcsResult, pids: Mapping[int, int]) -> Exception:
        """What ended the training: a process that was killed, else the first that failed by itself."""
        # One that was told to end, and then died of something else, left no word of that.
        words = [word if word is not None and "ours" in word else None for word in self._words()]

        def order(rank: int) -> tuple[int, float]:
            word, code = words[rank], ended.failures[rank].exitcode
            if word is None:  # What was sent SIGTERM was sent it because another had failed.
                return (0 if code not in (-signal.SIGTERM, 0) else 3), 0.0
            return (1 if word["ours"] else 2), word["time"]

        rank = min(ended.failures, key=order)
        word, code = words[rank], ended.failures[rank].exitcode
        if word is not None and word["ours"]:
            return _raised_again(word)
        who = f"{self.name}: process {rank} of {self.n} (pid {pids[rank]})"
        if word is not None:
            what = f"{who} failed: {word['said']}"
        elif code < 0:
            why = ", as by a system that runs out of memory" if code == -signal.SIGKILL else ""
            what = f"{who} was killed by {signal.Signals(-code).name}{why}"
        else:
            what = f"{who} ended with code {code}"
        lines = [f"{what}; the others were ended too, and {self._kept()}"]
        if rank and (log := _last_lines(ended.stderrs[rank])):
            lines += ["the last lines of its log:", *(f"  {line}" for line in log)]
        return SlmbenchError("\n".join(lines))

    def _kept(self) -> str:
        started = read_word(self.folder, STARTED)
        step = None if started is None else newest_step(started["checkpoints"])
        if started is None or step is None:
            return "as no checkpoint was made yet, the same command begins from the start"
        return (
            f"the same command goes on from step {step} of {started['steps']}, whose checkpoint is kept in "
            f"{shown(started['checkpoints'])}"
        )


def outcome_name(rank: int) -> str:
    """The file in which a process leaves word of how it ended: {interrupted} or {time, ours, kind, exit_code, said}."""
    return f"outcome-{rank}.json"


def outcome_of(error: Exception, time_s: float) -> JsonObject:
    """What a process leaves of an error. ours: whether slmbench raises it on purpose."""
    ours = isinstance(error, SlmbenchError)
    said = str(error) if ours else f"{type(error).__name__}: {' '.join(str(error).split())[:2000]}"
    code = error.exit_code if isinstance(error, SlmbenchError) else 1
    return {"time": time_s, "ours": ours, "kind": type(error).__name__, "exit_code": code, "said": said}


def _raised_again(word: JsonObject) -> SlmbenchError:
    """The error of another process, of its kind where a text alone makes one of that."""
    plain = ("UsageError", "HookError", "DataError", "ParityError", "TrustError", "OfflineError", "SlmbenchError")
    by_code = {2: UsageError, 3: errors.TrustError, 4: errors.OfflineError}
    kind = getattr(errors, word["kind"]) if word["kind"] in plain else by_code.get(word["exit_code"], SlmbenchError)
    made: SlmbenchError = kind(word["said"])
    return made


def _threads(n: int) -> dict[str, str]:
    """The cores, shared out; fewer each if the person has set fewer."""
    share = max(1, usable_cores() // n)
    given = os.environ.get("OMP_NUM_THREADS", "")
    share = min(share, int(given)) if given.isdigit() and int(given) else share
    return {"OMP_NUM_THREADS": str(share), "MKL_NUM_THREADS": str(share)}


class _Progress:
    """What the first process tells of its progress, told on here."""

    def __init__(self, path: str) -> None:
        self._path, self._read = path, 0

    def tell(self) -> None:
        try:
            with open(self._path, encoding="utf-8") as file:
                file.seek(self._read)
                said = file.read()
        except FileNotFoundError:
            return
        whole = said[: said.rfind("\n") + 1]
        self._read += len(whole.encode())
        for line in whole.splitlines():
            n, _, what = line.partition(" ")
            advanced(what, int(n))


def _last_lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.rstrip() for line in deque(file, LOG_LINES)]
    except OSError:
        return []


def read_word(folder: str, name: str) -> Any:
    """What another process of the training left in the folder that is theirs alone; None if it left nothing."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(Path(folder, name).read_text(encoding="utf-8"))
    return None


@contextlib.contextmanager
def _quiet_torch() -> Iterator[None]:
    """Keeps what torch logs of processes that failed off the terminal: the error says it."""
    logger = logging.getLogger("torch.distributed.elastic")
    before = logger.level, logger.propagate
    inner = logging.getLogger("torch.distributed.elastic.multiprocessing.api")
    level = inner.level
    logger.setLevel(logging.CRITICAL)
    inner.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before[0])
        inner.setLevel(level)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Puts back the handlers that torch's process context replaces for good."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (getattr(signal, name) for name in _SIGNALS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _handled(note: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # The processes end when this one is gone.
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, note)
    yield
