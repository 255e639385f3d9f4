"""The files of a sweep: the same numbers in each, nothing that runs or loads, nothing that a name can break."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from attrs import evolve

from slmbench.leaderboard.pages import asset
from slmbench.sweeps import COSTS, Axis, Sweep, SweepColumn, SweepRow, sweep_json, table_of, write_sweep
from slmbench.sweeps._page import _HUES
from slmbench.values import Estimate

HOSTILE = '<script>alert(1)</script>"|=cmd\x1b[2J'


def row(rank, value, *, adapter="sums", leads=("parameters",), setting=None):
    costs = {"parameters": rank * 1000.0, "bytes": rank * 4000.0, "train_s": 2.0 * rank, "memory_bytes": 1e9 + rank}
    return SweepRow(
        setting or f"rank-{rank}",
        adapter,
        "nano",
        {"lora.rank": rank},
        (0, 1, 2),
        {"sums/acc": Estimate(value, 0.0, value - 0.05, value + 0.05, 3, "t-seeds")},
        costs,
        (f"points/rank-{rank}/adapters/{adapter}",),
        {"sums/acc": leads} if leads else {},
    )


@pytest.fixture
def sweep():
    return Sweep(
        "nano-quickstart",
        (Axis("lora.rank", (4, 8, 64)), Axis("seed", (0, 1, 2))),
        (SweepColumn("sums", "acc", True, None),),
        {"nano": {"sums/acc": Estimate(0.1, 0.0, 0.05, 0.2, 50, "wilson")}},
        (row(4, 0.4), row(8, 0.6), row(64, 0.55, leads=())),
        {"rank-256_seed-0": "out of memory"},
        base_fronts={"nano": {"sums/acc": ("parameters", "train_s")}},
    )


class Page(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.words, self._inside = [], [], []
        self.feed(markup)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside[-1:]):
            self.words.append(data)

    def all(self, tag, kind=None):
        return [a for name, a in self.elements if name == tag and (kind is None or kind in a.get("class", "").split())]


def page_of(sweep, tmp_path):
    write_sweep(sweep, str(tmp_path))
    return Page((tmp_path / "index.html").read_text(encoding="utf-8"))


def test_all_files_are_written_with_the_same_scores(sweep, tmp_path):
    paths = write_sweep(sweep, str(tmp_path))
    assert [path.rsplit("/")[-1] for path in paths] == ["sweep.json", "sweep.csv", "sweep.md", "index.html"]
    data = json.loads((tmp_path / "sweep.json").read_text())
    assert data == json.loads(json.dumps(sweep_json(sweep)))
    lines = list(csv.DictReader(io.StringIO((tmp_path / "sweep.csv").read_text())))
    values = {(line["setting"], line["column"]): float(line["value"]) for line in lines}
    assert values == {("base", "sums/acc"): 0.1} | {
        (one["setting"], key): score["value"] for one in data["rows"] for key, score in one["scores"].items()
    }
    assert [line["front"] for line in lines] == ["parameters train_s", "parameters", "parameters", ""]
    markdown = (tmp_path / "sweep.md").read_text()
    assert "0.600 ±0.050 \\*" not in markdown and "0.600 ±0.050 *" in markdown
    assert "rank-256" in markdown and "out of memory" in markdown


def test_the_page_has_a_panel_a_cost_and_a_dot_a_row(sweep, tmp_path):
    page = page_of(sweep, tmp_path)
    figures = [a for a in page.all("svg") if a.get("role") == "img"]
    assert [a["aria-label"] for a in figures] == [f"sums/acc against {label}" for label in COSTS.values()]
    dots = [a for a in page.all("circle", "dot") if a["r"] == "4" and a["cx"] != "7"]
    assert len(dots) == 4 * (3 + 1)  # The base is a dot, too.
    filled = [a for a in dots if "on" in a["class"].split()]
    assert len(filled) == 2 + 2  # Two rows lead, against one of the costs; the base against two.
    assert len(page.all("polyline", "front")) == 1
    assert len(page.all("line", "base")) == 4 + 1  # One a panel, and the one that explains it.


def test_every_adapter_has_a_hue_of_the_style_sheet() -> None:
    found = re.findall(r"^\.s(\d+) \{ stroke", asset("sweep.css"), re.MULTILINE)
    assert found == [str(i) for i in range(_HUES)]


def test_dots_lie_inside_their_panel_in_the_order_of_their_numbers(sweep, tmp_path):
    page = page_of(sweep, tmp_path)
    width, height = (float(part) for part in page.all("figure") and page.all("svg")[-1]["viewbox"].split()[2:])
    dots = [(float(a["cx"]), float(a["cy"])) for a in page.all("circle", "dot") if a["cx"] != "7"][:3]
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    xs, ys = zip(*dots, strict=True)
    assert list(xs) == sorted(xs)  # Ranks 4, 8 and 64.
    assert ys[1] < ys[2] < ys[0]  # Scores .4, .6, .55; up is small in SVG.


def test_the_page_loads_and_runs_nothing(sweep, tmp_path):
    page = page_of(sweep, tmp_path)
    markup = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", markup)
    assert [a for a in page.all("script")] == [{"type": "application/json", "id": "data"}]
    assert not [a for _, a in page.elements if any(key.startswith("on") for key in a)]
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy


def test_the_data_in_the_page_are_those_of_the_json(sweep, tmp_path):
    write_sweep(sweep, str(tmp_path))
    markup = (tmp_path / "index.html").read_text(encoding="utf-8")
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', markup, re.DOTALL).group(1)
    assert json.loads(inside) == json.loads((tmp_path / "sweep.json").read_text())


def test_names_are_text_and_nothing_else(sweep, tmp_path):
    from attrs import evolve

    rows = (row(4, 0.4, adapter=HOSTILE, setting=HOSTILE), *sweep.rows[1:])
    hostile = evolve(sweep, rows=rows, recipe=HOSTILE, failures={HOSTILE: HOSTILE}, notices=(HOSTILE,))
    page = page_of(hostile, tmp_path)
    assert len(page.all("script")) == 1
    assert "\x1b" not in "".join(page.words)
    assert "<script>" not in (tmp_path / "sweep.md").read_text()
    first = next(csv.reader(io.StringIO((tmp_path / "sweep.csv").read_text().split("\n", 2)[2])))
    assert not first[0].startswith("=")
    head, rows_, _ = table_of(hostile)
    assert not any("\x1b" in cell for line in [head, *rows_] for cell in line)


def test_the_terminal_table_marks_the_front(sweep):
    head, rows, legend = table_of(sweep)
    assert head == ["setting", "adapter", "sums", "trainable", "adapter", "training", "peak memory"]
    assert rows[0] == ["nano", "none", "0.100 [0.050, 0.200]† *", "0", "0", "0", "0"]
    assert [line[2].endswith(" *") for line in rows] == [True, True, True, False]
    assert "sums: acc" in legend and "over 3 seeds; † over the items of one run" in legend


def test_an_interval_over_items_is_marked_only_beside_ones_over_seeds(sweep, tmp_path):
    def markup(made):
        write_sweep(made, str(tmp_path))
        return (tmp_path / "index.html").read_text(encoding="utf-8")

    assert "0.100 [0.050, 0.200]†" in markup(sweep)
    alike = evolve(sweep, bases={})
    legend = table_of(alike)[2]
    assert "over 3 seeds" in legend and "†" not in legend + markup(alike)
    item = Estimate(0.5, 0.0, 0.4, 0.6, 50, "wilson")
    single = evolve(sweep, rows=tuple(evolve(one, scores={"sums/acc": item}, seeds=(0,)) for one in sweep.rows))
    assert "(over the items of one run)" in table_of(single)[2] and "†" not in str(table_of(single))


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (0.2, 0.2, 0.9), (1e-9, 2e-9, 3e-9), (-40.0, 12.5, 1234.0)])
def test_any_numbers_can_be_drawn(sweep, tmp_path, values):
    from attrs import evolve

    rows = [
        evolve(one, scores={"sums/acc": Estimate(v, 0.0, v, v, 1, "none")})
        for one, v in zip(sweep.rows, values, strict=True)
    ]
    page = page_of(evolve(sweep, rows=tuple(rows), bases={}), tmp_path)
    numbers = [float(a[key]) for a in page.all("circle") for key in ("cx", "cy")]
    assert all(0 <= number <= 400 for number in numbers)


def test_a_sweep_without_a_result_still_says_why(sweep, tmp_path):
    from attrs import evolve

    page = page_of(evolve(sweep, rows=(), columns=(), bases={}), tmp_path)
    words = " ".join(page.words)
    assert "No point has a result." in words and "out of memory" in words


@pytest.fixture
def layered(sweep):
    """Two ranks on attention, the MLP and both."""
    rows = tuple(
        evolve(
            row(rank, value + 0.01 * place),
            setting=f"rank-{rank}_targets-{name}",
            changed={"lora.rank": rank, "lora.targets": [name.lower()]},
            targets=name,
        )
        for rank, value in ((4, 0.4), (16, 0.5))
        for place, name in enumerate(("attention", "MLP", "both"))
    )
    return evolve(sweep, rows=rows)


def test_layers_have_a_column_and_each_set_of_them_a_mark_and_a_line_of_its_own(layered, tmp_path):
    write_sweep(layered, str(tmp_path))
    markup = (tmp_path / "index.html").read_text(encoding="utf-8")
    page = Page(markup)
    elements = [(tag, dict(attributes)) for tag, attributes in page.elements]
    panels = markup.count('class="panel"')
    dots = {
        tag: sum(tag == one and "dot" in (told.get("class") or "") for one, told in elements)
        for tag in ("circle", "polygon")
    }
    # Attention is round; of the key there is one mark each, and the base has its circle.
    assert dots == {"circle": panels * 3 + 2, "polygon": panels * 4 + 2}
    lines = [told["class"] for tag, told in elements if tag == "polyline" and told["class"].startswith("line")]
    assert sorted(set(lines)) == ["line s0", "line s1", "line s2"] and len(lines) == panels * 3
    head, rows, _ = table_of(layered)
    assert [line[head.index("targets")] for line in rows] == ["none", *("attention", "MLP", "both") * 2]
    assert "| attention |" in (tmp_path / "sweep.md").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "sweep.csv").read_text(encoding="utf-8"))))
    assert [line["targets"] for line in lines] == ["", *("attention", "MLP", "both") * 2]
    assert [one["targets"] for one in sweep_json(layered)["rows"]] == ["attention", "MLP", "both"] * 2
    assert ">16, attention</text>" in markup or ">4, attention</text>" in markup


def test_of_several_adapters_colours_are_the_adapters_and_marks_the_layers(layered, tmp_path):
    other = tuple(evolve(one, adapter="words") for one in layered.rows)
    write_sweep(evolve(layered, rows=layered.rows + other), str(tmp_path))
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    polygons = {told["class"].removesuffix(" on") for tag, told in page.elements if tag == "polygon"}
    assert polygons == {"dot s0", "dot s1", "dot any"}


def test_a_sweep_on_one_set_of_layers_has_no_such_column(sweep):
    assert "targets" not in table_of(sweep)[0]
    assert all("targets" not in one for one in sweep_json(sweep)["rows"])
