"""The page as people use it: in Chromium, from a disk, under its own content security policy."""

from __future__ import annotations

import json
import random
import shutil
import time
from urllib.parse import quote

import numpy as np
import pytest

from slmbench.leaderboard import pages
from slmbench.statistics.pairs import compare_pair

pytestmark = pytest.mark.browser

VIEWS = ("table", "plot", "compare", "items", "runs")


def at(view: str, **parameters: str) -> str:
    return f"#{view}?" + "&".join(f"{key}={quote(value)}" for key, value in parameters.items())


def until(tab, condition: str) -> None:
    """Waits for a condition of the page's. Playwright's own way evaluates texts inside it, which its policy forbids."""
    end = time.monotonic() + 10
    while not tab.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def ready(tab, view: str):
    """tab, once the view has loaded what it shows at first."""
    tab.locator(f".tabs a[aria-current][data-view={view}]").wait_for()
    until(tab, "!document.querySelector('[aria-busy]')")
    if view in ("compare", "items"):
        tab.locator(".detail pre, .detail .nothing").first.wait_for()
    return tab


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_anything_that_axe_finds_fault_with(visit, few, picture, scheme) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    tab = visit(few, "#table", color_scheme=scheme)
    for view in VIEWS:
        tab.evaluate("view => { location.hash = view; }", view)
        ready(tab, view)
        if view == "table":
            # A card is open, and an address that names what isn't there is told of.
            tab.evaluate("location.hash = '#table?sort=gone'")
            tab.get_by_role("alert").wait_for()
            tab.locator("tbody td.score a").first.focus()
            tab.locator(".peek").wait_for()
        picture(tab, f"few-{view}-{scheme}")
        assert tab.locator(".how").count() == 1
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        if view == "runs":
            until(tab, "document.querySelectorAll('.run .body > .facts').length === 3")
            tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        found = axe.run(tab).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == [], view


def test_a_run_s_text_is_never_more_than_text(visit, few) -> None:
    for view, more in (
        ("table", {}),
        ("items", {"column": "__proto__/exact_match/strict", "item": "__proto__"}),
        ("runs", {}),
        ("compare", {}),
    ):
        tab = ready(visit(few, at(view, **more)), view)
        if view == "items":
            assert "onerror" in tab.locator(".detail").inner_text()
            tab.locator(".one", has_text="item-0001").click()
            until(tab, "document.querySelector('.detail').innerText.includes('characters are left out')")
            assert "\u27e8U+202E\u27e9" in tab.locator(".detail").inner_text()
        if view == "runs":
            tab.locator(".run > summary").last.click()
            tab.locator(".run .facts").first.wait_for()
        assert tab.title() == f"{view.capitalize()}: slmbench leaderboard: few".replace("Runs", "Runs and notices")
        assert tab.locator("img, iframe, script[src]").count() == 0


def test_a_reader_filters_sorts_and_sends_what_is_seen_as_a_link(visit, many, picture) -> None:
    tab = visit(many)
    tab.locator("tbody th a").first.wait_for()
    picture(tab, "many-table")
    assert tab.locator("output.told").inner_text() == "300 models"
    assert tab.evaluate("document.querySelectorAll('*').length") < 5000
    tab.get_by_label("Filter").fill("elm <1b")
    until(tab, "document.querySelector('output.told').innerText === '100 of 300 models'")
    tab.get_by_label("Filter").fill("elm <1b <2zz")
    said = tab.locator("output.told").inner_text()
    assert said == "100 of 300 models; “<2zz” is no bound, which is like <2b or >=500m"
    tab.locator("thead button", has_text="sums").click()
    link = tab.url
    assert "q=elm" in link and "sort=sums" in link
    names = tab.locator("tbody th a b").all_inner_texts()
    other = visit(many, link[link.index("#") :])
    other.locator("tbody th a").first.wait_for()
    assert other.locator("tbody th a b").all_inner_texts() == names
    scores = [float(text.split()[-1]) for text in other.locator("tbody td.score:last-child a").all_inner_texts()]
    assert scores == sorted(scores, reverse=True) and len(scores) > 5
    assert other.locator("th[aria-sort=descending]").count() == 1


