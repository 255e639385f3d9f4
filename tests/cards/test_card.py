"""A card says what records say, is read by huggingface_hub's own parsers, and takes nobody's place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from slmbench.cards import Licensed, strictest
from slmbench.catalog import default_catalog
from slmbench.cli import main
from slmbench.errors import UsageError
from slmbench.recipe import load_recipe
from slmbench.runs import MergeRecord, write_merge
from slmbench.workflow.card import CardPlan, write_cards
from slmbench.workflow.compare import compare
from tests.cards.conftest import BASE, HUB, ON_HUB, RIGHT, WRONG, training, write_adapter, write_out
from tests.damage import full
from tests.leaderboard.conftest import make_run


def write(place, **options):
    [card] = write_cards(CardPlan(place=str(place), **options), default_catalog())
    return card, Path(card.files.folder, "README.md").read_text(encoding="utf-8")


def cells_of(text):
    """The cells of each row of each table, as GitHub's Markdown parts them."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_the_hubs_own_parsers_read_a_card_and_its_result_files(make_out):
    folder = make_out()
    card, text = write(folder)

    loaded = ModelCard.load(folder / "README.md")
    assert loaded.data.to_dict() == {
        "base_model": HUB,
        "datasets": ["openai/gsm8k"],
        "library_name": "peft",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "slmbench"],
        "base_model_relation": "adapter",
    }
    assert str(loaded) == text and "# gsm8k-r16" in loaded.text

    [name] = [name for name in card.files.names if name != "README.md"]
    entries = parse_eval_result_entries(yaml.safe_load((folder / name).read_text()))
    [entry] = entries
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", sum(RIGHT) / len(RIGHT))
    assert entry.dataset_revision == "e53f048856ff4f594e959d75785d2c2d37b678ee"
    assert entry.date == "2026-11-20T10:00:00+00:00"
    assert re.fullmatch(
        r"exact_match/strict, n=40, 95% CI 0\.54\d\d to 0\.81\d\d, 0-shot, plain, slmbench gsm8k-key-a", entry.notes
    )


def test_scores_stand_beside_the_bases_with_the_difference_that_compare_tells(make_out):
    folder = make_out()
    _, text = write(folder)
    out = folder.parent.parent
    [task] = compare(str(out / "runs" / "base"), str(out / "runs" / "tuned")).tasks
    pair = task.metrics[0].pair

    heads, _, row, *_ = cells_of(text)
    told = dict(zip(heads, row, strict=True))
    assert (told["task"], told["metric"], told["n"]) == ("gsm8k", r"**exact\_match/strict**", "40")
    assert told["base"].startswith("0.300 ") and told["this"].startswith("0.700 ")
    assert told["difference, on the same items"] == (
        rf"+{pair.difference:.3f} \[{pair.ci_low:.3f}, {pair.ci_high:.3f}\], better"
    )


def test_what_was_trained_on_what_was_shared_and_what_it_took_is_told_without_the_rows_own_texts(make_out):
    _, text = write(make_out())
    assert "| gsm8k | openai/gsm8k | 93 | 20,183 | 100.0% | 26 | 1 | 3 (3 contamination) |" in text
    assert "96 training rows beside the items of gsm8k/test: some are shared; 3 rows were left out for it" in text
    assert "of 96 rows of gsm8k in gsm8k/test: 3 with a run of words in common" in text and "Doe" not in text
    assert "parity: the tokens that training saw are those that evaluation sends, compared on 24 rows of gsm8k" in text
    assert "lora, 4.9M trained parameters, seed 0, 24 steps, 7.6 min, 44.5 tokens a second" in text
    assert "peak memory 2.8 GB, of 2.8 GB that were forecast" in text
    assert "trained on AMD EPYC, 2 cores, 25.3 GB of memory, no GPU" in text
    assert "eprint        = {2110.14168}" in text and "eprint        = {2106.09685}" in text


@pytest.mark.parametrize(("recipe", "adapter"), [("smollm2-tour", "medquad-r4"), ("phi35-multitask", None)])
def test_the_recipe_of_a_card_is_one_that_trains_the_same(tmp_path, recipe, adapter):
    declared = load_recipe(recipe, default_catalog())
    adapter = adapter or next(iter(declared.spec.adapters))
    _, text = write(write_out(tmp_path, adapter, training(recipe, adapter)))
    block = re.search(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    path = tmp_path / "again.yaml"
    path.write_text(block[1])
    assert load_recipe(str(path), default_catalog()).digest_of(adapter) == declared.digest_of(adapter)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"limit": 40}, "its run is badged (limit 40)"),
        ({"source": "samples"}, "its run is badged (samples)"),
        ({"changes": {"model.twin": True}}, "its run is badged (twin)"),
        ({"source": "generated"}, "its rows are of source 'generated', and not those of a data set of the hub"),
        ({"changes": {"dataset.id": "our_notes"}}, "its data set has no id on the hub"),
    ],
)
def test_only_whole_runs_on_rows_of_the_hub_have_a_result_file_and_the_rest_is_told(make_out, options, why):
    folder = make_out(**options)
    card, text = write(folder)
    assert card.files.names == ("README.md",) and card.files.left_out == (f"gsm8k: {why}",)
    assert not (folder / ".eval_results").exists()
    badge = re.search(r"badged \((.*)\)", why)
    assert badge is None or (f"({badge[1]})" in text and "## Limits" in text)


