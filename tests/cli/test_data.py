"""`slmbench data`: files, tables and verdicts on stdout, progress and notes on stderr, 2 for a damaged mirror."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slmbench.catalog import default_catalog
from slmbench.cli.data import command
from slmbench.datasets import read_rows
from slmbench.errors import OfflineError, UsageError
from slmbench.recipe import suite_tasks


@pytest.fixture
def pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The result of `data pull gsm8k`, with a stand-in for the hub; the mirror is at tmp_path/mirror."""
    import datasets

    rows = [{"question": f"{i}?", "answer": f"So.\n#### {i}"} for i in range(3)]
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: rows)
    return CliRunner().invoke(command, ["pull", "gsm8k", "--to", str(tmp_path / "mirror")])


def test_pull_prints_files_on_stdout_and_progress_on_stderr(pulled: Any, tmp_path: Path) -> None:
    assert pulled.exit_code == 0, pulled.output
    assert [Path(line).name for line in pulled.stdout.splitlines()] == ["train.jsonl", "test.jsonl", "checksums.json"]
    assert "gsm8k: train, 3 rows" in pulled.stderr and "SLMBENCH_DATA=mirror" in pulled.stderr


def test_verify_of_a_sound_mirror_ends_with_0(pulled: Any, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["verify", str(tmp_path / "mirror")])
    assert result.exit_code == 0 and result.stdout.endswith("mirror: 2 files, ok\n")


def test_verify_takes_the_folder_of_slmbench_data(pulled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path / "mirror"))
    assert CliRunner().invoke(command, ["verify"]).exit_code == 0


def test_verify_of_a_damaged_mirror_ends_with_2_and_names_the_file(pulled: Any, tmp_path: Path) -> None:
    with open(tmp_path / "mirror" / "gsm8k" / "test.jsonl", "a", encoding="utf-8") as file:
        file.write("{oops\n")
    result = CliRunner().invoke(command, ["verify", str(tmp_path / "mirror"), "gsm8k", "--json"])
    assert result.exit_code == 2
    value = json.loads(result.stdout)
    assert value["ok"] is False and value["files"] == 2 and value["notices"] == []
    assert {problem["path"].rpartition("/")[2] for problem in value["problems"]} == {"test.jsonl"}
    assert 4 in {problem["line"] for problem in value["problems"]}
    result = CliRunner().invoke(command, ["verify", str(tmp_path / "mirror")])
    assert result.exit_code == 2 and "3 problems" in result.stdout


def test_a_hand_made_mirror_gets_a_note_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_text('{"question": "?", "answer": "1"}\n')
    result = CliRunner().invoke(command, ["verify", str(tmp_path)])
    assert result.exit_code == 0 and "columns checked only" in result.stderr and "note" not in result.stdout


def test_verify_without_a_folder_says_how_to_name_one() -> None:
    result = CliRunner().invoke(command, ["verify"])
    assert isinstance(result.exception, UsageError) and "SLMBENCH_DATA" in str(result.exception)


def test_pull_offline_is_an_offline_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["pull", "gsm8k", "--to", str(tmp_path)])
    assert isinstance(result.exception, OfflineError) and result.exception.exit_code == 4
    assert result.stdout == ""


GOLDEN = ["--data", "samples"]


def test_export_writes_one_tasks_file_and_says_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["export", "gsm8k", "--format", "toon", "--out", "rows.toon", *GOLDEN])
    assert result.exit_code == 0, result.output
    assert result.stdout == "rows.toon\n"
    size = (tmp_path / "rows.toon").stat().st_size
    assert result.stderr == f"gsm8k: 6 rows of split 'train' (golden rows), {size:,} bytes\n"
    assert len(read_rows("rows.toon")) == 6


def test_export_refuses_to_write_over_a_file(tmp_path: Path) -> None:
    arguments = ["export", "gsm8k", "--format", "jsonl", "--out", str(tmp_path / "rows.jsonl"), *GOLDEN]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    again = CliRunner().invoke(command, arguments)
    assert isinstance(again.exception, UsageError) and "--force" in str(again.exception)
    assert CliRunner().invoke(command, [*arguments, "--limit", "2", "--force"]).exit_code == 0
    assert len(read_rows(str(tmp_path / "rows.jsonl"))) == 2


