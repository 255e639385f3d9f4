from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmbench.catalog import KINDS, Catalog, default_catalog, summary_of
from slmbench.errors import DeclarationError, UsageError
from slmbench.task import load_task
from slmbench.yamlfile import parse_yaml, read_yaml

WriteTask = Callable[..., Path]


def test_every_bundled_declaration_is_listed_with_its_summary() -> None:
    catalog = default_catalog()
    for kind in KINDS:
        entries = catalog.entries(kind)
        assert entries or kind in ("loaders", "engines"), kind
        for entry in entries:
            assert entry.summary and not entry.summary.startswith("("), (kind, entry.name, entry.summary)
            of_code = kind in ("metrics", "engines", "merge_methods") or entry.name in ("plain", "chat", "toon")
            assert os.path.isfile(entry.path) == (not of_code), (kind, entry.name)


def test_the_nano_family_is_bundled() -> None:
    assert {"nano_arithmetic", "nano_note", "nano_choice", "gsm8k", "hellaswag"} <= set(
        default_catalog().files("tasks")
    )


def test_folders_of_slmbench_path_are_looked_up_too(
    write_task: WriteTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested = write_task("mine", root=tmp_path / "a")
    direct = tmp_path / "b" / "yours"
    direct.mkdir(parents=True)
    (direct / "task.yaml").write_text("summary: x\nversion: 1\n")
    monkeypatch.setenv("SLMBENCH_PATH", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b"), ""]))
    files = default_catalog().files("tasks")
    assert files["mine"] == str(nested / "task.yaml")
    assert files["yours"] == str(direct / "task.yaml")
    assert "nano_note" in files


def test_a_folder_of_slmbench_path_that_is_none_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path / "no"))
    with pytest.raises(UsageError, match=r"SLMBENCH_PATH names .*no', which is not a folder"):
        default_catalog()


def test_a_name_that_is_defined_twice_names_both_files(
    write_task: WriteTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_task("same", root=tmp_path / "a")
    write_task("same", root=tmp_path / "b")
    write_task("gsm8k", root=tmp_path / "b")
    monkeypatch.setenv("SLMBENCH_PATH", os.pathsep.join(["a", "b"]))
    with pytest.raises(DeclarationError) as caught:
        default_catalog().files("tasks")
    messages = [str(problem) for problem in caught.value.problems]
    same = os.path.join("b", "tasks", "same", "task.yaml")
    first = os.path.join("a", "tasks", "same", "task.yaml")
    assert f"{same}: task 'same' is defined twice: here and in {first}; rename one" in messages
    assert any("task 'gsm8k' is defined twice" in message for message in messages)
    assert len(messages) == 2


def registry(root: Path, name: str, yaml: str, kind: str = "datasets") -> Path:
    path = root / "registry" / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml)
    return path


OWN = "summary: My own.\nlocal: [train, test]\ncolumns: [question, answer]\n"


