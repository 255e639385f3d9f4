"""Free prompts of a recipe, answered by base and adapters; adapters that are scored on their own tasks alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import DeclarationError, UsageError
from slmbench.recipe import load_recipe
from slmbench.workflow.compare import compare
from slmbench.workflow.run import RunPlan, ready_run, run

RECIPE = """\
summary: Two adapters, each on its own task, and two prompts.
model: nano
format: instruction
adapters: {note: {tasks: [nano_note], steps: 1}, choice: {tasks: [nano_choice], steps: 1}}
optim: {batch: 2, warmup_steps: 0}
rows: 4
evaluation: {tasks: [nano_note, nano_choice], adapters_on: own, limit: 1, max_tokens: 8, metrics: [rouge, accuracy]}
prompts: ["Explain AGI in simple terms?", "Say <b>hello</b>.\\nTwice."]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of RECIPE."""
    folder = tmp_path_factory.mktemp("prompts")
    path = folder / "mine.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    catalog = default_catalog()
    board, _, failed = run(ready_run(RunPlan(recipe=str(path), out=str(folder / "out")), catalog), catalog)
    assert failed is None
    assert {column.task for column in board.columns} == {"nano_note", "nano_choice", "prompts"}
    return folder


def records(place: Path) -> dict[tuple[str, str], dict[str, object]]:
    read = [json.loads(path.read_text(encoding="utf-8")) for path in place.glob("out/runs/*/run.json")]
    return {((one.get("adapter") or {}).get("name", "base"), one["task"]["id"]): one for one in read}


def test_each_adapter_is_scored_on_its_own_task_and_all_answer_the_prompts(place: Path) -> None:
    assert set(records(place)) == {
        *(("base", task) for task in ("nano_note", "nano_choice", "prompts")),
        *(("note", task) for task in ("nano_note", "prompts")),
        *(("choice", task) for task in ("nano_choice", "prompts")),
    }


def test_prompts_are_sent_in_the_recipes_format_as_they_stand(place: Path) -> None:
    record = records(place)["note", "prompts"]
    path = place / "out" / "runs" / str(record["run_id"]) / "samples.jsonl"
    samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [sample["prompt"] for sample in samples] == [
        "### Instruction:\nExplain AGI in simple terms?\n\n### Response:\n",
        "### Instruction:\nSay <b>hello</b>.\nTwice.\n\n### Response:\n",
    ]
    assert all(sample["tokens_out"] <= 8 for sample in samples)
    assert all({"distinct_1", "distinct_2", "repeated_4grams"} == set(sample["scores"]) for sample in samples)
    assert record["dataset"]["source"] == "recipe"  # type: ignore[index]


def test_the_page_has_them_side_by_side_and_no_text_of_them_as_markup(place: Path) -> None:
    page = (place / "out" / "leaderboard" / "index.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="prompts">') :]
    assert "Explain AGI in simple terms?" in section
    assert [section.count(f"<figcaption>{name}</figcaption>") for name in ("nano", "nano + note", "nano + choice")] == [
        2,
        2,
        2,
    ]
    assert "&lt;b&gt;hello&lt;/b&gt;" in section and "<b>hello</b>" not in page
    assert "distinct-2" in section and "repeated 4-grams" in section


def test_their_runs_are_what_they_claim_and_can_be_scored_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = str(records(place)["base", "prompts"]["run_id"])
    assert main(["runs", "verify", str(place / "out")]) == 0
    assert main(["score", str(place / "out" / "runs" / run_id), "--out", str(place / "scored")]) == 0
    assert "distinct_1" in capsys.readouterr().out


def test_a_command_prints_the_answers_before_the_table(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(place / "mine.yaml"), "--out", str(place / "out")]) == 0
    out = capsys.readouterr().out
    assert out.index("Explain AGI") < out.index("nano + choice") < out.index("leaderboard")


def test_all_prompts_are_asked_whatever_the_limit_and_none_is_ranked(place: Path) -> None:
    assert {record["limit"] for key, record in records(place).items() if key[1] == "prompts"} == {None}
    board = json.loads((place / "out" / "leaderboard" / "leaderboard.json").read_text(encoding="utf-8"))
    cells = {key: cell for row in board["rows"] for key, cell in row["scores"].items() if key.startswith("prompts/")}
    assert set(cells) == {"prompts/distinct_1", "prompts/distinct_2", "prompts/repeated_4grams"}
    assert all("rank_low" not in cell and 0 <= cell["ci_low"] <= cell["ci_high"] <= 1 for cell in cells.values())
    runs = {key: str(place / "out" / "runs" / str(record["run_id"])) for key, record in records(place).items()}
    made = compare(runs["base", "prompts"], runs["note", "prompts"])
    assert made.gate == "inconclusive" and not any(metric.primary for metric in made.tasks[0].metrics)


def test_prompts_change_no_adapter(place: Path) -> None:
    recipe = load_recipe(str(place / "mine.yaml"), default_catalog())
    assert recipe.with_overrides({"prompts": ["another"]}).digest_of("note") == recipe.digest_of("note")


def test_an_adapter_without_a_task_of_its_own_among_the_evaluated_ones_is_refused(place: Path) -> None:
    plan = RunPlan(recipe=str(place / "other.yaml"), out=str(place / "none"))
    (place / "other.yaml").write_text(
        RECIPE.replace("[nano_note, nano_choice]", "[nano_note]").replace(", accuracy", "")
    )
    with pytest.raises(UsageError, match="is 'own', and no task that choice is trained on is evaluated"):
        ready_run(plan, default_catalog())


@pytest.mark.parametrize("prompts", ["[]x", '[""]', "[1]"])
def test_prompts_are_texts_with_something_in_them(tmp_path: Path, prompts: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(RECIPE[: RECIPE.index("prompts:")] + f"prompts: {prompts}\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match=r"bad\.yaml:\d+"):
        load_recipe(str(path), default_catalog())
