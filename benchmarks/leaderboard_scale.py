"""A leaderboard of hundreds of models: seconds, memory, and the size of its page, beside what is wanted of them.

    python benchmarks/leaderboard_scale.py [--models 200] [--tasks 20] [--items 500] [--columns 46] [--large 1000x10000]

Runs are made without a model (`_synthetic.py`) in a temporary folder, about 2.4 GB for the default and 7 GB for the
large one; --large 0x0 leaves that out. `slmbench leaderboard` is run on them as a person runs it, in a process of its
own: twice, as what the first call leaves beside the runs may help the second. The peer is what people do with such
files: pandas reads every samples.jsonl and takes means, without an interval, a test or a check of anything. The page is
opened and sorted in Chromium by playwright; these lines are left out if there is none.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

GOAL_S, GOAL_MB = 15, 500
LARGE_S, LARGE_MB = 10, 1000
PANDAS = """
import glob, sys, pandas as pd
for path in glob.glob(sys.argv[1] + "/runs/*/samples.jsonl"):
    pd.json_normalize(pd.read_json(path, lines=True)["scores"].tolist()).mean()
"""


class Nodes(HTMLParser):
    """Counts the nodes of a page: elements, and texts that aren't blank."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.count += 1

    def handle_data(self, data: str) -> None:
        self.count += bool(data.strip())


def measured(command: list[str]) -> tuple[float, float, float]:
    """(seconds, seconds of CPU, peak memory in MB) of a command, its children apart."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}: {said.decode()[-2000:]}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def make(out: Path, **shape: int) -> None:
    """Runs, by a process of its own: a command's memory is at least that of the process that starts it."""
    options = [text for name, value in shape.items() for text in (f"--{name}", str(value))]
    script = Path(__file__).with_name("_synthetic.py")
    subprocess.run([sys.executable, str(script), str(out), *options], check=True, stdout=subprocess.DEVNULL)


def told(what: str, value: str, goal: str) -> None:
    print(f"{what:64s} {value:>28s}   {goal}", flush=True)


def rank(runs: Path, out: Path, what: str, goal: str) -> None:
    command = [sys.executable, "-m", "slmbench", "leaderboard", str(runs), "--out", str(out)]
    for call in ("first call", "again"):
        seconds, cpu, peak = measured(command)
        told(f"{what}, {call}", f"{seconds:.1f} s ({cpu:.1f} s CPU), {peak:.0f} MB", goal)


def page(path: Path) -> None:
    nodes = Nodes()
    nodes.feed(path.read_text(encoding="utf-8"))
    told("its index.html", f"{path.stat().st_size / 1e6:.2f} MB", "1 MB")
    told("nodes in it", f"{nodes.count:,}", "5,000")
    with suppress(ImportError):
        from playwright.sync_api import Error, sync_playwright

        try:
            with sync_playwright() as started:
                chromium = next(
                    (one for one in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(one).exists()), None
                )
                browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                shown = browser.new_page()
                begun = time.monotonic()
                shown.goto(path.resolve().as_uri())
                shown.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
                told("opened in Chromium", f"{time.monotonic() - begun:.2f} s", "1 s")
                sorted_ms = shown.evaluate(
                    """() => new Promise(done => {
                        const heads = document.querySelectorAll('thead button');
                        if (heads.length < 2) { done(null); return; }
                        const begun = performance.now();
                        heads[1].click();
                        requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begun)));
                    })"""
                )
                if sorted_ms is not None:
                    told("sorted by its second column", f"{sorted_ms:.0f} ms", "100 ms")
                browser.close()
        except Error as error:
            print(f"no browser: {str(error).splitlines()[0]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("models", 200), ("tasks", 20), ("items", 500), ("columns", 46)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--large", default="1000x10000", help="runs x items of one task")
    parser.add_argument(
        "--folder", type=Path, help="where the runs are made, in place of the system's temporary folder"
    )
    asked = parser.parse_args()
    shape = {name: getattr(asked, name) for name in ("models", "tasks", "items", "columns")}
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        place = Path(made)
        make(place / "runs-of-many", **shape)
        what = (
            f"leaderboard of {asked.models} models x {asked.tasks} tasks x {asked.items} items, {asked.columns} columns"
        )
        rank(place / "runs-of-many", place / "page", what, f"{GOAL_S} s, {GOAL_MB} MB")
        seconds, cpu, peak = measured([sys.executable, "-c", PANDAS, str(place / "runs-of-many")])
        told(
            "pandas: read_json and mean of the same runs, nothing else",
            f"{seconds:.1f} s ({cpu:.1f} s CPU), {peak:.0f} MB",
            "",
        )
        page(place / "page" / "index.html")
    runs, _, items = asked.large.partition("x")
    if int(runs) and int(items):
        with tempfile.TemporaryDirectory(dir=asked.folder) as made:
            place = Path(made)
            make(place / "large", models=int(runs), tasks=1, items=int(items), columns=1, chars=100)
            rank(
                place / "large",
                place / "page",
                f"leaderboard of {runs} runs x {items} items",
                f"{LARGE_S} s, {LARGE_MB} MB",
            )


if __name__ == "__main__":
    main()