def test_cells_say_interval_and_rank_in_words_and_keys_move_between_them(visit, few) -> None:
    tab = visit(few)
    first = tab.locator("tbody td.score a").first
    said = first.get_attribute("aria-label")
    assert "95% interval 0." in said and "rank 1" in said and "of 3" in said
    tab.locator("tbody th a").first.focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowRight")
    focused = tab.evaluate("[document.activeElement.closest('tr').dataset.row, document.activeElement.dataset.col]")
    assert focused[0] == "1" and focused[1] != "0"
    tab.keyboard.press("End")
    tab.keyboard.press("Enter")
    until(tab, "location.hash.startsWith('#items') || location.hash.startsWith('#runs')")


def test_the_table_is_one_tab_stop_that_keeps_the_focus(visit, many) -> None:
    tab = visit(many)
    tab.locator("tbody th a").first.wait_for()
    where = """() => { const one = document.activeElement; const row = one.closest("tr");
        if (row) return [Number(row.dataset.row), Number(one.dataset.col)];
        return one === document.body ? null : one.tagName; }"""
    stops = []
    while len(stops) < 40:
        tab.keyboard.press("Tab")
        if (stop := tab.evaluate(where)) is None:
            break
        stops.append(stop)
    assert stops.count([0, 0]) == 1 and sum(isinstance(stop, list) for stop in stops) == 1 and len(stops) < 40
    tab.locator("tbody th a").first.focus()
    places = []
    for key in (
        "End",
        "PageDown",
        "ArrowLeft",
        "Home",
        "ArrowLeft",
        "Space",
        "ArrowDown",
        "Space",
        "ArrowDown",
        "Space",
    ):
        tab.keyboard.press(key)
        places.append(tab.evaluate(where))
    down = places[1][0]
    assert places[0] == [0, 4] and down > 5 and places[2:6] == [[down, 3], [down, 0], [down, -1], [down, -1]]
    assert places[6:] == [[down + 1, -1]] * 2 + [[down + 2, -1]] * 2
    assert tab.locator("tbody input:checked").count() == 2
    assert "is no longer chosen" in tab.locator(".tray").inner_text()
    # The row with the focus is there when the table is scrolled away from it, and a key leads back to it.
    tab.evaluate("document.querySelector('.frame').scrollTop = 1e6")
    tab.locator('tr[aria-rowindex="301"]').wait_for()
    assert tab.evaluate(where) == [down + 2, -1]
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
    assert tab.evaluate(where) == [down + 2, 3]
    box = tab.evaluate(
        "[document.activeElement, document.querySelector('.frame')].map((one) => one.getBoundingClientRect().top)"
    )
    assert box[0] > box[1]
    tab.locator(".peek:not([hidden])").wait_for()
    tab.keyboard.press("Escape")
    assert tab.locator(".peek").is_hidden() and tab.evaluate(where) == [down + 2, 3]
    tab.keyboard.press("Escape")
    assert tab.evaluate(where) == "INPUT"


def test_one_condition_stands_beside_the_other_and_columns_can_be_chosen(visit, few) -> None:
    tab = visit(few, "#table")
    heads = tab.locator("thead th.score").all_inner_texts()
    assert sum("notes" in head for head in heads) == 2 and any("chat" in head for head in heads)
    tab.locator(".pop summary").click()
    tab.get_by_role("button", name="every metric").click()
    assert "cols=all" in tab.url
    assert tab.locator("thead th.score").count() == len(heads) + 1
    places = tab.locator("tbody tr").first.locator("a").evaluate_all("(links) => links.map((link) => link.dataset.col)")
    # Name, mean and scores: no cost, as the models' parameters don't differ.
    assert places == [str(at) for at in range(len(heads) + 3)]
    tab = visit(few, "#table?costs=parameters")
    assert "Parameters" in tab.locator(".frame thead").inner_text()


def test_far_rows_are_there_when_they_are_scrolled_to(visit, many) -> None:
    tab = visit(many)
    tab.locator("tbody th a").first.wait_for()
    tab.evaluate("document.querySelector('.frame').scrollTop = 1e6")
    tab.locator('tr[aria-rowindex="301"]').wait_for()
    tab.locator("tbody th a").last.focus()
    tab.keyboard.press("PageUp")
    assert int(tab.evaluate("document.activeElement.closest('tr').dataset.row")) < 299


