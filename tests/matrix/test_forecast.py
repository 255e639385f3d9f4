"""What jobs will take: items counted without reading data sets whole, times what past runs took an item."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.machine import processors
from slmbench.matrix import Grid, PastCosts, load_grid

ROWS = {"gsm8k": 40, "boolq": 30}


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grid:
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path / "mirror"))
    for name, stem in (("gsm8k", "test"), ("boolq", "validation")):
        place = tmp_path / "mirror" / name
        place.mkdir(parents=True)
        (place / f"{stem}.jsonl").write_text("no row is read\n" * ROWS[name], encoding="utf-8")
    path = tmp_path / "grid.yaml"
    path.write_text(
        "summary: One model.\nmodels: [nano]\ntasks: [gsm8k, boolq, nano_note, arc_easy]\n", encoding="utf-8"
    )
    return load_grid(str(path), default_catalog())


def past(folder: Path, model: str, task: str, n: int, **cost: object) -> None:
    place = folder / "runs" / f"{model}__{task}__0123456789"
    place.mkdir(parents=True)
    cpu, gpu = processors()
    record = {
        "model": {"name": model},
        "dataset": {"n": n, "source": "mirror"},
        "limit": n,
        "hardware": {"cpu": cpu, "gpu": gpu},
        "status": "ok",
        "cost": cost,
    }
    (place / "run.json").write_text(json.dumps(record), encoding="utf-8")


def of(grid: Grid, costs: PastCosts, *tasks: str) -> tuple[float | None, int | None, int | None]:
    told = costs.forecast([cell for cell in grid.cells if cell.task in tasks])
    return told.seconds, told.tokens, told.items


def test_items_are_known_of_what_is_on_this_machine_before_anything_ran(grid: Grid) -> None:
    costs = PastCosts([], "", grid.items)
    assert of(grid, costs, "gsm8k") == (None, None, 40)
    assert of(grid, costs, "gsm8k", "boolq") == (None, None, 70)
    assert grid.items["nano_note"] is not None and grid.items["nano_note"] > 0  # Generated.
    assert of(grid, costs, "gsm8k", "arc_easy") == (None, None, None)  # Not here.


def test_a_run_of_few_items_tells_what_all_of_them_take(grid: Grid, tmp_path: Path) -> None:
    past(tmp_path, "nano", "gsm8k", 10, seconds=5.0, tokens_in=900, tokens_out=100, tokens_per_s=200.0)
    costs = PastCosts([str(tmp_path / "runs")], "", grid.items)
    seconds, tokens, items = of(grid, costs, "gsm8k")
    assert (seconds, tokens, items) == (4.0 + 40 * 0.5, 40 * 100, 40)
    # Of a task that nothing ran on, an item is as one of the others.
    assert of(grid, costs, "gsm8k", "boolq") == (4.0 + 70 * 0.5, 70 * 100, 70)
    assert of(grid, costs, "boolq") == (None, None, 30)


def test_another_models_tokens_and_this_ones_speed_tell_the_time_of_a_task_that_it_never_ran(
    grid: Grid, tmp_path: Path
) -> None:
    past(tmp_path, "nano", "gsm8k", 10, seconds=5.0, tokens_in=900, tokens_out=100, tokens_per_s=200.0)
    past(tmp_path, "other", "boolq", 3, seconds=9.0, tokens_in=60, tokens_out=30, tokens_per_s=10.0)
    costs = PastCosts([str(tmp_path / "runs")], "", grid.items)
    assert of(grid, costs, "boolq") == (4.0 + 30 * 30 / 200.0, 30 * 30, 30)


def test_a_limit_bounds_the_items(grid: Grid, tmp_path: Path) -> None:
    path = tmp_path / "limited.yaml"
    path.write_text("summary: Few.\nmodels: [nano]\ntasks: [gsm8k, arc_easy]\nlimit: 35\n", encoding="utf-8")
    limited = load_grid(str(path), default_catalog())
    assert of(limited, PastCosts([], "", limited.items), "gsm8k", "arc_easy")[2] == 70
