"""The page: what is in its index, what is in its data files, and that no text of a run is ever more than text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from jinja2 import UndefinedError

from slmbench.leaderboard import build_leaderboard, load_runs, pages, write_leaderboard
from slmbench.leaderboard._page_data import family
from slmbench.leaderboard._page_items import LEAST_OF_A_RUN
from slmbench.leaderboard._page_rows import packed_scores
from slmbench.leaderboard._samples import OPEN, OPEN_OF_RECORD, withheld, without_texts
from slmbench.leaderboard.page import render_page
from slmbench.leaderboard.pages import json_data, lines
from slmbench.runs import RunRecord, SampleRecord
from tests.leaderboard.conftest import read_page

_ALLOWED = """
html head meta title style body main header nav section div p h1 h2 h3 span a b small wbr
ul li dl dt dd table caption thead tbody tr th td figure figcaption script
"""
TAGS = set(_ALLOWED.split())
ATTACKS = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
    "</pre></details></title></style><iframe src=//evil.example>",
    "]]><![CDATA[",
    "\u2028\u2029\x00\x1b[2J\u202e",
    "\ud800",
    "__proto__",
)


class Page(HTMLParser):
    """What a browser would make of the page: elements with their attributes, and text by element."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in ("meta", "wbr"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data):
        self.comments.append(data)

    def text(self, name: str | None = None) -> str:
        return "".join(data for within, data in self.texts if name in (None, within))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == name]


def render(path: Path, suite: str | None = None) -> Page:
    runs, notices = load_runs(path)
    return Page(render_page(build_leaderboard(runs, suite, notices=notices), runs))


