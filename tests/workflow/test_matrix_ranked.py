"""What makes a matrix's leaderboard another one: every file that it may depend on, wherever that lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
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
