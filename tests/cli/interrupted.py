"""Commands that get a signal, one after another in one process, which imports what is heavy once.

    python tests/cli/interrupted.py < cases.jsonl

A case: {"arguments": [...], "event": null | "open" | "os.rename", "part": "...", "signal": "SIGINT"}. At the first one
with `part` in the path that it names, the process gets the signal; without an event whoever started this may send it.
After a case its exit code is told on stderr, as `case: 130`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from slmbench.cli import main

waits: list[dict[str, Any]] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if waits and event == waits[0]["event"] and waits[0]["part"] in str(arguments[0]):
        os.kill(os.getpid(), getattr(signal, waits.pop()["signal"]))


sys.addaudithook(watch)
for line in sys.stdin:
    case = json.loads(line)
    waits[:] = [case] if case["event"] else []
    code = main(case["arguments"])
    print(f"case: {code}", file=sys.stderr, flush=True)
