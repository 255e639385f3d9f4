"""What the machine has, as a record or a scheduler is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmbench.machine import gpus, hardware, packages, processors


def test_gpus_are_those_that_cuda_would_see(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
    driver = str(tmp_path)
    assert gpus({}, driver) == ("0", "1", "2")
    assert gpus({"CUDA_VISIBLE_DEVICES": "2,GPU-8f"}, driver) == ("2", "GPU-8f")
    assert gpus({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, driver) == ("1",)
    assert gpus({"CUDA_VISIBLE_DEVICES": ""}, driver) == ()
    assert gpus({}, str(tmp_path / "none")) == ()


def test_what_is_told_without_torch_is_what_a_record_says() -> None:
    assert processors() == (hardware()["cpu"], hardware()["gpu"])


def test_packages_are_those_of_where_python_looks_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = packages()
    assert before["torch"] and before.pop("vllm", None) != "1.2.3"
    (tmp_path / "vllm-1.2.3.dist-info").mkdir()
    (tmp_path / "vllm-1.2.3.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 1.2.3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert packages() == {**before, "vllm": "1.2.3"}
    monkeypatch.undo()
    packages()["torch"] = "0"  # Who was told may do with it what it likes.
    assert packages()["torch"] == before["torch"]
