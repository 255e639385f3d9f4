"""What is freed between layers stays with the process; counted in the pages that the system has to make anew."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource, sys, torch
from slmbench.machine import Freed, treat_freed
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages
for threshold in (-1, -3):
    ctypes.CDLL(None).mallopt(threshold, 131072)  # glibc's own, before any adjusting
kept = False
for phase in sys.argv[1].split(","):
    if phase != "leave":
        kept = treat_freed(Freed[phase])
def layer():
    return len([torch.ones(1_000_000) for _ in range(8)])
layer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    layer()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
FOREIGN = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
A_LAYER = 8 * 4_000_000 // resource.getpagesize()


def pages(what: str, **variables: str) -> tuple[str, int]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | variables
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, what], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    kept, count = done.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_freed_blocks_are_not_taken_from_the_system_again() -> None:
    assert pages("leave")[1] > 10 * A_LAYER
    kept, count = pages("KEPT")
    assert kept == "True"
    assert count < 2 * A_LAYER


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_a_persons_own_setting_stays() -> None:
    kept, count = pages("KEPT", MALLOC_TRIM_THRESHOLD_="131072")
    assert kept == "False"
    assert count > 10 * A_LAYER


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_what_the_last_phase_asks_for_holds_as_in_a_sweep_that_trains_and_scores_by_turns() -> None:
    assert pages("KEPT,GIVEN_BACK")[1] > 10 * A_LAYER
    assert pages("KEPT,GIVEN_BACK,KEPT")[1] < 2 * A_LAYER
