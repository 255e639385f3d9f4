"""Both jails run here as far as the machine has them; the plain one is required on Linux, never skipped."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from slmbench.sandbox import Program, Sandbox, Verdict

T = TypeVar("T")


def _tiers() -> list[object]:
    bwrap = shutil.which("bwrap")
    missing = [pytest.mark.skip(reason="bwrap is not installed")] if bwrap is None else []
    return [
        pytest.param(Sandbox("namespaces"), id="namespaces"),
        pytest.param(Sandbox("bubblewrap", bwrap and os.path.realpath(bwrap)), id="bubblewrap", marks=missing),
    ]


@pytest.fixture(params=_tiers())
def jail(request: pytest.FixtureRequest) -> Sandbox:
    if not sys.platform.startswith("linux"):
        pytest.skip("jails need Linux")
    return request.param


def shared_out(jail: Sandbox, programs: Iterable[T]) -> list[T]:
    """A jail's own of many programs: every fourth in bubblewrap, where each interpreter starts cold, else the others.

    How a program's tests are examined is the same code in both, so each is examined once.
    """
    there = shutil.which("bwrap") is not None
    return [one for i, one in enumerate(programs) if not there or (i % 4 == 0) == (jail.tier == "bubblewrap")]


@pytest.fixture
def judge(jail: Sandbox) -> Callable[..., Verdict]:
    """judge(code, tests, timeout_s=...) -> the verdict on one program, in every kind of jail."""

    def run(code: str, tests: str = "assert f(2) == 4", timeout_s: float = 10.0) -> Verdict:
        return jail.run([Program(code, tests)], timeout_s=timeout_s, workers=1)[0]

    return run


@pytest.fixture
def descendants() -> Iterator[Callable[[], set[int]]]:
    """descendants() -> the processes below this one that were not there before, orphans among them."""
    libc = ctypes.CDLL(None)
    libc.prctl(36, *map(ctypes.c_ulong, (1, 0, 0, 0)))  # PR_SET_CHILD_SUBREAPER: orphans become our children
    before = _below(os.getpid())
    yield lambda: _below(os.getpid()) - before
    libc.prctl(36, *map(ctypes.c_ulong, (0, 0, 0, 0)))


def _below(top: int) -> set[int]:
    parents = {}
    for entry in os.listdir("/proc"):
        try:
            state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            parents[int(entry)] = int(parent) if state != "Z" else 0
        except (OSError, ValueError):
            continue
    found, new = set(), {top}
    while new:
        found |= new
        new = {pid for pid, parent in parents.items() if parent in new} - found
    return found - {top}
