"""Runs programs that nobody vouched for, and tells whether they pass tests that they never see."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable

from attrs import field, frozen, validators

from slmbench.errors import SlmbenchError, TrustError

__all__ = ["Program", "Sandbox", "Verdict", "open_sandbox"]

# Nobody, without the host's files, alone with the jail's own first processes.
# The modules are read after root's rights are gone: a Python that was installed for root alone is of no use.
_PROBE = """
import dataclasses, decimal, heapq, json, math, os
decimal.Decimal(1)
def seen():
    return [os.getuid(), sorted({"etc", "proc"} & set(os.listdir("/"))), os.listdir("."), os.getppid() < 3]
"""
_PROBE_TESTS = "assert seen() == [65534, [], [], True]"


@frozen
class Program:
    """code: untrusted source. tests: trusted source that ends without an error if the program is right.

    Tests name what the program defines (`assert add(1, 2) == 3`, or a `check(candidate)` and `check(add)`); such names
    stand for calls into the program's own process.
    examine: "two_processes", or "in_process" for tests that can't do with such calls: they run in the program's process
    after it, which holds less (docs/code.md).
    """

    code: str
    tests: str
    examine: str = field(default="two_processes", validator=validators.in_(("two_processes", "in_process")))


@frozen
class Verdict:
    """What became of a program.

    status: "passed"; "failed", an assert or an error; "timed out"; "died", its process ended without an answer.
    detail: one printable line, short, empty if passed. seconds: wall time from the program's start.
    """

    status: str
    detail: str
    seconds: float


@frozen
class Sandbox:
    """A way to run programs apart. tier: bubblewrap, namespaces or unsafe; docs/code.md says what each gives up."""

    tier: str
    bwrap: str | None = None

    def run(self, programs: Iterable[Program], *, timeout_s: float = 3.0, workers: int | None = None) -> list[Verdict]:
        """Verdicts in the programs' order. Programs run side by side, each in a fresh jail, none sees another.

        timeout_s: wall time that each has. workers: how many at once, default as many as there are cores.
        A bar of `programs` moves with every finished one. Raises SlmbenchError if no jail can be made any more (never
        for what a program does), and leaves no process behind, interrupted or not.
        """
        from slmbench.sandbox import _hosts

        if not timeout_s > 0 or (workers is not None and workers < 1):
            raise ValueError(f"timeout_s is above 0 and workers at least 1, got {timeout_s} and {workers}")
        findings = _hosts.run_all(
            lambda: _hosts.start_host(self.tier, timeout_s, self.bwrap),
            [(program.code, program.tests, program.examine) for program in programs],
            timeout_s,
            workers or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)),
        )
        return [Verdict(finding.status, finding.detail, finding.seconds) for finding in findings]


def open_sandbox(*, allow_unsafe: bool = False) -> Sandbox:
    """The best tier that works here, tried with a program of its own: bubblewrap, else namespaces.

    allow_unsafe: without either, run programs as ordinary processes of this user, in the tier "unsafe".
    Raises TrustError if there is no tier.
    """
    reasons = []
    if sys.platform.startswith("linux"):
        bwrap = shutil.which("bwrap")
        tiers = [Sandbox("bubblewrap", os.path.realpath(bwrap))] if bwrap else []
        reasons += [] if bwrap else ["bubblewrap: there is no bwrap on the PATH"]
        for sandbox in [*tiers, Sandbox("namespaces")]:
            fault = _fault(sandbox)
            if fault is None:
                return sandbox
            reasons.append(f"{sandbox.tier}: {fault}")
    else:
        reasons.append(f"jails need Linux, this is {sys.platform}")
    if allow_unsafe and hasattr(os, "fork"):
        return Sandbox("unsafe")
    if allow_unsafe:
        raise TrustError(f"no program of a model can run here: it needs fork, which {sys.platform} lacks; use WSL")
    raise TrustError(
        "programs that a model wrote have to be run, and nothing here can jail them ("
        + "; ".join(reasons)
        + "). Install bubblewrap (apt install bubblewrap), or enable user namespaces (sysctl "
        "user.max_user_namespaces=10000; on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0; in Docker "
        "--security-opt seccomp=unconfined), or pass --allow-unsafe-code: then they run as you, with your files, "
        "environment and network, held by a clock and limits on memory and file size alone."
    )


def _fault(sandbox: Sandbox) -> str | None:
    """Why a tier does not work here; None if it does, and hides what it should."""
    try:
        (verdict,) = sandbox.run([Program(_PROBE, _PROBE_TESTS)], timeout_s=10, workers=1)
    except SlmbenchError as err:
        return str(err)
    if verdict.status == "passed":
        return None
    hint = ""
    if "No module named" in verdict.detail:
        hint = f"; can other users read the standard library in {sys.base_prefix}? chmod -R a+rX makes it so"
    return f"its probe {verdict.status}: {verdict.detail}{hint}"
