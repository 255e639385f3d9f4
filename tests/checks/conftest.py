"""What the tests of the check share: a task's folder written and checked in one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.checks import CheckReport, check_task
from slmbench.lengths import Ruler


def _sums(start: int, n: int = 4) -> list[dict[str, Any]]:
    return [{"question": f"{i}+1?", "answer": f"{i + 1}"} for i in range(start, start + n)]


def _options(start: int, n: int = 4) -> list[dict[str, Any]]:
    return [
        {"question": f"{i}+1 is", "options": [f"{i}, as it was", f"{i + 1}!", f"{i + 2} and more"], "label": 1}
        for i in range(start, start + n)
    ]


@pytest.fixture(scope="session")
def nano_ruler(nano_tokenizer: Any) -> Ruler:
    """The embedded model's tokenizer and context."""
    return Ruler("nano", nano_tokenizer, 1024)


@pytest.fixture
def check(tmp_path: Path, nano_ruler: Ruler, task_yaml: str) -> Callable[..., CheckReport]:
    """check(yaml, train=, test=, samples=, plugin=, **options) writes a task's folder and checks it.

    Without rows it writes sums or, for a choice task, sums with options.
    """

    def run(
        yaml: str = task_yaml,
        *,
        train: Any = None,
        test: Any = None,
        samples: Any = None,
        plugin: str | None = None,
        name: str = "sums",
        **options: Any,
    ) -> CheckReport:
        make = _options if "kind: choice" in yaml else _sums
        folder = tmp_path / name
        folder.mkdir()
        (folder / "task.yaml").write_text(yaml, encoding="utf-8")
        for file, rows in (("train", train or make(0)), ("test", test or make(50)), ("samples", samples or make(90))):
            text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
            if text != "absent":
                (folder / f"{file}.jsonl").write_text(text, encoding="utf-8")
        if plugin is not None:
            (folder / "plugin.py").write_text(plugin, encoding="utf-8")
        options = {"trust": True, "ruler": nano_ruler} | options
        return check_task(str(folder), default_catalog(), **options)

    return run
