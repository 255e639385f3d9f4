"""From a matrix's file to its cells and jobs: everything that it crosses, each once, all problems told together."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import slmbench.nano
from slmbench.catalog import default_catalog
from slmbench.errors import DeclarationError
from slmbench.matrix import EvaluationWork, Grid, GridCell, jobs_of, load_grid, missing_of, training_of
from slmbench.scheduling import Job, JobForecast, in_order, job_from
from slmbench.schema import QuantizationSpec
from slmbench.seal import canonical_sha256

MakeGrid = Callable[[str], Grid]


@pytest.fixture
def grid(tmp_path: Path) -> MakeGrid:
    def make(text: str) -> Grid:
        path = tmp_path / "grid.yaml"
        path.write_text("summary: Some models on some tasks.\n" + text, encoding="utf-8")
        return load_grid(str(path), default_catalog())

    return make


def planned(grid: Grid, seconds: float = 1.0, share_s: float | None = None, begun: Sequence[Job] = ()) -> list[Job]:
    def forecast(cells: Sequence[GridCell]) -> JobForecast:
        return JobForecast(seconds=seconds * len(cells))

    return jobs_of(grid, forecast, lambda training: JobForecast(seconds=1.0), share_s=share_s, begun=begun)


def shown(grid: Grid) -> Counter[tuple[str, str, str | None, str]]:
    return Counter((cell.subject.shown, cell.task, cell.asking.format, cell.subject.held) for cell in grid.cells)


def test_everything_is_crossed_and_each_is_there_once(grid: MakeGrid) -> None:
    made = grid(
        """
models: [nano]
recipes: [{recipe: nano-quickstart, only: [note, multi]}, nano-quickstart]
tasks: [nano_note, nano_choice]
suites: [nano]
formats: [plain, chat]
seeds: [3, 5]
"""
    )
    tasks = ["nano_note", "nano_choice", "nano_arithmetic", "nano_code"]
    assert made.tasks == tasks
    # The base that the models name is the recipes' base as well; with `only` it is another training's folder.
    adapters = ["multi", "note", "choice", "arithmetic"]
    subjects = {f"nano + {name} (seed {seed})" for name in adapters for seed in (3, 5)}
    assert {who for who, *_ in shown(made)} == {"nano", *subjects}
    assert shown(made)["nano", "nano_note", "chat", ""] == 1
    assert len({cell.key for cell in made.cells}) == len(made.cells)
    for cell in made.cells[:3]:  # Outcomes of earlier versions have these keys.
        who = [cell.subject.model, cell.subject.name, cell.subject.identity, cell.subject.held]
        asking = {key: value for key, value in cell.asking.as_json().items() if key != "batch"}
        assert cell.key == canonical_sha256([who, asking, cell.task, cell.task_digest])[:20]
    assert [training.seed for training in made.trainings] == [3, 5, 3, 5]
    assert len({training.place for training in made.trainings}) == 4
    assert made.trainings[0].overrides == ("seed=3",)


def test_what_is_excluded_is_left_out_and_an_exclusion_of_nothing_is_told(grid: MakeGrid) -> None:
    made = grid(
        """
models: [nano]
recipes: [nano-quickstart]
suites: [nano]
formats: [plain, chat]
exclude: [{format: chat, task: nano_code}, {recipe: nano-quickstart, adapter: note}, {seed: 99}]
"""
    )
    assert not [1 for cell in made.cells if (cell.asking.format, cell.task) == ("chat", "nano_code")]
    assert not [1 for cell in made.cells if cell.subject.name == "note"]
    assert [1 for cell in made.cells if (cell.asking.format, cell.task) == ("plain", "nano_code")]
    assert made.notices == ("exclude: the 3. one fits nothing",)


def test_a_recipe_alone_brings_its_tasks_format_and_settings(grid: MakeGrid) -> None:
    made = grid("recipes: [{recipe: nano-quickstart, set: {evaluation.limit: 7, format: chat}}]\n")
    assert {cell.asking.format for cell in made.cells} == {"chat"}
    assert {cell.asking.limit for cell in made.cells} == {7}
    assert "nano" in {cell.subject.shown for cell in made.cells}
    assert "nano" not in {cell.subject.shown for cell in grid("recipes: [nano-quickstart]\nbase: false\n").cells}


def test_a_merge_recipe_is_trained_merged_and_scored(grid: MakeGrid) -> None:
    made = grid("recipes: [nano-merge]\nseeds: 2\n")
    assert [training.kind for training in made.trainings] == ["merge", "merge"]
    first = dict(made.trainings[0].products)
    assert {cell.subject.name for cell in made.cells} == {"", *first}
    assert first.items().isdisjoint(dict(made.trainings[1].products).items())


def test_all_problems_of_a_matrix_are_told_at_once(grid: MakeGrid) -> None:
    with pytest.raises(DeclarationError) as raised:
        grid(
            """
