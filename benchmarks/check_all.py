"""Seconds of `slmbench check --all`, on the mirror's records where SLMBENCH_DATA names one, else on golden rows.

    python benchmarks/check_all.py

A whole process, wall time and CPU time; at most 60 seconds on two cores.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

AT_MOST_S = 60.0


def main() -> None:
    slmbench = shutil.which("slmbench", path=str(Path(sys.executable).parent)) or shutil.which("slmbench")
    assert slmbench, "install slmbench first"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    done = subprocess.run([slmbench, "check", "--all", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    reports = json.loads(done.stdout)
    sources = Counter(report["source"] or "none" for report in reports)
    print(f"check --all: {wall:.1f} s, {cpu:.1f} s CPU, on {os.cpu_count()} cores (at most {AT_MOST_S:.0f} s)")
    print(
        f"{len(reports)} tasks ({', '.join(f'{n} {source}' for source, n in sorted(sources.items()))}), "
        f"{sum(report['rows'] for report in reports):,} rows in plain, chat and toon, "
        f"{sum(not report['ok'] for report in reports)} with problems, "
        f"{sum('unchecked' in report['metrics'].values() for report in reports)} with a metric that can't work here"
    )
    sys.exit(wall > AT_MOST_S or done.returncode)


if __name__ == "__main__":
    main()