@pytest.mark.parametrize(
    "line", ["replaces: true", "replaces: True", "replaces:    true  # a comment", "replaces: yes"]
)
def test_a_data_set_that_says_so_stands_in_for_the_bundled_one(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = registry(tmp_path, "gsm8k", OWN + line + "\n")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    catalog = default_catalog()
    assert catalog.find("datasets", "gsm8k") == str(mine)
    (entry,) = [entry for entry in catalog.entries("datasets") if entry.name == "gsm8k"]
    assert (entry.summary, entry.path) == ("My own.", str(mine))
    assert load_task("gsm8k", catalog).dataset.spec.local == ["train", "test"]


@pytest.mark.parametrize(
    "line", ["", "replaces: false", "# replaces: true", "license: |\n  x\n  replaces: true", "replaces: [true]"]
)
def test_a_data_set_that_does_not_say_so_clashes_with_the_bundled_one(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry(tmp_path, "gsm8k", OWN + line + "\n")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    with pytest.raises(DeclarationError, match=r"dataset 'gsm8k' is defined twice: here and in .*; rename one"):
        default_catalog().files("datasets")


def test_two_data_sets_that_both_stand_in_clash(tmp_path: Path) -> None:
    for name in ("base", "a", "b"):
        registry(tmp_path / name, "d", OWN + ("" if name == "base" else "replaces: true\n"))
    roots = [str(tmp_path / name) for name in ("base", "a", "b")]
    assert Catalog(roots[:2]).find("datasets", "d").startswith(roots[1])
    with pytest.raises(DeclarationError, match="defined twice") as caught:
        Catalog(roots).files("datasets")
    assert [str(problem).startswith(str(tmp_path / "b")) for problem in caught.value.problems] == [True]


def test_a_broken_declaration_stands_in_for_nothing(tmp_path: Path) -> None:
    registry(tmp_path / "base", "d", OWN)
    registry(tmp_path / "a", "d", "replaces: true\nlocal: [\n")
    with pytest.raises(DeclarationError, match="defined twice"):
        Catalog([str(tmp_path / "base"), str(tmp_path / "a")]).files("datasets")


def test_only_data_sets_stand_in_for_others(tmp_path: Path) -> None:
    for name, line in (("base", ""), ("a", "replaces: true\n")):
        registry(tmp_path / name, "s", "summary: s\ntasks: [nano_note]\n" + line, "suites")
    with pytest.raises(DeclarationError, match="suite 's' is defined twice"):
        Catalog([str(tmp_path / "base"), str(tmp_path / "a")]).files("suites")


def test_show_dataset_shows_the_one_that_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slmbench.cli import main

    registry(tmp_path, "gsm8k", OWN + "replaces: true\n")
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    assert main(["show", "dataset", "gsm8k"]) == 0
    said = capsys.readouterr().out
    assert "My own." in said
    assert "openai/gsm8k" not in said
    assert "replaces: true" in said


def test_the_same_folder_given_twice_is_no_clash(
    write_task: WriteTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task("once", root=tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.setenv(
        "SLMBENCH_PATH", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "a"), str(tmp_path / "link")])
    )
    assert "once" in default_catalog().files("tasks")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown task 'gsm8'; did you mean 'gsm8k'\?"):
        default_catalog().find("tasks", "gsm8")
    with pytest.raises(UsageError, match=r"unknown recipe 'nano-quikstart'; did you mean 'nano-quickstart'\?"):
        default_catalog().find("recipes", "nano-quikstart")
    with pytest.raises(UsageError, match=r"unknown kind 'taks'; did you mean 'tasks'\?"):
        default_catalog().entries("taks")


def test_listing_runs_no_plugin(write_task: WriteTask, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    write_task("evil", plugin=f"open({str(canary)!r}, 'w')\n")
    assert [entry.name for entry in Catalog([str(tmp_path)]).entries("tasks")] == ["evil"]
    assert not canary.exists()


def test_a_broken_declaration_is_listed_as_broken_and_hides_no_other(write_task: WriteTask, tmp_path: Path) -> None:
    write_task("bad", b"summary: [\n")
    write_task("good")
    write_task("latin", b"summary: caf\xe9\nversion: 1\n")
    listed = {entry.name: entry.summary for entry in Catalog([str(tmp_path)]).entries("tasks")}
    assert listed["good"] == "A task of the tests."
    assert listed["bad"].startswith("(broken: ")
    assert "not UTF-8" in listed["latin"]


def test_folders_that_are_no_tasks_are_passed_over(tmp_path: Path) -> None:
    for name in ("__pycache__", ".hidden", "notes"):
        (tmp_path / "tasks" / name).mkdir(parents=True)
    (tmp_path / "tasks" / ".hidden" / "task.yaml").write_text("summary: x\n")
    (tmp_path / "tasks" / "README.md").write_text("x")
    assert Catalog([str(tmp_path)]).files("tasks") == {}


def install(site: Path, name: str, entry_point: str, package: str, task: str) -> None:
    """A package that must not be imported, with a task folder in it and an entry point to it."""
    folder = site / package.replace(".", "/")
    (folder / task).mkdir(parents=True)
    (folder / task / "task.yaml").write_text(f"summary: From {package}.\nversion: 1\n")
    parts = package.split(".")
    for depth in range(len(parts)):
        (site.joinpath(*parts[: depth + 1]) / "__init__.py").write_text("raise RuntimeError('imported')\n")
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[console_scripts]\nx = y:z\n\n[slmbench.tasks]\n{entry_point}\n\n[other]\na = b\n"
    )


def test_tasks_of_installed_packages_are_found_without_running_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "flat", "flat = slm_flat_package", "slm_flat_package", "flat_task")
    install(tmp_path, "nested", "nested=slm_nested_package.some.tasks", "slm_nested_package.some.tasks", "nested_task")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = {entry.name: entry.summary for entry in default_catalog().entries("tasks")}
    assert entries["flat_task"] == "From slm_flat_package."
    assert entries["nested_task"] == "From slm_nested_package.some.tasks."
    assert not [name for name in sys.modules if name.startswith(("slm_flat_package", "slm_nested_package"))]


