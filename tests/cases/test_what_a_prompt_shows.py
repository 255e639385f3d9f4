"""Of a prompt that is too long the beginning is cut and counted; an item that is its own shot is counted too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slmbench.catalog import default_catalog
from slmbench.evaluation import EvaluationOptions, evaluate_tasks
from slmbench.models import LoadedModel, load_model, resolve_model
from slmbench.task import load_task_folder

LONG = " ".join(f"The {i}th entry is {i * 7 % 13}." for i in range(260))


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return load_model(resolve_model("nano", default_catalog()))


@pytest.mark.parametrize("style", ["plain", "chat"])
@pytest.mark.parametrize("kind", ["generate", "choice"])
def test_a_prompt_beyond_the_window_keeps_its_end_and_is_counted(
    kind: str, style: str, nano: LoadedModel, tmp_path: Path, write_task: Callable[..., Path]
) -> None:
    rows = [{"q": "Which is the 3rd?", "p": LONG, "a": "8"}, {"q": "Short?", "p": "Yes.", "a": "yes"}]
    keys = {
        "generate": 'answer: "{{ a }}"\ngeneration: {max_tokens: 4}\nmetrics: [exact_match]',
        "choice": 'choices: ["{{ a }}", "no"]\ngold: "0"\nmetrics: [accuracy]',
    }
    yaml = (
        "summary: s\nversion: 1\nlicense: mit\ntrain_split: null\ndataset: {files: {test: test.jsonl}}\n"
        f"kind: {kind}\n"
        'prompt: {system: "Be short.", user: "Question: {{ q }}\\n{{ p }}", prefix: "Answer:"}\n' + keys[kind]
    )
    folder = write_task("long", yaml, test="".join(json.dumps(row) + "\n" for row in rows))
    task = load_task_folder(str(folder), default_catalog())
    (run,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "o"), format=style))
    samples: list[dict[str, Any]] = run.samples()
    assert [row["truncated"] for row in samples] == [True, False]
    assert run.record["cost"]["n_truncated"] == 1
    (said,) = [remark for remark in run.record["remarks"] if "longer than the model's window" in remark]
    assert run.record["remarks"][said] == 1
    assert "cut at its beginning, the question's end and the answer's place kept" in said
    # What is left is the end: another beginning changes nothing.
    other = [{**rows[0], "q": "Which is the 5th?"}, rows[1]]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
    (again,) = evaluate_tasks(
        nano,
        [load_task_folder(str(folder), default_catalog())],
        EvaluationOptions(out=str(tmp_path / "o"), format=style),
    )
    key = "output" if kind == "generate" else "loglikelihoods"
    assert again.run_id != run.run_id
    assert again.samples()[0][key] == samples[0][key]


def test_an_item_that_is_its_own_shot_is_counted(
    nano: LoadedModel, tmp_path: Path, write_task: Callable[..., Path], task_yaml: str
) -> None:
    rows = '{"question": "1+1?", "answer": "2"}\n{"question": "2+2?", "answer": "4"}\n'
    yaml = task_yaml + "fewshot: {n: 1, split: train}\ngeneration: {max_tokens: 2}\n"
    task = load_task_folder(
        str(write_task("shown", yaml, train='{"question": "1+1? ", "answer": "2"}\n', test=rows)), default_catalog()
    )
    (run,) = evaluate_tasks(nano, [task], EvaluationOptions(out=str(tmp_path / "o")))
    (said,) = [remark for remark in run.record["remarks"] if "among its own shots" in remark]
    assert run.record["remarks"][said] == 1
    clean = load_task_folder(
        str(write_task("clean", yaml, train='{"question": "3+1?", "answer": "4"}\n', test=rows)), default_catalog()
    )
    (run,) = evaluate_tasks(nano, [clean], EvaluationOptions(out=str(tmp_path / "o")))
    assert not [remark for remark in run.record["remarks"] if "among its own shots" in remark]
