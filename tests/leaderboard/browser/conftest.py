"""One Chromium for all tests of the page, and two pages: of a few models with hostile texts, and of three hundred."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve

from slmbench.leaderboard import build_leaderboard, load_runs, measures_of, set_beside, write_leaderboard
from slmbench.published import published_numbers
from slmbench.schema import PublishedSpec
from tests.leaderboard.conftest import make_run

ATTACK = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><!--<script>"
MODELS = 300


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield made
        made.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Any]]:
    """visit(folder, address, **context) -> a tab that shows the page; what goes wrong in it fails the test.

    Wrong is: an error or a warning in the console, as of the content security policy, and any request but for the page
    and its own data files. `tab.faults` may be emptied by a test that provokes some.
    """
    opened = []

    def go(folder: Path, address: str = "", **context: Any) -> Any:
        made = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
        tab = made.new_page()
        tab.set_default_timeout(10_000)
        tab.faults = []
        index = (folder / "index.html").resolve().as_uri()
        own = (index, (folder / "data").resolve().as_uri() + "/")
        tab.on("console", lambda said: tab.faults.append(said.text))
        tab.on("pageerror", lambda error: tab.faults.append(str(error)))
        tab.on("request", lambda asked: None if asked.url.startswith(own) else tab.faults.append(asked.url))
        opened.append((made, tab))
        tab.goto(index + address)
        return tab

    yield go
    faults = [fault for _, tab in opened for fault in tab.faults]
    for made, _ in opened:
        made.close()
    assert faults == []


@pytest.fixture(scope="session")
def picture() -> Callable[[Any, str], None]:
    """picture(tab, name): a screenshot in the folder that SLMBENCH_SCREENSHOTS names; nothing without it."""

    def take(tab: Any, name: str) -> None:
        if folder := os.environ.get("SLMBENCH_SCREENSHOTS"):
            tab.screenshot(path=os.path.join(folder, f"{name}.png"))

    return take


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models on tasks: one of two metrics, one that two of them have, one clustered and asked in two ways, and
    one with hostile texts."""
    out = tmp_path_factory.mktemp("few")
    chance = random.Random(3)

    def draw(share: float, n: int = 40) -> list[float]:
        return [float(chance.random() < share) for _ in range(n)]

    models = [("base", None, 0.4), ("base", "tuned", 0.8), (ATTACK, None, 0.5)]
    for place, (model, adapter, share) in enumerate(models):
        common = {"model": model, "adapter": adapter, "out": out}
        samples = [{"output": f"The answer of {place} is {at} or so."} for at in range(40)]
        scores = {"exact_match/strict": draw(share), "rouge1": [chance.random() for _ in range(40)]}
        make_run(run_id=f"sums-{place}", scores=scores, task="sums", samples=samples, chance=0.25, **common)
        wards = [f"ward {at // 5}" for at in range(40)]
        verdicts = [{"verdict": ("failed", "timed out", "failed")[at % 3]} for at in range(12)]
        if place < 2:
            make_run(run_id=f"code-{place}", scores=[0.0] * 10 + [1.0] * 2, task="code", samples=verdicts, **common)
        make_run(run_id=f"notes-{place}", scores=draw(share), task="notes", clusters=wards, **common)
        make_run(
            run_id=f"chat-{place}", scores=draw(share), task="notes", key="chat", changes={"format": "chat"}, **common
        )
        choices = {"choices": [ATTACK, "__proto__"], "loglikelihoods": [-1.0, -2.5], "gold": 1, "output": ATTACK}
        odd = [{"item_id": "__proto__", "prompt": ATTACK, "target": ATTACK, "finish_reason": ATTACK, **choices}]
        odd.append({"output": "\ud800\u2028\u202e" + "long " * 300_000})
        make_run(run_id=f"odd-{place}", scores=draw(share, 3), task="__proto__", samples=odd, limit=3, **common)
    runs, notices = load_runs(out)
    board = build_leaderboard(runs, "few", notices=notices)
    said = {
        "source": "owner/name at 0123abc, README",
        "counted": "five samples an item, the best of them",
        "task": "sums",
    }
    wrong = {"fault": ATTACK, "in_files": {"value": 52.5, "source": "the same, notebook.ipynb"}}
    entries = [
        {"value": 0.75, "metric": "exact_match/strict", "adapter": "tuned"},
        {"value": 91.51, "unit": "percent", "metric": "exact_match/strict", **wrong},
        {"value": [90, 94], "unit": "percent", "metric": "other", "called": "accuracy", "model": "a larger one"},
    ]
    numbers = published_numbers([PublishedSpec.model_validate({**said, **entry}) for entry in entries], "base")
    # What was written here has no recipe.
    numbers = [evolve(one, making=None) for one in numbers]
    beside = set_beside(board, {run.run_id: run for run in runs}, numbers)
    board = evolve(board, published=beside, measures=measures_of(board, runs, ["sums", "code"], {}))
    write_leaderboard(board, runs, out / "leaderboard")
    return out / "leaderboard"


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred models on two tasks of eight items."""
    out = tmp_path_factory.mktemp("many")
    chance = np.random.default_rng(5)
    for task in ("sums", "notes"):
        make_run(out, task, [0.0, 1.0] * 4, task=task)
    written, _ = load_runs(out)
    runs = []
    for place in range(MODELS):
        millions = (135, 360, 1500)[place % 3]
        model = {
            "name": f"{('oak', 'elm', 'ash')[place % 3]}-{millions}m-{place:03}",
            "parameters": millions * 1_000_000,
        }
        for run in written:
            scores = (chance.random(8) < place / MODELS).astype(np.float32)
            record = {**run.record, "run_id": f"{run.run_id}-{place}", "model": {**run.record["model"], **model}}
            items = evolve(run.items, scores={"exact_match/strict": scores})
            runs.append(evolve(run, record=record, items=items))
    write_leaderboard(build_leaderboard(runs, "many"), runs, out / "leaderboard")
    return out / "leaderboard"