def test_tasks_of_a_namespace_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "spaced", "s = slm_spaced.tasks", "slm_spaced.tasks", "spaced_task")
    (tmp_path / "slm_spaced" / "__init__.py").unlink()
    (tmp_path / "slm_spaced" / "tasks" / "__init__.py").unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "spaced_task" in default_catalog().files("tasks")


def test_a_thousand_tasks_are_listed_within_a_second(tmp_path: Path) -> None:
    for i in range(1000):
        folder = tmp_path / "tasks" / f"task_{i}"
        folder.mkdir(parents=True)
        (folder / "task.yaml").write_text(
            f"summary: Number {i} of many, with a longer text.\nversion: 1\nkind: generate\n" + "# x\n" * 50
        )
    started = time.process_time()
    assert len(Catalog([str(tmp_path)]).entries("tasks")) == 1000
    assert time.process_time() - started < 1


def test_listing_imports_neither_pydantic_nor_anything_heavy() -> None:
    code = (
        "HEAVY = ('pydantic', 'attrs', 'jinja2', 'torch', 'transformers', 'datasets', 'lm_eval');"
        "import sys; from slmbench.catalog import KINDS, default_catalog; c = default_catalog();"
        "[c.entries(kind) for kind in KINDS];"
        "print([m for m in HEAVY if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SHAPES = [
    "summary: plain text\nversion: 1\n",
    "summary: plain text",
    "summary: plain text\n",
    "summary:   spaces   between   and after   \nversion: 1\n",
    'summary: it\'s "fine" so\nversion: 1\n',
    "summary: 'it''s quoted'\nversion: 1\n",
    'summary: "quoted: with # and \\n line"\nversion: 1\n',
    "summary: text # a comment\nversion: 1\n",
    "summary: text#no comment\nversion: 1\n",
    "summary: text\t# a comment after a tab\nversion: 1\n",
    "summary: a time 12:30 and c:d\nversion: 1\n",
    'summary: "with: colon"\nversion: 1\n',
    "summary: first\n  second\nversion: 1\n",
    "summary: first\n\n  second\nversion: 1\n",
    "summary: first\n\tsecond\nversion: 1\n",
    "summary:\n  on the next line\nversion: 1\n",
    "summary: |\n  a block\n  of two lines\nversion: 1\n",
    "summary: >-\n  folded\n  text\nversion: 1\n",
    "summary: !!str text\nversion: 1\n",
    "summary: &a text\nversion: 1\n",
    "summary: null\nversion: 1\n",
    "summary: No\nversion: 1\n",
    "summary: True \nversion: 1\n",
    "summary: ~\nversion: 1\n",
    "summary: 5\nversion: 1\n",
    "summary: 8.5K problems\nversion: 1\n",
    "summary: 5e3\nversion: 1\n",
    "summary: 1:30\nversion: 1\n",
    "summary: 2024-01-31 10:00:00\nversion: 1\n",
    "summary: 2024-01-31\nversion: 1\n",
    "summary:\nversion: 1\n",
    "summary: [a, b]\nversion: 1\n",
    "summary: {a: b}\nversion: 1\n",
    "summary: = \nversion: 1\n",
    "version: 1\nsummary: later\nkind: x\n",
    "version: 1\nkind: generate\nsummary: last",
    'source: "a text over\nsummary: no, inside\nlines"\nsummary: yes\nversion: 1\n',
    "source: |\n  text\n\n  summary: no\nsummary: yes\nversion: 1\n",
    "prompt:\n  summary: no\nsummary: yes\nversion: 1\n",
    "{summary: in braces,\nversion: 1}\n",
    "{\nsummary: in braces,\nversion: 1}\n",
    "# summary: no\n\nsummary: yes\nversion: 1\n",
    "---\nsummary: after a mark\nversion: 1\n",
    "'summary': quoted key\nversion: 1\n",
    "summary : space before\nversion: 1\n",
    "summary: text\n# comment\nversion: 1\n",
    "summary: text\n# one\n# two: with a colon\nversion: 1\n",
    "summary: text\n#no blank\n#\nversion: 1\n",
    "summary: text\n# comment\n  more\nversion: 1\n",
    "summary: text\n  # comment\nversion: 1\n",
    "summary: text\n# comment\n\nversion: 1\n",
    "summary: text\n\nversion: 1\n",
    "summary: text\n# comment\n",
    "summary: text\n# comment",
    "summary: text\n# \u2028version: 1\nkind: x\n",
    "summary: text\n#\x85  more\nversion: 1\n",
    "summary: text\n...\n",
    "version: 1\n",
    "",
    "summary: Ünïcödé “text” – 数学\nversion: 1\n",
    "summary: no\xa0break\nversion: 1\n",
    "summary: long " + "x" * 5000 + "\nversion: 1\n",
    "# " + "x" * 4080 + "\nsummary: cut in the middle of its line\nversion: 1\n",
    "version: 1\n" + "# x\n" * 2000 + "summary: far down\n",
]


