"""A training told to trackers that people have: on this machine unless they say otherwise, and never to its harm."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from slmbench.console import say
from slmbench.errors import UsageError
from slmbench.paths import shown
from slmbench.values import JsonObject
from slmbench.visible import visible

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow")
FOLDER = "track"
_EVENTS = ("on_train_begin", "on_log", "on_train_end")
_DIGITS = 8
_LONGEST = 300

_End = Callable[[], object]


def require_trackers(names: Sequence[str]) -> None:
    """Raises UsageError for a tracker that isn't known or isn't installed, with the line that installs it."""
    said = []
    for name in names:
        if name not in TRACKERS:
            said.append(f"unknown tracker {name!r}; there are {', '.join(TRACKERS)}")
        elif not _is_here(name):
            said.append(f"--track {name}: the package {name} is not installed; `pip install {name}`")
    if said:
        raise UsageError("\n".join(said))


def _is_here(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@frozen
class TrackedTraining:
    """What is told of a training before its first step. out: the output folder. begins: the step that it goes on from.

    project: the recipe's name; run: the adapter's, with digits of the training's identity.
    """

    out: str
    project: str
    run: str
    begins: int

    @classmethod
    def of(cls, recipe: str, name: str, identity: str, out: str, begins: int) -> TrackedTraining:
        """project and run as all trackers take them."""
        plain = re.sub(r"[^\w.-]+", "-", recipe).strip("-") or "slmbench"
        return cls(out, plain, f"{name}-{identity[:_DIGITS]}", begins)

    def folder(self, tracker: str) -> str:
        """Where a tracker keeps its files, made if it isn't there."""
        place = os.path.join(self.out, FOLDER, tracker)
        os.makedirs(place, exist_ok=True)
        return place


@frozen
class _Begun:
    """A tracker that has begun. end: what ends it. where: for the record, no folder of this machine. look: how to."""

    callback: TrainerCallback
    end: _End
    where: str
    look: str


@define(eq=False)
class _Told:
    """A tracker of this training. failed: why it was given up; None while it works."""

    name: str
    begun: _Begun | None = None
    failed: str | None = None

    def call(self, what: Callable[..., object], *given: object, **named: object) -> None:
        """Calls what belongs to somebody else's package: it may say and raise what it likes, and training goes on."""
        if self.failed is not None:
            return
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # Data alone goes there.
                what(*given, **named)
        except (Exception, SystemExit) as error:
            said = " ".join(str(error).split())[:_LONGEST]
            self.failed = visible(f"{type(error).__name__}: {said}" if said else type(error).__name__)
            say(f"note: tracker {self.name} failed, and the training goes on without it: {self.failed}")


@define(eq=False)
class Trackers:
    """Those of one training; without any it costs nothing."""

    training: TrackedTraining
    told: list[_Told] = field(factory=list)

    def begin(self, names: Sequence[str], trainer: Trainer) -> None:
        """Begins each, says where to look, and has the trainer call it."""
        trainer.args.project, trainer.args.run_name = self.training.project, self.training.run
        for name in dict.fromkeys(names):
            one = _Told(name)
            self.told.append(one)
            one.call(self._begin, one, trainer)

    def _begin(self, one: _Told, trainer: Trainer) -> None:
        one.begun = _BEGIN[one.name](self.training)
        trainer.add_callback(_guarded(one, one.begun.callback))
        say(f"{self.training.run}: told to {one.name}; {one.begun.look}")

    def end(self) -> None:
        """Ends each, also of a training that stopped."""
        for one in self.told:
            if one.begun is not None:
                # What has failed may still hold a process or a file.
                with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stdout(io.StringIO()):
                    one.begun.end()

    def as_record(self) -> list[JsonObject]:
        """For training.json."""
        return [
            {"name": one.name, "where": one.begun.where if one.begun is not None else None, "failed": one.failed}
            for one in self.told
        ]


