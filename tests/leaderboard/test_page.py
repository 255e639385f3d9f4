from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from slmbench.leaderboard import build_leaderboard, load_runs, pages, write_leaderboard
from slmbench.leaderboard._samples import OPEN, OPEN_OF_RECORD, pick_samples, withheld, without_texts
from slmbench.leaderboard.page import render_page
from slmbench.leaderboard.pages import json_data, lines
from slmbench.runs import RunRecord, SampleRecord

_ALLOWED = """
html head meta title style body main header nav aside section div p h1 h2 h3 h4 h5 span a b small wbr code pre
ul ol li dl dt dd table caption thead tbody tr th td svg line circle details summary script
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


def render(path: Path, suite: str | None = None, out: Path | None = None) -> Page:
    runs, notices = load_runs(path)
    return Page(render_page(build_leaderboard(runs, suite, notices=notices), runs, out))


@pytest.fixture
def page(write_run, tmp_path) -> Page:
    write_run("base", [0] * 40, chance=0.25)
    write_run("tuned", [1, 0] * 15 + [1] * 10, adapter="note", chance=0.25)
    return render(tmp_path, "nano")


def test_the_page_shows_value_interval_rank_n_chance_and_cost(page) -> None:
    text = page.text()
    for shown in ("0.625", "0.470\u20130.758", "#1", "n = 40", "chance 0.250", "+280k adapter (25%)", "512 MB"):
        assert shown in text
    assert "adapter is 25% of the model\u2019s parameters" in text


def test_the_policy_allows_exactly_the_inline_style_and_script(page) -> None:
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    style = page.text("style")
    script = next(data for name, data in page.texts if name == "script" and "use strict" in data)
    for content in (style, script):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_nothing_is_loaded_from_anywhere(page) -> None:
    assert {name for name, _ in page.elements} <= TAGS
    for name, attributes in page.elements:
        assert not {"src", "srcset", "style", "srcdoc", "action", "formaction"} & set(attributes), name
        assert not [key for key in attributes if key.startswith("on")], name
        assert not re.match("[a-z]+:|//", attributes.get("href") or ""), attributes
    assert "url(" not in page.text("style")
    assert "@import" not in page.text("style")


def test_every_score_links_to_a_section_that_is_there(page) -> None:
    identifiers = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = [link["href"] for link in page.all("a") if link.get("class") == "value"]
    assert len(links) == 2
    assert {link.removeprefix("#") for link in links} <= identifiers


def test_tables_are_readable_by_a_screen_reader(page) -> None:
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(head.get("scope") for head in page.all("th"))
    assert all(svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    assert ("html", {"lang": "en"}) in page.elements


def test_samples_go_down_to_the_raw_output(page) -> None:
    shown = page.text("pre")
    assert "Note 0: shuffled words\nBrief:" in shown
    assert "output 0" in shown
    assert "answer 0" in shown
    assert "20 of 40 samples shown" in page.text()


def test_links_lead_from_the_page_to_the_runs_files(write_run, tmp_path) -> None:
    folder = write_run("run one#1", [1, 0])
    for out in (None, tmp_path / "leaderboard", tmp_path / "elsewhere" / "deep"):
        links = [link["href"] for link in render(tmp_path, out=out).all("a") if "samples.jsonl" in (link["href"] or "")]
        assert links
        from urllib.parse import unquote

        base = out or tmp_path / "leaderboard"
        assert (base / unquote(links[0])).resolve() == (folder / "samples.jsonl").resolve()


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
    page = render(tmp_path, attack, out=tmp_path / attack.replace("/", "_").replace("\x00", "").replace("\ud800", ""))
    assert page.open == []
    assert page.comments == []
    assert {name for name, _ in page.elements} <= TAGS
    assert len(page.all("script")) == 2
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], name
        assert not (attributes.get("href") or "").lower().startswith(("javascript", "//", "data"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", page.text())
    embedded = next(data for name, data in page.texts if name == "script" and "use strict" not in data)
    assert json.loads(embedded)["rows"][0]["model"] == attack.replace("\ud800", "\ufffd")


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
        pages.render("leaderboard.html.j2", title="x", styles=("page.css",), notices=[], data={}, rows=[])


def test_preformatted_text_keeps_its_first_empty_line() -> None:
    assert lines("\na\tb<\x1b") == "\n\na\tb&lt;\u241b"


def test_samples_are_half_right_and_half_wrong_where_there_are_enough(write_run, tmp_path) -> None:
    write_run("even", [1] * 50 + [0] * 50)
    write_run("hard", [0] * 97 + [1] * 3)
    write_run("few", [1, 0, 1])
    picked = {}
    for run in load_runs(tmp_path)[0]:
        picked[run.run_id] = [sample["scores"]["exact_match/strict"] for sample in pick_samples(run)]
    assert sorted(picked["even"]) == [0] * 10 + [1] * 10
    assert sorted(picked["hard"]) == [0] * 17 + [1] * 3
    assert picked["few"] == [1, 0, 1]


def test_samples_of_a_real_score_reach_from_the_worst_to_the_best(write_run, tmp_path) -> None:
    write_run("real", {"rouge/rougeL": [position / 100 for position in range(100)]})
    (run,), _ = load_runs(tmp_path)
    values = [sample["scores"]["rouge/rougeL"] for sample in pick_samples(run)]
    assert (min(values), max(values), len(values)) == (0.0, 0.99, 20)


def test_a_long_prompt_is_cut_in_the_middle_and_says_so(write_run, tmp_path) -> None:
    write_run("long", [1, 0], samples=[{"prompt": "START" + "x" * 50_000 + "END"}])
    shown = render(tmp_path).text("pre")
    assert "START" in shown
    assert "END" in shown
    assert "45508 characters are left out here" in shown


def test_legend_explains_the_badges_that_are_there_and_no_others(write_run, tmp_path, page) -> None:
    assert "limit N" not in page.text()
    write_run("peek", [1], model="other", limit=1)
    assert "limit N" in render(tmp_path).text()


def test_metrics_outside_zero_to_one_and_lower_is_better_are_drawn(write_run, tmp_path) -> None:
    write_run("one", {"edits": [12.0, 250.0, 31.5]}, higher_is_better=False, chance=300.0)
    page = render(tmp_path)
    assert "lower is better" in page.text()
    for circle in page.all("circle"):
        assert 0 <= float((circle["cx"] or "").removesuffix("%")) <= 100


def test_a_run_whose_samples_went_away_still_has_its_row(write_run, tmp_path) -> None:
    folder = write_run("gone", [1, 0])
    runs, _ = load_runs(tmp_path)
    (folder / "samples.jsonl").unlink()
    assert "0 of 2 samples shown" in render_page(build_leaderboard(runs), runs)


@pytest.mark.browser
def test_a_browser_runs_the_pages_script_and_no_other(write_run, tmp_path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    attack = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    write_run("odd", [1, 0], model=attack, samples=[{"output": attack, "prompt": attack}])
    runs, _ = load_runs(tmp_path)
    write_leaderboard(build_leaderboard(runs, "nano"), runs, tmp_path / "leaderboard")
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--enable-logging=stderr",
            "--dump-dom", (tmp_path / "leaderboard" / "index.html").as_uri() + "#run-1",
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "<title>slmbench leaderboard: nano</title>" in done.stdout
    # The script ran: it made the sorting buttons, and opened the run that the address names.
    assert '<button type="button"' in done.stdout
    assert '<details class="run" open="">' in done.stdout
    assert "<img" not in done.stdout
    assert "CONSOLE" not in done.stderr


def test_what_two_models_wrote_for_an_item_stands_side_by_side(write_run, tmp_path) -> None:
    for model in ("base", "tuned"):
        samples = [{"output": f"{model} wrote {position}"} for position in range(8)]
        write_run(model, [0.0, 1.0] * 4, model=model, samples=samples)
    runs, _ = load_runs([tmp_path])
    page = render_page(build_leaderboard(runs), runs)
    section = page[page.index('id="side-by-side"') : page.index('id="runs"')]
    assert "base: exact_match/strict" in section
    assert section.index("base wrote 0") < section.index("tuned wrote 0") < section.index("base wrote 1")
    assert "tuned wrote 4" in section
    assert "wrote 5" not in section


def test_one_model_alone_or_choices_have_no_side_by_side(write_run, tmp_path) -> None:
    write_run("one", [1.0] * 5, model="one")
    for model in ("a", "b"):
        samples = [{"choices": ["x", "y"]}] * 5
        write_run(f"{model}-choice", [1.0] * 5, model=model, task="choice", samples=samples)
    runs, _ = load_runs([tmp_path])
    assert 'id="side-by-side"' not in render_page(build_leaderboard(runs), runs)


def test_a_samples_verdict_and_format_fault_are_shown(write_run, tmp_path) -> None:
    faults = {"verdict": "timed out", "verdict_detail": "after 3 s", "format_fault": "not Toon: line 1"}
    write_run("code", [0.0], samples=[faults])
    runs, _ = load_runs([tmp_path])
    page = render_page(build_leaderboard(runs), runs)
    assert all(text in page for text in faults.values())


def test_the_seconds_an_item_takes_stand_beside_the_cost(write_run, tmp_path) -> None:
    write_run("one", [1.0] * 5, changes={"latency": "single stream"})
    write_run("two", [1.0] * 5, task="choice")
    runs, _ = load_runs([tmp_path])
    page = render_page(build_leaderboard(runs), runs)
    table = page[page.index("What a lone user waits") :]
    table = table[: table.index("</table>")]
    assert "nano_note" in table and "choice" not in table
    assert "12 ms / 2.0 s" in table


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
    assert SECRET in render_page(board, runs) or where == "run"
    write_leaderboard(board, runs, tmp_path / "leaderboard", no_texts=where == "page")
    for path in (tmp_path / "leaderboard").iterdir():
        assert SECRET not in path.read_text()
    source = (tmp_path / "leaderboard" / "index.html").read_text()
    assert hashlib.sha256(f"{SECRET} o".encode()).hexdigest() not in source  # Anyone could try all patients' numbers.
    digest = without_texts({"output": f"{SECRET} o"})["output"]
    page = Page(source)
    assert any("are kept out of this page" in text for _, text in page.texts)
    assert "Side by side" not in source
    assert sum(digest in text for _, text in page.texts) >= 2  # As the output, and as the choice that it is.
    assert any("chosen" in text for _, text in page.texts)


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
