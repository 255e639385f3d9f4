"""What makes a matrix's leaderboard another one: every file that it may depend on, wherever that lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slmbench.catalog import Catalog, default_catalog
from slmbench.installed import PluginModule
from slmbench.workflow import matrix_ranked
from slmbench.workflow.matrix_ranked import MatrixRanking


def test_a_run_on_another_disk_is_looked_at_through_its_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_ranked, "_SETTLED_NS", 0)
    catalog, out, disk = default_catalog(), tmp_path / "out", tmp_path / "disk"
    (disk / "one").mkdir(parents=True)
    record = disk / "one" / "run.json"
    record.write_text("{}")
    out.mkdir()
    os.symlink(disk, out / "runs")
    os.symlink(out, disk / "back")  # Which leads round and round.

    def ranking() -> MatrixRanking:
        return MatrixRanking(str(out), "matrix", {}, catalog)

    ranking().keep()
    assert ranking().is_there()
    record.write_text("[]")
    assert not ranking().is_there()
    ranking().keep()
    assert ranking().is_there()
    record.unlink()
    assert not ranking().is_there()


def test_all_that_a_ranking_may_depend_on_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_ranked, "_SETTLED_NS", 0)
    monkeypatch.setattr(matrix_ranked, "package_dir", lambda: str(tmp_path / "slmbench"))  # Whose files are many.
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path / "data"))
    files = (
        "root/tasks/one/task.yaml",
        "root/tasks/one/helper.py",
        "root/tasks/one/rows/test.jsonl",
        "root/registry/datasets/rows.yaml",
        "root/registry/models/small.yaml",
        "root/plugins/metrics.py",
        "root/plugins/inner/words.py",
        "package/brings/deep/plugin.py",
        "package/brings/words.py",
        "data/rows/test.jsonl",
        "slmbench/rank.py",
    )
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("", encoding="utf-8")
    module = PluginModule("brings.deep.plugin", str(tmp_path / "package/brings/deep/plugin.py"), "brings", "1")
    catalog = Catalog([str(tmp_path / "root")], plugin_modules=[module])
    # An output folder may lie inside a task's: what changes there at each call is no change.
    out = tmp_path / "root/tasks/one/out"
    (out / "leaderboard").mkdir(parents=True)

    def ranking() -> MatrixRanking:
        return MatrixRanking(str(out), "matrix", {}, catalog)

    ranking().keep()
    assert ranking().is_there()
    changes = [lambda path=tmp_path / name: path.write_text("x", encoding="utf-8") for name in files]
    changes += [
        lambda: (tmp_path / "site/numpy-1.0.dist-info").mkdir(parents=True),
        lambda: os.rename(tmp_path / "site/numpy-1.0.dist-info", tmp_path / "site/numpy-1.1.dist-info"),
        lambda: monkeypatch.setenv("SLMBENCH_BERTSCORE", "elsewhere"),
    ]
    for number, change in enumerate(changes):
        change()
        assert not ranking().is_there(), number
        ranking().keep()
        assert ranking().is_there()
    (tmp_path / "root/.git").mkdir()
    (tmp_path / "root/other").write_text("", encoding="utf-8")
    assert ranking().is_there()