def test_a_readme_that_somebody_wrote_or_edited_is_kept(make_out):
    folder = make_out()
    readme = folder / "README.md"
    readme.write_text("# Mine\n")
    with pytest.raises(UsageError, match=r"README.md was not written by `slmbench card`; --force writes over it"):
        write(folder)
    assert readme.read_text() == "# Mine\n" and not (folder / ".eval_results").exists()

    _, text = write(folder, force=True)
    assert write(folder)[1] == text  # Its own it writes again.
    readme.write_text(text + "And it likes cats.\n")
    with pytest.raises(UsageError, match="was edited after `slmbench card` wrote it"):
        write(folder)
    card, _ = write(folder, out=str(folder.parent / "card"))
    assert Path(card.files.folder).name == "card" and readme.read_text().endswith("cats.\n")


def test_the_card_that_peft_leaves_is_nobodys_until_somebody_writes_in_it(make_out, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    layer = torch.nn.Sequential(torch.nn.Linear(2, 2))
    get_peft_model(layer, LoraConfig(target_modules=["0"])).save_pretrained(tmp_path / "peft")
    template = (tmp_path / "peft" / "README.md").read_text()
    folder = make_out()
    (folder / "README.md").write_text(template.replace("[More Information Needed]", "a hospital's", 1))
    with pytest.raises(UsageError, match="was not written by"):
        write(folder)
    (folder / "README.md").write_text(template)
    assert "# gsm8k-r16" in write(folder)[1]


def test_result_files_of_an_earlier_card_go_and_those_of_others_stay(make_out):
    folder = make_out()
    card, _ = write(folder)
    [name] = card.files.names[1:]
    (folder / ".eval_results" / "theirs.yaml").write_text("- theirs\n")
    (folder / ".eval_results" / "old-0.yaml").write_bytes((folder / name).read_bytes())
    write(folder)
    assert sorted(path.name for path in (folder / ".eval_results").iterdir()) == [Path(name).name, "theirs.yaml"]
    (folder / name).write_text("- theirs\n")
    with pytest.raises(UsageError, match=r"gsm8k-key-a.yaml was not written by `slmbench card`"):
        write(folder)


HOSTILE = "x|y\n---\n<script>alert(1)</script> [a](javascript:b) ``` `c` \u202e\x1b[2J | z"


def test_no_text_of_a_record_leaves_its_place(tmp_path):
    record = training(
        notices=[HOSTILE, "the weights are those of /home/jane.doe/models/secret/w.gguf (VAR), not of the hub's"],
        tasks={HOSTILE: {"rows": 1, "dropped": {HOSTILE: 1}, "dropped_rows": 1, "parity_rows": 1}, "gsm8k": {}},
        hardware={"cpu": HOSTILE, "cores": 1},
        contamination={"overlaps": [{"training": HOSTILE, "evaluation": HOSTILE, "exact": 1}], "notes": [HOSTILE]},
    )
    record["settings"] |= {"summary": f"{HOSTILE}\n````\n---\n", "model": "/home/jane.doe/models/base"}
    plain = write_out(tmp_path / "plain", "fine", training(tasks={"t": {"rows": 1}, "gsm8k": {}}))
    folder = write_out(tmp_path / "odd", "a|b ---\n`x", record, task=HOSTILE, changes={"engine_version": HOSTILE})
    before, (card, text) = write(plain)[1], write(folder)

    loaded, usual = ModelCard.load(folder / "README.md"), ModelCard.load(plain / "README.md")
    assert loaded.data.to_dict() == usual.data.to_dict()
    assert [len(row) for row in cells_of(text)] == [len(row) for row in cells_of(before)]
    # Fences are taken out as a reader of Markdown does: what is left is no code, and no HTML but the mark.
    bare, fence = [], None
    for line in loaded.text.split("\n"):
        mark = re.match(r"(`{3,})", line)
        if fence is None and mark is not None:
            fence = mark[1]
        elif fence is not None and line == fence:
            fence = None
        elif fence is None:
            bare.append(line)
    assert fence is None
    headings = [line for line in bare if line.startswith("#")]
    assert headings[1:] == ["## Scores", "## Limits", "## Training", "## Use", "## Cite"]
    told = re.sub(r"`[^`\n]*`", "", "\n".join(bare).replace(r"\`", ""))
    assert not re.search(r"(?<!\\)<(?!!-- slmbench)|(?<!\\)\[(?!HuggingFaceTB)", told) and "\n---" not in loaded.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    assert "/home/" not in text and "w.gguf" in text and "jane" not in text
    [name] = card.files.names[1:]
    [entry] = parse_eval_result_entries(yaml.safe_load((folder / name).read_text()))
    assert "\n" not in entry.notes and re.fullmatch(r"[\w.-]+", entry.task_id)


def test_an_adapter_made_elsewhere_has_a_card_that_guesses_nothing(tmp_path):
    write_adapter(tmp_path / "theirs", None, "some/base")
    card, text = write(tmp_path / "theirs")
    data = ModelCard.load(tmp_path / "theirs" / "README.md").data
    assert (data.base_model, data.license, data.datasets) == ("some/base", "unknown", None)
    assert "no licence is declared of base some/base" in text and "No finished run of it was found." in text
    assert "## Training" not in text and card.runs == 0


def test_a_base_that_is_a_folder_of_this_machine_is_named_and_not_located(tmp_path):
    place = str(tmp_path / "private" / "base")
    record = training(model="base", base={"name": "base", "id": "private/base", "location": place, "twin": False})
    _, text = write(write_out(tmp_path / "out", record=record))
    assert ModelCard(text).data.base_model is None and str(tmp_path) not in text
    assert "its base, base, has no id on the hub that is known" in text


def test_a_place_may_be_an_output_folder_or_a_run(make_out, tmp_path, capsys):
    folder = make_out()
    out = folder.parent.parent
    write_adapter(out / "adapters" / "other", None, "some/base")
    assert main(["card", str(out), "--out", str(tmp_path / "cards"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [(card["name"], card["kind"], card["runs"]) for card in made] == [
        ("gsm8k-r16", "adapter", 1),
        ("other", "adapter", 0),
    ]
    assert made[0]["scores"][0]["difference"]["value"] == pytest.approx(0.4)
    assert (tmp_path / "cards" / "other" / "README.md").is_file() and not (folder / "README.md").exists()

    assert main(["card", str(out / "runs" / "tuned")]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("adapters/gsm8k-r16/README.md")
    assert main(["card", str(out / "runs" / "base")]) == 2
    assert f"is of '{BASE}', which doesn't lie beside it; give --out DIR" in capsys.readouterr().err
    assert main(["card", str(out / "runs" / "base"), "--out", str(tmp_path / "base")]) == 0
    alone = ModelCard.load(tmp_path / "base" / "README.md")
    assert "base_model" not in alone.data.to_dict() and "## Use" not in alone.text
    assert list((tmp_path / "base" / ".eval_results").glob("*.yaml"))


def test_a_merged_an_exported_and_a_wholly_trained_model_have_their_own(tmp_path):
    out = tmp_path / "out"
    source = write_out(out)
    digest = json.loads((out / "runs" / "tuned" / "run.json").read_text())["adapter"]["sha256"]
    for name in ("both", "gsm8k-r16-merged", "whole"):
        (out / "models" / name).mkdir(parents=True)
        (out / "models" / name / "config.json").write_text("{}")
    base = {"name": BASE, "id": HUB, "location": HUB, "revision": None, "twin": False}
    merged = MergeRecord.model_validate(full(MergeRecord)).model_dump(by_alias=True) | {
        "method": "ties",
        "base": base,
        "identity_sha256": "d" * 64,
        "inputs": [
            {"name": task, "path": "x", "kind": "adapter", "sha256": "e" * 64, "tasks": [task]}
            for task in ("gsm8k", "medquad")
        ],
        "notices": [],
    }
    write_merge(out / "models" / "both", merged)
    make_run(
        out,
        "merged",
        RIGHT,
        model="both",
        task="gsm8k",
        source="mirror",
        changes={"model.merge": {"method": "ties", "inputs": ["a"], "identity_sha256": "d" * 64}},
    )
    model = {"name": BASE, "id": HUB, "revision": None}
    adapter = {"name": "gsm8k-r16", "sha256": digest, "rank": 4}
    export = {"target": "merged", "model": model, "adapter": adapter, "tasks": ["gsm8k"], "dtype": "float32"}
    (out / "models" / "gsm8k-r16-merged" / "export.json").write_text(json.dumps(export))
    from slmbench.runs import write_training

    write_training(out / "models" / "whole", training(recipe_sha256="f" * 64) | {"method": "full"})
    make_run(out, "own", RIGHT, model="whole", task="gsm8k", source="mirror", changes={"model.recipe_sha256": "f" * 64})

    made = {card.facts.name: card for card in write_cards(CardPlan(place=str(out)), default_catalog())}
    heads = {name: ModelCard.load(Path(card.files.folder, "README.md")) for name, card in made.items()}
    assert {name: (head.data.library_name, head.data.base_model_relation) for name, head in heads.items()} == {
        "gsm8k-r16": ("peft", "adapter"),
        "both": ("transformers", "merge"),
        "gsm8k-r16-merged": ("transformers", "finetune"),
        "whole": ("transformers", "finetune"),
    }
    assert {head.data.base_model for head in heads.values()} == {HUB}
    assert heads["both"].data.datasets == ["openai/gsm8k", "keivalya/MedQuad-MedicalQnADataset"]
    assert heads["both"].data.license == "cc-by-4.0" and "merged: ties of gsm8k, medquad" in heads["both"].text
    # Each beside its base; an export that was not scored itself says whose scores it shows.
    assert {name: card.facts.scores[0].verdict for name, card in made.items()} == dict.fromkeys(heads, "better")
    assert "what lies here was not scored" in heads["gsm8k-r16-merged"].text
    assert source.is_dir()


def test_files_of_an_export_have_the_scores_of_these_very_files(tmp_path):
    out = tmp_path / "out"
    write_out(out)
    folder = out / "models" / "gsm8k-r16-gguf"
    folder.mkdir(parents=True)
    files = [
        {"file": f"x-{kind}.gguf", "kind": kind, "sha256": digit * 64} for kind, digit in (("Q8_0", "8"), ("Q4_0", "4"))
    ]
    export = {"target": "gguf", "model": {"name": BASE, "id": HUB}, "tasks": ["gsm8k"], "gguf": files}
    (folder / "export.json").write_text(json.dumps(export))
    for one, scores in zip(files, (RIGHT, WRONG), strict=True):
        (folder / one["file"]).write_bytes(b"GGUF")
        held = {"model.weights_sha256": one["sha256"], "model.quantization": f"llama.cpp {one['kind']}"}
        make_run(out, one["kind"], scores, model=one["file"][:-5], task="gsm8k", source="mirror", changes=ON_HUB | held)
    other = {"model.weights_sha256": "0" * 64}  # Of the same name, before it was made again.
    make_run(out, "old", WRONG, model="x-Q8_0", task="gsm8k", source="mirror", changes=other)

    card, text = write(folder)
    assert ModelCard(text).data.library_name == "gguf" and card.runs == 2
    assert [(one.asked, one.estimate.value, one.base.value, one.verdict) for one in card.facts.scores] == [
        ("x-Q8_0, 0-shot, plain", 0.7, 0.3, "better"),
        ("x-Q4_0, 0-shot, plain", 0.3, 0.3, "not told apart"),
    ]
    assert f"- x-Q4\\_0.gguf: Q4\\_0, sha256 {'4' * 64}" in text and "was not scored" not in text


@pytest.mark.parametrize(
    ("licences", "named", "name"),
    [
        (["apache-2.0", "mit"], "apache-2.0", None),
        (["apache-2.0", "cc-by-4.0", "mit"], "cc-by-4.0", None),
        (["apache-2.0", "cc-by-sa-3.0", "cc-by-4.0"], "cc-by-sa-3.0", None),
        (["cc-by-nc-4.0", "cc-by-sa-4.0", "cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0", None),
        (["llama3.2", "mit"], "llama3.2", None),
        (["apache-2.0", None], "unknown", None),
        (["cc-by-nc-4.0", "unknown"], "unknown", None),
        ([], "unknown", None),
        # Neither holds the terms of the other.
        (["llama3.2", "cc-by-nc-4.0"], "other", "llama3.2-and-cc-by-nc-4.0"),
        (["cc-by-sa-4.0", "cc-by-nc-4.0"], "other", "cc-by-sa-4.0-and-cc-by-nc-4.0"),
        (["PhysioNet Licence 1.5.0"], "other", "physionet-licence-1.5.0"),
        (["PhysioNet Licence 1.5.0", "apache-2.0"], "other", "physionet-licence-1.5.0"),
    ],
)
def test_the_licence_is_the_one_whose_terms_hold_the_others_or_none(licences, named, name):
    made = strictest([Licensed(f"part {number}", one) for number, one in enumerate(licences)])
    assert (made.license, made.name) == (named, name)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nothing", "is not there; give an adapter's folder, a model's, a run's, or an output folder"),
        ("empty", "holds no adapter (adapter_config.json), no model with a record"),
        ("damaged", "training.json"),
    ],
)
def test_a_place_that_means_nothing_is_an_error_that_says_what_would(tmp_path, capsys, place, said):
    (tmp_path / "empty").mkdir()
    write_adapter(tmp_path / "damaged", None)
    (tmp_path / "damaged" / "training.json").write_text('{"schema": 3, "steps": "many"}')
    assert main(["card", str(tmp_path / place)]) == 2
    assert said in capsys.readouterr().err