def test_the_base_that_costs_nothing_is_on_the_front(visit, few) -> None:
    tab = ready(visit(few, at("plot", x="train_s", y="sums/exact_match/strict")), "plot")
    assert tab.locator("svg.plot .dot").count() == 3
    tab.locator("summary", has_text="The same as a table").click()
    lines = tab.locator(".plain tbody tr").all_inner_texts()
    assert [line.split("\t")[0] for line in lines if "on the front" in line][-1] == "base + tuned"
    assert lines[0].split("\t")[1] == "0" and "on the front" in lines[0]


def test_the_plot_tells_who_is_not_drawn_and_adapters_from_models_as_they_are(visit, few) -> None:
    board = json.loads((few / "leaderboard.json").read_text(encoding="utf-8"))
    tab = ready(visit(few, at("plot", x="train_s", y="sums/exact_match/strict")), "plot")
    assert tab.locator("svg.plot circle.dot").count() == 2
    assert tab.locator("svg.plot rect.dot").count() == 1
    assert {"base", "base + tuned"} <= set(tab.locator("svg.plot .label").all_text_contents())
    assert tab.locator(".absent").count() == 0
    lacking = next(row for row in board["rows"] if len(row["scores"]) < len(board["columns"]))
    column = next(column["key"] for column in board["columns"] if column["key"] not in lacking["scores"])
    tab = ready(visit(few, at("plot", x="train_s", y=column)), "plot")
    assert tab.locator(".absent").inner_text().endswith(f": {lacking['name']}.")


def test_a_view_that_is_left_before_its_data_is_there_listens_no_more(visit, few) -> None:
    tab = ready(visit(few, "#table"), "table")
    heard = tab.evaluate(
        """async () => {
          const heard = [], real = document.addEventListener.bind(document);
          document.addEventListener = (kind, does, how) => { heard.push(how); real(kind, does, how); };
          const gone = (hash) => new Promise((done) => {
            window.addEventListener("hashchange", () => done(), { once: true });
            location.hash = hash;
          });
          for (const hash of ["#items", "#compare", "#items", "#table", "#plot"]) await gone(hash);
          await new Promise((done) => setTimeout(done, 400));
          return heard.map((how) => Boolean(how && how.signal && how.signal.aborted));
        }"""
    )
    assert heard and all(heard)
    assert tab.locator(".browser").count() == 0


def test_the_means_card_has_its_rank_and_compare_has_both_means(visit, few) -> None:
    tab = ready(visit(few, "#table"), "table")
    tab.locator("td.mean a").first.focus()
    tab.locator(".peek:visible").wait_for()
    assert "rank" in tab.locator(".peek").inner_text() and "Mean" in tab.locator(".peek").inner_text()
    tab = ready(visit(few, at("compare", a="base", b="base + tuned")), "compare")
    assert tab.locator(".means").inner_text().startswith("Mean of")


def test_comparison_leads_to_flipped_items_and_marks_the_words_that_differ(visit, few) -> None:
    tab = ready(visit(few, at("compare", a="base", b="base + tuned", column="sums/exact_match/strict")), "compare")
    assert tab.locator(".answer").inner_text().startswith("base + tuned is better on")
    assert tab.locator(".part").first.inner_text().endswith("only B right")
    assert tab.locator(".side.a mark").all_inner_texts() == ["0"]
    assert tab.locator(".side.b mark").all_inner_texts() == ["1"]
    before = tab.locator(".detail h3").first.inner_text()
    tab.keyboard.press("j")
    until(tab, f"document.querySelector('.detail h3').innerText !== {before!r}")
    assert "item=" in tab.url
    tab.get_by_role("button", name="swap").click()
    ready(tab, "compare")
    assert tab.get_by_label("B", exact=True).input_value() == "base"


def test_a_model_is_compared_with_itself_under_another_condition(visit, few) -> None:
    tab = ready(visit(few, at("compare", a="base", b="base")), "compare")
    assert tab.locator(".line .what").all_inner_texts()[0].startswith("notes, chat against plain")
    counts = [int(text.split("\n")[0]) for text in tab.locator(".part").all_inner_texts()]
    assert sum(counts) == 40
    assert [text.split(" exact")[0] for text in tab.locator(".sides h3").all_inner_texts()] == ["A: plain", "B: chat"]
    tab.get_by_label("search items").fill("output 17")
    until(tab, "document.querySelector('.split .told').innerText === '1 of 40 items'")


