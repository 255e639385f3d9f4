"""Wall time and peak memory of the installed `slmbench quickstart`, without a network where the system allows that.

python benchmarks/quickstart.py
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_S = 150
LIMIT_BYTES = 1_500_000_000


def main() -> None:
    slmbench = shutil.which("slmbench", path=str(Path(sys.executable).parent)) or shutil.which("slmbench")
    assert slmbench, "install slmbench first"
    offline = ["unshare", "-rn"]
    if subprocess.run([*offline, "true"], capture_output=True).returncode:
        offline = []
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run([*offline, slmbench, "quickstart"], cwd=folder, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - started
        assert done.returncode == 0, f"quickstart ended with {done.returncode}"
        print(done.stdout)
    # The largest single process below this one; in bytes on macOS, in KiB elsewhere.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"network: {'none (unshare -rn)' if offline else 'left as it is'}; cores: {os.cpu_count()}")
    print(f"quickstart: {seconds:.0f} s, {seconds / LIMIT_S:.2f} of the {LIMIT_S} s allowed")
    print(f"peak memory: {peak / 1e9:.2f} GB, {peak / LIMIT_BYTES:.2f} of the {LIMIT_BYTES / 1e9:.1f} GB allowed")
    sys.exit(seconds > LIMIT_S or peak > LIMIT_BYTES)


if __name__ == "__main__":
    main()
