"""Where a training's result and its checkpoints lie, so that one with other settings never takes them away."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from slmbench.console import say
from slmbench.errors import FileError, SlmbenchError, UsageError
from slmbench.files import swap_folder
from slmbench.paths import shown
from slmbench.runs import TRAINING, read_training
from slmbench.training._checkpoints import newest_step
from slmbench.training._record import result_sha256

_SHORT = 12


@frozen
class TrainingFolders:
    """The folders of one training. place: of its kind; name: the adapter's; identity: sha256 of all that makes it."""

    place: str
    name: str
    identity: str

    @property
    def result(self) -> str:
        return os.path.join(self.place, self.name)

    @property
    def aside(self) -> str:
        """Where this very training's result is kept when one with other settings has taken its place."""
        return f"{self.result}-{self.identity[:_SHORT]}"

    @property
    def partial(self) -> str:
        return os.path.join(self.place, f".{self.name}-{self.identity[:_SHORT]}.partial")

    @property
    def checkpoints(self) -> str:
        return os.path.join(self.partial, "checkpoints")

    @property
    def finished(self) -> str:
        return os.path.join(self.partial, "finished")

    def is_there(self, beside: str | None = None) -> bool:
        """Whether this training's result is in its place; one that was set aside is put back.

        beside: a file that has to be there, too. A result without it was kept from a training that wasn't to leave it.
        """
        if is_finished(self.result, self.identity):
            if beside is None or os.path.isfile(os.path.join(self.result, beside)):
                return True
            say(f"{shown(self.result)} has no {beside}, so it is trained again")
            return False
        lacks = beside is not None and not os.path.isfile(os.path.join(self.aside, beside))
        if lacks or not is_finished(self.aside, self.identity):
            return False
        say(f"{shown(self.aside)} is what this training makes; it is put back")
        self.put(self.aside)
        return True

    def put(self, new: str) -> None:
        """Puts a finished folder in the result's place. What is there is set aside, unless it is this one, damaged."""
        other = _identity_of(self.result)
        if other is not None and other != self.identity:
            before = TrainingFolders(self.place, self.name, other)
            swap_folder(self.result, before.aside)
            say(f"{shown(self.result)} was made with other settings, and is kept as {shown(before.aside)}")
        elif other is not None and not is_finished(self.result, other):
            say(f"{shown(self.result)} was not as its training left it; it is made again")
        swap_folder(new, self.result)

    def tell_others(self) -> None:
        """A line for each unfinished training of this name with other settings, which stays as it is."""
        for folder, step in _unfinished(self.place, self.name):
            if folder != self.partial:
                say(
                    f"a training of {self.name!r} with other settings, rows or weights was left at step {step}; its "
                    f"command goes on from there, so {shown(folder)} stays until you remove it"
                )


def _unfinished(place: str, name: str) -> Iterator[tuple[str, int]]:
    """(folder, the step of its newest checkpoint) of each unfinished training of a name that has one."""
    pattern = re.compile(rf"\.{re.escape(name)}-[0-9a-f]{{{_SHORT}}}\.partial")
    for found in sorted(os.listdir(place) if os.path.isdir(place) else ()):
        folder = os.path.join(place, found)
        if pattern.fullmatch(found) and (step := newest_step(os.path.join(folder, "checkpoints"))) is not None:
            yield folder, step


def checkpoint_pattern(out: str, name: str) -> str:
    """What finds the checkpoints of an adapter that isn't finished, whatever its settings; names sort as steps do.

    out: the folder that `adapters/` and `models/` are in.
    """
    partial = f".{glob.escape(name)}-{'[0-9a-f]' * _SHORT}.partial"
    return os.path.join(glob.escape(out), "*", partial, "checkpoints", "step-*")


def refuse_foreign(folder: str) -> None:
    """Raises UsageError if something stands in an adapter's place that no training has put there."""
    if os.path.isdir(folder):
        if not os.listdir(folder) or os.path.isfile(os.path.join(folder, TRAINING)):
            return
    elif not os.path.lexists(folder):
        return
    raise UsageError(
        f"{shown(folder)} already exists, and no training wrote it (it has no training.json), so it is not "
        "replaced; move it away, or give another --out"
    )


def _identity_of(folder: str) -> str | None:
    """The identity in a result's record; if that can't be read, the record's own sha256. None without a record."""
    with contextlib.suppress(OSError, FileError):
        identity = read_training(folder).identity_sha256
        if identity is not None and re.fullmatch("[0-9a-f]{64}", identity):
            return identity
    with contextlib.suppress(OSError):
        return hashlib.sha256(Path(folder, TRAINING).read_bytes()).hexdigest()
    return None


def refuse_unwritable(place: str) -> None:
    """Raises SlmbenchError if nothing can be written to a folder, or to where it would be made."""
    there = os.path.abspath(place)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        why = "this user may not write there" if os.path.isdir(there) else "it is a file"
        raise SlmbenchError(f"{shown(there)}: {why}, and the adapters would go below it; give another --out")


@contextlib.contextmanager
def leaving_no_empty_folders(place: str) -> Iterator[None]:
    """If the block fails, the folders on the way to `place` that it made go again, as far as they are empty."""
    new, there = [], os.path.abspath(place)
    while not os.path.exists(there):
        new.append(there)
        there = os.path.dirname(there)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in new:
                os.rmdir(folder)
        raise


def is_finished(folder: str, identity: str) -> bool:
    """Whether a folder holds a whole adapter, or a whole model, of just this training."""
    try:
        record = read_training(folder)
        if record.identity_sha256 != identity or record.method is None or record.sha256 is None:
            return False
        return result_sha256(folder, record.method) == record.sha256
    except (OSError, FileError, UsageError):
        return False