def test_items_that_fail_come_first_and_a_search_finds_what_was_written(visit, few) -> None:
    tab = ready(visit(few, at("items", row="base + tuned", column="sums/exact_match/strict")), "items")
    verdicts = tab.locator(".one .verdict").all_inner_texts()
    assert verdicts == sorted(verdicts, reverse=True) and verdicts[0] == "wrong"
    tab.get_by_label("search items").fill("of 1 is 17 or")
    until(tab, "document.querySelector('.split .told').innerText === '1 of 40 items'")
    assert tab.locator(".one b").inner_text() == "item-0017"
    tab.get_by_label("search items").fill("")
    tab.locator(".part.wrong").click()
    until(tab, "document.querySelectorAll('.one .verdict.right').length === 0")


def test_programs_that_fail_are_parted_by_what_the_sandbox_said(visit, few) -> None:
    tab = ready(visit(few, at("items", row="base", column="code/exact_match/strict")), "items")
    parts = [part.split("\n") for part in tab.locator(".part").all_inner_texts()]
    assert parts == [["7", "wrong: failed"], ["3", "wrong: timed out"], ["2", "right"]]
    tab.locator(".part", has_text="timed out").click()
    until(tab, "document.querySelectorAll('.one').length === 3")
    assert "timed" in tab.url


def test_a_run_s_own_address_opens_it(visit, few) -> None:
    tab = visit(few, "#run-chat-1")
    tab.locator("details.wanted[open]").wait_for()
    assert "chat-1" in tab.locator("details.wanted").inner_text()
    assert tab.locator("details.wanted").get_attribute("id") == "run-chat-1"
    tab.get_by_label("search models and run ids").fill("NOTES-2")
    until(tab, "document.querySelector('.runs output.told').innerText === '1 of 3 models'")
    assert "onerror" in tab.locator("details.run:visible").inner_text()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            "#table?sort=sum&a=bass&cell=heat&family=oak",
            "no model “bass”, no family “oak”, no column to sort by “sum” and no cell “heat”",
        ),
        ("#table?cols=sums%252Fnone&costs=euros", "no column “sums/none” and no cost “euros”"),
        ("#runs?row=bass", "no model “bass”"),
        ("#run-chat-7", "no run “chat-7”"),
        ("#tabel", "no view “tabel”"),
        (
            "#items?row=base&column=sums/exact_match/strict&item=item-0077&only=late",
            "no item “item-0077” and no verdict “late”",
        ),
        ("#compare?a=bass&b=base&column=sums/none", "no model “bass” and no column “sums/none”"),
        ("#items?row=bass&against=oboe", "no model “bass” and no model “oboe”"),
        ("#plot?x=euros&y=sums/none", "no quality “sums/none” and no cost “euros”"),
    ],
)
def test_what_an_address_names_wrongly_is_said_until_the_reader_goes_on(visit, few, address, told) -> None:
    tab = visit(few, address)
    alert = tab.get_by_role("alert")
    assert alert.inner_text().startswith(f"The page has {told}. ")
    if address.startswith("#run"):
        return
    if address.startswith(("#compare", "#plot")):
        choice = tab.locator("select").first
        choice.select_option(index=(choice.evaluate("one => one.selectedIndex") + 1) % 2)
    else:
        tab.locator("thead button, .one, .part").last.click()
    until(tab, "!document.querySelector('[role=alert]')")


def test_published_numbers_stand_below_the_table_beside_what_was_measured(visit, few, picture) -> None:
    tab = ready(visit(few), "table")
    section = tab.locator("#published")
    section.scroll_into_view_if_needed()
    picture(tab, "few-published")
    heads = section.locator("thead th").all_inner_texts()
    assert heads[1:5] == ["Published", "In their files", "Measured here", "Compared"]
    rows = [[cell.inner_text() for cell in row.locator("th, td").all()] for row in section.locator("tbody tr").all()]
    assert len(rows) == 3
    first, second, third = rows
    assert first[0] == "sums/exact_match/strict\nbase + tuned" and first[4] == "in our interval"
    assert second[1].startswith("91.51%\nowner/name at 0123abc") and second[2] == "52.5%\nthe same, notebook.ipynb"
    assert second[4].startswith("not compared: the published number can't be what it says\n") and "onerror" in second[4]
    assert third[3:5] == ["not measured here", "slmbench has no such metric"]
    box = section.locator(".scroll")
    assert box.evaluate("one => one.scrollWidth - one.clientWidth") == 0  # All of it is in sight on a laptop.
    # A filter is of rows alone; other views are about something else, and paper has it.
    tab.get_by_label("Filter").fill("nothing of this name")
    assert section.is_visible()
    tab.evaluate("location.hash = '#runs'")
    ready(tab, "runs")
    assert section.is_hidden()
    tab.evaluate("location.hash = '#table'")
    ready(tab, "table")
    tab.emulate_media(media="print")
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    tab.set_viewport_size({"width": 718, "height": 1000})
    assert section.is_visible() and box.evaluate("one => one.scrollWidth") <= 718
    phone = ready(visit(few, viewport={"width": 390, "height": 800}), "table")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.locator("#published").scroll_into_view_if_needed()
    picture(phone, "few-published-phone")