def written(path: Path, out: Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the index of a page over all runs under path knows, and its data files."""
    runs, notices = load_runs(path)
    write_leaderboard(build_leaderboard(runs, notices=notices), runs, out, **options)
    return read_page(out)


@pytest.fixture
def page(write_run, tmp_path) -> Page:
    write_run("base", [0] * 40, chance=0.25)
    write_run("tuned", [1, 0] * 15 + [1] * 10, adapter="note", chance=0.25)
    return render(tmp_path, "nano")


def test_without_a_script_score_interval_and_rank_are_in_a_table(page) -> None:
    assert "0.625 (0.470\u20130.758) rank\u00a01" in page.text("td")
    assert "score (95% interval), then the ranks that the data leaves open" in page.text("p")
    assert len(page.all("caption")) == len(page.all("table")) == 1
    assert all(head.get("scope") for head in page.all("th"))
    assert ("html", {"lang": "en"}) in page.elements


def test_the_policy_allows_the_inline_style_and_script_and_what_that_script_loads(page) -> None:
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    style = page.text("style")
    script = next(data for name, data in page.texts if name == "script" and "use strict" in data)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    assert rules == {
        "default-src": ["'none'"],
        "style-src": [f"'sha256-{digests[0]}'"],
        "script-src": [f"'sha256-{digests[1]}'", "'strict-dynamic'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["slmbench"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }


def test_nothing_is_loaded_from_anywhere(page) -> None:
    assert {name for name, _ in page.elements} <= TAGS
    for name, attributes in page.elements:
        assert not {"src", "srcset", "style", "srcdoc", "action", "formaction"} & set(attributes), name
        assert not [key for key in attributes if key.startswith("on")], name
        assert not re.match("[a-z]+:|//", attributes.get("href") or ""), attributes
    assert "url(" not in page.text("style")
    assert "@import" not in page.text("style")


def test_no_module_of_the_page_makes_markup_of_text_or_fetches() -> None:
    for path in sorted(Path(pages.__path__[0], "app").glob("*.js")):
        source = path.read_text(encoding="utf-8")
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|fetch\(|https?:", source
        )
        assert [one for one in found if one != "http:"] == [] or path.name == "dom.js", path.name
        assert len(source.splitlines()) <= 450
    assert re.findall('https?://[^"]*', pages.asset("app/dom.js")) == ["http://www.w3.org/2000/svg"]


def test_items_go_down_to_the_raw_output(write_run, tmp_path) -> None:
    write_run("base", [0, 1, 0], samples=[{"output": "first\nline", "references": ["answer 0", "or this"]}])
    index, files = written(tmp_path, tmp_path / "leaderboard")
    items = files[index["conditions"][0]["items"]]
    assert items["ids"] == ["item-0000", "item-0001", "item-0002"] and items["texts"] is None
    (asked,), (row,) = items["asked"], index["rows"]
    assert files[asked][0] == ["Note 0: shuffled words\nBrief:", "answer 0", ["or this"], None, None]
    data = files[row["chunk"]]
    assert data["scores"] == [[0, ["b010"]]]
    (run,) = data["runs"]
    (wrote,) = run["wrote"]
    assert files[wrote][0] == [["first\nline", [["ended by", "stop"], ["tokens", "40 in, 9 out"]]]]
    assert files[index["runs"]] == [["base", 0]] and run["id"] == "base"


def test_an_item_is_listed_by_what_only_its_own_prompt_has(write_run, tmp_path) -> None:
    start = "<|im_start|>system\nYou are kind.<|im_end|>\n" + "A shot.\n\n" * 600 + "Question: "
    prompts = [f"{start}{question}\nAnswer:" for question in ("How far is it?", "How many are there?", "Who was it?")]
    write_run("chat", [1, 0, 1], samples=[{"prompt": prompt} for prompt in prompts])
    index, files = written(tmp_path, tmp_path / "leaderboard")
    glimpses = files[index["conditions"][0]["items"]]["glimpses"]
    assert glimpses == ["How far is it? Answer:", "How many are there? Answer:", "Who was it? Answer:"]


def test_links_lead_from_the_page_to_the_runs_files(write_run, tmp_path) -> None:
    folder = write_run("run one#1", [1, 0])
    for out in (tmp_path / "leaderboard", tmp_path / "elsewhere" / "deep"):
        index, files = written(tmp_path, out)
        (run,) = files[index["rows"][0]["chunk"]]["runs"]
        assert (out / unquote(run["samples"])).resolve() == (folder / "samples.jsonl").resolve()
        assert run["record"].startswith("./../")


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_anywhere_is_text(write_run, tmp_path, attack) -> None:
    sample = {
        "item_id": attack, "prompt": attack, "output": attack, "target": attack, "references": [attack + "2"],
        "choices": [attack, "b"], "loglikelihoods": [-1.0, -2.0], "gold": 0, "finish_reason": attack,
    }  # fmt: skip
    changes = {"dataset.id": attack, "engine": attack, "hardware": {"cpu": attack}, "created": "2026-11-20T10:00:00Z"}
    write_run(
        "odd", {attack: [1.0, 0.0]}, model=attack, adapter=attack, task=attack, key=attack, samples=[sample],
        changes={**changes, "run_id": attack, "adapter.recipe": attack, "format": attack},
    )  # fmt: skip
    out = tmp_path / attack.replace("/", "_").replace("\x00", "").replace("\ud800", "")
    runs, notices = load_runs(tmp_path)
    write_leaderboard(build_leaderboard(runs, attack, notices=notices), runs, out)
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.comments == []
    assert {name for name, _ in page.elements} <= TAGS
    assert len(page.all("script")) == 2
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], name
        assert not (attributes.get("href") or "").lower().startswith(("javascript", "//", "data"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", page.text())
    index, files = read_page(out)
    for path in (out / "data").iterdir():
        assert not set("<>&\u2028") & set(path.read_text("ascii"))
    (row,) = index["rows"]
    assert row["model"] == pages.texts.json_ready(attack) or row["model"] == pages.visible(attack)
    (run,) = files[row["chunk"]]["runs"]
    assert run["record"].startswith("./") and run["samples"].startswith("./")
    for value in (index, *files.values()):
        assert_fixed_keys(value)


def assert_fixed_keys(value: object) -> None:
    """No key of an object in the page's data is a run's own text: one could be `__proto__`."""
    if isinstance(value, dict):
        assert all(re.fullmatch("[a-zA-Z_]{1,12}", key) and key != "__proto__" for key in value), value.keys()
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            assert_fixed_keys(part)


def test_json_in_the_page_cannot_end_its_script() -> None:
    content = json_data({"a": "</script><!--<script>&\u2028", "b": float("nan")})
    assert not set("<>&\u2028") & set(content)
    assert json.loads(content) == {"a": "</script><!--<script>&\u2028", "b": None}


@pytest.mark.parametrize("template", sorted(Path(pages.__path__[0]).glob("*.j2")), ids=lambda path: path.name)
def test_a_template_takes_nothing_for_markup_and_calls_nothing_but_what_it_is_given(template: Path) -> None:
    source = template.read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe|autoescape|Markup|\{% *include|\bon[a-z]+=|style=|javascript:", source)


def test_a_value_that_a_template_wants_and_does_not_get_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        pages.render("leaderboard.html.j2", title="x", styles=("sweep.css",), notices=[], data={}, rows=[])


def test_preformatted_text_keeps_its_first_empty_line() -> None:
    assert lines("\na\tb<\x1b") == "\n\na\tb&lt;\u241b"


def test_texts_are_those_of_the_items_that_runs_differ_in_most_and_of_some_that_all_fail(
    write_run, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("slmbench.leaderboard._page_items.SAMPLES_SHOWN", 40)
    write_run("a", [1] * 50 + [0] * 50)
    write_run("b", [1] * 40 + [0] * 60, model="other")
    index, files = written(tmp_path, tmp_path / "leaderboard")
    texts = files[index["conditions"][0]["items"]]["texts"]
    assert len(texts) == 20 > LEAST_OF_A_RUN
    assert set(texts) >= set(range(40, 50)) and any(at >= 50 for at in texts) and any(at < 40 for at in texts)
    wrote = [files[name] for row in index["rows"] for run in files[row["chunk"]]["runs"] for name in run["wrote"]]
    assert [len(part) for part in wrote] == [20] * 2
    assert {part[0][0][0] for part in wrote} == {f"output {texts[0]}"}


def test_a_long_prompt_is_cut_in_the_middle_and_says_so(write_run, tmp_path) -> None:
    write_run("long", [1, 0], samples=[{"prompt": "START" + "x" * 50_000 + "END", "output": "y" * 10_000_000}])
    _, files = written(tmp_path, tmp_path / "leaderboard")
    prompt = next(value for name, value in files.items() if name.startswith("asked-"))[0][0]
    assert prompt.startswith("START") and prompt.endswith("END") and "45508 characters are left out here" in prompt
    assert sum(path.stat().st_size for path in (tmp_path / "leaderboard").rglob("*.*")) < 400_000


def test_scores_are_packed() -> None:
    assert packed_scores(np.array([1.0, 0.0, np.nan])) == "b10."
    assert packed_scores(np.array([0.125, -3.0, np.nan])) == "r0.125;-3;"


def test_legend_explains_the_badges_that_are_there_and_no_others(write_run, tmp_path, page) -> None:
    assert "limit N" not in page.text()
    write_run("peek", [1], model="other", limit=1)
    assert "limit N" in render(tmp_path).text()


def test_a_run_whose_samples_went_away_still_has_its_row(write_run, tmp_path) -> None:
    folder = write_run("gone", [1, 0])
    runs, _ = load_runs(tmp_path)
    (folder / "samples.jsonl").unlink()
    write_leaderboard(build_leaderboard(runs), runs, tmp_path / "leaderboard")
    index, files = read_page(tmp_path / "leaderboard")
    assert files[index["rows"][0]["chunk"]]["scores"] == [[0, ["b10"]]]
    assert files[index["conditions"][0]["items"]]["ids"] == ["item 1", "item 2"]


def test_data_files_of_an_earlier_page_go_and_other_peoples_files_stay(write_run, tmp_path) -> None:
    write_run("one", [1, 0])
    _, first = written(tmp_path, tmp_path / "leaderboard")
    (tmp_path / "leaderboard" / "data" / "notes.txt").write_text("mine")
    write_run("two", [1, 1], model="other")
    runs, _ = load_runs(tmp_path)
    write_leaderboard(build_leaderboard(runs), runs, tmp_path / "leaderboard")
    (tmp_path / "leaderboard" / "data" / "notes.txt").unlink()  # It was left alone.
    index, second = read_page(tmp_path / "leaderboard")
    wanted = {row["chunk"] for row in index["rows"]} | {index["runs"], index["conditions"][0]["items"]}
    assert wanted <= second.keys() and len(index["rows"]) == 2
    assert {name for name in first if name.startswith("runs-")}.isdisjoint(second)


def test_clusters_are_told_by_small_numbers(write_run, tmp_path) -> None:
    write_run("one", [1, 0, 1, 1], clusters=["ward 7", None, "ward 7", "ward 9"])
    index, files = written(tmp_path, tmp_path / "leaderboard")
    assert files[index["conditions"][0]["items"]]["clusters"] == [0, -1, 0, 1]
    assert index["conditions"][0]["clustered"] is True


@pytest.mark.parametrize(
    ("model", "shared"),
    [
        ("SmolLM2-135M-Instruct", "SmolLM2"), ("Qwen/Qwen2.5-0.5B", "Qwen2.5"), ("Llama-3.2-1B", "Llama-3.2"),
        ("nano", "nano"), ("stories260K", "stories"), ("gpt2-medium", "gpt2"), ("135M", "135M"), ("", ""),
    ],
)  # fmt: skip
def test_models_of_one_family_share_a_name(model: str, shared: str) -> None:
    assert family(model) == shared


def test_a_samples_verdict_and_format_fault_are_shown(write_run, tmp_path) -> None:
    faults = {"verdict": "timed out", "verdict_detail": "after 3 s", "format_fault": "not Toon: line 1"}
    write_run("code", [0.0], samples=[faults])
    _, files = written(tmp_path, tmp_path / "leaderboard")
    wrote = next(value for name, value in files.items() if name.startswith("wrote-"))
    assert {words for _, words in wrote[0][0][1]} >= set(faults.values())
    (run,) = next(value for name, value in files.items() if name.startswith("row-"))["runs"]
    assert run["verdicts"] == [["timed out"], [0]]


def test_the_time_that_an_item_takes_alone_is_with_its_row(write_run, tmp_path) -> None:
    write_run("one", [1.0] * 5, changes={"latency": "single stream"})
    write_run("two", [1.0] * 5, task="choice")
    index, files = written(tmp_path, tmp_path / "leaderboard")
    assert files[index["rows"][0]["chunk"]]["latency"] == [["nano_note", "12 ms / 2.0 s"]]


SECRET = "Mrs Miller, born 1951"


@pytest.mark.parametrize("where", ["page", "run"])
def test_without_texts_no_word_of_an_item_is_on_the_page_and_equal_texts_stay_equal(write_run, tmp_path, where) -> None:
    hidden = {
        "item_id": f"{SECRET} 0",
        "cluster_id": f"{SECRET} c",
        "prompt": f"{SECRET} p",
        "target": f"{SECRET} t",
        "references": [f"{SECRET} r"],
        "output": f"{SECRET} o",
        "choices": [f"{SECRET} o", f"{SECRET} other"],
        "loglikelihoods": [-1.0, -2.0],
        "gold": 0,
        "verdict_detail": f"{SECRET} d",
        "format_fault": f"{SECRET} f",
    }
    changes = {"no_texts": True} if where == "run" else {}
    texts = {"output": f"{SECRET} written", "prompt": f"{SECRET} asked"}
    for adapter in (None, "note"):
        write_run(f"run-{adapter}", [1, 0, 1], samples=[hidden, texts], adapter=adapter, changes=changes)
    runs, notices = load_runs(tmp_path)
    board = build_leaderboard(runs, notices=notices)
    seen = []
    render_page(board, runs, put=lambda name, content: seen.append(content))
    assert any(SECRET in content for content in seen) or where == "run"
    write_leaderboard(board, runs, tmp_path / "leaderboard", no_texts=where == "page")
    index, files = read_page(tmp_path / "leaderboard")
    hashed = [hashlib.sha256(f"{SECRET}{end}".encode()) for end in (" o", " 0", " c")]
    for path in (tmp_path / "leaderboard").rglob("*.*"):
        source = path.read_text()
        assert SECRET not in source
        for known in hashed:  # Anyone could try all patients' numbers.
            assert known.hexdigest()[:16] not in source
            assert str(int.from_bytes(known.digest()[:8], "big")) not in source
            assert str(int.from_bytes(known.digest()[:8], "big") >> 1) not in source
    digest = without_texts({"output": f"{SECRET} o"})["output"]
    assert "are kept out of this page" in index["about"]
    items = files[index["conditions"][0]["items"]]
    assert files[items["asked"][0]][0][3][0] == digest  # The choice that is the output is still seen to be it.
    for row in index["rows"]:
        (run,) = files[row["chunk"]]["runs"]
        assert files[run["wrote"][0]][0][0][0] == digest
    assert all(one.startswith("digest ") for one in items["ids"])


# A new field belongs here, where its texts or what is told by its numbers must stay in the run's folder, or among OPEN.
KEPT_BACK = {
    "choices",
    "cluster_id",
    "format_fault",
    "gold",
    "item_id",
    "output",
    "parts",
    "prompt",
    "prompt_sha256",
    "references",
    "target",
    "verdict_detail",
    "version",
}
KEPT_BACK_OF_RECORD = {
    "chat_template_sha256",
    "code",
    "engine_version",
    "fewshot_sha256",
    "generation",
    "item_scores_sha256",
    "kv_budget_B",
    "packages",
    "prompts_sha256",
    "record_sha256",
    "samples_sha256",
    "version",
    "scorer",
    "tokenizer_sha256",
}


@pytest.mark.parametrize(
    ("model", "shown", "kept_back"), [(SampleRecord, OPEN, KEPT_BACK), (RunRecord, OPEN_OF_RECORD, KEPT_BACK_OF_RECORD)]
)
def test_every_field_is_open_or_kept_back_on_pages_without_texts(model, shown, kept_back) -> None:
    assert shown | kept_back == model.model_fields.keys()
    assert not shown & kept_back


def test_what_is_not_open_is_withheld_whatever_it_holds_and_whatever_it_is_called(write_run, tmp_path) -> None:
    odd = {"parts": {SECRET: [SECRET, 3]}, "gold": 1, "choices": [SECRET, 7], "new": SECRET, "verdict": "failed"}
    made = without_texts({"item_id": SECRET, "scores": {"m": 1.0}} | odd)
    assert SECRET not in json.dumps(made) and "new" not in made
    assert made["gold"] is None and made["choices"][1] is None and next(iter(made["parts"].values()))[1] is None
    assert made["scores"] == {"m": 1.0} and made["verdict"] == "failed"
    write_run("one", [1], changes={"generation": {"stop": [SECRET]}, "note": SECRET})
    (run,), _ = load_runs(tmp_path)
    assert SECRET in json.dumps(run.record) and SECRET not in json.dumps(withheld(run).record)
