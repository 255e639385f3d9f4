"""What docs/plugins.md shows is what slmbench does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

import slmbench
from slmbench.cli import main
from slmbench.formats import load_format
from slmbench.metrics._declared import INPUTS
from slmbench.registry import FACTS
from slmbench.task import load_task
from slmbench.values import Output

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
_FOUND = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
BLOCKS = dict(reversed(_FOUND))  # The first of each language; the second in Python is a merge method.
_, MERGE = (text for language, text in _FOUND if language == "python")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    task = tmp_path / "tasks" / "sums"
    task.mkdir(parents=True)
    (task / "plugin.py").write_text(BLOCKS["python"])
    (task / "task.yaml").write_text(BLOCKS["yaml"])
    (task / "samples.jsonl").write_text(
        "".join(f'{{"question": "{n} + 40", "answer": {n + 40}}}\n' for n in range(1, 7))
    )
    return tmp_path


def test_the_page_s_task_passes_check_and_its_commands_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in BLOCKS["sh"].splitlines():
        words = shlex.split(line)[1:]
        assert main([*words, "--limit", "2", "--out", "out"] if words[0] == "eval" else words) == 0, line
        said = capsys.readouterr().out
        if words[:2] == ["show", "task"]:
            assert "\n0 + 0 = [0]\n1 + 7 = [8]\n20 + 0 = [20]\n" in said
    assert "digits" in said


def test_the_page_s_functions_score_and_read_as_it_says(folder: Path) -> None:
    task = load_task("sums")
    example = task.examples("test")[0]
    assert [score.value for score in task.score(example, Output(text="21"))] == [0.5, 0.5]
    style = load_format("bracketed", task.plugins)
    assert style.read("20] and more", False) == "20"
    with pytest.raises(ValueError, match="no closing bracket"):
        style.read("20", False)


def test_the_page_s_merge_method_merges(folder: Path) -> None:
    import torch

    (folder / "plugins").mkdir()
    (folder / "plugins" / "merges.py").write_text("import slmbench\n\n" + MERGE)
    told = {"base": torch.ones(2), "weights": [1, 0.5], "lambda_": 2}
    made = slmbench.merge_tensors("sum_of_changes", [torch.tensor([2.0, 1]), torch.tensor([3.0, 0])], **told)
    assert made.tolist() == [5, 0]
    with pytest.raises(slmbench.SlmbenchError, match=r"lambda is a number in \(0, 2\]; got 3"):
        slmbench.merge_tensors("sum_of_changes", [torch.ones(2)], base=torch.ones(2), lambda_=3)


def test_the_page_names_every_parameter_and_argument() -> None:
    tables = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    for name in (*INPUTS, *FACTS["metric"], *FACTS["format"], *FACTS["merge_method"]):
        assert re.search(rf"`{name}\b", tables), name


def test_the_page_s_error_is_the_one_that_is_told(folder: Path) -> None:
    plugin = folder / "tasks" / "sums" / "plugin.py"
    plugin.write_text(plugin.read_text().replace("return right / wanted", "return float('nan')"))
    task = load_task("sums")
    with pytest.raises(Exception) as error:
        task.score(task.examples("test")[3], Output(text="21"))
    assert f"`{error.value}`" in PAGE


def test_every_block_of_the_page_is_held_to_something() -> None:
    assert set(BLOCKS) == {"python", "yaml", "sh", "toml"}
    assert len(re.findall(r"^```\w", PAGE, re.MULTILINE)) == len(_FOUND) == len(BLOCKS) + 1
    assert yaml.safe_load(BLOCKS["yaml"])["metrics"] == ["digits", "digits/pooled"]
    example = (
        Path(__file__).resolve().parents[2] / "examples" / "slmbench-task-example" / "pyproject.toml"
    ).read_text()
    assert all(line in example for line in BLOCKS["toml"].splitlines() if line.startswith("["))
