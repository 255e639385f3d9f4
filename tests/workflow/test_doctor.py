"""What the doctor says of this machine, and of machines where a part is missing or broken."""

from __future__ import annotations

import shutil
import socket
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from slmbench.cli import main
from slmbench.errors import TrustError
from slmbench.foreign import decode_json
from slmbench.machine import Accelerator
from slmbench.workflow import doctor

GPU = Accelerator("2.9", "NVIDIA H200", 2, 150_000_000_000, "12.8", True, 16)


def _fails(error: BaseException) -> Any:
    def fail(*_: object, **options: object) -> object:
        raise error

    return fail


def _found(name: str) -> list[tuple[str, str, str]]:
    return [(one.status, one.said, one.mend) for one in doctor.diagnose().findings if one.name == name]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without the sandbox's own probe, which takes a quarter of a second."""
    monkeypatch.setattr(doctor, "_PROBES", {key: value for key, value in doctor._PROBES.items() if key != "sandbox"})
    return monkeypatch


def test_this_machine_has_what_slmbench_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found: Any = decode_json(capsys.readouterr().out.encode(), "-")
    assert found["ok"] and found["versions"]["torch"] == metadata.version("torch")
    names = [one["name"] for one in found["findings"]]
    for name in ("packages", "declarations", "GPU", "CPU", "4-bit weights", "llama.cpp", "hub", "memory"):
        assert names.count(name) == 1
    assert names.count("sandbox") == 1 and names.count("disk") == 3


def test_a_package_that_is_missing_or_too_old_is_broken_and_says_what_to_install(
    quick: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = metadata.version

    def asked(name: str) -> str:
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "trl" else version(name)

    quick.setattr(metadata, "version", asked)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "broken   packages: peft isn't installed\n         mend: " in out
    assert "broken   packages: trl is 0.1; slmbench needs >=" in out and "-m pip install 'trl>=" in out
    assert out.endswith("2 broken: slmbench needs that\n")


def test_a_torch_that_can_not_be_imported_is_told_and_the_other_probes_go_on(quick: pytest.MonkeyPatch) -> None:
    quick.setattr(doctor, "accelerator", _fails(OSError("libcudart.so.12: cannot open shared object file")))
    found = doctor.diagnose()
    assert not found.ok
    assert [one.said for one in found.findings if one.status == "broken"] == [
        "OSError: libcudart.so.12: cannot open shared object file"
    ]
    assert found.findings[-1].name == "memory"


def test_a_gpu_is_told_with_its_memory_and_what_four_bits_need_there(quick: pytest.MonkeyPatch) -> None:
    quick.setattr(doctor, "accelerator", lambda: GPU)
    quick.setattr(doctor, "bitsandbytes_libraries", lambda: ["libbitsandbytes_cpu.so"])
    assert _found("GPU") == [("ok", "2 x NVIDIA H200, 150 GB, CUDA 12.8, bfloat16", "")]
    ((status, said, mend),) = _found("4-bit weights")
    assert (status, "it has: libbitsandbytes_cpu.so" in said) == ("limited", True) and "bitsandbytes" in mend
    quick.setattr(doctor, "bitsandbytes_libraries", lambda: None)
    assert _found("4-bit weights")[0][1].startswith("bitsandbytes isn't installed")


def test_a_driver_without_a_torch_for_it_is_told(quick: pytest.MonkeyPatch) -> None:
    quick.setattr(doctor, "accelerator", lambda: Accelerator("2.9+cpu", None, 0, None, None, False, 2))
    quick.setattr(shutil, "which", lambda name: f"/bin/{name}")
    ((status, said, mend),) = _found("GPU")
    assert (status, "torch was built without CUDA" in said, "nvidia-smi" in mend) == ("limited", True, True)
    assert _found("CPU")[0][1].endswith("no bfloat16")
    assert _found("llama.cpp")[0][0] == "ok"


def test_without_a_sandbox_only_code_tasks_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = TrustError("nothing here can jail them (bubblewrap: no). Install bubblewrap (apt install bubblewrap)")
    monkeypatch.setattr(doctor, "open_sandbox", _fails(refused))
    monkeypatch.setattr(doctor, "_PROBES", {"sandbox": doctor._PROBES["sandbox"]})
    assert _found("sandbox") == [
        (
            "limited",
            "code tasks don't run: nothing here can jail them (bubblewrap: no).",
            "Install bubblewrap (apt install bubblewrap)",
        )
    ]
    assert doctor.diagnose().ok


def test_mirror_hub_and_disk_are_looked_at(quick: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quick.setattr(doctor, "_PROBES", {key: doctor._PROBES[key] for key in ("mirror", "disk and memory")})
    quick.setenv("SLMBENCH_DATA", str(tmp_path / "none"))
    quick.delenv("HF_HUB_OFFLINE")
    quick.setattr(socket, "create_connection", _fails(OSError("Network is unreachable")))
    assert _found("mirror")[0][0] == "broken" and "HF_HUB_OFFLINE=1" in _found("hub")[0][2]
    quick.setenv("SLMBENCH_DATA", str(tmp_path))
    assert _found("mirror")[0][0] == "limited"
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "models" / "someone--tiny").mkdir(parents=True)
    assert _found("mirror")[0][1].startswith("1 data sets and 1 models in ")
    full = shutil.disk_usage(tmp_path)._replace(free=1_000_000_000)
    quick.setattr(shutil, "disk_usage", lambda folder: full)
    assert [one[0] for one in _found("disk")] == ["limited"] * 3
    quick.setattr(doctor, "available_bytes", lambda device: None)
    assert _found("memory")[0][0] == "limited"


def test_declarations_that_can_not_be_read_are_broken(quick: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "registry" / "models").mkdir(parents=True)
    (tmp_path / "registry" / "models" / "nano.yaml").write_text("summary: Another.\n")
    quick.setenv("SLMBENCH_PATH", str(tmp_path))
    ((status, said, mend),) = _found("declarations")
    assert (status, "'nano' is defined twice" in said, "SLMBENCH_PATH" in mend) == ("broken", True, True)