def test_export_of_the_toon_suite_writes_a_table_for_each_of_its_tasks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["export", "--suite", "healthcare-toon", "--format", "toon", "--out", str(out), *GOLDEN]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    tasks = suite_tasks(default_catalog(), "healthcare-toon")
    assert len(tasks) == 5 and [Path(line).name for line in result.stdout.splitlines()] == [f"{t}.toon" for t in tasks]
    for task in tasks:
        path = out / f"{task}.toon"
        assert path.read_text(encoding="utf-8").startswith("rows[") and len(read_rows(str(path))) >= 4


def test_export_of_several_tasks_leaves_nothing_where_one_can_not_be_had(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(command, ["export", "nano_note", "gsm8k", "--format", "chat", "--out", str(out)])
    assert isinstance(result.exception, OfflineError) and not out.exists()


def test_export_takes_the_mode_of_the_chain_of_thought(tmp_path: Path) -> None:
    out = str(tmp_path / "rows.jsonl")
    result = CliRunner().invoke(
        command, ["export", "gsm8k", "--format", "jsonl", "--out", out, "--cot", "off", *GOLDEN]
    )
    assert result.exit_code == 0 and "reasoning" not in read_rows(out)[0]
    result = CliRunner().invoke(
        command, ["export", "nano_note", "--format", "jsonl", "--out", out, "--cot", "off", *GOLDEN]
    )
    assert isinstance(result.exception, UsageError) and "--cot" in str(result.exception)


def test_only_what_is_about_evaluated_splits_says_which_split_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "arc_easy").mkdir()
    row = {"id": "x", "question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"}
    (tmp_path / "arc_easy" / "validation.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    monkeypatch.setenv("SLMBENCH_DATA", str(tmp_path))
    note = "arc_easy: evaluated on split 'validation', as the mirror lacks its own\n"
    assert CliRunner().invoke(command, ["tokens", "arc_easy"]).stderr == note
    out = ["--format", "jsonl", "--split", "validation", "--out", str(tmp_path / "rows.jsonl")]
    result = CliRunner().invoke(command, ["export", "arc_easy", *out])
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("arc_easy: 1 rows of split 'validation' (mirror), ")
    assert read_rows(str(tmp_path / "rows.jsonl")) == [
        {"question": "?", "choice_1": "a", "choice_2": "b", "answer": "a"}
    ]


def test_export_still_says_which_tasks_a_mode_leaves_alone(tmp_path: Path) -> None:
    arguments = ["export", "gsm8k", "nano_note", "--format", "chat", "--out", str(tmp_path), "--cot", "off", *GOLDEN]
    assert "--cot leaves nano_note alone" in CliRunner().invoke(command, arguments).stderr


def test_export_says_which_tasks_can_be_named() -> None:
    result = CliRunner().invoke(command, ["export", "--format", "toon", "--out", "x.toon"])
    assert isinstance(result.exception, UsageError) and "--suite" in str(result.exception)
    result = CliRunner().invoke(command, ["export", "gsm9k", "--format", "toon", "--out", "x.toon"])
    assert isinstance(result.exception, UsageError) and "did you mean 'gsm8k'" in str(result.exception)


def test_tokens_prints_a_table_and_says_where_toon_costs_more() -> None:
    result = CliRunner().invoke(command, ["tokens", "commonsense_qa", "openbookqa"])
    assert result.exit_code == 0, result.output
    caption, forms, header, first, second, *said = result.stdout.splitlines()
    assert caption.endswith("in the tokenizer of nano.") and "20 at once" in forms
    assert header.split()[:8] == ["task", "rows", "from", "plain", "chat", "instruction", "json", "toon"]
    assert first.split()[:3] == ["commonsense_qa", "5", "golden"] and second.split()[0] == "openbookqa"
    assert max(map(len, (header, first, second))) <= 120
    assert "toon never costs more than JSON, many at once" in said
    assert any(line.startswith("toon costs more than plain text, a record alone: openbookqa ") for line in said)


def test_tokens_json_is_an_array_alone_on_stdout() -> None:
    result = CliRunner().invoke(command, ["tokens", "--suite", "nano", "--n", "5", "--json"])
    value = json.loads(result.stdout)
    assert [one["task"] for one in value] == suite_tasks(default_catalog(), "nano")
    assert all(one["rows"] == 5 and one["model"] == "nano" and one["source"] == "generated" for one in value)
