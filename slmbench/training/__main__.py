"""One of the processes that make a training together: it finds its call in a folder, and leaves word there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from slmbench.console import Console, using, watching
from slmbench.errors import SlmbenchError
from slmbench.interrupts import interruptible
from slmbench.training._launch import (
    CALL,
    PROGRESS,
    STARTED,
    TrainingCall,
    outcome_name,
    outcome_of,
    read_word,
)
from slmbench.training._prepare import Phases
from slmbench.training._team import Team
from slmbench.training._train import prepared_for, train_prepared

PARENT_POLL_S = 0.5
LONGEST_WAIT = timedelta(hours=12)
"""For the others: those that are gone are noticed at once, by their connection or by the parent."""


def main(folder: str, parent: int) -> int:
    """Makes its part of the training. Returns the exit code: 0 if it came to its end, or was asked to end.

    parent: the process that started it, by its number: it may be gone before this one can ask who it was.
    """
    _end_with(parent)
    os.dup2(2, 1)  # What a library prints is no data.
    said = read_word(folder, CALL)
    rank = int(os.environ["RANK"])
    with using(Console(live=said["live"] and rank == 0)), interruptible():
        # Nothing is put in order when the others are ended because one has died: this is not that person's Ctrl-C.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            team = _joined(rank, said["processes"])
            with contextlib.ExitStack() as stack:
                if team.leads:
                    stack.enter_context(watching(_teller(folder)))
                _train(TrainingCall.of_json(said), team, folder)
        except KeyboardInterrupt:
            _leave(folder, outcome_name(rank), {"interrupted": True})
        except Exception as error:
            _leave(folder, outcome_name(rank), outcome_of(error, time.time()))
            if rank and not isinstance(error, SlmbenchError):
                traceback.print_exc()  # Into its log, whose last lines are told.
            return 1
    return 0


def _train(asked: TrainingCall, team: Team, folder: str) -> None:
    phases = Phases(asked.name)
    prepared = prepared_for(asked, team, phases)

    def started(checkpoints: str, steps: int) -> None:
        _leave(folder, STARTED, {"checkpoints": checkpoints, "steps": steps})

    train_prepared(asked, prepared, team, phases, started)


def _joined(rank: int, processes: int) -> Team:
    """This process in the group of all. Raises SlmbenchError if they aren't as many as they have to be."""
    import torch

    backend = "nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, timeout=LONGEST_WAIT)
    world = torch.distributed.get_world_size()
    if world != processes or torch.distributed.get_rank() != rank:
        raise SlmbenchError(f"process {rank} is one of {world}, and the training is of {processes}")
    return Team(rank, processes)


def _teller(folder: str) -> Callable[[str, int], None]:
    def tell(what: str, n: int) -> None:
        # What is told of progress is worth no error, as of a full disk.
        with contextlib.suppress(OSError), open(os.path.join(folder, PROGRESS), "a", encoding="utf-8") as file:
            file.write(f"{n} {what}\n")

    return tell


def _leave(folder: str, name: str, value: object) -> None:
    with contextlib.suppress(OSError):
        path = os.path.join(folder, f".{name}.{os.getpid()}")
        Path(path).write_text(json.dumps(value), encoding="utf-8")
        os.replace(path, os.path.join(folder, name))


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: nobody else would, and another one may begin the training again."""

    def end_if_gone() -> None:
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch() -> None:
        while True:
            end_if_gone()
            time.sleep(PARENT_POLL_S)

    end_if_gone()
    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