def test_measures_stand_below_the_table_a_line_over_all_tasks_then_one_each(visit, few, picture) -> None:
    tab = ready(visit(few), "table")
    section = tab.locator("#measures")
    section.scroll_into_view_if_needed()
    picture(tab, "few-measures")
    rows = [[cell.inner_text() for cell in row.locator("th, td").all()] for row in section.locator("tbody tr").all()]
    assert [row[1] for row in rows] == ["all 2 tasks", "code", "sums", "sums", "all 2 tasks", "code", "sums"]
    assert section.locator("tr.over").count() == 2
    assert "latency: not measured; run with --latency" in section.locator("li").all_inner_texts()
    assert section.locator(".scroll").evaluate("one => one.scrollWidth - one.clientWidth") == 0


def test_paper_has_every_row_and_column_within_its_width(visit, few, picture) -> None:
    columns = json.loads((few / "leaderboard.json").read_text(encoding="utf-8"))["columns"]
    chat = next(
        column["key"] for column in columns if column["key"].startswith("notes") and "chat" in json.dumps(column)
    )
    tab = visit(few, f"#table?cols=all&sort={quote(chat)}", viewport={"width": 718, "height": 1000})
    tab.locator("tbody th a").first.wait_for()
    tab.emulate_media(media="print")
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    picture(tab, "few-print")
    assert tab.locator(".frame").is_hidden()
    tables = tab.locator(".paper table")
    assert tables.count() == 2
    heads = [head for table in tables.all() for head in table.locator("thead th").all_inner_texts()[1:]]
    assert len(heads) == 7
    assert (
        tab.locator(".paper > p").first.inner_text()
        == "3 models. Sorted by notes (chat): exact_match/strict, descending."
    )
    assert tab.locator(".paper li").count() == len(
        tab.evaluate("JSON.parse(document.getElementById('data').textContent).notices")
    )
    assert [table.locator("tbody tr").count() for table in tables.all()] == [3, 3]
    wide = tab.evaluate("[...document.querySelectorAll('.paper *')].map((one) => one.getBoundingClientRect().right)")
    assert max(wide) <= 718


def test_a_phone_has_no_sideways_scroll_but_in_the_table(visit, few, picture) -> None:
    tab = visit(few, "#table", viewport={"width": 390, "height": 800})
    for view in VIEWS:
        tab.evaluate("view => { location.hash = view; }", view)
        ready(tab, view)
        picture(tab, f"few-{view}-phone")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, view
        assert (
            tab.locator(".tabs a").last.bounding_box()["x"] + tab.locator(".tabs a").last.bounding_box()["width"] <= 390
        )
        if view == "table":
            # Fingers have room: a box is part of what is at least 24 pixels each way; no rank is cut.
            assert min(tab.locator(".tickbox").first.bounding_box()[side] for side in ("width", "height")) >= 24
            cut = "[...document.querySelectorAll('td i')].filter((one) => one.scrollWidth > one.clientWidth).length"
            assert tab.evaluate(cut) == 0


def test_without_a_script_the_scores_are_in_a_table(visit, few) -> None:
    tab = visit(few, java_script_enabled=False)
    assert tab.locator("#plain tbody tr").count() == 3
    assert "rank" in tab.locator("#plain").inner_text()
    assert tab.locator(".fallback").is_visible()


