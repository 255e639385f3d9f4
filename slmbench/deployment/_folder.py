"""The folder that an export makes: whole or not there, in the place of an older export only."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from slmbench.console import say
from slmbench.errors import UsageError
from slmbench.files import disk_errors, only_writer, restore_swapped, swap_folder
from slmbench.paths import shown

RECORD = "export.json"


def place_of(out: str, name: str, to: str) -> str:
    """Where an export is put. Raises UsageError if a folder is in the way that no export made."""
    place = os.path.join(out, "models", f"{name}-{to}")
    if os.path.isdir(place) and not os.path.isfile(os.path.join(place, RECORD)):
        raise UsageError(f"{shown(place)} already exists, and no export made it; give another --out")
    return place


@contextlib.contextmanager
def made_whole(place: str, name: str) -> Iterator[str]:
    """A new folder, which takes the name `place` at the block's end; nothing of it stays if the block raises."""
    shelf, last = os.path.split(place)
    restore_swapped(place)
    partial = os.path.join(shelf, f".{last}.partial")
    with only_writer(os.path.join(shelf, f".{last}.lock")):
        shutil.rmtree(partial, ignore_errors=True)
        with disk_errors(partial):
            os.makedirs(partial)
        try:
            yield partial
            with disk_errors(place):
                swap_folder(partial, place)
        except KeyboardInterrupt:
            left = "is as it was" if os.path.isdir(partial) else "is whole"
            there = os.path.isdir(place)
            say(f"{name}: interrupted; " + (f"{shown(place)} {left}" if there else "nothing of it is kept"))
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
