"""Chat templates that ask for today's date: one date for training and evaluation, and a word about it."""

from __future__ import annotations

import json

import pytest

from slmbench.catalog import default_catalog
from slmbench.models import resolve_model
from slmbench.recipe import load_recipe
from slmbench.training import train_adapter

TOLD = "the chat template may write today's date; here it is always 26 Jul 2024, so prompts stay the same"
RECIPE = """\
summary: A few steps.
model: {model}
format: chat
adapters: {{note: {{tasks: [nano_note]}}}}
rows: 16
optim: {{steps: 2, batch: 2}}
on_contamination: warn
evaluation: {{tasks: [nano_note], limit: 2}}
"""


@pytest.fixture
def dated(clone):
    folder = clone("dated")
    template = folder / "chat_template.jinja"
    template.write_text("<|system|>Today is {{ strftime_now('%d %B %Y') }}.\n" + template.read_text())
    return folder


def test_prompts_do_not_follow_the_calendar_and_the_run_says_so(dated, load, scored):
    (run,) = scored(load(dated), "nano_note", format="chat")
    assert all(row["prompt"].startswith("<|system|>Today is 26 July 2024.") for row in run.samples())
    assert run.record["remarks"][TOLD] == 3
    (plain,) = scored(load(dated), "nano_note")
    assert TOLD not in plain.record["remarks"]


def test_training_sees_the_same_date_and_says_so(dated, tmp_path, said):
    path = tmp_path / "dated.yaml"
    path.write_text(RECIPE.format(model=dated))
    catalog = default_catalog()
    source = resolve_model(str(dated), catalog)
    # The parity check compares each row's ids with those that evaluation sends.
    folder = train_adapter(load_recipe(str(path), catalog), "note", catalog, source, out=str(tmp_path / "out"))
    assert any(TOLD in line for line in said)
    with open(f"{folder}/training.json", encoding="utf-8") as file:
        record = json.load(file)
    assert record["notices"] == [TOLD]
    assert record["tasks"]["nano_note"]["parity_rows"] == 16
