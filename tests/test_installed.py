"""What packages bring: found without running them, and a broken one hides nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.checks import check_plugins
from slmbench.cli import main
from slmbench.errors import HookError
from slmbench.installed import brought, package_of
from slmbench.metrics import load_scorer
from slmbench.plugins import load_plugins
from slmbench.task import load_task

TASK = "summary: From a package.\nversion: 1\n"


def dist_info(site: Path, name: str, entry_points: str | bytes, version: str = "1.2") -> None:
    """What pip writes beside a package."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nWords.\n")
    data = entry_points if isinstance(entry_points, bytes) else entry_points.encode()
    (info / "entry_points.txt").write_bytes(data)


def write(site: Path, path: str, text: str = TASK) -> None:
    (site / path).parent.mkdir(parents=True, exist_ok=True)
    (site / path).write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of `sys.path`, as site-packages is."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


BROKEN = {
    "no equals sign": "just words",
    "nothing": "x =",
    "no package": "x = slm_not_there_at_all",
    "missing folder": "x = slm_broken.missing",
    "one file": "x = slm_one_file",
    "nothing in it": "x = slm_empty",
    "code": "x = slm_empty:TASKS",
    "a path": "x = ../../etc",
    "an address": "x = https://example.org/tasks",
    "a type": "x = slm_empty.data",
    "dots": "x = ..slm_broken..",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_entry_point_is_named_with_its_package_and_stops_nothing(
    how: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Import any of these, and the test ends.
    for package in ("slm_broken", "slm_empty"):
        write(site, f"{package}/__init__.py", "raise SystemExit('was imported')\n")
    write(site, "slm_broken/good/task.yaml")
    write(site, "slm_one_file.py", "def broken(:\n")
    (site / "slm_empty" / "data").mkdir()
    dist_info(site, f"odd-{how.replace(' ', '-')}", f"[slmbench.tasks]\n{BROKEN[how]}\ngood = slm_broken\n")
    assert main(["list", "tasks"]) == 0
    shown = capsys.readouterr()
    assert "good" in shown.out and "nano_note" in shown.out
    assert (
        f"warning: package odd-{how.replace(' ', '-')} 1.2: entry point {BROKEN[how]!r} of slmbench.tasks" in shown.err
    )
    assert "Traceback" not in shown.err
    assert not {name for name in sys.modules if name.startswith("slm_")}


def test_files_that_are_no_entry_points_are_passed_over(site: Path) -> None:
    dist_info(site, "latin", b"[slmbench.tasks]\nx = caf\xe9\n")
    dist_info(site, "empty", b"")
    (site / "bare-1.dist-info").mkdir()
    (site / "file-1.dist-info").write_text("no folder")
    assert not [one for one in brought() if one.package in ("latin", "empty", "bare", "file")]


def test_a_finder_of_another_package_that_fails_is_passed_over(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def find_spec(self, *_: object) -> None:
            raise ImportError("broken finder")

    write(site, "slm_found/mine/task.yaml")
    dist_info(site, "found", "[slmbench.tasks]\nx = slm_found\n")
    monkeypatch.setattr(sys, "meta_path", [Failing(), *sys.meta_path])
    assert "mine" in default_catalog().files("tasks")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("slm_whole", {"one", "two"}),
        ("slm_whole.tasks", {"one", "two"}),
        ("slm_whole:tasks", {"one", "two"}),
        ("slm_whole:anything", {"one", "two"}),
        ("slm_whole.tasks:TASKS", {"one", "two"}),
        ("slm_whole.tasks.one", {"one"}),
        ("slm_whole:tasks.two", {"two"}),
        ("slm_whole [extra]", {"one", "two"}),
    ],
)
def test_package_folder_task_folder_and_attribute_are_understood(value: str, names: set[str], site: Path) -> None:
    for name in ("one", "two"):
        write(site, f"slm_whole/tasks/{name}/task.yaml")
    dist_info(site, "whole", f"[slmbench.tasks]\nmine = {value}\n")
    files = default_catalog().files("tasks")
    assert {name for name, path in files.items() if "slm_whole" in path} == names
    assert all(package_of(files[name]) == ("whole", "1.2") for name in names)
    assert package_of(files["nano_note"]) is None


def test_a_package_brings_recipes_suites_data_sets_and_models_too(site: Path) -> None:
    for kind in ("models", "datasets", "recipes", "suites"):
        write(site, f"slm_all/registry/{kind}/slm_all_{kind}.yaml", f"summary: A {kind[:-1]} of a package.\n")
    dist_info(site, "all", "[slmbench.tasks]\nall = slm_all\n")
    catalog = default_catalog()
    for kind in ("models", "datasets", "recipes", "suites"):
        (entry,) = [entry for entry in catalog.entries(kind) if entry.name == f"slm_all_{kind}"]
        assert entry.summary == f"A {kind[:-1]} of a package."


def test_a_name_that_is_there_already_is_left_out_and_said(
    site: Path, write_task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write_task("sums")
    write(site, "slm_same/tasks/sums/task.yaml")
    write(site, "slm_same/tasks/gsm8k/task.yaml")
    write(site, "slm_same/registry/datasets/gsm8k.yaml", "local: [test]\nreplaces: true\n")
    dist_info(site, "same", "[slmbench.tasks]\nsame = slm_same\n")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    catalog = default_catalog()
    assert catalog.find("tasks", "sums") == str(own / "task.yaml")
    assert "slm_same" not in catalog.find("tasks", "gsm8k") and "slm_same" not in catalog.find("datasets", "gsm8k")
    said = capsys.readouterr().err
    assert "warning: task 'gsm8k' of " in said and "is left out: " in said


@pytest.mark.parametrize("how", ["no equals sign", "nothing", "no package", "missing folder", "a path", "dots"])
def test_a_broken_entry_point_of_plugins_is_named_with_its_package_and_stops_nothing(
    how: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(site, "slm_broken/__init__.py", "raise SystemExit")
    dist_info(site, f"slm-{how.replace(' ', '-')}", f"[slmbench.plugins]\n{BROKEN[how]}\n")
    assert main(["list", "metrics"]) == 0
    assert load_task("nano_note").name == "nano_note"
    assert f"package slm-{how.replace(' ', '-')} 1.2: entry point" in capsys.readouterr().err


def test_a_plugin_module_of_a_package_that_fails_stops_what_needs_it_alone(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registers = '@slmbench.metric("bad_kit_metric", summary="Never there.", version="1")\ndef it(output): ...\n'
    write(site, "kit_bad/__init__.py", "")
    write(site, "kit_bad/more.py", f"import slmbench\n\n{registers}\nraise SystemExit(3)\n")
    dist_info(site, "kit-bad", "[slmbench.plugins]\nx = kit_bad.more\n")
    plugins = load_plugins(default_catalog())
    said = "package kit-bad 1.2: kit_bad.more fails while loading: SystemExit: 3"
    assert f"warning: {said}" in capsys.readouterr().err
    with pytest.raises(HookError, match=said):
        load_scorer("bad_kit_metric", plugins)
    assert load_task("nano_note").name == "nano_note"
    [report] = check_plugins(default_catalog())
    assert [one.message for one in report.problems] == [said]
    assert main(["list", "metrics"]) == 0
    assert "bad_kit_metric        package kit-bad 1.2  Never there." in capsys.readouterr().out
