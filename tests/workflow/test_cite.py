"""What is cited for each declaration, as BibTeX that a parser reads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from slmbench.catalog import default_catalog
from slmbench.citations import gathered, references
from slmbench.cli import main
from slmbench.errors import UsageError
from slmbench.workflow.cite import KINDS, cite

TOP = Path(__file__).resolve().parents[2]
URL = "https://github.com/doe/x"


def read_bibtex(text):
    """key -> fields of a BibTeX file, by its own rules: entries in balanced braces, `%` is nothing to it, `@` is."""
    entries, at = {}, 0
    while (at := text.find("@", at)) >= 0:
        head = re.compile(r"@(\w+)\{([^\s,{}@\\\"#%']+),").match(text, at)
        assert head is not None, text[at : at + 60]
        fields, at = {}, head.end()
        while (field := re.compile(r"\s*(\w+)\s*=\s*\{").match(text, at)) is not None:
            depth, at = 1, field.end()
            begun = at
            while depth:
                at += 1 if text[at] != "\\" else 2
                depth += {"{": 1, "}": -1}.get(text[at - 1], 0) if text[at - 2] != "\\" else 0
            assert field[1] not in fields and not re.search(r"(?<!\\)[&%$#]", text[begun : at - 1].replace("url", ""))
            fields[field[1]] = text[begun : at - 1]
            assert text[at] == ","
            at += 1
        assert re.compile(r"\s*\}").match(text, at) and head[2] not in entries
        entries[head[2]] = fields
    return entries


def test_all_that_is_declared_is_cited_as_bibtex_and_a_key_is_one_work_everywhere(capsys):
    catalog, works = default_catalog(), {}
    for kind in KINDS:
        for name in catalog.files(kind):
            found = cite([name], catalog)
            read = read_bibtex("\n\n".join(one.bibtex for one in found))
            assert list(read) == [one.key for one in found] and "slmbench" in read, name
            for one in found:
                assert works.setdefault(one.key, one.fields) == one.fields
                assert read[one.key].keys() == one.fields.keys() and {"author", "title"} & one.fields.keys()
    # A number without a title would print as nothing.
    assert [key for key, fields in works.items() if "title" not in fields] == []
    assert works["cobbe2021training"] == {
        "author": "Cobbe and others",
        "title": "Training Verifiers to Solve Math Word Problems",
        "year": "2021",
        "eprint": "2110.14168",
        "archiveprefix": "arXiv",
    }


def test_a_recipe_cites_its_papers_model_data_metrics_and_us(capsys):
    assert main(["cite", "smollm2-gsm8k-medquad", "--json"]) == 0
    told = {one["key"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(told)[-1] == "slmbench"
    assert told["cobbe2021training"]["for"] == [
        "recipe smollm2-gsm8k-medquad",
        "task gsm8k",
        *(f"metric exact_match/{name}" for name in ("strict", "flexible", "decimal")),
    ]
    assert told["benabacha2019question"]["fields"]["author"] == "Ben Abacha and Demner-Fushman"
    assert "author = {{Ben Abacha} and Demner-Fushman}" in told["benabacha2019question"]["bibtex"]
    assert told["hf-huggingfacetb-smollm2-135m-instruct"]["for"] == ["model smollm2-135m-instruct"]
    assert {"allal2025smollm2", "hu2022lora", "hf-openai-gsm8k", "lin2004rouge"} <= told.keys()
    merge = {one.key: one.about for one in cite(["nano-merge"], default_catalog())}
    assert merge["yadav2023ties"] == ("merge method ties", "recipe nano-merge")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("Doe 2024", {"author": "Doe", "year": "2024"}),
        ("Doe et al., 2024, doi:10.1/a_b", {"author": "Doe and others", "year": "2024", "doi": "10.1/a_b"}),
        ("Doe, Roe and van Poe 2024, A, B", {"author": "Doe and Roe and van Poe", "title": "A, B", "year": "2024"}),
        ("Doe 2023, github.com/doe/x", {"author": "Doe", "title": "github.com/doe/x", "year": "2023", "url": URL}),
        ("made by hand, Bonn 2024, for us", {"title": "T.", "note": "made by hand, Bonn 2024, for us"}),
        ("Made up\n for this.", {"title": "T.", "note": "Made up for this."}),
        ("doe/rows on the Hugging Face hub, 2024", {"title": "T.", "note": "doe/rows on the Hugging Face hub, 2024"}),
        ("", None),
    ],
)  # fmt: skip
def test_a_source_is_read_as_it_is_written_and_kept_whole_if_it_is_not_so_written(text, fields):
    assert [dict(one.fields) for one in references(text, "task t", "T.")] == ([fields] if fields else [])


def test_what_bibtex_would_stumble_over_is_written_so_that_it_does_not():
    (one,) = references("Doe & Roe 2024, 100% of {A_B} \\ @x ~ #1, doi:10.1/{a}_b", "task t@x {", "T.")
    read = read_bibtex(one.bibtex)
    assert read["doe2024100"]["doi"] == "10.1/a_b"
    assert read["doe2024100"]["title"].startswith(r"{100\% of \{A\_B\} \textbackslash{} @x")
    (text,) = references("ours", "task Ö;x", "T.")
    assert text.key == "task-ox"


def test_two_works_of_one_key_are_told_apart_and_one_work_is_told_once():
    both = [
        *references("Doe 2024, On X, arXiv:2401.00001", "task a", ""),
        *references("Doe 2024, On X, arXiv:2401.00002; Doe 2024", "task b", ""),
    ]
    assert [(one.key, one.about) for one in gathered([*both, *both])] == [
        ("doe2024x", ("task a", "task b")),
        ("doe2024x-2", ("task b",)),
    ]


def test_a_plugins_metric_is_cited_by_its_text_and_an_unknown_name_has_a_neighbour(tmp_path, monkeypatch):
    folder = tmp_path / "tasks" / "mine"
    folder.mkdir(parents=True)
    (folder / "task.yaml").write_text(
        "summary: Mine.\nsource: Made up.\nversion: 1\ndataset: {files: {test: rows.jsonl}}\nkind: generate\n"
        "prompt: {user: '{{ q }}'}\nanswer: '{{ a }}'\nmetrics: [own]\n"
    )
    (folder / "plugin.py").write_text(
        "import slmbench\nopen('canary', 'w')\n"
        "@slmbench.metric('own', summary='Own.', version='1', citation='Doe 2024, Own')\n"
        "def own(output):\n    return 1.0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLMBENCH_PATH", str(tmp_path))
    catalog = default_catalog()
    assert [(one.key, one.about) for one in cite(["mine"], catalog)] == [
        ("task-mine", ("task mine",)),
        ("doe2024own", ("metric own",)),
        ("slmbench", ("slmbench",)),
    ]
    assert not Path("canary").exists()
    with pytest.raises(UsageError, match="nothing is called 'gsm8'; did you mean 'gsm8k'"):
        cite(["gsm8"], catalog)
