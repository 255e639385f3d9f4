"""What is given as a model and is none: each kind of mistake has its own answer."""

from __future__ import annotations

import json
import re

import pytest

from slmbench.catalog import default_catalog
from slmbench.errors import DataError, SlmbenchError, UsageError
from slmbench.models import resolve_model
from slmbench.recipe import load_recipe
from slmbench.training import prepare_training


def _resolve(name):
    return resolve_model(str(name), default_catalog())


@pytest.mark.parametrize("name", ["./nothere", "../nothere", "/data/no/such/model", "~/nothere", "a/b/c", ".hidden"])
def test_a_path_that_leads_nowhere_is_no_unknown_model(name):
    with pytest.raises(UsageError, match=rf"^{re.escape(name)} is not a folder; give a folder with config\.json"):
        _resolve(name)


def test_a_file_is_no_folder(clone):
    with pytest.raises(UsageError, match=r"config\.json is a file, not a model's folder"):
        _resolve(clone() / "config.json")


def test_an_adapters_folder_is_sent_to_the_option_for_it(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"it is an adapter's; give its base as the model, and `--adapter "):
        _resolve(tmp_path)


def test_a_folder_of_models_names_them(clone):
    folder = clone("mine")
    with pytest.raises(
        UsageError, match=r"has no config\.json, so it is not a model's folder; mine in it would be one"
    ):
        _resolve(folder.parent)


@pytest.mark.parametrize("name", ["nano\0", "\ud800", "./\0", "x" * 9000, "/" + "\ud800", ""])
def test_names_that_no_system_has_are_unknown(name):
    with pytest.raises(
        UsageError, match=r"unknown model .* as owner/name\)|is not a folder; give a folder with config"
    ):
        _resolve(name)


def test_a_name_is_still_looked_up_in_the_registry_and_meant_by_its_neighbours():
    with pytest.raises(UsageError, match="did you mean 'nano'"):
        _resolve("nanoo")
    assert _resolve("someone/some-model").location == "someone/some-model"


RECIPE = """\
summary: Two steps.
model: {model}
adapters: {{note: {{tasks: [nano_note]}}}}
rows: 4
optim: {{steps: 2, batch: 2}}
on_contamination: warn
evaluation: {{tasks: [nano_note], limit: 2}}
"""


@pytest.fixture
def larger(clone, edit):
    """A model whose tokenizer has a word more than it has embeddings, for a word of every prompt, and for padding."""
    folder = clone("larger")
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    new = {**added[-1], "id": 1024, "special": False}
    pad = {**added[-1], "id": 1025, "content": "<|more|>"}
    edit(folder / "tokenizer.json", added_tokens=[*added, new | {"content": "Summary"}, pad])
    edit(folder / "tokenizer_config.json", pad_token="<|more|>")
    return folder


def test_tokens_without_embeddings_are_refused_before_a_training_begins(larger, tmp_path):
    path = tmp_path / "larger.yaml"
    path.write_text(RECIPE.format(model=larger))
    catalog = default_catalog()
    said = r"task 'nano_note', item 'train-0': its text has token 1024 \('Summary'\), and 'larger' has 1024 of them"
    with pytest.raises(UsageError, match=said):
        prepare_training(load_recipe(str(path), catalog), "note", catalog, _resolve(larger))


@pytest.mark.parametrize("engine", ["shared", "hf"])
@pytest.mark.parametrize("task", ["nano_note", "nano_choice"])
def test_tokens_without_embeddings_are_refused_before_anything_is_computed(
    larger, load, scored, computed, engine, task
):
    loaded = load(larger)
    if task == "nano_choice":  # Has no such word, and what only pads has no need of an embedding.
        assert all(len(rows) == 3 for rows in computed(scored(loaded, task, engine=engine)))
    else:
        with pytest.raises(DataError, match=r"task 'nano_note', item 0: its text has token 1024"):
            scored(loaded, task, engine=engine)


def test_a_damaged_folder_is_a_named_error(clone):
    folder = clone()
    (folder / "config.json").write_text("[1, 2")
    with pytest.raises(SlmbenchError, match=r"config\.json.* is not valid JSON"):
        from slmbench.models import load_config

        load_config(_resolve(folder))