def assert_same_summary(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    try:
        data = read_yaml(path).data
    except DeclarationError as error:
        wanted = f"(broken: {error.problems[0]})"
    else:
        summary = data.get("summary") if isinstance(data, dict) else None
        wanted = " ".join(summary.split()) if isinstance(summary, str) else "(no summary)"
    got = summary_of(str(path))
    # A header can be read where the rest can't.
    assert got == wanted or (wanted.startswith("(broken") and got != "(no summary)")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: repr(shape[:40]))
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_summary_is_what_yaml_says(shape: str, ending: str, start: bytes, tmp_path: Path) -> None:
    assert_same_summary(tmp_path / "x.yaml", start + shape.replace("\n", ending).encode())


@given(
    st.lists(
        st.sampled_from(
            [
                "summary: ",
                "summary:",
                "version: 1",
                "source: ",
                "text",
                "more words",
                "'",
                '"',
                "# c",
                " #c",
                ":",
                ": ",
                " ",
                "  ",
                "\n",
                "\n",
                "\n  ",
                "\n\n",
                "\r\n",
                "\t",
                "|",
                ">",
                "[",
                "]",
                "{",
                "}",
                ",",
                "-",
                "- ",
                "null",
                "yes",
                "é",
                "\u2028",
                "\x85",
                "&a ",
                "*a",
                "!x ",
                "...",
            ]
        ),
        max_size=14,
    ).map("".join)
)
def test_a_summary_of_any_sound_file_is_what_yaml_says(text: str) -> None:
    import tempfile

    try:
        parse_yaml(text.encode(), "x.yaml")
    except DeclarationError:
        return  # A header can be read where the rest can't.
    with tempfile.TemporaryDirectory() as folder:
        assert_same_summary(Path(folder) / "x.yaml", text.encode())