def _guarded(one: _Told, callback: TrainerCallback) -> TrainerCallback:
    """A callback that calls another one's way of telling, and none of its ways to save or upload."""
    import transformers

    class Guarded(transformers.TrainerCallback):
        pass

    def passing(event: str) -> Callable[..., None]:
        def pass_on(_: object, args: object, state: object, control: object, **named: object) -> None:
            one.call(getattr(callback, event), args, state, control, **named)

        return pass_on

    for event in _EVENTS:
        setattr(Guarded, event, passing(event))
    return Guarded()


def _begin_tensorboard(training: TrackedTraining) -> _Begun:
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    folder = training.folder("tensorboard")
    # Steps after the checkpoint that it goes on from come again.
    purged = training.begins + 1 if training.begins else None
    writer = SummaryWriter(log_dir=os.path.join(folder, training.run), purge_step=purged)
    where = f"{FOLDER}/tensorboard/{training.run}"
    return _Begun(TensorBoardCallback(writer), writer.close, where, f"`tensorboard --logdir {shown(folder)}`")


def _begin_trackio(training: TrackedTraining) -> _Begun:
    import trackio
    from transformers.integrations import TrackioCallback

    # The callback begins it. Where it keeps its files it reads from TRACKIO_DIR alone, when it is imported; it is left
    # there, so that `trackio show` finds it. With TRACKIO_SPACE_ID set it goes to the hub, as whoever set that wants.
    away = next((name for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL") if os.environ.get(name)), None)
    where = f"project {training.project}" if away is None else f"as {away} says"
    return _Begun(TrackioCallback(), trackio.finish, where, f"`trackio show --project {training.project}`")


def _begin_wandb(training: TrackedTraining) -> _Begun:
    import wandb
    from transformers.integrations import WandbCallback

    folder, mode = training.folder("wandb"), os.environ.get("WANDB_MODE") or "offline"
    where = f"{FOLDER}/wandb" if mode == "offline" else f"as WANDB_MODE={mode} says"
    look = (
        f"`wandb sync {shown(folder)}/wandb/offline-run-*` uploads it" if mode == "offline" else f"WANDB_MODE is {mode}"
    )
    if wandb.run is not None:  # Somebody's own, of a program that calls this.
        return _Begun(WandbCallback(), lambda: None, "the run that was open", "the run that is open has it")
    wandb.init(
        project=os.environ.get("WANDB_PROJECT") or training.project,
        name=training.run,
        dir=folder,
        mode=mode,
        settings=wandb.Settings(silent=True, console="off"),
    )
    return _Begun(WandbCallback(), wandb.finish, where, look)


def _begin_mlflow(training: TrackedTraining) -> _Begun:
    import logging

    import mlflow
    from transformers.integrations import MLflowCallback

    for logger in ("mlflow", "alembic"):  # That tables are made is no news; it sets its own level when it is imported.
        logging.getLogger(logger).setLevel(logging.WARNING)
    given = os.environ.get("MLFLOW_TRACKING_URI")
    local = f"sqlite:///{os.path.abspath(training.folder('mlflow'))}/mlflow.db"
    mlflow.set_tracking_uri(given or local)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or training.project
    if mlflow.get_experiment_by_name(name) is None:
        # Artifacts, of which none are made here, would lie in the working folder otherwise.
        place = None if given else f"file://{os.path.abspath(training.folder('mlflow'))}/artifacts"
        mlflow.create_experiment(name, artifact_location=place)
    mlflow.set_experiment(name)
    mlflow.start_run(run_name=training.run)
    # An address may hold a password.
    where = f"{FOLDER}/mlflow" if given is None else "as MLFLOW_TRACKING_URI says"
    look = "MLFLOW_TRACKING_URI says where" if given else f"`mlflow ui --backend-store-uri {local}`"
    return _Begun(MLflowCallback(), mlflow.end_run, where, look)


_BEGIN: dict[str, Callable[[TrackedTraining], Any]] = {
    "tensorboard": _begin_tensorboard,
    "trackio": _begin_trackio,
    "wandb": _begin_wandb,
    "mlflow": _begin_mlflow,
}