def test_a_page_without_its_data_folder_says_what_is_missing(visit, few, tmp_path) -> None:
    shutil.copy(few / "index.html", tmp_path / "index.html")
    tab = visit(tmp_path, "#compare")
    assert "has to lie beside this page" in tab.get_by_role("alert").inner_text()
    assert all("ERR_FILE_NOT_FOUND" in fault for fault in tab.faults)
    tab.faults.clear()


def test_the_page_s_statistics_are_those_of_the_library(browser) -> None:
    chance = np.random.default_rng(11)
    draws = {
        "binary": lambda n: (chance.random(n) < 0.5) * 1.0,
        "share": chance.random,
        "rare": lambda n: (chance.random(n) < 0.03) * chance.random(n),
        "free": lambda n: chance.normal(0, 30, n),
        "equal": lambda n: np.full(n, 0.25),
        "zero": np.zeros,
        "one": np.ones,
    }
    cases = []
    for n in (1, 2, 3, 12, 40, 90):
        for kind in ("binary", "share", "rare", "free", "equal", "sure"):
            first, second = ("zero", "one") if kind == "sure" else (kind, kind)
            for clustered in (False, True):
                for seeds in ((1, 1), (1, 3), (2, 2)):
                    a, b = (
                        np.array([draws[one](n) for _ in range(k)])
                        for one, k in zip((first, second), seeds, strict=True)
                    )
                    if n == 40:
                        a[0, 3] = np.nan
                    size = int(chance.choice((1, 2, 5)))
                    clusters = np.array([at // size if at % 7 else -1 for at in range(n)]) if clustered else None
                    cases.append((a, b, n != 12, clusters, None if kind == "free" else (0.0, 1.0)))
    tab = browser.new_page()
    tab.evaluate(pages.bundle(("pairs.js",)).rpartition("})();")[0] + "window.pairs = modules['pairs.js'];\n})();")

    def plain(scores) -> list[list[float | None]]:
        return [[None if one != one else one for one in seed] for seed in scores.tolist()]

    found = tab.evaluate(
        """cases => cases.map(([a, b, up, clusters, bounds]) => {
            const numbers = (seeds) => seeds.map((seed) => seed.map((one) => one ?? NaN));
            return pairs.comparePair(numbers(a), numbers(b), {up, clusters, bounds});
        })""",
        [
            [plain(a), plain(b), up, None if clusters is None else clusters.tolist(), bounds]
            for a, b, up, clusters, bounds in cases
        ],
    )
    tab.close()
    for (a, b, up, clusters, bounds), made in zip(cases, found, strict=True):
        expected = compare_pair(a, b, higher_is_better=up, clusters=clusters, bounds=bounds)
        wanted = [expected.difference, expected.stderr, expected.ci_low, expected.ci_high]
        assert [made[key] for key in ("difference", "stderr", "low", "high")] == pytest.approx(
            wanted, rel=1e-6, abs=1e-9
        )
        # The library reads this one from a grid.
        assert made["p"] == pytest.approx(expected.p, rel=5e-3 if expected.method == "seeds-items" else 1e-6, abs=1e-12)
        counts = (expected.n, expected.wins, expected.losses, expected.ties, expected.method)
        assert (made["n"], made["wins"], made["losses"], made["ties"], made["method"]) == counts
        assert (made["detectable"] is None) == (expected.detectable is None)
        assert (made["detectable"] or 0) == pytest.approx(expected.detectable or 0, rel=1e-6)


def test_words_that_two_texts_share_are_found(browser) -> None:
    tab = browser.new_page()
    tab.evaluate(pages.bundle(("diff.js",)).rpartition("})();")[0] + "window.diff = modules['diff.js'];\n})();")
    chance = random.Random(2)
    for _ in range(30):
        a = [chance.choice("abcd") for _ in range(chance.randrange(14))]
        b = [chance.choice("abcd") for _ in range(chance.randrange(14))]
        kept_a, kept_b = tab.evaluate("([a, b]) => diff.shared(a, b)", [a, b])
        common = [one for one, kept in zip(a, kept_a, strict=True) if kept]
        assert common == [one for one, kept in zip(b, kept_b, strict=True) if kept]
        longest = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, one in enumerate(a, 1):
            for j, other in enumerate(b, 1):
                longest[i][j] = longest[i - 1][j - 1] + 1 if one == other else max(longest[i - 1][j], longest[i][j - 1])
        assert len(common) == longest[-1][-1]
    tab.close()
