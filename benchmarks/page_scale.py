"""The leaderboard's page for hundreds of models: its size and nodes, and how fast it opens, sorts and shows an item.

    python benchmarks/page_scale.py [--models 200] [--tasks 20] [--items 100] [--columns 46]

Runs are made without a model (`_synthetic.py`) in a temporary folder, about half a GB for the default; the page is
written as `slmbench leaderboard` writes it and opened from the disk in Chromium by playwright. Times are medians of
five. Opened: from the start of the navigation to the end of the first frame that has the table in it. Sorted: from a
click on a column's head to the end of the layout of what it shows; an item is open when its texts are there, and what
it loads is what no earlier view had loaded. Nodes are elements and texts.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from _synthetic import write_runs

from slmbench.leaderboard import build_leaderboard, load_runs, write_leaderboard

GOAL_MB, GOAL_NODES, GOAL_OPEN_S, GOAL_SORT_MS = 1.0, 5000, 1.0, 100
TIMES = 5
SORT = """(at) => {
    const started = performance.now();
    document.querySelectorAll("thead button")[at].click();
    document.querySelector("table.grid").getBoundingClientRect();
    return performance.now() - started;
}"""
NODES = """() => {
    const walker = document.createTreeWalker(document, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    let found = 0;
    while (walker.nextNode()) found += 1;
    return found;
}"""
OPENED = """() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(
    document.querySelectorAll("table.grid tbody tr[data-row]").length ? performance.now() : NaN))))"""


class Nodes(HTMLParser):
    """Counts the elements of a page as it is written, and the texts in them that aren't blank."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.count += 1

    def handle_data(self, data: str) -> None:
        self.count += bool(data.strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("models", 200), ("tasks", 20), ("items", 100), ("columns", 46)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        shape = {"models": asked.models, "tasks": asked.tasks, "items": asked.items, "columns": asked.columns}
        for _ in write_runs(out, **shape):
            pass
        runs, notices = load_runs(out)
        board = build_leaderboard(runs, "synthetic", notices=notices)
        started = time.monotonic()
        write_leaderboard(board, runs, out / "leaderboard")
        seconds = time.monotonic() - started
        print(f"{len(board.rows)} models x {asked.tasks} tasks, {len(board.columns)} columns, {len(runs)} runs")
        report(out / "leaderboard", seconds)


def report(folder: Path, seconds: float) -> None:
    """Prints a line a figure."""
    index = folder / "index.html"
    written = Nodes()
    written.feed(index.read_text(encoding="utf-8"))
    data = [path.stat().st_size for path in (folder / "data").iterdir()]
    print(f"written with its data files: {seconds:.1f} s ({len(data)} files, {sum(data) / 1e6:.1f} MB)")
    print(f"index.html: {index.stat().st_size / 1e6:.2f} MB (goal: {GOAL_MB:g} MB)")
    print(f"nodes as written, for readers without a script: {written.count:,} (goal: {GOAL_NODES:,})")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium here: the page is not opened")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        opened = []
        for _ in range(TIMES):
            tab = browser.new_page(viewport={"width": 1400, "height": 900})
            tab.goto(index.as_uri())
            opened.append(tab.evaluate(OPENED))
        print(f"opens in {statistics.median(opened) / 1000:.2f} s (goal: {GOAL_OPEN_S:g} s)")
        print(f"nodes with the table open: {tab.evaluate(NODES):,} (goal: {GOAL_NODES:,})")
        heads = tab.locator("thead button").count()
        sorts = [tab.evaluate(SORT, at) for at in range(1, min(heads, 2 * TIMES))]
        print(f"sorts in {statistics.median(sorts):.0f} ms, at most {max(sorts):.0f} ms (goal: {GOAL_SORT_MS} ms)")
        show_item(tab)
        browser.close()


def show_item(tab: Any) -> None:
    loaded: list[str] = []
    tab.on("request", lambda asked: loaded.append(asked.url) if "/data/" in asked.url else None)
    tab.locator("tbody td.score a").first.click()
    started = time.monotonic()
    tab.locator(".detail pre, .detail .nothing").first.wait_for()
    took = (time.monotonic() - started) * 1000
    size = sum(Path(unquote(urlsplit(url).path)).stat().st_size for url in loaded)
    print(f"an item opens in {took:.0f} ms, for which {len(loaded)} files of {size / 1000:.0f} kB are loaded")


if __name__ == "__main__":
    main()
