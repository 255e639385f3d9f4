"""Progress bars on stderr: a moving line for a person, a line now and then for a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

LOG_EVERY_S = 15.0


def progress(title: str, total: int) -> Callable[[int], object]:
    """A bar of `total` steps; the result is called with how many more are done. It closes itself at the end."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        bar = tqdm(total=total, desc=title, file=sys.stderr, dynamic_ncols=True, leave=True)

        def advance(n: int) -> None:
            bar.update(n)
            if bar.n >= total:
                bar.close()

        return advance
    started = last = time.monotonic()
    done = 0

    def log(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if done >= total or now - last >= LOG_EVERY_S:
            last = now
            print(f"{title}: {done}/{total} in {now - started:.0f} s", file=sys.stderr, flush=True)

    return log
