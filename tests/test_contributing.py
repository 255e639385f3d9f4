"""Holds CONTRIBUTING.md and docs/architecture.md to the tree: what they name is there, where they say."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import slmbench
from slmbench.cli import COMMANDS
from slmbench.formats import format_names
from slmbench.headers import own_headers
from slmbench.metrics import metric_headers

TOP = Path(__file__).resolve().parent.parent
TEXT = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8") if (TOP / "CONTRIBUTING.md").is_file() else ""


@pytest.mark.parametrize(
    "named",
    sorted(
        {
            one
            for one in re.findall(r"`([\w./<>-]+/[\w./<>-]*|[\w.-]+\.(?:py|md|ini))`|\]\(([\w./-]+)\)", TEXT)
            for one in one
            if one
        }
    ),
)
def test_a_file_that_is_named_to_contributors_is_there(named: str) -> None:
    if not (TOP / "CONTRIBUTING.md").is_file():
        pytest.skip("only in a checkout")
    # `<name>` stands for a thing to be added: others of its kind are there.
    assert list(TOP.glob(re.sub(r"<\w+>", "*", named))), f"CONTRIBUTING.md names {named}"


def test_things_are_in_the_files_that_contributors_are_told_of() -> None:
    metrics = {Path(header.path).parent.name for header in metric_headers()}
    formats = {Path(header.path).name for header in own_headers("format")}
    merges = {Path(header.path).parts[-3:]: header.name for header in own_headers("merge_method")}
    assert metrics == {"metrics"}
    assert merges == {("merging", "methods", f"{name}.py"): name for name in merges.values()}
    assert formats == {f"{name}.py" for name in format_names()}
    assert {Path(header.path).name for header in own_headers("engine")} == {
        f"{header.name}.py" for header in own_headers("engine")
    }
    assert [name for name in COMMANDS if not (TOP / "slmbench" / "cli" / f"{name}.py").is_file()] == []


ADDED = {
    "metrics/same_length.py": """\
from slmbench.registry import metric


@metric("same_length", summary="Whether the answer is as long as the reference.", version="1", binary=True)
def same_length(output, references):
    return float(len(output) == len(references[0]))
""",
    "formats/shouted.py": """\
from slmbench.registry import format


@format("shouted", summary="The prompt in capitals.", version="1")
def shouted(prompt, tokenizer):
    return prompt.user.upper(), " "
""",
    "merging/methods/first.py": """\
from slmbench.registry import merge_method


@merge_method("first", summary="The first model alone.", version="1")
def first(tensors, base, weights):
    return tensors[0].float()
""",
    "engines/silent.py": """\
from slmbench.registry import engine


@engine("silent", summary="Writes nothing.", version="1")
def silent(loaded, options, seed):
    raise ValueError("it is silent")
""",
}
ASKED = """
from slmbench.formats import load_format
from slmbench.metrics import load_scorer
from slmbench.registry import find
from slmbench.values import Example, Output, Prompt

item = Example(id="1", fields={}, answer="cd", references=("cd",))
print(load_scorer("same_length").score(item, Output(text="ab")))
print(load_format("shouted").render(Prompt(user="a question"), None)[0])
print([find(kind, name).name for kind, name in (("merge_method", "first"), ("engine", "silent"))])
"""


def test_what_is_added_in_the_one_file_that_contributors_are_told_of_is_listed_and_works(tmp_path: Path) -> None:
    package = Path(slmbench.__file__).parent
    shutil.copytree(package, tmp_path / "slmbench", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for path, text in ADDED.items():
        assert re.search(rf"`slmbench/{Path(path).parent.as_posix()}/<name>.py`", TEXT) or not TEXT
        (tmp_path / "slmbench" / path).write_text(text)
    there = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path)}, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-m", "slmbench", "list", "--json"], check=True, **there)
    assert {Path(path).stem for path in ADDED} <= {entry["name"] for entry in json.loads(done.stdout)}
    done = subprocess.run([sys.executable, "-c", ASKED], check=False, **there)
    assert done.stdout.splitlines() == [
        "{'same_length': 1.0}",
        "A QUESTION",
        "['first', 'silent']",
    ], done.stderr


@pytest.mark.parametrize("name", ["architecture.py", "records.py"])
def test_what_is_generated_of_the_docs_is_of_this_code(name: str) -> None:
    script = TOP / "docs" / name
    if not script.is_file():
        pytest.skip("only in a checkout")
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_slow_test_is_there() -> None:
    defined = {
        f"{path.relative_to(TOP).as_posix()}::{node.name}"
        for path in (TOP / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert set((TOP / "tests" / "slow.txt").read_text(encoding="utf-8").split()) - defined == set()
    long = (TOP / "tests" / "long.txt").read_text(encoding="utf-8").splitlines()
    assert {name.partition("[")[0] for name in long} - defined == set()
    # One that CI leaves out has something that CI runs beside it, in the same file.
    alone = {name.partition("::")[0] for name in long} - {name.partition("::")[0] for name in defined - set(long)}
    assert alone == set()


def test_the_environment_of_llama_cpp_runs_all_that_needs_it() -> None:
    if not (TOP / "tox.ini").is_file():
        pytest.skip("only in a checkout")
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(TOP / "tox.ini")
    asked = re.split(r"[\s{}]+", tox["testenv:llamacpp"]["commands"].replace("{/}", "/"))
    marked = [path for path in (TOP / "tests").rglob("test_*.py") if "pytest.mark.llamacpp" in path.read_text()]
    own = Path(__file__)
    assert {path.relative_to(TOP).as_posix() for path in marked if path != own} == {
        one for one in asked if one.startswith("tests/")
    }


def test_mypys_environment_has_every_package_whose_types_it_follows() -> None:
    if not (TOP / "tox.ini").is_file():
        pytest.skip("only in a checkout")
    mypy = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    skipped = {
        module.split(".")[0]
        for one in mypy["overrides"]
        if one.get("ignore_missing_imports")
        for module in one["module"]
    }
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(TOP / "tox.ini", encoding="utf-8")
    installed = {
        name.removeprefix("types-").lower().replace("pyyaml", "yaml") for name in tox["testenv:types"]["deps"].split()
    }
    imported = {
        name.split(".")[0]
        for path in (TOP / "slmbench").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    theirs = imported - set(sys.stdlib_module_names) - {"slmbench", "__future__"}
    assert {"torch", "pydantic"} <= theirs
    assert theirs - skipped - installed == set()


def test_every_file_that_is_begun_first_is_there() -> None:
    listed = (TOP / "tests" / "longest.txt").read_text(encoding="utf-8").split()
    assert listed and [name for name in listed if not (TOP / name).is_file()] == []


def test_the_version_to_cite_is_the_one_to_install() -> None:
    if not (TOP / "CITATION.cff").is_file():
        pytest.skip("only in a checkout")
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = yaml.safe_load((TOP / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])


def test_the_oldest_versions_are_those_that_the_package_asks_for() -> None:
    if not (TOP / "constraints-minimum.txt").is_file():
        pytest.skip("only in a checkout")
    asked = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for name in ("constraints.txt", "constraints-minimum.txt"):
        lines = [line for line in (TOP / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        pinned = {canonicalize_name(one): version for one, version in (line.split("==") for line in lines)}
        for one in map(Requirement, asked):
            version = pinned[canonicalize_name(one.name)]
            assert version in one.specifier, f"{name}: {one.name}"
            if name == "constraints-minimum.txt":
                floor = next(it.version for it in one.specifier if it.operator in (">=", "=="))
                assert f"{version}.".startswith(f"{floor}."), f"{name} has {one.name} {version}, pyproject.toml {floor}"
