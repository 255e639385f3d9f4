"""`slmbench train` and what `run` shares with it: options, plans, what is kept and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import slmbench
from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.cli._group import build_group
from slmbench.errors import UsageError
from slmbench.models import held_as
from slmbench.runs import Run
from slmbench.task import load_task

RECIPE = """\
summary: A recipe of the tests.
model: nano
adapters:
  note: {tasks: [nano_note]}
optim: {lr: 5e-3, batch: 2, steps: 4, warmup_steps: 1}
rows: 12
max_tokens: 256
log_every_steps: 2
variants:
  wide: {rank: 32}
evaluation: {tasks: [nano_choice], limit: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return str(path)


def test_a_dry_run_tells_rows_steps_and_memory_and_trains_nothing(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", recipe, "--dry-run", "--out", str(tmp_path / "x"), "--set", "packing=true"]) == 0
    printed = capsys.readouterr()
    assert "nano on nano_note, 4 steps" in printed.out
    assert "lora, rank 16; 1 x 512 tokens, packed a step" in printed.out
    task, memory, time = printed.out.splitlines()[-3:]
    assert task.split()[:2] == ["nano_note", "12"]
    assert memory.startswith("  memory, forecast: ")
    assert time.startswith("  time, steps alone: about ")
    assert "contamination" in printed.err
    assert not (tmp_path / "x").exists()


def test_a_dry_run_refuses_what_the_training_would(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", recipe, "--dry-run", "--set", "max_tokens=5000"]) == 2
    assert "1024" in capsys.readouterr().err.replace(",", "")


def test_a_memory_limit_is_held_before_a_weight_is_loaded(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Few rows and short ones: each change that could help is gone through.
    small = ["--set", "optim.batch=1", "--set", "max_tokens=96", "--set", "rows=2"]
    assert main(["train", recipe, "--memory-limit", "0.001", *small, "--out", str(tmp_path / "x")]) == 2
    assert "GB" in capsys.readouterr().err
    assert not list((tmp_path / "x").rglob("*.safetensors"))


def test_each_log_step_is_a_line_and_the_folder_is_on_stdout(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "x")
    assert main(["train", recipe, "--out", out, "--variant", "wide"]) == 0
    printed = capsys.readouterr()
    folder = Path(out) / "adapters" / "note"
    assert printed.out == f"{folder}\n"
    assert "step 2/4" in printed.err and "step 4/4" in printed.err
    made = json.loads((folder / "training.json").read_text())
    assert (made["variant"], made["settings"]["lora"]["rank"]) == ("wide", 32)
    before = (folder / "training.json").stat().st_mtime_ns
    assert main(["train", recipe, "--out", out, "--variant", "wide"]) == 0
    assert (folder / "training.json").stat().st_mtime_ns == before
    assert main(["train", recipe, "--out", out, "--variant", "wide", "--no-resume"]) == 0
    assert (folder / "training.json").stat().st_mtime_ns != before


def test_a_twin_does_not_take_the_place_of_a_real_adapter(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "x" / "adapters" / "note"
    folder.mkdir(parents=True)
    (folder / "training.json").write_text(json.dumps({"model": "llama-3.2-1b-instruct", "settings": {"rows": None}}))
    for command in ("train", "run"):
        assert main([command, recipe, "--twin", "--out", str(tmp_path / "x")]) == 2
        assert "a twin would replace it; give another --out" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["training.json"]


def test_a_twin_without_a_mirror_shows_as_many_examples_as_golden_rows_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLMBENCH_DATA", raising=False)
    task = load_task("gsm8k", default_catalog(), data="twin")
    assert task.spec.fewshot.n == 5
    assert task.shot_count == len(task.rows("train").rows) // 2 > 0
    assert task.with_shots(1).shot_count == 1
    assert len(load_task("mmlu", default_catalog(), data="twin").examples("test")) > 0
    path = tmp_path / "shots.yaml"
    path.write_text(
        "summary: s\nmodel: nano\nadapters: {a: {tasks: [gsm8k]}}\noptim: {epochs: 1}\nevaluation: {tasks: [gsm8k]}\n",
        encoding="utf-8",
    )
    arguments = ["train", str(path), "--twin", "--dry-run", "--out", str(tmp_path / "x")]
    assert main([*arguments, "--set", "optim.steps=2"]) == 0
    assert "nano on gsm8k, 2 steps" in capsys.readouterr().out


def test_what_is_set_holds_for_a_twin_too(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", recipe, "--twin", "--dry-run", "--out", str(tmp_path / "x")]
    assert main([*arguments, "--set", "optim.steps=9", "--set", "rows=7"]) == 0
    printed = capsys.readouterr().out
    assert "9 steps" in printed
    task, memory, time = printed.splitlines()[-3:]
    assert task.split()[:2] == ["nano_note", "7"]
    assert memory.startswith("  memory, forecast: ")
    assert time.startswith("  time, steps alone: about ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variant", "wied"], "has no variant 'wied'; did you mean 'wide'?"),
        (["--set", "optim.lrr=1"], "unknown key 'lrr'; did you mean 'lr'?"),
        (["--twin", "--set", "optim.lrr=1"], "unknown key 'lrr'; did you mean 'lr'?"),
        (["--twin", "--set", "model=./nowhere"], "'./nowhere'"),
        (["--on-contamination", "ignore"], "'ignore' is not one of"),
        (["--memory-limit", "0"], "0"),
    ],
)
def test_wrong_options_are_told_and_nothing_is_trained(
    arguments: list[str], said: str, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("train", "run"):
        assert main([command, recipe, *arguments, "--out", str(tmp_path / "x")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_base_and_model_of_a_full_training_are_both_evaluated(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    arguments = ["run", recipe, "--set", "method=full", "--set", "optim.lr=1e-4", "--out", str(out), "--json"]
    assert main(arguments) == 0
    assert {row["name"] for row in json.loads(capsys.readouterr().out)["rows"]} == {"nano", "nano-note"}
    assert (out / "models" / "note" / "config.json").is_file()
    runs = [json.loads(path.read_text()) for path in out.glob("runs/*/run.json")]
    assert len({run["model"]["weights_sha256"] for run in runs}) == 2


def write_adapter(folder: Path, source: Path, **record: object) -> str:
    import shutil

    shutil.copytree(source, folder)
    told = json.loads((folder / "training.json").read_text())
    (folder / "training.json").write_text(json.dumps(told | record | {"record_sha256": None}))
    return str(folder)


def test_a_base_is_held_as_its_adapters_were_trained_on_it(recipe: str, tmp_path: Path) -> None:
    assert main(["train", recipe, "--out", str(tmp_path / "x"), "--set", "optim.steps=1"]) == 0
    plain = tmp_path / "x" / "adapters" / "note"
    assert held_as([str(plain)]) == ("float32", None)
    assert held_as([]) == ("auto", None)
    settings = json.loads((plain / "training.json").read_text())["settings"]
    packed = write_adapter(
        tmp_path / "packed", plain, settings=settings | {"method": "qlora", "quantization": {"double": False}}
    )
    dtype, quantization = held_as([packed])
    assert (dtype, quantization.type, quantization.double) == ("float32", "nf4", False)
    half = write_adapter(tmp_path / "half", plain, dtype="bfloat16")
    assert held_as([half, half]) == ("bfloat16", None)
    with pytest.raises(UsageError, match="held in different ways"):
        held_as([str(plain), packed])


@pytest.mark.parametrize(
    ("how", "held"),
    [(["dtype=bfloat16"], ("bfloat16", None)), (["method=qlora"], ("float32", "nf4+double"))],
    ids=["bfloat16", "qlora"],
)
def test_the_command_and_the_function_score_an_adapter_alike(
    recipe: str, how: list[str], held: tuple[str, str | None], tmp_path: Path
) -> None:
    out = str(tmp_path / "trained")
    settings = [word for one in how for word in ("--set", one)]
    assert main(["train", recipe, "--out", out, *settings]) == 0
    asked = ["--adapter", f"{out}/adapters/note", "--tasks", "nano_choice,nano_note", "--limit", "2", "--json"]
    done = CliRunner().invoke(build_group(), ["eval", "nano", *asked, "--out", str(tmp_path / "command")])
    told = json.loads(done.stdout)
    runs = slmbench.evaluate(
        "nano", "nano_choice,nano_note", adapter=f"{out}/adapters/note", limit=2, out=str(tmp_path / "function")
    )
    # The command scores the base, too, and first.
    assert [one["adapter"] is None for one in told] == [True, True, False, False]
    for one, run in zip(told[2:], runs, strict=True):
        assert (one["run_id"], one["metrics"]) == (run.run_id, run.record["metrics"])
        assert one["model"] == run.record["model"] and "forced_base" not in run.record["adapter"]
        there = Run(str(tmp_path / "command" / "runs" / run.run_id), one)
        assert list(map(scored, there.samples())) == list(map(scored, run.samples()))
    assert (runs[0].record["model"]["dtype"], runs[0].record["model"].get("quantization")) == held
    base = Run(str(tmp_path / "command" / "runs" / told[0]["run_id"]), told[0])
    assert list(map(scored, base.samples())) != list(map(scored, runs[0].samples()))


def scored(sample: dict[str, object]) -> dict[str, object]:
    return {key: sample[key] for key in ("item_id", "prompt", "output", "loglikelihoods", "scores")}


def test_a_metric_that_cannot_work_comes_to_light_before_anything_is_trained(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLMBENCH_BERTSCORE", raising=False)
    arguments = ["--data", "samples", "--set", "evaluation.tasks=[medquad]", "--out", str(tmp_path / "x")]
    assert main(["run", recipe, *arguments]) == 4
    assert "bertscore needs the model" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_an_adapter_of_other_weights_is_refused_before_the_base_is_scored(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", recipe, "--out", str(tmp_path / "x")]) == 0
    record = tmp_path / "x" / "adapters" / "note" / "training.json"
    changed = {"base_weights_sha256": "0" * 64, "record_sha256": None}
    record.write_text(json.dumps(json.loads(record.read_text()) | changed))
    capsys.readouterr()
    command = ["eval", "nano", "--adapter", str(record.parent), "--tasks", "nano_choice", "--limit", "2"]
    assert main([*command, "--out", str(tmp_path / "y")]) == 2
    printed = capsys.readouterr()
    assert "was trained on 'nano' with weights 000000000000" in printed.err
    assert "evaluate nano" not in printed.err and not list((tmp_path / "y").glob("**/*.json*"))