models: [nanno]
adapters: [nothing/*]
recipes: [nano-quick, {recipe: nano-quickstart, only: [notes]}]
tasks: [nano_notes]
"""
        )
    said = [str(problem).partition("grid.yaml:")[2] for problem in raised.value.problems]
    assert [line.split(":")[0] for line in sorted(said)] == ["3", "4", "5", "5", "6"]
    assert any("did you mean 'nano'" in line for line in said)
    assert any("no folder is called nothing/*" in line for line in said)
    assert any("no adapter 'notes'" in line for line in said)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: []", "at least one of 'models', 'adapters' and 'recipes'"),
        ("models: [nano]", "say what is scored"),
        ("models: [nano, nano]\ntasks: [nano_note]", "models: listed twice"),
        ("recipes: [nano-merge, {recipe: nano-merge}]", "recipes: listed twice"),
        ("models: [nano]\ntasks: [nano_note]\nseeds: 3", "no recipe is trained"),
        ("models: [nano]\ntasks: [nano_note]\nexclude: [{}]", "at least one of model, adapter"),
        ("models: [nano]\ntasks: [nano_note]\nexclude: [{model: nano}]", "nothing is left of the matrix"),
        ("models: [nano]\ntask: [nano_note]", "unknown key 'task'; did you mean 'tasks'"),
    ],
)
def test_a_matrix_that_makes_no_sense_says_why(grid: MakeGrid, text: str, told: str) -> None:
    with pytest.raises(DeclarationError, match=told):
        grid(text + "\n")


def test_a_job_is_one_base_and_needs_the_trainings_of_what_is_put_on_it(grid: MakeGrid) -> None:
    made = grid("models: [nano, smollm2-135m]\nrecipes: [nano-quickstart]\nsuites: [nano]\nseeds: 2\n")
    jobs = planned(made)
    assert [(job.kind, job.name) for job in jobs] == [
        ("train", "nano-quickstart seed 0"),
        ("train", "nano-quickstart seed 1"),
        ("evaluate", "nano"),
        ("evaluate", "smollm2-135m"),
    ]
    assert set(jobs[2].needs) == {jobs[0].key, jobs[1].key} and jobs[3].needs == ()
    assert sum(len(job.makes) for job in jobs[2:]) == len(made.cells)
    again = [job_from(json.loads(json.dumps(job.as_json())), "job.json") for job in jobs]
    assert again == jobs
    assert EvaluationWork.of_json(again[2].work).cells == EvaluationWork.of_json(jobs[2].work).cells
    assert {cell.key for cell in EvaluationWork.of_json(again[2].work).cells} == set(jobs[2].makes)
    assert training_of(again[0].work) == made.trainings[0]
    assert in_order(jobs)[0].kind == "train"


def test_a_base_that_takes_longer_than_a_workers_share_is_split_by_tasks(grid: MakeGrid) -> None:
    made = grid("models: [nano]\nsuites: [nano]\nformats: [plain, chat]\n")
    parts = planned(made, seconds=100.0, share_s=400.0)
    assert [len(job.makes) for job in parts] == [4, 4]
    tasks = [{cell.task for cell in EvaluationWork.of_json(job.work).cells} for job in parts]
    assert tasks[0].isdisjoint(tasks[1])
    assert len(planned(made, seconds=1.0, share_s=4.0)) == 1


def test_a_job_that_was_begun_keeps_its_key_however_its_base_would_be_split_by_now(grid: MakeGrid) -> None:
    text = "models: [nano]\nsuites: [nano]\nformats: [plain, chat]\n"
    [whole] = planned(grid(text))
    [again] = planned(grid(text), seconds=100.0, share_s=400.0, begun=[whole])
    assert (again.key, again.makes) == (whole.key, whole.makes)
    parts = planned(grid(text), seconds=100.0, share_s=400.0)
    assert len(parts) == 2
    # One of two parts was begun: it stays, and what is left of the base is split as forecasts say.
    later = planned(grid(text), begun=parts[:1])
    assert [job.key for job in later] == [job.key for job in parts]
    # What is asked for beside it is a job of its own.
    more = planned(grid(text.replace("[nano]\nsuites", "[nano]\ntasks: [boolq]\nsuites")), begun=[whole])
    assert more[0].key == whole.key and len(more) == 2
    assert {cell.task for cell in EvaluationWork.of_json(more[1].work).cells} == {"boolq"}


def test_a_job_that_would_be_done_otherwise_by_now_is_another(grid: MakeGrid) -> None:
    text = "models: [nano]\nsuites: [nano]\n"
    [before] = planned(grid(text))
    for changed in ("batch: 2", "limit: 5", "exclude: [{task: nano_note}]", "data: samples"):
        [now] = planned(grid(f"{text}{changed}\n"), begun=[before])
        assert now.key != before.key, changed
    strange = job_from(before.as_json() | {"work": {"of an": "earlier version"}}, "job.json")
    assert planned(grid(text), begun=[strange]) == [before]


def test_nothing_is_trained_that_no_cell_scores(grid: MakeGrid) -> None:
    text = "models: [nano]\nrecipes: [nano-quickstart]\ntasks: [nano_note]\n"
    whole = dict(grid(text).trainings[0].products)
    made = grid(f"{text}exclude: [{{adapter: multi}}]\n")
    assert dict(made.trainings[0].products) == {name: key for name, key in whole.items() if name != "multi"}
    assert grid(f"{text}exclude: [{{recipe: nano-quickstart}}]\n").trainings == ()
    merged = "models: [nano]\nrecipes: [nano-merge]\ntasks: [nano_note]\n"
    [training] = grid(merged).trainings
    results = [name for name, _ in training.products]
    # A merge is made of its inputs, whether or not these are scored.
    [left] = grid(f"{merged}exclude: [{{adapter: {results[0]}}}]\n").trainings
    assert left == training


def test_a_packed_base_is_one_base_whether_a_recipe_or_an_adapter_says_so(grid: MakeGrid) -> None:
    made = grid("recipes: [{recipe: nano-quickstart, only: [note], set: {method: qlora}}]\ntasks: [nano_note]\n")
    assert {cell.subject.held for cell in made.cells} == {QuantizationSpec().model_dump_json()}
    both = grid("models: [nano]\nrecipes: [{recipe: nano-quickstart, set: {method: qlora}}]\ntasks: [nano_note]\n")
    assert [job.name for job in planned(both) if job.kind == "evaluate"] == ["nano", "nano (packed)"]


def test_only_what_is_not_made_yet_is_asked_for(grid: MakeGrid) -> None:
    made = grid("recipes: [nano-quickstart]\n")
    train, evaluate = planned(made)
    there = dict.fromkeys([*train.makes, *evaluate.makes[:-1]], "runs/x")
    [left] = missing_of([train, evaluate], there)
    assert (left.key, left.makes, left.needs) == (evaluate.key, evaluate.makes[-1:], ())
    assert missing_of([train, evaluate], there | {evaluate.makes[-1]: "runs/y"}) == []


def test_an_adapter_is_on_its_own_base_and_a_change_of_it_is_another_cell(grid: MakeGrid, adapter: Path) -> None:
    text = f"adapters: ['{adapter.parent}/*']\ntasks: [nano_note]\n"
    made = grid(text)
    assert [cell.subject.shown for cell in made.cells] == ["nano + note", "nano"]
    weights = adapter / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    changed = grid(text)
    assert changed.cells[0].key != made.cells[0].key and changed.cells[1].key == made.cells[1].key


@pytest.mark.parametrize("name", ["model.safetensors", "chat_template.jinja", "tokenizer.json", "config.json"])
def test_a_model_of_which_any_file_changed_that_is_read_is_another_cell(
    grid: MakeGrid, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "models" / "own"
    shutil.copytree(Path(slmbench.nano.__file__).parent / "model", folder)
    text = f"models: ['{folder}']\ntasks: [nano_note]\n"
    [before] = grid(text).cells
    with (folder / name).open("ab") as file:
        file.write(b" ")
    [after] = grid(text).cells
    assert after.key != before.key


def test_the_job_of_a_training_by_several_processes_says_how_many_and_is_the_same_job(grid: MakeGrid) -> None:
    text = "recipes: [{recipe: nano-quickstart, only: [note]%s}]\ntasks: [nano_note]\n"
    one, two = (planned(grid(text % more))[0] for more in ("", ", set: {launch.processes: 2}"))
    assert (one.forecast.processes, two.forecast.processes) == (1, 2)
    assert two.makes == one.makes and "processes" not in two.work
    assert training_of(two.work).overrides == ("launch.processes=2", "seed=0") or "launch.processes=2" in str(two.work)
